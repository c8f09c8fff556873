/* SPDX-License-Identifier: MIT */
/*
 * Thousands of short streams beside a process that takes all the CPU there is. A wake-up that is lost
 * is lost for ever: the time limit is what fails.
 */
#include "process/channels.h"

#include <pthread.h>
#include <sched.h>

/* ---- hogs ------------------------------------------------------------------------------------------ */

static int spin_for_ever(void *arg)
{
    (void)arg;
    for (volatile unsigned i = 0;; i++)
        ;
    return 0;
}

/* As many streams as fit a few seconds: hundreds on a machine that is overloaded anyway, thousands
 * on one that has nothing else to do. */
#define SECONDS 5
#define LEAST 20
#define MOST 2000

struct session {
    pid_t hog;
    int64_t until;
    uint32_t done;
};

static struct session session_begin(void)
{
    return (struct session){ .hog = support_child(spin_for_ever, NULL),
                             .until = now_ns() + SECONDS * 1000 * MS };
}

static bool session_goes_on(struct session *session)
{
    return session->done < MOST && (session->done++ < LEAST || now_ns() < session->until);
}

static void session_end(const struct session *session)
{
    support_kill(session->hog);
    print_message("%u streams\n", session->done);
}

/* ---- streams --------------------------------------------------------------------------------------- */

/* Mostly nothing; now and then long enough for the other side to spin, to take its short sleep of
 * 10 ms, or to change just then to the one that only a wake-up ends. */
static void pause_a_little(uint64_t *seed)
{
    const uint64_t dice = random_next(seed) % 256;

    if (dice < 16)
        for (volatile uint64_t i = random_next(seed) % 3000; i > 0; i--)
            ;
    else if (dice < 20)
        sched_yield();
    else if (dice == 20)
        nanosleep(&(struct timespec){ .tv_nsec = (long)(random_next(seed) % 200000) }, NULL);
    else if (dice == 21 && random_next(seed) % 4 == 0)
        nanosleep(&(struct timespec){ .tv_nsec = 9 * MS + (long)(random_next(seed) % (4 * MS)) },
                  NULL);
}

struct stream {
    struct ends ends;
    struct ends back; /* of an echo */
    uint64_t seed;
    uint32_t n;
};

static void *send_stream(void *arg)
{
    struct stream *stream = arg;
    uint64_t seed = stream->seed * 2654435761u + 1;

    for (uint32_t i = 0; i < stream->n; i++) {
        numbered_send(stream->ends.send, 0, i, 8 + i % 100);
        pause_a_little(&seed);
    }
    EXPECT(vrd_cap_close(stream->ends.send), 0);
    return NULL;
}

static void receive_stream(const struct stream *stream)
{
    uint64_t seed = stream->seed * 40503u + 7;

    for (uint32_t i = 0; i < stream->n; i++) {
        numbered_receive(stream->ends.receive, 0, i, 8 + i % 100);
        pause_a_little(&seed);
    }
    EXPECT(vrd_receive(stream->ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(stream->ends.receive), 0);
}

static int send_in_child(void *arg)
{
    struct stream *stream = arg;

    EXPECT(vrd_cap_close(stream->ends.receive), 0);
    send_stream(stream);
    return 0;
}

static const size_t some_slots[] = { 1, 2, 4, 16, 64 };

static void test_streams_from_children(void **state)
{
    struct session session = session_begin();

    (void)state;
    while (session_goes_on(&session)) {
        const uint32_t i = session.done;
        struct stream stream = { .ends = ends_new(some_slots[i % 5]), .seed = i, .n = 100 };
        const pid_t child = support_child(send_in_child, &stream);

        EXPECT(vrd_cap_close(stream.ends.send), 0);
        receive_stream(&stream);
        support_wait_exit(child, 0);
    }
    session_end(&session);
}

static void test_streams_from_threads(void **state)
{
    struct session session = session_begin();

    (void)state;
    while (session_goes_on(&session)) {
        const uint32_t i = session.done;
        struct stream stream = { .ends = ends_new(some_slots[i % 5]), .seed = i, .n = 100 };
        pthread_t thread;

        EXPECT(pthread_create(&thread, NULL, send_stream, &stream), 0);
        receive_stream(&stream);
        EXPECT(pthread_join(thread, NULL), 0);
    }
    session_end(&session);
}

/* One child for many streams: each a new pair of links, told by the last message of the one before. */
struct series {
    struct ends there;
    struct ends back;
};

static int echo_series(void *arg)
{
    const struct series *series = arg;
    uint64_t seed = 77;
    uint8_t data[NUMBERED_MAX];
    ssize_t len;

    EXPECT(vrd_cap_close(series->there.send), 0);
    EXPECT(vrd_cap_close(series->back.receive), 0);
    while ((len = vrd_receive(series->there.receive, data, sizeof data)) >= 0) {
        pause_a_little(&seed);
        EXPECT(vrd_send(series->back.send, data, (size_t)len), 0);
    }
    EXPECT(len, VRD_ERR_PEER_GONE);
    return 0;
}

/* Lock step, with pauses on both sides: each message finds the other side about to sleep, asleep,
 * or on its way out of it. Each round has a sender of its own, so that links come and go. */
static void test_round_trips(void **state)
{
    /* The hog first: it must not inherit the channels. */
    struct session session = session_begin();
    struct series series = { ends_new(2), ends_new(2) };
    uint64_t seed = 99;

    (void)state;
    const pid_t child = support_child(echo_series, &series);
    EXPECT(vrd_cap_close(series.there.receive), 0);
    EXPECT(vrd_cap_close(series.back.send), 0);
    while (session_goes_on(&session)) {
        const uint32_t round = session.done;
        const vrd_cap_t sender = sender_new(series.there.send);

        for (uint32_t i = 0; i < 30; i++) {
            numbered_send(sender, round, i, 8 + i % 80);
            pause_a_little(&seed);
            numbered_receive(series.back.receive, round, i, 8 + i % 80);
            pause_a_little(&seed);
        }
        EXPECT(vrd_cap_close(sender), 0);
    }
    EXPECT(vrd_cap_close(series.there.send), 0);
    EXPECT(vrd_receive(series.back.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(series.back.receive), 0);
    support_wait_exit(child, 0);
    session_end(&session);
}

/* Several senders at a time, each a forked child with few messages: fan-in beside the hogs. */
static void test_fan_in(void **state)
{
    enum { SENDERS = 6 };
    struct session session = session_begin();

    (void)state;
    while (session_goes_on(&session)) {
        const uint32_t round = session.done;
        struct stream stream = { .ends = ends_new(some_slots[round % 5]), .n = 60 };
        pid_t children[SENDERS];
        uint32_t got = 0;
        struct number number;

        for (size_t i = 0; i < SENDERS; i++) {
            stream.seed = round * SENDERS + i + 1;
            children[i] = support_child(send_in_child, &stream);
        }
        EXPECT(vrd_cap_close(stream.ends.send), 0);
        while (numbered_receive_any(stream.ends.receive, &number, VRD_FOREVER) > 0)
            got++;
        EXPECT(got, SENDERS * stream.n);
        EXPECT(vrd_cap_close(stream.ends.receive), 0);
        for (size_t i = 0; i < SENDERS; i++)
            support_wait_exit(children[i], 0);
    }
    session_end(&session);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_streams_from_children, 60),
                     SUPPORT_TEST_TIMEOUT(test_streams_from_threads, 60),
                     SUPPORT_TEST_TIMEOUT(test_round_trips, 60),
                     SUPPORT_TEST_TIMEOUT(test_fan_in, 60),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
