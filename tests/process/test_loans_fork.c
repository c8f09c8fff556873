/* SPDX-License-Identifier: MIT */
/* Loans and views in forked children. */
/* ctest: no-tsan */
#include "process/loans.h"

struct inherited {
    struct vrd_loan loan;
    struct vrd_view view;
    vrd_cap_t send;
};

static int use_inherited(void *arg)
{
    struct inherited *inherited = arg;

    number_check(inherited->view.data, inherited->view.len, (struct number){ 11, 0 });
    EXPECT(vrd_view_release(&inherited->view), 0);
    EXPECT(vrd_loan_send(&inherited->loan, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_loan_cancel(&inherited->loan), 0);
    lend(inherited->send, (struct number){ 12, 0 }, 5000);
    return 0;
}

static void test_a_forked_child_has_its_own(void **state)
{
    const struct ends ends = ends_with(4, 2 * PAGE, 3 * PAGE);
    struct inherited inherited = { .send = ends.send };
    struct vrd_view view;
    pid_t pid;

    (void)state;
    lend(ends.send, (struct number){ 11, 0 }, 2 * PAGE);
    inherited.view = view_of(ends.receive, (struct number){ 11, 0 }, 2 * PAGE);
    inherited.loan = loan_of(ends.send, (struct number){ 11, 1 }, PAGE);
    pid = support_child(use_inherited, &inherited);
    view = view_of(ends.receive, (struct number){ 12, 0 }, 5000);
    support_wait_exit(pid, 0);
    release(&view);
    /* the child's release was not ours */
    EXPECT(vrd_loan_timed(ends.send, 1, 0, &(struct vrd_loan){ 0 }), VRD_ERR_CHANNEL_FULL);
    number_check(inherited.view.data, 2 * PAGE, (struct number){ 11, 0 });
    EXPECT(vrd_loan_send(&inherited.loan, 0), 0);
    view = view_of(ends.receive, (struct number){ 11, 1 }, PAGE);
    release(&view);
    release(&inherited.view);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_a_forked_child_has_its_own),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
