/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of every operation fails in turn, once or from then on. The allocator of this
 * program is the C library's with a counter in front.
 *
 * ctest: no-asan no-tsan
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "operation.h"

/* The C library's allocator under the names that a replacement may call. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t align, size_t size);

static atomic_bool counting;
static atomic_size_t seen;
static size_t which; /* the n-th allocation fails, from 1; 0: none */
static bool lasting; /* and all later ones                         */

static bool allocation_fails(void)
{
    size_t number;

    if (!counting)
        return false;
    number = ++seen;
    if (which == 0 || number < which || (number > which && !lasting))
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return allocation_fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return allocation_fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *block, size_t size)
{
    return allocation_fails() ? NULL : __libc_realloc(block, size);
}

void *aligned_alloc(size_t align, size_t size)
{
    return allocation_fails() ? NULL : __libc_memalign(align, size);
}

int posix_memalign(void **ret, size_t align, size_t size)
{
    void *block = allocation_fails() ? NULL : __libc_memalign(align, size);

    if (!block)
        return ENOMEM;
    *ret = block;
    return 0;
}

struct stage {
    const struct operation *operation;
    struct support_snapshot left;
    size_t seen;
};

static void fault_arm(void *arg)
{
    (void)arg;
    counting = true;
}

static void fault_disarm(void *arg)
{
    struct stage *stage = arg;

    counting = false;
    stage->seen = seen;
}

static int subject_run(void *arg)
{
    struct stage *stage = arg;
    const struct operation_fault how = { .arm = fault_arm,
                                         .disarm = fault_disarm,
                                         .arg = stage,
                                         .first = which == 0,
                                         .left = &stage->left };

    operation_check(stage->operation, &how);
    return 0;
}

/* One run. Returns whether the operation made so many allocations. */
static bool run_failing(struct stage *stage, size_t n, bool all_later)
{
    which = n;
    lasting = all_later;
    support_wait_exit(support_child(subject_run, stage), 0);
    return stage->seen >= n;
}

static void test_each_allocation(void **state)
{
    struct stage *stage = support_shared_new(sizeof *stage);
    size_t all = 0;

    (void)state;
    for (const struct operation *operation = operations; operation->name; operation++) {
        size_t n = 0;

        stage->operation = operation;
        support_require(run_failing(stage, 0, false));
        while (run_failing(stage, n + 1, false))
            n++;
        for (size_t i = 1; i <= n; i++)
            run_failing(stage, i, true);
        print_message("%s: %zu allocations\n", operation->name, n);
        all += n;
    }
    assert_true(all > 0);
    support_shared_free(stage, sizeof *stage);
}

/* The answer is there, but nothing to copy it to; the next one is none the worse for it. */
static int view_without_memory(void *arg)
{
    static struct operation_state state = { .invitation = -1 };
    const struct operation *operation = operations;

    (void)arg;
    while (strcmp(operation->name, "answer as a view") != 0)
        operation++;
    operation->prepare(&state);
    for (int i = 0; i < 2 * VRD_ENDPOINT_CALLS_MAX; i++) { /* none of them stays in use */
        which = 1;
        lasting = true;
        seen = 0;
        counting = true;
        support_require_equal(operation->run(&state), VRD_ERR_OUT_OF_MEMORY);
        counting = false;
        support_require(seen >= 1); /* the library's thread may want memory, too */
        which = 0;
        support_require_equal(operation->run(&state), 0);
    }
    return vrd_cap_close(state.send);
}

static void test_the_copy_of_an_answer(void **state)
{
    (void)state;
    support_wait_exit(support_child(view_without_memory, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_each_allocation, 100),
                     SUPPORT_TEST(test_the_copy_of_an_answer),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
