/* SPDX-License-Identifier: MIT */
/*
 * The heap that has its pieces from jemalloc, where the process runs on one that is asked for; ctest runs
 * this both ways.
 */
#include "unit/unit.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/macro.h"
#include "link/heap.h"
#include "link/heap_jemalloc.h"
#include "os/jemalloc.h"

#define SIZE ((size_t)1 << 20)
#define EXTENSIONS 2
#define BLOCKS 256

extern int mallctl(const char *name, void *old, size_t *old_size, void *value, size_t size)
    __attribute__((weak));

static uint8_t *memory_of(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(memory != MAP_FAILED);
    return memory;
}

/* Linking the library brings no jemalloc into a process; one that is preloaded is found. */
static void is_there_only_if_the_process_runs_on_it(void **state)
{
    const char *preload = getenv("LD_PRELOAD");
    const bool preloaded = preload && strstr(preload, "jemalloc");

    (void)state;
    assert_int_equal(mallctl != NULL, preloaded);
    assert_int_equal(jemalloc_wanted(), preloaded);
}

struct held {
    struct heap_block *block;
    uint8_t *data;
    size_t size;
    uint8_t mark;
};

static void held_take(struct heap *heap, struct held *held, size_t size, uint8_t mark)
{
    held->block = heap_take(heap, size);
    if (!held->block)
        return;
    held->data = (uint8_t *)held->block->extension->addr + held->block->offset;
    held->size = size;
    held->mark = mark;
    assert_int_equal((uintptr_t)held->data % HEAP_GRAIN, 0);
    assert_true(held->block->size >= size);
    assert_true(held->block->offset + size <= held->block->extension->size);
    memset(held->data, mark, size);
}

/* Nobody else has written there. */
static void held_give(struct heap *heap, struct held *held)
{
    for (size_t i = 0; i < held->size; i++)
        assert_int_equal(held->data[i], held->mark);
    heap_give(heap, held->block);
    held->block = NULL;
}

static void gives_no_byte_to_two_and_all_of_it_back(void **state)
{
    struct held *held;
    struct heap heap = { 0 };
    uint8_t *memory; /* neighbours, which must not become one */
    uint64_t random = 73;
    uint32_t number;
    size_t n_taken = 0;

    (void)state;
    if (!jemalloc_wanted())
        skip();
    held = calloc(BLOCKS, sizeof(*held));
    assert_non_null(held);
    memory = memory_of(EXTENSIONS * SIZE);
    heap_use_jemalloc(&heap);
    assert_non_null(heap.jemalloc);
    for (uint32_t e = 0; e < EXTENSIONS; e++)
        assert_int_equal(heap_extend(&heap, e + 1, memory + e * SIZE, SIZE), 0);
    for (size_t round = 0; round < support_iterations(20000); round++) {
        struct held *one = &held[random_below(&random, BLOCKS)];
        const uint64_t largest = UINT64_C(1) << random_below(&random, 18);

        if (one->block)
            held_give(&heap, one);
        else
            held_take(&heap, one, random_below(&random, largest) + 1, (uint8_t)round);
        n_taken += one->block != NULL;
    }
    assert_true(n_taken > 0);
    for (size_t i = 0; i < BLOCKS; i++)
        if (held[i].block)
            held_give(&heap, &held[i]);
    assert_int_equal(heap.used, 0);
    for (uint32_t e = 0; e < EXTENSIONS; e++) { /* each is a whole again */
        held_take(&heap, &held[e], SIZE, (uint8_t)e);
        assert_non_null(held[e].block);
    }
    assert_null(heap_take(&heap, 1));
    assert_false(heap_idle(&heap, false, &number));
    for (uint32_t e = 0; e < EXTENSIONS; e++)
        held_give(&heap, &held[e]);
    for (uint32_t e = 0; e < EXTENSIONS; e++) {
        assert_true(heap_idle(&heap, false, &number));
        heap_shrink(&heap, number);
    }
    assert_null(heap_take(&heap, 1));
    heap_deinit(&heap);
    munmap(memory, EXTENSIONS * SIZE);
    free(held);
}

/* Not a byte of the extension is jemalloc's: a small piece leaves all others as they were. */
static void keeps_its_books_elsewhere(void **state)
{
    struct heap heap = { 0 };
    struct heap_block *block;
    uint8_t *memory;

    (void)state;
    if (!jemalloc_wanted())
        skip();
    memory = memory_of(SIZE);
    memset(memory, 0xa5, SIZE);
    heap_use_jemalloc(&heap);
    assert_int_equal(heap_extend(&heap, 1, memory, SIZE), 0);
    for (int i = 0; i < 1000; i++) {
        block = heap_take(&heap, (uint64_t)i * 10 + 1);
        assert_non_null(block);
        heap_give(&heap, block);
    }
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(memory[i], 0xa5);
    heap_deinit(&heap);
    munmap(memory, SIZE);
}

/* With pieces that nobody gave back; and an arena's number is used again, so that links may come and go. */
static void is_freed_with_all_that_is_lent(void **state)
{
    uint8_t *memory;

    (void)state;
    if (!jemalloc_wanted())
        skip();
    memory = memory_of(SIZE);
    for (int i = 0; i < 5000; i++) { /* more than there can be arenas */
        struct heap heap = { 0 };

        heap_use_jemalloc(&heap);
        assert_non_null(heap.jemalloc);
        assert_int_equal(heap_extend(&heap, 1, memory, SIZE), 0);
        assert_non_null(heap_take(&heap, 100));
        assert_non_null(heap_take(&heap, 100000));
        heap_deinit(&heap);
    }
    munmap(memory, SIZE);
}

#define CHILDREN 40
#define RUN 16384 /* the smallest that is one of pages */
#define ALL_ARENAS "arena.4096.purge"

struct looking {
    struct heap heap;
    atomic_bool over;
};

/* Each look goes past all holes, with the mutex. */
static void *look_for_room(void *arg)
{
    struct looking *looking = arg;

    while (!looking->over) {
        struct heap_block *block = heap_take(&looking->heap, 2 * RUN);

        support_require(block);
        heap_give(&looking->heap, block);
    }
    return NULL;
}

/* The parent's heaps are not there, but their arenas are. */
static int purge_all(void *arg)
{
    (void)arg;
    return mallctl(ALL_ARENAS, NULL, NULL, NULL, 0);
}

static void a_child_purges_while_its_parent_looked_for_room(void **state)
{
    static struct looking looking;
    struct heap_block *runs[56 * SIZE / RUN], *small;
    pthread_t thread;
    uint8_t *memory;

    (void)state;
    if (!jemalloc_wanted())
        skip();
    memory = memory_of(64 * SIZE);
    heap_use_jemalloc(&looking.heap);
    assert_int_equal(heap_extend(&looking.heap, 1, memory, 64 * SIZE), 0);
    small = heap_take(&looking.heap, 64);
    assert_non_null(small);
    for (size_t i = 0; i < ARRAY_SIZE(runs); i++)
        assert_non_null(runs[i] = heap_take(&looking.heap, RUN));
    for (size_t i = 0; i < ARRAY_SIZE(runs); i += 2)
        heap_give(&looking.heap, runs[i]);
    heap_give(&looking.heap, small); /* jemalloc has pages to give back */
    assert_int_equal(pthread_create(&thread, NULL, look_for_room, &looking), 0);
    for (int i = 0; i < CHILDREN; i++)
        support_wait_exit(support_child(purge_all, NULL), 0);
    looking.over = true;
    assert_int_equal(pthread_join(thread, NULL), 0);
    for (size_t i = 1; i < ARRAY_SIZE(runs); i += 2)
        heap_give(&looking.heap, runs[i]);
    heap_deinit(&looking.heap);
    munmap(memory, 64 * SIZE);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(is_there_only_if_the_process_runs_on_it),
                 SUPPORT_TEST(gives_no_byte_to_two_and_all_of_it_back),
                 SUPPORT_TEST(keeps_its_books_elsewhere),
                 SUPPORT_TEST(is_freed_with_all_that_is_lent),
                 SUPPORT_TEST(a_child_purges_while_its_parent_looked_for_room),
                 { 0 },
             })
