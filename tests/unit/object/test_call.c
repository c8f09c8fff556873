/* SPDX-License-Identifier: MIT */
/* What becomes of calls whose link ends while another thread is at it. */
#include "unit/object/ports.h"

#include "api/transfer.h"
#include "base/clock.h"
#include "object/call.h"

#define LARGE 1000 /* bytes: needs a buffer, which comes over the tether */

static vrd_cap_t endpoint, client;

/* A link to an endpoint of this process that the client has taken over. */
static int setup(void **state)
{
    char byte = 1;
    uint64_t id;
    int fd;

    (void)state;
    if (vrd_endpoint_create(&id, &endpoint) < 0 ||
        vrd_cap_export(endpoint, VRD_RIGHT_SEND, &fd) < 0 || vrd_cap_import(fd, &client) < 0)
        return -1;
    for (int i = 0; i < 3; i++)
        if (vrd_send(client, &byte, 1) < 0 || vrd_receive(endpoint, &byte, 1) != 1)
            return -1;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    return vrd_cap_close(client);
}

/* The thread that finds the end is not the one that waits for the answer. */
static void a_large_answer_survives_the_end(void **state)
{
    uint8_t data[8] = { 7 }, answer[LARGE], buf[LARGE];
    struct ring_message request = { .data = data, .len = sizeof data, .call = 1 };
    struct ring_message in = { .data = buf };
    struct vrd_message asked = { .data = data, .size = sizeof data };
    struct port *port = port_of(handle_find(client));
    struct call call;
    uint64_t seed = 3;
    vrd_cap_t reply;

    (void)state;
    random_fill(&seed, answer, sizeof answer);
    port_hold(port, client);
    assert_int_equal(transfer_send_keep(port, client, &request, VRD_FOREVER), 0);
    call = (struct call){ .calls = port->sender.calls, .entry = (int)request.call - 1 };
    port_let_go(port);

    assert_int_equal(vrd_receive_call(endpoint, &asked, &reply, VRD_FOREVER), 0);
    assert_int_equal(vrd_reply(reply, answer, sizeof answer), 0);
    assert_int_equal(vrd_cap_close(endpoint), 0);

    port_hold(port, client);
    assert_int_equal(sender_full(port), VRD_ERR_PEER_GONE);
    assert_int_equal(call_finish(port, client, call, &in, sizeof buf, CLOCK_NEVER), 0);
    port_let_go(port);
    assert_int_equal(in.len, sizeof answer);
    assert_memory_equal(buf, answer, sizeof answer);
}

SUPPORT_MAIN(.warm_up = ports_warm_up,
             .tests = (const struct support_test[]){
                 SUPPORT_TEST_FIXTURE(a_large_answer_survives_the_end, setup, teardown),
                 { 0 },
             })
