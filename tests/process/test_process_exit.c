/* SPDX-License-Identifier: MIT */
/* The ends of other processes: they are told, once for each; and sending one away while it lives. */
#include "channels.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#define SECONDS (INT64_C(1000) * MS)
#define PROCESSES 12

struct told {
    pthread_mutex_t lock;
    pid_t pids[64];
    int n;
    struct support_gate gate;
};

static struct told ends = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void on_exit_of(pid_t pid, void *user)
{
    struct told *told = user;

    pthread_mutex_lock(&told->lock);
    support_require(told->n < 64);
    told->pids[told->n++] = pid;
    pthread_mutex_unlock(&told->lock);
    support_gate_open(&told->gate);
}

static int times_told(pid_t pid)
{
    int n = 0;

    pthread_mutex_lock(&ends.lock);
    for (int i = 0; i < ends.n; i++)
        n += ends.pids[i] == pid;
    pthread_mutex_unlock(&ends.lock);
    return n;
}

static void wait_told(pid_t pid)
{
    while (times_told(pid) == 0)
        support_gate_wait(&ends.gate);
}

static int begin(void **state)
{
    (void)state;
    ends.n = 0;
    support_gate_init(&ends.gate);
    return vrd_process_on_exit(on_exit_of, &ends);
}

static int end(void **state)
{
    (void)state;
    support_require(vrd_process_on_exit(NULL, NULL) == 0);
    support_gate_deinit(&ends.gate);
    return 0;
}

#define TEST(fn) SUPPORT_TEST_FIXTURE(fn, begin, end)

/* ---- the other process ---------------------------------------------------------------------------- */

struct child {
    vrd_cap_t send[2], receive[2];
    struct support_gate linked;
    bool closes;
    int n;
};

/* Sends `n` messages over each link, and stays. */
static int sends_child(void *arg)
{
    const struct child *child = arg;

    EXPECT(vrd_process_on_exit(NULL, NULL), 0);
    for (int k = 0; k < 2; k++)
        EXPECT(vrd_cap_close(child->receive[k]), 0);
    for (int i = 0; i < child->n; i++)
        for (int k = 0; k < 2; k++)
            EXPECT(vrd_send(child->send[k], &i, sizeof i), 0);
    if (child->closes)
        for (int k = 0; k < 2; k++)
            EXPECT(vrd_cap_close(child->send[k]), 0);
    support_gate_open(&child->linked);
    for (;;)
        support_sleep_ms(1000);
}

static void child_open(struct child *child, int n)
{
    *child = (struct child){ .n = n };
    support_gate_init(&child->linked);
    for (int k = 0; k < 2; k++)
        EXPECT(vrd_channel_create(8, &child->send[k], &child->receive[k]), 0);
}

static pid_t child_start(const struct child *child)
{
    pid_t pid = support_child(sends_child, (void *)(uintptr_t)child);

    support_gate_wait(&child->linked);
    return pid;
}

static void child_close(struct child *child)
{
    for (int k = 0; k < 2; k++) {
        if (child->receive[k] != VRD_CAP_NONE)
            EXPECT(vrd_cap_close(child->receive[k]), 0);
        if (child->send[k] != VRD_CAP_NONE)
            EXPECT(vrd_cap_close(child->send[k]), 0);
    }
    support_gate_deinit(&child->linked);
}

static void senders_close(struct child *child)
{
    for (int k = 0; k < 2; k++) {
        EXPECT(vrd_cap_close(child->send[k]), 0);
        child->send[k] = VRD_CAP_NONE;
    }
}

/* ---- who receives ------------------------------------------------------------------------------------ */

static void a_killed_sender_is_told_once(void **state)
{
    struct child child;
    int got;
    pid_t pid;

    (void)state;
    child_open(&child, 4);
    pid = child_start(&child);
    senders_close(&child);
    for (int k = 0; k < 2; k++)
        EXPECT(vrd_receive(child.receive[k], &got, sizeof got), sizeof got); /* two links */
    EXPECT(times_told(pid), 0);
    support_kill(pid);
    wait_told(pid);
    for (int k = 0; k < 2; k++) {
        for (int i = 1; i < child.n; i++) { /* what it had sent is there */
            EXPECT(vrd_receive_async(child.receive[k], &got, sizeof got), sizeof got);
            EXPECT(got, i);
        }
        EXPECT(vrd_receive_async(child.receive[k], &got, sizeof got), VRD_ERR_PEER_GONE);
    }
    support_sleep_ms(20);
    EXPECT(times_told(pid), 1);
    EXPECT(vrd_process_cleanup(pid), VRD_ERR_PROCESS_NOT_FOUND);
    child_close(&child);
}

/* One that takes its leave first had a link all the same. */
static void so_is_one_that_has_closed_everything(void **state)
{
    struct child child;
    int got;
    pid_t pid;

    (void)state;
    child_open(&child, 1);
    child.closes = true;
    pid = child_start(&child);
    senders_close(&child);
    for (int k = 0; k < 2; k++) {
        EXPECT(vrd_receive(child.receive[k], &got, sizeof got), sizeof got);
        EXPECT(vrd_receive(child.receive[k], &got, sizeof got), VRD_ERR_PEER_GONE);
    }
    EXPECT(times_told(pid), 0);
    support_kill(pid);
    wait_told(pid);
    child_close(&child);
}

static int returns_child(void *arg)
{
    const struct child *child = arg;

    EXPECT(vrd_send(child->send[0], "x", 1), 0);
    return 7;
}

static void and_one_that_just_returns(void **state)
{
    struct child child;
    char byte;
    pid_t pid;

    (void)state;
    child_open(&child, 0);
    pid = support_child(returns_child, &child);
    EXPECT(vrd_receive(child.receive[0], &byte, 1), 1);
    support_wait_exit(pid, 7);
    wait_told(pid);
    EXPECT(times_told(pid), 1);
    child_close(&child);
}

static void each_of_many_is_told(void **state)
{
    struct child children[PROCESSES];
    pid_t pids[PROCESSES];
    int got;

    (void)state;
    for (int i = 0; i < PROCESSES; i++) {
        child_open(&children[i], 1);
        pids[i] = child_start(&children[i]);
        EXPECT(vrd_receive(children[i].receive[0], &got, sizeof got), sizeof got);
    }
    for (int i = 0; i < PROCESSES; i += 2)
        support_kill(pids[i]);
    for (int i = 0; i < PROCESSES; i += 2)
        wait_told(pids[i]);
    for (int i = 1; i < PROCESSES; i += 2)
        EXPECT(times_told(pids[i]), 0);
    for (int i = 1; i < PROCESSES; i += 2)
        support_kill(pids[i]);
    for (int i = 0; i < PROCESSES; i++) {
        wait_told(pids[i]);
        EXPECT(times_told(pids[i]), 1);
        child_close(&children[i]);
    }
}

/* Links that are there already count, and a function taken back is not called. */
static void it_may_be_registered_late(void **state)
{
    struct child child;
    int got;
    pid_t pid;

    (void)state;
    EXPECT(vrd_process_on_exit(NULL, NULL), 0);
    child_open(&child, 1);
    pid = child_start(&child);
    for (int k = 0; k < 2; k++)
        EXPECT(vrd_receive(child.receive[k], &got, sizeof got), sizeof got);
    EXPECT(vrd_process_on_exit(on_exit_of, &ends), 0);
    EXPECT(vrd_process_on_exit(NULL, NULL), 0);
    EXPECT(vrd_process_on_exit(on_exit_of, &ends), 0);
    support_kill(pid);
    wait_told(pid);
    EXPECT(times_told(pid), 1);
    child_close(&child);
}

/* ---- who sends ---------------------------------------------------------------------------------------- */

static int receives_child(void *arg)
{
    const struct child *child = arg;
    char byte;

    EXPECT(vrd_cap_close(child->send[0]), 0);
    EXPECT(vrd_receive(child->receive[0], &byte, 1), 1);
    support_gate_open(&child->linked);
    for (;;)
        (void)vrd_receive(child->receive[0], &byte, 1);
}

static void so_is_a_killed_receiver(void **state)
{
    struct child child;
    pid_t pid;

    (void)state;
    child_open(&child, 0);
    pid = support_child(receives_child, &child);
    EXPECT(vrd_cap_close(child.receive[0]), 0);
    child.receive[0] = VRD_CAP_NONE;
    EXPECT(vrd_send(child.send[0], "x", 1), 0);
    support_gate_wait(&child.linked);
    EXPECT(vrd_send(child.send[0], "x", 1), 0);
    support_kill(pid);
    wait_told(pid);
    EXPECT(vrd_send(child.send[0], "x", 1), VRD_ERR_PEER_GONE);
    EXPECT(times_told(pid), 1);
    child_close(&child);
}

/* ---- sending one away ---------------------------------------------------------------------------------- */

struct guest {
    int invitation;
    char name;
    struct support_gate linked, sent_away;
};

static int guest_child(void *arg)
{
    const struct guest *guest = arg;
    vrd_cap_t cap;

    EXPECT(vrd_cap_import(guest->invitation, &cap), 0);
    EXPECT(vrd_send(cap, &guest->name, 1), 0);
    EXPECT(vrd_send(cap, &guest->name, 1), 0);
    support_gate_open(&guest->linked);
    support_gate_wait(&guest->sent_away);
    EXPECT(vrd_send(cap, "3", 1), VRD_ERR_REVOKED);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void guest_open(struct guest *guest, vrd_cap_t send)
{
    support_gate_init(&guest->linked);
    support_gate_init(&guest->sent_away);
    EXPECT(vrd_cap_export(send, VRD_RIGHT_SEND, &guest->invitation), 0);
}

static void guest_close(struct guest *guest)
{
    support_gate_deinit(&guest->linked);
    support_gate_deinit(&guest->sent_away);
}

static void one_is_sent_away_and_no_other(void **state)
{
    struct guest guests[2];
    vrd_cap_t send, receive;
    pid_t pids[2];
    char text[4];

    (void)state;
    EXPECT(vrd_channel_create(8, &send, &receive), 0);
    for (int i = 0; i < 2; i++) {
        guest_open(&guests[i], send);
        guests[i].name = (char)('a' + i);
        pids[i] = support_child(guest_child, &guests[i]);
        close(guests[i].invitation);
        support_gate_wait(&guests[i].linked);
    }
    EXPECT(vrd_receive(receive, text, sizeof text), 1); /* both have links from now on */
    EXPECT(vrd_process_cleanup(1), VRD_ERR_PROCESS_NOT_FOUND);
    EXPECT(vrd_process_cleanup(getpid()), VRD_ERR_PROCESS_NOT_FOUND);
    EXPECT(vrd_process_cleanup(0), VRD_ERR_PROCESS_NOT_FOUND);
    EXPECT(vrd_process_cleanup(-1), VRD_ERR_PROCESS_NOT_FOUND);
    EXPECT(vrd_process_cleanup(pids[0]), 1);
    EXPECT(vrd_process_cleanup(pids[0]), VRD_ERR_PROCESS_NOT_FOUND);
    support_gate_open(&guests[0].sent_away);
    support_wait_exit(pids[0], 0);
    while (vrd_receive_async(receive, text, sizeof text) == 1) /* what is left is the other's */
        EXPECT(text[0], 'b');
    EXPECT(vrd_process_cleanup(pids[1]), 1);
    support_gate_open(&guests[1].sent_away);
    support_wait_exit(pids[1], 0);
    EXPECT(vrd_receive_async(receive, text, sizeof text), VRD_ERR_CHANNEL_EMPTY);
    wait_told(pids[0]); /* that they died is told nevertheless */
    wait_told(pids[1]);
    for (int i = 0; i < 2; i++)
        guest_close(&guests[i]);
    EXPECT(vrd_send(send, "x", 1), 0); /* and all else goes on */
    EXPECT(vrd_receive(receive, text, sizeof text), 1);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

static void a_receiver_is_sent_away_too(void **state)
{
    struct child child;
    pid_t pid;

    (void)state;
    child_open(&child, 0);
    pid = support_child(receives_child, &child);
    EXPECT(vrd_cap_close(child.receive[0]), 0);
    child.receive[0] = VRD_CAP_NONE;
    EXPECT(vrd_send(child.send[0], "x", 1), 0);
    support_gate_wait(&child.linked);
    EXPECT(vrd_send(child.send[0], "x", 1), 0);
    EXPECT(vrd_process_cleanup(pid), 1);
    EXPECT(vrd_send(child.send[0], "y", 1), VRD_ERR_PEER_GONE);
    EXPECT(times_told(pid), 0);
    support_kill(pid);
    wait_told(pid);
    child_close(&child);
}

/* ---- fork and no thread ----------------------------------------------------------------------------------- */

/* The parent's peers are not the child's, but its function is. */
static int heir_child(void *arg)
{
    struct child *child = arg, own;
    pid_t pid;
    int got;

    EXPECT(vrd_process_cleanup(*(pid_t *)&child->n), VRD_ERR_PROCESS_NOT_FOUND);
    child_open(&own, 1);
    pid = child_start(&own);
    EXPECT(vrd_receive(own.receive[0], &got, sizeof got), sizeof got);
    support_kill(pid);
    wait_told(pid);
    EXPECT(times_told(pid), 1);
    child_close(&own);
    return 0;
}

static void a_child_has_peers_of_its_own(void **state)
{
    struct child child;
    int got;
    pid_t pid;

    (void)state;
    child_open(&child, 1);
    pid = child_start(&child);
    EXPECT(vrd_receive(child.receive[0], &got, sizeof got), sizeof got);
    child.n = pid;
    support_wait_exit(support_child(heir_child, &child), 0);
    EXPECT(times_told(pid), 0);
    support_kill(pid);
    wait_told(pid);
    child_close(&child);
}

static int role_no_thread(struct support_role_args *args)
{
    const struct vrd_init_options options = { .flags = VRD_INIT_NO_THREAD };
    struct child child;
    int got;
    pid_t pid;

    (void)args;
    EXPECT(vrd_init(&options), 0);
    EXPECT(begin(NULL), 0);
    child_open(&child, 1);
    pid = child_start(&child);
    EXPECT(vrd_receive(child.receive[0], &got, sizeof got), sizeof got);
    support_kill(pid);
    EXPECT(times_told(pid), 0);
    while (times_told(pid) == 0) {
        struct pollfd entry = { .fd = vrd_reactor_fd(), .events = POLLIN };

        EXPECT(poll(&entry, 1, 20000), 1);
        EXPECT(vrd_reactor_dispatch(), 0);
    }
    child_close(&child);
    return end(NULL);
}

static void told_in_dispatch(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("no_thread", NULL, 0, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     TEST(a_killed_sender_is_told_once),
                     TEST(so_is_one_that_has_closed_everything),
                     TEST(and_one_that_just_returns),
                     TEST(each_of_many_is_told),
                     TEST(it_may_be_registered_late),
                     TEST(so_is_a_killed_receiver),
                     TEST(one_is_sent_away_and_no_other),
                     TEST(a_receiver_is_sent_away_too),
                     TEST(a_child_has_peers_of_its_own),
                     SUPPORT_TEST(told_in_dispatch),
                     { 0 },
                 },
             .roles = (const struct support_role[]){ { "no_thread", role_no_thread }, { 0 } },
             .warm_up = channels_warm_up)
