/* SPDX-License-Identifier: MIT */
/* The table of capability numbers: none comes twice, entries rest and stay, and where it ends. */
#include "unit/unit.h"

#include <sys/resource.h>
#include <sys/sysinfo.h>

#include "cap/handle.h"
#include "os/pin.h"

static uint32_t index_of(vrd_cap_t cap)
{
    return (uint32_t)(cap & HANDLE_INDEX_MAX);
}

static uint64_t generation_of(vrd_cap_t cap)
{
    return cap >> HANDLE_INDEX_BITS;
}

static struct handle *take(vrd_cap_t *ret_cap)
{
    struct handle *handle = handle_new(ret_cap);

    support_require(handle != NULL);
    handle->cap = *ret_cap;
    return handle;
}

static void give_back(struct handle *handle)
{
    handle->cap = VRD_CAP_NONE;
    handle_free(handle);
}

/* Each test in a process of its own: the table is the process's. */
static void in_a_child(int (*run)(void *))
{
    support_wait_exit(support_child(run, NULL), 0);
}

/* --- numbers ------------------------------------------------------------------------------------ */

static int run_numbers(void *arg)
{
    struct handle *handles[200];
    vrd_cap_t caps[200];

    (void)arg;
    for (size_t i = 0; i < 200; i++) {
        handles[i] = take(&caps[i]);
        support_require(caps[i] != VRD_CAP_NONE);
        support_require(generation_of(caps[i]) >= 1);
        support_require(index_of(caps[i]) > 0); /* VRD_CAP_NONE's, and so nobody's */
        support_require(index_of(caps[i]) < handle_limit());
        support_require(handle_find(caps[i]) == handles[i]);
        for (size_t k = 0; k < i; k++) {
            support_require(handles[k] != handles[i]);
            support_require(index_of(caps[k]) != index_of(caps[i]));
        }
    }
    return 0;
}

static void numbers_are_never_none_and_find_their_entry(void **state)
{
    (void)state;
    in_a_child(run_numbers);
}

static int run_generations(void *arg)
{
    struct handle *handle;
    vrd_cap_t last, cap;

    (void)arg;
    handle = take(&last);
    for (int i = 0; i < 100000; i++) {
        give_back(handle);
        support_require(take(&cap) == handle); /* the only one that is free */
        support_require_equal(index_of(cap), index_of(last));
        support_require_equal(generation_of(cap), generation_of(last) + 1);
        support_require(handle_find(last) == handle && handle->cap != last); /* stale, and told */
        last = cap;
    }
    return 0;
}

static void generations_are_never_used_again(void **state)
{
    (void)state;
    in_a_child(run_generations);
}

static int run_fifo(void *arg)
{
    struct handle *handles[100];
    vrd_cap_t caps[100], cap;

    (void)arg;
    for (int i = 0; i < 100; i++)
        handles[i] = take(&caps[i]);
    for (int i = 0; i < 100; i++)
        give_back(handles[i * 37 % 100]);
    for (int i = 0; i < 100; i++)
        support_require(take(&cap) == handles[i * 37 % 100]);
    support_require(take(&cap) != NULL);
    for (int i = 0; i < 100; i++)
        support_require(handle_find(cap) != handles[i]); /* none was left */
    return 0;
}

static void entries_rest_as_long_as_they_can(void **state)
{
    (void)state;
    in_a_child(run_fifo);
}

static int run_forged(void *arg)
{
    vrd_cap_t cap;
    struct handle *handle = take(&cap);

    (void)arg;
    support_require(handle_find(VRD_CAP_NONE) != handle);
    support_require(handle_find(UINT64_MAX) == NULL);
    support_require(handle_find(cap + ((uint64_t)1 << HANDLE_CHUNK_BITS)) == NULL);
    /* In the same chunk: an entry, but nobody's. */
    support_require(handle_find(cap + 1) != NULL && handle_find(cap + 1)->cap == VRD_CAP_NONE);
    for (int bit = HANDLE_INDEX_BITS; bit < 64; bit++) {
        const vrd_cap_t forged = cap ^ (UINT64_C(1) << bit);

        support_require(handle_find(forged) == handle && handle->cap != forged);
    }
    return 0;
}

static void forged_numbers_find_nothing_or_another_generation(void **state)
{
    (void)state;
    in_a_child(run_forged);
}

/* --- entries -------------------------------------------------------------------------------------- */

static int run_stable(void *arg)
{
    enum { N = 1000 };
    struct handle *handles[N];
    vrd_cap_t caps[N];

    (void)arg;
    for (int i = 0; i < N; i++) {
        handles[i] = take(&caps[i]);
        support_require((uintptr_t)handles[i] % 128 == 0);
        memset((char *)handles[i] + sizeof *handles[i], i & 0xff,
               HANDLE_ENTRY_SIZE - sizeof *handles[i]);
    }
    for (int i = 0; i < N; i++) {
        const uint8_t *bytes = (const uint8_t *)handles[i];

        support_require(handle_find(caps[i]) == handles[i]);
        support_require(handle_at(index_of(caps[i])) == handles[i]);
        support_require(handles[i]->cap == caps[i]);
        for (size_t at = sizeof *handles[i]; at < HANDLE_ENTRY_SIZE; at++)
            support_require_equal(bytes[at], i & 0xff);
    }
    return 0;
}

static void entries_stay_where_they_are_and_do_not_overlap(void **state)
{
    (void)state;
    in_a_child(run_stable);
}

static int run_pins(void *arg)
{
    vrd_cap_t cap;

    (void)arg;
    pin_setup();
    support_require(pin_thread_register());
    for (int i = 0; i < 200; i++) {
        struct handle *handle = take(&cap);

        pin_enter(&handle->pin);
        pin_leave(&handle->pin);
    }
    return 0;
}

static void each_entry_has_a_pin_that_works(void **state)
{
    (void)state;
    in_a_child(run_pins);
}

/* --- the end of the table ---------------------------------------------------------------------------- */

/* A full table is 768 MiB. */
static bool memory_is_cheap(void)
{
    struct sysinfo info;

    return support_slowdown() == 1 && sysinfo(&info) == 0 &&
           (uint64_t)info.freeram * info.mem_unit > UINT64_C(2) << 30;
}

static int run_full(void *arg)
{
    vrd_cap_t cap, first = VRD_CAP_NONE;
    uint64_t n = 0;

    (void)arg;
    for (struct handle *handle; (handle = handle_new(&cap)) != NULL; n++) {
        handle->cap = cap;
        first = first ? first : cap;
        support_require(index_of(cap) <= HANDLE_INDEX_MAX);
        support_require(n <= HANDLE_INDEX_MAX);
    }
    support_require_equal(n, HANDLE_INDEX_MAX);
    support_require_equal(handle_limit(), (int64_t)HANDLE_INDEX_MAX + 1);
    support_require(handle_new(&cap) == NULL);
    support_require(handle_find(first)->cap == first);
    give_back(handle_find(first));
    support_require(handle_new(&cap) != NULL);
    support_require_equal(index_of(cap), index_of(first));
    support_require(cap != first);
    support_require(handle_new(&cap) == NULL);
    return 0;
}

static void it_ends_at_its_last_index(void **state)
{
    (void)state;
    if (!memory_is_cheap()) {
        print_message("left out for want of memory\n");
        return;
    }
    in_a_child(run_full);
}

static int run_no_memory(void *arg)
{
    struct rlimit limit;
    vrd_cap_t cap = 4711, last = VRD_CAP_NONE;
    struct handle *handle;
    uint32_t n = 0;

    (void)arg;
    take(&last);
    support_require(getrlimit(RLIMIT_AS, &limit) == 0);
    limit.rlim_cur = 64 << 20;
    support_require(setrlimit(RLIMIT_AS, &limit) == 0);
    while ((handle = handle_new(&cap)) != NULL) {
        handle->cap = cap;
        last = cap;
        support_require(++n <= HANDLE_INDEX_MAX);
    }
    support_require_equal(cap, last);
    limit.rlim_cur = limit.rlim_max;
    support_require(setrlimit(RLIMIT_AS, &limit) == 0);
    support_require(take(&cap) != NULL); /* it was no damage */
    support_require_equal(index_of(cap), index_of(last) + 1);
    support_require_equal(generation_of(cap), 1);
    return 0;
}

static void without_memory_there_is_none_and_no_harm(void **state)
{
    (void)state;
    if (support_slowdown() > 1) {
        print_message("left out under a sanitizer, which needs the addresses\n");
        return;
    }
    in_a_child(run_no_memory);
}

/* --- against a model ------------------------------------------------------------------------------------ */

#define LIVE_MAX 300

static int run_model(void *arg)
{
    struct handle *live[LIVE_MAX];
    vrd_cap_t caps[LIVE_MAX];
    uint64_t newest[4 * LIVE_MAX] = { 0 }; /* generation by index */
    size_t n = 0;
    uint64_t random = 5;

    (void)arg;
    for (size_t step = 0; step < support_iterations(200000); step++) {
        if (n < LIVE_MAX && random_below(&random, 2) == 0) {
            live[n] = take(&caps[n]);
            support_require(index_of(caps[n]) < 4 * LIVE_MAX);
            support_require_equal(generation_of(caps[n]), newest[index_of(caps[n])] + 1);
            newest[index_of(caps[n])]++;
            n++;
        } else if (n > 0) {
            const size_t i = random_below(&random, n);

            support_require(handle_find(caps[i]) == live[i] && live[i]->cap == caps[i]);
            give_back(live[i]);
            support_require(live[i]->cap != caps[i]);
            live[i] = live[--n];
            caps[i] = caps[n];
        }
    }
    support_require(handle_limit() <= LIVE_MAX + 1);
    return 0;
}

static void behaves_like_the_model(void **state)
{
    (void)state;
    in_a_child(run_model);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(numbers_are_never_none_and_find_their_entry),
                 SUPPORT_TEST(generations_are_never_used_again),
                 SUPPORT_TEST(entries_rest_as_long_as_they_can),
                 SUPPORT_TEST(forged_numbers_find_nothing_or_another_generation),
                 SUPPORT_TEST(entries_stay_where_they_are_and_do_not_overlap),
                 SUPPORT_TEST(each_entry_has_a_pin_that_works),
                 SUPPORT_TEST(it_ends_at_its_last_index),
                 SUPPORT_TEST(without_memory_there_is_none_and_no_harm),
                 SUPPORT_TEST(behaves_like_the_model),
                 { 0 },
             })
