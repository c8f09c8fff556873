/* SPDX-License-Identifier: MIT */
/* Requests that are lent, and viewed. */
#include "process/loans.h"

#define CALLS 300

/* fd: an invitation to an endpoint. */
static int role_caller(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);

    for (uint32_t i = 0; i < CALLS; i++) {
        struct vrd_loan loan = loan_of(cap, (struct number){ 1, i }, 8 + i * 100);
        uint32_t answer = 0;

        EXPECT(vrd_call_loan(&loan, &answer, sizeof answer, VRD_FOREVER), sizeof answer);
        EXPECT(answer, i);
        support_require(loan.data == NULL);
    }
    return 0;
}

static void test_another_program_calls(void **state)
{
    struct vrd_view views[2] = { { 0 } };
    uint64_t id;
    vrd_cap_t endpoint, reply;
    int invitation;
    pid_t pid;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    EXPECT(vrd_cap_export(endpoint, VRD_RIGHT_SEND, &invitation), 0);
    pid = support_spawn_role("caller", &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    for (uint32_t i = 0; i < CALLS; i++) {
        struct vrd_view *view = &views[i % 2]; /* the one before is still held */

        if (view->data)
            release(view);
        EXPECT(vrd_receive_call_view(endpoint, view, &reply, VRD_FOREVER), 0);
        EXPECT(view->len, 8 + i * 100);
        EXPECT(view->source.pid, pid);
        number_check(view->data, view->len, (struct number){ 1, i });
        EXPECT(vrd_reply(reply, &i, sizeof i), 0);
    }
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(endpoint), 0);
    release(&views[0]);
    release(&views[1]);
}

static void test_what_is_sent_is_over(void **state)
{
    const struct ends ends = ends_new(4);
    vrd_cap_t endpoint, reply;
    struct vrd_loan loan;
    struct vrd_view view;
    uint64_t id;
    char byte;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    loan = loan_of(endpoint, (struct number){ 2, 0 }, 5000);
    EXPECT(vrd_call_loan(&loan, NULL, 1, 0), VRD_ERR_INVALID_ARGUMENT);
    support_require(loan.data != NULL); /* not sent */
    EXPECT(vrd_call_loan(&loan, &byte, 1, 0), VRD_ERR_TIMEOUT);
    support_require(loan.data == NULL); /* sent, and not answered */
    EXPECT(vrd_call_loan(&loan, &byte, 1, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_call_view(endpoint, &view, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_call_view(endpoint, NULL, &reply, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_call_view(endpoint, &view, &reply, 0), 0);
    number_check(view.data, view.len, (struct number){ 2, 0 });
    EXPECT(vrd_reply(reply, "x", 1), VRD_ERR_TIMEOUT);
    release(&view);
    EXPECT(vrd_receive_call_view(endpoint, &view, &reply, 0), VRD_ERR_CHANNEL_EMPTY);
    loan = loan_of(ends.send, (struct number){ 2, 1 }, 10);
    EXPECT(vrd_call_loan(&loan, &byte, 1, 0), VRD_ERR_NOT_SUPPORTED);
    EXPECT(vrd_loan_cancel(&loan), 0);
    EXPECT(vrd_receive_call_view(ends.receive, &view, &reply, 0), VRD_ERR_NOT_SUPPORTED);
    EXPECT(vrd_cap_close(endpoint), 0);
    ends_close(&ends);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_another_program_calls),
                     SUPPORT_TEST(test_what_is_sent_is_over),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "caller", role_caller },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
