/* SPDX-License-Identifier: MIT */
/*
 * A ring writer before a receiver's segment in which anything may stand. The input is a program:
 * cursors, notices, words that give loans back, and sends of all sizes, copied and lent. Whatever the
 * cursor does, messages that it has not released stay as they were sent; and whatever the words of
 * other loans and the count of returns do, so does a piece whose own word does not give it back.
 */
#include "input.h"
#include "memory.h"

#include "link/ring.h"

#define MESSAGE_MAX 9000
#define CAPACITY_MAX 32

enum step {
    CURSOR_NEAR,
    CURSOR_ANY,
    NOTICE_ANY,
    WRITE_SMALL,
    WRITE,
    LEND,
    RELEASE,
    RELEASE_ANY,
    RETURNS_ANY,
    RECLAIM,
    SHRINK,
    STEPS
};

struct sent {
    uint8_t seed;
    size_t len;
    uint32_t extension; /* 0: in the slot, or lent */
    bool lent;
};

/* A piece in the reader's hands. */
struct lent {
    uint32_t loan; /* 0: it was given back */
    const uint8_t *data;
    size_t len;
    uint8_t seed;
};

struct stage {
    struct input input;
    struct memory memory;
    struct ring_writer writer;
    struct receiver_segment *peer;
    struct sent sent[CAPACITY_MAX]; /* by position */
    struct loan_writer loans;
    struct lent lent[LOANS_MAX]; /* by number */
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
    if (sent->lent || (sent->extension != 0 && sent->extension != w->extension))
        return; /* a piece, or in a byte ring that the writer has let go of */
    for (size_t i = 0; i < sent->len; i++)
        fuzz_require(*message_at(w, sent, slot, i) == message_byte(sent->seed, i));
}

static void require_lent_kept(struct stage *stage, uint32_t number)
{
    struct lent *lent = &stage->lent[number];

    if (stage->peer->released[number] == lent->loan)
        lent->loan = 0; /* whoever said so */
    for (size_t i = 0; lent->loan != 0 && i < lent->len; i++)
        fuzz_require(lent->data[i] == message_byte(lent->seed, i));
}

static void require_all_kept(struct stage *stage)
{
    const struct ring_writer *w = &stage->writer;

    fuzz_require(w->limit - w->position <= w->capacity);
    fuzz_require(w->bytes_tail - w->bytes_head <= w->bytes.size);
    fuzz_require(w->ends_tail - w->ends_head <= w->capacity);
    for (uint32_t p = w->limit - w->capacity; p != w->position; p++)
        require_message_kept(stage, p);
    fuzz_require(stage->loans.n_out <= LOANS_MAX &&
                 stage->loans.heap.used <= stage->loans.heap.size);
    for (uint32_t number = 0; number < LOANS_MAX; number++)
        require_lent_kept(stage, number);
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

static void heap_attach(struct stage *stage, size_t len)
{
    struct segment segment;
    uint32_t number;

    if (!loan_writer_number(&stage->loans, input_u8(&stage->input), &number))
        return;
    segment = memory_segment(&stage->memory, LAYOUT_PAGE * (1 + len / LAYOUT_PAGE));
    if (segment.size > 0)
        fuzz_require(loan_writer_attach(&stage->loans, number, segment) == 0);
}

static void *take(struct stage *stage, size_t len, struct heap_block **ret)
{
    *ret = loan_take(&stage->loans, len);
    fuzz_require(stage->loans.wanting == !*ret);
    if (!*ret) {
        heap_attach(stage, len);
        *ret = loan_take(&stage->loans, len);
    }
    return *ret ? loan_data(&stage->loans, *ret) : NULL;
}

/* It is out: under a number that nothing else is out under. */
static void lent_add(struct stage *stage, uint32_t position, struct lent lent)
{
    const struct slot *slot = &stage->writer.slots[position & stage->writer.mask];
    struct slot_bytes bytes;

    memcpy(&bytes, slot->head, sizeof bytes);
    lent.loan = bytes.loan;
    fuzz_require(bytes.loan >= LOANS_MAX && bytes.len == lent.len);
    fuzz_require(stage->lent[bytes.loan % LOANS_MAX].loan == 0);
    stage->lent[bytes.loan % LOANS_MAX] = lent;
    stage->sent[position % CAPACITY_MAX] = (struct sent){ .lent = true };
}

static void lend(struct stage *stage)
{
    struct ring_writer *w = &stage->writer;
    struct lent lent = { .seed = input_u8(&stage->input),
                         .len = input_u32(&stage->input) % (MESSAGE_MAX + 1U) };
    struct ring_message message = { .len = lent.len, .lender = &stage->loans };
    uint8_t *data = take(stage, lent.len, &message.block);
    int result = VRD_ERR_CHANNEL_FULL;

    if (!data)
        return;
    message.data = data;
    lent.data = data;
    for (size_t i = 0; i < lent.len; i++)
        data[i] = message_byte(lent.seed, i);
    if (lent.seed < 250) /* else it is not sent after all */
        result = ring_write(w, &message);
    fuzz_require(result == 0 || result == VRD_ERR_CHANNEL_FULL || result == VRD_ERR_PEER_CORRUPT);
    if (result == 0)
        lent_add(stage, w->position - 1, lent);
    else
        loan_cancel(&stage->loans, message.block);
    stage->corrupt = result == VRD_ERR_PEER_CORRUPT;
}

/* Room of which nothing is out is given back. */
static void shrink(struct stage *stage)
{
    const uint8_t odd = input_u8(&stage->input);
    uint32_t number;

    loan_reclaim(&stage->loans);
    if (heap_idle(&stage->loans.heap, odd & 1, &number))
        loan_writer_detach(&stage->loans, number);
    if (odd & 2)
        heap_rest(&stage->loans.heap);
}

static void step(struct stage *stage)
{
    struct ring_writer *w = &stage->writer;
    uint32_t number;

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
    case LEND:
        lend(stage);
        break;
    case RELEASE:
        number = input_u8(&stage->input);
        if (stage->lent[number].loan != 0)
            loan_release(stage->peer, stage->lent[number].loan);
        break;
    case RELEASE_ANY:
        number = input_u8(&stage->input);
        stage->peer->released[number] = input_u32(&stage->input);
        break;
    case RETURNS_ANY:
        stage->peer->returns = input_u32(&stage->input);
        break;
    case RECLAIM:
        loan_reclaim(&stage->loans);
        break;
    case SHRINK:
        shrink(stage);
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
    loan_writer_init(&stage.loans);
    loan_writer_answered(&stage.loans, stage.peer);
    stage.writer.loans = &stage.loans;
    while (input_more(&stage.input) && !stage.corrupt)
        step(&stage);
    ring_writer_deinit(&stage.writer);
    loan_writer_deinit(&stage.loans);
    segment_unmap(&receiver);
    memory_deinit(&stage.memory);
    return 0;
}
