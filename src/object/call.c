/* SPDX-License-Identifier: MIT */
#include "object/call.h"

#include <errno.h>
#include <stdlib.h>
#include <veridian/error.h>

#include "base/clock.h"
#include "base/error.h"
#include "cap/frame.h"
#include "link/look.h"
#include "object/control.h"
#include "object/port.h"
#include "object/source.h"
#include "os/cpu.h"
#include "os/futex.h"

#define HUNGER_NS 1000000 /* nobody rings for the answer to a call that was abandoned */
#define LOOKS 1024        /* for about as long as an answer takes that is on its way */
#define FETCHES 8         /* so many drains take more than a socket's queue can hold */

/* --- life ------------------------------------------------------------------------------------- */

static struct calls *calls_new(struct port *port)
{
    struct sender *s = &port->sender;
    struct calls *calls = calloc(1, sizeof(*calls));

    if (!calls)
        return NULL;
    atomic_init(&calls->held, 1);
    reply_reader_init(&calls->replies, s->ring.own, port->max_message);
    control_lock(); /* calls_attach reads it */
    s->calls = calls;
    control_unlock();
    calls_answered(s);
    return calls;
}

static void calls_let_go(struct calls *calls)
{
    /* acq_rel: what the others have read is read before it is unmapped */
    if (atomic_fetch_sub_explicit(&calls->held, 1, memory_order_acq_rel) != 1)
        return;
    reply_reader_deinit_viewed(&calls->replies);
    free(calls);
}

/* Nobody waits for an answer any more. */
static void calls_release(struct calls *calls)
{
    for (size_t i = 0; i < REPLY_ENTRIES; i++) {
        segment_unmap(&calls->inbox[i].segment);
        carried_free(&calls->carried[i]);
    }
    reply_reader_deinit(&calls->replies);
    segment_unmap(&calls->peer);
    calls_let_go(calls);
}

void call_view_release(struct calls *calls, int entry)
{
    reply_release(&calls->replies, entry);
    calls_let_go(calls);
}

void calls_answered(struct sender *s)
{
    if (s->calls && s->peer.size > 0)
        reply_reader_answered(&s->calls->replies, s->peer.addr);
}

/* Handles what came over the tether of the link in use. Control lock held. */
static void calls_drain(struct sender *s)
{
    struct source *tether = s->tether;

    for (int i = 0; i < FETCHES && tether; i++) {
        sender_source_ready(tether);
        tether = s->tether && !s->tether->drained ? s->tether : NULL;
    }
}

void calls_detach(struct sender *s, int error)
{
    struct calls *calls = s->calls;

    if (!calls)
        return;
    if (calls->users > 0)
        calls_drain(s); /* what the answers name that are there: nobody can ask for it later */
    s->calls = NULL;
    if (calls->users == 0) {
        calls_release(calls);
        return;
    }
    calls->lost = error;
    calls->peer = s->peer;
    s->peer = (struct segment){ 0 };
    calls->next = s->lost;
    s->lost = calls;
}

void calls_free(struct sender *s)
{
    if (s->calls)
        calls_release(s->calls);
    s->calls = NULL;
    while (s->lost) {
        struct calls *calls = s->lost;

        s->lost = calls->next;
        calls_release(calls);
    }
}

/* The last thread has looked at what came before the end. */
static void calls_forget(struct sender *s, struct calls *calls)
{
    struct calls **at = &s->lost;

    while (*at != calls)
        at = &(*at)->next;
    *at = calls->next;
    calls_release(calls);
}

/* --- entries ---------------------------------------------------------------------------------- */

/* What came with answers that nobody has read is gone before their entries are used again. */
static void calls_want_again(struct sender *s)
{
    struct calls *calls = s->calls;
    uint16_t answered = calls->unwanted & (uint16_t)~calls->replies.abandoned;

    if (likely(answered == 0))
        return;
    control_lock();
    calls_drain(s);
    calls->unwanted &= (uint16_t)~answered;
    control_unlock();
}

static void call_unwanted(const struct call *call)
{
    struct calls *calls = call->calls;

    control_lock();
    calls->unwanted |= (uint16_t)(1U << call->entry);
    carried_free(&calls->carried[call->entry]);
    control_unlock();
}

int call_pick(struct port *port, uint32_t *ret_entry)
{
    struct sender *s = &port->sender;
    struct calls *calls = s->calls ? s->calls : calls_new(port);
    int entry;

    if (!calls)
        return VRD_ERR_OUT_OF_MEMORY;
    entry = reply_pick(&calls->replies, s->ring.position + 1);
    calls_want_again(s);
    if (entry < 0)
        return VRD_ERR_ENDPOINT_BUSY;
    *ret_entry = (uint32_t)entry + 1;
    return 0;
}

int call_hunger(struct port *port, vrd_cap_t cap, int64_t deadline)
{
    struct sender *s = &port->sender;
    int64_t left = deadline - clock_now();

    if (s->calls)
        s->calls->hungry++;
    /* not counted down: the one who ends a call does, for all whom it wakes */
    return left <= 0 ? 0 : port_nap(port, cap, left < HUNGER_NS ? left : HUNGER_NS);
}

void call_end_slowly(struct port *port, struct calls *calls)
{
    if (calls->hungry > 0) {
        calls->hungry = 0;
        port_wake(port);
    }
    if (calls->users == 0 && calls->lost != 0)
        calls_forget(&port->sender, calls);
}

uint64_t call_look_quickly(const struct call *call)
{
    const struct reply_reader *replies = &call->calls->replies;
    int looks = LOOKS;

    if (slot_cpu(replies->last) != 0 && slot_cpu(replies->last) == cpu_current()) {
        cpu_yield(); /* the server cannot run while we look */
        looks = 1;
    }
    return slot_await_like(&replies->entries[call->entry], replies->sequence[call->entry], looks,
                           replies->last);
}

/* --- waiting ---------------------------------------------------------------------------------- */

struct call_wait {
    struct port_wait wait; /* first */
    struct call call;
};

static const struct call_wait *call_wait_of(const struct port_wait *wait)
{
    return (const struct call_wait *)wait;
}

static const struct slot *call_slot(const struct port_wait *wait)
{
    const struct call *call = &call_wait_of(wait)->call;

    return call->calls->replies.entries ? &call->calls->replies.entries[call->entry] : NULL;
}

static bool call_look(struct port *port, const struct port_wait *wait)
{
    const struct call *call = &call_wait_of(wait)->call;
    const struct slot *slot = call_slot(wait);

    (void)port;
    return slot && reply_state(&call->calls->replies, call->entry, slot_load(slot)) != RING_EMPTY;
}

static void call_arm(struct port *port, const struct port_wait *wait)
{
    const struct call *call = &call_wait_of(wait)->call;
    enum notice_ring how = port_ring(port);

    if (reply_is_armed(&call->calls->replies, call->entry, how))
        return;
    if (how == RING_TETHER)
        source_await_ring(&port->sender.tether);
    reply_arm(&call->calls->replies, call->entry, how);
}

static size_t call_points(struct port *port, const struct port_wait *wait,
                          struct futex_point *points)
{
    const struct slot *slot = call_slot(wait);

    (void)port;
    if (!slot)
        return 0;
    points[0] =
        (struct futex_point){ .word = &slot->word,
                              .value = (uint32_t)__atomic_load_n(&slot->word, __ATOMIC_RELAXED),
                              .shared = true };
    return 1;
}

/* One call is awaited by one thread: as long as it waits, nothing else is awaited. */
static uint64_t call_ticket(const struct port *port, const struct port_wait *wait)
{
    (void)port;
    return call_wait_of(wait)->call.calls->lost != 0;
}

static bool call_peer_here(const struct port *port, const struct port_wait *wait)
{
    uint16_t cpu = slot_cpu(call_wait_of(wait)->call.calls->replies.last);

    (void)port;
    return cpu != 0 && cpu == cpu_current();
}

static const struct port_wait call_waits = {
    .look = call_look,
    .arm = call_arm,
    .points = call_points,
    .ticket = call_ticket,
    .peer_here = call_peer_here,
    .alone = true,
};

/* --- the answer ------------------------------------------------------------------------------- */

/* The buffer that an answer names: told before the answer, or never. */
static int call_fetch(struct port *port, const struct call *call)
{
    struct sender *s = &port->sender;
    struct reply_buffer *waiting = &call->calls->inbox[call->entry];
    int r = 0;

    control_lock();
    if (call->calls == s->calls)
        calls_drain(s);
    if (waiting->segment.size > 0)
        r = reply_reader_attach(&call->calls->replies, (uint32_t)call->entry, waiting->number,
                                waiting->segment);
    waiting->segment = (struct segment){ 0 };
    control_unlock();
    return r;
}

/* What the answer carries: told before the answer, or never. */
static int call_carried(struct port *port, const struct call *call, struct ring_message *message)
{
    struct calls *calls = call->calls;
    struct carried **waiting = &calls->carried[call->entry];
    bool starved;

    control_lock();
    if (calls == port->sender.calls && !(*waiting && (*waiting)->id == message->transfer))
        calls_drain(&port->sender);
    if (*waiting && (*waiting)->id == message->transfer) {
        message->carried = *waiting;
        *waiting = NULL;
    }
    starved = calls->starved;
    control_unlock();
    if (message->carried)
        return 0;
    if (calls->lost != 0)
        return calls->lost;
    return starved ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

/* The rest of an answer that was read with result `r`. */
static int call_unpack(struct port *port, const struct call *call, struct ring_message *message,
                       int r)
{
    int failed = 0;

    message->carried = NULL;
    if (unlikely((r == 0 || r == VRD_ERR_MESSAGE_TOO_LARGE) && message->transfer != 0))
        failed = call_carried(port, call, message);
    if (failed < 0)
        r = failed;
    if (r < 0 || !message->wants_caps)
        carried_free(&message->carried);
    if (r < 0 && message->wants_view) {
        free(message->data);
        message->view = (struct loan_view){ 0 };
    }
    return r;
}

/* For a view: what is in a buffer stays there, all else is copied to memory of the view's own. */
static int call_read_view(struct reply_reader *replies, int entry, uint64_t word,
                          struct ring_message *message)
{
    int r;

    message->data = NULL;
    r = reply_read(replies, entry, word, message, 0);
    if (r != VRD_ERR_MESSAGE_TOO_LARGE)
        return r;
    message->data = malloc(message->len);
    if (!message->data)
        return VRD_ERR_OUT_OF_MEMORY;
    return reply_read(replies, entry, word, message, message->len);
}

static int call_read(struct reply_reader *replies, int entry, uint64_t word,
                     struct ring_message *message, size_t size)
{
    return message->wants_view ? call_read_view(replies, entry, word, message)
                               : reply_read(replies, entry, word, message, size);
}

/* Is the answer there? VRD_ERR_CHANNEL_EMPTY: no. Else as reply_read. */
static int call_take(struct port *port, const struct call *call, struct ring_message *message,
                     size_t size)
{
    struct reply_reader *replies = &call->calls->replies;
    uint64_t word;
    int r;

    if (!replies->entries)
        return VRD_ERR_CHANNEL_EMPTY;
    word = slot_load(&replies->entries[call->entry]);
    switch (reply_state(replies, call->entry, word)) {
    case RING_EMPTY:
        return VRD_ERR_CHANNEL_EMPTY;
    case RING_CORRUPT:
        return VRD_ERR_PEER_CORRUPT;
    default:
        break;
    }
    r = call_read(replies, call->entry, word, message, size);
    if (r == RING_NEEDS_EXTENSION) {
        r = call_fetch(port, call);
        if (r == 0)
            r = call_read(replies, call->entry, word, message, size);
    }
    if (r != RING_NEEDS_EXTENSION)
        return call_unpack(port, call, message, r);
    return call->calls->starved ? VRD_ERR_OUT_OF_MEMORY : VRD_ERR_PEER_CORRUPT;
}

/* As call_finish, but does not end the call. */
static int call_await(struct port *port, vrd_cap_t cap, const struct call *call,
                      struct ring_message *message, size_t size, int64_t deadline)
{
    const struct call_wait wait = { .wait = call_waits, .call = *call };
    int r;

    for (;;) {
        /* acquire: what was published before the end of the link is seen by the look after this */
        int lost = __atomic_load_n(&call->calls->lost, __ATOMIC_ACQUIRE);

        r = call_take(port, call, message, size);
        if (r != VRD_ERR_CHANNEL_EMPTY)
            return r;
        if (lost != 0)
            return lost;
        if (port_news(port)) {
            sender_attend(port); /* if the link is lost, all its calls are told */
            continue;
        }
        if (deadline != CLOCK_NEVER && clock_now() >= deadline)
            return VRD_ERR_TIMEOUT;
        r = port_wait(port, cap, &wait.wait, deadline);
        if (r < 0)
            return r;
    }
}

/* The answer is read, or is to be read in place. */
static void call_done(struct call call, struct ring_message *message, int r)
{
    if (r == 0 && message->view.data) {
        reply_view(&call.calls->replies, call.entry);
        /* relaxed: the call holds it, too */
        atomic_fetch_add_explicit(&call.calls->held, 1, memory_order_relaxed);
        message->answers = call.calls;
    } else if (call.calls->lost == 0) {
        reply_end(&call.calls->replies, call.entry);
    }
}

int call_finish(struct port *port, vrd_cap_t cap, struct call call, struct ring_message *message,
                size_t size, int64_t deadline)
{
    int r = call_await(port, cap, &call, message, size, deadline);

    switch (r) {
    case VRD_ERR_INVALID_CAPABILITY:
        return r; /* `calls` went with the capability */
    case VRD_ERR_PEER_CORRUPT:
        if (call.calls == port->sender.calls)
            sender_corrupt(port);
        break;
    case VRD_ERR_TIMEOUT:
        reply_abandon(&call.calls->replies, call.entry);
        call_unwanted(&call);
        break;
    default:
        call_done(call, message, r);
        break;
    }
    call_end(port, call.calls);
    return r;
}

int calls_attach(struct sender *s, const struct frame *frame, int fd, uint64_t max_message,
                 unsigned shift)
{
    struct reply_buffer *waiting;
    struct segment segment;
    int r;

    if (!s->calls || frame->count == 0 || frame->count > REPLY_ENTRIES ||
        frame->bytes > reply_buffer_size(max_message))
        return VRD_ERR_PEER_CORRUPT;
    r = segment_import_of(fd, frame->bytes, shift, &segment);
    if (r < 0)
        return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    waiting = &s->calls->inbox[frame->count - 1];
    segment_unmap(&waiting->segment); /* for an answer that nobody waited for */
    *waiting = (struct reply_buffer){ .segment = segment, .number = frame->extension };
    return 0;
}

int calls_carried(struct sender *s, const struct frame *frame, struct datagram *datagram)
{
    struct carried *carried;
    uint32_t entry = frame->count - 1;
    int r;

    if (!s->calls || frame->count == 0 || frame->count > REPLY_ENTRIES ||
        frame->id != carried_reply_id((uint32_t)frame->id))
        return VRD_ERR_PEER_CORRUPT;
    r = carried_new(frame, datagram, &carried);
    if (r < 0)
        return r;
    carried_free(&s->calls->carried[entry]); /* for an answer that nobody waited for */
    s->calls->carried[entry] = carried;
    if (s->calls->unwanted & 1U << entry)
        carried_free(&s->calls->carried[entry]);
    return 0;
}
