/* SPDX-License-Identifier: MIT */
/*
 * A receiver that dies at any instruction of any kind of receive. Its senders are told PEER_GONE;
 * where a worker shares the right to receive, they go on with that one, and those who were with it
 * already notice nothing.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <veridian/ipc.h>

#include "pattern.h"
#include "step.h"
#include "support/support.h"

#define BATCH_MAX 3
#define SLOTS 4
#define RESUMED 3 /* messages that the sender sends to the other worker */

enum sender { PARENT, SIBLING, PARENT_AGAIN };

struct operation {
    size_t warm; /* messages of the parent that are received before it begins */
    size_t warm_len;
    size_t lens[BATCH_MAX]; /* of what the operation receives; more than one is a batch */
    int64_t timeout;
    enum step_unit unit;
    size_t stride;
};

struct scene {
    const struct operation *operation;
    vrd_cap_t send, receive;
    size_t sibling_warm; /* messages of the sibling that the victim receives before it begins */
    struct support_gate victim_is_warm, victim_may, sibling_is_warm, sibling_may, worker_may,
        worker_has;
};

static void scene_init(struct scene *scene, const struct operation *operation)
{
    *scene = (struct scene){ .operation = operation };
    support_gate_init(&scene->victim_is_warm);
    support_gate_init(&scene->victim_may);
    support_gate_init(&scene->sibling_is_warm);
    support_gate_init(&scene->sibling_may);
    support_gate_init(&scene->worker_may);
    support_gate_init(&scene->worker_has);
}

static void scene_deinit(struct scene *scene)
{
    support_gate_deinit(&scene->victim_is_warm);
    support_gate_deinit(&scene->victim_may);
    support_gate_deinit(&scene->sibling_is_warm);
    support_gate_deinit(&scene->sibling_may);
    support_gate_deinit(&scene->worker_may);
    support_gate_deinit(&scene->worker_has);
}

static int send_next(vrd_cap_t cap, enum sender sender, size_t *sequence, size_t len)
{
    uint8_t buf[PATTERN_LEN_MAX];
    int result;

    pattern_fill(buf, len, sender, *sequence);
    result = vrd_send(cap, buf, len);
    if (result == 0)
        (*sequence)++;
    return result;
}

static int send_until_error(vrd_cap_t cap, enum sender sender, size_t *sequence)
{
    int result;

    do {
        result = send_next(cap, sender, sequence, 8);
    } while (result == 0);
    return result;
}

static size_t operation_messages(const struct operation *operation)
{
    size_t n = 0;

    while (n < BATCH_MAX && operation->lens[n] > 0)
        n++;
    return n;
}

/* What is stepped through: nothing but the call. */
static void operation_run(const struct operation *operation, vrd_cap_t receive,
                          size_t counts[PATTERN_SENDERS])
{
    static uint8_t data[BATCH_MAX][PATTERN_LEN_MAX];
    struct vrd_message messages[BATCH_MAX] = { 0 };
    const size_t n = operation_messages(operation);
    ssize_t result;

    for (size_t i = 0; i < BATCH_MAX; i++) {
        messages[i].data = data[i];
        messages[i].size = sizeof data[i];
    }
    step_begin();
    result = n > 1 ? vrd_receive_batch(receive, messages, n, operation->timeout)
                   : vrd_receive_timed(receive, data[0], sizeof data[0], operation->timeout);
    step_end();
    if (n == 0) {
        support_require(result == VRD_ERR_CHANNEL_EMPTY || result == VRD_ERR_TIMEOUT);
        return;
    }
    support_require_equal(result, n > 1 ? (ssize_t)n : (ssize_t)operation->lens[0]);
    for (size_t i = 0; i < n; i++)
        pattern_check(data[i], operation->lens[i], counts);
}

/* Without waiting inside the library, whose control thread would go on while this one is held. */
static void receive_polling(vrd_cap_t receive, size_t counts[PATTERN_SENDERS])
{
    uint8_t buf[PATTERN_LEN_MAX];
    ssize_t len;

    while ((len = vrd_receive_async(receive, buf, sizeof buf)) == VRD_ERR_CHANNEL_EMPTY)
        support_sleep_ms(0);
    support_require(len > 0);
    pattern_check(buf, (size_t)len, counts);
}

static int victim_run(void *arg)
{
    struct scene *scene = arg;
    size_t counts[PATTERN_SENDERS] = { 0 };

    support_require_equal(vrd_cap_close(scene->send), 0);
    while (counts[PARENT] < scene->operation->warm || counts[SIBLING] < scene->sibling_warm)
        receive_polling(scene->receive, counts);
    support_gate_open(&scene->victim_is_warm);
    support_gate_wait(&scene->victim_may);
    operation_run(scene->operation, scene->receive, counts);
    return 0;
}

/* Sends what the operation is to receive and lets the victim go; false: it was through. */
static bool victim_meets_end(struct scene *scene, pid_t victim, struct step_walk *walk,
                             size_t *sequence)
{
    const struct operation *operation = scene->operation;

    for (size_t i = 0; i < operation_messages(operation); i++)
        support_require_equal(send_next(scene->send, PARENT, sequence, operation->lens[i]), 0);
    support_gate_open(&scene->victim_may);
    return step_kill(victim, walk);
}

/* Starts the victim and the sibling, and sends until the victim is warm. */
static pid_t victim_start(struct scene *scene, int (*sibling_run)(void *), pid_t *ret_sibling,
                          size_t *sequence)
{
    const struct operation *operation = scene->operation;
    pid_t victim;

    support_require_equal(vrd_channel_create(SLOTS, &scene->send, &scene->receive), 0);
    victim = support_child(victim_run, scene);
    *ret_sibling = support_child(sibling_run, scene);
    for (size_t i = 0; i < operation->warm; i++)
        support_require_equal(send_next(scene->send, PARENT, sequence, operation->warm_len), 0);
    support_gate_wait(&scene->victim_is_warm);
    return victim;
}

/* ---- the only receiver ------------------------------------------------------------------------- */

static int lonely_sibling_run(void *arg)
{
    struct scene *scene = arg;
    size_t sequence = 0;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    while (sequence < scene->sibling_warm)
        support_require_equal(send_next(scene->send, SIBLING, &sequence, 24), 0);
    support_gate_open(&scene->sibling_is_warm);
    support_gate_wait(&scene->sibling_may);
    support_require_equal(send_until_error(scene->send, SIBLING, &sequence), VRD_ERR_PEER_GONE);
    return 0;
}

static bool kill_only_receiver(struct scene *scene, struct step_walk *walk)
{
    size_t sequence = 0;
    pid_t victim, sibling;
    bool inside;

    scene->sibling_warm = scene->operation->warm > 0;
    victim = victim_start(scene, lonely_sibling_run, &sibling, &sequence);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    support_gate_wait(&scene->sibling_is_warm);
    inside = victim_meets_end(scene, victim, walk, &sequence);

    support_require_equal(send_until_error(scene->send, PARENT, &sequence), VRD_ERR_PEER_GONE);
    support_require_equal(send_next(scene->send, PARENT, &sequence, 8), VRD_ERR_PEER_GONE);
    support_require_equal(send_next(scene->send, PARENT, &sequence, 300), VRD_ERR_PEER_GONE);
    support_gate_open(&scene->sibling_may);
    support_wait_exit(sibling, 0);
    support_require_equal(vrd_cap_close(scene->send), 0);
    return inside;
}

/* ---- one of two workers ------------------------------------------------------------------------- */

static int worker_run(void *arg)
{
    struct scene *scene = arg;
    size_t counts[PATTERN_SENDERS] = { 0 };
    uint8_t buf[PATTERN_LEN_MAX];
    ssize_t len;

    support_require_equal(vrd_cap_close(scene->send), 0);
    support_gate_wait(&scene->worker_may);
    while ((len = vrd_receive(scene->receive, buf, sizeof buf)) >= 0) {
        pattern_check(buf, (size_t)len, counts);
        if (buf[0] == SIBLING)
            support_gate_open(&scene->worker_has);
    }
    support_require_equal(len, VRD_ERR_PEER_GONE);
    support_require_equal(counts[SIBLING], 2);
    support_require_equal(counts[PARENT_AGAIN], RESUMED);
    support_require_equal(counts[PARENT], 0);
    return 0;
}

static int sibling_run(void *arg)
{
    struct scene *scene = arg;
    size_t sequence = 0;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    for (size_t i = 0; i < 2; i++) {
        support_gate_wait(&scene->sibling_may);
        support_require_equal(send_next(scene->send, SIBLING, &sequence, 24), 0);
    }
    return 0;
}

static bool kill_one_worker(struct scene *scene, struct step_walk *walk)
{
    size_t sequence = 0, sequence_again = 0;
    pid_t sibling;
    const pid_t victim = victim_start(scene, sibling_run, &sibling, &sequence);
    const pid_t worker = support_child(worker_run, scene);
    bool inside;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    support_gate_open(&scene->worker_may);
    support_gate_open(&scene->sibling_may);
    support_gate_wait(&scene->worker_has);
    inside = victim_meets_end(scene, victim, walk, &sequence);

    support_gate_open(&scene->sibling_may);
    support_gate_wait(&scene->worker_has);
    support_require_equal(send_until_error(scene->send, PARENT, &sequence), VRD_ERR_PEER_GONE);
    while (sequence_again < RESUMED)
        support_require_equal(send_next(scene->send, PARENT_AGAIN, &sequence_again, 300), 0);
    support_require_equal(vrd_cap_close(scene->send), 0);
    support_wait_exit(sibling, 0);
    support_wait_exit(worker, 0);
    return inside;
}

/* ---- everywhere ----------------------------------------------------------------------------------- */

static void kill_everywhere(bool (*kill_at)(struct scene *scene, struct step_walk *walk),
                            const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    struct scene scene;
    size_t deaths = 0;

    scene_init(&scene, operation);
    while (step_walk_next(&walk)) {
        const bool inside = kill_at(&scene, &walk);

        deaths += inside;
    }
    print_message("%zu deaths\n", deaths);
    assert_true(deaths > 5);
    scene_deinit(&scene);
}

#define WARM .warm = 6, .stride = 1

static void test_inline_in_one_line(void **state)
{
    (void)state;
    kill_everywhere(kill_only_receiver, &(struct operation){ WARM, .warm_len = 8, .lens = { 8 } });
}

static void test_inline_in_two_lines(void **state)
{
    (void)state;
    kill_everywhere(kill_only_receiver,
                    &(struct operation){ WARM, .warm_len = 64, .lens = { 64 } });
}

static void test_bytes(void **state)
{
    (void)state;
    kill_everywhere(kill_only_receiver,
                    &(struct operation){ WARM, .warm_len = 300, .lens = { 300 } });
}

static void test_batch(void **state)
{
    struct operation operation = { WARM, .warm_len = 300, .lens = { 8, 300, 64 } };

    (void)state;
    operation.stride = 3;
    kill_everywhere(kill_only_receiver, &operation);
}

static void test_empty(void **state)
{
    struct operation operation = { WARM, .warm_len = 8 };

    (void)state;
    operation.stride = 3;
    kill_everywhere(kill_only_receiver, &operation);
}

/* Through the look at the ring, the spinning, and the sleep. */
static void test_waiting_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(
        kill_only_receiver,
        &(struct operation){ WARM, .warm_len = 8, .timeout = 300 * 1000, .unit = STEP_SYSCALL });
}

static void test_first_receive_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(kill_only_receiver,
                    &(struct operation){ .lens = { 8 }, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_first_receive(void **state)
{
    (void)state;
    kill_everywhere(kill_only_receiver, &(struct operation){ .lens = { 8 }, .stride = 29 });
}

static void test_first_attach_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(kill_only_receiver, &(struct operation){ WARM, .warm_len = 8, .lens = { 300 },
                                                             .unit = STEP_SYSCALL });
}

static void test_one_of_two_workers(void **state)
{
    struct operation operation = { WARM, .warm_len = 8, .lens = { 8 } };

    (void)state;
    operation.stride = 3;
    kill_everywhere(kill_one_worker, &operation);
}

static void test_one_of_two_workers_at_first_attach(void **state)
{
    (void)state;
    kill_everywhere(kill_one_worker, &(struct operation){ WARM, .warm_len = 8, .lens = { 300 },
                                                          .unit = STEP_SYSCALL });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_inline_in_one_line, 300),
                     SUPPORT_TEST_TIMEOUT(test_inline_in_two_lines, 300),
                     SUPPORT_TEST_TIMEOUT(test_bytes, 300),
                     SUPPORT_TEST_TIMEOUT(test_batch, 300),
                     SUPPORT_TEST_TIMEOUT(test_empty, 300),
                     SUPPORT_TEST_TIMEOUT(test_waiting_at_system_calls, 300),
                     SUPPORT_TEST_TIMEOUT(test_first_receive_at_system_calls, 300),
                     SUPPORT_TEST_TIMEOUT(test_first_receive, 300),
                     SUPPORT_TEST_TIMEOUT(test_first_attach_at_system_calls, 300),
                     SUPPORT_TEST_TIMEOUT(test_one_of_two_workers, 300),
                     SUPPORT_TEST_TIMEOUT(test_one_of_two_workers_at_first_attach, 300),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
