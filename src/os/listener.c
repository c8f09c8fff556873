/* SPDX-License-Identifier: MIT */
#include "os/listener.h"

#include <dirent.h>
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
#define SWEEP_MAX 4096 /* files looked at */

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

/* How to open what stands there. -1: it does not fit. */
static int directory_path(char path[PATH_MAX])
{
    const char *dir = secure_getenv("VERIDIAN_RUNTIME_DIR");
    const char *base = secure_getenv("XDG_RUNTIME_DIR");
    const bool chosen = dir && dir[0] != '\0';
    int n;

    if (chosen)
        n = snprintf(path, PATH_MAX, "%s", dir);
    else if (base && base[0] != '\0')
        n = snprintf(path, PATH_MAX, "%s/veridian", base);
    else
        n = snprintf(path, PATH_MAX, "/run/veridian");
    if (n <= 0 || n >= PATH_MAX)
        return -1;
    return O_DIRECTORY | O_CLOEXEC | (chosen ? 0 : O_NOFOLLOW); /* what we name, we also make */
}

static int directory_open(bool make)
{
    char path[PATH_MAX];
    int how = directory_path(path);
    int fd;

    if (how < 0)
        return -ENAMETOOLONG;
    if (make && mkdir(path, 0700) < 0 && errno != EEXIST && errno != EROFS)
        return -errno;
    /* whoever only connects may lack the permission to read it */
    fd = open(path, (make ? O_RDONLY : O_PATH) | how);
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
    return directory_path(path) >= 0 &&
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

/* The mode of a socket that we have just bound. Through a descriptor: it may be a link by now. 0 or -errno. */
static int socket_set_mode(int dir, const char *name, mode_t mode)
{
    fd_auto file = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    char path[sizeof("/proc/self/fd/") + 3 * sizeof(int)];
    struct stat status;

    if (file < 0 || fstat(file, &status) < 0)
        return -errno;
    if (!S_ISSOCK(status.st_mode) || status.st_uid != process_user() || status.st_nlink != 1)
        return -EBUSY;
    if ((status.st_mode & 07777) == mode)
        return 0;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    return chmod(path, mode) < 0 ? -errno : 0;
}

/* A socket that listens, under the name `hidden`, which nobody looks for. */
static int socket_listen(int dir, const char *hidden, mode_t mode, int *ret_fd)
{
    const struct sockaddr_un address = address_of(dir, hidden);
    fd_auto fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int r;

    if (fd < 0)
        return -errno;
    if (unlinkat(dir, hidden, 0) < 0 && errno != ENOENT) /* of one who died here */
        return -errno;
    /* so that the file is born with no more than that; the process's umask may take some away */
    if (fchmod(fd, mode) < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
        return -errno;
    r = socket_set_mode(dir, hidden, mode);
    if (r == 0)
        r = socket_ask_who(fd); /* each that is accepted inherits it */
    if (r == 0 && listen(fd, SOMAXCONN) < 0)
        r = -errno;
    if (r < 0) {
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

/* Does nobody listen under the name any more? 0, or -errno: -EADDRINUSE if somebody does. */
static int name_check(int dir, const char *name)
{
    const struct sockaddr_un address = address_of(dir, name);
    fd_auto probe = -1;
    int r = socket_connect(&address, &probe);

    if (r == -ENOENT || (r == -ECONNREFUSED && file_of(dir, name) != 0))
        return 0;
    return r == -EMFILE || r == -ENFILE || r == -ENOMEM ? r : -EADDRINUSE;
}

int listener_open(const char *name, mode_t mode, int *ret_fd, struct listener_file *ret)
{
    fd_auto dir = directory_open(true);
    fd_auto fd = -1;
    char hidden[LISTENER_NAME_MAX + 2];
    int r = dir < 0 ? dir : directory_lock(dir);

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
    flock(dir, LOCK_UN);
    *ret = (struct listener_file){ .file = file_of(dir, name), .directory = fd_identity(dir) };
    ret->dir = fd_take(&dir);
    *ret_fd = fd_take(&fd);
    return 0;
}

void listener_remove(const char *name, const struct listener_file *file)
{
    /* a forked child, or whoever closes all it knows nothing of, may have another there */
    if (file->file != 0 && fd_identity(file->dir) == file->directory &&
        file_of(file->dir, name) == file->file)
        unlinkat(file->dir, name, 0);
}

void listener_forget(struct listener_file *file)
{
    if (file->dir >= 0 && fd_identity(file->dir) == file->directory)
        fd_close(&file->dir);
    *file = LISTENER_FILE_NONE;
}

/* --- what was left behind --------------------------------------------------------------------- */

/* The directory is locked: nobody is between binding a name and listening. */
static void stale_remove(int dir, const char *name)
{
    if (name_check(dir, name) == 0)
        unlinkat(dir, name, 0);
}

void listener_clean(const char *name)
{
    fd_auto dir = -1;
    char path[PATH_MAX];
    int how = directory_path(path);

    if (how >= 0)
        dir = open(path, O_RDONLY | how);
    if (dir >= 0 && directory_lock(dir) == 0)
        stale_remove(dir, name);
}

void listener_sweep(bool (*stale)(const char *name))
{
    fd_auto dir = directory_open(true);
    struct dirent *entry;
    DIR *listing;

    if (dir < 0 || directory_lock(dir) < 0)
        return;
    listing = fdopendir(fd_duplicate(dir));
    for (int i = 0; listing && i < SWEEP_MAX && (entry = readdir(listing)); i++)
        if (listener_name_valid(entry->d_name) && stale(entry->d_name))
            stale_remove(dir, entry->d_name);
    if (listing)
        closedir(listing);
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
    r = listener_peer(accepted, ret_pid, ret_uid, ret_gid);
    if (r < 0)
        return r;
    *ret_fd = fd_take(&accepted);
    return 0;
}

/* Nobody publishes there: see directory_path. */
static bool directory_linked(void)
{
    char path[PATH_MAX];
    struct stat status;

    return (directory_path(path) & O_NOFOLLOW) && lstat(path, &status) == 0 &&
           S_ISLNK(status.st_mode);
}

int listener_connect(const char *name, int *ret_fd)
{
    struct sockaddr_un address;
    fd_auto dir = -1;

    if (address_by_path(name, &address))
        return directory_linked() ? -ENOTDIR : socket_connect(&address, ret_fd);
    dir = directory_open(false);
    if (dir < 0)
        return dir;
    address = address_of(dir, name);
    return socket_connect(&address, ret_fd);
}

/* --- watching --------------------------------------------------------------------------------- */

#define WATCH_WAY (IN_CREATE | IN_MOVED_TO | IN_MOVE_SELF | IN_DELETE_SELF)

/* The way to the directory as far as there is one. True: up to the directory itself. */
static bool watch_way(int fd, char path[PATH_MAX])
{
    const uint32_t mask = WATCH_WAY | IN_ONLYDIR | IN_MASK_ADD;
    char *slash = path[0] == '/' ? path : NULL;

    inotify_add_watch(fd, path[0] == '/' ? "/" : ".", mask);
    while ((slash = strchr(slash ? slash + 1 : path, '/'))) {
        *slash = '\0';
        inotify_add_watch(fd, path, mask);
        *slash = '/';
    }
    return inotify_add_watch(fd, path, mask) >= 0;
}

int listener_watch(void)
{
    fd_auto fd = -1;
    char path[PATH_MAX];

    if (directory_path(path) < 0)
        return -ENAMETOOLONG;
    fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd < 0)
        return -errno;
    if (!watch_way(fd, path) && errno != ENOENT)
        return -errno;
    return fd_take(&fd);
}

/* Is it a part of the path? */
static bool path_has(const char *path, const char *part)
{
    size_t len = strlen(part);

    for (const char *at = path; (at = strstr(at, part)); at++)
        if ((at == path || at[-1] == '/') && (at[len] == '/' || at[len] == '\0'))
            return true;
    return false;
}

static enum listener_event watch_event(const struct inotify_event *event, const char *path)
{
    if (event->mask & (IN_MOVE_SELF | IN_DELETE_SELF | IN_IGNORED | IN_UNMOUNT | IN_Q_OVERFLOW))
        return LISTENER_WAY;
    if (event->len > 0 && path_has(path, event->name))
        return LISTENER_WAY;
    return event->mask & IN_MOVED_TO ? LISTENER_NAME : LISTENER_NOTHING;
}

enum listener_event listener_watch_drain(int fd)
{
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    enum listener_event found = LISTENER_NOTHING;
    char path[PATH_MAX];
    ssize_t n;

    if (directory_path(path) < 0)
        return LISTENER_WAY;
    while ((n = read(fd, events, sizeof(events))) > 0) {
        const struct inotify_event *event;

        for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(*event) + event->len)) {
            enum listener_event one;

            event = (const struct inotify_event *)(const void *)(events + at);
            one = watch_event(event, path);
            found = one > found ? one : found;
        }
    }
    return found;
}
