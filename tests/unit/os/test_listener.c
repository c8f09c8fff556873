/* SPDX-License-Identifier: MIT */
/* Names of listening sockets, and the directory that they live in. */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/listener.h"
#include "os/socket.h"

static void what_is_a_name(void **state)
{
    static const char *const good[] = { "a", "-", "a.b", "com.example.Server-1", "~", "%s", "a:b" };
    static const char *const bad[] = { "",      ".",    "..",   ".a",      "/",   "a/b",
                                       "a/",    " ",    "a b",  "a\tb",    "a\n", "\x7f",
                                       "\x1b[", "\x80", "\xff", "\xc3\xa4" };
    char longest[LISTENER_NAME_MAX + 2];

    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        assert_true(listener_name_valid(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(listener_name_valid(bad[i]));
    memset(longest, 'x', sizeof longest);
    longest[LISTENER_NAME_MAX] = '\0';
    assert_true(listener_name_valid(longest));
    longest[LISTENER_NAME_MAX] = 'x';
    longest[LISTENER_NAME_MAX + 1] = '\0';
    assert_false(listener_name_valid(longest));
}

static bool exists(const char *dir, const char *name)
{
    char path[256];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

/* Opens and removes a name; it has to appear in `dir`. */
static void opens_in(const char *dir)
{
    struct listener_file file;
    int fd;

    assert_int_equal(listener_open("here", 0600, &fd, &file), 0);
    assert_true(exists(dir, "here"));
    listener_remove("here", &file);
    listener_forget(&file);
    assert_false(exists(dir, "here"));
    fd_close(&fd);
}

static void the_first_of_three_directories(void **state)
{
    char base[128], below[160], made[160];
    struct stat status;

    (void)state;
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    snprintf(below, sizeof below, "%s/veridian", base);
    snprintf(made, sizeof made, "%s/made", base);
    opens_in(base);

    setenv("VERIDIAN_RUNTIME_DIR", "", 1); /* as if it were not set */
    setenv("XDG_RUNTIME_DIR", base, 1);
    opens_in(below);
    assert_int_equal(stat(below, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    assert_int_equal(rmdir(below), 0); /* nothing is left in it: no lock, nothing hidden */

    setenv("VERIDIAN_RUNTIME_DIR", made, 1);
    opens_in(made);
    assert_int_equal(rmdir(made), 0);
    unsetenv("XDG_RUNTIME_DIR");
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

/* Longer than a socket's address can be. */
static void a_deep_directory(void **state)
{
    char dir[512], base[256], client_name[] = "here";
    struct listener_file file;
    int fd, client;

    (void)state;
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    snprintf(dir, sizeof dir, "%s/%0150d", base, 0);
    setenv("VERIDIAN_RUNTIME_DIR", dir, 1);
    opens_in(dir);
    assert_int_equal(listener_open(client_name, 0600, &fd, &file), 0);
    assert_int_equal(listener_connect(client_name, &client), 0);
    fd_close(&client);
    fd_close(&fd);
    listener_remove(client_name, &file);
    listener_forget(&file);
    assert_int_equal(rmdir(dir), 0);
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

static void who_is_at_the_other_end(void **state)
{
    struct listener_file file;
    pid_t pid;
    uid_t uid;
    gid_t gid;
    int fd, client, accepted;

    (void)state;
    support_runtime_dir();
    assert_int_equal(listener_open("who", 0600, &fd, &file), 0);
    assert_int_equal(listener_accept(fd, &accepted, &pid, &uid, &gid), -EAGAIN);
    assert_int_equal(listener_connect("who", &client), 0);
    assert_int_equal(socket_send(client, "!", 1, NULL, 0), 0);
    assert_int_equal(listener_accept(fd, &accepted, &pid, &uid, &gid), 0);
    assert_int_equal(pid, getpid());
    assert_int_equal(uid, getuid());
    assert_int_equal(gid, getgid());
    assert_int_equal(socket_send(client, "?", 1, NULL, 0), 0);
    for (int i = 0; i < 2; i++) { /* also who said what before they were accepted */
        datagram_auto datagram = { .pidfd = -1 };

        assert_int_equal(socket_receive(accepted, &datagram), 1);
        assert_int_equal(datagram.pid, getpid());
        assert_int_equal(datagram.uid, getuid());
    }
    pid = -1;
    assert_int_equal(listener_peer(client, &pid, &uid, &gid), 0);
    assert_int_equal(pid, getpid());
    fd_close(&accepted);
    fd_close(&client);
    fd_close(&fd);
    listener_remove("who", &file);
    listener_forget(&file);
}

/* Only the file that was ours is removed, not what stands under its name now. */
static void removing_removes_its_own(void **state)
{
    struct listener_file first, second;
    int fd, other;

    (void)state;
    support_runtime_dir();
    assert_int_equal(listener_open("twice", 0600, &fd, &first), 0);
    assert_int_equal(listener_open("twice", 0600, &other, &second), -EADDRINUSE);
    fd_close(&fd); /* as a death would leave it */
    assert_int_equal(listener_connect("twice", &fd), -ECONNREFUSED);
    assert_int_equal(listener_open("twice", 0600, &other, &second), 0);
    listener_remove("twice", &first);
    listener_forget(&first);
    assert_true(exists(support_runtime_dir(), "twice"));
    listener_remove("twice", &second);
    listener_forget(&second);
    assert_false(exists(support_runtime_dir(), "twice"));
    fd_close(&other);
}

static void a_watch_tells_of_new_names(void **state)
{
    struct listener_file file;
    int fd, watch;

    (void)state;
    support_runtime_dir();
    watch = listener_watch();
    assert_true(watch >= 0);
    assert_false(fd_readable(watch));
    assert_int_equal(listener_open("new", 0600, &fd, &file), 0);
    assert_true(fd_readable(watch));
    assert_int_equal(listener_watch_drain(watch), LISTENER_NAME);
    assert_false(fd_readable(watch));
    listener_remove("new", &file);
    listener_forget(&file);
    fd_close(&fd);
    fd_close(&watch);
}

/* The directory is not there yet, and what is made beside it is of no interest; then it comes. */
static void a_watch_tells_of_the_directory(void **state)
{
    char base[128], dir[160], moved[160], other[160];
    int watch;

    (void)state;
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    snprintf(dir, sizeof dir, "%s/below", base);
    snprintf(moved, sizeof moved, "%s/moved", base);
    snprintf(other, sizeof other, "%s/elo", base);
    setenv("VERIDIAN_RUNTIME_DIR", dir, 1);
    watch = listener_watch();
    assert_true(watch >= 0);
    assert_int_equal(access(dir, F_OK), -1); /* who waits for a name does not make the directory */
    assert_int_equal(mkdir(other, 0700), 0);
    assert_int_equal(listener_watch_drain(watch), LISTENER_NOTHING);
    assert_int_equal(mkdir(dir, 0700), 0);
    assert_int_equal(listener_watch_drain(watch), LISTENER_WAY);
    fd_close(&watch);
    watch = listener_watch();
    assert_int_equal(rename(dir, moved), 0);
    assert_int_equal(listener_watch_drain(watch), LISTENER_WAY);
    fd_close(&watch);
    assert_int_equal(rmdir(moved), 0);
    assert_int_equal(rmdir(other), 0);
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

/* A link where we would make the directory, or in place of the hidden file, is never followed. */
static void links_are_not_followed(void **state)
{
    char base[128], below[160], victim[160], hidden[160];
    struct listener_file file, other_file;
    struct stat status;
    int fd, other;

    (void)state;
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    snprintf(below, sizeof below, "%s/veridian", base);
    snprintf(victim, sizeof victim, "%s/victim", base);
    snprintf(hidden, sizeof hidden, "%s/.here", base);
    assert_int_equal(mkdir(victim, 0700), 0);
    assert_int_equal(symlink(victim, hidden), 0);
    assert_int_equal(listener_open("here", 0666, &fd, &file), 0);
    assert_int_equal(stat(victim, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0700);
    listener_remove("here", &file);
    listener_forget(&file);
    fd_close(&fd);

    setenv("VERIDIAN_RUNTIME_DIR", victim, 1);
    assert_int_equal(listener_open("there", 0600, &fd, &file), 0);
    setenv("VERIDIAN_RUNTIME_DIR", "", 1);
    setenv("XDG_RUNTIME_DIR", base, 1);
    assert_int_equal(symlink(victim, below), 0);
    assert_true(listener_open("here", 0600, &other, &other_file) < 0);
    assert_int_equal(listener_connect("there", &other), -ENOTDIR);
    setenv("VERIDIAN_RUNTIME_DIR", below, 1); /* whoever names it knows what it is */
    assert_int_equal(listener_connect("there", &other), 0);
    fd_close(&other);
    listener_remove("there", &file);
    listener_forget(&file);
    fd_close(&fd);
    assert_int_equal(unlink(below), 0);
    assert_int_equal(rmdir(victim), 0);
    unsetenv("XDG_RUNTIME_DIR");
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

/* The file is found again though the environment says something else by now. */
static void the_directory_is_remembered(void **state)
{
    char base[128];
    struct listener_file file;
    int fd;

    (void)state;
    snprintf(base, sizeof base, "%s", support_runtime_dir());
    assert_int_equal(listener_open("here", 0600, &fd, &file), 0);
    setenv("VERIDIAN_RUNTIME_DIR", "/nowhere", 1);
    listener_remove("here", &file);
    listener_forget(&file);
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
    assert_false(exists(base, "here"));
    fd_close(&fd);
}

static bool is_left(const char *name)
{
    return strncmp(name, "left-", 5) == 0;
}

/* Only where nobody listens, and only what is a socket. */
static void what_was_left_is_swept(void **state)
{
    const char *dir = support_runtime_dir();
    struct listener_file files[3];
    char path[256];
    int fds[3], fd;

    (void)state;
    assert_int_equal(listener_open("left-dead", 0600, &fds[0], &files[0]), 0);
    assert_int_equal(listener_open("left-alive", 0600, &fds[1], &files[1]), 0);
    assert_int_equal(listener_open("other", 0600, &fds[2], &files[2]), 0);
    fd_close(&fds[0]);
    fd_close(&fds[2]);
    snprintf(path, sizeof path, "%s/left-file", dir);
    fd = open(path, O_CREAT | O_CLOEXEC, 0600);
    fd_close(&fd);
    listener_sweep(is_left);
    assert_false(exists(dir, "left-dead"));
    assert_true(exists(dir, "left-alive"));
    assert_true(exists(dir, "left-file"));
    assert_true(exists(dir, "other"));
    listener_clean("left-alive");
    assert_true(exists(dir, "left-alive"));
    listener_clean("other");
    assert_false(exists(dir, "other"));
    assert_int_equal(unlink(path), 0);
    listener_remove("left-alive", &files[1]);
    fd_close(&fds[1]);
    for (size_t i = 0; i < 3; i++)
        listener_forget(&files[i]);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(what_is_a_name),
                 SUPPORT_TEST(the_first_of_three_directories),
                 SUPPORT_TEST(a_deep_directory),
                 SUPPORT_TEST(who_is_at_the_other_end),
                 SUPPORT_TEST(removing_removes_its_own),
                 SUPPORT_TEST(a_watch_tells_of_new_names),
                 SUPPORT_TEST(a_watch_tells_of_the_directory),
                 SUPPORT_TEST(links_are_not_followed),
                 SUPPORT_TEST(the_directory_is_remembered),
                 SUPPORT_TEST(what_was_left_is_swept),
                 { 0 },
             })
