/* SPDX-License-Identifier: MIT */
#include "object/answer.h"

#include <stdlib.h>
#include <veridian/error.h>

#include "base/arith.h"
#include "object/control.h"
#include "object/link.h"
#include "object/port.h"
#include "object/reply.h"

#define ALIGNMENT LAYOUT_LINE /* as of all that is lent */

int answer_borrow(struct port *port, struct pending_call *call, size_t size, struct answer **ret)
{
    int r = reply_caller(port, call);
    struct answer *answer;

    if (r < 0)
        return r;
    if (size > port->max_message)
        return VRD_ERR_MESSAGE_TOO_LARGE;
    if (call->lent)
        return VRD_ERR_RESOURCE_BUSY;
    answer = malloc(sizeof(*answer));
    if (!answer)
        return VRD_ERR_OUT_OF_MEMORY;
    r = reply_room(call->link, call->entry, size > 0 ? size : 1);
    if (r < 0) {
        free(answer);
        return r;
    }
    *answer = (struct answer){ .pid = control_pid(),
                               .segment = reply_writer_take(&call->link->replies, call->entry) };
    answer->data = answer->segment.addr;
    call->lent = true;
    *ret = answer;
    return 0;
}

int answer_borrow_moved(struct port *port, size_t size, struct answer **ret)
{
    const size_t head = round_up(sizeof(struct answer), ALIGNMENT);
    struct answer *answer;

    if (size > port->max_message)
        return VRD_ERR_MESSAGE_TOO_LARGE;
    if (size > PTRDIFF_MAX - head - ALIGNMENT)
        return VRD_ERR_OUT_OF_MEMORY;
    answer = aligned_alloc(ALIGNMENT, head + round_up(size, ALIGNMENT));
    if (!answer)
        return VRD_ERR_OUT_OF_MEMORY;
    *answer = (struct answer){ .pid = control_pid(), .data = (char *)answer + head };
    *ret = answer;
    return 0;
}

/* Back to the entry, if there still is one. */
static void answer_put_back(struct pending_call *call, struct answer *answer)
{
    call->lent = false;
    if (!call->link)
        return;
    reply_writer_put_back(&call->link->replies, call->entry, answer->segment);
    answer->segment = (struct segment){ 0 };
}

int answer_send(struct port *port, struct pending_call *call, struct answer *answer,
                const struct ring_message *message)
{
    int r;

    answer_put_back(call, answer);
    r = reply_send(port, call, message);
    answer_free(answer);
    return r;
}

void answer_cancel(struct pending_call *call, struct answer *answer)
{
    answer_put_back(call, answer);
    answer_free(answer);
}

void answer_free(struct answer *answer)
{
    if (answer->pid == control_pid())
        segment_unmap(&answer->segment);
    free(answer);
}
