/* SPDX-License-Identifier: MIT */
/*
 * A caller that dies at any instruction of any kind of call. The server sees each request whole or
 * not at all, is told that the caller is gone, and keeps nothing of it; another client goes on.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "pattern.h"
#include "step.h"
#include "support/support.h"

#define SIBLING_LEN 24
#define SIBLING_CALLS 3
#define MS INT64_C(1000000)

enum sender { VICTIM, SIBLING };

struct operation {
    size_t warm;      /* calls of the victim that are answered before it begins */
    size_t len;       /* of request and reply, of all calls                    */
    size_t first_len; /* of the call itself; 0: the same                        */
    bool kept;        /* the server does not answer it: it ends by TIMEOUT     */
    bool viewing;     /* the answer is read in place, and released              */
    enum step_unit unit;
    size_t stride; /* kill at every stride-th step */
};

struct scene {
    const struct operation *operation;
    vrd_cap_t service;
    int victim_invitation, sibling_invitation;
    size_t *requests; /* of those that are killed; shared with the server */
    struct support_gate victim_is_warm, victim_may, sibling_may, sibling_has;
};

static size_t operation_len(const struct operation *operation)
{
    return operation->first_len ? operation->first_len : operation->len;
}

/* ---- the server ------------------------------------------------------------------------------- */

struct server {
    const struct scene *scene;
    size_t counts[PATTERN_SENDERS];
    vrd_cap_t kept;
};

/* One more request, if it comes in time. True, and it is in `data`. */
static bool server_receive(struct server *server, uint8_t data[PATTERN_LEN_MAX], size_t *ret_len,
                           vrd_cap_t *ret_reply, int64_t timeout)
{
    struct vrd_message request = { .data = data, .size = PATTERN_LEN_MAX };
    const int result = vrd_receive_call(server->scene->service, &request, ret_reply, timeout);

    if (result == VRD_ERR_TIMEOUT)
        return false;
    support_require_equal(result, 0);
    pattern_check(data, request.len, server->counts);
    *ret_len = request.len;
    return true;
}

static void server_answer_victim(struct server *server, const uint8_t *data, size_t len,
                                 vrd_cap_t reply)
{
    const struct operation *operation = server->scene->operation;
    int result;

    if (server->counts[VICTIM] > operation->warm && operation->kept) {
        support_require(server->kept == VRD_CAP_NONE);
        server->kept = reply;
        return;
    }
    result = vrd_reply(reply, data, len);
    support_require(result == 0 || result == VRD_ERR_PEER_GONE);
}

/* Until only the sibling's link is left; what the victim sent comes before its end. */
static void server_await_end_of_victim(struct server *server)
{
    uint8_t data[PATTERN_LEN_MAX];
    struct vrd_cap_info info;
    vrd_cap_t reply;
    size_t len;

    do {
        while (server_receive(server, data, &len, &reply, MS))
            server_answer_victim(server, data, len, reply);
        support_require_equal(vrd_cap_info(server->scene->service, &info), 0);
    } while (info.links > 1);
    if (server->kept != VRD_CAP_NONE)
        support_require_equal(vrd_reply(server->kept, "x", 1), VRD_ERR_PEER_GONE);
}

static int server_run(void *arg)
{
    struct server server = { .scene = arg };
    const size_t warm = server.scene->operation->warm;
    uint8_t data[PATTERN_LEN_MAX];
    vrd_cap_t reply;
    size_t len;

    while (server.counts[SIBLING] < SIBLING_CALLS) {
        server_receive(&server, data, &len, &reply, VRD_FOREVER);
        if (data[0] == VICTIM) {
            server_answer_victim(&server, data, len, reply);
            continue;
        }
        if (server.counts[SIBLING] == SIBLING_CALLS)
            server_await_end_of_victim(&server);
        support_require_equal(vrd_reply(reply, data, len), 0);
    }
    support_require(server.counts[VICTIM] >= warm && server.counts[VICTIM] <= warm + 1);
    *server.scene->requests = server.counts[VICTIM] - warm;
    return 0;
}

/* ---- the clients ------------------------------------------------------------------------------- */

static void call_next(vrd_cap_t cap, enum sender sender, size_t *sequence, size_t len)
{
    uint8_t data[PATTERN_LEN_MAX], reply[PATTERN_LEN_MAX];

    pattern_fill(data, len, sender, (*sequence)++);
    support_require_equal(vrd_call(cap, data, len, reply, sizeof reply, VRD_FOREVER), len);
    support_require(memcmp(data, reply, len) == 0);
}

static ssize_t call_viewing(vrd_cap_t cap, const void *data, size_t len)
{
    struct vrd_view view;
    int result = vrd_call_view(cap, data, len, &view, VRD_FOREVER);

    if (result < 0)
        return result;
    len = memcmp(view.data, data, view.len) == 0 ? view.len : 0;
    result = vrd_view_release(&view);
    return result < 0 ? result : (ssize_t)len;
}

static ssize_t call_once(const struct operation *operation, vrd_cap_t cap, const void *data,
                         size_t len, void *reply)
{
    return vrd_call(cap, data, len, reply, PATTERN_LEN_MAX,
                    operation->kept ? INT64_C(100000) : VRD_FOREVER);
}

static int victim_run(void *arg)
{
    const struct scene *scene = arg;
    const struct operation *operation = scene->operation;
    const size_t len = operation_len(operation);
    static uint8_t data[PATTERN_LEN_MAX], reply[PATTERN_LEN_MAX];
    size_t sequence = 0;
    vrd_cap_t cap;
    ssize_t result;

    support_require_equal(vrd_cap_close(scene->service), 0);
    support_require_equal(vrd_cap_import(scene->victim_invitation, &cap), 0);
    while (sequence < operation->warm)
        call_next(cap, VICTIM, &sequence, operation->len);
    support_gate_open(&scene->victim_is_warm);
    support_gate_wait(&scene->victim_may);
    pattern_fill(data, len, VICTIM, sequence);
    step_begin();
    result = operation->viewing ? call_viewing(cap, data, len)
                                : call_once(operation, cap, data, len, reply);
    step_end();
    if (operation->kept) {
        support_require_equal(result, VRD_ERR_TIMEOUT);
        return 0;
    }
    support_require_equal(result, len);
    support_require(operation->viewing || memcmp(data, reply, len) == 0);
    return 0;
}

static int sibling_run(void *arg)
{
    const struct scene *scene = arg;
    size_t sequence = 0;
    vrd_cap_t cap;

    support_require_equal(vrd_cap_close(scene->service), 0);
    support_require_equal(vrd_cap_import(scene->sibling_invitation, &cap), 0);
    while (sequence < SIBLING_CALLS) {
        support_gate_wait(&scene->sibling_may);
        call_next(cap, SIBLING, &sequence, SIBLING_LEN);
        support_gate_open(&scene->sibling_has);
    }
    return 0;
}

/* ---- everywhere ----------------------------------------------------------------------------------- */

/* One life and death of a victim. Returns false if the operation was complete before. */
static bool kill_at(struct scene *scene, struct step_walk *walk)
{
    pid_t server, victim, sibling;
    uint64_t id;
    bool inside;

    support_require_equal(vrd_endpoint_create(&id, &scene->service), 0);
    support_require_equal(vrd_cap_export(scene->service, VRD_RIGHT_SEND, &scene->victim_invitation),
                          0);
    support_require_equal(
        vrd_cap_export(scene->service, VRD_RIGHT_SEND, &scene->sibling_invitation), 0);
    server = support_child(server_run, scene);
    victim = support_child(victim_run, scene);
    sibling = support_child(sibling_run, scene);

    support_gate_open(&scene->sibling_may);
    support_gate_wait(&scene->sibling_has);
    support_gate_wait(&scene->victim_is_warm);
    support_gate_open(&scene->victim_may);
    inside = step_kill(victim, walk);

    for (size_t i = 1; i < SIBLING_CALLS; i++) {
        support_gate_open(&scene->sibling_may);
        support_gate_wait(&scene->sibling_has);
    }
    support_wait_exit(sibling, 0);
    support_wait_exit(server, 0);
    support_require(close(scene->victim_invitation) == 0);
    support_require(close(scene->sibling_invitation) == 0);
    support_require_equal(vrd_cap_close(scene->service), 0);
    return inside;
}

static void kill_everywhere(const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    struct scene scene = { .operation = operation };
    size_t deaths[2] = { 0 };

    scene.requests = support_shared_new(sizeof *scene.requests);
    support_gate_init(&scene.victim_is_warm);
    support_gate_init(&scene.victim_may);
    support_gate_init(&scene.sibling_may);
    support_gate_init(&scene.sibling_has);
    while (step_walk_next(&walk)) {
        const bool inside = kill_at(&scene, &walk);

        assert_in_range(*scene.requests, 0, 1);
        if (inside)
            deaths[*scene.requests]++;
        else
            assert_int_equal(*scene.requests, 1);
        if (walk.step == 0)
            assert_int_equal(*scene.requests, 0);
    }
    print_message("%zu deaths, %zu before and %zu after the request was out\n",
                  deaths[0] + deaths[1], deaths[0], deaths[1]);
    assert_true(deaths[0] + deaths[1] > 10);
    support_gate_deinit(&scene.victim_is_warm);
    support_gate_deinit(&scene.victim_may);
    support_gate_deinit(&scene.sibling_may);
    support_gate_deinit(&scene.sibling_has);
    support_shared_free(scene.requests, sizeof *scene.requests);
}

#define WARM .warm = 6, .stride = 1
#define WARM_COARSE .warm = 6, .stride = 5

static void test_inline_in_one_line(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM, .len = 8 });
}

static void test_inline_in_two_lines(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .warm = 6, .stride = 3, .len = 64 });
}

static void test_bytes(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM_COARSE, .len = 300 });
}

static void test_viewing(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .warm = 6, .stride = 11, .len = 300, .viewing = true });
}

static void test_deadline(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM_COARSE, .len = 8, .kept = true });
}

/* The long ones: at every border of a system call, and at every so many instructions. */

static void test_first_bytes_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ WARM, .len = 8, .first_len = 3000, .unit = STEP_SYSCALL });
}

static void test_first_bytes(void **state)
{
    struct operation operation = { WARM, .len = 8, .first_len = 3000 };

    (void)state;
    operation.stride = 101;
    kill_everywhere(&operation);
}

static void test_first_call_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .len = 8, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_first_call(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ .len = 8, .stride = 61 });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_inline_in_one_line, 120),
                     SUPPORT_TEST_TIMEOUT(test_inline_in_two_lines, 120),
                     SUPPORT_TEST_TIMEOUT(test_bytes, 120),
                     SUPPORT_TEST_TIMEOUT(test_viewing, 120),
                     SUPPORT_TEST_TIMEOUT(test_deadline, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_bytes_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_bytes, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_call_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_call, 120),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
