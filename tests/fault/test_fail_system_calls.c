/* SPDX-License-Identifier: MIT */
/*
 * Every system call of every operation fails in turn, once or from then on, with each of the errors
 * of a machine that has run out. A seccomp filter hands each call of the child, in all its threads,
 * to this process to decide.
 *
 * ctest: no-asan no-tsan timeout=500
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "operation.h"

/* What cannot fail for want of anything (questions about a descriptor among it), or is the C
 * library's own business. */
static const long never_refused[] = {
    SYS_close,
    SYS_munmap,
    SYS_exit,
    SYS_exit_group,
    SYS_futex,
    SYS_futex_waitv,
    SYS_sched_yield,
    SYS_rt_sigprocmask,
    SYS_rt_sigaction,
    SYS_rt_sigreturn,
    SYS_getpid,
    SYS_gettid,
    SYS_clock_gettime,
    SYS_nanosleep,
    SYS_clock_nanosleep,
    SYS_set_robust_list,
    SYS_restart_syscall,
    SYS_write,
    SYS_rseq,
    SYS_shutdown,
    SYS_fstat,
    SYS_newfstatat,
    SYS_fstatfs,
    SYS_lseek,
    SYS_getsockopt,
    SYS_setsockopt,
    SYS_getpeername,
};

#define N_NEVER (sizeof never_refused / sizeof never_refused[0])

/* Shared with the child. */
struct stage {
    atomic_int listener; /* the child's number for it; -1 while there is none */
    atomic_bool active;  /* the operation runs                                */
    struct support_snapshot left;
};

struct fault {
    const struct operation *operation;
    struct stage *stage;
    size_t which; /* the n-th call, from 1; 0: none */
    int error;
    bool lasting; /* and all later calls of its kind */
};

static void listener_open(void *arg)
{
    struct fault *fault = arg;
    struct sock_filter code[N_NEVER + 3] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
    };
    const struct sock_fprog program = { .len = N_NEVER + 3, .filter = code };
    long listener;

    for (size_t i = 0; i < N_NEVER; i++)
        code[i + 1] = (struct sock_filter)BPF_JUMP(
            BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)never_refused[i], (uint8_t)(N_NEVER - i), 0);
    code[N_NEVER + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    code[N_NEVER + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    support_require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    fault->stage->active = true;
    listener =
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    support_require(listener >= 0);
    fault->stage->listener = (int)listener;
}

static void listener_leave(void *arg)
{
    struct fault *fault = arg;

    fault->stage->active = false;
}

static int subject_run(void *arg)
{
    struct fault *fault = arg;
    const struct operation_fault how = { .arm = listener_open,
                                         .disarm = listener_leave,
                                         .arg = fault,
                                         .first = fault->which == 0,
                                         .left = &fault->stage->left };

    operation_check(fault->operation, &how);
    return 0;
}

/* The child's listener, as a descriptor of this process; -1 if the child ended before. */
static int listener_take(const struct stage *stage, pid_t subject)
{
    const int pidfd = (int)syscall(SYS_pidfd_open, subject, 0);
    struct pollfd end = { .fd = pidfd, .events = POLLIN };
    int listener = -1;

    support_require(pidfd >= 0);
    while (stage->listener < 0 && poll(&end, 1, 0) == 0)
        support_sleep_ms(0);
    if (stage->listener >= 0)
        listener = (int)syscall(SYS_pidfd_getfd, pidfd, stage->listener, 0);
    support_require(close(pidfd) == 0);
    return listener;
}

struct judge {
    const struct fault *fault;
    size_t seen;
    long refused; /* the call that was, or -1 */
};

/* Would the error be a lie, and not a want? */
static bool error_lies(const struct seccomp_data *call, int error)
{
    if (call->nr == SYS_recvmsg || call->nr == SYS_recvfrom)
        return error == EAGAIN; /* says that nothing is there */
    return call->nr == SYS_fcntl && call->args[1] == F_GET_SEALS;
}

static int judge_call(struct judge *judge, const struct seccomp_data *call)
{
    const struct fault *fault = judge->fault;
    const long nr = call->nr;

    if (!fault->stage->active || error_lies(call, fault->error))
        return 0;
    if (fault->lasting && nr == judge->refused)
        return fault->error;
    if (++judge->seen != fault->which)
        return 0;
    judge->refused = nr;
    return fault->error;
}

/* Decides over the child's calls until it has ended. */
static void judge_all(struct judge *judge, int listener)
{
    for (;;) {
        struct pollfd event = { .fd = listener, .events = POLLIN };
        struct seccomp_notif call = { 0 };
        struct seccomp_notif_resp answer = { 0 };

        support_require(poll(&event, 1, -1) == 1);
        if (!(event.revents & POLLIN))
            return;
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
            support_require(errno == ENOENT || errno == EINTR);
            continue;
        }
        answer.id = call.id;
        answer.error = -judge_call(judge, &call.data);
        answer.flags = answer.error == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer) != 0)
            support_require(errno == ENOENT || errno == EINPROGRESS);
    }
}

/* One run. Returns whether the operation made so many calls. */
static bool run_under(struct fault *fault)
{
    struct judge judge = { .fault = fault, .refused = -1 };
    pid_t subject;
    int listener;

    fault->stage->listener = -1;
    subject = support_child(subject_run, fault);
    listener = listener_take(fault->stage, subject);
    if (listener >= 0) {
        judge_all(&judge, listener);
        support_require(close(listener) == 0);
    }
    support_wait_exit(subject, 0);
    return judge.refused >= 0;
}

static size_t refuse_each(const struct operation *operation, struct stage *stage, int error,
                          bool lasting)
{
    struct fault fault = {
        .operation = operation, .stage = stage, .which = 1, .error = error, .lasting = lasting
    };

    while (run_under(&fault))
        fault.which++;
    return fault.which - 1;
}

/* If the answer is there already, nothing is left to ask the kernel for. */
#define QUIET "answer as a view"

static void test_each_system_call(void **state)
{
    static const int errors[] = { ENOMEM, EMFILE, EAGAIN };
    struct stage *stage = support_shared_new(sizeof *stage);

    (void)state;
    for (const struct operation *operation = operations; operation->name; operation++) {
        struct fault none = { .operation = operation, .stage = stage };
        size_t n = 0;

        support_require(!run_under(&none));
        for (size_t i = 0; i < sizeof errors / sizeof errors[0]; i++) {
            n += refuse_each(operation, stage, errors[i], false);
            n += refuse_each(operation, stage, errors[i], true);
        }
        print_message("%s: %zu refusals\n", operation->name, n);
        assert_true(n > 0 || strcmp(operation->name, QUIET) == 0);
    }
    support_shared_free(stage, sizeof *stage);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_each_system_call, 400),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
