/* SPDX-License-Identifier: MIT */
/*
 * listener.h - listening sockets with a name in the runtime directory: VERIDIAN_RUNTIME_DIR, else
 * XDG_RUNTIME_DIR/veridian, else /run/veridian. The file's mode says who may connect.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LISTENER_NAME_MAX 64

/* 1 to LISTENER_NAME_MAX printable characters, without a slash, not beginning with a dot? */
bool listener_name_valid(const char *name);

/* The file of a name, and the directory that it was made in, whatever stands under its path later. */
struct listener_file {
    int dir;
    uint64_t directory; /* what `dir` is, see fd_identity */
    uint64_t file;      /* 0: there is none               */
};

#define LISTENER_FILE_NONE ((struct listener_file){ .dir = -1 })

/*
 * Listens under `name`, whose file gets `mode`; makes the directory if need be. A file that a dead
 * process left is taken over. 0, or -errno: -EADDRINUSE where somebody listens, or where the file is none
 * of ours to replace; -EBUSY where somebody keeps the directory locked, or makes files in our place.
 */
int listener_open(const char *name, mode_t mode, int *ret_fd, struct listener_file *ret);

/* Removes the file, if it still is that one. */
void listener_remove(const char *name, const struct listener_file *file);

/* Lets go of the directory. */
void listener_forget(struct listener_file *file);

/* Removes the file of a name, or of all names that are `stale`, where nobody listens any more. */
void listener_clean(const char *name);
void listener_sweep(bool (*stale)(const char *name));

/* Who connected? 0, or -errno (-EAGAIN: nobody). */
int listener_accept(int fd, int *ret_fd, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid);

/*
 * Connects without waiting. 0, or -errno: -ENOENT, -ENOTDIR or -ECONNREFUSED where nobody
 * listens, -EAGAIN where too many wait to be accepted, -EACCES where the mode forbids it.
 */
int listener_connect(const char *name, int *ret_fd);

/* Who listens, or has connected, at the other end of a connection? 0 or -errno. */
int listener_peer(int fd, pid_t *ret_pid, uid_t *ret_uid, gid_t *ret_gid);

/*
 * A descriptor that becomes readable when a name may have appeared, also where the directory is not
 * there yet or comes anew; or -errno.
 */
int listener_watch(void);

/* Makes it unreadable again, and says what it was. */
enum listener_event {
    LISTENER_NOTHING,
    LISTENER_NAME, /* look again                                    */
    LISTENER_WAY,  /* look again, after watching with another one   */
};
enum listener_event listener_watch_drain(int fd);
