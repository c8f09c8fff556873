/* SPDX-License-Identifier: MIT */
/* Capabilities in libuv's loop: with the library's thread, and in its loop alone. */
#include "process/channels.h"
#include "process/tasks.h"

#include <sched.h>
#include <uv.h>

struct stream {
    vrd_cap_t send, receive;
    uint32_t n, next;
    uv_poll_t ready, library;
    bool threadless;
};

static int sends_child(void *arg)
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

static void on_library(uv_poll_t *handle, int status, int events)
{
    (void)handle;
    EXPECT(status, 0);
    support_require(events & UV_READABLE);
    EXPECT(vrd_reactor_dispatch(), 0);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct stream *stream = handle->data;
    ssize_t result;
    uint32_t got;

    EXPECT(status, 0);
    support_require(events & UV_READABLE);
    while ((result = vrd_receive_async(stream->receive, &got, sizeof got)) >= 0) {
        EXPECT(got, stream->next);
        stream->next++;
    }
    if (result == VRD_ERR_CHANNEL_EMPTY)
        return;
    EXPECT(result, VRD_ERR_PEER_GONE);
    uv_close((uv_handle_t *)&stream->ready, NULL);
    if (stream->threadless)
        uv_close((uv_handle_t *)&stream->library, NULL);
}

/* Receives all there is, in the loop, until the end. */
static void stream_run(bool threadless)
{
    struct stream stream = { .n = (uint32_t)support_iterations(10000), .threadless = threadless };
    uv_loop_t loop;
    pid_t child;

    EXPECT(vrd_channel_create(16, &stream.send, &stream.receive), 0);
    child = support_child(sends_child, &stream);
    EXPECT(vrd_cap_close(stream.send), 0);
    EXPECT(uv_loop_init(&loop), 0);
    EXPECT(uv_poll_init(&loop, &stream.ready, vrd_cap_fd(stream.receive)), 0);
    stream.ready.data = &stream;
    EXPECT(uv_poll_start(&stream.ready, UV_READABLE, on_readable), 0);
    if (threadless) {
        EXPECT(uv_poll_init(&loop, &stream.library, vrd_reactor_fd()), 0);
        EXPECT(uv_poll_start(&stream.library, UV_READABLE, on_library), 0);
    }
    EXPECT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(uv_loop_close(&loop), 0);
    EXPECT(stream.next, stream.n);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(stream.receive), 0);
}

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

/* The descriptor, its timer, and what libuv opens once. */
static int warm_up(void)
{
    vrd_cap_t send, receive;
    uv_loop_t loop;
    char byte;

    if (channels_warm_up() != 0 || vrd_channel_create(1, &send, &receive) != 0 ||
        vrd_cap_fd(receive) < 0 || vrd_receive_async(receive, &byte, 1) != VRD_ERR_CHANNEL_EMPTY ||
        vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0)
        return -1;
    return uv_loop_init(&loop) != 0 || uv_loop_close(&loop) != 0;
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(beside_the_library_s_thread, 60),
                     SUPPORT_TEST_TIMEOUT(in_its_loop_alone, 60),
                     { 0 },
                 },
             .roles = (const struct support_role[]){ { "alone", role_alone }, { 0 } },
             .warm_up = warm_up)
