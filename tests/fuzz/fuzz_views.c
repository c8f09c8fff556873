/* SPDX-License-Identifier: MIT */
/*
 * A live receiver that takes views, and a sender that describes what it never lent: the input is a program of
 * heap extensions that come and go over a real tether, of slots that name pieces of them, with offsets
 * and lengths at and past every edge, and of what the receiver does. A view shows bytes of the extension
 * that the slot named and of no other place, for as long as it is held; releasing it says so in the
 * receiver's segment; an honest sender's messages arrive in order all the while, and at the end nothing is left.
 */
#include "attacker.h"

#include <errno.h>

#include "link/loan.h"

#define SLOTS 16
#define MESSAGE_MAX ((size_t)2 * LAYOUT_PAGE + 100)
#define BYTES_MAX ((size_t)6 * LAYOUT_PAGE) /* lent at a time */
#define EXTENSIONS_MAX 24
#define VIEWS_MAX 8
#define STEPS_MAX 100
#define MARK UINT64_C(0x6f6e657374206d65)

enum step {
    LINK,
    ATTACH,
    ATTACH_RING,
    DETACH,
    LEND,
    LEND_ANY,
    LEND_CALL,
    REWRITE,
    REFILL,
    VIEW,
    VIEW_CALL,
    COPY,
    RELEASE,
    HONEST,
    HANG_UP,
    STEPS
};

/* Of the attacker's, with a pattern that no other has. */
struct extension {
    struct segment segment;
    uint32_t number;
    uint32_t link; /* for which it was attached */
    uint8_t seed;
};

struct held {
    struct vrd_view view;
    const struct extension *extension; /* NULL: it is a copy, or empty */
};

struct stage {
    struct input *input;
    struct attacker attacker; /* its last socket is the tether */
    vrd_cap_t send, receive;  /* of an endpoint: the same */
    uint64_t sent, received;  /* by the honest sender */
    struct segment owner;     /* the receiver's, of the link there is */
    struct extension extensions[EXTENSIONS_MAX];
    size_t n_extensions;
    uint32_t newest; /* its number */
    uint32_t link;   /* how many there were */
    uint8_t seed;    /* the last one */
    uint32_t position;
    struct held held[VIEWS_MAX];
};

/* ---- the receiver ----------------------------------------------------------------------------------- */

static uint8_t extension_byte(const struct extension *extension, uint64_t at)
{
    return (uint8_t)(extension->seed * 31U + at * 7 + (at >> 8));
}

static bool extension_shows(const struct extension *extension, const struct vrd_view *view)
{
    const struct loan_memory *memory = view->memory;
    const uint8_t *data = view->data;
    const uint64_t offset = (uint64_t)(data - (const uint8_t *)memory->segment.addr);

    if (extension->number != memory->number || extension->segment.size != memory->segment.size)
        return false;
    for (size_t i = 0; i < view->len; i++)
        if (data[i] != extension_byte(extension, offset + i))
            return false;
    return true;
}

/* The extension that it is a piece of: there has to be one. */
static const struct extension *extension_of(const struct stage *stage, const struct vrd_view *view)
{
    const struct loan_memory *memory = view->memory;
    const uint64_t offset =
        (uint64_t)((const uint8_t *)view->data - (const uint8_t *)memory->segment.addr);

    fuzz_require(view->len <= memory->segment.size && offset <= memory->segment.size - view->len);
    for (size_t i = stage->n_extensions; i-- > 0;)
        if (extension_shows(&stage->extensions[i], view))
            return &stage->extensions[i];
    abort();
}

/* Is it of the link there is? A message may have come over the one before. */
static bool held_here(const struct stage *stage, const struct held *held)
{
    return held->extension && held->view.len > 0 && held->extension->link == stage->link;
}

static void held_release(const struct stage *stage, struct held *held)
{
    const struct receiver_segment *owner = stage->owner.addr;
    const uint32_t loan = (uint32_t)held->view.loan;
    const bool here = held_here(stage, held);

    if (!held->view.data)
        return;
    fuzz_require(!held->extension || extension_shows(held->extension, &held->view));
    fuzz_require(vrd_view_release(&held->view) == 0 && !held->view.data);
    fuzz_require(!here || owner->released[loan % LOANS_MAX] == loan);
    *held = (struct held){ 0 };
}

/* Was it the honest sender's? Then it is the next one. */
static void stage_received(struct stage *stage, const void *data, size_t len)
{
    uint64_t head[2];

    if (len < sizeof head)
        return;
    memcpy(head, data, sizeof head);
    if (head[0] != MARK)
        return;
    fuzz_require(head[1] == stage->received);
    stage->received++;
}

static void stage_hold(struct stage *stage, struct held *held, const struct vrd_view *view)
{
    fuzz_require(view->data && view->len <= MESSAGE_MAX);
    held_release(stage, held);
    *held = (struct held){ .view = *view };
    if (view->memory)
        held->extension = extension_of(stage, view);
    stage_received(stage, view->data, view->len);
}

static void view(struct stage *stage)
{
    struct held *held = &stage->held[input_u8(stage->input) % VIEWS_MAX];
    struct vrd_view taken;
    const int result = vrd_receive_view(stage->receive, &taken, 0);

    fuzz_require(result == 0 || result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_CORRUPT);
    if (result == 0)
        stage_hold(stage, held, &taken);
}

static void view_call(struct stage *stage)
{
    struct held *held = &stage->held[input_u8(stage->input) % VIEWS_MAX];
    struct vrd_view taken;
    vrd_cap_t reply;
    const int result = vrd_receive_call_view(stage->receive, &taken, &reply, 0);

    fuzz_require(result == 0 || result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_PEER_CORRUPT ||
                 result == VRD_ERR_NOT_SUPPORTED);
    if (result != 0)
        return;
    stage_hold(stage, held, &taken);
    if (reply != VRD_CAP_NONE)
        fuzz_require(vrd_cap_close(reply) == 0);
}

/* Returns false when there is nothing more. */
static bool copy(struct stage *stage, size_t size)
{
    static uint8_t buf[MESSAGE_MAX];
    const ssize_t len = vrd_receive_async(stage->receive, buf, size);

    if (len == VRD_ERR_MESSAGE_TOO_LARGE)
        return vrd_discard(stage->receive) == 0;
    if (len == VRD_ERR_PEER_CORRUPT)
        return true;
    fuzz_require(len == VRD_ERR_CHANNEL_EMPTY || (len >= 0 && (size_t)len <= size));
    if (len >= 0)
        stage_received(stage, buf, (size_t)len);
    return len >= 0;
}

static void honest(struct stage *stage)
{
    uint64_t message[100] = { MARK, stage->sent };

    fuzz_require(vrd_send_async(stage->send, message, stage->sent % 2 ? sizeof message : 16) == 0);
    stage->sent++;
    for (int i = 0; stage->received < stage->sent; i++) {
        fuzz_require(i < 10000);
        copy(stage, MESSAGE_MAX);
    }
}

/* ---- the attacker ----------------------------------------------------------------------------------- */

static int stage_tether(const struct stage *stage)
{
    return stage->attacker.sockets[0];
}

static void await_welcome(struct stage *stage)
{
    datagram_auto datagram = { .pidfd = -1 };
    struct frame frame;
    int result;

    for (int i = 0; (result = socket_receive(stage_tether(stage), &datagram)) == -EAGAIN; i++) {
        fuzz_require(i < 10000);
        copy(stage, MESSAGE_MAX);
    }
    fuzz_require(result == 1);
    fuzz_require(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame) == 0);
    fuzz_require(frame.type == FRAME_WELCOME);
    fuzz_require(segment_import(datagram.fds[0], LAYOUT_RECEIVER_SIZE, &stage->owner) == 0);
}

/* A link, in place of the one there was; its ring begins anew. */
static void make_link(struct stage *stage)
{
    struct attacker *attacker = &stage->attacker;
    int invitation;

    segment_unmap(&stage->owner);
    stage->link++;
    attacker_deinit(attacker);
    attacker_init(attacker, stage->input, layout_sender_size(SLOTS), 0);
    stage->position = 0;
    fuzz_require(vrd_cap_export(stage->send, VRD_RIGHT_SEND, &invitation) == 0);
    attacker_add_socket(attacker, attacker_hello(attacker, invitation, SLOTS, MESSAGE_MAX));
    fd_close(&invitation);
    await_welcome(stage);
}

/* The usual one, or any. */
static uint32_t any_number(struct stage *stage, uint32_t usual)
{
    const uint8_t pick = input_u8(stage->input);

    if (pick == 0)
        return usual;
    return pick < 240 ? pick % (2 * LOAN_EXTENSIONS_MAX + 2) : UINT32_MAX - (255U - pick);
}

static void attach_as(struct stage *stage, struct frame *frame, struct segment segment, int fd)
{
    const uint8_t odd = input_u8(stage->input);

    frame->type = FRAME_ATTACH;
    frame->bytes = segment.size;
    if (odd & 1) /* it is not so large */
        frame->bytes += (uint64_t)(int8_t)odd * (LAYOUT_PAGE / 2);
    if (odd == 0x80)
        frame->bytes = input_u64(stage->input);
    attacker_give_frame(stage_tether(stage), frame, (int[ATTACKER_FDS_MAX]){ fd }, 1);
}

static void extension_fill(struct extension *extension, uint8_t seed)
{
    uint8_t *data = extension->segment.addr;

    extension->seed = seed;
    for (size_t i = 0; i < extension->segment.size; i++)
        data[i] = extension_byte(extension, i);
}

static void attach(struct stage *stage)
{
    struct extension *extension = &stage->extensions[stage->n_extensions];
    struct frame frame = { .count = FRAME_ATTACH_HEAP };
    int fd;

    if (stage->n_extensions == EXTENSIONS_MAX)
        return;
    frame.extension = extension->number = any_number(stage, stage->newest + 1);
    fuzz_require(segment_create(LAYOUT_PAGE * (1 + (size_t)input_u8(stage->input) % 3),
                                &extension->segment, &fd) == 0);
    extension->link = stage->link;
    extension_fill(extension, ++stage->seed);
    stage->n_extensions++;
    stage->newest = extension->number;
    attach_as(stage, &frame, extension->segment, fd);
}

static void attach_ring(struct stage *stage)
{
    struct frame frame = { .extension = input_u8(stage->input) % 8 };
    struct segment segment;
    int fd;

    fuzz_require(segment_create(LAYOUT_PAGE, &segment, &fd) == 0);
    attach_as(stage, &frame, segment, fd);
    segment_unmap(&segment);
}

static void detach(struct stage *stage)
{
    const struct frame frame = { .type = FRAME_DETACH,
                                 .extension = any_number(stage, stage->newest) };

    attacker_give_frame(stage_tether(stage), &frame, (int[ATTACKER_FDS_MAX]){ -1 }, 0);
}

/* An offset or a length: at an edge, or a little off. */
static uint64_t any_edge(struct stage *stage)
{
    static const uint64_t edges[] = {
        0,
        1,
        LAYOUT_LINE,
        LAYOUT_PAGE,
        UINT64_C(2) * LAYOUT_PAGE,
        UINT64_C(3) * LAYOUT_PAGE,
        MESSAGE_MAX,
        BYTES_MAX,
        UINT32_MAX,
        INT64_MAX,
        UINT64_MAX - LAYOUT_PAGE + 1,
        UINT64_MAX - 2 * LAYOUT_PAGE + 1,
        UINT64_MAX,
    };
    const uint64_t edge = edges[input_u8(stage->input) % (sizeof edges / sizeof edges[0])];

    return edge + (uint64_t)(int8_t)input_u8(stage->input);
}

static struct slot *slot_at(struct stage *stage, uint32_t position)
{
    struct sender_segment *memory = stage->attacker.segment.addr;

    return &memory->slots[position % SLOTS];
}

static struct slot_bytes any_description(struct stage *stage)
{
    struct slot_bytes bytes = { .offset = any_edge(stage), .len = any_edge(stage) };

    bytes.extension = any_number(stage, stage->newest);
    bytes.loan = input_u8(stage->input);
    if (bytes.loan < 248) /* else it is none */
        bytes.loan += LOANS_MAX;
    return bytes;
}

static void lend(struct stage *stage, struct slot_bytes bytes, uint64_t kind)
{
    struct slot *slot = slot_at(stage, stage->position);

    memcpy(slot->head, &bytes, sizeof bytes);
    __atomic_store_n(&slot->word, (SLOT_BYTES | kind) << 40 | ++stage->position, __ATOMIC_RELEASE);
}

static void lend_any(struct stage *stage)
{
    struct slot_bytes bytes;

    input_take(stage->input, &bytes, sizeof bytes);
    lend(stage, bytes, 0);
}

/* After sending; perhaps also after it was received. */
static void rewrite(struct stage *stage)
{
    const uint32_t position = stage->position - 1 - input_u8(stage->input) % 4U;
    const struct slot_bytes bytes = any_description(stage);

    memcpy(slot_at(stage, position)->head, &bytes, sizeof bytes);
}

/* While it is viewed, perhaps. */
static void refill(struct stage *stage)
{
    if (stage->n_extensions > 0)
        extension_fill(&stage->extensions[input_u8(stage->input) % stage->n_extensions],
                       ++stage->seed);
}

/* ---- both ------------------------------------------------------------------------------------------- */

static void step(struct stage *stage)
{
    uint64_t kind;

    switch ((enum step)(input_u8(stage->input) % STEPS)) {
    case LINK:
        make_link(stage);
        break;
    case ATTACH:
        attach(stage);
        break;
    case ATTACH_RING:
        attach_ring(stage);
        break;
    case DETACH:
        detach(stage);
        break;
    case LEND:
        lend(stage, any_description(stage), 0);
        break;
    case LEND_ANY:
        lend_any(stage);
        break;
    case LEND_CALL:
        kind = SLOT_CALL | (uint64_t)(input_u8(stage->input) % REPLY_ENTRIES) << SLOT_ENTRY_SHIFT;
        lend(stage, any_description(stage), kind);
        break;
    case REWRITE:
        rewrite(stage);
        break;
    case REFILL:
        refill(stage);
        break;
    case VIEW:
        view(stage);
        break;
    case VIEW_CALL:
        view_call(stage);
        break;
    case COPY:
        copy(stage, input_u8(stage->input) & 1 ? MESSAGE_MAX : LAYOUT_LINE);
        break;
    case RELEASE:
        held_release(stage, &stage->held[input_u8(stage->input) % VIEWS_MAX]);
        break;
    case HONEST:
        honest(stage);
        break;
    case HANG_UP:
        socket_shutdown(stage_tether(stage));
        break;
    case STEPS:
        break;
    }
    for (size_t i = 0; i < VIEWS_MAX; i++)
        if (stage->held[i].extension)
            fuzz_require(extension_shows(stage->held[i].extension, &stage->held[i].view));
}

static void stage_init(struct stage *stage)
{
    const struct vrd_channel_options options = { .slots = SLOTS,
                                                 .max_message_size = MESSAGE_MAX,
                                                 .max_bytes = BYTES_MAX };
    uint64_t id;

    if (input_u8(stage->input) & 1) {
        fuzz_require(vrd_endpoint_create_with(&options, &id, &stage->send) == 0);
        stage->receive = stage->send;
    } else {
        fuzz_require(vrd_channel_create_with(&options, &stage->send, &stage->receive) == 0);
    }
    attacker_init(&stage->attacker, stage->input, 0, 0);
    make_link(stage);
}

/* Some views outlive all that they came over. */
static void stage_deinit(struct stage *stage)
{
    honest(stage);
    fuzz_require(vrd_cap_close(stage->send) == 0);
    if (stage->receive != stage->send)
        fuzz_require(vrd_cap_close(stage->receive) == 0);
    attacker_deinit(&stage->attacker);
    for (size_t i = 0; i < VIEWS_MAX; i++)
        held_release(stage, &stage->held[i]);
    segment_unmap(&stage->owner);
    for (size_t i = 0; i < stage->n_extensions; i++)
        segment_unmap(&stage->extensions[i].segment);
}

static void play(struct input *input)
{
    struct stage stage = { .input = input };

    stage_init(&stage);
    for (int i = 0; i < STEPS_MAX && input_more(input); i++)
        step(&stage);
    stage_deinit(&stage);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return live_play(play, data, size);
}
