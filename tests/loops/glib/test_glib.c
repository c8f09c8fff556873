/* SPDX-License-Identifier: MIT */
/* Capabilities in GLib's main loop: with the library's thread, and in its loop alone. */
#include "loops/stream.h"

#include <glib-unix.h>

struct watched {
    struct stream stream;
    GMainLoop *loop;
};

static gboolean on_library(gint fd, GIOCondition condition, gpointer user)
{
    (void)fd;
    (void)user;
    support_require(condition & G_IO_IN);
    EXPECT(vrd_reactor_dispatch(), 0);
    return G_SOURCE_CONTINUE;
}

static gboolean on_readable(gint fd, GIOCondition condition, gpointer user)
{
    struct watched *watched = user;

    (void)fd;
    support_require(condition & G_IO_IN);
    if (!stream_take(&watched->stream))
        return G_SOURCE_CONTINUE;
    g_main_loop_quit(watched->loop);
    return G_SOURCE_REMOVE;
}

/* Calls `function` when the descriptor is readable, until the context goes. */
static void watch(GMainContext *context, int fd, GUnixFDSourceFunc function, void *user)
{
    GSource *source = g_unix_fd_source_new(fd, G_IO_IN);

    support_require(fd >= 0);
    /* that type is what GLib calls a source's function by, whatever it takes */
    g_source_set_callback(source, (GSourceFunc)(void (*)(void))function, user, NULL);
    g_source_attach(source, context);
    g_source_unref(source);
}

static void stream_run(bool threadless)
{
    struct watched watched;
    pid_t child = stream_start(&watched.stream, threadless);
    GMainContext *context = g_main_context_new();

    watched.loop = g_main_loop_new(context, FALSE);
    watch(context, vrd_cap_fd(watched.stream.receive), on_readable, &watched);
    if (threadless)
        watch(context, vrd_reactor_fd(), on_library, NULL);
    g_main_loop_run(watched.loop);
    g_main_loop_unref(watched.loop);
    g_main_context_unref(context);
    stream_finish(&watched.stream, child);
}

/* Also what GLib opens once. */
static int warm_up(void)
{
    if (stream_warm_up() != 0)
        return -1;
    g_main_context_unref(g_main_context_new());
    return 0;
}

STREAM_MAIN(warm_up)
