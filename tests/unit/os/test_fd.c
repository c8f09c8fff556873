/* SPDX-License-Identifier: MIT */
/* Closing, taking, and looking at descriptors. */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "os/fd.h"

static int fd_new(void)
{
    const int fd = open("/dev/null", O_RDWR | O_CLOEXEC);

    support_require(fd >= 0);
    return fd;
}

static bool fd_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void closing_sets_none_and_keeps_errno(void **state)
{
    int fd = fd_new();
    const int number = fd;

    (void)state;
    errno = 4711;
    fd_close(&fd);
    assert_int_equal(fd, -1);
    assert_int_equal(errno, 4711);
    assert_false(fd_open(number));
    errno = 4711;
    fd_close(&fd); /* of none */
    assert_int_equal(errno, 4711);
    fd = -17;
    fd_close(&fd);
    assert_int_equal(fd, -1);
}

static void descriptor_zero_is_one(void **state)
{
    const int saved = fcntl(0, F_DUPFD_CLOEXEC, 10);
    int fd = 0;

    (void)state;
    assert_true(saved >= 0);
    fd_close(&fd);
    assert_false(fd_open(0));
    assert_int_equal(dup2(saved, 0), 0);
    close(saved);
}

static void taking_leaves_none(void **state)
{
    int fd = fd_new();
    const int number = fd, taken = fd_take(&fd);

    (void)state;
    assert_int_equal(taken, number);
    assert_int_equal(fd, -1);
    assert_true(fd_open(taken));
    close(taken);
    assert_int_equal(fd_take(&fd), -1);
}

static void the_end_of_a_scope_closes(void **state)
{
    int number, kept;

    (void)state;
    {
        fd_auto fd = fd_new();
        number = fd;
    }
    assert_false(fd_open(number));
    {
        fd_auto fd = fd_new();
        kept = fd_take(&fd);
    }
    assert_true(fd_open(kept));
    close(kept);
}

static void readable_is_data_or_a_hang_up(void **state)
{
    int fds[2];
    char byte;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_false(fd_readable(fds[0]));
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_true(fd_readable(fds[0]));
    assert_true(fd_readable(fds[0]));
    assert_int_equal(read(fds[0], &byte, 1), 1);
    assert_false(fd_readable(fds[0]));
    close(fds[1]);
    assert_true(fd_readable(fds[0]));
    fd_wait(fds[0]); /* returns */
    close(fds[0]);
}

struct waiter {
    int fd;
    pid_t tid;
    struct support_gate started;
};

static void *waiter_run(void *arg)
{
    struct waiter *waiter = arg;

    waiter->tid = gettid();
    support_gate_open(&waiter->started);
    fd_wait(waiter->fd);
    return NULL;
}

static void waiting_ends_with_data(void **state)
{
    struct waiter waiter;
    pthread_t thread;
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    support_gate_init(&waiter.started);
    waiter.fd = fds[0];
    assert_int_equal(pthread_create(&thread, NULL, waiter_run, &waiter), 0);
    support_gate_wait(&waiter.started);
    support_wait_asleep(waiter.tid);
    assert_int_equal(pthread_tryjoin_np(thread, NULL), EBUSY);
    assert_int_equal(write(fds[1], "x", 1), 1);
    assert_int_equal(pthread_join(thread, NULL), 0);
    support_gate_deinit(&waiter.started);
    close(fds[0]);
    close(fds[1]);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(closing_sets_none_and_keeps_errno),
                 SUPPORT_TEST(descriptor_zero_is_one),
                 SUPPORT_TEST(taking_leaves_none),
                 SUPPORT_TEST(the_end_of_a_scope_closes),
                 SUPPORT_TEST(readable_is_data_or_a_hang_up),
                 SUPPORT_TEST(waiting_ends_with_data),
                 { 0 },
             })
