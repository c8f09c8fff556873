/* SPDX-License-Identifier: MIT */
/* Memory that fork wipes, barriers, descriptors of processes, and the thread. */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/process.h"

static int child_tells(void *arg)
{
    return process_self() == getpid() && process_self() != *(pid_t *)arg ? 0 : 1;
}

static void self_is_this_process_also_after_fork(void **state)
{
    pid_t parent = process_self();

    (void)state;
    assert_int_equal(parent, getpid());
    support_wait_exit(support_child(child_tells, &parent), 0);
}

/* --- wiped memory ------------------------------------------------------------------------------ */

static int child_finds_zeros(void *arg)
{
    uint8_t *bytes = arg;

    for (size_t i = 0; i < 2 * UNIT_PAGE; i++)
        support_require_equal(bytes[i], 0);
    bytes[0] = 1; /* and may use it */
    return 0;
}

static void a_child_finds_zeros_its_parent_what_it_wrote(void **state)
{
    uint8_t *bytes = process_wiped_memory(2 * UNIT_PAGE);

    (void)state;
    assert_non_null(bytes);
    for (size_t i = 0; i < 2 * UNIT_PAGE; i++)
        assert_int_equal(bytes[i], 0);
    memset(bytes, 7, 2 * UNIT_PAGE);
    support_wait_exit(support_child(child_finds_zeros, bytes), 0);
    assert_int_equal(bytes[0], 7);
    assert_int_equal(bytes[2 * UNIT_PAGE - 1], 7);
    munmap(bytes, 2 * UNIT_PAGE);
}

static int child_without_wiping(void *arg)
{
    (void)arg;
    support_refuse_syscall(SYS_madvise, EINVAL);
    return process_wiped_memory(UNIT_PAGE) == NULL ? 0 : 1;
}

static void none_where_it_cannot_be_had(void **state)
{
    (void)state;
    assert_null(process_wiped_memory(0));
    assert_null(process_wiped_memory(SIZE_MAX & ~(UNIT_PAGE - 1)));
    support_wait_exit(support_child(child_without_wiping, NULL), 0);
}

/* --- the barrier ---------------------------------------------------------------------------------- */

static int child_barrier(void *arg)
{
    (void)arg;
    errno = 4711;
    support_require(process_barrier_register());
    support_require(process_barrier_register()); /* again and again */
    support_require_equal(errno, 4711);
    process_barrier();
    return 0;
}

static int child_barrier_refused(void *arg)
{
    (void)arg;
    support_refuse_syscall(SYS_membarrier, EPERM);
    errno = 4711;
    support_require(!process_barrier_register());
    support_require_equal(errno, 4711);
    return 0;
}

static void the_barrier_is_offered_or_not(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_barrier, NULL), 0);
    support_wait_exit(support_child(child_barrier_refused, NULL), 0);
}

/* --- descriptors of processes ----------------------------------------------------------------------- */

static int child_waits(void *arg)
{
    support_gate_wait(arg);
    return 0;
}

static void a_descriptor_tells_the_exit(void **state)
{
    struct support_gate gate;
    pid_t child;
    int fd;

    (void)state;
    support_gate_init(&gate);
    child = support_child(child_waits, &gate);
    fd = process_open(child);
    assert_true(fd >= 0);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_false(fd_readable(fd));
    support_gate_open(&gate);
    fd_wait(fd);
    support_wait_exit(child, 0);
    assert_true(fd_readable(fd));
    close(fd);
    support_gate_deinit(&gate);
}

static int child_returns(void *arg)
{
    (void)arg;
    return 0;
}

static void the_dead_have_none(void **state)
{
    const pid_t child = support_child(child_returns, NULL);

    (void)state;
    support_wait_exit(child, 0);
    errno = 4711;
    assert_int_equal(process_open(child), -ESRCH);
    assert_true(process_open(0) < 0);
    assert_true(process_open(-1) < 0);
    assert_int_equal(errno, 4711);
}

/* --- the thread ----------------------------------------------------------------------------------------- */

static struct {
    struct support_gate started, end;
    sigset_t mask;
    char name[16];
    bool detached;
    pid_t tid;
} thread;

static void *thread_run(void *arg)
{
    pthread_attr_t attr;
    int how;

    (void)arg;
    pthread_sigmask(SIG_SETMASK, NULL, &thread.mask);
    thread.tid = gettid();
    support_require(pthread_getattr_np(pthread_self(), &attr) == 0);
    support_require(pthread_attr_getdetachstate(&attr, &how) == 0);
    pthread_attr_destroy(&attr);
    thread.detached = how == PTHREAD_CREATE_DETACHED;
    support_gate_open(&thread.started);
    support_gate_wait(&thread.end);
    pthread_getname_np(pthread_self(), thread.name, sizeof thread.name);
    support_gate_open(&thread.started);
    return NULL;
}

static void a_thread_is_detached_named_and_takes_no_signal(void **state)
{
    sigset_t before, after;

    (void)state;
    support_gate_init(&thread.started);
    support_gate_init(&thread.end);
    sigemptyset(&before);
    sigaddset(&before, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    assert_int_equal(process_thread(thread_run, "unit-thread"), 0);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal < 32; signal++)
        assert_int_equal(sigismember(&after, signal), sigismember(&before, signal));
    support_gate_wait(&thread.started);
    for (int signal = 1; signal < 32; signal++)
        if (signal != SIGKILL && signal != SIGSTOP)
            assert_int_equal(sigismember(&thread.mask, signal), 1);
    assert_true(thread.detached);
    assert_int_not_equal(thread.tid, gettid());
    support_gate_open(&thread.end);
    support_gate_wait(&thread.started);
    assert_string_equal(thread.name, "unit-thread");
    sigemptyset(&before);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    support_gate_deinit(&thread.started);
    support_gate_deinit(&thread.end);
}

static int child_without_threads(void *arg)
{
    sigset_t before, after;

    (void)arg;
    support_refuse_syscall(SYS_clone3, EAGAIN);
    support_refuse_syscall(SYS_clone, EAGAIN);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    support_require_equal(process_thread(thread_run, "never"), -EAGAIN);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int signal = 1; signal < 32; signal++)
        support_require_equal(sigismember(&before, signal), sigismember(&after, signal));
    return 0;
}

static void a_thread_that_cannot_start_is_an_error(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_without_threads, NULL), 0);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(self_is_this_process_also_after_fork),
                 SUPPORT_TEST(a_child_finds_zeros_its_parent_what_it_wrote),
                 SUPPORT_TEST(none_where_it_cannot_be_had),
                 SUPPORT_TEST(the_barrier_is_offered_or_not),
                 SUPPORT_TEST(a_descriptor_tells_the_exit),
                 SUPPORT_TEST(the_dead_have_none),
                 SUPPORT_TEST(a_thread_is_detached_named_and_takes_no_signal),
                 SUPPORT_TEST(a_thread_that_cannot_start_is_an_error),
                 { 0 },
             })
