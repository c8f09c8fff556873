/* SPDX-License-Identifier: MIT */
/*
 * The reactor's thread sleeps on an io_uring where the kernel allows it, else in poll(): what it does
 * is the same, and a death is seen as soon.
 */
#include "channels.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>

#include "os/uring.h"

struct channel {
    vrd_cap_t send, receive;
};

static struct channel channel_new(size_t slots)
{
    struct channel channel;

    EXPECT(vrd_channel_create(slots, &channel.send, &channel.receive), 0);
    return channel;
}

#define SECONDS (INT64_C(1000) * MS)
#define SETTLED_MS 20000

/* Whether this process may have one. */
static bool allowed(void)
{
    struct uring *ring = uring_open(STDERR_FILENO);

    if (ring)
        uring_close(ring);
    return ring != NULL;
}

/*
 * Starts the thread, and waits until it has what it sleeps on. A short wait alone may not start it: on a
 * busy machine its time may pass before it sleeps.
 */
static void settle(void)
{
    struct channel channel = channel_new(4);
    const size_t rings = allowed() ? 1 : 0;
    uint32_t number;

    for (unsigned ms = 0; ms == 0 || support_count_rings() < rings; ms++) {
        support_require(ms < SETTLED_MS);
        EXPECT(vrd_receive_timed(channel.receive, &number, sizeof number, MS), VRD_ERR_TIMEOUT);
    }
    EXPECT(support_count_rings(), rings);
    EXPECT(vrd_cap_close(channel.send), 0);
    EXPECT(vrd_cap_close(channel.receive), 0);
}

struct echo {
    struct channel there, back;
};

static int echo_run(void *arg)
{
    const struct echo *echo = arg;
    uint32_t number;

    EXPECT(vrd_cap_close(echo->there.send), 0);
    EXPECT(vrd_cap_close(echo->back.receive), 0);
    EXPECT(support_count_rings(), 0); /* the parent's is closed, its own comes with its thread */
    settle();
    while (vrd_receive(echo->there.receive, &number, sizeof number) == sizeof number)
        EXPECT(vrd_send(echo->back.send, &number, sizeof number), 0);
    return 0;
}

/* The thread makes the connection while both wait; and it sees that the other one is gone. */
static void echo_works(void)
{
    struct echo echo = { .there = channel_new(4), .back = channel_new(4) };
    const pid_t child = support_child(echo_run, &echo);
    uint32_t number = 0;

    EXPECT(vrd_cap_close(echo.there.receive), 0);
    EXPECT(vrd_cap_close(echo.back.send), 0);
    for (uint32_t i = 0; i < 100; i++) {
        EXPECT(vrd_send(echo.there.send, &i, sizeof i), 0);
        EXPECT(vrd_receive_timed(echo.back.receive, &number, sizeof number, 20 * SECONDS),
               sizeof number);
        EXPECT(number, i);
        if (i % 20 == 0)
            support_wait_asleep(child);
    }
    support_kill(child);
    EXPECT(vrd_receive_timed(echo.back.receive, &number, sizeof number, 20 * SECONDS),
           VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(echo.there.send), 0);
    EXPECT(vrd_cap_close(echo.back.receive), 0);
}

static int role_settles(struct support_role_args *args)
{
    (void)args;
    settle();
    echo_works();
    EXPECT(support_count_rings(), allowed() ? 1 : 0);
    return 0;
}

static int role_refused(struct support_role_args *args)
{
    support_refuse_syscall(SYS_io_uring_setup, EPERM);
    EXPECT(allowed(), false);
    return role_settles(args);
}

static int role_refused_use(struct support_role_args *args)
{
    support_refuse_syscall(SYS_io_uring_enter, EPERM);
    EXPECT(allowed(), false);
    return role_settles(args);
}

static void run(const char *role)
{
    support_wait_exit(support_spawn_role(role, NULL, 0, NULL), 0);
}

static void on_a_ring(void **state)
{
    (void)state;
    if (!allowed())
        print_message("io_uring is refused here\n");
    run("settles");
}

static void where_it_is_refused(void **state)
{
    (void)state;
    run("refused");
    run("refused_use");
}

/* ---- a child that holds the ring of its parent ------------------------------------------------------ */

struct family {
    int socket[2]; /* for the invitation */
    struct support_gate born, end;
};

static int parent_run(void *arg)
{
    struct family *family = arg;
    uint32_t number = 7;
    vrd_cap_t send;
    int invitation;

    settle();
    if (fork() == 0) { /* never uses the library: the ring stays open */
        support_gate_open(&family->born);
        support_gate_wait(&family->end);
        _exit(0);
    }
    invitation = support_receive_fd(family->socket[1]);
    EXPECT(vrd_cap_import(invitation, &send), 0);
    EXPECT(vrd_send(send, &number, sizeof number), 0);
    for (;;)
        support_sleep_ms(1000);
    return 0;
}

static void a_death_is_seen_though_a_child_has_the_ring(void **state)
{
    struct family family;
    struct channel channel;
    uint32_t number = 0;
    int invitation;
    pid_t parent;

    (void)state;
    support_socket_pair(family.socket);
    support_gate_init(&family.born);
    support_gate_init(&family.end);
    parent = support_child(parent_run, &family);
    support_gate_wait(&family.born);
    channel = channel_new(4);
    EXPECT(vrd_cap_export(channel.send, VRD_RIGHT_SEND, &invitation), 0);
    support_send_fd(family.socket[0], invitation);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_cap_close(channel.send), 0);
    EXPECT(vrd_receive(channel.receive, &number, sizeof number), sizeof number);
    EXPECT(number, 7);
    support_kill(parent);
    EXPECT(vrd_receive_timed(channel.receive, &number, sizeof number, 20 * SECONDS),
           VRD_ERR_PEER_GONE);
    support_gate_open(&family.end);
    EXPECT(vrd_cap_close(channel.receive), 0);
    EXPECT(close(family.socket[0]), 0);
    EXPECT(close(family.socket[1]), 0);
    support_gate_deinit(&family.born);
    support_gate_deinit(&family.end);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(on_a_ring),
                     SUPPORT_TEST(where_it_is_refused),
                     SUPPORT_TEST(a_death_is_seen_though_a_child_has_the_ring),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "settles", role_settles },
                     { "refused", role_refused },
                     { "refused_use", role_refused_use },
                     { 0 },
                 },
             .warm_up = support_warm_up_channel)
