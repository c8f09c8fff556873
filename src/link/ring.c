/* SPDX-License-Identifier: MIT */
#include "link/ring.h"

#include <stdlib.h>

#include "base/clock.h"

#define BYTES_ALIGN 64
#define BYTES_MIN ((size_t)256 << 10)
#define BYTES_USUAL ((size_t)1 << 20) /* from BYTES_MEDIUM on: more than the L2 cache holds, from */
#define BYTES_MEDIUM 1024             /* which the other CPU would have to fetch each line        */
#define BYTES_LARGE ((size_t)8 << 20) /* from here on a byte ring is given back when too large */
#define BYTES_TOO_LARGE 64            /* ... that many times the message ... */
#define BYTES_TOO_OFTEN 1024          /* ... for that many messages in a row */
#define BYTES_MESSAGES 4              /* of a size: so many fit, and copying in and out overlap */

#define GAUGE_EACH 64 /* messages between two looks at the distance of the reader, or more */
#define GAUGE_NS 75   /* its lines come no sooner than memory's: it is far */
#define GAUGE_MOST 4  /* so many such looks, less the others, are remembered */
#define FAR_MIN 4096  /* bytes for which the way through memory pays */

const uint64_t ring_silence;

void ring_writer_init(struct ring_writer *w, struct segment segment, uint32_t capacity)
{
    *w = (struct ring_writer){
        .own = segment.addr,
        .segment = segment,
        .notice = &ring_silence,
        .mask = ring_slots(capacity) - 1,
        .capacity = capacity,
        .limit = capacity,
    };
    w->slots = w->own->slots;
}

void ring_writer_deinit(struct ring_writer *w)
{
    segment_unmap(&w->segment);
    segment_unmap(&w->bytes);
    ring_writer_forget(w);
}

void ring_writer_forget(struct ring_writer *w)
{
    free(w->ends);
    *w = (struct ring_writer){ .notice = &ring_silence };
}

void ring_writer_answered(struct ring_writer *w, const struct receiver_segment *peer)
{
    w->notice = &peer->notice;
    w->cursor = &peer->cursor;
}

/* Frees the bytes of all messages before `cursor`. */
static void writer_release(struct ring_writer *w, uint32_t cursor)
{
    while (w->ends_head != w->ends_tail) {
        const struct ring_byte_end *end = &w->ends[w->ends_head & w->mask];

        if (w->position - end->position < w->position - cursor)
            return;
        w->bytes_head = end->end;
        w->ends_head++;
    }
}

int ring_writer_refresh(struct ring_writer *w)
{
    uint32_t cursor, before = w->limit - w->capacity;

    if (!w->cursor)
        return w->position == w->limit ? VRD_ERR_CHANNEL_FULL : 0;
    /* acquire: pairs with the release in ring_advance; what was read may be overwritten now */
    cursor = (uint32_t)__atomic_load_n(w->cursor, __ATOMIC_ACQUIRE);
    if (cursor - before > w->position - before)
        return VRD_ERR_PEER_CORRUPT;
    w->limit = cursor + w->capacity;
    writer_release(w, cursor);
    return w->position == w->limit ? VRD_ERR_CHANNEL_FULL : 0;
}

size_t ring_bytes_size(size_t len, size_t max_message)
{
    size_t size = len, most = round_up(max_message, LAYOUT_PAGE) * BYTES_MESSAGES;

    /* room for more than this message, unless it is so large that one at a time has to do */
    if (len <= BYTES_LARGE)
        size = len * BYTES_MESSAGES * 2;
    if (size > most && most > len)
        size = most;
    if (size < BYTES_MIN)
        size = BYTES_MIN;
    if (size < BYTES_USUAL && len >= BYTES_MEDIUM)
        size = BYTES_USUAL;
    return round_up(size, LAYOUT_PAGE);
}

bool ring_writer_fits(const struct ring_writer *w, size_t len)
{
    if (round_up(len, BYTES_ALIGN) > w->bytes.size)
        return false;
    return w->bytes.size <= BYTES_LARGE || w->bytes_idle < BYTES_TOO_OFTEN;
}

bool ring_writer_may_attach(struct ring_writer *w)
{
    if (w->extension < RING_EXTENSIONS_MAX - 1)
        return true;
    if (ring_writer_refresh(w) == VRD_ERR_PEER_CORRUPT)
        return true; /* the write after this finds it again and says so */
    /* Where a byte ring was replaced, the next one got its first message. Has the reader taken the
     * one that made it drop the byte ring whose place we need? */
    return ring_writer_passed(w, w->retired[(w->extension + 1) % RING_EXTENSIONS_MAX]);
}

int ring_writer_reserve(struct ring_writer *w)
{
    if (!w->ends)
        w->ends = calloc((size_t)w->mask + 1, sizeof(*w->ends));
    return w->ends ? 0 : VRD_ERR_OUT_OF_MEMORY;
}

int ring_writer_attach(struct ring_writer *w, struct segment bytes)
{
    if (ring_writer_reserve(w) < 0) {
        segment_unmap(&bytes);
        return VRD_ERR_OUT_OF_MEMORY;
    }
    segment_unmap(&w->bytes); /* the reader has its own mapping of what is still in there */
    w->retired[w->extension % RING_EXTENSIONS_MAX] = w->position;
    w->extension++;
    w->bytes = bytes;
    w->bytes_head = w->bytes_tail = 0;
    w->ends_head = w->ends_tail = 0;
    w->bytes_idle = 0;
    return 0;
}

/* Does the payload go into the byte ring? */
static bool message_in_bytes(const struct ring_message *message)
{
    return message->len > SLOT_INLINE_MAX && !message->block;
}

/* Is there room for so many, as far as we have looked? */
static bool writer_holds(const struct ring_writer *w, size_t len)
{
    return round_up(len, BYTES_ALIGN) <= w->bytes.size - (w->bytes_tail - w->bytes_head);
}

int ring_writer_room(struct ring_writer *w, const struct ring_message *message)
{
    size_t need = message_in_bytes(message) ? message->len : 0;
    int r;

    if (w->position != w->limit && writer_holds(w, need))
        return 0;
    r = ring_writer_refresh(w);
    if (r < 0)
        return r;
    return writer_holds(w, need) ? 0 : VRD_ERR_CHANNEL_FULL;
}

/*
 * How far is the reader? Now and then a load of its cursor is timed. If that has moved since we saw it,
 * the line comes from there.
 */
static void writer_gauge(struct ring_writer *w)
{
    int64_t before = clock_now(), start = clock_now();
    /* relaxed: nothing is done about its value */
    uint32_t cursor = (uint32_t)__atomic_load_n(w->cursor, __ATOMIC_RELAXED);
    int64_t took = clock_now() - start - (start - before); /* but for what the clock takes */

    w->gauged = w->position;
    if (cursor == w->limit - w->capacity)
        return;
    if (took < GAUGE_NS)
        w->distance -= w->distance > 0;
    else
        w->distance += w->distance < GAUGE_MOST;
}

bool ring_writer_far(struct ring_writer *w, size_t len)
{
    if (len < FAR_MIN)
        return false;
    if (w->cursor && w->position - w->gauged >= GAUGE_EACH)
        writer_gauge(w);
    return w->distance > GAUGE_MOST / 2;
}

/* Copies the payload into the byte ring, which has room, and describes it in the slot. */
static void writer_put_bytes(struct ring_writer *w, struct slot *slot, const void *data, size_t len)
{
    uint64_t need = round_up(len, BYTES_ALIGN);
    uint64_t offset = w->bytes_tail % w->bytes.size;
    size_t first = len < w->bytes.size - offset ? len : w->bytes.size - offset;
    struct slot_bytes bytes = { .offset = offset, .len = len, .extension = w->extension };
    uint8_t *ring = w->bytes.addr;
    bool far = ring_writer_far(w, len);

    copy_write(ring + offset, data, first, far);
    if (first < len)
        copy_write(ring, (const uint8_t *)data + first, len - first, far);
    memcpy(slot->head, &bytes, sizeof(bytes));
    w->bytes_idle = w->bytes.size / BYTES_TOO_LARGE > len ? w->bytes_idle + 1 : 0;
    w->bytes_tail += need;
    w->ends[w->ends_tail++ & w->mask] =
        (struct ring_byte_end){ .position = w->position + 1, .end = w->bytes_tail };
}

bool ring_write_bytes(struct ring_writer *w, const void *data, size_t len, uint32_t opcode,
                      uint32_t flags)
{
    struct slot *slot = &w->slots[w->position & w->mask];
    unsigned kind;

    if (w->position == w->limit || !ring_writer_fits(w, len) || !writer_holds(w, len))
        return false;
    writer_put_bytes(w, slot, data, len);
    kind = SLOT_BYTES | slot_put_meta(slot, opcode, flags, 0);
    w->position++;
    slot_publish(slot, slot_word(w->position, 0, kind));
    return true;
}

/* Lends the piece that the payload is in, and describes it in the slot. */
static int writer_lend(struct ring_writer *w, struct slot *slot, const struct ring_message *message)
{
    struct slot_bytes bytes;
    int r = VRD_ERR_PEER_GONE;

    if (message->lender == w->loans)
        r = loan_lend(w->loans, message->block, message->len, &bytes);
    if (r == 0)
        memcpy(slot->head, &bytes, sizeof(bytes));
    return r;
}

int ring_write(struct ring_writer *w, const struct ring_message *message)
{
    struct slot *slot = &w->slots[w->position & w->mask];
    unsigned kind = SLOT_BYTES;
    size_t inline_len = 0;
    int r = ring_writer_room(w, message);

    if (r == 0 && message->block)
        r = writer_lend(w, slot, message);
    if (r < 0)
        return r;
    if (message_in_bytes(message)) {
        writer_put_bytes(w, slot, message->data, message->len);
    } else if (!message->block) {
        copy_into_line(slot_payload(slot), message->data, message->len);
        kind = SLOT_INLINE;
        inline_len = message->len;
    }
    kind |= slot_put_meta(slot, message->opcode, message->flags, message->transfer);
    if (message->call != 0)
        kind |= slot_call(message->call - 1);
    slot_publish(slot, slot_word(w->position + 1, inline_len, kind));
    w->position++;
    return 0;
}

void ring_reader_init(struct ring_reader *r, struct segment peer, struct segment own,
                      uint32_t slots, uint64_t max_message)
{
    const struct sender_segment *sender = peer.addr;

    *r = (struct ring_reader){
        .slots = sender->slots,
        .notice = &sender->notice,
        .own = own.addr,
        .mask = slots - 1,
        .max_message = max_message,
        .peer_segment = peer,
        .own_segment = own,
    };
}

void ring_reader_deinit(struct ring_reader *r)
{
    segment_unmap(&r->own_segment);
    ring_reader_forget(r);
}

void ring_reader_forget(struct ring_reader *r)
{
    segment_unmap(&r->peer_segment);
    for (size_t i = 0; i < RING_EXTENSIONS_MAX; i++)
        segment_unmap(&r->extensions[i].segment);
}

int ring_reader_attach(struct ring_reader *r, uint32_t number, struct segment segment)
{
    struct ring_extension *extension = &r->extensions[number % RING_EXTENSIONS_MAX];
    const struct ring_extension *before = &r->extensions[(number - 1) % RING_EXTENSIONS_MAX];

    if (extension->segment.size > 0 || before->number != number - 1) {
        segment_unmap(&segment);
        return VRD_ERR_PEER_CORRUPT;
    }
    *extension = (struct ring_extension){ .segment = segment, .number = number };
    return 0;
}

/* The byte ring of a message; drops those before it, which no later message may name. */
static int reader_extension(struct ring_reader *r, uint32_t number,
                            const struct segment **ret_segment)
{
    const struct ring_extension *extension = &r->extensions[number % RING_EXTENSIONS_MAX];

    if (number - r->extension >= RING_EXTENSIONS_MAX)
        return VRD_ERR_PEER_CORRUPT;
    if (number == 0 || extension->number != number)
        return number == 0 ? VRD_ERR_PEER_CORRUPT : RING_NEEDS_EXTENSION;
    for (; r->extension != number; r->extension++)
        segment_unmap(&r->extensions[r->extension % RING_EXTENSIONS_MAX].segment);
    *ret_segment = &extension->segment;
    return 0;
}

/* A payload that is in one piece in a heap extension. */
static int reader_get_lent(struct ring_reader *r, const struct slot_bytes *bytes,
                           struct ring_message *message, size_t size)
{
    struct loan_view view;
    int e = loan_find(&r->loans, bytes, r->max_message, &view);

    if (e != 0)
        return e == LOAN_NEEDS_EXTENSION ? RING_NEEDS_EXTENSION : e;
    message->len = view.len;
    if (!message->wants_view) {
        if (view.len > size)
            return VRD_ERR_MESSAGE_TOO_LARGE;
        copy_read(message->data, view.data, view.len);
        view.returns = loan_release(r->own, view.loan); /* before the cursor says so */
    }
    message->view = view;
    return 0;
}

/* A private copy: it is checked and used, whatever the writer does now. */
static struct slot_bytes slot_get_bytes(const struct slot *slot)
{
    struct slot_bytes bytes;

    memcpy(&bytes, slot->head, sizeof(bytes));
    compiler_barrier();
    return bytes;
}

/* Does it lie in the byte ring, and is it not more than was agreed upon? */
static bool bytes_sound(const struct slot_bytes *bytes, const struct segment *ring, uint64_t most)
{
    return bytes->len <= most && bytes->len <= ring->size && bytes->offset < ring->size;
}

static void bytes_copy(const struct slot_bytes *bytes, const struct segment *ring, void *buf)
{
    size_t left = ring->size - bytes->offset;
    size_t first = bytes->len < left ? bytes->len : left;

    copy_read(buf, (const uint8_t *)ring->addr + bytes->offset, first);
    if (first < bytes->len)
        copy_read((uint8_t *)buf + first, ring->addr, bytes->len - first);
}

static int reader_get_bytes(struct ring_reader *r, const struct slot *slot,
                            struct ring_message *message, size_t size)
{
    struct slot_bytes bytes = slot_get_bytes(slot);
    const struct segment *ring;
    int e;

    if (bytes.loan != 0)
        return reader_get_lent(r, &bytes, message, size);
    e = reader_extension(r, bytes.extension, &ring);
    if (e != 0)
        return e;
    if (!bytes_sound(&bytes, ring, r->max_message))
        return VRD_ERR_PEER_CORRUPT;
    message->len = bytes.len;
    if (bytes.len > size)
        return VRD_ERR_MESSAGE_TOO_LARGE;
    bytes_copy(&bytes, ring, message->data);
    return 0;
}

ssize_t ring_copy_bytes(const struct ring_reader *r, uint64_t word, void *buf, size_t size)
{
    const struct segment *ring = &r->extensions[r->extension % RING_EXTENSIONS_MAX].segment;
    struct slot_bytes bytes;

    if (((word >> 40) & 0xff & ~(unsigned)SLOT_META) != SLOT_BYTES)
        return -1;
    bytes = slot_get_bytes(ring_slot(r));
    if (bytes.loan != 0 || bytes.extension == 0 || bytes.extension != r->extension ||
        !bytes_sound(&bytes, ring, r->max_message) || bytes.len > size)
        return -1;
    bytes_copy(&bytes, ring, buf);
    return (ssize_t)bytes.len;
}

ssize_t ring_read_bytes(struct ring_reader *r, uint64_t word, void *buf, size_t size)
{
    ssize_t len = (word >> 40) & SLOT_META ? -1 : ring_copy_bytes(r, word, buf, size);

    if (len >= 0)
        ring_advance(r, word);
    return len;
}

int ring_read(struct ring_reader *r, uint64_t word, struct ring_message *message, size_t size)
{
    const struct slot *slot = &r->slots[r->position & r->mask];
    unsigned kind = (unsigned)(word >> 40) & 0xff;
    size_t len = (word >> 32) & 0xff;
    uint32_t call = r->calls ? slot_caller(word) : 0;
    int e;

    message->view = (struct loan_view){ 0 };
    if (call != 0)
        kind &= ~slot_call(call - 1);
    switch (kind & ~(unsigned)SLOT_META) {
    case SLOT_INLINE:
        if (len > SLOT_INLINE_MAX)
            return VRD_ERR_PEER_CORRUPT;
        message->len = len;
        if (len > size)
            return VRD_ERR_MESSAGE_TOO_LARGE;
        copy_small(message->data, slot_payload_read(slot), len);
        break;
    case SLOT_BYTES:
        e = reader_get_bytes(r, slot, message, size);
        if (e != 0)
            return e;
        break;
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
    slot_get_meta(slot, word, message);
    ring_advance(r, word);
    message->call = call;
    message->sequence = r->position;
    return 0;
}

uint32_t ring_drop(struct ring_reader *r, uint64_t word)
{
    bool bytes = ((word >> 40) & SLOT_KIND_MASK) == SLOT_BYTES;
    uint32_t loan = bytes ? slot_get_bytes(ring_slot(r)).loan : 0;

    ring_advance(r, word);
    return loan;
}
