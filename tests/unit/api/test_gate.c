/* SPDX-License-Identifier: MIT */
/* The gate: which number gets in, with which right, and who may come after. */
#include "unit/api/ends.h"

#include <pthread.h>

#include "api/gate.h"
#include "object/control.h"

static void *use_it(void *arg)
{
    struct vrd_cap_info info;

    support_require_equal(vrd_cap_info(*(const vrd_cap_t *)arg, &info), 0);
    return NULL;
}

/* Another thread can have the pin: nobody has kept it. */
static void expect_free(vrd_cap_t cap)
{
    pthread_t thread;

    support_require(pthread_create(&thread, NULL, use_it, &cap) == 0);
    support_require(pthread_join(thread, NULL) == 0);
}

static struct port *enter_ok(vrd_cap_t cap, uint32_t rights)
{
    int r = 4711;
    struct port *port = gate_enter(cap, rights, &r);

    assert_non_null(port);
    assert_int_equal(r, 0);
    assert_int_equal(port->handle.cap, cap);
    return port;
}

static void a_right_of_those_asked_for_will_do(void **state)
{
    struct ends ends = ends_new(4);

    (void)state;
    gate_leave(enter_ok(ends.send, VRD_RIGHT_SEND));
    gate_leave(enter_ok(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE));
    gate_leave(enter_ok(ends.send, GATE_ANY));
    gate_leave(enter_ok(ends.receive, VRD_RIGHT_RECEIVE));
    gate_leave(enter_ok(ends.receive, GATE_ANY));
    assert_int_equal(enter_ok(ends.send, GATE_ANY)->kind, PORT_SENDER);
    expect_free(ends.receive); /* only the one is held */
    gate_leave(port_of(handle_find(ends.send)));
    expect_free(ends.send);
    ends_close(&ends);
}

static void refusals_say_why_and_hold_nothing(void **state)
{
    struct ends ends = ends_new(4);
    vrd_cap_t caps[ENDS_NO_CAPS];
    int r = 0;

    (void)state;
    assert_null(gate_enter(ends.send, VRD_RIGHT_RECEIVE, &r));
    assert_int_equal(r, VRD_ERR_PERMISSION_DENIED);
    assert_null(gate_enter(ends.receive, VRD_RIGHT_SEND, &r));
    assert_int_equal(r, VRD_ERR_PERMISSION_DENIED);
    assert_null(gate_enter(ends.send, 0, &r));
    assert_int_equal(r, VRD_ERR_PERMISSION_DENIED);
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;) {
        r = 0;
        assert_null(gate_enter(caps[i], GATE_ANY, &r));
        assert_int_equal(r, VRD_ERR_INVALID_CAPABILITY);
    }
    expect_free(ends.send);
    expect_free(ends.receive);
    ends_close(&ends);
    assert_null(gate_enter(ends.send, GATE_ANY, &r));
    assert_int_equal(r, VRD_ERR_INVALID_CAPABILITY);
}

static void a_thread_remembers_what_it_used_last(void **state)
{
    struct ends ends = ends_new(4), others = ends_new(4);

    (void)state;
    ends_settle(&ends);
    ends_settle(&others);
    ends_settle(&ends);
#ifndef VRD_TSAN /* where there is no bias, there is nothing worth remembering */
    assert_ptr_equal(gate_recent(pin_self, ends.send, GATE_SEND), port_of(handle_find(ends.send)));
    assert_ptr_equal(gate_recent(pin_self, ends.receive, GATE_RECEIVE),
                     port_of(handle_find(ends.receive)));
#endif
    assert_null(gate_recent(pin_self, others.send, GATE_SEND));
    assert_null(gate_recent(pin_self, ends.send, GATE_RECEIVE));
    assert_null(gate_recent(NULL, ends.send, GATE_SEND));
    ends_close(&others);
    ends_close(&ends);
}

static void what_it_remembers_is_of_no_use_once_closed(void **state)
{
    struct ends ends = ends_new(4), next;
    char byte;

    (void)state;
    ends_settle(&ends);
    ends_close(&ends);
    next = ends_new(4); /* perhaps in the same entries */
    assert_int_equal(vrd_send(ends.send, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_INVALID_CAPABILITY);
    ends_settle(&next);
    assert_int_equal(vrd_send(ends.send, "x", 1), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_INVALID_CAPABILITY);
    ends_close(&next);
}

static void recalling_checks_the_right_and_the_number(void **state)
{
    struct ends ends = ends_new(4);
    vrd_cap_t caps[ENDS_NO_CAPS];

    (void)state;
    ends_settle(&ends);
    assert_null(gate_recall(pin_self, ends.receive, GATE_SEND));
    assert_null(gate_recall(pin_self, ends.send, GATE_RECEIVE));
    assert_null(gate_recall(NULL, ends.send, GATE_SEND));
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;) {
        assert_null(gate_recall(pin_self, caps[i], GATE_SEND));
        assert_null(gate_recall(pin_self, caps[i], GATE_RECEIVE));
    }
    expect_free(ends.send);
    expect_free(ends.receive);
    ends_close(&ends);
}

static void timeouts_are_valid_from_forever_up(void **state)
{
    (void)state;
    assert_true(timeout_valid(VRD_FOREVER));
    assert_true(timeout_valid(0));
    assert_true(timeout_valid(1));
    assert_true(timeout_valid(INT64_MAX));
    assert_false(timeout_valid(-2));
    assert_false(timeout_valid(INT64_MIN));
}

/* --- the pin is given back, whatever the call says -------------------------------------------------- */

static void every_call_gives_the_pin_back(void **state)
{
    struct ends ends = ends_new_with(1, 100);
    struct vrd_message message = { .data = "x", .len = 1 }, bad = { .n_caps = 1 };
    struct vrd_cap_info info;
    char buffer[100];
    int fd;

    (void)state;
#define AND_FREE(call, result) \
    do { \
        assert_int_equal((call), result); \
        expect_free(ends.send); \
        expect_free(ends.receive); \
    } while (0)
    AND_FREE(vrd_receive_async(ends.receive, buffer, 1), VRD_ERR_CHANNEL_EMPTY);
    AND_FREE(vrd_receive_timed(ends.receive, buffer, 1, 1), VRD_ERR_TIMEOUT);
    AND_FREE(vrd_receive_timed(ends.receive, buffer, 1, -2), VRD_ERR_INVALID_ARGUMENT);
    AND_FREE(vrd_receive(ends.receive, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    AND_FREE(vrd_receive_message(ends.receive, &message, 0), VRD_ERR_CHANNEL_EMPTY);
    AND_FREE(vrd_receive_batch(ends.receive, &message, 1, 0), VRD_ERR_CHANNEL_EMPTY);
    AND_FREE(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    AND_FREE(vrd_send(ends.send, buffer, 101), VRD_ERR_MESSAGE_TOO_LARGE);
    AND_FREE(vrd_send(ends.send, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    AND_FREE(vrd_send_timed(ends.send, "x", 1, -2), VRD_ERR_INVALID_ARGUMENT);
    AND_FREE(vrd_send_batch(ends.send, &message, 0, 0), 0);
    AND_FREE(vrd_send_batch(ends.send, &bad, 1, 0), VRD_ERR_INVALID_CAPABILITY);
    bad.caps[0] = ends.receive;
    bad.data = NULL;
    bad.len = 1;
    AND_FREE(vrd_send_message(ends.send, &bad, 0), VRD_ERR_INVALID_ARGUMENT);
    for (int i = 0; i < 3; i++) {
        AND_FREE(vrd_send(ends.send, "xx", 2), 0);
        AND_FREE(vrd_send_async(ends.send, "x", 1), VRD_ERR_CHANNEL_FULL);
        AND_FREE(vrd_send_timed(ends.send, "x", 1, 1), VRD_ERR_TIMEOUT);
        AND_FREE(vrd_send_message(ends.send, &message, 0), VRD_ERR_CHANNEL_FULL);
        AND_FREE(vrd_send_batch(ends.send, &message, 1, 0), VRD_ERR_CHANNEL_FULL);
        AND_FREE(vrd_receive(ends.receive, buffer, 1), VRD_ERR_MESSAGE_TOO_LARGE);
        AND_FREE(vrd_receive(ends.receive, buffer, 2), 2);
        AND_FREE(vrd_send_message(ends.send, &message, 0), 0);
        AND_FREE(vrd_receive_async(ends.receive, buffer, 0), VRD_ERR_MESSAGE_TOO_LARGE);
        AND_FREE(vrd_discard(ends.receive), 0);
        AND_FREE(vrd_send(ends.send, buffer, 100), 0);
        AND_FREE(vrd_receive(ends.receive, buffer, 99), VRD_ERR_MESSAGE_TOO_LARGE);
        AND_FREE(vrd_receive(ends.receive, buffer, 100), 100);
    }
    AND_FREE(vrd_cap_info(ends.send, &info), 0);
    AND_FREE(vrd_cap_export(ends.send, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_PERMISSION_DENIED);
    AND_FREE(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_RESOURCE_BUSY);
#undef AND_FREE
    assert_int_equal(vrd_cap_close(ends.send), 0);
    assert_int_equal(vrd_receive(ends.receive, buffer, 1), VRD_ERR_PEER_GONE);
    expect_free(ends.receive);
    assert_int_equal(vrd_cap_close(ends.receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(
                         a_thread_remembers_what_it_used_last), /* alone: it has the bias */
                     SUPPORT_TEST(a_right_of_those_asked_for_will_do),
                     SUPPORT_TEST(refusals_say_why_and_hold_nothing),
                     SUPPORT_TEST(what_it_remembers_is_of_no_use_once_closed),
                     SUPPORT_TEST(recalling_checks_the_right_and_the_number),
                     SUPPORT_TEST(timeouts_are_valid_from_forever_up),
                     SUPPORT_TEST(every_call_gives_the_pin_back),
                     { 0 },
                 },
             .warm_up = ends_warm_up)
