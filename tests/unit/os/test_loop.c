/* SPDX-License-Identifier: MIT */
/*
 * Whether a thread waits for a loop on an io_uring or in poll(), it has to come to know the same: every
 * test runs in both ways. Where the kernel refuses io_uring, only one is left, and the test says so.
 */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/macro.h"
#include "os/fd.h"
#include "os/loop.h"
#include "os/process.h"
#include "os/uring.h"

#define TOKENS_MAX 64
#define SOON_MS 10000

/* ---- what the tests are made of --------------------------------------------------------------- */

static struct support_snapshot unlooped; /* how it was before the loop in use was opened */

static struct uring *ring; /* of the thread that runs the tests; NULL: poll() */

static void over_each(void (*run)(struct loop *loop))
{
    support_snapshot_take(&unlooped);
    for (int on_ring = 0; on_ring < 2; on_ring++) {
        struct loop *loop;

        assert_int_equal(loop_open(&loop), 0);
        ring = on_ring ? uring_open(loop_fd(loop)) : NULL;
        if (on_ring && !ring)
            print_message("io_uring is refused here\n");
        else
            run(loop);
        if (ring)
            uring_close(ring);
        loop_close(loop);
        assert_true(support_snapshot_holds(&unlooped));
        assert_int_equal(support_count_rings(), 0);
    }
}

struct pair {
    int near; /* the watched one */
    int far;
};

static struct pair pair_open(void)
{
    int fds[2];

    support_socket_pair(fds);
    return (struct pair){ .near = fds[0], .far = fds[1] };
}

static void pair_close(struct pair *pair)
{
    fd_close(&pair->near);
    fd_close(&pair->far);
}

static void pair_put(const struct pair *pair)
{
    assert_int_equal(write(pair->far, "x", 1), 1);
}

static void pair_take(const struct pair *pair)
{
    char byte;

    assert_int_equal(read(pair->near, &byte, 1), 1);
}

static bool readable_soon(int fd)
{
    struct pollfd entry = { .fd = fd, .events = POLLIN };

    return poll(&entry, 1, SOON_MS) == 1;
}

/* Somebody who waits for the loop would know. */
static bool told_soon(struct loop *loop)
{
    return ring ? uring_wait(ring, SOON_MS * INT64_C(1000000)) : readable_soon(loop_fd(loop));
}

/* The next collect tells just this, and somebody who waits for the loop would know. */
static void expect_token(struct loop *loop, uint64_t token)
{
    uint64_t tokens[TOKENS_MAX];

    assert_true(told_soon(loop));
    assert_int_equal(loop_collect(loop, tokens, TOKENS_MAX), 1);
    assert_int_equal(tokens[0], token);
}

/* The next collect tells nothing, and after it nobody is woken for nothing. */
static void expect_nothing(struct loop *loop)
{
    uint64_t tokens[TOKENS_MAX];

    assert_int_equal(loop_collect(loop, tokens, TOKENS_MAX), 0);
    assert_false(fd_readable(loop_fd(loop)));
}

/* ---- one descriptor ----------------------------------------------------------------------------- */

static void level(struct loop *loop)
{
    struct pair pair = pair_open();

    assert_int_equal(loop_add(loop, pair.near, 7), 0);
    expect_nothing(loop);
    for (int round = 0; round < 3; round++) {
        pair_put(&pair);
        for (int i = 0; i < 5; i++)
            expect_token(loop, 7);
        pair_take(&pair);
        expect_nothing(loop);
    }
    loop_remove(loop, pair.near);
    pair_close(&pair);
}

static void test_tells_as_long_as_it_lasts(void **state)
{
    (void)state;
    over_each(level);
}

static void ready_before(struct loop *loop)
{
    struct pair pair = pair_open();

    pair_put(&pair);
    assert_int_equal(loop_add(loop, pair.near, UINT64_MAX), 0);
    expect_token(loop, UINT64_MAX);
    loop_remove(loop, pair.near);
    pair_close(&pair);
}

static void test_tells_what_was_there_before(void **state)
{
    (void)state;
    over_each(ready_before);
}

static void hang_up(struct loop *loop)
{
    struct pair pair = pair_open();

    assert_int_equal(loop_add(loop, pair.near, 1), 0);
    fd_close(&pair.far);
    for (int i = 0; i < 3; i++)
        expect_token(loop, 1);
    loop_remove(loop, pair.near);
    expect_nothing(loop);
    pair_close(&pair);
}

static void test_tells_a_hang_up(void **state)
{
    (void)state;
    over_each(hang_up);
}

static int child_wait(void *arg)
{
    support_gate_wait(arg);
    return 0;
}

static void exit_of_process(struct loop *loop)
{
    struct support_gate gate;
    pid_t pid;
    int fd;

    support_gate_init(&gate);
    pid = support_child(child_wait, &gate);
    fd = process_open(pid);
    assert_true(fd >= 0);
    assert_int_equal(loop_add(loop, fd, 3), 0);
    expect_nothing(loop);
    support_gate_open(&gate);
    expect_token(loop, 3);
    support_wait_exit(pid, 0);
    expect_token(loop, 3);
    loop_remove(loop, fd);
    fd_close(&fd);
    support_gate_deinit(&gate);
}

static void test_tells_the_exit_of_a_process(void **state)
{
    (void)state;
    over_each(exit_of_process);
}

static void refusals(struct loop *loop)
{
    struct pair pair = pair_open();
    int gone = dup(pair.near);
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    close(gone);
    assert_int_equal(loop_add(loop, gone, 1), -EBADF);
    assert_int_equal(loop_add(loop, -1, 1), -EBADF);
    assert_int_equal(loop_add(loop, file, 1), -EPERM);
    close(file);
    assert_int_equal(loop_add(loop, pair.near, 1), 0);
    assert_int_equal(loop_add(loop, pair.near, 2), -EEXIST);
    pair_put(&pair);
    expect_token(loop, 1);
    loop_remove(loop, pair.near);
    loop_remove(loop, pair.near);
    loop_remove(loop, gone);
    loop_remove(loop, -1);
    expect_nothing(loop);
    pair_close(&pair);
}

static void test_refuses_what_it_cannot_watch(void **state)
{
    (void)state;
    over_each(refusals);
}

/* ---- no longer watched ---------------------------------------------------------------------------- */

static void removed(struct loop *loop)
{
    struct pair pair = pair_open();

    assert_int_equal(loop_add(loop, pair.near, 1), 0);
    pair_put(&pair);
    assert_true(told_soon(loop));
    loop_remove(loop, pair.near); /* what is on its way is not told */
    expect_nothing(loop);
    assert_int_equal(loop_add(loop, pair.near, 2), 0);
    expect_token(loop, 2);
    loop_remove(loop, pair.near); /* what was told once is not told again */
    expect_nothing(loop);
    pair_close(&pair);
}

static void test_is_silent_about_what_was_removed(void **state)
{
    (void)state;
    over_each(removed);
}

/* The same number for another socket: the one before was idle, ready, or told. */
static void number_again(struct loop *loop)
{
    for (int how = 0; how < 30; how++) {
        uint64_t token = 100 + (uint64_t)how;
        struct pair pair = pair_open();
        struct pair next;
        int number = pair.near;

        assert_int_equal(loop_add(loop, number, token), 0);
        if (how % 3 > 0)
            pair_put(&pair);
        if (how % 3 > 1)
            expect_token(loop, token);
        loop_remove(loop, number);
        pair_close(&pair);
        next = pair_open();
        assert_int_equal(next.near, number);
        assert_int_equal(loop_add(loop, number, token + 1000), 0);
        expect_nothing(loop);
        pair_put(&next);
        expect_token(loop, token + 1000);
        loop_remove(loop, number);
        pair_close(&next);
    }
}

static void test_a_number_used_again_is_new(void **state)
{
    (void)state;
    over_each(number_again);
}

static void lets_go(struct loop *loop)
{
    struct pair pair = pair_open();

    assert_int_equal(loop_add(loop, pair.near, 1), 0);
    expect_nothing(loop);
    loop_remove(loop, pair.near);
    fd_close(&pair.near);
    assert_true(readable_soon(pair.far)); /* the hang-up: nothing in the loop holds the socket */
    pair_close(&pair);
}

static void test_holds_no_socket_that_was_removed(void **state)
{
    (void)state;
    over_each(lets_go);
}

static void test_holds_no_socket_when_closed(void **state)
{
    (void)state;
    struct pair pair = pair_open();
    struct loop *loop;

    assert_int_equal(loop_open(&loop), 0);
    assert_int_equal(loop_add(loop, pair.near, 1), 0);
    loop_close(loop);
    fd_close(&pair.near);
    assert_true(readable_soon(pair.far));
    pair_close(&pair);
}

/* ---- many ------------------------------------------------------------------------------------------- */

#define MANY 300 /* more than one collect tells, more than fit any queue on the way */

static void many(struct loop *loop)
{
    static struct pair pairs[MANY];
    unsigned told[MANY] = { 0 };
    uint64_t tokens[TOKENS_MAX];

    for (unsigned i = 0; i < MANY; i++) {
        pairs[i] = pair_open();
        pair_put(&pairs[i]);
        assert_int_equal(loop_add(loop, pairs[i].near, i), 0);
    }
    /* Nobody is left behind although all stay ready: two turns of all, and one that had begun. */
    for (unsigned left = 3 * MANY; left > 0;) {
        size_t n;

        assert_true(told_soon(loop));
        n = loop_collect(loop, tokens, left % 2 ? 7 : TOKENS_MAX);
        assert_in_range(n, 1, left % 2 ? 7 : TOKENS_MAX);
        for (size_t i = 0; i < n; i++)
            told[tokens[i]]++;
        left -= n < left ? (unsigned)n : left;
    }
    for (unsigned i = 0; i < MANY; i++) {
        assert_in_range(told[i], 2, 4);
        pair_take(&pairs[i]);
    }
    while (fd_readable(loop_fd(loop)))
        assert_int_equal(loop_collect(loop, tokens, TOKENS_MAX), 0);
    pair_put(&pairs[MANY - 1]);
    expect_token(loop, MANY - 1);
    for (unsigned i = 0; i < MANY; i++) {
        loop_remove(loop, pairs[i].near);
        pair_close(&pairs[i]);
    }
}

static void test_many_have_their_turn(void **state)
{
    (void)state;
    over_each(many);
}

/* Those that are told leave at once: who is left is still told, and whoever waits comes to know. */
static void many_leave(struct loop *loop)
{
    static struct pair pairs[MANY];
    uint64_t tokens[TOKENS_MAX];
    unsigned left = MANY;

    for (unsigned i = 0; i < MANY; i++) {
        pairs[i] = pair_open();
        assert_int_equal(loop_add(loop, pairs[i].near, i), 0);
        fd_close(&pairs[i].far);
    }
    while (left > 0) {
        size_t n;

        assert_true(told_soon(loop));
        n = loop_collect(loop, tokens, left % 2 ? 7 : TOKENS_MAX);
        for (size_t i = 0; i < n; i++) {
            assert_true(pairs[tokens[i]].near >= 0);
            loop_remove(loop, pairs[tokens[i]].near);
            pair_close(&pairs[tokens[i]]);
        }
        left -= (unsigned)n;
    }
    expect_nothing(loop);
}

static void test_many_leave_when_told(void **state)
{
    (void)state;
    over_each(many_leave);
}

/* ---- any order of things ------------------------------------------------------------------------------ */

#define CROWD 40 /* all fit one collect */

struct member {
    struct pair pair;
    uint64_t token; /* 0: not watched */
    unsigned bytes;
};

static uint32_t dice(uint32_t *seed, uint32_t sides)
{
    *seed = *seed * 1664525 + 1013904223;
    return (*seed >> 8) % sides;
}

static void member_move(struct loop *loop, struct member *member, uint32_t move, uint64_t token)
{
    switch (move) {
    case 0:
        pair_put(&member->pair);
        member->bytes++;
        break;
    case 1:
        if (member->bytes > 0) {
            pair_take(&member->pair);
            member->bytes--;
        }
        break;
    case 2:
        if (member->token == 0) {
            assert_int_equal(loop_add(loop, member->pair.near, token), 0);
            member->token = token;
        }
        break;
    default:
        if (member->token != 0) {
            loop_remove(loop, member->pair.near);
            pair_close(&member->pair);
            *member = (struct member){ .pair = pair_open() };
        }
        break;
    }
}

/* A collect tells those that are watched and ready, each once, and nobody else. */
static void crowd_expect(struct loop *loop, const struct member *members)
{
    uint64_t tokens[TOKENS_MAX];
    size_t expected = 0;
    size_t n;

    for (unsigned i = 0; i < CROWD; i++)
        expected += members[i].token != 0 && members[i].bytes > 0;
    if (expected > 0)
        assert_true(told_soon(loop));
    n = loop_collect(loop, tokens, TOKENS_MAX);
    assert_int_equal(n, expected);
    for (unsigned i = 0; i < CROWD; i++) {
        unsigned times = 0;

        for (size_t k = 0; k < n; k++)
            times += tokens[k] == members[i].token;
        assert_int_equal(times, members[i].token != 0 && members[i].bytes > 0);
    }
}

static void crowd(struct loop *loop)
{
    struct member members[CROWD] = { 0 };
    size_t rounds = support_iterations(4000);
    uint32_t seed = 20;

    for (unsigned i = 0; i < CROWD; i++)
        members[i].pair = pair_open();
    for (size_t i = 0; i < rounds; i++) {
        uint32_t moves = 1 + dice(&seed, 20);

        while (moves-- > 0)
            member_move(loop, &members[dice(&seed, CROWD)], dice(&seed, 4), (i << 8) + moves + 1);
        crowd_expect(loop, members);
    }
    for (unsigned i = 0; i < CROWD; i++) {
        if (members[i].token != 0)
            loop_remove(loop, members[i].pair.near);
        pair_close(&members[i].pair);
    }
    expect_nothing(loop);
}

static void test_tells_just_what_is_ready(void **state)
{
    (void)state;
    over_each(crowd);
}

/* ---- threads --------------------------------------------------------------------------------------- */

struct adder {
    struct loop *loop;
    int fd;
    int result;
};

static void *add_and_exit(void *arg)
{
    struct adder *adder = arg;

    adder->result = loop_add(adder->loop, adder->fd, 9);
    return NULL;
}

static void adder_exits(struct loop *loop)
{
    struct pair pair = pair_open();
    struct adder adder = { .loop = loop, .fd = pair.near };
    uint64_t tokens[TOKENS_MAX];
    pthread_t thread;

    assert_int_equal(pthread_create(&thread, NULL, add_and_exit, &adder), 0);
    pthread_join(thread, NULL);
    assert_int_equal(adder.result, 0);
    pair_put(&pair);
    do /* the loop may have to look into it first */
        assert_true(told_soon(loop));
    while (loop_collect(loop, tokens, TOKENS_MAX) == 0);
    assert_int_equal(tokens[0], 9);
    pair_take(&pair);
    expect_nothing(loop);
    loop_remove(loop, pair.near);
    fd_close(&pair.near);
    assert_true(readable_soon(pair.far));
    pair_close(&pair);
}

static void test_outlives_the_thread_that_added(void **state)
{
    (void)state;
    over_each(adder_exits);
}

#define QUICK 200

struct keeper {
    struct loop *loop;
    struct pair pairs[QUICK];
    struct support_gate added, done;
};

static void *add_and_stay(void *arg)
{
    struct keeper *keeper = arg;

    for (unsigned i = 0; i < QUICK; i++)
        support_require_equal(loop_add(keeper->loop, keeper->pairs[i].near, i), 0);
    support_gate_open(&keeper->added);
    support_gate_wait(&keeper->done);
    return NULL;
}

/* What came was taken at once, and the watch is gone before the thread that added it knows of it. */
static void taken_and_removed(struct loop *loop)
{
    static struct keeper keeper;
    cpu_set_t before, one;
    pthread_t thread;

    /* On one CPU the other thread does not run between two lines here. */
    CPU_ZERO(&one);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    CPU_SET((size_t)sched_getcpu(), &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    keeper.loop = loop;
    for (unsigned i = 0; i < QUICK; i++)
        keeper.pairs[i] = pair_open();
    support_gate_init(&keeper.added);
    support_gate_init(&keeper.done);
    assert_int_equal(pthread_create(&thread, NULL, add_and_stay, &keeper), 0);
    support_gate_wait(&keeper.added);
    for (unsigned i = 0; i < QUICK; i++) {
        pair_put(&keeper.pairs[i]);
        pair_take(&keeper.pairs[i]);
        loop_remove(loop, keeper.pairs[i].near);
        fd_close(&keeper.pairs[i].near);
        assert_true(readable_soon(keeper.pairs[i].far)); /* nothing holds the socket */
        pair_close(&keeper.pairs[i]);
    }
    support_gate_open(&keeper.done);
    pthread_join(thread, NULL);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    support_gate_deinit(&keeper.added);
    support_gate_deinit(&keeper.done);
}

static void test_lets_go_of_what_was_just_ready(void **state)
{
    (void)state;
    over_each(taken_and_removed);
}

struct reactor {
    struct loop *loop;
    pthread_mutex_t lock;
    struct pair stop;
    atomic_bool stopped;
    size_t told; /* under the lock */
};

#define TOKEN_STOP UINT64_MAX

static void *reactor_run(void *arg)
{
    struct reactor *reactor = arg;
    struct uring *own = ring ? uring_open(loop_fd(reactor->loop)) : NULL;
    uint64_t tokens[TOKENS_MAX];

    while (!atomic_load(&reactor->stopped)) {
        size_t n;

        if (own)
            uring_wait(own, -1);
        else
            fd_wait(loop_fd(reactor->loop));
        pthread_mutex_lock(&reactor->lock);
        n = loop_collect(reactor->loop, tokens, TOKENS_MAX);
        for (size_t i = 0; i < n; i++) {
            char byte;

            if (tokens[i] == TOKEN_STOP) {
                atomic_store(&reactor->stopped, true);
            } else {
                /* the low half is the descriptor: what is told is there */
                support_require_equal(recv((int)(uint32_t)tokens[i], &byte, 1, MSG_DONTWAIT), 1);
                reactor->told++;
            }
        }
        pthread_mutex_unlock(&reactor->lock);
    }
    if (own)
        uring_close(own);
    return NULL;
}

/* One thread waits for the loop, another adds, writes and removes: no wake-up is lost. */
static void waited_for(struct loop *loop)
{
    struct reactor reactor = { .loop = loop,
                               .lock = PTHREAD_MUTEX_INITIALIZER,
                               .stop = pair_open() };
    size_t rounds = support_iterations(3000);
    pthread_t thread;

    assert_int_equal(loop_add(loop, reactor.stop.near, TOKEN_STOP), 0);
    assert_int_equal(pthread_create(&thread, NULL, reactor_run, &reactor), 0);
    for (size_t i = 0; i < rounds; i++) {
        struct pair pair = pair_open();
        uint64_t token = (uint64_t)(i + 1) << 32 | (uint32_t)pair.near;
        bool taken = false;

        pthread_mutex_lock(&reactor.lock);
        assert_int_equal(loop_add(loop, pair.near, token), 0);
        pthread_mutex_unlock(&reactor.lock);
        pair_put(&pair);
        while (!taken) {
            pthread_mutex_lock(&reactor.lock);
            taken = reactor.told == i + 1;
            pthread_mutex_unlock(&reactor.lock);
            sched_yield();
        }
        pthread_mutex_lock(&reactor.lock);
        loop_remove(loop, pair.near);
        pthread_mutex_unlock(&reactor.lock);
        pair_close(&pair);
    }
    pair_put(&reactor.stop);
    pthread_join(thread, NULL);
    assert_int_equal(reactor.told, rounds);
    loop_remove(loop, reactor.stop.near);
    pair_close(&reactor.stop);
}

static void test_wakes_who_waits(void **state)
{
    (void)state;
    over_each(waited_for);
}

/* ---- a forked child ----------------------------------------------------------------------------------- */

#define FORKED 3
#define OWN_PAGES 4

/* What the child has mapped since, perhaps where the parent has its loop, is not the loop's to take. */
static int child_close(void *arg)
{
    struct support_snapshot after;
    void *pages[OWN_PAGES];

    for (int i = 0; i < OWN_PAGES; i++)
        pages[i] = support_shared_new(4096);
    if (ring)
        uring_close(ring);
    loop_close(arg);
    support_snapshot_take(&after);
    support_require_equal(after.fds, unlooped.fds + 2 * FORKED);
    support_require_equal(support_count_rings(), 0);
    support_require_equal(after.mappings, unlooped.mappings + OWN_PAGES);
    for (int i = 0; i < OWN_PAGES; i++)
        support_shared_free(pages[i], 4096);
    return 0;
}

static void forked(struct loop *loop)
{
    struct pair pairs[FORKED];

    for (unsigned i = 0; i < FORKED; i++) {
        pairs[i] = pair_open();
        assert_int_equal(loop_add(loop, pairs[i].near, i), 0);
    }
    pair_put(&pairs[0]);
    expect_token(loop, 0);
    loop_remove(loop, pairs[2].near);
    support_wait_exit(support_child(child_close, loop), 0);
    expect_token(loop, 0);
    pair_take(&pairs[0]);
    expect_nothing(loop);
    pair_put(&pairs[1]);
    expect_token(loop, 1);
    loop_remove(loop, pairs[0].near);
    loop_remove(loop, pairs[1].near);
    for (unsigned i = 0; i < FORKED; i++)
        pair_close(&pairs[i]);
}

static void test_a_child_only_lets_go(void **state)
{
    (void)state;
    over_each(forked);
}

/* ---- on a ring ------------------------------------------------------------------------------------------ */

static void ends_in_time(struct loop *loop)
{
    struct pair pair = pair_open();

    if (ring) {
        assert_int_equal(loop_add(loop, pair.near, 1), 0);
        for (int i = 0; i < 3; i++) {
            while (uring_wait(ring, 1000000)) /* what was taken since */
                assert_false(fd_readable(loop_fd(loop)));
            assert_false(uring_wait(ring, 0));
            pair_put(&pair);
            assert_true(uring_wait(ring, 0)); /* it was there before */
            pair_take(&pair);
        }
        loop_remove(loop, pair.near);
    }
    pair_close(&pair);
}

static void test_does_not_wait_for_longer(void **state)
{
    (void)state;
    over_each(ends_in_time);
}

/* Some sandboxes refuse to make a ring, others to use it, and some come later. */
static int child_refused(void *arg)
{
    const long *nr = arg;
    struct pair pair = pair_open();
    size_t fds = support_count_fds();
    struct uring *late;

    late = uring_open(pair.near);
    support_refuse_syscall(*nr, EPERM);
    support_require(!uring_open(pair.near));
    if (late) {
        support_require(!uring_wait(late, 1000000));
        pair_put(&pair);
        support_require(uring_wait(late, -1));
        uring_close(late);
    }
    support_require_equal(support_count_fds(), fds);
    support_require_equal(support_count_rings(), 0);
    return 0;
}

static void test_a_ring_may_be_refused(void **state)
{
    long calls[] = { SYS_io_uring_setup, SYS_io_uring_enter };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
        support_wait_exit(support_child(child_refused, &calls[i]), 0);
}

/* A sanitizer's own thread starts with the first one of the program. */
static void *do_nothing(void *unused)
{
    return unused;
}

static int warm_up(void)
{
    pthread_t thread;

    return pthread_create(&thread, NULL, do_nothing, NULL) || pthread_join(thread, NULL);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_tells_as_long_as_it_lasts),
                     SUPPORT_TEST(test_tells_what_was_there_before),
                     SUPPORT_TEST(test_tells_a_hang_up),
                     SUPPORT_TEST(test_tells_the_exit_of_a_process),
                     SUPPORT_TEST(test_refuses_what_it_cannot_watch),
                     SUPPORT_TEST(test_is_silent_about_what_was_removed),
                     SUPPORT_TEST(test_a_number_used_again_is_new),
                     SUPPORT_TEST(test_holds_no_socket_that_was_removed),
                     SUPPORT_TEST(test_holds_no_socket_when_closed),
                     SUPPORT_TEST(test_many_have_their_turn),
                     SUPPORT_TEST(test_many_leave_when_told),
                     SUPPORT_TEST(test_tells_just_what_is_ready),
                     SUPPORT_TEST(test_outlives_the_thread_that_added),
                     SUPPORT_TEST(test_lets_go_of_what_was_just_ready),
                     SUPPORT_TEST(test_wakes_who_waits),
                     SUPPORT_TEST(test_a_child_only_lets_go),
                     SUPPORT_TEST(test_does_not_wait_for_longer),
                     SUPPORT_TEST(test_a_ring_may_be_refused),
                     { 0 },
                 },
             .warm_up = warm_up)
