/* SPDX-License-Identifier: MIT */
#include "object/sender.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <veridian/channel.h>
#include <veridian/error.h>

#include "base/error.h"
#include "cap/frame.h"
#include "object/call.h"
#include "object/control.h"
#include "object/lender.h"
#include "object/loss.h"
#include "object/memory.h"
#include "object/outfit.h"
#include "object/peer.h"
#include "object/port.h"
#include "object/reactor.h"
#include "object/ready.h"
#include "object/revoke.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/process.h"
#include "os/socket.h"

#define LEFT_MAX 1024 /* more than a socket's queue can hold */

static void sender_settle(struct port *port, enum sender_state state)
{
    port->sender.state = state;
    if (state == SENDER_ANSWERED)
        atomic_fetch_and_explicit(&port->attention, ~PORT_UNSETTLED, memory_order_relaxed);
    else
        atomic_fetch_or_explicit(&port->attention, PORT_UNSETTLED, memory_order_relaxed);
}

void sender_init(struct port *port, int root)
{
    struct sender *s = &port->sender;

    s->root = root;
    s->identity = fd_identity(root);
    s->inherited = -1;
    s->small_max =
        port->max_message < SLOT_INLINE_MAX ? (uint32_t)port->max_message : SLOT_INLINE_MAX;
    s->ring.notice = &ring_silence;
    sender_settle(port, SENDER_NEW);
}

void sender_inherit(struct port *port, int fd)
{
    port->sender.inherited = fd;
    port->sender.identity = fd_identity(fd);
}

/* --- frames ----------------------------------------------------------------------------------- */

static int frame_send(int fd, const struct frame *frame, const int *fds, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];
    int r;

    frame_encode(frame, buf);
    r = socket_send(fd, buf, sizeof(buf), fds, n_fds);
    reactor_sent();
    return r;
}

static int cause_error(uint16_t cause)
{
    if (loss_is_revocation(cause))
        return VRD_ERR_REVOKED;
    return cause == NOTICE_CORRUPT ? VRD_ERR_PEER_CORRUPT : VRD_ERR_PEER_GONE;
}

/*
 * Why the owner has ended a socket that confers a right and has ended; it says so behind all
 * else. What says it stays there: others may hold a copy of the socket, and want to know too.
 */
static uint16_t socket_cause(int fd)
{
    for (int i = 0; i < LEFT_MAX; i++) {
        datagram_auto datagram = { .pidfd = -1 };
        struct frame frame;
        int r = socket_peek(fd, &datagram);

        /* deaf, and not shut down: revoked, and more is to come */
        if (r == -EAGAIN && revoke_hurry())
            r = socket_peek(fd, &datagram);
        if (r == -EAGAIN)
            return NOTICE_REVOKED;
        if (r <= 0)
            break;
        if (frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame) == 0 &&
            frame.type == FRAME_CLOSE)
            return frame.cause;
        datagram_deinit(&datagram);
        if (socket_receive(fd, &datagram) <= 0)
            break;
    }
    return NOTICE_NONE;
}

int sender_send(struct port *port, int fd, const struct frame *frame, const int *fds, size_t n_fds)
{
    int r = frame_send(fd, frame, fds, n_fds);

    if (r == -EAGAIN && receiver_pump(port->sender.twin))
        r = frame_send(fd, frame, fds, n_fds);
    if (r == -EAGAIN)
        return VRD_ERR_CHANNEL_FULL;
    if (r == -EPIPE || r == -ECONNRESET)
        return cause_error(socket_cause(fd));
    return r < 0 ? error_from_errno(-r) : 0;
}

/* Over the tether, with descriptors, or one, or none (-1). 0 or -errno. */
static int sender_say_all(struct port *port, const struct frame *frame, const int *fds,
                          size_t n_fds)
{
    int r = -EPIPE;

    control_lock();
    if (port->sender.tether)
        r = frame_send(port->sender.tether->fd, frame, fds, n_fds);
    control_unlock();
    port->sender.crowded = r == -EAGAIN;
    return r;
}

int sender_say(struct port *port, const struct frame *frame, int fd)
{
    return sender_say_all(port, frame, &fd, fd >= 0);
}

/* --- the link --------------------------------------------------------------------------------- */

/* Lets go of the link; what was sent stays with the receiver. Control lock held. */
static void sender_unlink(struct port *port, enum notice_cause cause)
{
    struct sender *s = &port->sender;

    if (s->ring.own) {
        struct frame frame = { .type = FRAME_CLOSE };

        /* release: what was published before is there for whoever sees the cause */
        __atomic_store_n(&s->ring.own->notice, (uint64_t)cause << 32, __ATOMIC_RELEASE);
        if (s->tether)
            frame_send(s->tether->fd, &frame, NULL, 0);
    }
    source_free(&s->tether);
    life_unwatch(&s->life);
    segment_unmap(&s->answer);
    segment_unmap(&s->peer);
    ring_writer_deinit(&s->ring);
    lender_leave(s->lender);
    s->lender = NULL;
    s->ended = s->corrupt = false;
    s->cause = NOTICE_NONE;
    s->unanswered = s->asked;
    s->owner = 0;
}

static int sender_end(struct port *port, int error, enum vrd_loss loss)
{
    control_lock();
    loss_note(port, loss);
    control_unlock();
    port->sender.error = error;
    sender_settle(port, SENDER_ENDED);
    return error;
}

/* Makes ready what a link needs here, with `tether`, which it takes. 0 or VRD_ERR_*. */
static int sender_equip(struct port *port, struct outfit *outfit, int tether)
{
    struct sender *s = &port->sender;

    ring_writer_init(&s->ring, outfit->segment, port->capacity);
    outfit->segment = (struct segment){ 0 };
    s->transfers = 0;
    control_lock();
    s->tether = source_new(port, SOURCE_TETHER, tether);
    control_unlock();
    return s->tether ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

static int sender_watch(struct sender *s)
{
    int r;

    control_lock();
    r = s->tether ? source_watch(s->tether) : 0;
    control_unlock();
    return r;
}

/* HELLO was said, with result `r`. */
static int sender_said_hello(struct port *port, int r)
{
    struct sender *s = &port->sender;

    if (r < 0) {
        control_lock();
        source_free(&s->tether);
        control_unlock();
        ring_writer_deinit(&s->ring);
        return r;
    }
    port_hope(port); /* the owner may be on this CPU */
    sender_settle(port, SENDER_LINKED);
    return 0;
}

int sender_connect(struct port *port, int fd, struct outfit *outfit)
{
    const struct frame hello = { .type = FRAME_HELLO,
                                 .slots = port->capacity,
                                 .max_message = port->max_message };
    int r;

    if (outfit->offered) /* to a publisher, who is not the owner: it may still read that segment */
        outfit_deinit(outfit);
    r = outfit_make(outfit, port->capacity, port->memory);
    if (r == 0)
        r = outfit_tether(outfit);
    if (r < 0)
        return error_from_errno(-r);
    r = sender_equip(port, outfit, fd_take(&outfit->near));
    if (r == 0)
        r = sender_watch(&port->sender);
    if (r == 0)
        r = sender_send(port, fd, &hello, (int[]){ outfit->far, outfit->segment_fd }, 2);
    return sender_said_hello(port, r);
}

void sender_offer(int fd, struct outfit *outfit)
{
    const struct frame hello = { .type = FRAME_HELLO_HERE,
                                 .slots = VRD_CHANNEL_SLOTS_DEFAULT,
                                 .max_message = PTRDIFF_MAX };

    if (outfit_make(outfit, VRD_CHANNEL_SLOTS_DEFAULT, 0) == 0)
        outfit->offered = frame_send(fd, &hello, &outfit->segment_fd, 1) == 0;
}

/*
 * The answer is mostly so near that the reactor's thread would only be in the way: it watches the
 * tether afterwards.
 */
int sender_connect_here(struct port *port, int *fd, struct outfit *outfit, int64_t patience)
{
    struct sender *s = &port->sender;
    const struct frame hello = { .type = FRAME_HELLO_HERE,
                                 .slots = port->capacity,
                                 .max_message = port->max_message,
                                 .extension = port->memory };
    int r = outfit_make(outfit, port->capacity, port->memory);

    if (r < 0)
        return error_from_errno(-r);
    r = sender_equip(port, outfit, fd_take(fd));
    if (r == 0 && !outfit->offered)
        r = sender_send(port, s->tether->fd, &hello, &outfit->segment_fd, 1);
    if (r == 0 && fd_look_for(s->tether->fd, patience)) {
        control_lock();
        sender_source_ready(s->tether);
        control_unlock();
    }
    if (r == 0)
        r = sender_watch(s);
    return sender_said_hello(port, r);
}

int sender_refused(struct port *port, int fd, int error)
{
    if (error != VRD_ERR_PEER_GONE && error != VRD_ERR_REVOKED)
        return error;
    return sender_end(port, error, loss_of_cause((uint8_t)socket_cause(fd)));
}

/* The first operation of a process: over the root, or over the tether that the parent left. */
static int sender_hello(struct port *port)
{
    struct sender *s = &port->sender;
    int fd = s->root >= 0 ? s->root : s->inherited;
    outfit_auto outfit = OUTFIT_NONE;
    int r = sender_connect(port, fd, &outfit);

    if (r < 0)
        return sender_refused(port, fd, r);
    fd_close(&s->inherited);
    return 0;
}

/* Why the owner has ended the link, if it has; control lock held. */
static uint16_t sender_cause(const struct sender *s)
{
    /* relaxed: one byte that says why; nothing is read on the strength of it */
    uint8_t cause = (uint8_t)(__atomic_load_n(s->ring.notice, __ATOMIC_RELAXED) >> 32);

    return cause != NOTICE_NONE ? cause : s->cause;
}

/* The link has ended. Someone else who holds RECEIVE may answer the next HELLO. */
static int sender_lost(struct port *port, int error)
{
    struct sender *s = &port->sender;
    uint16_t cause;

    control_lock();
    calls_detach(s, error);
    cause = error == VRD_ERR_PEER_CORRUPT ? NOTICE_CORRUPT : sender_cause(s);
    sender_unlink(port, error == VRD_ERR_PEER_CORRUPT ? NOTICE_CORRUPT : NOTICE_CLOSED);
    /* nobody else tells those who sleep or watch, if this thread was the first to notice */
    ready_post(port);
    port_wake(port);
    control_unlock();
    if (error != VRD_ERR_PEER_GONE || s->root < 0 || socket_ended(s->root))
        return sender_end(port, error, loss_of_cause((uint8_t)cause));
    sender_settle(port, SENDER_NEW);
    return error;
}

int sender_corrupt(struct port *port)
{
    return sender_lost(port, VRD_ERR_PEER_CORRUPT);
}

/* Takes over what the reactor posted. 0, or why the link is over. */
static int sender_adopt(struct port *port)
{
    struct sender *s = &port->sender;
    bool ended, corrupt;
    uint16_t cause;

    control_lock();
    /* Before the owner has answered, and after a hint: nobody else may have looked yet. */
    if (s->tether && s->answer.size == 0)
        sender_source_ready(s->tether);
    atomic_fetch_and_explicit(&port->attention, ~PORT_NEWS, memory_order_relaxed);
    if (s->answer.size > 0) {
        s->peer = s->answer;
        s->answer = (struct segment){ 0 };
        ring_writer_answered(&s->ring, s->peer.addr);
        if (s->lender)
            loan_writer_answered(&s->lender->loans, s->peer.addr);
        calls_answered(s);
        sender_settle(port, SENDER_ANSWERED);
    }
    ended = s->ended;
    corrupt = s->corrupt;
    cause = sender_cause(s);
    control_unlock();
    if (corrupt)
        return VRD_ERR_PEER_CORRUPT;
    if (cause != NOTICE_NONE)
        return cause_error(cause);
    return ended ? VRD_ERR_PEER_GONE : 0;
}

int sender_attend(struct port *port)
{
    int r = port->sender.put_off;

    port->sender.put_off = 0;
    if (port->sender.state == SENDER_ENDED)
        return port->sender.error;
    if (r < 0)
        return r;
    if (port->sender.state == SENDER_NEW)
        return sender_hello(port);
    /* LINKED: sender_written looks, after the message is there; until then news come by post */
    if (port_news(port))
        r = sender_adopt(port);
    return r < 0 ? sender_lost(port, r) : 0;
}

/* The receiver awaits a position that was just published. */
static void sender_ring(struct port *port, uint64_t notice)
{
    struct ring_writer *w = &port->sender.ring;
    uint32_t awaited = (uint32_t)notice;

    switch ((notice >> 40) & 0xff) {
    case RING_FUTEX:
        futex_wake(&w->slots[(awaited - 1) & w->mask].word, true);
        break;
    case RING_TETHER:
        control_lock();
        if (port->sender.tether)
            socket_send(port->sender.tether->fd, "", 1, NULL, 0);
        control_unlock();
        reactor_sent();
        break;
    default:
        break;
    }
}

/*
 * The link has ended while the last `n` messages were on their way. Those that the receiver took all the
 * same were sent, and if there are any, the next operation says that the link is over; else this one does.
 * How many, or VRD_ERR_*.
 */
static int sender_lost_sending(struct port *port, uint32_t n, int error)
{
    const struct ring_writer *w = &port->sender.ring;
    uint32_t left = 0;

    if (w->cursor) /* relaxed: only counted, and checked */
        left = w->position - (uint32_t)__atomic_load_n(w->cursor, __ATOMIC_RELAXED);
    if (!w->cursor || left >= n)
        return sender_lost(port, error);
    atomic_fetch_or_explicit(&port->attention, PORT_NEWS, memory_order_relaxed);
    return (int)(n - left);
}

int sender_heed_batch(struct port *port, uint64_t notice, uint32_t n)
{
    uint8_t cause = (uint8_t)(notice >> 32);

    if (cause != NOTICE_NONE)
        return sender_lost_sending(port, n, cause_error(cause));
    sender_ring(port, notice);
    return (int)n;
}

int sender_heed(struct port *port, uint64_t notice)
{
    int r = sender_heed_batch(port, notice, 1);

    return r < 0 ? r : 0;
}

void sender_put_off(struct port *port, int error)
{
    if (port->sender.state == SENDER_NEW && error == VRD_ERR_PEER_GONE)
        port->sender.put_off = error;
}

int sender_full(struct port *port)
{
    /* relaxed: one byte that says why; nothing is read on the strength of it */
    uint8_t cause = (uint8_t)(__atomic_load_n(port->sender.ring.notice, __ATOMIC_RELAXED) >> 32);

    return cause != NOTICE_NONE ? sender_lost(port, cause_error(cause)) : VRD_ERR_CHANNEL_FULL;
}

int sender_broken(struct port *port)
{
    const int root = port->sender.root;
    int r = sender_adopt(port);

    if (r == 0 && root >= 0 && socket_over(root))
        r = cause_error(socket_cause(root));
    return sender_lost(port, r < 0 ? r : VRD_ERR_PEER_GONE);
}

int sender_unanswered(struct port *port, uint32_t before)
{
    int r = sender_adopt(port);

    /* Either the WELCOME is here, and with it the notice; or the owner will look after sending it. */
    if (r == 0)
        return sender_heed(port, sender_notice(&port->sender.ring, before));
    r = sender_lost_sending(port, 1, r);
    return r < 0 ? r : 0;
}

int sender_prepare(struct port *port, size_t len)
{
    struct ring_writer *w = &port->sender.ring;
    struct frame frame = { .type = FRAME_ATTACH, .extension = w->extension + 1 };
    struct segment bytes;
    struct pages pages;
    fd_auto fd = -1;
    int r;

    if (ring_writer_fits(w, len))
        return 0;
    r = ring_writer_refresh(w);
    if (r < 0)
        return r;
    if (!ring_writer_may_attach(w))
        return VRD_ERR_CHANNEL_FULL;
    r = ring_writer_reserve(w);
    if (r < 0)
        return r;
    frame.bytes = ring_bytes_size(len, port->max_message);
    pages = memory_pages_large(port->memory, sender_owner_cpu(w), &frame.bytes, PTRDIFF_MAX);
    r = segment_create_of(frame.bytes, &pages, &bytes, &fd);
    if (r < 0)
        return error_from_errno(-r);
    r = sender_say(port, &frame, fd);
    if (r < 0) {
        segment_unmap(&bytes);
        return r == -EAGAIN ? VRD_ERR_CHANNEL_FULL : error_from_errno(-r);
    }
    return ring_writer_attach(w, bytes);
}

int sender_carry(struct port *port, struct ring_message *message)
{
    const struct carried *carried = message->carried;
    struct sender *s = &port->sender;
    struct frame frame = { .type = FRAME_TRANSFER, .id = s->transfers + 1 };
    uint32_t *at = &s->carried_at[s->transfers % CARRIED_MAX];
    int r = ring_writer_room(&s->ring, message);

    if (r == 0 && s->transfers >= CARRIED_MAX && !ring_writer_passed(&s->ring, *at)) {
        r = ring_writer_refresh(&s->ring);
        if (r == 0 && !ring_writer_passed(&s->ring, *at))
            r = VRD_ERR_CHANNEL_FULL; /* a cursor that moves will tell */
    }
    if (r < 0)
        return r;
    r = sender_say_all(port, &frame, carried->fds, carried->n);
    if (r == -EAGAIN)
        return VRD_ERR_CHANNEL_FULL;
    if (r < 0)
        return error_from_errno(-r);
    message->transfer = ++s->transfers;
    *at = s->ring.position;
    return 0;
}

enum vrd_loss sender_loss(struct port *port)
{
    struct sender *s = &port->sender;
    int fd = s->root >= 0 ? s->root : s->inherited;
    enum vrd_loss loss;
    uint16_t cause;

    control_lock();
    if (s->tether)
        sender_source_ready(s->tether);
    loss = port->loss;
    cause = sender_cause(s);
    control_unlock();
    if (loss == VRD_LOSS_NONE && cause_error(cause) != VRD_ERR_PEER_GONE)
        return loss_of_cause((uint8_t)cause);
    if (loss == VRD_LOSS_NONE && s->state == SENDER_NEW && socket_over(fd))
        return loss_of_cause((uint8_t)socket_cause(fd));
    return loss;
}

/* --- life ------------------------------------------------------------------------------------- */

void sender_close(struct port *port)
{
    struct sender *s = &port->sender;

    calls_free(s);
    sender_unlink(port, NOTICE_CLOSED);
    fd_close(&s->root);
    fd_close(&s->inherited);
}

/*
 * Our segment and our byte ring are not mapped here (not inherited), the owner's segment is. The
 * tether is the parent's: where there is a root, it is not needed; else it is good for one HELLO.
 */
void sender_after_fork(struct port *port)
{
    struct sender *s = &port->sender;

    calls_free(s);
    ring_writer_forget(&s->ring);
    lender_leave(s->lender);
    s->lender = NULL;
    segment_unmap(&s->answer);
    segment_unmap(&s->peer);
    if (fd_identity(s->root) != s->identity) /* closed, and perhaps somebody else's by now */
        s->root = -1;
    if (s->tether && s->root < 0) {
        s->identity = s->tether->identity;
        s->inherited = source_take_fd(&s->tether);
    }
    if (fd_identity(s->inherited) != s->identity)
        s->inherited = -1;
    source_free(&s->tether);
    life_unwatch(&s->life);
    s->ended = s->corrupt = false;
    s->owner = 0;
    s->put_off = 0;
    if (s->state != SENDER_ENDED)
        sender_settle(port, s->root >= 0 || s->inherited >= 0 ? SENDER_NEW : SENDER_ENDED);
    s->error = s->error ? s->error : VRD_ERR_PEER_GONE;
}

/* --- what the reactor finds ------------------------------------------------------------------- */

static int sender_welcome(struct source *source, struct datagram *datagram)
{
    struct sender *s = &source->port->sender;
    int pidfd, r;

    if (s->owner != 0 || datagram->pid == 0)
        return VRD_ERR_PEER_CORRUPT;
    r = segment_import(datagram->fds[0], LAYOUT_RECEIVER_SIZE, &s->answer);
    if (r < 0)
        return r == -EPROTO ? VRD_ERR_PEER_CORRUPT : error_from_errno(-r);
    fd_close(&datagram->fds[0]); /* a memfd: that waits for nobody */
    s->owner = datagram->pid;
    if (s->owner == control_pid())
        return 0;
    pidfd = datagram->pidfd >= 0 ? fd_take(&datagram->pidfd) : process_open(s->owner);
    peer_met(s->owner, pidfd);
    if (pidfd <
        0) /* gone already: the tether tells; or the kernel does not say: the tether has to do */
        return 0;
    s->life.port = source->port;
    return life_watch(&s->life, s->owner, pidfd);
}

/* The owner has ended the link, and says why, in case that there is no notice yet to say it. */
static int sender_closed(struct port *port, uint16_t cause)
{
    if (cause > NOTICE_POLICY)
        return VRD_ERR_PEER_CORRUPT;
    if (cause == NOTICE_NONE) /* a hint to look at the notice */
        return 0;
    port->sender.cause = cause;
    return VRD_ERR_PEER_GONE; /* what follows is for children who hold the socket too */
}

static int sender_frame(struct source *source, struct datagram *datagram)
{
    struct frame frame;
    int r;

    port_post(source->port);
    if (datagram->len == 1)
        return source_rang(source, datagram->n_fds);
    r = frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame);
    if (r < 0)
        return r;
    switch (frame.type) {
    case FRAME_WELCOME:
        return sender_welcome(source, datagram);
    case FRAME_ATTACH:
        return calls_attach(&source->port->sender, &frame, datagram->fds[0],
                            source->port->max_message, memory_shift(source->port->memory));
    case FRAME_REVOKED:
        if (frame.id <= source->port->sender.answered || frame.id > source->port->sender.asked)
            return VRD_ERR_PEER_CORRUPT;
        source->port->sender.answered = frame.id;
        return 0;
    case FRAME_TRANSFER:
        return calls_carried(&source->port->sender, &frame, datagram);
    case FRAME_CLOSE:
        return sender_closed(source->port, frame.cause);
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
}

/* With a root, the next use will show whether it is lost: somebody else may hold RECEIVE. */
static void sender_note_loss(struct port *port)
{
    const struct sender *s = &port->sender;
    uint16_t cause = s->corrupt ? NOTICE_CORRUPT : s->cause;

    if (s->root < 0 || cause_error(cause) != VRD_ERR_PEER_GONE)
        loss_note(port, loss_of_cause((uint8_t)cause));
}

int sender_owner_gone(struct port *port, pid_t pid)
{
    struct sender *s = &port->sender;

    if (s->owner != pid)
        return 0;
    s->ended = true;
    life_unwatch(&s->life);
    sender_note_loss(port);
    port_post(port);
    return 1;
}

void sender_source_ready(struct source *source)
{
    struct port *port = source->port;
    struct sender *s = &port->sender;
    int r;

    r = source_drain(source, sender_frame);
    if (r < 0) {
        s->ended = true;
        s->corrupt |= r == VRD_ERR_PEER_CORRUPT;
        if (s->calls)
            s->calls->starved |= r != VRD_ERR_PEER_CORRUPT && r != VRD_ERR_PEER_GONE;
        source_free(&s->tether);
        sender_note_loss(port);
        port_post(port);
    } /* else posted if anything came: a look that finds nothing must not wake those who wait */
}
