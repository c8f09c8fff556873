/* SPDX-License-Identifier: MIT */
/* Ports: their life in the table, and waiting, spinning and asleep. */
#include "unit/object/ports.h"

#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "object/control.h"
#include "object/source.h"
#include "os/fd.h"

/* --- life ----------------------------------------------------------------------------------------- */

static void post(struct port *port)
{
    control_lock();
    port_post(port);
    control_unlock();
}

static void a_port_is_nobodys_until_it_is_shown(void **state)
{
    struct vrd_cap_info info;
    struct port *port;
    vrd_cap_t cap;

    (void)state;
    control_lock();
    port = port_new(PORT_RECEIVER, RIGHTS_RECEIVER, 5, 77, &cap);
    assert_non_null(port);
    receiver_init(port);
    control_unlock();
    assert_int_equal(port->capacity, 5);
    assert_int_equal(port->max_message, 77);
    assert_int_equal(port->handle.cap, VRD_CAP_NONE);
    assert_false(port_enter(port, cap));
    assert_int_equal(vrd_cap_info(cap, &info), VRD_ERR_INVALID_CAPABILITY);
    control_lock();
    port_show(port, cap);
    control_unlock();
    assert_int_equal(vrd_cap_info(cap, &info), 0);
    assert_int_equal(info.slots, 5);
    assert_true(port_enter(port, cap));
    port_let_go(port);
    assert_false(port_enter(port, cap + 1));
    port_hold_and_close(port, cap);
    assert_int_equal(port->handle.cap, VRD_CAP_NONE);
    assert_int_equal(port->handle.rights, 0);
    assert_false(port_enter(port, cap));
}

static void a_port_that_was_never_shown_is_given_back(void **state)
{
    vrd_cap_t cap, next = VRD_CAP_NONE;
    struct port *port, *again = NULL;

    (void)state;
    control_lock();
    port = port_new(PORT_SENDER, RIGHTS_SENDER, 5, 77, &cap);
    assert_non_null(port);
    port_free(port);
    for (int i = 0; again != port; i++) { /* others that are free come first */
        assert_true(i < 1000);
        again = port_new(PORT_SENDER, RIGHTS_SENDER, 5, 77, &next);
        assert_non_null(again);
        port_free(again);
    }
    control_unlock();
    assert_true(next != cap);
    assert_int_equal(next & HANDLE_INDEX_MAX, cap & HANDLE_INDEX_MAX);
}

/*
 * Somebody who slept on the port that was here before may still be about to look at the bell and to
 * count himself out.
 */
static void bell_and_sleepers_outlive_a_port(void **state)
{
    vrd_cap_t cap;
    struct port *port = port_receiver(4, 64, &cap), *next = NULL;
    unsigned bell;

    (void)state;
    atomic_fetch_add(&port->sleepers, 1);
    post(port);
    bell = atomic_load(&port->bell);
    port_hold_and_close(port, cap);
    assert_int_not_equal(atomic_load(&port->bell), bell); /* the close has rung */
    bell = atomic_load(&port->bell);
    for (int i = 0; next != port; i++) {
        assert_true(i < 1000);
        next = port_receiver(4, 64, &cap);
        if (next == port) {
            assert_int_equal(atomic_load(&port->bell), bell);
            assert_int_equal(atomic_load(&port->sleepers), 1);
            atomic_fetch_sub(&port->sleepers, 1);
        }
        port_hold_and_close(next, cap);
    }
}

static void a_post_is_news_and_rings(void **state)
{
    vrd_cap_t cap;
    struct port *port = port_receiver(4, 64, &cap);
    unsigned bell = atomic_load(&port->bell);

    (void)state;
    atomic_store(&port->attention, 0);
    assert_false(port_news(port));
    post(port);
    assert_true(port_news(port));
    assert_int_equal(atomic_load(&port->bell), bell + 1);
    post(port);
    assert_int_equal(atomic_load(&port->bell), bell + 2);
    port_hold_and_close(port, cap);
}

/* --- waiting ---------------------------------------------------------------------------------------- */

/* What the fake side awaits. */
static struct {
    atomic_uint word;
    atomic_uint armed;
    atomic_uint looks;
    uint64_t ticket;
    bool here;
} fake;

static bool fake_look(struct port *port, const struct port_wait *wait)
{
    (void)port;
    (void)wait;
    atomic_fetch_add(&fake.looks, 1);
    return atomic_load(&fake.word) != 0;
}

static void fake_arm(struct port *port, const struct port_wait *wait)
{
    (void)port;
    (void)wait;
    atomic_fetch_add(&fake.armed, 1);
}

static size_t fake_points(struct port *port, const struct port_wait *wait,
                          struct futex_point *points)
{
    (void)port;
    (void)wait;
    points[0] = (struct futex_point){ .word = &fake.word, .value = 0, .shared = true };
    return 1;
}

static uint64_t fake_ticket(const struct port *port, const struct port_wait *wait)
{
    (void)port;
    (void)wait;
    return fake.ticket;
}

static bool fake_here(const struct port *port, const struct port_wait *wait)
{
    (void)port;
    (void)wait;
    return fake.here;
}

static const struct port_wait fake_waits = {
    .look = fake_look,
    .arm = fake_arm,
    .points = fake_points,
    .ticket = fake_ticket,
    .peer_here = fake_here,
};

struct waiter {
    struct port *port;
    vrd_cap_t cap;
    int64_t deadline;
    bool nap;
    pid_t tid;
    struct support_gate started;
    pthread_t thread;
    int result;
    bool found;
};

static void *waiter_run(void *arg)
{
    struct waiter *w = arg;

    w->tid = gettid();
    support_require_equal(control_ready(), 0);
    port_hold(w->port, w->cap);
    support_gate_open(&w->started);
    do {
        w->result = w->nap ? port_nap(w->port, w->cap, w->deadline)
                           : port_wait(w->port, w->cap, &fake_waits, w->deadline);
        w->found = w->result == 0 && (atomic_load(&fake.word) != 0 || port_news(w->port));
    } while (w->result == 0 && !w->found && w->deadline == CLOCK_NEVER);
    if (w->result == 0)
        port_let_go(w->port);
    return NULL;
}

static void waiter_start(struct waiter *w, bool here)
{
    atomic_store(&fake.word, 0);
    atomic_store(&fake.armed, 0);
    fake.ticket = 1;
    fake.here = here;
    w->port = port_receiver(4, 64, &w->cap);
    atomic_store(&w->port->attention, 0);
    support_gate_init(&w->started);
    assert_int_equal(pthread_create(&w->thread, NULL, waiter_run, w), 0);
    support_gate_wait(&w->started);
}

static void waiter_end(struct waiter *w)
{
    assert_int_equal(pthread_join(w->thread, NULL), 0);
    support_gate_deinit(&w->started);
    assert_int_equal(atomic_load(&w->port->sleepers), 0);
}

static void what_is_there_is_found_at_once(void **state)
{
    vrd_cap_t cap;
    struct port *port = port_receiver(4, 64, &cap);

    (void)state;
    port_hold(port, cap);
    atomic_store(&port->attention, 0);
    for (int here = 0; here <= 1; here++) {
        fake.here = here;
        atomic_store(&fake.word, 1);
        atomic_store(&fake.armed, 0);
        assert_int_equal(port_wait(port, cap, &fake_waits, CLOCK_NEVER), 0);
        assert_int_equal(atomic_load(&fake.armed), 0); /* nobody is troubled for it */
    }
    port_close(port);
}

static void the_other_side_changes_the_word_and_wakes(void **state)
{
    (void)state;
    for (int here = 0; here <= 1; here++)
        for (int asleep = 0; asleep <= 1; asleep++) {
            struct waiter w = { .deadline = CLOCK_NEVER };

            waiter_start(&w, here);
            if (asleep)
                support_wait_asleep(w.tid);
            atomic_store(&fake.word, 1);
            if (futex_many())
                futex_wake(&fake.word, true);
            else
                post(w.port);
            waiter_end(&w);
            assert_int_equal(w.result, 0);
            assert_true(w.found);
            if (asleep)
                assert_true(atomic_load(&fake.armed) > 0);
            port_hold_and_close(w.port, w.cap);
        }
}

/* The pin is free meanwhile. */
static void a_post_wakes(void **state)
{
    (void)state;
    for (int asleep = 0; asleep <= 1; asleep++) {
        struct waiter w = { .deadline = CLOCK_NEVER };

        waiter_start(&w, false);
        if (asleep)
            support_wait_asleep(w.tid);
        port_hold(w.port, w.cap);
        post(w.port);
        port_let_go(w.port);
        waiter_end(&w);
        assert_int_equal(w.result, 0);
        assert_true(w.found);
        port_hold_and_close(w.port, w.cap);
    }
}

static void closing_wakes(void **state)
{
    (void)state;
    for (int asleep = 0; asleep <= 1; asleep++) {
        struct waiter w = { .deadline = CLOCK_NEVER };

        waiter_start(&w, false);
        if (asleep)
            support_wait_asleep(w.tid);
        port_hold_and_close(w.port, w.cap);
        waiter_end(&w);
        assert_int_equal(w.result, VRD_ERR_INVALID_CAPABILITY);
    }
}

static void all_who_wait_wake(void **state)
{
    struct waiter waiters[4] = { 0 };

    (void)state;
    waiters[0].deadline = CLOCK_NEVER;
    waiter_start(&waiters[0], false);
    for (int i = 1; i < 4; i++) {
        waiters[i] = (struct waiter){ .port = waiters[0].port,
                                      .cap = waiters[0].cap,
                                      .deadline = CLOCK_NEVER };
        support_gate_init(&waiters[i].started);
        assert_int_equal(pthread_create(&waiters[i].thread, NULL, waiter_run, &waiters[i]), 0);
        support_gate_wait(&waiters[i].started);
    }
    for (int i = 0; i < 4; i++)
        support_wait_asleep(waiters[i].tid);
    post(waiters[0].port);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(waiters[i].thread, NULL), 0);
        support_gate_deinit(&waiters[i].started);
        assert_int_equal(waiters[i].result, 0);
    }
    assert_int_equal(atomic_load(&waiters[0].port->sleepers), 0);
    port_hold_and_close(waiters[0].port, waiters[0].cap);
}

static void the_deadline_ends_it(void **state)
{
    static const int64_t timeouts[] = { 0, 1, 1000, 60000, 5 * MS, 15 * MS, 30 * MS };
    vrd_cap_t cap;
    struct port *port = port_receiver(4, 64, &cap);

    (void)state;
    port_hold(port, cap);
    atomic_store(&port->attention, 0);
    atomic_store(&fake.word, 0);
    for (int here = 0; here <= 1; here++)
        for (size_t i = 0; i < sizeof timeouts / sizeof timeouts[0]; i++) {
            const int64_t deadline = clock_deadline(timeouts[i]);

            fake.here = here;
            while (clock_now() < deadline) /* it may say "look again" before */
                assert_int_equal(port_wait(port, cap, &fake_waits, deadline), 0);
            assert_int_equal(port->handle.cap, cap);
        }
    assert_int_equal(port_wait(port, cap, &fake_waits, clock_now() - MS), 0); /* long over */
    port_close(port);
}

static void a_nap_ends_by_time_post_or_close(void **state)
{
    vrd_cap_t cap;
    struct port *port = port_receiver(4, 64, &cap);
    struct waiter w;

    (void)state;
    port_hold(port, cap);
    assert_int_equal(port_nap(port, cap, 1), 0);
    assert_int_equal(port_nap(port, cap, MS), 0);
    port_close(port);

    w = (struct waiter){ .nap = true, .deadline = 3600 * 1000 * MS };
    waiter_start(&w, false);
    support_wait_asleep(w.tid);
    post(w.port);
    waiter_end(&w);
    assert_int_equal(w.result, 0);
    port_hold_and_close(w.port, w.cap);

    w = (struct waiter){ .nap = true, .deadline = 3600 * 1000 * MS };
    waiter_start(&w, false);
    support_wait_asleep(w.tid);
    port_hold_and_close(w.port, w.cap);
    waiter_end(&w);
    assert_int_equal(w.result, VRD_ERR_INVALID_CAPABILITY);
}

/* --- fork -------------------------------------------------------------------------------------------- */

static int child_uses(void *arg)
{
    const struct waiter *w = arg;

    support_require_equal(control_ready(), 0);
    support_require_equal(atomic_load(&w->port->sleepers), 0); /* they are the parent's */
    port_hold(w->port, w->cap);
    support_require(port_news(w->port));
    support_require_equal(port_nap(w->port, w->cap, 1), 0);
    port_close(w->port);
    support_require(!port_enter(w->port, w->cap));
    return 0;
}

/* Also while another thread sleeps on it, and while another thread holds its pin. */
static void a_child_has_the_port_to_itself(void **state)
{
    struct waiter w = { .deadline = CLOCK_NEVER };

    (void)state;
    waiter_start(&w, false);
    support_wait_asleep(w.tid);
    support_wait_exit(support_child(child_uses, &w), 0);
    port_hold(w.port, w.cap);
    support_wait_exit(support_child(child_uses, &w), 0);
    port_let_go(w.port);
    post(w.port);
    waiter_end(&w);
    port_hold_and_close(w.port, w.cap);
}

/* --- a fork while an endpoint is being closed ---------------------------------------------------------- */

struct closing {
    vrd_cap_t cap;
    struct port *port, *caller;
    int fds[2];
    struct support_gate held, leave;
};

/* Closing the calling side has to wait for this. */
static void *closing_hinder(void *arg)
{
    struct closing *closing = arg;

    support_require_equal(control_ready(), 0);
    port_hold(closing->caller, closing->cap);
    support_gate_open(&closing->held);
    support_gate_wait(&closing->leave);
    port_let_go(closing->caller);
    return NULL;
}

static void *closing_close(void *arg)
{
    const struct closing *closing = arg;

    support_require_equal(vrd_cap_close(closing->cap), 0);
    return NULL;
}

static int child_has_none_of_it(void *arg)
{
    const struct closing *closing = arg;
    struct vrd_cap_info info;
    uint64_t id;
    vrd_cap_t other;

    support_require(fd_identity(closing->fds[0]) != 0 && fd_identity(closing->fds[1]) != 0);
    support_require_equal(vrd_cap_info(closing->cap, &info), VRD_ERR_INVALID_CAPABILITY);
    support_require(fd_identity(closing->fds[0]) == 0 && fd_identity(closing->fds[1]) == 0);
    for (int i = 0; i < 10; i++) { /* their entries are good for others */
        support_require_equal(vrd_endpoint_create(&id, &other), 0);
        support_require_equal(vrd_send(other, "x", 1), 0);
        support_require_equal(vrd_cap_close(other), 0);
    }
    return 0;
}

static bool closing_begun(const struct closing *closing)
{
    bool begun;

    control_lock();
    begun = closing->port->closing == closing->cap;
    control_unlock();
    return begun;
}

static void a_child_keeps_nothing_of_what_is_being_closed(void **state)
{
    struct closing closing;
    pthread_t hinder, closer;
    uint64_t id;

    (void)state;
    support_require_equal(vrd_endpoint_create(&id, &closing.cap), 0);
    closing.port = port_of(handle_find(closing.cap));
    closing.caller = closing.port->receiver.caller;
    closing.fds[0] = closing.caller->sender.root;
    closing.fds[1] = list_entry(closing.port->receiver.sources.next, struct source, node)->fd;
    support_gate_init(&closing.held);
    support_gate_init(&closing.leave);
    support_require_equal(pthread_create(&hinder, NULL, closing_hinder, &closing), 0);
    support_gate_wait(&closing.held);
    support_require_equal(pthread_create(&closer, NULL, closing_close, &closing), 0);
    while (!closing_begun(&closing))
        support_sleep_ms(1);
    support_wait_exit(support_child(child_has_none_of_it, &closing), 0);
    support_gate_open(&closing.leave);
    pthread_join(closer, NULL);
    pthread_join(hinder, NULL);
    support_gate_deinit(&closing.held);
    support_gate_deinit(&closing.leave);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(a_port_is_nobodys_until_it_is_shown),
                     SUPPORT_TEST(a_port_that_was_never_shown_is_given_back),
                     SUPPORT_TEST(bell_and_sleepers_outlive_a_port),
                     SUPPORT_TEST(a_post_is_news_and_rings),
                     SUPPORT_TEST(what_is_there_is_found_at_once),
                     SUPPORT_TEST(the_other_side_changes_the_word_and_wakes),
                     SUPPORT_TEST(a_post_wakes),
                     SUPPORT_TEST(closing_wakes),
                     SUPPORT_TEST(all_who_wait_wake),
                     SUPPORT_TEST(the_deadline_ends_it),
                     SUPPORT_TEST(a_nap_ends_by_time_post_or_close),
                     SUPPORT_TEST(a_child_has_the_port_to_itself),
                     SUPPORT_TEST(a_child_keeps_nothing_of_what_is_being_closed),
                     { 0 },
                 },
             .warm_up = ports_warm_up)
