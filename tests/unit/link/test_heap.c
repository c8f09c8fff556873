/* SPDX-License-Identifier: MIT */
/* The heap's book-keeping, against a model that knows of each grain who has it. */
#include "unit/unit.h"

#include "base/macro.h"
#include "link/heap.h"

#define GRAINS 4096 /* of an extension of the model */
#define EXTENSIONS 3
#define BLOCKS 512

struct model {
    struct heap heap;
    uint16_t owner[EXTENSIONS][GRAINS]; /* index in `blocks` + 1; 0: free */
    struct heap_block *blocks[BLOCKS];
    size_t n_free[EXTENSIONS];
};

static void model_mark(struct model *m, const struct heap_block *block, uint16_t from, uint16_t to)
{
    const uint32_t extension = block->extension->number;

    assert_true(extension < EXTENSIONS);
    assert_int_equal(block->offset % HEAP_GRAIN, 0);
    assert_int_equal(block->size % HEAP_GRAIN, 0);
    assert_true(block->size > 0 && block->size <= GRAINS * HEAP_GRAIN);
    assert_true(block->offset <= GRAINS * HEAP_GRAIN - block->size);
    for (uint64_t i = 0; i < block->size / HEAP_GRAIN; i++) {
        uint16_t *owner = &m->owner[extension][block->offset / HEAP_GRAIN + i];

        assert_int_equal(*owner, from);
        *owner = to;
    }
}

static void model_extend(struct model *m, uint32_t number)
{
    assert_int_equal(heap_extend(&m->heap, number, NULL, GRAINS * HEAP_GRAIN), 0);
    m->n_free[number] = GRAINS;
}

/* The longest run of grains that nobody has. */
static uint64_t model_largest(const struct model *m)
{
    uint64_t largest = 0;

    for (size_t e = 0; e < EXTENSIONS; e++) {
        uint64_t run = 0;

        for (size_t i = 0; i < GRAINS; i++) {
            run = m->owner[e][i] == 0 ? run + 1 : 0;
            largest = run > largest ? run : largest;
        }
    }
    return largest * HEAP_GRAIN;
}

static void model_take(struct model *m, size_t i, uint64_t size)
{
    struct heap_block *block = heap_take(&m->heap, size);

    if (!block) {
        /* good fit: only the bin that the size itself falls in is not searched to its end */
        assert_true(model_largest(m) < size + size / 8 + 2 * HEAP_GRAIN);
        return;
    }
    assert_true(block->size >= size && block->size < size + 2 * HEAP_GRAIN);
    model_mark(m, block, 0, (uint16_t)(i + 1));
    m->blocks[i] = block;
}

static void model_give(struct model *m, size_t i)
{
    model_mark(m, m->blocks[i], (uint16_t)(i + 1), 0);
    heap_give(&m->heap, m->blocks[i]);
    m->blocks[i] = NULL;
}

/* Mostly small, some as large as an extension. */
static uint64_t size_random(uint64_t *random)
{
    const uint64_t largest = UINT64_C(1) << random_below(random, 19);

    return random_below(random, largest < GRAINS * HEAP_GRAIN ? largest + 1 : largest);
}

static void gives_no_grain_to_two_and_joins_all_again(void **state)
{
    struct model *m = calloc(1, sizeof(*m));
    uint64_t random = 71;
    uint32_t number;

    (void)state;
    assert_non_null(m);
    for (uint32_t e = 0; e < EXTENSIONS; e++)
        model_extend(m, e);
    for (size_t round = 0; round < support_iterations(100000); round++) {
        const size_t i = random_below(&random, BLOCKS);

        if (m->blocks[i])
            model_give(m, i);
        else
            model_take(m, i, size_random(&random));
    }
    for (size_t i = 0; i < BLOCKS; i++)
        if (m->blocks[i])
            model_give(m, i);
    assert_int_equal(m->heap.used, 0);
    for (uint32_t e = 0; e < EXTENSIONS; e++) { /* each is one block again */
        m->blocks[e] = heap_take(&m->heap, GRAINS * HEAP_GRAIN);
        assert_non_null(m->blocks[e]);
        model_mark(m, m->blocks[e], 0, 1);
    }
    assert_null(heap_take(&m->heap, 1));
    assert_false(heap_idle(&m->heap, false, &number));
    heap_deinit(&m->heap);
    free(m);
}

/* Half full with blocks of up to 1/64 of it, it never says no, however long that goes on. */
static void does_not_fray(void **state)
{
    const uint64_t size = UINT64_C(16) << 20, most = size / 64;
    struct heap heap = { 0 };
    struct heap_block *blocks[BLOCKS] = { 0 };
    uint64_t random = 72;

    (void)state;
    assert_int_equal(heap_extend(&heap, 1, NULL, size), 0);
    for (size_t round = 0; round < support_iterations(1000000); round++) {
        struct heap_block **block = &blocks[random_below(&random, BLOCKS)];

        if (*block) {
            heap_give(&heap, *block);
            *block = NULL;
        } else if (heap.used <= size / 2 - most) {
            *block = heap_take(&heap, random_below(&random, most) + 1);
            assert_non_null(*block);
        }
    }
    heap_deinit(&heap);
}

/* What was given back is taken again as it is, but stands in nobody's way. */
static void keeps_what_was_given_back_last(void **state)
{
    const uint64_t size = 64 * HEAP_GRAIN;
    struct heap heap = { 0 };
    struct heap_block *blocks[64];
    uint32_t number = 0;

    (void)state;
    assert_int_equal(heap_extend(&heap, 1, NULL, size), 0);
    for (size_t i = 0; i < 64; i++) {
        blocks[i] = heap_take(&heap, HEAP_GRAIN);
        assert_non_null(blocks[i]);
    }
    heap_give(&heap, blocks[5]);
    heap_give(&heap, blocks[9]);
    assert_int_equal(heap.used, 62 * HEAP_GRAIN);
    assert_ptr_equal(heap_take(&heap, HEAP_GRAIN), blocks[9]);
    assert_ptr_equal(heap_take(&heap, HEAP_GRAIN), blocks[5]);
    assert_null(heap_take(&heap, HEAP_GRAIN));
    for (size_t i = 0; i < 64; i++)
        heap_give(&heap, blocks[i]);
    blocks[0] = heap_take(&heap, size); /* all of them in one */
    assert_non_null(blocks[0]);
    assert_false(heap_idle(&heap, false, &number));
    heap_give(&heap, blocks[0]);
    blocks[0] = heap_take(&heap, HEAP_GRAIN);
    heap_give(&heap, blocks[0]);
    assert_true(heap_idle(&heap, false, &number));
    heap_shrink(&heap, number);
    assert_null(heap_take(&heap, HEAP_GRAIN));
    heap_deinit(&heap);
}

static void gives_whole_idle_extensions_back(void **state)
{
    struct heap heap = { 0 };
    struct heap_block *first, *second;
    uint32_t number = 0;

    (void)state;
    assert_null(heap_take(&heap, 0));
    assert_false(heap_idle(&heap, false, &number));
    assert_int_equal(heap_extend(&heap, 7, NULL, 4096), 0);
    first = heap_take(&heap, 4096);
    assert_non_null(first);
    assert_null(heap_take(&heap, 0));
    assert_int_equal(heap_extend(&heap, 8, NULL, 8192), 0);
    second = heap_take(&heap, 0);
    assert_non_null(second);
    assert_int_equal(second->extension->number, 8);
    assert_int_equal(second->size, HEAP_GRAIN);
    assert_false(heap_idle(&heap, false, &number));
    heap_give(&heap, first);
    assert_true(heap_idle(&heap, false, &number));
    assert_int_equal(number, 7);
    assert_false(heap_idle(&heap, true, &number)); /* but not for long */
    heap_rest(&heap);
    assert_true(heap_idle(&heap, true, &number));
    assert_int_equal(number, 7);
    heap_shrink(&heap, 7);
    assert_int_equal(heap.size, 8192);
    assert_false(heap_idle(&heap, false, &number));
    assert_null(heap_take(&heap, 8192));
    heap_give(&heap, second);
    assert_true(heap_idle(&heap, false, &number));
    heap_shrink(&heap, 8);
    assert_int_equal(heap.size, 0);
    assert_null(heap_take(&heap, 1));
    heap_deinit(&heap);
}

static void refuses_sizes_that_would_wrap(void **state)
{
    const uint64_t sizes[] = { 4097, UINT64_MAX, UINT64_MAX - HEAP_GRAIN + 1, UINT64_C(1) << 63 };
    struct heap heap = { 0 };

    (void)state;
    assert_int_equal(heap_extend(&heap, 1, NULL, 4096), 0);
    for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
        assert_null(heap_take(&heap, sizes[i]));
    assert_int_equal(heap.used, 0);
    heap_deinit(&heap);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(gives_no_grain_to_two_and_joins_all_again),
                 SUPPORT_TEST(does_not_fray),
                 SUPPORT_TEST(keeps_what_was_given_back_last),
                 SUPPORT_TEST(gives_whole_idle_extensions_back),
                 SUPPORT_TEST(refuses_sizes_that_would_wrap),
                 { 0 },
             })
