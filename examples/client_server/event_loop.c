/* SPDX-License-Identifier: MIT */
/*
 * event_loop.c - the server once more, in a program that has one thread and a loop of its own: what
 * the library has to do, calls, and the wish to end are three descriptors among others.
 *
 *   event_loop NAME [CALLS]    ends after so many calls, or at SIGINT or SIGTERM
 */
#include <veridian/ipc.h>

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

static int complain(const char *what, int err)
{
    fprintf(stderr, "event_loop: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

/* Answers calls until there are none: only then does the descriptor fall silent. */
static int serve_all(vrd_cap_t endpoint, long *calls)
{
    char text[4096];
    struct vrd_message request = { .data = text, .size = sizeof(text) };
    vrd_cap_t reply;
    int err;

    while (*calls != 0 &&
           (err = vrd_receive_call(endpoint, &request, &reply, 0)) != VRD_ERR_CHANNEL_EMPTY) {
        if (err == VRD_ERR_MESSAGE_TOO_LARGE)
            err = vrd_discard(endpoint);
        else if (err == VRD_ERR_PEER_CORRUPT) /* one client's fault, and not our end */
            err = VRD_OK;
        else if (err == VRD_OK && reply != VRD_CAP_NONE) {
            for (size_t i = 0; i < request.len; i++)
                text[i] = (char)toupper((unsigned char)text[i]);
            vrd_reply(reply, text, request.len); /* an error is the client's end, not ours */
            *calls -= *calls > 0;
        }
        if (err < 0)
            return err;
    }
    return VRD_OK;
}

static int watch(int set, int fd)
{
    struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

    return fd < 0 ? fd : epoll_ctl(set, EPOLL_CTL_ADD, fd, &event);
}

static int loop(vrd_cap_t endpoint, long calls, int ending)
{
    int set = epoll_create1(EPOLL_CLOEXEC);
    int library = vrd_reactor_fd(), ready = vrd_cap_fd(endpoint);
    struct epoll_event event;
    int err = VRD_OK;

    if (watch(set, library) < 0 || watch(set, ready) < 0 || watch(set, ending) < 0)
        err = VRD_ERR_SYSTEM;
    while (err == VRD_OK && calls != 0) {
        if (epoll_wait(set, &event, 1, -1) < 1)
            continue;
        if (event.data.fd == library)
            err = vrd_reactor_dispatch();
        else if (event.data.fd == ready)
            err = serve_all(endpoint, &calls);
        else
            break;
    }
    close(set);
    return err;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: event_loop NAME [CALLS]\n");
        return 2;
    }
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int ending = signalfd(-1, &signals, SFD_CLOEXEC);

    uint64_t id;
    vrd_cap_t endpoint = VRD_CAP_NONE;
    int err = vrd_init(&(struct vrd_init_options){ .flags = VRD_INIT_NO_THREAD });
    if (err == VRD_OK)
        err = vrd_endpoint_create(&id, &endpoint);
    if (err < 0)
        return complain("endpoint", err);
    err = vrd_publish(endpoint, argv[1], NULL);
    if (err < 0)
        return complain(argv[1], err);

    err = loop(endpoint, argc > 2 ? strtol(argv[2], NULL, 10) : -1, ending);
    vrd_unpublish(argv[1]);
    vrd_cap_close(endpoint);
    close(ending);
    return err < 0 ? complain("loop", err) : 0;
}
