/* SPDX-License-Identifier: MIT */
/* Sockets and descriptor passing, and refusing system calls. */
#include "support/support.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_FDS 32

void support_socket_pair(int ret_fds[2])
{
    support_require(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds) == 0);
}

void support_send_fds(int sock, const int *fds, size_t n)
{
    char byte = 0;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control = { 0 };
    struct iovec payload = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &payload,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = CMSG_SPACE(n * sizeof(int)) };

    support_require(n > 0 && n <= MAX_FDS);
    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(n * sizeof(int));
    memcpy(CMSG_DATA(&control.header), fds, n * sizeof(int));
    support_require_equal(sendmsg(sock, &message, MSG_NOSIGNAL), 1);
}

void support_receive_fds(int sock, int *ret_fds, size_t n)
{
    char byte;
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(MAX_FDS * sizeof(int))];
    } control = { 0 };
    struct iovec payload = { .iov_base = &byte, .iov_len = 1 };
    struct msghdr message = { .msg_iov = &payload,
                              .msg_iovlen = 1,
                              .msg_control = &control,
                              .msg_controllen = sizeof control };

    support_require(n > 0 && n <= MAX_FDS);
    support_require_equal(recvmsg(sock, &message, MSG_CMSG_CLOEXEC), 1);
    support_require((message.msg_flags & MSG_CTRUNC) == 0);
    support_require_equal(control.header.cmsg_type, SCM_RIGHTS);
    support_require_equal(control.header.cmsg_len, CMSG_LEN(n * sizeof(int)));
    memcpy(ret_fds, CMSG_DATA(&control.header), n * sizeof(int));
}

void support_send_fd(int sock, int fd)
{
    support_send_fds(sock, &fd, 1);
}

int support_receive_fd(int sock)
{
    int fd;

    support_receive_fds(sock, &fd, 1);
    return fd;
}

/* Installs a filter for all threads of the process, as code that already runs must obey it too. */
static void filter_install(struct sock_filter *code, unsigned short n)
{
    const struct sock_fprog program = { .len = n, .filter = code };

    support_require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    support_require(
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0);
}

void support_refuse_syscall(long nr, int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    filter_install(code, sizeof code / sizeof code[0]);
}

void support_refuse_syscall_arg(long nr, unsigned index, uint32_t value, int error)
{
    /* The low half of the argument, where small numbers stand on little-endian machines. */
    const uint32_t offset = (uint32_t)offsetof(struct seccomp_data, args) + 8 * index;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)nr, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };

    filter_install(code, sizeof code / sizeof code[0]);
}
