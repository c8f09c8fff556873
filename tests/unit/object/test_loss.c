/* SPDX-License-Identifier: MIT */
/* What a process has lost, until somebody asks: once for each, oldest first, and not without end. */
#include "unit/unit.h"

#include <veridian/capability.h>

#include "link/layout.h"
#include "object/control.h"
#include "object/loss.h"
#include "object/port.h"

static void forget_all(void)
{
    struct vrd_notice notice;

    while (loss_take(&notice, 1) > 0) {
    }
}

/* A port that is only a number, for as long as it is lost. */
static void lose(vrd_cap_t cap, enum vrd_loss loss)
{
    struct port port = { .handle.cap = cap, .badge = cap * 3 };

    loss_note(&port, loss);
    support_require_equal(port.loss, loss);
}

static void each_is_told_once_and_in_order(void **state)
{
    struct port port = { .handle.cap = 77, .badge = 5 };
    struct vrd_notice notices[4];

    (void)state;
    control_lock();
    forget_all();
    loss_note(&port, VRD_LOSS_NONE); /* is none */
    loss_note(&port, VRD_LOSS_REVOKED);
    loss_note(&port, VRD_LOSS_OWNER_GONE); /* what follows is a consequence */
    lose(78, VRD_LOSS_CORRUPT);
    assert_int_equal(port.loss, VRD_LOSS_REVOKED);
    assert_int_equal(loss_take(notices, 4), 2);
    assert_int_equal(notices[0].cap, 77);
    assert_int_equal(notices[0].badge, 5);
    assert_int_equal(notices[0].loss, VRD_LOSS_REVOKED);
    assert_int_equal(notices[0].forgotten, 0);
    assert_int_equal(notices[1].cap, 78);
    assert_int_equal(notices[1].loss, VRD_LOSS_CORRUPT);
    assert_int_equal(loss_take(notices, 4), 0);
    control_unlock();
}

/* Refused while it was being made: nobody has its number. */
static void what_nobody_has_seen_is_not_told(void **state)
{
    struct vrd_notice notice;

    (void)state;
    control_lock();
    forget_all();
    lose(VRD_CAP_NONE, VRD_LOSS_POLICY);
    assert_int_equal(loss_take(&notice, 1), 0);
    control_unlock();
}

static void the_oldest_are_forgotten_and_counted(void **state)
{
    struct vrd_notice notices[10];
    vrd_cap_t next = 31;

    (void)state;
    control_lock();
    forget_all();
    for (vrd_cap_t cap = 1; cap <= LOSSES_MAX + 30; cap++)
        lose(cap, VRD_LOSS_CLOSED);
    for (size_t taken = 0; taken < LOSSES_MAX;) {
        size_t n = loss_take(notices, 10);

        assert_true(n > 0);
        for (size_t i = 0; i < n; i++, taken++) {
            assert_int_equal(notices[i].cap, next++);
            assert_int_equal(notices[i].forgotten, taken == 0 ? 30 : 0);
        }
    }
    assert_int_equal(loss_take(notices, 10), 0);
    control_unlock();
}

static void a_child_has_lost_nothing(void **state)
{
    struct vrd_notice notice;

    (void)state;
    control_lock();
    lose(5, VRD_LOSS_CLOSED);
    loss_after_fork();
    assert_int_equal(loss_take(&notice, 1), 0);
    control_unlock();
}

static void every_cause_means_something(void **state)
{
    (void)state;
    assert_int_equal(loss_of_cause(NOTICE_NONE), VRD_LOSS_OWNER_GONE);
    assert_int_equal(loss_of_cause(NOTICE_CLOSED), VRD_LOSS_CLOSED);
    assert_int_equal(loss_of_cause(NOTICE_REVOKED), VRD_LOSS_REVOKED);
    assert_int_equal(loss_of_cause(NOTICE_PARENT_REVOKED), VRD_LOSS_PARENT_REVOKED);
    assert_int_equal(loss_of_cause(NOTICE_POLICY), VRD_LOSS_POLICY);
    assert_int_equal(loss_of_cause(NOTICE_CORRUPT), VRD_LOSS_CORRUPT);
    for (int cause = NOTICE_POLICY + 1; cause < 256; cause++) /* whatever an owner makes up */
        assert_int_equal(loss_of_cause((uint8_t)cause), VRD_LOSS_OWNER_GONE);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(each_is_told_once_and_in_order),
                 SUPPORT_TEST(what_nobody_has_seen_is_not_told),
                 SUPPORT_TEST(the_oldest_are_forgotten_and_counted),
                 SUPPORT_TEST(a_child_has_lost_nothing),
                 SUPPORT_TEST(every_cause_means_something),
                 { 0 },
             })
