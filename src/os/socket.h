/* SPDX-License-Identifier: MIT */
/*
 * socket.h - pairs of AF_UNIX SOCK_SEQPACKET sockets, datagrams with descriptors, and who sent them.
 * Nothing here waits.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SOCKET_DATA_MAX 72 /* a frame, and room to see that it is too long */
#define SOCKET_FDS_MAX 253 /* the kernel's SCM_MAX_FD: nothing is ever cut off */

struct datagram {
    uint8_t data[SOCKET_DATA_MAX];
    size_t len;
    int fds[SOCKET_FDS_MAX]; /* owned by the datagram until taken (-1) */
    size_t n_fds;
    pid_t pid; /* who sent it, as the kernel says; 0: not known, and no user then */
    uid_t uid;
    gid_t gid;
    int pidfd; /* of the sender, or -1 where the kernel does not give it */
};

#define datagram_auto __attribute__((cleanup(datagram_deinit))) struct datagram

/* Closes the descriptors that nobody took. */
void datagram_deinit(struct datagram *datagram);

/* A connected pair, close-on-exec, with credentials asked for on both ends. 0 or -errno. */
int socket_pair(int ret[2]);

/* Checks that `fd` is a connected socket of our kind and asks for credentials. 0 or -errno. */
int socket_adopt(int fd);

/* Asks for the credentials of those who send to `fd`. 0 or -errno. */
int socket_ask_who(int fd);

/* Sends one datagram with copies of n_fds descriptors. 0 or -errno (-EAGAIN: the queue is full). */
int socket_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds);

/*
 * Takes one datagram. Returns 1, 0 at the end (the other side is closed or dead), or -errno
 * (-EAGAIN: nothing there; -EPROTO: it was too long; -EMFILE: this process has no room for its
 * descriptors. In both cases it is taken). Whatever the result, descriptors that came are the
 * datagram's to close.
 */
int socket_receive(int fd, struct datagram *ret);

/*
 * The same from a socket that was not adopted yet, for a datagram without descriptors: with any it is
 * -EPROTO, and they never come to this process (which might wait for whoever made them to close one).
 */
int socket_receive_bare(int fd, struct datagram *ret);

/* The same, but leaves it there. Its descriptors are copies. */
int socket_peek(int fd, struct datagram *ret);

/* Has the other side of `fd` closed its last descriptor, with nothing left to read? */
bool socket_ended(int fd);

/* The same, with or without something left to read; also after socket_shutdown on that side. */
bool socket_over(int fd);

/* Is there something to read? The cheapest way to find out. */
bool socket_pending(int fd);

/*
 * Before the last datagram over a socket: what comes over it need not say who sent it any more. (While
 * it had to, the first datagram that goes out gives the socket a name, which costs more than to send.)
 */
void socket_mute(int fd);

/*
 * Nothing can be sent to this end any more, by all who hold the other: their sends fail, and what this end
 * has to say can still come. Half of socket_shutdown, which nobody is told of.
 */
void socket_deafen(int fd);

/* Ends the connection for all who hold either end. */
void socket_shutdown(int fd);
