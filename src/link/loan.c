/* SPDX-License-Identifier: MIT */
#include "link/loan.h"

#include <stdlib.h>
#include <veridian/error.h>

#include "base/macro.h"

void loan_writer_init(struct loan_writer *w)
{
    *w = (struct loan_writer){ 0 };
    for (uint16_t i = 0; i < LOANS_MAX; i++) {
        w->order[i] = i;
        w->out[i].loan = i; /* use 0: no loan */
    }
}

void loan_writer_forget(struct loan_writer *w)
{
    heap_forget(&w->heap);
    loan_writer_init(w);
}

void loan_writer_deinit(struct loan_writer *w)
{
    heap_deinit(&w->heap);
    for (size_t i = 0; i < LOAN_EXTENSIONS_MAX; i++)
        segment_unmap(&w->extensions[i].segment);
    loan_writer_init(w);
}

bool loan_writer_number(const struct loan_writer *w, uint32_t last, uint32_t *ret_number)
{
    for (int i = 0; i <= LOAN_EXTENSIONS_MAX; i++) {
        if (++last == 0 || w->extensions[last % LOAN_EXTENSIONS_MAX].number != 0)
            continue;
        *ret_number = last;
        return true;
    }
    return false;
}

int loan_writer_attach(struct loan_writer *w, uint32_t number, struct segment segment)
{
    int r = heap_extend(&w->heap, number, segment.addr, segment.size);

    if (r < 0) {
        segment_unmap(&segment);
        return r;
    }
    w->extensions[number % LOAN_EXTENSIONS_MAX] =
        (struct loan_extension){ .segment = segment, .number = number };
    return 0;
}

void loan_writer_detach(struct loan_writer *w, uint32_t number)
{
    struct loan_extension *extension = &w->extensions[number % LOAN_EXTENSIONS_MAX];

    heap_shrink(&w->heap, number);
    segment_unmap(&extension->segment);
    extension->number = 0;
}

/* Looks at the loan at `at` in `order`. Has it come back? */
static bool loan_look(struct loan_writer *w, uint16_t at)
{
    uint16_t index = w->order[at];
    struct loan_out *out = &w->out[index];

    /* acquire: pairs with the release in loan_release; the piece may be written to now */
    if (__atomic_load_n(&w->peer->released[index], __ATOMIC_ACQUIRE) != out->loan)
        return false;
    heap_give(&w->heap, out->block);
    w->n_out--;
    w->order[at] = w->order[w->n_out];
    w->order[w->n_out] = index;
    return true;
}

/* All at once, since each look takes a line away from the reader. */
void loan_reclaim(struct loan_writer *w)
{
    if (!w->peer)
        return;
    /* acquire: what had returned when this was counted is found; pairs with loan_release */
    w->returns = __atomic_load_n(&w->peer->returns, __ATOMIC_ACQUIRE);
    for (uint16_t at = w->n_out; at-- > 0;)
        loan_look(w, at);
}

struct heap_block *loan_take(struct loan_writer *w, uint64_t size)
{
    struct heap_block *block = heap_take(&w->heap, size);

    if (unlikely(!block)) {
        loan_reclaim(w);
        block = heap_take(&w->heap, size);
    }
    w->wanting = !block;
    return block;
}

bool loan_writer_spare(struct loan_writer *w)
{
    if (w->n_out == LOANS_MAX)
        loan_reclaim(w);
    return w->n_out < LOANS_MAX;
}

int loan_lend(struct loan_writer *w, struct heap_block *block, uint64_t len, struct slot_bytes *ret)
{
    struct loan_out *out;

    w->wanting = !loan_writer_spare(w);
    if (w->wanting)
        return VRD_ERR_CHANNEL_FULL;
    out = &w->out[w->order[w->n_out++]];
    out->block = block;
    out->loan += LOANS_MAX; /* the number stays, its use is another */
    if (out->loan < LOANS_MAX)
        out->loan += LOANS_MAX;
    *ret = (struct slot_bytes){ .offset = block->offset,
                                .len = len,
                                .extension = block->extension->number,
                                .loan = out->loan };
    return 0;
}

struct loan_memory *loan_memory_new(uint32_t number, struct segment segment, void *owner)
{
    struct loan_memory *memory = malloc(sizeof(*memory));

    if (!memory) {
        segment_unmap(&segment);
        return NULL;
    }
    *memory =
        (struct loan_memory){ .held = 1, .number = number, .segment = segment, .owner = owner };
    return memory;
}

void loan_memory_free(struct loan_memory *memory)
{
    segment_unmap(&memory->segment);
    free(memory);
}

int loan_reader_attach(struct loan_reader *r, struct loan_memory *memory)
{
    struct loan_memory **place = &r->memories[memory->number % LOAN_EXTENSIONS_MAX];

    if (memory->number == 0 || *place)
        return VRD_ERR_PEER_CORRUPT;
    *place = memory;
    return 0;
}

struct loan_memory *loan_reader_detach(struct loan_reader *r, uint32_t number)
{
    struct loan_memory **place = &r->memories[number % LOAN_EXTENSIONS_MAX];
    struct loan_memory *memory = *place;

    if (!memory || memory->number != number)
        return NULL;
    *place = NULL;
    return memory;
}

int loan_find(const struct loan_reader *r, const struct slot_bytes *bytes, uint64_t max,
              struct loan_view *ret)
{
    struct loan_memory *memory = r->memories[bytes->extension % LOAN_EXTENSIONS_MAX];

    if (bytes->loan < LOANS_MAX || bytes->extension == 0 || bytes->len > max)
        return VRD_ERR_PEER_CORRUPT;
    if (!memory || memory->number != bytes->extension)
        return LOAN_NEEDS_EXTENSION;
    if (bytes->len > memory->segment.size || bytes->offset > memory->segment.size - bytes->len)
        return VRD_ERR_PEER_CORRUPT;
    *ret = (struct loan_view){ .data = (const uint8_t *)memory->segment.addr + bytes->offset,
                               .len = bytes->len,
                               .loan = bytes->loan,
                               .memory = memory };
    return 0;
}
