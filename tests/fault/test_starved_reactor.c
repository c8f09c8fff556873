/* SPDX-License-Identifier: MIT */
/*
 * The kernel has no memory to hand a datagram over. It stays where it is and is handled later; until
 * then the reactor comes back now and then, and does not try as fast as it can.
 */
#include "support/support.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <veridian/ipc.h>

#define PAUSE_NS INT64_C(1000000)

static atomic_bool starved;
static atomic_long refused;

/* In place of the C library's. */
ssize_t recvmsg(int fd, struct msghdr *msg, int flags)
{
    if (!atomic_load(&starved))
        return syscall(SYS_recvmsg, fd, msg, flags);
    atomic_fetch_add(&refused, 1);
    errno = ENOMEM;
    return -1;
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (support_warm_up_channel() != 0 || vrd_channel_create(1, &send, &receive) != 0 ||
        vrd_receive_timed(receive, &byte, 1, 50 * PAUSE_NS) != VRD_ERR_TIMEOUT)
        return -1; /* a wait that sleeps: the reactor's thread runs */
    return vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0 ? -1 : 0;
}

static void test_no_memory_for_a_request(void **state)
{
    vrd_cap_t send, receive, importer;
    int64_t began, passed;
    int invitation;
    char byte = 0;
    long before, tries;

    (void)state;
    assert_int_equal(vrd_channel_create(4, &send, &receive), 0);
    assert_int_equal(vrd_receive_async(receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    atomic_store(&starved, true);
    assert_int_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &invitation), 0);
    while (atomic_load(&refused) == 0)
        support_sleep_ms(1);

    /* A pause is never shorter than it should be, however slow the machine. */
    began = now_ns();
    before = atomic_load(&refused);
    support_sleep_ms(100);
    tries = atomic_load(&refused) - before;
    passed = now_ns() - began;
    assert_true(tries <= passed / PAUSE_NS + 1);

    atomic_store(&starved, false);
    assert_int_equal(vrd_cap_import(invitation, &importer), 0);
    assert_int_equal(vrd_send(importer, "x", 1), 0);
    assert_int_equal(vrd_receive(receive, &byte, 1), 1);
    assert_int_equal(vrd_cap_close(importer), 0);
    assert_int_equal(vrd_cap_close(send), 0);
    assert_int_equal(vrd_cap_close(receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_no_memory_for_a_request),
                     { 0 },
                 },
             .warm_up = warm_up)
