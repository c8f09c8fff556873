/* SPDX-License-Identifier: MIT */
#include "os/socket.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "os/fd.h"

#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef SCM_PIDFD
#define SCM_PIDFD 0x04
#endif

void datagram_deinit(struct datagram *datagram)
{
    for (size_t i = 0; i < datagram->n_fds; i++)
        fd_close_foreign(&datagram->fds[i]);
    datagram->n_fds = 0;
    fd_close(&datagram->pidfd);
}

/* SO_PASSPIDFD is Linux 6.5; without it, the pid of the credentials has to do. */
int socket_ask_who(int fd)
{
    int on = 1;

    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) < 0)
        return -errno;
    setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &on, sizeof(on));
    return 0;
}

int socket_pair(int ret[2])
{
    int fds[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
        return -errno;
    r = socket_ask_who(fds[0]);
    if (r == 0)
        r = socket_ask_who(fds[1]);
    if (r < 0) {
        fd_close(&fds[0]);
        fd_close(&fds[1]);
        return r;
    }
    ret[0] = fds[0];
    ret[1] = fds[1];
    return 0;
}

int socket_adopt(int fd)
{
    int domain, type;
    struct sockaddr peer;
    socklen_t len = sizeof(int), peer_len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0)
        return -errno;
    len = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return -errno;
    if (domain != AF_UNIX || type != SOCK_SEQPACKET)
        return -ENOTSOCK;
    /* one that listens or was never connected would never end */
    if (getpeername(fd, &peer, &peer_len) < 0)
        return -ENOTCONN;
    return socket_ask_who(fd);
}

int socket_send(int fd, const void *data, size_t len, const int *fds, size_t n_fds)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * SOCKET_FDS_MAX)];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    int saved = errno, r = 0;
    ssize_t n;

    if (n_fds > 0) {
        struct cmsghdr *cmsg;

        memset(&control, 0, CMSG_SPACE(sizeof(int) * n_fds));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        cmsg = CMSG_FIRSTHDR(&msg);
        cmsg->cmsg_level = SOL_SOCKET;
        cmsg->cmsg_type = SCM_RIGHTS;
        cmsg->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
        memcpy(CMSG_DATA(cmsg), fds, sizeof(int) * n_fds);
    }
    do {
        n = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        r = errno == EWOULDBLOCK ? -EAGAIN : -errno;
    errno = saved;
    return r;
}

static void datagram_take(struct datagram *datagram, const struct cmsghdr *cmsg)
{
    if (cmsg->cmsg_level != SOL_SOCKET)
        return;
    if (cmsg->cmsg_type == SCM_RIGHTS) {
        datagram->n_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(datagram->fds, CMSG_DATA(cmsg), datagram->n_fds * sizeof(int));
    } else if (cmsg->cmsg_type == SCM_CREDENTIALS) {
        struct ucred cred;

        memcpy(&cred, CMSG_DATA(cmsg), sizeof(cred));
        datagram->pid = cred.pid;
        datagram->uid = cred.uid;
        datagram->gid = cred.gid;
    } else if (cmsg->cmsg_type == SCM_PIDFD) {
        memcpy(&datagram->pidfd, CMSG_DATA(cmsg), sizeof(int));
    }
}

static int socket_read(int fd, int flags, struct datagram *ret)
{
    union {
        char buf[CMSG_SPACE(sizeof(int) * SOCKET_FDS_MAX) + CMSG_SPACE(sizeof(struct ucred)) +
                 CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = ret->data, .iov_len = sizeof(ret->data) };
    struct msghdr msg = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
    };
    int saved = errno, r = 1;
    ssize_t n;

    ret->n_fds = 0;
    ret->pid = 0;
    ret->uid = (uid_t)-1;
    ret->gid = (gid_t)-1;
    ret->pidfd = -1;
    /* ECONNRESET, said once: the other side closed and had not read all. What it had sent is still
     * here, and after that comes the end. */
    do {
        n = recvmsg(fd, &msg, flags | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    if (n < 0) {
        r = errno == EWOULDBLOCK ? -EAGAIN : -errno;
        errno = saved;
        return r;
    }
    for (struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg))
        datagram_take(ret, cmsg);
    ret->len = (size_t)n;
    if (n == 0) /* the end, or an empty datagram, which no one of us sends */
        r = 0;
    if (msg.msg_flags & MSG_TRUNC)
        r = -EPROTO;
    else if (msg.msg_flags & MSG_CTRUNC) /* there was room in `control`: not so in our table */
        r = -EMFILE;
    errno = saved;
    return r;
}

int socket_receive(int fd, struct datagram *ret)
{
    return socket_read(fd, 0, ret);
}

int socket_receive_bare(int fd, struct datagram *ret)
{
    int saved = errno, r;
    struct iovec iov = { .iov_base = ret->data, .iov_len = sizeof(ret->data) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
    ssize_t n;

    ret->n_fds = 0;
    do {
        n = recvmsg(fd, &msg, MSG_DONTWAIT);
    } while (n < 0 && (errno == EINTR || errno == ECONNRESET));
    r = n > 0 ? 1 : 0;
    if (n < 0)
        r = errno == EWOULDBLOCK ? -EAGAIN : -errno;
    else if (msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        r = -EPROTO;
    else
        ret->len = (size_t)n;
    errno = saved;
    return r;
}

int socket_peek(int fd, struct datagram *ret)
{
    return socket_read(fd, MSG_PEEK, ret);
}

bool socket_ended(int fd)
{
    char byte;
    int saved = errno;
    bool ended = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;

    if (!ended && errno == ECONNRESET)
        ended = true;
    errno = saved;
    return ended;
}

bool socket_over(int fd)
{
    struct pollfd entry = { .fd = fd };

    return poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP) != 0;
}

bool socket_pending(int fd)
{
    int saved = errno, n = 0;

    if (ioctl(fd, FIONREAD, &n) < 0)
        n = 0;
    errno = saved;
    return n > 0;
}

void socket_mute(int fd)
{
    int saved = errno, off = 0;

    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
    setsockopt(fd, SOL_SOCKET, SO_PASSPIDFD, &off, sizeof(off));
    errno = saved;
}

void socket_deafen(int fd)
{
    int saved = errno;

    shutdown(fd, SHUT_RD);
    errno = saved;
}

void socket_shutdown(int fd)
{
    int saved = errno;

    shutdown(fd, SHUT_RDWR);
    errno = saved;
}
