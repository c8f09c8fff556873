/* SPDX-License-Identifier: MIT */
/* Names of listening sockets, and the directory that they live in. */
#include "unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/listener.h"

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
    uint64_t file;
    int fd;

    assert_int_equal(listener_open("here", 0600, &fd, &file), 0);
    assert_true(exists(dir, "here"));
    listener_remove("here", file);
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
    uint64_t file;
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
    listener_remove(client_name, file);
    assert_int_equal(rmdir(dir), 0);
    setenv("VERIDIAN_RUNTIME_DIR", base, 1);
}

static void who_is_at_the_other_end(void **state)
{
    uint64_t file;
    pid_t pid;
    uid_t uid;
    gid_t gid;
    int fd, client, accepted;

    (void)state;
    support_runtime_dir();
    assert_int_equal(listener_open("who", 0600, &fd, &file), 0);
    assert_int_equal(listener_accept(fd, &accepted, &pid, &uid, &gid), -EAGAIN);
    assert_int_equal(listener_connect("who", &client), 0);
    assert_int_equal(listener_accept(fd, &accepted, &pid, &uid, &gid), 0);
    assert_int_equal(pid, getpid());
    assert_int_equal(uid, getuid());
    assert_int_equal(gid, getgid());
    pid = -1;
    assert_int_equal(listener_peer(client, &pid, &uid, &gid), 0);
    assert_int_equal(pid, getpid());
    fd_close(&accepted);
    fd_close(&client);
    fd_close(&fd);
    listener_remove("who", file);
}

/* Only the file that was ours is removed, not what stands under its name now. */
static void removing_removes_its_own(void **state)
{
    uint64_t first, second;
    int fd, other;

    (void)state;
    support_runtime_dir();
    assert_int_equal(listener_open("twice", 0600, &fd, &first), 0);
    assert_int_equal(listener_open("twice", 0600, &other, &second), -EADDRINUSE);
    fd_close(&fd); /* as a death would leave it */
    assert_int_equal(listener_connect("twice", &fd), -ECONNREFUSED);
    assert_int_equal(listener_open("twice", 0600, &other, &second), 0);
    listener_remove("twice", first);
    assert_true(exists(support_runtime_dir(), "twice"));
    listener_remove("twice", second);
    assert_false(exists(support_runtime_dir(), "twice"));
    fd_close(&other);
}

static void a_watch_tells_of_new_names(void **state)
{
    uint64_t file;
    int fd, watch;

    (void)state;
    support_runtime_dir();
    watch = listener_watch();
    assert_true(watch >= 0);
    assert_false(fd_readable(watch));
    assert_int_equal(listener_open("new", 0600, &fd, &file), 0);
    assert_true(fd_readable(watch));
    listener_watch_drain(watch);
    assert_false(fd_readable(watch));
    listener_remove("new", file);
    fd_close(&fd);
    fd_close(&watch);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(what_is_a_name),
                 SUPPORT_TEST(the_first_of_three_directories),
                 SUPPORT_TEST(a_deep_directory),
                 SUPPORT_TEST(who_is_at_the_other_end),
                 SUPPORT_TEST(removing_removes_its_own),
                 SUPPORT_TEST(a_watch_tells_of_new_names),
                 { 0 },
             })
