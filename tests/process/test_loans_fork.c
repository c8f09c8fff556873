/* SPDX-License-Identifier: MIT */
/* Loans and views in forked children. */
/* ctest: no-tsan */
#include "process/loans.h"

#include <pthread.h>

#include "process/endpoints.h"

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

struct answers {
    struct vrd_loan loan;
    struct vrd_view view;
};

static int use_answers(void *arg)
{
    struct answers *answers = arg;

    number_check(answers->view.data, answers->view.len, (struct number){ 13, 0 });
    EXPECT(vrd_view_release(&answers->view), 0);
    EXPECT(vrd_loan_send(&answers->loan, 0), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_loan_cancel(&answers->loan), 0);
    return 0;
}

struct caller {
    vrd_cap_t cap;
    struct vrd_view view;
};

static void *call(void *arg)
{
    struct caller *caller = arg;

    EXPECT(vrd_call_view(caller->cap, "", 0, &caller->view, VRD_FOREVER), 0);
    return NULL;
}

/* Calls by another thread, which has ended when this returns. */
static struct vrd_view call_answered(vrd_cap_t endpoint, vrd_cap_t client, struct number number)
{
    struct caller caller = { .cap = client };
    struct vrd_message request = { 0 };
    struct vrd_loan loan;
    pthread_t thread;
    vrd_cap_t reply;

    EXPECT(pthread_create(&thread, NULL, call, &caller), 0);
    EXPECT(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
    EXPECT(vrd_reply_loan(reply, 5000, &loan), 0);
    number_fill(loan.data, loan.len, number);
    EXPECT(vrd_loan_send(&loan, 0), 0);
    EXPECT(pthread_join(thread, NULL), 0);
    EXPECT(caller.view.len, 5000);
    number_check(caller.view.data, 5000, number);
    return caller.view;
}

static void test_answers_in_a_forked_child(void **state)
{
    const vrd_cap_t endpoint = endpoint_new(), client = client_new(endpoint);
    struct vrd_message request = { 0 };
    struct answers answers;
    struct vrd_view other;
    vrd_cap_t reply;

    (void)state;
    answers.view = call_answered(endpoint, client, (struct number){ 13, 0 });
    EXPECT(vrd_call(client, "", 0, NULL, 0, 0), VRD_ERR_TIMEOUT);
    EXPECT(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
    EXPECT(vrd_reply_loan(reply, 5000, &answers.loan), 0);
    number_fill(answers.loan.data, 5000, (struct number){ 13, 1 });
    support_wait_exit(support_child(use_answers, &answers), 0);
    /* the child's release was not ours: no answer is written over the view */
    other = call_answered(endpoint, client, (struct number){ 13, 2 });
    number_check(answers.view.data, 5000, (struct number){ 13, 0 });
    number_check(answers.loan.data, 5000, (struct number){ 13, 1 });
    EXPECT(vrd_loan_send(&answers.loan, 0), VRD_ERR_TIMEOUT);
    release(&other);
    release(&answers.view);
    EXPECT(vrd_cap_close(client), 0);
    EXPECT(vrd_cap_close(endpoint), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_a_forked_child_has_its_own),
                     SUPPORT_TEST(test_answers_in_a_forked_child),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
