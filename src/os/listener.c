/* SPDX-License-Identifier: MIT */
#include "os/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/process.h"
#include "os/socket.h"

#define LOCK_TRIES 100 /* others hold it for a few system calls */
#define LOCK_PAUSE 10000000

bool listener_name_valid(const char *name)
{
    size_t len = strnlen(name, LISTENER_NAME_MAX + 1);

    if (len == 0 || len > LISTENER_NAME_MAX || name[0] == '.')
        return false;
    for (size_t i = 0; i < len; i++)
        if (name[i] <= ' ' || name[i] > '~' || name[i] == '/')
            return false;
    return true;
}

/* False: it does not fit. */
static bool directory_path(char path[PATH_MAX])
{
    const char *dir = secure_getenv("VERIDIAN_RUNTIME_DIR");
    const char *base = secure_getenv("XDG_RUNTIME_DIR");
    int n;

    if (dir && dir[0] != '\0')
        n = snprintf(path, PATH_MAX, "%s", dir);
    else if (base && base[0] != '\0')
        n = snprintf(path, PATH_MAX, "%s/veridian", base);
    else
        n = snprintf(path, PATH_MAX, "/run/veridian");
    return n > 0 && n < PATH_MAX;
}

static int directory_open(bool make)
{
    char path[PATH_MAX];
    int fd;

    if (!directory_path(path))
        return -ENAMETOOLONG;
    if (make && mkdir(path, 0700) < 0 && errno != EEXIST && errno != EROFS)
        return -errno;
    /* whoever only connects may lack the permission to read it */
    fd = open(path, (make ? O_RDONLY : O_PATH) | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Between looking at a name and taking it over, nobody else may. */
static int directory_lock(int dir)
{
    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(dir, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK)
            return -errno;
        process_pause(LOCK_PAUSE);
    }
    return -EBUSY;
}

/*
 * By its path, or where that is longer than an address, through the open directory (which a process
 * that has changed its user may not be able to).
 */
static bool address_by_path(const char *name, struct sockaddr_un *ret)
{
    const size_t size = sizeof(ret->sun_path);
    char path[PATH_MAX];

    *ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
    return directory_path(path) &&
           (size_t)snprintf(ret->sun_path, size, "%s/%s", path, name) < size;
}

static struct sockaddr_un address_of(int dir, const char *name)
{
    struct sockaddr_un address;

    if (!address_by_path(name, &address))
        snprintf(address.sun_path, sizeof(address.sun_path), "/proc/self/fd/%d/%s", dir, name);
    return address;
}

static int socket_connect(const struct sockaddr_un *address, int *ret_fd)
{
    fd_auto fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) < 0)
        return -errno;
    *ret_fd = fd_take(&fd);
    return 0;
}

/* A socket that listens, under the name `hidden`, which nobody looks for. */
static int socket_listen(int dir, const char *hidden, mode_t mode, int *ret_fd)
{
    const struct sockaddr_un address = address_of(dir, hidden);
    fd_auto fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

    if (fd < 0)
        return -errno;
    if (unlinkat(dir, hidden, 0) < 0 && errno != ENOENT) /* of one who died here */
        return -errno;
    /* so that the file is born with no more than that; the process's umask may take some away */
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    if (fchmodat(dir, hidden, mode, 0) < 0 || listen(fd, SOMAXCONN) < 0) {
        int r = -errno;

        unlinkat(dir, hidden, 0);
        return r;
    }
    *ret_fd = fd_take(&fd);
    return 0;
}

static uint64_t file_of(int dir, const char *name)
{
    struct stat status;

    if (fstatat(dir, name, &status, AT_SYMLINK_NOFOLLOW) < 0 || !S_ISSOCK(status.st_mode))
        return 0;
    return (uint64_t)status.st_dev << 48 ^ status.st_ino;
}

/* 0: the name may be taken. */
static int name_check(int dir, const char *name)
{
    const struct sockaddr_un address = address_of(dir, name);
    fd_auto probe = -1;
    int r = socket_connect(&address, &probe);

    if (r == -ENOENT || (r == -ECONNREFUSED && file_of(dir, name) != 0))
        return 0;
    return r == -EMFILE || r == -ENFILE || r == -ENOMEM ? r : -EADDRINUSE;
}

int listener_open(const char *name, mode_t mode, int *ret_fd, uint64_t *ret_file)
{
    fd_auto dir = directory_open(true);
    fd_auto fd = -1;
    char hidden[LISTENER_NAME_MAX + 2];
    int r = dir < 0 ? dir : directory_lock(dir); /* until it is closed */

    if (r == 0)
        r = name_check(dir, name);
    snprintf(hidden, sizeof(hidden), ".%s", name);
    if (r == 0)
        r = socket_listen(dir, hidden, mode, &fd);
    if (r < 0)
        return r;
    /* Who waits for the name finds it listening, and what a dead process left is replaced at once. */
    if (renameat(dir, hidden, dir, name) < 0) {
        r = -errno;
        unlinkat(dir, hidden, 0);
        return r;
    }
    *ret_file = file_of(dir, name);
    *ret_fd = fd_take(&fd);
    return 0;
}

void listener_remove(const char *name, uint64_t file)
{
    fd_auto dir = directory_open(false);

    if (dir >= 0 && file != 0 && file_of(dir, name) == file)
        unlinkat(dir, name, 0);
}

int listener_peer(int fd, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
        return -errno;
    *ret_pid = peer.pid;
    *ret_uid = peer.uid;
    *ret_gid = peer.gid;
    return 0;
}

int listener_accept(int fd, int *ret_fd, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid)
{
    fd_auto accepted = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    int r;

    if (accepted < 0)
        return -errno;
    r = socket_ask_who(accepted);
    if (r == 0)
        r = listener_peer(accepted, ret_pid, ret_uid, ret_gid);
    if (r < 0)
        return r;
    *ret_fd = fd_take(&accepted);
    return 0;
}

int listener_connect(const char *name, int *ret_fd)
{
    struct sockaddr_un address;
    fd_auto dir = -1;

    if (address_by_path(name, &address))
        return socket_connect(&address, ret_fd);
    dir = directory_open(false);
    if (dir < 0)
        return dir;
    address = address_of(dir, name);
    return socket_connect(&address, ret_fd);
}

int listener_watch(void)
{
    fd_auto dir = directory_open(true); /* which makes it, so that there is something to watch */
    fd_auto fd = -1;
    char path[PATH_MAX];

    if (dir < 0 || !directory_path(path))
        return dir < 0 ? dir : -ENAMETOOLONG;
    fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (inotify_add_watch(fd, path, IN_MOVED_TO | IN_ONLYDIR) < 0)
        return -errno;
    return fd_take(&fd);
}

void listener_watch_drain(int fd)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

    while (read(fd, events, sizeof(events)) > 0)
        ;
}
