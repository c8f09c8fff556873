/* SPDX-License-Identifier: MIT */
/*
 * A ring reader before a sender's segment in which anything may stand, changed at will between
 * looks. The input is a program: pokes into the segment, slots that look right but for a field,
 * byte rings and heap extensions that arrive, extensions that go, reads, and views that are kept.
 */
#include "input.h"
#include "memory.h"

#include "link/ring.h"

#define BUFFER 512
#define CANARY 0x5a
#define VIEWS 4

enum step {
    POKE,
    PLAUSIBLE,
    SLOT_DESCRIPTION,
    ATTACH,
    READ_SMALL,
    READ,
    DROP,
    HEAP_ATTACH,
    HEAP_DETACH,
    VIEW,
    RELEASE,
    STEPS
};

struct stage {
    struct input input;
    struct memory memory;
    struct ring_reader reader;
    struct sender_segment *sender; /* as its owner writes it */
    size_t size;
    struct loan_view views[VIEWS]; /* held */
    bool corrupt;
};

static struct slot *slot_here(struct stage *stage)
{
    return &stage->sender->slots[stage->reader.position & stage->reader.mask];
}

static void poke(struct stage *stage)
{
    const size_t at = input_u32(&stage->input) % stage->size;
    const size_t len = input_u8(&stage->input) % 32;

    input_take(&stage->input, (uint8_t *)stage->sender + at,
               len < stage->size - at ? len : stage->size - at);
}

/* The word of the message awaited, with any length and kind, and a sequence a little off at times. */
static void put_plausible(struct stage *stage)
{
    const uint8_t off = input_u8(&stage->input);
    const uint32_t sequence = stage->reader.position + 1 + (off > 250 ? off : 0);
    const uint64_t len = input_u8(&stage->input), kind = input_u8(&stage->input);

    slot_here(stage)->word = kind << 40 | len << 32 | sequence;
}

static void put_description(struct stage *stage)
{
    struct slot_bytes bytes;

    uint8_t how;

    input_take(&stage->input, &bytes, sizeof bytes);
    how = input_u8(&stage->input);
    if (how & 1) { /* near what there is */
        bytes.extension %= 8;
        bytes.offset %= 3 * LAYOUT_PAGE;
        bytes.len %= 3 * LAYOUT_PAGE;
    }
    if (how & 2) /* in a byte ring */
        bytes.loan = 0;
    memcpy(slot_here(stage)->head, &bytes, sizeof bytes);
}

static void attach(struct stage *stage)
{
    const uint32_t number = input_u8(&stage->input);
    const size_t size = LAYOUT_PAGE * (1 + (size_t)input_u8(&stage->input) % 2);
    const struct segment segment = memory_segment(&stage->memory, size);

    if (segment.size > 0)
        stage->corrupt = ring_reader_attach(&stage->reader, number, segment) != 0;
}

static void let_go(struct loan_memory *memory)
{
    if (memory && loan_memory_let_go(memory))
        loan_memory_free(memory);
}

static void heap_attach(struct stage *stage)
{
    const uint32_t number = input_u8(&stage->input) % (LOAN_EXTENSIONS_MAX + 2);
    const size_t size = LAYOUT_PAGE * (1 + (size_t)input_u8(&stage->input) % 2);
    const struct segment segment = memory_segment(&stage->memory, size);
    struct loan_memory *memory;

    if (segment.size == 0)
        return;
    memory = loan_memory_new(number, segment, NULL);
    fuzz_require(memory);
    if (loan_reader_attach(&stage->reader.loans, memory) == 0)
        return;
    let_go(memory);
    stage->corrupt = true;
}

/* Views keep what they lie in. */
static void heap_detach(struct stage *stage)
{
    const uint32_t number = input_u8(&stage->input) % (LOAN_EXTENSIONS_MAX + 2);

    let_go(loan_reader_detach(&stage->reader.loans, number));
}

/* What was lent lies within its extension, and each byte of it can be read. */
static void require_inside(const struct loan_view *view, uint64_t max_message)
{
    const uint8_t *start = view->memory->segment.addr, *data = view->data;
    volatile uint8_t sink = 0;

    fuzz_require(view->loan >= LOANS_MAX && view->len <= max_message);
    fuzz_require(data >= start && view->len <= view->memory->segment.size &&
                 (size_t)(data - start) <= view->memory->segment.size - view->len);
    for (size_t i = 0; i < view->len; i++)
        sink = (uint8_t)(sink ^ data[i]);
}

static void release(struct stage *stage, struct loan_view *view)
{
    if (!view->memory)
        return;
    require_inside(view, stage->reader.max_message); /* still */
    loan_release(stage->reader.own, view->loan);
    fuzz_require(stage->reader.own->released[view->loan % LOANS_MAX] == view->loan);
    let_go(view->memory);
    *view = (struct loan_view){ 0 };
}

static void read_view(struct stage *stage)
{
    struct loan_view *view = &stage->views[input_u8(&stage->input) % VIEWS];
    const uint32_t before = stage->reader.position;
    struct ring_message message = { .wants_view = true };
    uint64_t word;
    int result;

    if (ring_peek(&stage->reader, &word) != RING_READY)
        return;
    release(stage, view);
    result = ring_read(&stage->reader, word, &message, 0);
    fuzz_require(stage->reader.position == before + (result == 0));
    fuzz_require(result == 0 || !message.view.memory);
    stage->corrupt = result == VRD_ERR_PEER_CORRUPT;
    if (!message.view.memory)
        return;
    atomic_fetch_add(&message.view.memory->held, 1);
    *view = message.view;
    require_inside(view, stage->reader.max_message);
}

/* Whatever was read: within the buffer, and one position further only if it was taken. */
static void require_sane(struct stage *stage, const uint8_t *buf, size_t size, uint32_t before,
                         bool taken, size_t len)
{
    fuzz_require(stage->reader.position == before + taken);
    fuzz_require((uint32_t)stage->reader.own->cursor == stage->reader.position || !taken);
    fuzz_require(!taken || len <= size);
    for (size_t i = size; i < BUFFER; i++)
        fuzz_require(buf[i] == CANARY);
}

static void read_message(struct stage *stage, bool small)
{
    const size_t size = input_u8(&stage->input) * 2U;
    const uint32_t before = stage->reader.position;
    uint8_t buf[BUFFER];
    struct ring_message message = { .data = buf };
    uint64_t word;
    ssize_t result;

    memset(buf, CANARY, sizeof buf);
    switch (ring_peek(&stage->reader, &word)) {
    case RING_EMPTY:
        return;
    case RING_CORRUPT:
        stage->corrupt = true;
        return;
    case RING_READY:
        break;
    }
    result = small && slot_is_small(word)
                 ? slot_copy_small(ring_slot(&stage->reader), word, buf, size)
                 : -1;
    if (result >= 0) {
        ring_advance(&stage->reader, word);
        message.len = (size_t)result;
        result = 0;
    } else { /* not small, or ring_read finds out why not */
        result = ring_read(&stage->reader, word, &message, size);
    }
    fuzz_require(result == 0 || result == RING_NEEDS_EXTENSION ||
                 result == VRD_ERR_MESSAGE_TOO_LARGE || result == VRD_ERR_PEER_CORRUPT);
    require_sane(stage, buf, size, before, result == 0, message.len);
    if (result == 0 && message.view.memory) /* copied out, and given back at once */
        fuzz_require(stage->reader.own->released[message.view.loan % LOANS_MAX] ==
                     message.view.loan);
    stage->corrupt = result == VRD_ERR_PEER_CORRUPT;
}

static void drop_message(struct stage *stage)
{
    uint64_t word;

    if (ring_peek(&stage->reader, &word) == RING_READY)
        ring_drop(&stage->reader, word);
}

static void step(struct stage *stage)
{
    switch ((enum step)(input_u8(&stage->input) % STEPS)) {
    case POKE:
        poke(stage);
        break;
    case PLAUSIBLE:
        put_plausible(stage);
        break;
    case SLOT_DESCRIPTION:
        put_description(stage);
        break;
    case ATTACH:
        attach(stage);
        break;
    case READ_SMALL:
        read_message(stage, true);
        break;
    case READ:
        read_message(stage, false);
        break;
    case DROP:
        drop_message(stage);
        break;
    case HEAP_ATTACH:
        heap_attach(stage);
        break;
    case HEAP_DETACH:
        heap_detach(stage);
        break;
    case VIEW:
        read_view(stage);
        break;
    case RELEASE:
        release(stage, &stage->views[input_u8(&stage->input) % VIEWS]);
        break;
    case STEPS:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct stage stage = { .input = { data, size } };
    const uint32_t slots = UINT32_C(1) << (input_u8(&stage.input) % 6);
    const uint64_t max_message = input_u32(&stage.input) % 20000 + 1;
    struct segment sender, receiver;

    stage.size = layout_sender_size(slots);
    sender = memory_segment(&stage.memory, stage.size);
    receiver = memory_segment(&stage.memory, LAYOUT_RECEIVER_SIZE);
    stage.sender = sender.addr;
    ring_reader_init(&stage.reader, sender, receiver, slots, max_message);
    /* near the end of the numbers, at times */
    stage.reader.position = input_u8(&stage.input) & 1 ? UINT32_MAX - 3 : 0;
    while (input_more(&stage.input) && !stage.corrupt)
        step(&stage);
    for (size_t i = 0; i < VIEWS; i++)
        release(&stage, &stage.views[i]);
    for (size_t i = 0; i < LOAN_EXTENSIONS_MAX; i++)
        let_go(stage.reader.loans.memories[i]);
    ring_reader_deinit(&stage.reader);
    memory_deinit(&stage.memory);
    return 0;
}
