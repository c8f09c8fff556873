/* SPDX-License-Identifier: MIT */
/* Capabilities in libuv's loop: with the library's thread, and in its loop alone. */
#include "loops/stream.h"

#include <uv.h>

struct watched {
    struct stream stream;
    uv_poll_t ready, library;
};

static void on_library(uv_poll_t *handle, int status, int events)
{
    (void)handle;
    EXPECT(status, 0);
    support_require(events & UV_READABLE);
    EXPECT(vrd_reactor_dispatch(), 0);
}

static void on_readable(uv_poll_t *handle, int status, int events)
{
    struct watched *watched = handle->data;

    EXPECT(status, 0);
    support_require(events & UV_READABLE);
    if (!stream_take(&watched->stream))
        return;
    uv_close((uv_handle_t *)&watched->ready, NULL);
    if (watched->stream.threadless)
        uv_close((uv_handle_t *)&watched->library, NULL);
}

static void stream_run(bool threadless)
{
    struct watched watched;
    uv_loop_t loop;
    pid_t child = stream_start(&watched.stream, threadless);

    EXPECT(uv_loop_init(&loop), 0);
    EXPECT(uv_poll_init(&loop, &watched.ready, vrd_cap_fd(watched.stream.receive)), 0);
    watched.ready.data = &watched;
    EXPECT(uv_poll_start(&watched.ready, UV_READABLE, on_readable), 0);
    if (threadless) {
        EXPECT(uv_poll_init(&loop, &watched.library, vrd_reactor_fd()), 0);
        EXPECT(uv_poll_start(&watched.library, UV_READABLE, on_library), 0);
    }
    EXPECT(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT(uv_loop_close(&loop), 0);
    stream_finish(&watched.stream, child);
}

/* Also what libuv opens once. */
static int warm_up(void)
{
    uv_loop_t loop;

    return stream_warm_up() != 0 || uv_loop_init(&loop) != 0 || uv_loop_close(&loop) != 0;
}

STREAM_MAIN(warm_up)
