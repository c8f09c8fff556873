/* SPDX-License-Identifier: MIT */
/*
 * Death all over the sending and receiving of a message with a capability: at one instruction in
 * `stride`, and at each system call. The message arrives whole, with its capability, or not at all; the
 * capability is in one place, or nowhere: whoever waits for its end sees it.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <veridian/ipc.h>

#include "step.h"
#include "support/support.h"

struct operation {
    bool receives;      /* the victim takes the message that we send                      */
    bool moves_receive; /* what moves is the right to receive                             */
    bool linked;        /* the victim has used both before, where that is possible   */
    enum step_unit unit;
    size_t stride;
};

struct scene {
    const struct operation *operation;
    vrd_cap_t way_send, way_receive; /* what the message goes through */
    vrd_cap_t send, receive;         /* ends of what moves            */
    struct support_gate ready, may;
};

static void send_empty(vrd_cap_t cap)
{
    support_require_equal(vrd_send(cap, NULL, 0), 0);
}

static void receive_empty(vrd_cap_t cap)
{
    support_require_equal(vrd_receive(cap, NULL, 0), 0);
}

static void close_cap(vrd_cap_t cap)
{
    support_require_equal(vrd_cap_close(cap), 0);
}

static struct vrd_message message_with(vrd_cap_t cap)
{
    return (struct vrd_message){ .opcode = 4711, .n_caps = 1, .caps = { cap } };
}

static int victim_sends(void *arg)
{
    const struct scene *scene = arg;
    const bool moves_receive = scene->operation->moves_receive;
    const struct vrd_message message = message_with(moves_receive ? scene->receive : scene->send);
    int result;

    close_cap(scene->way_receive);
    close_cap(moves_receive ? scene->send : scene->receive);
    if (scene->operation->linked) {
        send_empty(scene->way_send);
        if (!moves_receive)
            send_empty(scene->send);
    }
    support_gate_wait(&scene->may);
    step_begin();
    result = vrd_send_message(scene->way_send, &message, 0);
    step_end();
    support_require_equal(result, 0);
    return 0;
}

static int victim_receives(void *arg)
{
    const struct scene *scene = arg;
    struct vrd_message message = { .max_caps = 1 };
    int result;

    close_cap(scene->way_send);
    close_cap(scene->send);
    close_cap(scene->receive);
    if (scene->operation->linked)
        receive_empty(scene->way_receive);
    support_gate_open(&scene->ready);
    support_gate_wait(&scene->may);
    step_begin();
    result = vrd_receive_message(scene->way_receive, &message, VRD_FOREVER);
    step_end();
    support_require_equal(result, 0);
    support_require_equal(message.n_caps, 1);
    return 0;
}

/* What has come works; then the end of it is seen. */
static void expect_moved_or_gone(struct scene *scene, vrd_cap_t arrived)
{
    if (scene->operation->moves_receive) {
        if (arrived != VRD_CAP_NONE) {
            send_empty(scene->send);
            receive_empty(arrived);
            close_cap(arrived);
        }
        while (vrd_send_timed(scene->send, NULL, 0, 1000000) != VRD_ERR_PEER_GONE)
            ;
        close_cap(scene->send);
        return;
    }
    if (arrived != VRD_CAP_NONE) {
        send_empty(arrived);
        receive_empty(scene->receive);
        close_cap(arrived);
    }
    support_require_equal(vrd_receive(scene->receive, NULL, 0), VRD_ERR_PEER_GONE);
    close_cap(scene->receive);
}

/* The victim sends; does the message arrive? */
static bool kill_sender_at(struct scene *scene, struct step_walk *walk, bool *ret_arrived)
{
    const struct operation *operation = scene->operation;
    struct vrd_message message = { .max_caps = 1 };
    const pid_t victim = support_child(victim_sends, scene);
    bool inside;

    close_cap(scene->way_send);
    close_cap(operation->moves_receive ? scene->receive : scene->send);
    if (operation->linked) {
        receive_empty(scene->way_receive);
        if (!operation->moves_receive)
            receive_empty(scene->receive);
    }
    support_gate_open(&scene->may);
    inside = step_kill(victim, walk);
    *ret_arrived = vrd_receive_message(scene->way_receive, &message, VRD_FOREVER) == 0;
    if (*ret_arrived) {
        support_require_equal(message.opcode, 4711);
        support_require_equal(message.n_caps, 1);
        support_require_equal(vrd_receive(scene->way_receive, NULL, 0), VRD_ERR_PEER_GONE);
    }
    close_cap(scene->way_receive);
    expect_moved_or_gone(scene, *ret_arrived ? message.caps[0] : VRD_CAP_NONE);
    return inside;
}

/* The victim receives: it dies with what it has got, and what it has not. */
static bool kill_receiver_at(struct scene *scene, struct step_walk *walk)
{
    const struct operation *operation = scene->operation;
    const pid_t victim = support_child(victim_receives, scene);
    const struct vrd_message message =
        message_with(operation->moves_receive ? scene->receive : scene->send);
    bool inside;

    close_cap(scene->way_receive);
    if (operation->linked)
        send_empty(scene->way_send);
    support_gate_wait(&scene->ready);
    support_require_equal(vrd_send_message(scene->way_send, &message, VRD_FOREVER), 0);
    support_gate_open(&scene->may);
    inside = step_kill(victim, walk);
    expect_moved_or_gone(scene, VRD_CAP_NONE);
    while (vrd_send_timed(scene->way_send, NULL, 0, 1000000) != VRD_ERR_PEER_GONE)
        ;
    close_cap(scene->way_send);
    return inside;
}

static void kill_everywhere(const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    struct scene scene = { .operation = operation };
    size_t deaths[2] = { 0 };

    support_gate_init(&scene.ready);
    support_gate_init(&scene.may);
    while (step_walk_next(&walk)) {
        bool arrived = true, inside;

        support_require_equal(vrd_channel_create(4, &scene.way_send, &scene.way_receive), 0);
        support_require_equal(vrd_channel_create(4, &scene.send, &scene.receive), 0);
        if (operation->receives)
            inside = kill_receiver_at(&scene, &walk);
        else
            inside = kill_sender_at(&scene, &walk, &arrived);
        if (inside)
            deaths[arrived]++;
        else
            assert_true(arrived);
    }
    print_message("%zu deaths, %zu of them after the message was out\n", deaths[0] + deaths[1],
                  deaths[1]);
    assert_true(deaths[0] + deaths[1] > 10);
    support_gate_deinit(&scene.ready);
    support_gate_deinit(&scene.may);
}

#define EVERY .unit = STEP_INSTRUCTION
#define CALLS .unit = STEP_SYSCALL, .stride = 1

static void test_send(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ EVERY, .stride = 29, .linked = true });
}

static void test_send_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ CALLS, .linked = true });
}

static void test_first_send_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ CALLS });
}

static void test_send_of_receive(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ EVERY, .stride = 53, .linked = true, .moves_receive = true });
}

static void test_send_of_receive_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ CALLS, .linked = true, .moves_receive = true });
}

static void test_receive(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ EVERY, .stride = 53, .receives = true, .linked = true });
}

static void test_receive_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ CALLS, .receives = true, .linked = true });
}

static void test_first_receive_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(&(struct operation){ CALLS, .receives = true });
}

static void test_receive_of_receive_at_system_calls(void **state)
{
    (void)state;
    kill_everywhere(
        &(struct operation){ CALLS, .receives = true, .moves_receive = true, .linked = true });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_send, 120),
                     SUPPORT_TEST_TIMEOUT(test_send_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_send_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_send_of_receive, 120),
                     SUPPORT_TEST_TIMEOUT(test_send_of_receive_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_receive, 120),
                     SUPPORT_TEST_TIMEOUT(test_receive_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_receive_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_receive_of_receive_at_system_calls, 120),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
