/* SPDX-License-Identifier: MIT */
/* Transfers: the pin is kept where it is said to be, and given back in all other cases. */
#include "unit/api/ends.h"

#include "api/transfer.h"

/* Enters, as the public functions do. */
static struct port *enter(vrd_cap_t cap)
{
    int r;
    struct port *port = gate_enter(cap, GATE_ANY, &r);

    support_require(port != NULL);
    return port;
}

/* Does this thread have the pin? It leaves it, if so. */
static bool had_pin(struct port *port)
{
    const bool biased = atomic_load(&pin_self->busy) == &port->handle.pin;
    const bool locked = !biased && pthread_mutex_trylock(&port->handle.pin.mutex) != 0;

    if (!biased && !locked)
        pthread_mutex_unlock(&port->handle.pin.mutex);
    if (biased || locked)
        pin_leave(&port->handle.pin);
    return biased || locked;
}

struct attempt {
    const char *data;
    size_t len;
    int64_t timeout;
    int result;
};

static const struct attempt bad_sends[] = {
    { "x", 1, -2, VRD_ERR_INVALID_ARGUMENT },
    { NULL, 1, 0, VRD_ERR_INVALID_ARGUMENT },
    { "x", 101, 0, VRD_ERR_MESSAGE_TOO_LARGE },
    { "x", 1, 0, VRD_ERR_CHANNEL_FULL },
    { "x", 1, MS, VRD_ERR_TIMEOUT },
    { "x", 100, 0, VRD_ERR_CHANNEL_FULL },
    { "x", SIZE_MAX, 0, VRD_ERR_MESSAGE_TOO_LARGE },
};

static struct ring_message message_of(const void *data, size_t len)
{
    return (struct ring_message){ .data = (void *)(uintptr_t)data, .len = len };
}

static void sending_keeps_the_pin_if_asked_and_successful(void **state)
{
    struct ends ends = ends_new_with(2, 100);
    struct port *port = port_of(handle_find(ends.send));
    struct ring_message message = message_of("x", 1);

    (void)state;
    assert_int_equal(transfer_send(enter(ends.send), ends.send, &message, 0), 0);
    assert_false(had_pin(port));
    assert_int_equal(transfer_send_keep(enter(ends.send), ends.send, &message, 0), 0);
    assert_true(had_pin(port));
    for (size_t i = 0; i < sizeof bad_sends / sizeof bad_sends[0]; i++) {
        const struct attempt *bad = &bad_sends[i];

        message = message_of(bad->data, bad->len);
        assert_int_equal(transfer_send_keep(enter(ends.send), ends.send, &message, bad->timeout),
                         bad->result);
        assert_false(had_pin(port));
        assert_int_equal(transfer_send(enter(ends.send), ends.send, &message, bad->timeout),
                         bad->result);
        assert_false(had_pin(port));
    }
    ends_close(&ends);
}

static void receiving_keeps_the_pin_with_the_message(void **state)
{
    struct ends ends = ends_new(2);
    struct port *port = port_of(handle_find(ends.receive));
    char buffer[4];
    struct ring_message message = { .data = buffer };
    struct link *link = NULL;

    (void)state;
    assert_int_equal(vrd_send(ends.send, "abc", 3), 0);
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 2, 0, &link),
                     VRD_ERR_MESSAGE_TOO_LARGE);
    assert_int_equal(message.len, 3);
    assert_false(had_pin(port));
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 4, -2, &link),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_false(had_pin(port));
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 4, 0, &link), 0);
    assert_ptr_equal(link, port->receiver.current);
    assert_memory_equal(buffer, "abc", 3);
    assert_true(had_pin(port));
    message.data = NULL;
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 4, 0, &link),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_false(had_pin(port));
    message.data = buffer;
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 4, 0, &link),
                     VRD_ERR_CHANNEL_EMPTY);
    assert_false(had_pin(port));
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 4, MS, &link),
                     VRD_ERR_TIMEOUT);
    assert_false(had_pin(port));
    assert_int_equal(vrd_cap_close(ends.send), 0);
    assert_int_equal(transfer_receive(enter(ends.receive), ends.receive, &message, 4, -1, &link),
                     VRD_ERR_PEER_GONE);
    assert_false(had_pin(port));
    assert_int_equal(vrd_cap_close(ends.receive), 0);
}

static void a_transfer_does_not_change_what_it_sends(void **state)
{
    struct ends ends = ends_new(8);
    static const char data[80] = "constant";
    struct ring_message message = message_of(transfer_unconst(data), sizeof data);
    char got[80];

    (void)state;
    assert_int_equal(transfer_send(enter(ends.send), ends.send, &message, 0), 0);
    assert_int_equal(vrd_receive(ends.receive, got, sizeof got), sizeof got);
    assert_memory_equal(got, data, sizeof got);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(sending_keeps_the_pin_if_asked_and_successful),
                     SUPPORT_TEST(receiving_keeps_the_pin_with_the_message),
                     SUPPORT_TEST(a_transfer_does_not_change_what_it_sends),
                     { 0 },
                 },
             .warm_up = ends_warm_up)
