/* SPDX-License-Identifier: MIT */
/*
 * A server that dies at any instruction of receiving a call, of answering it (also in place), and of both. Callers
 * get their answer whole or learn at once that there will be none, also those whose calls are kept.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "pattern.h"
#include "step.h"
#include "support/support.h"

enum sender { CALLER, KEPT };

enum part {
    PART_RECEIVE,       /* vrd_receive_call */
    PART_REPLY,         /* vrd_reply */
    PART_LOAN,          /* vrd_reply_loan, and vrd_loan_send */
    PART_REPLY_RECEIVE, /* vrd_reply_receive, whose two halves belong to two calls */
};

struct operation {
    enum part part;
    size_t warm;      /* calls that are answered before it begins                       */
    size_t len;       /* of requests and replies                                        */
    size_t first_len; /* of the call that the operation is about; 0: the same           */
    enum step_unit unit;
    size_t stride;
};

struct scene {
    const struct operation *operation;
    vrd_cap_t service;
    int invitations[2]; /* of CALLER and KEPT */
    size_t *answered;   /* calls of CALLER; shared                                              */
    struct support_gate kept_is_there, caller_may, victim_may;
};

static size_t call_len(const struct operation *operation, size_t sequence)
{
    return sequence >= operation->warm && operation->first_len ? operation->first_len
                                                               : operation->len;
}

/* ---- the server -------------------------------------------------------------------------------- */

struct request {
    struct vrd_message message;
    vrd_cap_t reply;
    uint8_t data[PATTERN_LEN_MAX];
};

static struct request *request_new(void)
{
    static struct request request;

    request.message = (struct vrd_message){ .data = request.data, .size = sizeof request.data };
    return &request;
}

static int reply_in_place(const struct request *request)
{
    struct vrd_loan loan;
    int result = vrd_reply_loan(request->reply, request->message.len, &loan);

    if (result < 0)
        return result;
    memcpy(loan.data, request->data, loan.len);
    return vrd_loan_send(&loan, 0);
}

/* What is stepped through: nothing but the call. */
static void operation_run(const struct scene *scene, struct request *request)
{
    const struct operation *operation = scene->operation;
    int result = 0;

    if (operation->part != PART_RECEIVE)
        support_require_equal(
            vrd_receive_call(scene->service, &request->message, &request->reply, VRD_FOREVER), 0);
    step_begin();
    switch (operation->part) {
    case PART_RECEIVE:
        result = vrd_receive_call(scene->service, &request->message, &request->reply, VRD_FOREVER);
        break;
    case PART_REPLY:
        result = vrd_reply(request->reply, request->data, request->message.len);
        break;
    case PART_LOAN:
        result = reply_in_place(request);
        break;
    case PART_REPLY_RECEIVE:
        result = vrd_reply_receive(scene->service, &request->reply, request->data,
                                   request->message.len, &request->message, VRD_FOREVER);
        break;
    }
    step_end();
    support_require_equal(result, 0);
}

static int victim_run(void *arg)
{
    const struct scene *scene = arg;
    struct request *request = request_new();
    vrd_cap_t kept;

    support_gate_wait(&scene->kept_is_there);
    support_require_equal(vrd_receive_call(scene->service, &request->message, &kept, VRD_FOREVER),
                          0);
    support_require(request->data[0] == KEPT);
    support_gate_open(&scene->caller_may);
    for (size_t i = 0; i < scene->operation->warm; i++) {
        support_require_equal(
            vrd_receive_call(scene->service, &request->message, &request->reply, VRD_FOREVER), 0);
        support_require_equal(vrd_reply(request->reply, request->data, request->message.len), 0);
    }
    support_gate_wait(&scene->victim_may);
    operation_run(scene, request);
    return 0;
}

/* ---- the clients --------------------------------------------------------------------------------- */

/* Calls until it cannot; returns why. */
static ssize_t call_on(const struct scene *scene, vrd_cap_t cap)
{
    uint8_t data[PATTERN_LEN_MAX], reply[PATTERN_LEN_MAX];

    for (size_t sequence = 0;; sequence++) {
        const size_t len = call_len(scene->operation, sequence);
        ssize_t result;

        pattern_fill(data, len, CALLER, sequence);
        if (sequence == scene->operation->warm)
            support_gate_open(&scene->victim_may);
        result = vrd_call(cap, data, len, reply, sizeof reply, VRD_FOREVER);
        if (result < 0)
            return result;
        support_require_equal(result, len);
        support_require(memcmp(data, reply, len) == 0);
        ++*scene->answered;
    }
}

static int caller_run(void *arg)
{
    const struct scene *scene = arg;
    vrd_cap_t cap;

    support_require_equal(vrd_cap_close(scene->service), 0);
    support_require_equal(vrd_cap_import(scene->invitations[CALLER], &cap), 0);
    support_gate_wait(&scene->caller_may);
    support_require_equal(call_on(scene, cap), VRD_ERR_PEER_GONE);
    support_require_equal(vrd_call(cap, "x", 1, NULL, 0, VRD_FOREVER), VRD_ERR_PEER_GONE);
    return 0;
}

/* Its one call is received and not answered. */
static int kept_run(void *arg)
{
    const struct scene *scene = arg;
    uint8_t data[1] = { KEPT };
    vrd_cap_t cap;

    support_require_equal(vrd_cap_close(scene->service), 0);
    support_require_equal(vrd_cap_import(scene->invitations[KEPT], &cap), 0);
    support_gate_open(&scene->kept_is_there);
    support_require_equal(vrd_call(cap, data, 1, NULL, 0, VRD_FOREVER), VRD_ERR_PEER_GONE);
    return 0;
}

/* ---- everywhere ------------------------------------------------------------------------------------ */

/* One life and death of a server. Returns false if the operation was complete before. */
static bool kill_at(struct scene *scene, struct step_walk *walk)
{
    pid_t victim, clients[2];
    uint64_t id;
    bool inside;

    *scene->answered = 0;
    support_require_equal(vrd_endpoint_create(&id, &scene->service), 0);
    for (size_t i = 0; i < 2; i++)
        support_require_equal(
            vrd_cap_export(scene->service, VRD_RIGHT_SEND, &scene->invitations[i]), 0);
    victim = support_child(victim_run, scene);
    clients[CALLER] = support_child(caller_run, scene);
    clients[KEPT] = support_child(kept_run, scene);
    support_require_equal(vrd_cap_close(scene->service), 0);
    for (size_t i = 0; i < 2; i++)
        support_require(close(scene->invitations[i]) == 0);
    inside = step_kill(victim, walk);
    for (size_t i = 0; i < 2; i++)
        support_wait_exit(clients[i], 0);
    return inside;
}

static void kill_everywhere(const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    const size_t before = operation->warm, after = before + (operation->part != PART_RECEIVE);
    struct scene scene = { .operation = operation };
    size_t deaths[2] = { 0 };

    scene.answered = support_shared_new(sizeof *scene.answered);
    support_gate_init(&scene.kept_is_there);
    support_gate_init(&scene.caller_may);
    support_gate_init(&scene.victim_may);
    while (step_walk_next(&walk)) {
        const bool inside = kill_at(&scene, &walk);

        assert_in_range(*scene.answered, before, after);
        if (inside)
            deaths[*scene.answered - before]++;
        else
            assert_int_equal(*scene.answered, after);
        if (walk.step == 0)
            assert_int_equal(*scene.answered, before);
    }
    print_message("%zu deaths, %zu before and %zu after the reply was out\n", deaths[0] + deaths[1],
                  deaths[0], deaths[1]);
    assert_true(deaths[0] + deaths[1] > 10);
    support_gate_deinit(&scene.kept_is_there);
    support_gate_deinit(&scene.caller_may);
    support_gate_deinit(&scene.victim_may);
    support_shared_free(scene.answered, sizeof *scene.answered);
}

static void test_receive(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_RECEIVE, .warm = 6, .len = 8, .stride = 1 });
}

static void test_receive_of_bytes(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ .part = PART_RECEIVE, .warm = 6, .len = 300, .stride = 5 });
}

static void test_reply(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_REPLY, .warm = 6, .len = 8, .stride = 1 });
}

static void test_reply_in_two_lines(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_REPLY, .warm = 6, .len = 64, .stride = 1 });
}

static void test_reply_of_bytes(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_REPLY, .warm = 6, .len = 300, .stride = 3 });
}

static void test_reply_in_place(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_LOAN, .warm = 6, .len = 300, .stride = 13 });
}

static void test_first_reply_in_place_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_LOAN,
                                         .warm = 2,
                                         .len = 8,
                                         .first_len = 3000,
                                         .unit = STEP_SYSCALL,
                                         .stride = 1 });
}

static void test_reply_receive(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ .part = PART_REPLY_RECEIVE, .warm = 6, .len = 8, .stride = 5 });
}

/* The long ones: at every border of a system call, and at every so many instructions. */

static void test_first_reply_of_bytes_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .part = PART_REPLY,
                                         .warm = 2,
                                         .len = 8,
                                         .first_len = 3000,
                                         .unit = STEP_SYSCALL,
                                         .stride = 1 });
}

static void test_first_reply_of_bytes(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){
        .part = PART_REPLY, .warm = 2, .len = 8, .first_len = 3000, .stride = 61 });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_receive, 120),
                     SUPPORT_TEST_TIMEOUT(test_receive_of_bytes, 120),
                     SUPPORT_TEST_TIMEOUT(test_reply, 120),
                     SUPPORT_TEST_TIMEOUT(test_reply_in_two_lines, 120),
                     SUPPORT_TEST_TIMEOUT(test_reply_of_bytes, 120),
                     SUPPORT_TEST_TIMEOUT(test_reply_in_place, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_reply_in_place_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_reply_receive, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_reply_of_bytes_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_reply_of_bytes, 120),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
