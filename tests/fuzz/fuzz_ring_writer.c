/* SPDX-License-Identifier: MIT */
/*
 * A ring writer before a receiver's segment in which anything may stand. The input is a program:
 * cursors, notices and sends of all sizes. Whatever the cursor does, messages that it has not
 * released stay as they were sent.
 */
#include "input.h"
#include "memory.h"

#include "link/ring.h"

#define MESSAGE_MAX 9000
#define CAPACITY_MAX 32

enum step { CURSOR_NEAR, CURSOR_ANY, NOTICE_ANY, WRITE_SMALL, WRITE, STEPS };

struct sent {
    uint8_t seed;
    size_t len;
    uint32_t extension; /* 0: in the slot */
};

struct stage {
    struct input input;
    struct memory memory;
    struct ring_writer writer;
    struct receiver_segment *peer;
    struct sent sent[CAPACITY_MAX]; /* by position */
    bool corrupt;
};

static uint8_t message_byte(uint8_t seed, size_t i)
{
    return (uint8_t)(seed * 7 + i * 13 + (i >> 8));
}

static const uint8_t *message_at(const struct ring_writer *w, const struct sent *sent,
                                 const struct slot *slot, size_t i)
{
    struct slot_bytes bytes;

    if (sent->extension == 0)
        return (const uint8_t *)slot + offsetof(struct slot, head) + i;
    memcpy(&bytes, slot->head, sizeof bytes);
    fuzz_require(bytes.len == sent->len && bytes.extension == sent->extension);
    return (const uint8_t *)w->bytes.addr + (bytes.offset + i) % w->bytes.size;
}

static void require_message_kept(const struct stage *stage, uint32_t position)
{
    const struct ring_writer *w = &stage->writer;
    const struct sent *sent = &stage->sent[position % CAPACITY_MAX];
    const struct slot *slot = &w->slots[position & w->mask];

    fuzz_require((uint32_t)slot->word == position + 1);
    if (sent->extension != 0 && sent->extension != w->extension)
        return; /* in a byte ring that the writer has let go of */
    for (size_t i = 0; i < sent->len; i++)
        fuzz_require(*message_at(w, sent, slot, i) == message_byte(sent->seed, i));
}

static void require_all_kept(const struct stage *stage)
{
    const struct ring_writer *w = &stage->writer;

    fuzz_require(w->limit - w->position <= w->capacity);
    fuzz_require(w->bytes_tail - w->bytes_head <= w->bytes.size);
    fuzz_require(w->ends_tail - w->ends_head <= w->capacity);
    for (uint32_t p = w->limit - w->capacity; p != w->position; p++)
        require_message_kept(stage, p);
}

static void byte_ring_for(struct stage *stage, size_t len)
{
    struct ring_writer *w = &stage->writer;
    struct segment segment;

    if (ring_writer_fits(w, len) || !ring_writer_may_attach(w))
        return;
    segment = memory_segment(&stage->memory, LAYOUT_PAGE * (1 + len / LAYOUT_PAGE));
    if (segment.size > 0)
        fuzz_require(ring_writer_attach(w, segment) == 0);
}

static void write_message(struct stage *stage, bool small)
{
    struct ring_writer *w = &stage->writer;
    struct sent sent = { .seed = input_u8(&stage->input) };
    uint8_t data[MESSAGE_MAX];
    struct ring_message message = { .data = data };
    const uint32_t before = w->position;
    int result;

    sent.len = small ? input_u8(&stage->input) % (SLOT_INLINE_MAX + 1U)
                     : input_u32(&stage->input) % (MESSAGE_MAX + 1U);
    for (size_t i = 0; i < sent.len; i++)
        data[i] = message_byte(sent.seed, i);
    if (small && ring_write_small(w, data, sent.len, 0, 0, 0)) {
        result = 0;
    } else {
        message.len = sent.len;
        message.opcode = sent.seed & 1;
        if (sent.len > SLOT_INLINE_MAX)
            byte_ring_for(stage, sent.len);
        if (sent.len > SLOT_INLINE_MAX && !ring_writer_fits(w, sent.len))
            return;
        sent.extension = sent.len > SLOT_INLINE_MAX ? w->extension : 0;
        result = ring_write(w, &message);
    }
    fuzz_require(result == 0 || result == VRD_ERR_CHANNEL_FULL || result == VRD_ERR_PEER_CORRUPT);
    fuzz_require(w->position == before + (result == 0));
    if (result == 0)
        stage->sent[before % CAPACITY_MAX] = sent;
    stage->corrupt = result == VRD_ERR_PEER_CORRUPT;
}

static void step(struct stage *stage)
{
    struct ring_writer *w = &stage->writer;

    switch ((enum step)(input_u8(&stage->input) % STEPS)) {
    case CURSOR_NEAR:
        stage->peer->cursor = w->position - input_u8(&stage->input) % 64U;
        break;
    case CURSOR_ANY:
        stage->peer->cursor = input_u64(&stage->input);
        break;
    case NOTICE_ANY:
        stage->peer->notice = input_u64(&stage->input);
        break;
    case WRITE_SMALL:
        write_message(stage, true);
        break;
    case WRITE:
        write_message(stage, false);
        break;
    case STEPS:
        break;
    }
    if (!stage->corrupt)
        require_all_kept(stage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stage stage = { .input = { data, size } };
    const uint32_t capacity = 1 + input_u8(&stage.input) % CAPACITY_MAX;
    struct segment sender, receiver;

    sender = memory_segment(&stage.memory, layout_sender_size(ring_slots(capacity)));
    receiver = memory_segment(&stage.memory, LAYOUT_RECEIVER_SIZE);
    stage.peer = receiver.addr;
    ring_writer_init(&stage.writer, sender, capacity);
    ring_writer_answered(&stage.writer, stage.peer);
    while (input_more(&stage.input) && !stage.corrupt)
        step(&stage);
    ring_writer_deinit(&stage.writer);
    segment_unmap(&receiver);
    memory_deinit(&stage.memory);
    return 0;
}
