/* SPDX-License-Identifier: MIT */
/*
 * A kernel that lacks what newer ones have, or a sandbox that refuses it: the same programs work,
 * each time in a fresh process under a filter that refuses one thing, and then all of them.
 *
 * ctest: timeout=300
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "support/support.h"

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SO_PASSPIDFD
#define SO_PASSPIDFD 76
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

#define MILLISECOND INT64_C(1000000)

/* ---- what is refused ---------------------------------------------------------------------------- */

static void refuse_futex_waitv(void)
{
    support_refuse_syscall(SYS_futex_waitv, ENOSYS);
}

static void refuse_pidfd_with_message(void)
{
    support_refuse_syscall_arg(SYS_setsockopt, 2, SO_PASSPIDFD, ENOPROTOOPT);
}

static void refuse_pidfd_open(void)
{
    support_refuse_syscall(SYS_pidfd_open, ENOSYS);
}

static void refuse_membarrier(void)
{
    support_refuse_syscall(SYS_membarrier, ENOSYS);
}

static void refuse_io_uring(void)
{
    support_refuse_syscall(SYS_io_uring_setup, EPERM);
}

static void refuse_noexec_memfd(void)
{
    support_refuse_syscall_arg(SYS_memfd_create, 1,
                               MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL, EINVAL);
}

/* Done by the C library's tunable, before the process starts. */
static void refuse_rseq(void)
{
    support_require_equal(__rseq_size, 0);
}

static void refuse_nothing(void)
{
}

struct refusal {
    const char *name;
    void (*refuse)(void);
};

static const struct refusal refusals[] = {
    { "nothing", refuse_nothing },
    { "futex_waitv", refuse_futex_waitv },
    { "SO_PASSPIDFD", refuse_pidfd_with_message },
    { "pidfd_open", refuse_pidfd_open },
    { "membarrier", refuse_membarrier },
    { "io_uring", refuse_io_uring },
    { "MFD_NOEXEC_SEAL", refuse_noexec_memfd },
    { "rseq", refuse_rseq },
    { 0 },
};

static void refuse(const char *name)
{
    bool known = false;

    for (const struct refusal *refusal = refusals; refusal->name; refusal++)
        if (strcmp(name, "all") == 0 || strcmp(name, refusal->name) == 0) {
            refusal->refuse();
            known = true;
        }
    support_require(known);
}

/* ---- what has to work ------------------------------------------------------------------------------ */

struct channel {
    vrd_cap_t send, receive;
};

static struct channel channel_new(size_t slots)
{
    struct channel channel;

    support_require_equal(vrd_channel_create(slots, &channel.send, &channel.receive), 0);
    return channel;
}

static void cap_close(vrd_cap_t cap)
{
    support_require_equal(vrd_cap_close(cap), 0);
}

struct pair {
    struct channel there, back;
};

static int echo_run(void *arg)
{
    const struct pair *pair = arg;
    uint64_t value;
    ssize_t len;

    cap_close(pair->there.send);
    cap_close(pair->back.receive);
    while ((len = vrd_receive(pair->there.receive, &value, sizeof value)) == sizeof value)
        support_require_equal(vrd_send(pair->back.send, &value, sizeof value), 0);
    support_require_equal(len, VRD_ERR_PEER_GONE);
    return 0;
}

static void blocking_ping_pong(void)
{
    struct pair pair = { .there = channel_new(4), .back = channel_new(4) };
    const pid_t echo = support_child(echo_run, &pair);

    cap_close(pair.there.receive);
    cap_close(pair.back.send);
    for (uint64_t i = 0; i < support_iterations(2000); i++) {
        uint64_t value = i;

        support_require_equal(vrd_send(pair.there.send, &value, sizeof value), 0);
        value = 0;
        support_require_equal(vrd_receive(pair.back.receive, &value, sizeof value), sizeof value);
        support_require_equal(value, i);
        if (i % 100 == 0)
            support_wait_asleep(echo);
    }
    cap_close(pair.there.send);
    cap_close(pair.back.receive);
    support_wait_exit(echo, 0);
}

static int sender_run(void *arg)
{
    const struct channel *channel = arg;

    cap_close(channel->receive);
    for (int i = 0; i < 3; i++)
        support_require_equal(vrd_send(channel->send, &i, sizeof i), 0);
    while (true)
        support_sleep_ms(1000);
    return 0;
}

static void *kill_when_asleep(void *arg)
{
    const pid_t *pids = arg; /* who waits, whom to kill */

    support_wait_asleep(pids[0]);
    support_require(kill(pids[1], SIGKILL) == 0);
    return NULL;
}

/* The receiver sleeps when the sender dies. */
static void death_of_a_sender(void)
{
    struct channel channel = channel_new(8);
    const pid_t sender = support_child(sender_run, &channel);
    pid_t pids[] = { getpid(), sender };
    pthread_t killer;
    int value;

    cap_close(channel.send);
    for (int i = 0; i < 3; i++) {
        support_require_equal(vrd_receive(channel.receive, &value, sizeof value), sizeof value);
        support_require_equal(value, i);
    }
    support_require(pthread_create(&killer, NULL, kill_when_asleep, pids) == 0);
    support_require_equal(vrd_receive(channel.receive, &value, sizeof value), VRD_ERR_PEER_GONE);
    support_require(pthread_join(killer, NULL) == 0);
    support_wait_signal(sender, SIGKILL);
    cap_close(channel.receive);
}

static int receiver_run(void *arg)
{
    const struct channel *channel = arg;
    int value;

    cap_close(channel->send);
    support_require_equal(vrd_receive(channel->receive, &value, sizeof value), sizeof value);
    while (true)
        support_sleep_ms(1000);
    return 0;
}

/* The sender sleeps on a full ring when the receiver dies. */
static void death_of_a_receiver(void)
{
    struct channel channel = channel_new(4);
    const pid_t receiver = support_child(receiver_run, &channel);
    pid_t pids[] = { getpid(), receiver };
    pthread_t killer;
    int result, value = 0;

    cap_close(channel.receive);
    support_require(pthread_create(&killer, NULL, kill_when_asleep, pids) == 0);
    do {
        result = vrd_send(channel.send, &value, sizeof value);
    } while (result == 0);
    support_require_equal(result, VRD_ERR_PEER_GONE);
    support_require(pthread_join(killer, NULL) == 0);
    support_wait_signal(receiver, SIGKILL);
    cap_close(channel.send);
}

#define THREADS 3

struct crowd {
    struct channel channel;
    size_t each;
    atomic_size_t received, sum;
};

static void *crowd_send(void *arg)
{
    struct crowd *crowd = arg;

    for (size_t i = 0; i < crowd->each; i++)
        support_require_equal(vrd_send(crowd->channel.send, &i, sizeof i), 0);
    return NULL;
}

static void *crowd_receive(void *arg)
{
    struct crowd *crowd = arg;
    size_t value;

    while (vrd_receive(crowd->channel.receive, &value, sizeof value) == sizeof value) {
        crowd->sum += value;
        crowd->received++;
    }
    return NULL;
}

static void threads_that_share(void)
{
    struct crowd crowd = { .channel = channel_new(16), .each = support_iterations(3000) };
    pthread_t senders[THREADS], receivers[THREADS];

    for (int i = 0; i < THREADS; i++) {
        support_require(pthread_create(&receivers[i], NULL, crowd_receive, &crowd) == 0);
        support_require(pthread_create(&senders[i], NULL, crowd_send, &crowd) == 0);
    }
    for (int i = 0; i < THREADS; i++)
        support_require(pthread_join(senders[i], NULL) == 0);
    cap_close(crowd.channel.send); /* ends the receivers when they have had all */
    for (int i = 0; i < THREADS; i++)
        support_require(pthread_join(receivers[i], NULL) == 0);
    support_require_equal(crowd.received, THREADS * crowd.each);
    support_require_equal(crowd.sum, THREADS * crowd.each * (crowd.each - 1) / 2);
    cap_close(crowd.channel.receive);
}

#define LINKS 40 /* more than a sleeping receiver watches itself */

struct many {
    struct channel channel;
    struct support_gate may[LINKS];
};

struct many_sender {
    struct many *many;
    int number;
};

static int many_run(void *arg)
{
    const struct many_sender *sender = arg;
    struct many *many = sender->many;

    cap_close(many->channel.receive);
    for (int round = 0; round < 3; round++) {
        support_gate_wait(&many->may[sender->number]);
        support_require_equal(vrd_send(many->channel.send, &sender->number, sizeof sender->number),
                              0);
    }
    return 0;
}

static void *open_when_asleep(void *arg)
{
    const struct many_sender *next = arg;

    support_wait_asleep(getpid());
    support_gate_open(&next->many->may[next->number]);
    return NULL;
}

/* All in any order; then one at a time to a receiver that sleeps. */
static void many_links(void)
{
    struct many many = { .channel = channel_new(8) };
    struct many_sender senders[LINKS];
    pid_t pids[LINKS];
    int value, counts[LINKS] = { 0 };

    for (int i = 0; i < LINKS; i++) {
        support_gate_init(&many.may[i]);
        senders[i] = (struct many_sender){ .many = &many, .number = i };
        pids[i] = support_child(many_run, &senders[i]);
    }
    cap_close(many.channel.send);
    for (int i = 0; i < LINKS; i++) {
        support_gate_open(&many.may[i]);
        support_gate_open(&many.may[i]);
    }
    for (int i = 0; i < 2 * LINKS; i++) {
        support_require_equal(vrd_receive(many.channel.receive, &value, sizeof value),
                              sizeof value);
        counts[value]++;
    }
    for (int i = 0; i < LINKS; i++) {
        pthread_t opener;

        support_require_equal(counts[i], 2);
        if (i % 8 == 0)
            support_require(pthread_create(&opener, NULL, open_when_asleep, &senders[i]) == 0);
        else
            support_gate_open(&many.may[i]);
        support_require_equal(vrd_receive(many.channel.receive, &value, sizeof value),
                              sizeof value);
        support_require_equal(value, i);
        if (i % 8 == 0)
            support_require(pthread_join(opener, NULL) == 0);
    }
    support_require_equal(vrd_receive(many.channel.receive, &value, sizeof value),
                          VRD_ERR_PEER_GONE);
    for (int i = 0; i < LINKS; i++) {
        support_wait_exit(pids[i], 0);
        support_gate_deinit(&many.may[i]);
    }
    cap_close(many.channel.receive);
}

static void *close_when_asleep(void *arg)
{
    const vrd_cap_t *cap = arg;

    support_wait_asleep(getpid());
    cap_close(*cap);
    return NULL;
}

static void close_beside_a_waiter(void)
{
    struct channel channel = channel_new(8);
    pthread_t closer;
    int value = 0;

    support_require(pthread_create(&closer, NULL, close_when_asleep, &channel.receive) == 0);
    support_require_equal(vrd_receive(channel.receive, &value, sizeof value),
                          VRD_ERR_INVALID_CAPABILITY);
    support_require(pthread_join(closer, NULL) == 0);
    cap_close(channel.send);
}

static void timeouts(void)
{
    struct channel channel = channel_new(2);
    int value = 0;

    support_require_equal(vrd_receive_timed(channel.receive, &value, sizeof value, 5 * MILLISECOND),
                          VRD_ERR_TIMEOUT);
    for (int i = 0; i < 2; i++)
        support_require_equal(vrd_send(channel.send, &value, sizeof value), 0);
    support_require_equal(vrd_send_timed(channel.send, &value, sizeof value, 5 * MILLISECOND),
                          VRD_ERR_TIMEOUT);
    for (int i = 0; i < 2; i++)
        support_require_equal(vrd_receive(channel.receive, &value, sizeof value), sizeof value);
    cap_close(channel.send);
    cap_close(channel.receive);
}

static void everything(void)
{
    blocking_ping_pong();
    death_of_a_sender();
    death_of_a_receiver();
    threads_that_share();
    many_links();
    close_beside_a_waiter();
    timeouts();
}

/* ---- under each refusal ----------------------------------------------------------------------------- */

static int role_subject(struct support_role_args *args)
{
    struct support_snapshot before;

    refuse(args->args[0]);
    support_require_equal(support_warm_up_channel(), 0);
    timeouts(); /* starts what stays until the end */
    support_sleep_ms(50);
    support_snapshot_take(&before);
    everything();
    support_require(support_snapshot_holds(&before));
    return 0;
}

static void works_without(const char *what)
{
    pid_t subject;

    if (strcmp(what, "rseq") == 0 || strcmp(what, "all") == 0)
        support_require(setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1) == 0);
    subject = support_spawn_role("subject", NULL, 0, (const char *[]){ what, NULL });
    support_require(unsetenv("GLIBC_TUNABLES") == 0);
    support_wait_exit(subject, 0);
}

static void test_without_nothing(void **state)
{
    (void)state;
    works_without("nothing");
}

static void test_without_futex_waitv(void **state)
{
    (void)state;
    works_without("futex_waitv");
}

static void test_without_pidfd_with_message(void **state)
{
    (void)state;
    works_without("SO_PASSPIDFD");
}

static void test_without_pidfd_open(void **state)
{
    (void)state;
    works_without("pidfd_open");
}

static void test_without_membarrier(void **state)
{
    (void)state;
    works_without("membarrier");
}

static void test_without_io_uring(void **state)
{
    (void)state;
    works_without("io_uring");
}

static void test_without_noexec_memfd(void **state)
{
    (void)state;
    works_without("MFD_NOEXEC_SEAL");
}

static void test_without_rseq(void **state)
{
    (void)state;
    works_without("rseq");
}

static void test_without_all(void **state)
{
    (void)state;
    works_without("all");
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_without_nothing),
                     SUPPORT_TEST(test_without_futex_waitv),
                     SUPPORT_TEST(test_without_pidfd_with_message),
                     SUPPORT_TEST(test_without_pidfd_open),
                     SUPPORT_TEST(test_without_membarrier),
                     SUPPORT_TEST(test_without_io_uring),
                     SUPPORT_TEST(test_without_noexec_memfd),
                     SUPPORT_TEST(test_without_rseq),
                     SUPPORT_TEST(test_without_all),
                     { 0 },
                 },
             .roles = (const struct support_role[]){
                 { "subject", role_subject },
                 { 0 },
             });
