/* SPDX-License-Identifier: MIT */
/* What comes over a channel into somebody else's loop. */
#pragma once

#include "process/channels.h"
#include "process/tasks.h"

#include <sched.h>

struct stream {
    vrd_cap_t send, receive;
    uint32_t n, next;
    bool threadless;
};

static int stream_sends(void *arg)
{
    const struct stream *stream = arg;
    uint64_t seed = 5;

    EXPECT(vrd_cap_close(stream->receive), 0);
    for (uint32_t i = 0; i < stream->n; i++) {
        EXPECT(vrd_send(stream->send, &i, sizeof i), 0);
        if (random_next(&seed) % 64 == 0)
            sched_yield();
        if (random_next(&seed) % 512 == 0)
            support_sleep_ms(9 + (unsigned)random_next(&seed) % 4);
    }
    return 0;
}

/* The channel, and a child that sends through it. */
static pid_t stream_start(struct stream *stream, bool threadless)
{
    pid_t child;

    *stream = (struct stream){ .n = (uint32_t)support_iterations(10000), .threadless = threadless };
    EXPECT(vrd_channel_create(16, &stream->send, &stream->receive), 0);
    child = support_child(stream_sends, stream);
    EXPECT(vrd_cap_close(stream->send), 0);
    return child;
}

/* Receives what is there. True: it is over. */
static bool stream_take(struct stream *stream)
{
    ssize_t result;
    uint32_t got;

    while ((result = vrd_receive_async(stream->receive, &got, sizeof got)) >= 0) {
        EXPECT(got, stream->next);
        stream->next++;
    }
    if (result == VRD_ERR_CHANNEL_EMPTY)
        return false;
    EXPECT(result, VRD_ERR_PEER_GONE);
    return true;
}

static void stream_finish(struct stream *stream, pid_t child)
{
    EXPECT(stream->next, stream->n);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(stream->receive), 0);
}

/* The descriptor, its timer, and what else is opened once. */
static int stream_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    return channels_warm_up() != 0 || vrd_channel_create(1, &send, &receive) != 0 ||
           vrd_cap_fd(receive) < 0 ||
           vrd_receive_async(receive, &byte, 1) != VRD_ERR_CHANNEL_EMPTY ||
           vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0;
}

/* ---- the tests, which are the same for each loop ---------------------------------------------------- */

/* The including file's: receives all there is, in its loop, until the end. */
static void stream_run(bool threadless);

static void beside_the_library_s_thread(void **state)
{
    (void)state;
    stream_run(false);
}

static int role_alone(struct support_role_args *args)
{
    const struct vrd_init_options options = { .flags = VRD_INIT_NO_THREAD };

    (void)args;
    EXPECT(vrd_init(&options), 0);
    stream_run(true);
    EXPECT(tasks_count(), 1);
    return 0;
}

static void in_its_loop_alone(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("alone", NULL, 0, NULL), 0);
}

#define STREAM_MAIN(warm_up_function) \
    SUPPORT_MAIN(.tests = \
                     (const struct support_test[]){ \
                         SUPPORT_TEST_TIMEOUT(beside_the_library_s_thread, 60), \
                         SUPPORT_TEST_TIMEOUT(in_its_loop_alone, 60), \
                         { 0 }, \
                     }, \
                 .roles = (const struct support_role[]){ { "alone", role_alone }, { 0 } }, \
                 .warm_up = warm_up_function)
