/* SPDX-License-Identifier: MIT */
/* The pin: one thread at a time, whoever has the bias, however it changes hands. */
#include "unit/unit.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "os/pin.h"
#include "os/process.h"

static struct pin pin;

static int setup(void **state)
{
    static bool done; /* once in each process */

    (void)state;
    if (!done)
        pin_setup();
    done = true;
    pin_init(&pin);
    return pin_thread_known() || pin_thread_register() ? 0 : -1;
}

/* The way in that every user of pins takes. */
static void enter(struct pin *p)
{
    if (!pin_thread_known())
        support_require(pin_thread_register());
    pin_enter(p);
}

static void use(struct pin *p)
{
    enter(p);
    pin_leave(p);
}

/* Does this build and kernel have biases at all? */
static bool biases(void)
{
#ifdef VRD_TSAN
    return false;
#else
    return process_barrier_register();
#endif
}

/* Would this thread get in without the mutex? */
static bool biased_to_me(void)
{
    const bool mine = pin_try_biased(pin_self, &pin);

    if (mine)
        pin_leave_biased(pin_self);
    return mine;
}

static void a_fresh_pin_goes_to_its_first_user(void **state)
{
    (void)state;
    assert_false(biased_to_me());
    pin_lock(&pin);
    pin_leave(&pin);
    assert_int_equal(biased_to_me(), biases());
    for (int i = 0; i < 1000; i++)
        use(&pin);
    assert_int_equal(biased_to_me(), biases());
}

/* --- other threads -------------------------------------------------------------------------------- */

static void *thread_uses_once(void *arg)
{
    (void)arg;
    use(&pin);
    return NULL;
}

static void in_a_thread(void *(*run)(void *), void *arg)
{
    pthread_t thread;

    support_require(pthread_create(&thread, NULL, run, arg) == 0);
    support_require(pthread_join(thread, NULL) == 0);
}

static void another_thread_takes_the_bias_away(void **state)
{
    (void)state;
    use(&pin);
    assert_int_equal(biased_to_me(), biases());
    in_a_thread(thread_uses_once, NULL);
    assert_false(biased_to_me());
    use(&pin); /* and by the mutex it goes on */
    assert_false(biased_to_me());
}

/* How many uses in a row until the bias is back? */
static unsigned uses_until_biased(unsigned limit)
{
    unsigned n = 0;

    while (!biased_to_me() && n < limit) {
        use(&pin);
        n++;
    }
    return n;
}

static void a_streak_earns_it_back_and_each_time_takes_longer(void **state)
{
    unsigned last = 0;

    (void)state;
    if (!biases())
        return;
    use(&pin);
    for (int i = 0; i < 5; i++) {
        unsigned n;

        in_a_thread(thread_uses_once, NULL);
        n = uses_until_biased(1000000);
        assert_true(biased_to_me());
        assert_true(n > last);
        last = n;
    }
}

static void a_streak_is_one_threads(void **state)
{
    unsigned n;

    (void)state;
    if (!biases())
        return;
    use(&pin);
    in_a_thread(thread_uses_once, NULL);
    n = uses_until_biased(1000000);

    pin_init(&pin);
    use(&pin);
    in_a_thread(thread_uses_once, NULL);
    for (unsigned i = 0; i + 1 < n; i++)
        use(&pin);
    in_a_thread(thread_uses_once, NULL); /* breaks it off */
    for (unsigned i = 0; i + 1 < n; i++)
        use(&pin);
    assert_false(biased_to_me());
}

static void renew(void)
{
    pthread_mutex_lock(&pin.mutex);
    pin_renew(&pin);
    pthread_mutex_unlock(&pin.mutex);
}

static void renewed_it_is_as_new(void **state)
{
    unsigned first, later = 0;

    (void)state;
    if (!biases())
        return;
    use(&pin);
    renew(); /* takes nothing from whoever has the bias */
    assert_true(biased_to_me());
    in_a_thread(thread_uses_once, NULL);
    first = uses_until_biased(1000000);
    for (int i = 0; i < 4; i++) {
        in_a_thread(thread_uses_once, NULL);
        later = uses_until_biased(1000000);
    }
    assert_true(later > first);
    renew();
    in_a_thread(thread_uses_once, NULL);
    assert_int_equal(uses_until_biased(1000000), first);

    in_a_thread(thread_uses_once, NULL); /* shared: the first to come has it */
    renew();
    use(&pin);
    assert_true(biased_to_me());
}

struct waiter {
    pthread_t thread;
    pid_t tid;
    struct support_gate started;
    int entered;
};

static void *waiter_run(void *arg)
{
    struct waiter *waiter = arg;

    waiter->tid = gettid();
    if (!pin_thread_known())
        support_require(pin_thread_register());
    support_gate_open(&waiter->started);
    enter(&pin);
    __atomic_store_n(&waiter->entered, 1, __ATOMIC_RELAXED);
    pin_leave(&pin);
    return NULL;
}

static void the_holder_learns_that_others_wait(void **state)
{
    (void)state;
    for (int biased = 1; biased >= 0; biased--) {
        struct waiter waiter = { 0 };

        if (!biased)
            in_a_thread(thread_uses_once, NULL); /* to the mutex */
        enter(&pin);
        assert_false(pin_wanted(&pin));
        support_gate_init(&waiter.started);
        assert_int_equal(pthread_create(&waiter.thread, NULL, waiter_run, &waiter), 0);
        support_gate_wait(&waiter.started);
        while (!pin_wanted(&pin))
            sched_yield();
        assert_int_equal(__atomic_load_n(&waiter.entered, __ATOMIC_RELAXED), 0);
        pin_leave(&pin);
        assert_int_equal(pthread_join(waiter.thread, NULL), 0);
        assert_int_equal(waiter.entered, 1);
        assert_false(pin_wanted(&pin));
        support_gate_deinit(&waiter.started);
    }
}

/* --- stress ------------------------------------------------------------------------------------------ */

#define THREADS 4

struct stress {
    struct pin pins[2];
    uint64_t count[2]; /* plain: the pins guard them */
    int inside[2];
    size_t rounds;
    bool bursts;
};

static struct stress stress;

static void stress_use(unsigned i)
{
    enter(&stress.pins[i]);
    support_require_equal(stress.inside[i]++, 0);
    stress.count[i]++;
    if (stress.count[i] % 64 == 0)
        sched_yield();
    support_require_equal(--stress.inside[i], 0);
    pin_leave(&stress.pins[i]);
}

static void *stress_run(void *arg)
{
    uint64_t random = (uintptr_t)arg;

    for (size_t round = 0; round < stress.rounds; round++) {
        const unsigned i = (unsigned)random_below(&random, 2);
        /* Now and then a burst that is long enough to earn the bias. */
        const size_t n = stress.bursts && random_below(&random, 100) == 0 ? 700 : 1;

        for (size_t k = 0; k < n; k++)
            stress_use(i);
    }
    return NULL;
}

static uint64_t stress_expected(uintptr_t seed)
{
    uint64_t random = seed, n = 0;

    for (size_t round = 0; round < stress.rounds; round++) {
        random_below(&random, 2);
        n += stress.bursts && random_below(&random, 100) == 0 ? 700 : 1;
    }
    return n;
}

static void stress_all(size_t rounds, bool bursts)
{
    pthread_t threads[THREADS];
    uint64_t expected = 0;

    stress = (struct stress){ .rounds = rounds, .bursts = bursts };
    pin_init(&stress.pins[0]);
    pin_init(&stress.pins[1]);
    for (uintptr_t i = 0; i < THREADS; i++) {
        expected += stress_expected(i + 1);
        assert_int_equal(pthread_create(&threads[i], NULL, stress_run, (void *)(i + 1)), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(stress.count[0] + stress.count[1], expected);
}

static void four_threads_are_never_inside_together(void **state)
{
    (void)state;
    stress_all(support_iterations(40000), false);
}

static void nor_while_the_bias_comes_and_goes(void **state)
{
    (void)state;
    stress_all(support_iterations(4000), true);
}

/*
 * The bias is taken away from a thread that comes in at just that moment, again and again: each
 * round starts with a fresh pin, which the one thread enters all the time by its bias, its store
 * buffer full of other things, and the other strikes once.
 */
#define SCRATCH (1 << 16)

static struct {
    struct pin pin;
    atomic_uint round;  /* started */
    atomic_uint ready;  /* the holder has the bias in this round */
    atomic_uint struck; /* the other has been in in this round */
    atomic_uint done;   /* the holder leaves the pin alone until the next round */
    atomic_bool over;
    atomic_int inside; /* relaxed accesses only: no barrier that the pin does not have */
    atomic_int together;
    _Alignas(64) _Atomic uint8_t scratch[SCRATCH];
} strike;

/* Stays inside for a moment; says so, where that is wanted, before it leaves. */
static void strike_use(int me, atomic_uint *told, unsigned round)
{
    pin_enter(&strike.pin);
    if (atomic_load_explicit(&strike.inside, memory_order_relaxed) != 0)
        atomic_store_explicit(&strike.together, 1, memory_order_relaxed);
    atomic_store_explicit(&strike.inside, me, memory_order_relaxed);
    for (int i = 0; i < 20; i++)
        cpu_relax();
    if (atomic_load_explicit(&strike.inside, memory_order_relaxed) != me)
        atomic_store_explicit(&strike.together, 1, memory_order_relaxed);
    atomic_store_explicit(&strike.inside, 0, memory_order_relaxed);
    if (told)
        atomic_store(told, round);
    pin_leave(&strike.pin);
}

static void strike_scratch(uint64_t *random, size_t n)
{
    for (size_t i = 0; i < n; i++)
        atomic_store_explicit(&strike.scratch[random_below(random, SCRATCH)], 1,
                              memory_order_relaxed);
}

static void strike_wait(atomic_uint *counter, unsigned value)
{
    while (atomic_load(counter) < value)
        sched_yield();
}

static void *strike_holder(void *arg)
{
    uint64_t random = 8;

    (void)arg;
    support_require(pin_thread_known() || pin_thread_register());
    for (unsigned round = 1;; round++) {
        strike_wait(&strike.round, round);
        if (atomic_load(&strike.over))
            return NULL;
        strike_use(1, &strike.ready, round);
        while (atomic_load_explicit(&strike.struck, memory_order_relaxed) < round) {
            strike_scratch(&random, 24);
            strike_use(1, NULL, 0);
        }
        atomic_store(&strike.done, round);
    }
}

static void a_strike_waits_for_whoever_is_inside(void **state)
{
    const int64_t end = clock_deadline(INT64_C(2000000000)); /* for that long, on any machine */
    pthread_t holder;
    uint64_t random = 9;
    unsigned round;

    (void)state;
    assert_int_equal(pthread_create(&holder, NULL, strike_holder, NULL), 0);
    for (round = 1; clock_now() < end; round++) {
        pin_init(&strike.pin);
        atomic_store(&strike.round, round);
        strike_wait(&strike.ready, round);
        strike_scratch(&random, random_below(&random, 60)); /* takes the lines away */
        strike_use(2, &strike.struck, round);
        strike_wait(&strike.done, round);
    }
    atomic_store(&strike.over, true);
    atomic_store(&strike.round, round);
    assert_int_equal(pthread_join(holder, NULL), 0);
    print_message("%u strikes\n", round - 1);
    assert_int_equal(atomic_load(&strike.together), 0);
}

/* --- records ------------------------------------------------------------------------------------------- */

static void *thread_tells_its_record(void *arg)
{
    use(&pin);
    *(struct pin_thread **)arg = pin_self;
    return NULL;
}

static void records_are_used_again(void **state)
{
    struct pin_thread *first, *record;

    (void)state;
    in_a_thread(thread_tells_its_record, &first);
    for (int i = 0; i < 200; i++) {
        in_a_thread(thread_tells_its_record, &record);
        assert_ptr_equal(record, first);
        assert_ptr_not_equal(record, pin_self);
    }
}

static void an_exited_threads_bias_is_taken_away(void **state)
{
    struct pin_thread *record;

    (void)state;
    in_a_thread(thread_tells_its_record, &record);
    assert_false(biased_to_me());
    use(&pin);                                     /* waits for nobody */
    in_a_thread(thread_tells_its_record, &record); /* the same record, another thread */
    use(&pin);
}

#define MANY 100

static void *thread_stays(void *arg)
{
    use(&pin);
    support_gate_wait(arg);
    use(&pin);
    return NULL;
}

static void there_are_enough_for_many_threads(void **state)
{
    struct support_gate gate;
    pthread_t threads[MANY];

    (void)state;
    support_gate_init(&gate);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_stays, &gate), 0);
    for (int i = 0; i < MANY; i++)
        support_gate_open(&gate);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    support_gate_deinit(&gate);
}

/* --- fork ------------------------------------------------------------------------------------------------ */

static int child_after_fork(void *arg)
{
    (void)arg;
    support_require(!pin_thread_known());
    support_require(
        !pin_try_biased(pin_self, &pin)); /* although the pin still names this thread's record */
    pin_setup();
    support_require(!pin_thread_known());
    support_require(pin_thread_register());
    support_require(pin_thread_known());
    pin_init(&pin); /* its mutex may have had a holder */
    support_require(!biased_to_me());
    use(&pin);
    support_require_equal(biased_to_me(), biases());
    in_a_thread(thread_uses_once, NULL);
    support_require(!biased_to_me());
    use(&pin);
    return 0;
}

static void a_forked_child_finds_no_bias(void **state)
{
    (void)state;
    use(&pin);
    assert_int_equal(biased_to_me(), biases());
    support_wait_exit(support_child(child_after_fork, NULL), 0);
    assert_int_equal(biased_to_me(), biases());
}

static int grandchild_after_fork(void *arg)
{
    child_after_fork(arg);
    support_wait_exit(support_child(child_after_fork, NULL), 0);
    return 0;
}

static void nor_does_its_child(void **state)
{
    (void)state;
    use(&pin);
    support_wait_exit(support_child(grandchild_after_fork, NULL), 0);
}

static void *thread_forks(void *arg)
{
    (void)arg;
    use(&pin);
    support_wait_exit(support_child(child_after_fork, NULL), 0);
    return NULL;
}

static void also_when_another_thread_forks(void **state)
{
    (void)state;
    use(&pin);
    in_a_thread(thread_forks, NULL);
    use(&pin);
}

/* --- without the barrier ------------------------------------------------------------------------------------ */

static int child_without_barrier(void *arg)
{
    (void)arg;
    support_refuse_syscall(SYS_membarrier, EPERM);
    pin_setup();
    support_require(pin_thread_register());
    pin_init(&pin);
    for (int i = 0; i < 2000; i++) {
        use(&pin);
        support_require(!biased_to_me());
    }
    in_a_thread(thread_uses_once, NULL);
    stress_all(support_iterations(5000), true);
    return 0;
}

static void without_the_barrier_it_is_a_mutex(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_without_barrier, NULL), 0);
}

#define PIN_TEST(fn) SUPPORT_TEST_FIXTURE(fn, setup, NULL)

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 PIN_TEST(a_fresh_pin_goes_to_its_first_user),
                 PIN_TEST(another_thread_takes_the_bias_away),
                 PIN_TEST(a_streak_earns_it_back_and_each_time_takes_longer),
                 PIN_TEST(a_streak_is_one_threads),
                 PIN_TEST(renewed_it_is_as_new),
                 PIN_TEST(the_holder_learns_that_others_wait),
                 PIN_TEST(four_threads_are_never_inside_together),
                 PIN_TEST(nor_while_the_bias_comes_and_goes),
                 PIN_TEST(a_strike_waits_for_whoever_is_inside),
                 PIN_TEST(records_are_used_again),
                 PIN_TEST(an_exited_threads_bias_is_taken_away),
                 PIN_TEST(there_are_enough_for_many_threads),
                 PIN_TEST(a_forked_child_finds_no_bias),
                 PIN_TEST(nor_does_its_child),
                 PIN_TEST(also_when_another_thread_forks),
                 PIN_TEST(without_the_barrier_it_is_a_mutex),
                 { 0 },
             })
