/* SPDX-License-Identifier: MIT */
/* fd.h - descriptors: -1 is none. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Tells what is open under this number, to find out later whether it still is the same; 0: nothing.
 * Sockets and files differ from all others; some kinds of descriptors only from other kinds.
 */
uint64_t fd_identity(int fd);

/* Closes *fd, if any, and sets it to -1. Keeps errno. */
void fd_close(int *fd);

/*
 * The same for one that a peer sent, which may be anything: a TCP socket would wait for its own peer
 * (SO_LINGER), and what is neither a memfd nor a socket may be a file whose file system is a program
 * (FUSE), or a terminal: that is the closer's.
 */
void fd_close_foreign(int *fd);

/* Another descriptor for the same, close-on-exec, or -errno. */
int fd_duplicate(int fd);

/* Takes the descriptor out of *fd. */
static inline int fd_take(int *fd)
{
    int taken = *fd;

    *fd = -1;
    return taken;
}

#define fd_auto __attribute__((cleanup(fd_close))) int

/* How many descriptors this process may have. */
uint64_t fd_limit(void);

/* Is there something to read or a hang-up on `fd`, now? */
bool fd_readable(int fd);

/*
 * The same, looking again and again for `ns` at most, and letting others have the CPU in between: for
 * what is about to come from a process that is awake, sooner than a sleep and a wake-up take.
 */
bool fd_look_for(int fd, int64_t ns);

enum fd_events { FD_IN = 1, FD_OUT = 2, FD_HANGUP = 4 };

/* Which of `events` are there now? HANGUP is always told. 0 also for what is not open. */
unsigned fd_events(int fd, unsigned events);

/* Waits until `fd` is readable. */
void fd_wait(int fd);

/* The same, for `timeout` ns at most. A signal may end it early. */
void fd_wait_for(int fd, int64_t timeout);

/*
 * Waits until one of `fds` is readable (-1 never is), for `timeout` ns at most (negative: no limit).
 * A signal may end it early. False: the time has passed.
 */
bool fd_wait_any(const int *fds, size_t n, int64_t timeout);

#define FD_WAIT_MAX 4
