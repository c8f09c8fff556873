/* SPDX-License-Identifier: MIT */
#include "link/reply.h"

#include <stdlib.h>

void reply_reader_init(struct reply_reader *r, struct sender_segment *own, uint64_t max_message)
{
    *r = (struct reply_reader){
        .notices = own->reply_notice,
        .free = REPLY_ALL_FREE,
        .max_message = max_message,
    };
}

void reply_reader_deinit(struct reply_reader *r)
{
    for (size_t i = 0; i < REPLY_ENTRIES; i++)
        if (!(r->viewed & 1U << i))
            segment_unmap(&r->buffers[i].segment);
}

void reply_reader_deinit_viewed(struct reply_reader *r)
{
    r->viewed = 0;
    reply_reader_deinit(r);
}

void reply_reader_answered(struct reply_reader *r, const struct receiver_segment *peer)
{
    r->entries = peer->replies;
}

int reply_reader_attach(struct reply_reader *r, uint32_t entry, uint32_t number,
                        struct segment segment)
{
    struct reply_buffer *buffer = &r->buffers[entry];

    /* ones in between may have been for answers that nobody waited for */
    if (number - buffer->number - 1 >= INT32_MAX) {
        segment_unmap(&segment);
        return VRD_ERR_PEER_CORRUPT;
    }
    segment_unmap(&buffer->segment);
    *buffer = (struct reply_buffer){ .segment = segment, .number = number };
    return 0;
}

/* Abandoned calls that have been answered by now. */
static void reply_collect(struct reply_reader *r)
{
    for (uint32_t left = r->abandoned; r->entries && left != 0; left &= left - 1) {
        int entry = __builtin_ctz(left);

        if (reply_state(r, entry, slot_load(&r->entries[entry])) != RING_READY)
            continue;
        r->abandoned &= (uint16_t) ~(1U << entry);
        reply_end(r, entry);
    }
}

/* Views that have been released by now. */
static void reply_collect_released(struct reply_reader *r)
{
    /* acquire: pairs with reply_release; the next answer in the buffer is behind the call */
    uint16_t released = __atomic_exchange_n(&r->released, 0, __ATOMIC_ACQUIRE);

    r->viewed &= (uint16_t)~released;
    r->free |= released;
}

int reply_pick(struct reply_reader *r, uint32_t sequence)
{
    if (unlikely(r->viewed != 0))
        reply_collect_released(r);
    if (r->free == 0)
        reply_collect(r);
    for (uint32_t left = r->free; left != 0; left &= left - 1) {
        int entry = __builtin_ctz(left);

        /* what it says already, since just 2^32 messages ago (or 0, since ever), is no answer */
        if (r->sequence[entry] != sequence)
            return entry;
    }
    return -1;
}

static uint64_t reply_wish(const struct reply_reader *r, int entry, enum notice_ring how)
{
    return (uint64_t)how << 40 | r->sequence[entry];
}

bool reply_is_armed(const struct reply_reader *r, int entry, enum notice_ring how)
{
    return __atomic_load_n(&r->notices[entry], __ATOMIC_RELAXED) == reply_wish(r, entry, how);
}

void reply_arm(struct reply_reader *r, int entry, enum notice_ring how)
{
    /* relaxed: nobody else writes it; whoever has to be sure that it is seen fences */
    __atomic_store_n(&r->notices[entry], reply_wish(r, entry, how), __ATOMIC_RELAXED);
}

void reply_abandon(struct reply_reader *r, int entry)
{
    reply_arm(r, entry, RING_CANCELLED);
    r->abandoned |= (uint16_t)(1U << entry);
}

static int reply_read_buffer(struct reply_reader *r, int entry, struct ring_message *message,
                             size_t size)
{
    const struct reply_buffer *buffer = &r->buffers[entry];
    struct slot_bytes bytes;

    memcpy(&bytes, r->entries[entry].head, sizeof(bytes));
    compiler_barrier(); /* the copy is checked and used, whatever the other side does now */
    if (bytes.len > r->max_message || bytes.offset != 0 || bytes.extension == 0)
        return VRD_ERR_PEER_CORRUPT;
    if (bytes.extension != buffer->number)
        return RING_NEEDS_EXTENSION;
    if (bytes.len > buffer->segment.size)
        return VRD_ERR_PEER_CORRUPT;
    message->len = bytes.len;
    if (message->wants_view) {
        message->view = (struct loan_view){ .data = buffer->segment.addr,
                                            .len = bytes.len,
                                            .loan = (uint32_t)entry };
        return 0;
    }
    if (bytes.len > size)
        return VRD_ERR_MESSAGE_TOO_LARGE;
    memcpy(message->data, buffer->segment.addr, bytes.len);
    return 0;
}

int reply_read(struct reply_reader *r, int entry, uint64_t word, struct ring_message *message,
               size_t size)
{
    const struct slot *slot = &r->entries[entry];
    unsigned kind = (unsigned)(word >> 40) & 0xff;
    size_t len = (word >> 32) & 0xff;
    int e;

    slot_get_meta(slot, word, message);
    switch (kind & ~(unsigned)SLOT_META) {
    case SLOT_INLINE:
        if (len > SLOT_INLINE_MAX || len > r->max_message)
            return VRD_ERR_PEER_CORRUPT;
        message->len = len;
        if (len > size)
            return VRD_ERR_MESSAGE_TOO_LARGE;
        copy_small(message->data, slot_payload_read(slot), len);
        break;
    case SLOT_BYTES:
        e = reply_read_buffer(r, entry, message, size);
        if (e != 0)
            return e;
        break;
    case SLOT_NONE:
        return VRD_ERR_PEER_GONE;
    default:
        return VRD_ERR_PEER_CORRUPT;
    }
    r->last = word;
    return 0;
}

void reply_writer_init(struct reply_writer *w, struct receiver_segment *own,
                       const struct sender_segment *peer)
{
    *w = (struct reply_writer){ .entries = own->replies, .notices = peer->reply_notice };
}

void reply_writer_deinit(struct reply_writer *w)
{
    for (size_t i = 0; w->buffers && i < REPLY_ENTRIES; i++)
        segment_unmap(&w->buffers[i].segment);
    reply_writer_forget(w);
}

void reply_writer_forget(struct reply_writer *w)
{
    free(w->buffers);
    w->buffers = NULL;
}

void reply_write_none(struct reply_writer *w, uint32_t entry, uint32_t sequence)
{
    reply_publish(w, entry, slot_word(sequence, 0, SLOT_NONE));
}

bool reply_writer_fits(const struct reply_writer *w, uint32_t entry, size_t len)
{
    return w->buffers && len <= w->buffers[entry].segment.size;
}

uint32_t reply_writer_next(struct reply_writer *w, uint32_t entry)
{
    uint32_t next;

    if (!w->buffers)
        w->buffers = calloc(REPLY_ENTRIES, sizeof(*w->buffers));
    if (!w->buffers)
        return 0;
    next = w->buffers[entry].number + 1;
    return next != 0 ? next : 1;
}

void reply_writer_attach(struct reply_writer *w, uint32_t entry, struct segment segment)
{
    uint32_t number = reply_writer_next(w, entry);

    segment_unmap(&w->buffers[entry].segment);
    w->buffers[entry] = (struct reply_buffer){ .segment = segment, .number = number };
}

void reply_write(struct reply_writer *w, uint32_t entry, uint32_t sequence,
                 const struct ring_message *message)
{
    struct slot *slot = &w->entries[entry];
    unsigned kind = SLOT_INLINE;
    size_t inline_len = message->len;

    if (message->len <= SLOT_INLINE_MAX) {
        copy_into_line(slot_payload(slot), message->data, message->len);
    } else {
        const struct reply_buffer *buffer = &w->buffers[entry];
        struct slot_bytes bytes = { .len = message->len, .extension = buffer->number };

        if (message->data != buffer->segment.addr)
            memcpy(buffer->segment.addr, message->data, message->len);
        memcpy(slot->head, &bytes, sizeof(bytes));
        kind = SLOT_BYTES;
        inline_len = 0;
    }
    kind |= slot_put_meta(slot, message->opcode, message->flags, message->transfer);
    reply_publish(w, entry, slot_word(sequence, inline_len, kind));
}
