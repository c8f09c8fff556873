/* SPDX-License-Identifier: MIT */
/* The number of the CPU. */
#include "unit/unit.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/rseq.h>

#include "os/cpu.h"

/* Pins this thread to each CPU that it may use, and asks. */
static void *ask_on_each(void *arg)
{
    cpu_set_t allowed, one;

    (void)arg;
    support_require(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &allowed))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        support_require(sched_setaffinity(0, sizeof one, &one) == 0);
        if (__rseq_size > 0)
            support_require_equal(cpu_current(), cpu + 1);
        else
            support_require_equal(cpu_current(), 0);
    }
    support_require(sched_setaffinity(0, sizeof allowed, &allowed) == 0);
    return NULL;
}

static void is_the_one_that_this_thread_runs_on(void **state)
{
    pthread_t thread;

    (void)state;
    cpu_init();
    ask_on_each(NULL);
    assert_int_equal(pthread_create(&thread, NULL, ask_on_each, NULL), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static int child_asks(void *arg)
{
    ask_on_each(arg);
    return 0;
}

static void also_in_a_forked_child(void **state)
{
    (void)state;
    cpu_init();
    support_wait_exit(support_child(child_asks, NULL), 0);
}

static int role_without(struct support_role_args *args)
{
    (void)args;
    support_require_equal(__rseq_size, 0);
    cpu_init();
    support_require_equal(cpu_current(), 0);
    return 0;
}

static void none_where_the_c_library_has_none(void **state)
{
    (void)state;
    assert_int_equal(setenv("GLIBC_TUNABLES", "glibc.pthread.rseq=0", 1), 0);
    support_wait_exit(support_spawn_role("without", NULL, 0, NULL), 0);
    unsetenv("GLIBC_TUNABLES");
}

static atomic_uint yields;
static atomic_bool hogged;

/* In place of the C library's: somebody else has the CPU for some time. */
int sched_yield(void)
{
    atomic_fetch_add(&yields, 1);
    if (atomic_load(&hogged))
        support_sleep_ms(1);
    return 0;
}

static void a_yield_that_cost_a_slice_is_not_repeated_at_once(void **state)
{
    unsigned skipped = 0;

    (void)state;
    atomic_store(&hogged, true);
    while (cpu_yield_cheaply()) /* whatever happened in this thread before */
        ;
    atomic_store(&hogged, false);
    atomic_store(&yields, 0);
    while (!cpu_yield_cheaply())
        skipped++;
    assert_true(skipped > 0);
    assert_int_equal(atomic_load(&yields), 1);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(is_the_one_that_this_thread_runs_on),
                     SUPPORT_TEST(also_in_a_forked_child),
                     SUPPORT_TEST(none_where_the_c_library_has_none),
                     SUPPORT_TEST(a_yield_that_cost_a_slice_is_not_repeated_at_once),
                     { 0 },
                 },
             .roles = (const struct support_role[]){
                 { "without", role_without },
                 { 0 },
             })
