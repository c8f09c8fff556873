/* SPDX-License-Identifier: MIT */
/*
 * A sender that dies at any instruction of lending, a receiver that dies at any instruction of viewing
 * and releasing. What was lent is viewed whole and in order, and stays when the sender is gone; what was
 * viewed is nobody's when the receiver is gone, and the sender is told. And a sender that finds the ring full
 * while, at any instruction, the receiver empties it.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <veridian/ipc.h>

#include "pattern.h"
#include "step.h"
#include "support/support.h"

#define WARM 3
#define STRIDE 5
#define LEN 1500

struct scene {
    vrd_cap_t send, receive;
    size_t warm;    /* messages before the operation */
    bool borrowing; /* dies while it borrows, not while it sends */
    enum step_unit unit;
    struct support_gate may;
};

static int lend(vrd_cap_t send, size_t sequence)
{
    struct vrd_loan loan;
    int result = vrd_loan(send, LEN, &loan);

    if (result < 0)
        return result;
    pattern_fill(loan.data, LEN, 0, sequence);
    result = vrd_loan_send(&loan, VRD_FOREVER);
    if (loan.data)
        support_require_equal(vrd_loan_cancel(&loan), 0);
    return result;
}

/* ---- the sender --------------------------------------------------------------------------------------- */

static int lender_run(void *arg)
{
    struct scene *scene = arg;
    struct vrd_loan loan;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    for (size_t i = 0; i < scene->warm; i++)
        support_require_equal(lend(scene->send, i), 0);
    support_gate_wait(&scene->may);
    if (scene->borrowing)
        step_begin();
    support_require_equal(vrd_loan(scene->send, LEN, &loan), 0);
    if (scene->borrowing)
        step_end();
    pattern_fill(loan.data, LEN, 0, scene->warm);
    if (!scene->borrowing)
        step_begin();
    support_require_equal(vrd_loan_send(&loan, VRD_FOREVER), 0);
    if (!scene->borrowing)
        step_end();
    return 0;
}

/* Returns false if the operation was complete before. */
static bool kill_lender(struct scene *scene, struct step_walk *walk, size_t *ret_viewed)
{
    size_t counts[PATTERN_SENDERS] = { 0 }, n = 0;
    struct vrd_view views[WARM + 2];
    bool inside;
    pid_t pid;
    int end;

    support_require_equal(vrd_channel_create(4, &scene->send, &scene->receive), 0);
    pid = support_child(lender_run, scene);
    support_require_equal(vrd_cap_close(scene->send), 0);
    for (; n < scene->warm; n++)
        support_require_equal(vrd_receive_view(scene->receive, &views[n], VRD_FOREVER), 0);
    support_gate_open(&scene->may);
    inside = step_kill(pid, walk);
    while ((end = vrd_receive_view(scene->receive, &views[n], VRD_FOREVER)) == 0)
        support_require(++n <= WARM + 1);
    support_require_equal(end, VRD_ERR_PEER_GONE);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    for (size_t i = 0; i < n; i++) {
        support_require_equal(views[i].len, LEN);
        pattern_check(views[i].data, LEN, counts);
        support_require_equal(vrd_view_release(&views[i]), 0);
    }
    *ret_viewed = n;
    return inside;
}

static void kill_lender_everywhere(struct scene scene, size_t stride)
{
    struct step_walk walk = { .unit = scene.unit, .stride = stride };
    size_t viewed, deaths[2] = { 0 };

    support_gate_init(&scene.may);
    while (step_walk_next(&walk)) {
        const bool inside = kill_lender(&scene, &walk, &viewed);

        assert_in_range(viewed, scene.warm, scene.warm + 1);
        if (inside)
            deaths[viewed - scene.warm]++;
        else
            assert_int_equal(viewed, scene.warm + 1);
    }
    print_message("%zu deaths, %zu before and %zu after the message was out\n",
                  deaths[0] + deaths[1], deaths[0], deaths[1]);
    assert_true(deaths[0] + deaths[1] > 10);
    support_gate_deinit(&scene.may);
}

static void test_borrowing(void **state)
{
    (void)state;
    kill_lender_everywhere((struct scene){ .warm = WARM, .borrowing = true }, STRIDE);
}

static void test_sending(void **state)
{
    (void)state;
    kill_lender_everywhere((struct scene){ .warm = WARM }, STRIDE);
}

static void test_first_loan_at_system_calls(void **state)
{
    (void)state;
    kill_lender_everywhere((struct scene){ .borrowing = true, .unit = STEP_SYSCALL }, 1);
}

/* ---- the receiver ------------------------------------------------------------------------------------- */

static int viewer_run(void *arg)
{
    struct scene *scene = arg;
    struct vrd_view held, view;

    support_require_equal(vrd_cap_close(scene->send), 0);
    support_require_equal(vrd_receive_view(scene->receive, &held, VRD_FOREVER), 0);
    support_gate_wait(&scene->may);
    step_begin();
    support_require_equal(vrd_receive_view(scene->receive, &view, VRD_FOREVER), 0);
    support_require_equal(vrd_view_release(&view), 0);
    step_end();
    return 0;
}

static bool kill_viewer(struct scene *scene, struct step_walk *walk)
{
    struct vrd_loan kept;
    bool inside;
    pid_t pid;
    int end;

    support_require_equal(vrd_channel_create(4, &scene->send, &scene->receive), 0);
    pid = support_child(viewer_run, scene);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    support_require_equal(lend(scene->send, 0), 0);
    support_require_equal(lend(scene->send, 1), 0);
    support_require_equal(vrd_loan(scene->send, LEN, &kept), 0);
    support_gate_open(&scene->may);
    inside = step_kill(pid, walk);
    while ((end = lend(scene->send, 2)) == 0) /* until the death is known, or the ring is full */
        ;
    support_require_equal(end, VRD_ERR_PEER_GONE);
    memset(kept.data, 1, kept.size); /* still ours */
    support_require_equal(vrd_loan_cancel(&kept), 0);
    support_require_equal(vrd_cap_close(scene->send), 0);
    return inside;
}

static void kill_viewer_everywhere(struct scene scene, size_t stride)
{
    struct step_walk walk = { .unit = scene.unit, .stride = stride };
    size_t deaths = 0;

    support_gate_init(&scene.may);
    while (step_walk_next(&walk)) {
        const bool inside = kill_viewer(&scene, &walk);

        deaths += inside;
    }
    print_message("%zu deaths\n", deaths);
    assert_true(deaths > 10);
    support_gate_deinit(&scene.may);
}

static void test_viewer(void **state)
{
    (void)state;
    kill_viewer_everywhere((struct scene){ 0 }, STRIDE);
}

/* ---- a full ring that is emptied ------------------------------------------------------------------------ */

static int waiter_run(void *arg)
{
    struct scene *scene = arg;
    struct vrd_loan loan;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    for (size_t i = 0; i < scene->warm; i++)
        support_require_equal(lend(scene->send, i), 0);
    support_require_equal(vrd_loan(scene->send, LEN, &loan), 0);
    pattern_fill(loan.data, LEN, 0, scene->warm);
    support_gate_wait(&scene->may);
    step_begin();
    return vrd_loan_send(&loan, VRD_FOREVER);
}

static void view_next(const struct scene *scene, size_t counts[PATTERN_SENDERS])
{
    struct vrd_view view;

    support_require_equal(vrd_receive_view(scene->receive, &view, VRD_FOREVER), 0);
    pattern_check(view.data, view.len, counts);
    support_require_equal(vrd_view_release(&view), 0);
}

/* Returns false if the sender slept before. */
static bool empty_under(struct scene *scene, size_t step)
{
    size_t counts[PATTERN_SENDERS] = { 0 };
    bool inside;
    pid_t pid;

    support_require_equal(vrd_channel_create(2, &scene->send, &scene->receive), 0);
    pid = support_child(waiter_run, scene);
    support_require_equal(vrd_cap_close(scene->send), 0);
    for (size_t i = 0; i + 2 < scene->warm; i++)
        view_next(scene, counts);
    support_gate_open(&scene->may);
    inside = step_pause(pid, step);
    view_next(scene, counts);
    view_next(scene, counts);
    step_resume(pid, inside);
    view_next(scene, counts); /* what it waited to send */
    support_wait_exit(pid, 0);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    return inside;
}

static void test_a_ring_that_is_emptied_meanwhile(void **state)
{
    struct scene scene = { .warm = WARM + 2 };
    size_t pauses = 0;

    (void)state;
    support_gate_init(&scene.may);
    while (empty_under(&scene, pauses * STRIDE))
        pauses++;
    print_message("%zu pauses\n", pauses);
    assert_true(pauses > 10);
    support_gate_deinit(&scene.may);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_borrowing, 120),
                     SUPPORT_TEST_TIMEOUT(test_sending, 120),
                     SUPPORT_TEST_TIMEOUT(test_first_loan_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_viewer, 120),
                     SUPPORT_TEST_TIMEOUT(test_a_ring_that_is_emptied_meanwhile, 120),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
