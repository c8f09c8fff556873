/* SPDX-License-Identifier: MIT */
/* Sleeping on words: one or many, woken, timed out, changed before, in other processes. */
#include "unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/futex.h"

#define MS INT64_C(1000000)

static atomic_uint words[FUTEX_POINTS_MAX];

/* Points on the first n words, with their values now. */
static void points_init(struct futex_point *points, size_t n, bool shared)
{
    for (size_t i = 0; i < n; i++)
        points[i] = (struct futex_point){ .word = &words[i], .value = words[i], .shared = shared };
}

/* The numbers of points that this kernel can wait on. */
static size_t counts(size_t *ret)
{
    size_t n = 0;

    ret[n++] = 1;
    if (futex_many()) {
        ret[n++] = 2;
        ret[n++] = 7;
        ret[n++] = FUTEX_POINTS_MAX;
    }
    return n;
}

static void a_timeout_is_told(void **state)
{
    struct futex_point points[FUTEX_POINTS_MAX];
    size_t n[4];
    const size_t n_counts = counts(n);

    (void)state;
    for (size_t c = 0; c < n_counts; c++)
        for (int shared = 0; shared <= 1; shared++) {
            points_init(points, n[c], shared);
            errno = 4711;
            assert_int_equal(futex_sleep(points, n[c], 0), -ETIMEDOUT);
            assert_int_equal(futex_sleep(points, n[c], 1), -ETIMEDOUT);
            assert_int_equal(futex_sleep(points, n[c], 2 * MS), -ETIMEDOUT);
            assert_int_equal(errno, 4711);
        }
}

static void another_value_is_no_sleep(void **state)
{
    struct futex_point points[FUTEX_POINTS_MAX];
    size_t n[4];
    const size_t n_counts = counts(n);

    (void)state;
    for (size_t c = 0; c < n_counts; c++)
        for (size_t different = 0; different < n[c]; different++)
            for (int shared = 0; shared <= 1; shared++) {
                points_init(points, n[c], shared);
                points[different].value++;
                errno = 4711;
                assert_int_equal(futex_sleep(points, n[c], -1), 0);
                assert_int_equal(errno, 4711);
            }
}

struct sleeper {
    size_t n;
    int64_t timeout;
    bool shared;
    pid_t tid;
    struct support_gate started;
    int result;
};

static void *sleeper_run(void *arg)
{
    struct sleeper *sleeper = arg;
    struct futex_point points[FUTEX_POINTS_MAX];

    points_init(points, sleeper->n, sleeper->shared);
    sleeper->tid = gettid();
    support_gate_open(&sleeper->started);
    sleeper->result = futex_sleep(points, sleeper->n, sleeper->timeout);
    return NULL;
}

static pthread_t sleeper_start(struct sleeper *sleeper)
{
    pthread_t thread;

    support_gate_init(&sleeper->started);
    support_require(pthread_create(&thread, NULL, sleeper_run, sleeper) == 0);
    support_gate_wait(&sleeper->started);
    support_wait_asleep(sleeper->tid);
    return thread;
}

static void sleeper_end(struct sleeper *sleeper, pthread_t thread)
{
    support_require(pthread_join(thread, NULL) == 0);
    support_gate_deinit(&sleeper->started);
    assert_int_equal(sleeper->result, 0);
}

static void any_of_the_words_wakes(void **state)
{
    static const int64_t timeouts[] = { -1, INT64_MAX, INT64_C(3600) * 1000 * MS };
    size_t n[4];
    const size_t n_counts = counts(n);

    (void)state;
    for (size_t c = 0; c < n_counts; c++)
        for (size_t t = 0; t < 3; t++)
            for (int shared = 0; shared <= 1; shared++) {
                struct sleeper sleeper = { .n = n[c], .timeout = timeouts[t], .shared = shared };
                const pthread_t thread = sleeper_start(&sleeper);

                errno = 4711;
                futex_wake(&words[n[c] - 1], shared);
                assert_int_equal(errno, 4711);
                sleeper_end(&sleeper, thread);
            }
}

static void all_sleepers_wake(void **state)
{
    struct sleeper sleepers[3];
    pthread_t threads[3];

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        sleepers[i] = (struct sleeper){ .n = 1, .timeout = -1 };
        threads[i] = sleeper_start(&sleepers[i]);
    }
    futex_wake(&words[0], false);
    for (size_t i = 0; i < 3; i++)
        sleeper_end(&sleepers[i], threads[i]);
}

static void on_signal(int signal)
{
    (void)signal;
}

static void a_signal_is_no_timeout(void **state)
{
    struct sigaction action = { .sa_handler = on_signal }, before;
    size_t n[4];
    const size_t n_counts = counts(n);

    (void)state;
    assert_int_equal(sigaction(SIGUSR1, &action, &before), 0);
    for (size_t c = 0; c < n_counts; c++) {
        struct sleeper sleeper = { .n = n[c], .timeout = INT64_C(3600) * 1000 * MS };
        const pthread_t thread = sleeper_start(&sleeper);

        assert_int_equal(pthread_kill(thread, SIGUSR1), 0);
        sleeper_end(&sleeper, thread);
    }
    assert_int_equal(sigaction(SIGUSR1, &before, NULL), 0);
}

static int child_wakes(void *arg)
{
    futex_wake(arg, true);
    return 0;
}

static int child_sleeps(void *arg)
{
    struct futex_point points[2] = { { .word = arg, .value = 5, .shared = true },
                                     { .word = &words[0], .value = 0, .shared = false } };

    return futex_sleep(points, futex_many() ? 2 : 1, -1);
}

static void shared_words_wake_other_processes(void **state)
{
    uint32_t *word = support_shared_new(UNIT_PAGE);
    pid_t sleeper;

    (void)state;
    *word = 5;
    sleeper = support_child(child_sleeps, word);
    support_wait_asleep(sleeper);
    support_wait_exit(support_child(child_wakes, word), 0);
    support_wait_exit(sleeper, 0);
    support_shared_free(word, UNIT_PAGE);
}

/* Waiting on memory that is mapped read-only, as the other side's segment is. */
static void read_only_words_will_do(void **state)
{
    uint32_t *word = support_shared_new(UNIT_PAGE);
    struct futex_point points[2] = { { .word = &words[0], .value = 0, .shared = false },
                                     { .word = word, .value = 0, .shared = true } };

    (void)state;
    assert_int_equal(mprotect(word, UNIT_PAGE, PROT_READ), 0);
    if (futex_many())
        assert_int_equal(futex_sleep(points, 2, 1), -ETIMEDOUT);
    assert_int_equal(futex_sleep(points + 1, 1, 1), -ETIMEDOUT);
    points[1].value = 1;
    if (futex_many())
        assert_int_equal(futex_sleep(points, 2, -1), 0);
    assert_int_equal(futex_sleep(points + 1, 1, -1), 0);
    support_shared_free(word, UNIT_PAGE);
}

/* A word may be unmapped while somebody is about to sleep on it: he looks again. */
static void a_word_that_is_gone_is_no_sleep(void **state)
{
    void *word = support_shared_new(UNIT_PAGE);
    struct futex_point points[2] = { { .word = &words[0], .value = 0, .shared = false },
                                     { .word = word, .value = 0, .shared = true } };

    (void)state;
    support_shared_free(word, UNIT_PAGE);
    if (futex_many())
        assert_int_equal(futex_sleep(points, 2, -1), 0);
    assert_int_equal(futex_sleep(points + 1, 1, -1), 0);
    futex_wake(word, true);
}

static int child_old_kernel(void *arg)
{
    struct futex_point point = { .word = &words[0], .value = 0 };

    (void)arg;
    support_refuse_syscall(449 /* futex_waitv */, ENOSYS);
    errno = 4711;
    support_require(!futex_many());
    support_require(!futex_many());
    support_require_equal(errno, 4711);
    support_require_equal(futex_sleep(&point, 1, 1), -ETIMEDOUT);
    return 0;
}

static void older_kernels_are_noticed(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_old_kernel, NULL),
                      0); /* asked there for the first time */
}

static void the_answer_stays(void **state)
{
    const bool many = futex_many();

    (void)state;
    for (int i = 0; i < 10; i++)
        assert_int_equal(futex_many(), many);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(older_kernels_are_noticed),
                 SUPPORT_TEST(the_answer_stays),
                 SUPPORT_TEST(a_timeout_is_told),
                 SUPPORT_TEST(another_value_is_no_sleep),
                 SUPPORT_TEST(any_of_the_words_wakes),
                 SUPPORT_TEST(all_sleepers_wake),
                 SUPPORT_TEST(a_signal_is_no_timeout),
                 SUPPORT_TEST(shared_words_wake_other_processes),
                 SUPPORT_TEST(read_only_words_will_do),
                 SUPPORT_TEST(a_word_that_is_gone_is_no_sleep),
                 { 0 },
             })
