/* SPDX-License-Identifier: MIT */
/*
 * Readiness outside of calls: descriptors of capabilities in poll and epoll, the function for
 * schedulers, and sets to wait for.
 */
#include "channels.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#define SECONDS (INT64_C(1000) * MS)

/* The reactor, its timer, and all else that a process starts once. */
static int ready_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (channels_warm_up() != 0 || vrd_channel_create(1, &send, &receive) != 0)
        return -1;
    if (vrd_cap_fd(receive) < 0 || vrd_receive_async(receive, &byte, 1) != VRD_ERR_CHANNEL_EMPTY)
        return -1;
    return vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0 ? -1 : 0;
}

static bool readable(int fd, int timeout_ms)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    return poll(&entry, 1, timeout_ms) == 1 && (entry.revents & POLLIN);
}

/* Until it stays quiet: at first, and once after it ran empty, it may be readable for nothing. */
static void settle(vrd_cap_t receive, int fd)
{
    char byte;

    do
        EXPECT(vrd_receive_async(receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    while (readable(fd, 50));
}

static void it_is_readable_while_there_is_something(void **state)
{
    vrd_cap_t send, receive;
    char text[16];
    int fd;

    (void)state;
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    fd = vrd_cap_fd(receive);
    support_require(fd >= 0);
    EXPECT(vrd_cap_fd(receive), fd); /* the same again */
    settle(receive, fd);
    assert_false(readable(fd, 0));
    for (int i = 0; i < 3; i++)
        EXPECT(vrd_send(send, "some", 4), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(readable(fd, 20000));
        EXPECT(vrd_receive_async(receive, text, sizeof text), 4);
    }
    settle(receive, fd);
    EXPECT(vrd_cap_close(send), 0); /* an end is something, too */
    assert_true(readable(fd, 20000));
    EXPECT(vrd_receive_async(receive, text, sizeof text), VRD_ERR_PEER_GONE);
    assert_true(readable(fd, 0));
    EXPECT(vrd_cap_close(receive), 0);
    EXPECT(vrd_cap_fd(receive), VRD_ERR_INVALID_CAPABILITY);
}

static void a_sender_is_told_of_room(void **state)
{
    vrd_cap_t send, receive;
    char text[16];
    int fd;

    (void)state;
    EXPECT(vrd_channel_create(2, &send, &receive), 0);
    fd = vrd_cap_fd(send);
    support_require(fd >= 0);
    assert_true(readable(fd, 0));
    EXPECT(vrd_send(send, "a", 1), 0);
    EXPECT(vrd_receive(receive, text, 1), 1);
    do
        while (vrd_send_async(send, "b", 1) == 0)
            ;
    while (readable(fd, 50));
    assert_false(readable(fd, 0));
    EXPECT(vrd_receive(receive, text, sizeof text), 1);
    assert_true(readable(fd, 20000));
    EXPECT(vrd_send_async(send, "c", 1), 0);
    EXPECT(vrd_send_async(send, "d", 1), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_cap_close(receive), 0);
    assert_true(readable(fd, 20000));
    EXPECT(vrd_send_async(send, "e", 1), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(send), 0);
}

/* ---- nothing is lost --------------------------------------------------------------------------------- */

struct streams {
    vrd_cap_t send, receive;
    uint32_t n;
    bool edge;
};

static int stream_child(void *arg)
{
    const struct streams *streams = arg;
    uint64_t seed = 7;

    EXPECT(vrd_cap_close(streams->receive), 0);
    for (uint32_t i = 0; i < streams->n; i++) {
        EXPECT(vrd_send(streams->send, &i, sizeof i), 0);
        switch (random_next(&seed) % 64) {
        case 0:
            sched_yield();
            break;
        case 1:
            support_sleep_ms(random_next(&seed) % 8 == 0 ? 9 + (unsigned)random_next(&seed) % 4
                                                         : 0);
            break;
        default:
            break;
        }
    }
    return 0;
}

static void *hog(void *arg)
{
    const atomic_bool *stop = arg;

    while (!atomic_load(stop))
        ;
    return NULL;
}

/* Receives all of them, sleeping in epoll only. */
static void stream_receive(const struct streams *streams)
{
    struct epoll_event event = { .events = streams->edge ? EPOLLIN | EPOLLET : EPOLLIN };
    const int set = epoll_create1(EPOLL_CLOEXEC), fd = vrd_cap_fd(streams->receive);
    uint32_t next = 0, got;
    ssize_t result = 0;

    support_require(set >= 0 && fd >= 0);
    EXPECT(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
    while (result != VRD_ERR_PEER_GONE) {
        EXPECT(epoll_wait(set, &event, 1, 20000), 1);
        while ((result = vrd_receive_async(streams->receive, &got, sizeof got)) >= 0) {
            EXPECT(got, next);
            next++;
        }
        support_require(result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_GONE);
    }
    EXPECT(next, streams->n);
    close(set);
}

static void streams_run(bool edge)
{
    struct streams streams = { .n = (uint32_t)support_iterations(20000), .edge = edge };
    atomic_bool stop = false;
    pthread_t thread;
    pid_t child;

    EXPECT(vrd_channel_create(16, &streams.send, &streams.receive), 0);
    child = support_child(stream_child, &streams);
    EXPECT(vrd_cap_close(streams.send), 0);
    EXPECT(pthread_create(&thread, NULL, hog, &stop), 0);
    stream_receive(&streams);
    atomic_store(&stop, true);
    pthread_join(thread, NULL);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(streams.receive), 0);
}

static void no_message_is_missed_by_a_level_triggered_loop(void **state)
{
    (void)state;
    streams_run(false);
}

static void nor_by_an_edge_triggered_one(void **state)
{
    (void)state;
    streams_run(true);
}

static int killed_child(void *arg)
{
    const struct streams *streams = arg;

    EXPECT(vrd_cap_close(streams->receive), 0);
    EXPECT(vrd_send(streams->send, "last", 4), 0);
    for (;;)
        support_sleep_ms(1000);
}

static void a_death_is_something(void **state)
{
    struct streams streams;
    char text[16];
    pid_t child;
    int fd;

    (void)state;
    EXPECT(vrd_channel_create(16, &streams.send, &streams.receive), 0);
    child = support_child(killed_child, &streams);
    EXPECT(vrd_cap_close(streams.send), 0);
    EXPECT(vrd_receive(streams.receive, text, sizeof text), 4);
    fd = vrd_cap_fd(streams.receive);
    settle(streams.receive, fd);
    support_kill(child);
    assert_true(readable(fd, 20000));
    EXPECT(vrd_receive_async(streams.receive, text, sizeof text), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(streams.receive), 0);
}

/* A thread sleeps in a call while the descriptor is watched: what it leaves is told. */
static void *takes_one(void *arg)
{
    const vrd_cap_t *receive = arg;
    char text[16];

    support_require_equal(vrd_receive(*receive, text, sizeof text), 1);
    return NULL;
}

static void a_sleeping_thread_does_not_hide_the_rest(void **state)
{
    vrd_cap_t send, receive;
    pthread_t thread;
    char text[16];
    int fd;

    (void)state;
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    EXPECT(vrd_send(send, "0", 1), 0);
    EXPECT(vrd_receive(receive, text, sizeof text), 1);
    fd = vrd_cap_fd(receive);
    settle(receive, fd);
    EXPECT(pthread_create(&thread, NULL, takes_one, &receive), 0);
    support_sleep_ms(50);
    EXPECT(vrd_send_batch(
               send,
               (struct vrd_message[]){ { .data = text, .len = 1 }, { .data = text, .len = 1 } }, 2,
               VRD_FOREVER),
           2);
    pthread_join(thread, NULL);
    assert_true(readable(fd, 20000));
    EXPECT(vrd_receive_async(receive, text, sizeof text), 1);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

/* ---- the function ---------------------------------------------------------------------------------------- */

struct told {
    atomic_int n;
    _Atomic vrd_cap_t last;
    struct support_gate gate;
};

static void on_ready(vrd_cap_t cap, void *user)
{
    struct told *told = user;

    atomic_store(&told->last, cap);
    atomic_fetch_add(&told->n, 1);
    support_gate_open(&told->gate);
}

static void the_scheduler_is_told_of_the_disappointed(void **state)
{
    struct told told = { 0 };
    vrd_cap_t send, receive;
    char text[16];
    int before;

    (void)state;
    support_gate_init(&told.gate);
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    EXPECT(vrd_on_ready(on_ready, &told), 0);
    EXPECT(vrd_send(send, "a", 1), 0); /* nobody was disappointed */
    EXPECT(vrd_receive(receive, text, sizeof text), 1);
    for (int i = 0; i < 20; i++) {
        while (vrd_receive_async(receive, text, sizeof text) >= 0)
            ;
        before = atomic_load(&told.n);
        EXPECT(vrd_send(send, "b", 1), 0);
        while (atomic_load(&told.n) == before)
            support_gate_wait(&told.gate);
        EXPECT(atomic_load(&told.last), receive);
    }
    EXPECT(vrd_on_ready(NULL, NULL), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    support_gate_deinit(&told.gate);
}

/* It may use what it is told of: whoever was in a call on it at that time has left it. */
struct user_of_it {
    pthread_t application;
    atomic_int received, wrong;
    struct support_gate gate;
};

static void receives_what_it_is_told_of(vrd_cap_t cap, void *user)
{
    struct user_of_it *it = user;
    char text[16];
    ssize_t got;

    if (cap == VRD_CAP_NONE || pthread_equal(pthread_self(), it->application))
        atomic_fetch_add(&it->wrong, 1);
    while ((got = vrd_receive_async(cap, text, sizeof text)) >= 0)
        atomic_fetch_add(&it->received, 1);
    if (got != VRD_ERR_CHANNEL_EMPTY && got != VRD_ERR_PEER_GONE &&
        got != VRD_ERR_INVALID_CAPABILITY)
        atomic_fetch_add(&it->wrong, 1);
    support_gate_open(&it->gate);
}

static void the_function_may_use_the_capability(void **state)
{
    const int rounds = (int)support_iterations(2000);
    struct user_of_it it = { .application = pthread_self() };
    vrd_cap_t send, receive;
    char text[16];

    (void)state;
    support_gate_init(&it.gate);
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    EXPECT(vrd_on_ready(receives_what_it_is_told_of, &it), 0);
    EXPECT(vrd_receive_async(receive, text, sizeof text), VRD_ERR_CHANNEL_EMPTY);
    for (int i = 0; i < rounds; i++) {
        vrd_cap_t other_send, other_receive; /* a HELLO, for this thread to see or the other */

        EXPECT(vrd_channel_create(1, &other_send, &other_receive), 0);
        EXPECT(vrd_receive_async(other_receive, text, 1), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_send(other_send, "x", 1), 0);
        EXPECT(vrd_send(send, "y", 1), 0);
        if (vrd_receive_async(other_receive, text, 1) == 1)
            atomic_fetch_add(&it.received, 1);
        EXPECT(vrd_cap_close(other_receive), 0); /* armed or told, or neither */
        EXPECT(vrd_cap_close(other_send), 0);
        while (i % 16 == 15 && atomic_load(&it.received) < i + 1)
            support_gate_wait(&it.gate);
    }
    EXPECT(atomic_load(&it.wrong), 0);
    EXPECT(vrd_on_ready(NULL, NULL), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    support_gate_deinit(&it.gate);
}

/* What was disappointed and is closed is never told of, and keeps nothing else from being told. */
static void what_was_closed_does_not_hold_others_up(void **state)
{
    struct told told = { 0 };
    vrd_cap_t send, receive, sends[16], receives[16];
    char byte;
    int before;

    (void)state;
    support_gate_init(&told.gate);
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    EXPECT(vrd_on_ready(on_ready, &told), 0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 16; i++) {
            EXPECT(vrd_channel_create(8, &sends[i], &receives[i]), 0);
            EXPECT(vrd_receive_async(receives[i], &byte, 1), VRD_ERR_CHANNEL_EMPTY);
        }
        while (vrd_receive_async(receive, &byte, 1) >= 0)
            ;
        for (int i = 0; i < 16; i++) {
            EXPECT(vrd_cap_close(receives[i]), 0);
            EXPECT(vrd_cap_close(sends[i]), 0);
        }
        before = atomic_load(&told.n);
        EXPECT(vrd_send(send, "x", 1), 0);
        while (atomic_load(&told.n) == before)
            support_gate_wait(&told.gate);
        EXPECT(atomic_load(&told.last), receive);
    }
    EXPECT(vrd_on_ready(NULL, NULL), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    support_gate_deinit(&told.gate);
}

/* One thread sleeps in a call for room, another watches the descriptor: both learn of it. */
static void *sends_one(void *arg)
{
    support_require_equal(vrd_send(*(const vrd_cap_t *)arg, "s", 1), 0);
    return NULL;
}

static void a_sleeping_sender_does_not_hide_room(void **state)
{
    vrd_cap_t send, receive;
    pthread_t thread;
    char text[16];
    int fd;

    (void)state;
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_send(send, "a", 1), 0);
    EXPECT(vrd_receive(receive, text, 1), 1);
    fd = vrd_cap_fd(send);
    support_require(fd >= 0);
    do
        while (vrd_send_async(send, "b", 1) == 0)
            ;
    while (readable(fd, 50));
    EXPECT(pthread_create(&thread, NULL, sends_one, &send), 0);
    support_sleep_ms(50);
    for (int i = 0; i < 2; i++)
        EXPECT(vrd_receive(receive, text, sizeof text), 1);
    pthread_join(thread, NULL);
    assert_true(readable(fd, 20000));
    EXPECT(vrd_send_async(send, "c", 1), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

/* ---- fork ------------------------------------------------------------------------------------------------ */

struct forked {
    vrd_cap_t send, receive;
    int fd;
    struct support_gate gate;
};

/* The number is the parent's: the child's own is another one, or the same for another event. */
static int ready_child(void *arg)
{
    const struct forked *forked = arg;
    char byte;
    int fd;

    EXPECT(vrd_receive_async(forked->receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    fd = vrd_cap_fd(forked->receive);
    support_require(fd >= 0 && fd != forked->fd);
    settle(forked->receive, fd);
    EXPECT(vrd_send(forked->send, "c", 1), 0);
    assert_true(readable(fd, 20000));
    EXPECT(vrd_receive(forked->receive, &byte, 1), 1);
    close(forked->fd);
    support_gate_wait(&forked->gate);
    return 0;
}

static void a_child_asks_for_its_own(void **state)
{
    struct forked forked;
    pid_t child;

    (void)state;
    support_gate_init(&forked.gate);
    EXPECT(vrd_channel_create(4, &forked.send, &forked.receive), 0);
    forked.fd = vrd_cap_fd(forked.receive);
    support_require(forked.fd >= 0);
    child = support_child(ready_child, &forked);
    support_gate_open(&forked.gate);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(forked.send), 0);
    EXPECT(vrd_cap_close(forked.receive), 0);
    support_gate_deinit(&forked.gate);
}

/* A function is inherited, and what calls it is not: the child gets its own with the first need. */
static int told_child(void *arg)
{
    struct told *told = arg;
    vrd_cap_t send, receive;
    char byte;

    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_receive_async(receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_send(send, "x", 1), 0);
    while (atomic_load(&told->n) == 0)
        support_gate_wait(&told->gate);
    EXPECT(atomic_load(&told->last), receive);
    return 0;
}

static void a_child_has_the_function_too(void **state)
{
    struct told told = { 0 };

    (void)state;
    support_gate_init(&told.gate);
    EXPECT(vrd_on_ready(on_ready, &told), 0);
    support_wait_exit(support_child(told_child, &told), 0);
    EXPECT(vrd_on_ready(NULL, NULL), 0);
    EXPECT(atomic_load(&told.n), 0);
    support_gate_deinit(&told.gate);
}

/* Once it is taken back it is not running any more, either. */
static void slow(vrd_cap_t cap, void *user)
{
    atomic_int *running = user;

    (void)cap;
    atomic_fetch_add(running, 1);
    support_sleep_ms(5);
    atomic_fetch_sub(running, 1);
}

static void what_was_taken_back_is_not_running(void **state)
{
    vrd_cap_t send, receive;
    char byte;

    (void)state;
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    for (int i = 0; i < 30; i++) {
        atomic_int running = 0;

        EXPECT(vrd_on_ready(slow, &running), 0);
        EXPECT(vrd_receive_async(receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_send(send, "x", 1), 0);
        support_sleep_ms((unsigned)i % 4);
        EXPECT(vrd_on_ready(NULL, NULL), 0);
        EXPECT(atomic_load(&running), 0);
        EXPECT(vrd_receive(receive, &byte, 1), 1);
    }
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static int holding_child(void *arg)
{
    support_gate_wait(arg); /* holds copies of all that its parent had open, and does nothing */
    return 0;
}

static void a_copy_in_a_child_keeps_nothing_in_a_set(void **state)
{
    struct support_gate gate;
    struct vrd_waitset *set;
    struct vrd_event event;
    vrd_cap_t send, receive;
    pid_t child;

    (void)state;
    support_gate_init(&gate);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_waitset_new(&set), 0);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = receive }), 0);
    child = support_child(holding_child, &gate);
    EXPECT(vrd_waitset_wait(set, &event, 1, 20 * SECONDS), 1); /* at first, whatever there is */
    EXPECT(vrd_cap_close(receive), 0);
    EXPECT(vrd_waitset_wait(set, &event, 1, 30 * MS), VRD_ERR_TIMEOUT);
    vrd_waitset_free(set);
    support_gate_open(&gate);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(send), 0);
    support_gate_deinit(&gate);
}

/* ---- sets ----------------------------------------------------------------------------------------------------- */

static void a_set_of_many_kinds(void **state)
{
    struct vrd_waitset *set;
    struct vrd_event events[8];
    vrd_cap_t send, receive, other_send, other_receive;
    char text[16];
    int pipe_fds[2];

    (void)state;
    EXPECT(pipe(pipe_fds), 0);
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    EXPECT(vrd_channel_create(8, &other_send, &other_receive), 0);
    EXPECT(vrd_waitset_new(&set), 0);
    EXPECT(vrd_waitset_wait(set, events, 8, 0), VRD_ERR_TIMEOUT);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = receive, .user = &receive }), 0);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = other_receive }), 0);
    EXPECT(vrd_waitset_add(set,
                           &(struct vrd_event){ .fd = pipe_fds[0], .events = VRD_EVENT_READABLE }),
           0);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .fd = pipe_fds[0] }), VRD_ERR_RESOURCE_BUSY);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = receive }), VRD_ERR_RESOURCE_BUSY);
    for (int quiet = 0; quiet < 3;) { /* see settle() */
        (void)vrd_receive_async(receive, text, 1);
        (void)vrd_receive_async(other_receive, text, 1);
        quiet = vrd_waitset_wait(set, events, 8, 20 * MS) == VRD_ERR_TIMEOUT ? quiet + 1 : 0;
    }
    EXPECT(vrd_send(send, "x", 1), 0);
    EXPECT(vrd_waitset_wait(set, events, 8, 20 * SECONDS), 1);
    EXPECT(events[0].cap, receive);
    EXPECT(events[0].events, VRD_EVENT_READY);
    support_require(events[0].user == &receive);
    EXPECT(write(pipe_fds[1], "y", 1), 1);
    EXPECT(vrd_waitset_wait(set, events, 8, 20 * SECONDS), 2);
    EXPECT(vrd_waitset_wait(set, events, 1, 20 * SECONDS), 1);
    EXPECT(vrd_waitset_remove(set, &(struct vrd_event){ .cap = receive }), 0);
    EXPECT(vrd_waitset_remove(set, &(struct vrd_event){ .cap = receive }),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_wait(set, events, 8, 20 * SECONDS), 1);
    EXPECT(events[0].cap, VRD_CAP_NONE);
    EXPECT(events[0].fd, pipe_fds[0]);
    EXPECT(events[0].events, VRD_EVENT_READABLE);
    EXPECT(vrd_waitset_remove(set, &(struct vrd_event){ .fd = pipe_fds[0] }), 0);
    EXPECT(vrd_cap_close(other_receive), 0); /* and leaves the set */
    EXPECT(vrd_waitset_wait(set, events, 8, 30 * MS), VRD_ERR_TIMEOUT);
    vrd_waitset_free(set);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    EXPECT(vrd_cap_close(other_send), 0);
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

static void wrong_arguments(void **state)
{
    struct vrd_waitset *set;
    struct vrd_event event = { 0 };

    (void)state;
    EXPECT(vrd_waitset_new(NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_new(&set), 0);
    EXPECT(vrd_waitset_add(set, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_add(NULL, &event), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .fd = -1 }), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .fd = 9999 }), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .fd = 0, .events = VRD_EVENT_READY }),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = 12345 }), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_waitset_wait(set, &event, 1, -2), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_wait(set, NULL, 1, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_waitset_wait(set, &event, 0, 0), 0);
    vrd_waitset_free(set);
    vrd_waitset_free(NULL);
    EXPECT(vrd_cap_fd(VRD_CAP_NONE), VRD_ERR_INVALID_CAPABILITY);
}

/* An endpoint's server in a loop, and its client in another process. */
static int client_child(void *arg)
{
    const int *invitation = arg;
    vrd_cap_t cap;
    char reply[8];

    EXPECT(vrd_cap_import(*invitation, &cap), 0);
    for (int i = 0; i < 100; i++)
        EXPECT(vrd_call(cap, &i, sizeof i, reply, sizeof reply, 20 * SECONDS), sizeof i);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void a_server_in_an_event_loop(void **state)
{
    struct vrd_waitset *set;
    struct vrd_event event;
    vrd_cap_t endpoint, reply;
    uint64_t id;
    int invitation, served = 0;
    pid_t child;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    EXPECT(vrd_cap_export(endpoint, VRD_RIGHT_SEND, &invitation), 0);
    child = support_child(client_child, &invitation);
    close(invitation);
    EXPECT(vrd_waitset_new(&set), 0);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = endpoint }), 0);
    while (served < 100) {
        int number;
        struct vrd_message request = { .data = &number, .size = sizeof number };

        EXPECT(vrd_waitset_wait(set, &event, 1, 20 * SECONDS), 1);
        while (vrd_receive_call(endpoint, &request, &reply, 0) == 0) {
            EXPECT(number, served);
            EXPECT(vrd_reply(reply, &number, sizeof number), 0);
            served++;
        }
    }
    support_wait_exit(child, 0);
    vrd_waitset_free(set);
    EXPECT(vrd_cap_close(endpoint), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(it_is_readable_while_there_is_something),
                     SUPPORT_TEST(a_sender_is_told_of_room),
                     SUPPORT_TEST(no_message_is_missed_by_a_level_triggered_loop),
                     SUPPORT_TEST(nor_by_an_edge_triggered_one),
                     SUPPORT_TEST(a_death_is_something),
                     SUPPORT_TEST(a_sleeping_thread_does_not_hide_the_rest),
                     SUPPORT_TEST(the_scheduler_is_told_of_the_disappointed),
                     SUPPORT_TEST(the_function_may_use_the_capability),
                     SUPPORT_TEST(what_was_closed_does_not_hold_others_up),
                     SUPPORT_TEST(a_sleeping_sender_does_not_hide_room),
                     SUPPORT_TEST(a_child_asks_for_its_own),
                     SUPPORT_TEST(a_child_has_the_function_too),
                     SUPPORT_TEST(what_was_taken_back_is_not_running),
                     SUPPORT_TEST(a_copy_in_a_child_keeps_nothing_in_a_set),
                     SUPPORT_TEST(a_set_of_many_kinds),
                     SUPPORT_TEST(wrong_arguments),
                     SUPPORT_TEST(a_server_in_an_event_loop),
                     { 0 },
                 },
             .warm_up = ready_warm_up)
