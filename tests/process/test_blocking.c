/* SPDX-License-Identifier: MIT */
/* Waiting: timeouts that are kept, signals that do not end it, and no CPU while it lasts. */
#include "process/channels.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>

/* ---- timeouts ------------------------------------------------------------------------------------ */

/* A wait may be longer than asked on a busy machine, but never shorter. */
static void test_timeouts_are_not_cut_short(void **state)
{
    static const int64_t timeouts[] = { 1,      1000,    2 * 1000, 50 * 1000, MS,      3 * MS,
                                        9 * MS, 10 * MS, 11 * MS,  25 * MS,   120 * MS };
    const struct ends ends = ends_new(1);

    (void)state;
    numbered_send(ends.send, 1, 0, 8);
    for (size_t linked = 0; linked < 2; linked++) {
        for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
            int64_t start = now_ns();

            EXPECT(vrd_send_timed(ends.send, "x", 1, timeouts[i]), VRD_ERR_TIMEOUT);
            support_require(now_ns() - start >= timeouts[i]);
            if (!linked)
                continue;
            numbered_receive(ends.receive, 1, 0, 8);
            start = now_ns();
            EXPECT(vrd_receive_timed(ends.receive, NULL, 0, timeouts[i]), VRD_ERR_TIMEOUT);
            support_require(now_ns() - start >= timeouts[i]);
            numbered_send(ends.send, 1, 0, 8);
        }
    }
    ends_close(&ends);
}

/* ---- signals ------------------------------------------------------------------------------------- */

static volatile sig_atomic_t alarms;

static void count_alarm(int signal)
{
    (void)signal;
    alarms++;
}

static struct sigaction old_action;

/* Every half millisecond of elapsed time, with a handler that ends system calls. */
static void storm_begin(void)
{
    const struct sigaction action = { .sa_handler = count_alarm };
    const struct itimerval often = { { 0, 500 }, { 0, 500 } };

    alarms = 0;
    EXPECT(sigaction(SIGALRM, &action, &old_action), 0);
    EXPECT(setitimer(ITIMER_REAL, &often, NULL), 0);
}

static void storm_end(void)
{
    EXPECT(setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL), 0);
    EXPECT(sigaction(SIGALRM, &old_action, NULL), 0);
    support_require(alarms > 0);
}

static void test_signals_do_not_shorten_a_wait(void **state)
{
    const struct ends ends = ends_new(1);

    (void)state;
    for (size_t linked = 0; linked < 2; linked++) {
        storm_begin();
        int64_t start = now_ns();
        EXPECT(vrd_receive_timed(ends.receive, NULL, 0, 200 * MS), VRD_ERR_TIMEOUT);
        support_require(now_ns() - start >= 200 * MS);
        numbered_send(ends.send, 1, 0, 8);
        start = now_ns();
        EXPECT(vrd_send_timed(ends.send, "x", 1, 200 * MS), VRD_ERR_TIMEOUT);
        support_require(now_ns() - start >= 200 * MS);
        storm_end();
        numbered_receive(ends.receive, 1, 0, 8);
    }
    ends_close(&ends);
}

struct stormy {
    struct ends ends;
    struct ends back;
    bool storm;
    uint32_t n;
};

static void pause_now_and_then(uint64_t *seed)
{
    if (random_next(seed) % 64 == 0)
        support_sleep_ms(1);
}

static int send_in_storm(void *arg)
{
    const struct stormy *stormy = arg;
    uint64_t seed = 123456789;

    EXPECT(vrd_cap_close(stormy->ends.receive), 0);
    storm_begin();
    for (uint32_t i = 0; i < stormy->n; i++) {
        numbered_send(stormy->ends.send, 0, i, 8 + i % 300);
        pause_now_and_then(&seed);
    }
    storm_end();
    return 0;
}

/* Both sides sleep and wake all the time, under signals. */
static void test_streams_under_signals(void **state)
{
    static const size_t slots[] = { 1, 4, 64 };

    (void)state;
    for (size_t s = 0; s < 3; s++) {
        struct stormy stormy = { .ends = ends_new(slots[s]), .n = 3000 };
        const pid_t child = support_child(send_in_storm, &stormy);
        uint64_t seed = 987654321;

        EXPECT(vrd_cap_close(stormy.ends.send), 0);
        storm_begin();
        for (uint32_t i = 0; i < stormy.n; i++) {
            numbered_receive(stormy.ends.receive, 0, i, 8 + i % 300);
            pause_now_and_then(&seed);
        }
        EXPECT(vrd_receive(stormy.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
        storm_end();
        EXPECT(vrd_cap_close(stormy.ends.receive), 0);
        support_wait_exit(child, 0);
    }
}

/* ---- no CPU while idle ----------------------------------------------------------------------------- */

static int64_t cpu_ns(void)
{
    struct rusage usage;

    EXPECT(getrusage(RUSAGE_SELF, &usage), 0);
    return ((int64_t)usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000000) +
           ((int64_t)usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

/* CPU time of a second of waiting, all threads of the process together. */
#define IDLE_CPU_AT_MOST (50 * MS)

static int wait_idly(void *arg)
{
    const struct stormy *stormy = arg;
    uint8_t data[16];
    const int64_t before = cpu_ns();

    EXPECT(vrd_receive_timed(stormy->ends.receive, data, sizeof data, 1000 * MS), VRD_ERR_TIMEOUT);
    const int64_t receiving = cpu_ns() - before;
    if (receiving > IDLE_CPU_AT_MOST * (int64_t)support_slowdown())
        support_fail(__FILE__, __LINE__, "an idle receive took %jd ns of CPU", (intmax_t)receiving);
    return 0;
}

static void test_an_idle_receiver_uses_no_cpu(void **state)
{
    struct stormy stormy = { .ends = ends_new(16) };
    vrd_cap_t others[20];

    (void)state;
    /* Nobody has sent. */
    support_wait_exit(support_child(wait_idly, &stormy), 0);
    /* With one link, and with more than are polled. */
    numbered_send(stormy.ends.send, 0, 0, 8);
    numbered_receive(stormy.ends.receive, 0, 0, 8);
    EXPECT(wait_idly(&stormy), 0);
    for (uint32_t i = 0; i < 20; i++) {
        others[i] = sender_new(stormy.ends.send);
        numbered_send(others[i], 0, 0, 8);
        numbered_receive(stormy.ends.receive, 0, 0, 8);
    }
    EXPECT(wait_idly(&stormy), 0);
    for (uint32_t i = 0; i < 20; i++)
        EXPECT(vrd_cap_close(others[i]), 0);
    ends_close(&stormy.ends);
}

static void check_idle_sender(vrd_cap_t send)
{
    const int64_t before = cpu_ns();

    EXPECT(vrd_send_timed(send, "x", 1, 1000 * MS), VRD_ERR_TIMEOUT);
    const int64_t sending = cpu_ns() - before;
    if (sending > IDLE_CPU_AT_MOST * (int64_t)support_slowdown())
        support_fail(__FILE__, __LINE__, "an idle send took %jd ns of CPU", (intmax_t)sending);
}

static void test_an_idle_sender_uses_no_cpu(void **state)
{
    const struct ends ends = ends_new(1);

    (void)state;
    numbered_send(ends.send, 0, 0, 8);
    check_idle_sender(ends.send); /* before the owner has answered */
    numbered_receive(ends.receive, 0, 0, 8);
    numbered_send(ends.send, 0, 1, 8);
    check_idle_sender(ends.send);
    ends_close(&ends);
}

/* A busy stream has taught both sides to spin; idle they sleep all the same. */
static int echo_then_idle(void *arg)
{
    const struct stormy *stormy = arg;
    uint8_t data[NUMBERED_MAX];

    EXPECT(vrd_cap_close(stormy->ends.send), 0);
    EXPECT(vrd_cap_close(stormy->back.receive), 0);
    for (uint32_t i = 0; i < stormy->n; i++) {
        const ssize_t len = vrd_receive(stormy->ends.receive, data, sizeof data);

        support_require(len >= 0);
        EXPECT(vrd_send(stormy->back.send, data, (size_t)len), 0);
    }
    return wait_idly(arg);
}

static void test_idle_after_a_busy_stream(void **state)
{
    struct stormy stormy = { .ends = ends_new(16), .back = ends_new(16), .n = 20000 };

    (void)state;
    const pid_t child = support_child(echo_then_idle, &stormy);
    EXPECT(vrd_cap_close(stormy.ends.receive), 0);
    EXPECT(vrd_cap_close(stormy.back.send), 0);
    for (uint32_t i = 0; i < stormy.n; i++) {
        numbered_send(stormy.ends.send, 0, i, 64);
        numbered_receive(stormy.back.receive, 0, i, 64);
    }
    support_wait_exit(child, 0);
    EXPECT(vrd_receive(stormy.back.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(stormy.ends.send), 0);
    EXPECT(vrd_cap_close(stormy.back.receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_timeouts_are_not_cut_short),
                     SUPPORT_TEST(test_signals_do_not_shorten_a_wait),
                     SUPPORT_TEST(test_streams_under_signals),
                     SUPPORT_TEST(test_an_idle_receiver_uses_no_cpu),
                     SUPPORT_TEST(test_an_idle_sender_uses_no_cpu),
                     SUPPORT_TEST(test_idle_after_a_busy_stream),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
