/* SPDX-License-Identifier: MIT */
/*
 * No-thread mode: the essentials of channels, endpoints, names, descriptors and sets in programs that
 * have the one thread they started with.
 *
 * ctest: timeout=240
 */
#include "endpoints.h"
#include "process/tasks.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/epoll.h>

#define SECONDS (INT64_C(1000) * MS)

static const struct vrd_init_options no_thread = { .flags = VRD_INIT_NO_THREAD };

static bool readable(int fd, int timeout_ms)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    return poll(&entry, 1, timeout_ms) == 1;
}

/* Every role is a program of its own, in this mode, and has one thread at its end as at its beginning. */
static void begin(void)
{
    EXPECT(vrd_init(&no_thread), 0);
    EXPECT(tasks_count(), 1);
}

static int end(void)
{
    EXPECT(tasks_count(), 1);
    return 0;
}

static void run(const char *role)
{
    support_wait_exit(support_spawn_role(role, NULL, 0, NULL), 0);
}

#define TEST_OF(role) \
    static void role(void **state) \
    { \
        (void)state; \
        run(#role); \
    }

/* ---- the mode ------------------------------------------------------------------------------------- */

static int role_chooses(struct support_role_args *args)
{
    struct vrd_init_options odd = { .flags = UINT64_C(1) << 63 };
    vrd_cap_t send, receive;

    (void)args;
    EXPECT(vrd_init(&odd), VRD_ERR_INVALID_ARGUMENT);
    odd = (struct vrd_init_options){ .reserved[11] = 1 };
    EXPECT(vrd_init(&odd), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_init(&no_thread), 0); /* what failed has set up nothing */
    EXPECT(vrd_init(&no_thread), VRD_ERR_RESOURCE_BUSY);
    EXPECT(vrd_init(NULL), VRD_ERR_RESOURCE_BUSY);
    support_require(vrd_reactor_fd() >= 0);
    EXPECT(vrd_reactor_fd(), vrd_reactor_fd());
    EXPECT(vrd_reactor_dispatch(), 0);
    EXPECT(vrd_channel_create(1, &send, &receive), 0);
    return end();
}

static int role_comes_late(struct support_role_args *args)
{
    vrd_cap_t send, receive;

    (void)args;
    EXPECT(vrd_channel_create(1, &send, &receive), 0);
    EXPECT(vrd_init(&no_thread), VRD_ERR_RESOURCE_BUSY);
    EXPECT(vrd_reactor_fd(), VRD_ERR_NOT_INITIALIZED);
    EXPECT(vrd_reactor_dispatch(), VRD_ERR_NOT_INITIALIZED);
    return 0;
}

static int role_has_a_thread(struct support_role_args *args)
{
    vrd_cap_t send, receive;
    char byte;

    (void)args;
    EXPECT(vrd_init(NULL), 0);
    EXPECT(vrd_reactor_fd(), VRD_ERR_NOT_INITIALIZED);
    EXPECT(vrd_channel_create(1, &send, &receive), 0);
    EXPECT(vrd_receive_timed(receive, &byte, 1, 50 * MS), VRD_ERR_TIMEOUT);
    EXPECT(tasks_count(), 2);
    return 0;
}

static void the_mode_is_chosen_first_or_not_at_all(void **state)
{
    (void)state;
    run("chooses");
    run("comes_late");
    run("has_a_thread");
}

/* ---- waiting in calls --------------------------------------------------------------------------------- */

struct pair {
    vrd_cap_t there, back; /* what this side sends with, and receives with */
    uint32_t rounds;
};

static int echo_child(void *arg)
{
    const struct pair *pair = arg;
    uint64_t seed = 3;
    uint32_t number;

    for (uint32_t i = 0; i < pair->rounds; i++) {
        EXPECT(vrd_receive(pair->back, &number, sizeof number), sizeof number);
        EXPECT(number, i);
        if (random_next(&seed) % 8 == 0) /* now and then the other side sleeps for good */
            support_sleep_ms((unsigned)random_next(&seed) % 15);
        EXPECT(vrd_send(pair->there, &number, sizeof number), 0);
    }
    return end();
}

/* Both sleep, each in turn, and neither has a thread to be woken by. */
static int role_waits(struct support_role_args *args)
{
    struct pair pair = { .rounds = 400 }, other;
    uint32_t number;
    pid_t child;
    char byte;

    (void)args;
    begin();
    EXPECT(vrd_channel_create(4, &pair.there, &other.back), 0);
    EXPECT(vrd_channel_create(4, &other.there, &pair.back), 0);
    other.rounds = pair.rounds;
    child = support_child(echo_child, &other);
    for (uint32_t i = 0; i < pair.rounds; i++) {
        EXPECT(vrd_send(pair.there, &i, sizeof i), 0);
        EXPECT(vrd_receive(pair.back, &number, sizeof number), sizeof number);
        EXPECT(number, i);
    }
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(other.there), 0);
    EXPECT(vrd_receive(pair.back, &byte, 1), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(pair.back), 0);
    EXPECT(vrd_cap_close(pair.there), 0);
    EXPECT(vrd_cap_close(other.back), 0);
    return end();
}
TEST_OF(waits)

static int drain_child(void *arg)
{
    const struct pair *pair = arg;
    uint32_t index = 0;
    int64_t result;
    struct number number;

    EXPECT(vrd_cap_close(pair->there), 0);
    support_sleep_ms(30); /* the ring is full by now */
    while ((result = numbered_receive_any(pair->back, &number, VRD_FOREVER)) >= 0) {
        EXPECT(number.index, index);
        if (index++ % 64 == 0)
            support_sleep_ms(12);
    }
    EXPECT(result, VRD_ERR_PEER_GONE);
    EXPECT(index, pair->rounds);
    return end();
}

/* A full ring, and messages for which the ring has no room. */
static int role_fills(struct support_role_args *args)
{
    struct pair pair = { .rounds = 500 };
    pid_t child;

    (void)args;
    begin();
    EXPECT(vrd_channel_create(4, &pair.there, &pair.back), 0);
    child = support_child(drain_child, &pair);
    EXPECT(vrd_cap_close(pair.back), 0);
    for (uint32_t i = 0; i < pair.rounds; i++)
        numbered_send(pair.there, 0, i, i % 7 == 0 ? 3000 : 40);
    EXPECT(vrd_cap_close(pair.there), 0);
    support_wait_exit(child, 0);
    return end();
}
TEST_OF(fills)

static int role_times_out(struct support_role_args *args)
{
    vrd_cap_t send, receive;
    char byte;
    int64_t began;

    (void)args;
    begin();
    EXPECT(vrd_channel_create(1, &send, &receive), 0);
    EXPECT(vrd_receive_timed(receive, &byte, 1, 0), VRD_ERR_CHANNEL_EMPTY);
    began = now_ns();
    EXPECT(vrd_receive_timed(receive, &byte, 1, 60 * MS), VRD_ERR_TIMEOUT);
    support_require(now_ns() - began >= 60 * MS);
    EXPECT(vrd_send(send, "x", 1), 0);
    EXPECT(vrd_send_timed(send, "y", 1, 60 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_receive(receive, &byte, 1), 1);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_receive_timed(receive, &byte, 1, 10 * SECONDS), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(receive), 0);
    return end();
}
TEST_OF(times_out)

static int asleep_child(void *arg)
{
    const struct pair *pair = arg;

    EXPECT(vrd_cap_close(pair->back), 0);
    EXPECT(vrd_send(pair->there, "last", 4), 0);
    for (;;)
        support_sleep_ms(1000);
}

/* The other one is killed while this one sleeps for good. */
static int killer_child(void *arg)
{
    support_sleep_ms(100);
    EXPECT(kill(*(const pid_t *)arg, SIGKILL), 0);
    return 0;
}

static int role_sees_a_death(struct support_role_args *args)
{
    struct pair pair = { .rounds = 0 };
    pid_t child, killer;
    char text[8];

    (void)args;
    begin();
    EXPECT(vrd_channel_create(4, &pair.there, &pair.back), 0);
    child = support_child(asleep_child, &pair);
    EXPECT(vrd_cap_close(pair.there), 0);
    killer = support_child(killer_child, &child);
    EXPECT(vrd_receive(pair.back, text, sizeof text), 4);
    EXPECT(vrd_receive(pair.back, text, sizeof text), VRD_ERR_PEER_GONE);
    support_wait_signal(child, SIGKILL);
    support_wait_exit(killer, 0);
    EXPECT(vrd_cap_close(pair.back), 0);
    return end();
}
TEST_OF(sees_a_death)

static int calls_child(void *arg)
{
    vrd_cap_t cap;

    EXPECT(vrd_cap_import(*(const int *)arg, &cap), 0);
    for (uint32_t i = 0; i < 200; i++)
        numbered_call(cap, 1, i, i % 16 == 0 ? 5000 : 32);
    EXPECT(vrd_cap_close(cap), 0);
    return end();
}

/* Calls, revoking and carrying: all that waits for an answer of some kind. */
static int role_serves(struct support_role_args *args)
{
    static const uint8_t large[10000];
    uint8_t data[8192];
    struct vrd_message request = { .data = data, .size = sizeof data };
    vrd_cap_t endpoint, derived, reply;
    int invitation;
    pid_t child;

    (void)args;
    begin();
    endpoint = endpoint_new();
    EXPECT(vrd_cap_export(endpoint, VRD_RIGHT_SEND, &invitation), 0);
    child = support_child(calls_child, &invitation);
    close(invitation);
    for (int served = 0; served < 200; served++) {
        EXPECT(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
        number_answer(data, request.len);
        if (served % 32 == 0)
            support_sleep_ms(15);
        EXPECT(vrd_reply(reply, data, request.len), 0);
    }
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_derive(endpoint, VRD_RIGHT_SEND, &derived), 0);
    EXPECT(vrd_send(derived, "x", 1), 0);
    EXPECT(vrd_cap_revoke(endpoint), 0);
    EXPECT(vrd_send(derived, "y", 1), VRD_ERR_REVOKED);
    EXPECT(vrd_cap_close(derived), 0);
    for (size_t len = 100; len <= sizeof large; len *= 100) { /* it has to be told of memory */
        EXPECT(vrd_cap_derive(endpoint, VRD_RIGHT_SEND, &derived), 0);
        EXPECT(vrd_send(derived, "x", 1), 0);
        EXPECT(vrd_cap_revoke(endpoint), 0);
        EXPECT(vrd_send(derived, large, len), VRD_ERR_REVOKED);
        EXPECT(vrd_cap_close(derived), 0);
    }
    EXPECT(vrd_cap_close(endpoint), 0);
    return end();
}
TEST_OF(serves)

/* ---- the application's own loop ------------------------------------------------------------------------- */

/* Sleeps on both descriptors, and serves the library's when it is to be served. */
static void loop_once(int fd)
{
    struct pollfd entries[2] = { { .fd = fd, .events = POLLIN },
                                 { .fd = vrd_reactor_fd(), .events = POLLIN } };

    support_require(poll(entries, 2, 20000) > 0);
    if (entries[1].revents)
        EXPECT(vrd_reactor_dispatch(), 0);
}

static int stream_child(void *arg)
{
    const struct pair *pair = arg;
    uint64_t seed = 11;

    EXPECT(vrd_cap_close(pair->back), 0);
    for (uint32_t i = 0; i < pair->rounds; i++) {
        EXPECT(vrd_send(pair->there, &i, sizeof i), 0);
        if (random_next(&seed) % 64 == 0)
            sched_yield();
        if (random_next(&seed) % 512 == 0)
            support_sleep_ms(9 + (unsigned)random_next(&seed) % 4);
    }
    return end();
}

static int role_loops(struct support_role_args *args)
{
    struct pair pair = { .rounds = (uint32_t)support_iterations(10000) };
    uint32_t next = 0, got;
    ssize_t result = 0;
    pid_t child;
    int fd;

    (void)args;
    begin();
    EXPECT(vrd_channel_create(16, &pair.there, &pair.back), 0);
    child = support_child(stream_child, &pair);
    EXPECT(vrd_cap_close(pair.there), 0);
    fd = vrd_cap_fd(pair.back);
    support_require(fd >= 0);
    while (result != VRD_ERR_PEER_GONE) {
        loop_once(fd);
        while ((result = vrd_receive_async(pair.back, &got, sizeof got)) >= 0) {
            EXPECT(got, next);
            next++;
        }
        support_require(result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_GONE);
    }
    EXPECT(next, pair.rounds);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(pair.back), 0);
    return end();
}
TEST_OF(loops)

struct told {
    pthread_t thread;
    vrd_cap_t cap;
    int n, wrong;
};

static void on_ready(vrd_cap_t cap, void *user)
{
    struct told *told = user;

    told->n += cap == told->cap;
    told->wrong += !pthread_equal(pthread_self(), told->thread);
}

/* The function is called in dispatch, whoever has found the reason for it. */
static int role_is_told(struct support_role_args *args)
{
    struct told told = { .thread = pthread_self() };
    vrd_cap_t send, other_send, other_receive;
    char byte;

    (void)args;
    begin();
    EXPECT(vrd_channel_create(4, &send, &told.cap), 0);
    EXPECT(vrd_channel_create(4, &other_send, &other_receive), 0);
    EXPECT(vrd_on_ready(on_ready, &told), 0);
    for (int i = 0; i < 50; i++) {
        const int before = told.n;

        EXPECT(vrd_receive_async(told.cap, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
        EXPECT(vrd_send(send, "x", 1), 0);
        (void)vrd_receive_async(other_receive, &byte, 1); /* finds it on the way, and only that */
        EXPECT(told.n, before);
        while (told.n == before) {
            support_require(readable(vrd_reactor_fd(), 20000));
            EXPECT(vrd_reactor_dispatch(), 0);
        }
        EXPECT(vrd_receive_async(told.cap, &byte, 1), 1);
    }
    EXPECT(told.wrong, 0);
    while (readable(vrd_reactor_fd(), 30)) /* and then there is peace */
        EXPECT(vrd_reactor_dispatch(), 0);
    EXPECT(vrd_on_ready(NULL, NULL), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(told.cap), 0);
    EXPECT(vrd_cap_close(other_send), 0);
    EXPECT(vrd_cap_close(other_receive), 0);
    return end();
}
TEST_OF(is_told)

static int two_children(void *arg)
{
    const struct pair *pair = arg;

    EXPECT(vrd_cap_close(pair->back), 0);
    for (uint32_t i = 0; i < pair->rounds; i++) {
        EXPECT(vrd_send(pair->there, &i, sizeof i), 0);
        support_sleep_ms(i % 4 == 0 ? 12 : 0);
    }
    return end();
}

/* A set serves the library's loop while it waits; capabilities come and go, and descriptors stay. */
static int role_has_a_set(struct support_role_args *args)
{
    struct pair pair = { .rounds = 100 };
    struct vrd_waitset *set;
    struct vrd_event events[4];
    uint32_t next = 0, got;
    int pipe_fds[2], n = 0;
    pid_t child;
    char byte;

    (void)args;
    begin();
    EXPECT(pipe(pipe_fds), 0);
    EXPECT(vrd_waitset_new(&set), 0);
    EXPECT(vrd_waitset_wait(set, events, 4, 0), VRD_ERR_TIMEOUT);
    EXPECT(vrd_waitset_wait(set, events, 4, 20 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_channel_create(4, &pair.there, &pair.back), 0);
    child = support_child(two_children, &pair);
    EXPECT(vrd_cap_close(pair.there), 0);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = pair.back }), 0);
    EXPECT(vrd_waitset_add(set,
                           &(struct vrd_event){ .fd = pipe_fds[0], .events = VRD_EVENT_READABLE }),
           0);
    EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .fd = pipe_fds[0] }), VRD_ERR_RESOURCE_BUSY);
    while (next < pair.rounds) {
        n = vrd_waitset_wait(set, events, 4, 20 * SECONDS);
        EXPECT(n, 1);
        EXPECT(events[0].cap, pair.back);
        while (vrd_receive_async(pair.back, &got, sizeof got) >= 0) {
            EXPECT(got, next);
            next++;
        }
    }
    support_wait_exit(child, 0);
    EXPECT(write(pipe_fds[1], "x", 1), 1);
    do
        n = vrd_waitset_wait(set, events, 1, 20 * SECONDS);
    while (n == 1 && events[0].cap != VRD_CAP_NONE);
    EXPECT(n, 1);
    EXPECT(events[0].fd, pipe_fds[0]);
    EXPECT(events[0].events, VRD_EVENT_READABLE);
    EXPECT(read(pipe_fds[0], &byte, 1), 1);
    EXPECT(vrd_cap_close(pair.back), 0);
    EXPECT(vrd_waitset_wait(set, events, 4, 20 * MS), VRD_ERR_TIMEOUT);
    close(pipe_fds[1]);
    EXPECT(vrd_waitset_wait(set, events, 4, 20 * SECONDS), 1);
    support_require((events[0].events & VRD_EVENT_HANGUP) != 0);
    EXPECT(vrd_waitset_remove(set, &(struct vrd_event){ .fd = pipe_fds[0] }), 0);
    close(pipe_fds[0]);
    for (int i = 0; i < 40; i++) { /* the same descriptor numbers, for others, again and again */
        EXPECT(vrd_channel_create(4, &pair.there, &pair.back), 0);
        EXPECT(vrd_waitset_add(set, &(struct vrd_event){ .cap = pair.back }), 0);
        EXPECT(vrd_waitset_wait(set, events, 4, 20 * SECONDS), 1);
        EXPECT(events[0].cap, pair.back);
        EXPECT(vrd_cap_close(pair.back), 0);
        EXPECT(vrd_cap_close(pair.there), 0);
    }
    EXPECT(vrd_waitset_wait(set, events, 4, 0), VRD_ERR_TIMEOUT);
    vrd_waitset_free(set);
    return end();
}
TEST_OF(has_a_set)

/* ---- names -------------------------------------------------------------------------------------------------- */

static bool admits(const struct vrd_source *who, void *user)
{
    (*(int *)user)++;
    return who->uid == getuid();
}

static int connects_child(void *arg)
{
    vrd_cap_t cap;

    (void)arg;
    EXPECT(vrd_connect("no-thread", 20 * SECONDS, &cap), 0);
    for (uint32_t i = 0; i < 20; i++)
        numbered_call(cap, 2, i, 16);
    EXPECT(vrd_cap_close(cap), 0);
    return end();
}

static int role_publishes(struct support_role_args *args)
{
    uint8_t data[64];
    struct vrd_message request = { .data = data, .size = sizeof data };
    int asked = 0;
    const struct vrd_publish_options options = { .allow = admits, .user = &asked };
    vrd_cap_t endpoint = VRD_CAP_NONE, own, reply;
    pid_t child;

    (void)args;
    begin();
    child = support_child(connects_child, NULL); /* before there is a name */
    support_sleep_ms(30);
    endpoint = endpoint_new();
    EXPECT(vrd_publish(endpoint, "no-thread", &options), 0);
    EXPECT(vrd_connect("no-thread", 10 * SECONDS, &own), 0); /* it serves itself meanwhile */
    EXPECT(vrd_cap_close(own), 0);
    for (int i = 0; i < 20; i++) {
        EXPECT(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
        number_answer(data, request.len);
        EXPECT(vrd_reply(reply, data, request.len), 0);
    }
    EXPECT(asked, 2);
    support_wait_exit(child, 0);
    EXPECT(vrd_unpublish("no-thread"), 0);
    EXPECT(vrd_cap_close(endpoint), 0);
    return end();
}

static void publishes(void **state)
{
    (void)state;
    (void)support_runtime_dir(); /* which roles inherit */
    run("publishes");
}

/* ---- an application with threads of its own -------------------------------------------------------------------- */

struct waiter {
    vrd_cap_t receive;
    uint32_t n;
    pthread_t thread;
};

static void *waiter_run(void *arg)
{
    const struct waiter *waiter = arg;
    uint32_t number;

    for (uint32_t i = 0; i < waiter->n; i++) {
        support_require_equal(vrd_receive(waiter->receive, &number, sizeof number), sizeof number);
        support_require_equal(number, i);
    }
    return NULL;
}

static void *dispatcher_run(void *arg)
{
    const atomic_bool *stop = arg;

    while (!atomic_load(stop)) {
        (void)readable(vrd_reactor_fd(), 20);
        support_require_equal(vrd_reactor_dispatch(), 0);
    }
    return NULL;
}

/* Several sleep at a time, one serves besides: what one handles, another may be waiting for. */
static int role_has_threads(struct support_role_args *args)
{
    struct waiter waiters[3];
    vrd_cap_t sends[3];
    const uint32_t n = 100;
    atomic_bool stop = false;
    pthread_t dispatcher;

    (void)args;
    begin();
    EXPECT(pthread_create(&dispatcher, NULL, dispatcher_run, &stop), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT(vrd_channel_create(2, &sends[i], &waiters[i].receive), 0);
        waiters[i].n = n;
        EXPECT(pthread_create(&waiters[i].thread, NULL, waiter_run, &waiters[i]), 0);
    }
    for (uint32_t k = 0; k < n; k++) {
        for (int i = 0; i < 3; i++)
            EXPECT(vrd_send(sends[i], &k, sizeof k), 0);
        if (k % 10 == 0)
            support_sleep_ms(15);
    }
    for (int i = 0; i < 3; i++)
        pthread_join(waiters[i].thread, NULL);
    for (int i = 0; i < 3; i++) { /* a close ends a wait, too */
        waiters[i].n = 0;
        EXPECT(vrd_cap_close(sends[i]), 0);
        EXPECT(vrd_cap_close(waiters[i].receive), 0);
    }
    atomic_store(&stop, true);
    pthread_join(dispatcher, NULL);
    return end();
}
TEST_OF(has_threads)

static void *closed_under(void *arg)
{
    char byte;

    support_require_equal(vrd_receive(*(const vrd_cap_t *)arg, &byte, 1),
                          VRD_ERR_INVALID_CAPABILITY);
    return NULL;
}

static int role_closes(struct support_role_args *args)
{
    vrd_cap_t send[3], receive[3];
    pthread_t thread[3];

    (void)args;
    begin();
    for (int i = 0; i < 3; i++) {
        EXPECT(vrd_channel_create(2, &send[i], &receive[i]), 0);
        EXPECT(pthread_create(&thread[i], NULL, closed_under, &receive[i]), 0);
    }
    support_sleep_ms(60);
    for (int i = 2; i >= 0; i--) {
        EXPECT(vrd_cap_close(receive[i]), 0);
        pthread_join(thread[i], NULL);
        EXPECT(vrd_cap_close(send[i]), 0);
    }
    return end();
}
TEST_OF(closes)

/* ---- fork --------------------------------------------------------------------------------------------------------- */

static int own_loop_child(void *arg)
{
    const struct pair *pair = arg;
    char byte;

    EXPECT(vrd_init(&no_thread), 0); /* first of all it may choose; here it chooses the same */
    support_require(vrd_reactor_fd() >= 0);
    EXPECT(vrd_receive_timed(pair->back, &byte, 1, 30 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_send(pair->there, "c", 1), 0);
    EXPECT(vrd_receive(pair->back, &byte, 1), 1);
    return end();
}

static int heir_child(void *arg)
{
    const struct pair *pair = arg;
    char byte;

    EXPECT(vrd_receive_timed(pair->back, &byte, 1, 30 * MS), VRD_ERR_TIMEOUT);
    support_require(vrd_reactor_fd() >= 0);
    return end();
}

static int role_forks(struct support_role_args *args)
{
    struct pair pair = { .rounds = 0 };
    char byte;

    (void)args;
    begin();
    EXPECT(vrd_channel_create(2, &pair.there, &pair.back), 0);
    EXPECT(vrd_receive_timed(pair.back, &byte, 1, 30 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_cap_close(pair.back), 0);
    EXPECT(vrd_cap_close(pair.there), 0);
    EXPECT(vrd_channel_create(2, &pair.there, &pair.back), 0);
    support_wait_exit(support_child(heir_child, &pair), 0);
    support_wait_exit(support_child(own_loop_child, &pair), 0);
    EXPECT(vrd_reactor_dispatch(), 0); /* the parent's is as it was */
    EXPECT(vrd_cap_close(pair.back), 0);
    EXPECT(vrd_cap_close(pair.there), 0);
    return end();
}
TEST_OF(forks)

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(the_mode_is_chosen_first_or_not_at_all),
                     SUPPORT_TEST(waits),
                     SUPPORT_TEST(fills),
                     SUPPORT_TEST(times_out),
                     SUPPORT_TEST(sees_a_death),
                     SUPPORT_TEST(serves),
                     SUPPORT_TEST(loops),
                     SUPPORT_TEST(is_told),
                     SUPPORT_TEST(has_a_set),
                     SUPPORT_TEST(publishes),
                     SUPPORT_TEST(has_threads),
                     SUPPORT_TEST(closes),
                     SUPPORT_TEST(forks),
                     { 0 },
                 },
             .roles = (const struct support_role[]){
                 { "chooses", role_chooses },
                 { "comes_late", role_comes_late },
                 { "has_a_thread", role_has_a_thread },
                 { "waits", role_waits },
                 { "fills", role_fills },
                 { "times_out", role_times_out },
                 { "sees_a_death", role_sees_a_death },
                 { "serves", role_serves },
                 { "loops", role_loops },
                 { "is_told", role_is_told },
                 { "has_a_set", role_has_a_set },
                 { "publishes", role_publishes },
                 { "has_threads", role_has_threads },
                 { "closes", role_closes },
                 { "forks", role_forks },
                 { 0 },
             });
