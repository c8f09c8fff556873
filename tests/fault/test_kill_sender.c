/* SPDX-License-Identifier: MIT */
/*
 * A sender that dies at any instruction of any kind of send. The receiver reads all that was
 * published, whole and in order, and sees the end; another sender goes on undisturbed.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <veridian/ipc.h>

#include "pattern.h"
#include "step.h"
#include "support/support.h"

#define BATCH_MAX 3
#define SIBLING_LEN 24

enum sender { VICTIM, SIBLING };

struct operation {
    size_t slots;
    size_t received;        /* messages of the victim that are received before it begins ... */
    size_t queued;          /* ... and that wait in the ring while it goes on                 */
    size_t warm_len;        /* length of both                                                 */
    size_t lens[BATCH_MAX]; /* of what the operation sends; more than one is a batch   */
    bool refused;           /* with CHANNEL_FULL                                              */
    enum step_unit unit;
    size_t stride; /* kill at every stride-th step */
};

struct scene {
    const struct operation *operation;
    vrd_cap_t send, receive;
    struct support_gate victim_may, sibling_may;
};

static void send_next(vrd_cap_t cap, enum sender sender, size_t *sequence, size_t len)
{
    uint8_t buf[PATTERN_LEN_MAX];

    pattern_fill(buf, len, sender, (*sequence)++);
    support_require_equal(vrd_send(cap, buf, len), 0);
}

static size_t operation_messages(const struct operation *operation)
{
    size_t n = 0;

    while (n < BATCH_MAX && operation->lens[n] > 0)
        n++;
    return n;
}

/* What is stepped through: nothing but the call. */
static void operation_run(const struct operation *operation, vrd_cap_t send, size_t sequence)
{
    static uint8_t data[BATCH_MAX][PATTERN_LEN_MAX];
    struct vrd_message messages[BATCH_MAX] = { 0 };
    const size_t n = operation_messages(operation);
    int expected = operation->refused ? VRD_ERR_CHANNEL_FULL : n > 1 ? (int)n : 0;
    int result;

    for (size_t i = 0; i < n; i++) {
        pattern_fill(data[i], operation->lens[i], VICTIM, sequence + i);
        messages[i].data = data[i];
        messages[i].len = operation->lens[i];
    }
    step_begin();
    result = n > 1 ? vrd_send_batch(send, messages, n, VRD_FOREVER)
                   : vrd_send_timed(send, data[0], operation->lens[0], 0);
    step_end();
    support_require_equal(result, expected);
}

static int victim_run(void *arg)
{
    struct scene *scene = arg;
    const struct operation *operation = scene->operation;
    size_t sequence = 0;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    while (sequence < operation->received)
        send_next(scene->send, VICTIM, &sequence, operation->warm_len);
    support_gate_wait(&scene->victim_may);
    while (sequence < operation->received + operation->queued)
        send_next(scene->send, VICTIM, &sequence, operation->warm_len);
    operation_run(operation, scene->send, sequence);
    return 0;
}

static int sibling_run(void *arg)
{
    struct scene *scene = arg;
    size_t sequence = 0;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    for (size_t i = 0; i < 2; i++) {
        support_gate_wait(&scene->sibling_may);
        send_next(scene->send, SIBLING, &sequence, SIBLING_LEN);
    }
    support_gate_wait(&scene->sibling_may);
    return 0;
}

static int receive_next(vrd_cap_t receive, size_t counts[PATTERN_SENDERS])
{
    uint8_t buf[PATTERN_LEN_MAX];
    const ssize_t len = vrd_receive(receive, buf, sizeof buf);

    if (len < 0)
        return (int)len;
    pattern_check(buf, (size_t)len, counts);
    return 0;
}

static void receive_until(vrd_cap_t receive, size_t counts[PATTERN_SENDERS], enum sender sender,
                          size_t n)
{
    while (counts[sender] < n)
        support_require_equal(receive_next(receive, counts), 0);
}

/* One life and death of a victim. Returns false if the operation was complete before. */
static bool kill_at(struct scene *scene, struct step_walk *walk, size_t *ret_received)
{
    const struct operation *operation = scene->operation;
    size_t counts[PATTERN_SENDERS] = { 0 };
    pid_t victim, sibling;
    bool inside;
    int end;

    support_require_equal(vrd_channel_create(operation->slots, &scene->send, &scene->receive), 0);
    sibling = support_child(sibling_run, scene);
    victim = support_child(victim_run, scene);
    support_require_equal(vrd_cap_close(scene->send), 0);

    support_gate_open(&scene->sibling_may);
    receive_until(scene->receive, counts, SIBLING, 1);
    receive_until(scene->receive, counts, VICTIM, operation->received);
    support_gate_open(&scene->victim_may);
    inside = step_kill(victim, walk);

    support_gate_open(&scene->sibling_may);
    receive_until(scene->receive, counts, SIBLING, 2);
    support_gate_open(&scene->sibling_may);
    do {
        end = receive_next(scene->receive, counts);
    } while (end == 0);
    support_require_equal(end, VRD_ERR_PEER_GONE);
    support_require_equal(counts[SIBLING], 2);
    support_wait_exit(sibling, 0);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    *ret_received = counts[VICTIM];
    return inside;
}

static void kill_everywhere(const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    struct scene scene = { .operation = operation };
    const size_t before = operation->received + operation->queued;
    const size_t after = before + (operation->refused ? 0 : operation_messages(operation));
    size_t received, deaths[2] = { 0 };

    support_gate_init(&scene.victim_may);
    support_gate_init(&scene.sibling_may);
    while (step_walk_next(&walk)) {
        const bool inside = kill_at(&scene, &walk, &received);

        assert_in_range(received, before, after);
        if (inside)
            deaths[received == after]++;
        else
            assert_int_equal(received, after);
        if (walk.step == 0)
            assert_int_equal(received, before);
    }
    print_message("%zu deaths, %zu before and %zu after the last message was out\n",
                  deaths[0] + deaths[1], deaths[0], deaths[1]);
    assert_true(deaths[0] + deaths[1] > 10);
    support_gate_deinit(&scene.victim_may);
    support_gate_deinit(&scene.sibling_may);
}

/* Ring and bytes as small as they get, so that an operation also meets a used lap. */
#define WARM .slots = 4, .received = 6, .queued = 1, .stride = 1

static void test_inline_in_one_line(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM, .warm_len = 8, .lens = { 8 } });
}

static void test_inline_in_two_lines(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM, .warm_len = 64, .lens = { 64 } });
}

static void test_bytes(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM, .warm_len = 300, .lens = { 300 } });
}

static void test_full_ring(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .slots = 4,
                                         .received = 6,
                                         .queued = 4,
                                         .warm_len = 8,
                                         .lens = { 8 },
                                         .refused = true,
                                         .stride = 1 });
}

static void test_batch(void **state)
{
    struct operation operation = { WARM, .warm_len = 300, .lens = { 8, 300, 64 } };

    (void)state;
    operation.stride = 3;
    kill_everywhere(&operation);
}

static void test_before_the_owner_answers(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ .slots = 4, .queued = 1, .warm_len = 8, .lens = { 8 }, .stride = 1 });
}

/* The long ones: at every border of a system call, and at every so many instructions. */

static void test_first_attach_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ WARM, .warm_len = 8, .lens = { 300 }, .unit = STEP_SYSCALL });
}

static void test_first_attach(void **state)
{
    struct operation operation = { WARM, .warm_len = 8, .lens = { 300 } };

    (void)state;
    operation.stride = 17;
    kill_everywhere(&operation);
}

static void test_first_send_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ .slots = 4, .lens = { 8 }, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_first_send(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .slots = 4, .lens = { 8 }, .stride = 29 });
}

static void test_first_send_of_bytes_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ .slots = 4, .lens = { 300 }, .unit = STEP_SYSCALL, .stride = 1 });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_inline_in_one_line, 120),
                     SUPPORT_TEST_TIMEOUT(test_inline_in_two_lines, 120),
                     SUPPORT_TEST_TIMEOUT(test_bytes, 120),
                     SUPPORT_TEST_TIMEOUT(test_full_ring, 120),
                     SUPPORT_TEST_TIMEOUT(test_batch, 120),
                     SUPPORT_TEST_TIMEOUT(test_before_the_owner_answers, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_attach_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_attach, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_send_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_send, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_send_of_bytes_at_system_calls, 120),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
