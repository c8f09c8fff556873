/* SPDX-License-Identifier: MIT */
#include "object/answer.h"

#include <veridian/error.h>
#include <veridian/loan.h>

#include "api/gate.h"
#include "api/loan.h"
#include "object/relay.h"
#include "object/reply.h"

/*
 * The way to a call: the pin of its endpoint, and the call; or of the moved reply capability, and no call.
 * NULL: *ret_error says why.
 */
static struct port *answer_enter(vrd_cap_t reply, struct pending_call **ret_call, int *ret_error)
{
    struct port *port;

    *ret_call = NULL;
    if (cap_is_reply(reply))
        return gate_enter_reply(reply, ret_call, ret_error);
    port = gate_enter(reply, GATE_ANY, ret_error);
    if (!port || port->kind == PORT_REPLY)
        return port;
    gate_leave(port);
    *ret_error = VRD_ERR_INVALID_CAPABILITY;
    return NULL;
}

int vrd_reply_loan(vrd_cap_t reply, size_t size, struct vrd_loan *ret)
{
    struct pending_call *call;
    struct answer *answer;
    struct port *port;
    int r;

    if (!ret)
        return VRD_ERR_INVALID_ARGUMENT;
    port = answer_enter(reply, &call, &r);
    if (!port)
        return r;
    r = call ? answer_borrow(port, call, size, &answer) : answer_borrow_moved(port, size, &answer);
    gate_leave(port);
    if (r < 0)
        return r;
    *ret = (struct vrd_loan){
        .data = answer->data, .size = size, .len = size, .cap = reply, .piece = answer
    };
    return 0;
}

/* Answers by way of the process that has received the call. Pin held; gives it back. */
static int answer_relay(struct port *port, struct answer *answer,
                        const struct ring_message *message)
{
    int r = relay_send(port, message);

    answer_free(answer);
    port_close(port);
    return r;
}

int answer_out(struct vrd_loan *loan)
{
    const struct ring_message message = {
        .data = loan->data, .len = loan->len, .opcode = loan->opcode, .flags = loan->flags
    };
    struct answer *answer = loan->piece;
    struct pending_call *call;
    int r;
    struct port *port = answer_enter(loan->cap, &call, &r);

    if (!port)
        return r;
    if (call) {
        r = answer_send(port, call, answer, &message);
        gate_leave(port);
    } else {
        r = answer_relay(port, answer, &message);
    }
    *loan = (struct vrd_loan){ 0 };
    return r;
}

int answer_back(struct vrd_loan *loan)
{
    struct pending_call *call;
    int r;
    struct port *port = answer_enter(loan->cap, &call, &r);

    if (!port && r != VRD_ERR_INVALID_CAPABILITY)
        return r;
    if (port && call)
        answer_cancel(call, loan->piece);
    else
        answer_free(loan->piece);
    if (port)
        gate_leave(port);
    *loan = (struct vrd_loan){ 0 };
    return 0;
}
