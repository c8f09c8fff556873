/* SPDX-License-Identifier: MIT */
#include "operation.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define TIMEOUT (INT64_C(5) * 1000 * 1000)
#define ANSWER_TIMEOUT (1000 * TIMEOUT) /* where another process answers */

static int run_create(struct operation_state *state)
{
    return vrd_channel_create(16, &state->send, &state->receive);
}

static void prepare_channel(struct operation_state *state)
{
    support_require_equal(run_create(state), 0);
}

static int run_send(struct operation_state *state)
{
    return vrd_send_timed(state->send, state->data, 8, TIMEOUT);
}

static void prepare_sent(struct operation_state *state)
{
    prepare_channel(state);
    support_require_equal(run_send(state), 0);
}

/* Where the message has to be there. */
static void receive_surely(struct operation_state *state, int len)
{
    support_require_equal(vrd_receive(state->receive, state->data, sizeof state->data), len);
}

static int run_receive(struct operation_state *state)
{
    return (int)vrd_receive_timed(state->receive, state->data, sizeof state->data, TIMEOUT);
}

/* Both sides have met. */
static void prepare_linked(struct operation_state *state)
{
    prepare_sent(state);
    receive_surely(state, 8);
    support_require_equal(run_send(state), 0);
    receive_surely(state, 8);
}

static int run_send_big(struct operation_state *state)
{
    return vrd_send_timed(state->send, state->data, sizeof state->data, TIMEOUT);
}

static void prepare_sent_big(struct operation_state *state)
{
    prepare_linked(state);
    support_require_equal(run_send_big(state), 0);
}

static int run_lend(struct operation_state *state)
{
    struct vrd_loan loan;
    int result = vrd_loan_timed(state->send, sizeof state->data, TIMEOUT, &loan);

    if (result < 0)
        return result;
    result = vrd_loan_send(&loan, TIMEOUT);
    if (loan.data)
        support_require_equal(vrd_loan_cancel(&loan), 0);
    return result;
}

static void prepare_lent(struct operation_state *state)
{
    prepare_linked(state);
    support_require_equal(run_lend(state), 0);
}

static int run_view(struct operation_state *state)
{
    struct vrd_view view;
    const int result = vrd_receive_view(state->receive, &view, TIMEOUT);

    return result < 0 ? result : vrd_view_release(&view);
}

static int run_export(struct operation_state *state)
{
    return vrd_cap_export(state->send, VRD_RIGHT_SEND, &state->invitation);
}

static int run_export_receive(struct operation_state *state)
{
    return vrd_cap_export(state->receive, VRD_RIGHT_RECEIVE, &state->invitation);
}

static void prepare_exported(struct operation_state *state)
{
    prepare_channel(state);
    support_require_equal(run_export(state), 0);
}

static void prepare_exported_receive(struct operation_state *state)
{
    prepare_channel(state);
    support_require_equal(run_export_receive(state), 0);
}

static int run_import(struct operation_state *state)
{
    const int fd = state->invitation;

    if (fd < 0) /* it took the invitation the first time */
        return 0;
    state->invitation = -1;
    return vrd_cap_import(fd, &state->imported);
}

static void prepare_imported(struct operation_state *state)
{
    prepare_exported(state);
    support_require_equal(run_import(state), 0);
}

static int run_send_imported(struct operation_state *state)
{
    return vrd_send_timed(state->imported, state->data, 300, TIMEOUT);
}

static void prepare_sent_imported(struct operation_state *state)
{
    prepare_imported(state);
    support_require_equal(run_send_imported(state), 0);
}

static int run_derive(struct operation_state *state)
{
    return vrd_cap_derive_badged(state->send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, 7,
                                 &state->imported);
}

static void prepare_derived(struct operation_state *state)
{
    prepare_linked(state);
    support_require_equal(run_derive(state), 0);
    support_require_equal(run_send_imported(state), 0);
    receive_surely(state, 300);
}

static int run_revoke(struct operation_state *state)
{
    return vrd_cap_revoke(state->send);
}

static int run_revoke_all(struct operation_state *state)
{
    return vrd_cap_revoke(state->receive);
}

/* ---- capabilities in messages ----------------------------------------------------------------------- */

static void prepare_derived_to_give(struct operation_state *state)
{
    prepare_linked(state);
    support_require_equal(
        vrd_cap_derive(state->send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &state->imported), 0);
}

/* Sends what is held in `imported`; the number is gone with it, or still good. */
static int run_give(struct operation_state *state)
{
    const struct vrd_message message = {
        .data = state->data, .len = 8, .n_caps = 1, .caps = { state->imported }
    };
    const int result = state->imported ? vrd_send_message(state->send, &message, TIMEOUT) : 0;

    if (result == 0)
        state->imported = VRD_CAP_NONE;
    return result;
}

static void prepare_given(struct operation_state *state)
{
    prepare_derived_to_give(state);
    support_require_equal(run_give(state), 0);
}

static int run_take(struct operation_state *state)
{
    struct vrd_message message = { .data = state->data, .size = sizeof state->data, .max_caps = 4 };
    const int result = vrd_receive_message(state->receive, &message, TIMEOUT);

    if (result == 0 && message.n_caps > 0)
        state->imported = message.caps[0];
    return result;
}

/* ---- calls ---------------------------------------------------------------------------------------------- */

static int run_endpoint(struct operation_state *state)
{
    uint64_t id;

    return state->send ? 0 : vrd_endpoint_create(&id, &state->send);
}

static void prepare_endpoint(struct operation_state *state)
{
    support_require_equal(run_endpoint(state), 0);
}

/* One that nobody is there to answer. */
static int run_call(struct operation_state *state)
{
    return (int)vrd_call(state->send, state->data, 8, state->data, 8, TIMEOUT);
}

static void prepare_called(struct operation_state *state)
{
    prepare_endpoint(state);
    support_require_equal(run_call(state), VRD_ERR_TIMEOUT);
}

static int run_receive_call(struct operation_state *state)
{
    struct vrd_message request = { .data = state->data, .size = sizeof state->data };

    return state->imported ? 0 : vrd_receive_call(state->send, &request, &state->imported, TIMEOUT);
}

static void prepare_reply(struct operation_state *state)
{
    prepare_called(state);
    support_require_equal(run_receive_call(state), 0);
}

static int run_reply_in_place(struct operation_state *state)
{
    const vrd_cap_t reply = state->imported;
    struct vrd_loan loan;
    int result;

    if (!reply)
        return 0;
    result = vrd_reply_loan(reply, sizeof state->data, &loan);
    if (result < 0)
        return result; /* the call awaits its answer as before */
    state->imported = VRD_CAP_NONE;
    memcpy(loan.data, state->data, loan.len);
    result = vrd_loan_send(&loan, TIMEOUT);
    support_require(loan.data == NULL);
    return result;
}

static int run_reply_big(struct operation_state *state)
{
    const vrd_cap_t reply = state->imported;

    state->imported = VRD_CAP_NONE; /* used up, whatever happens */
    return reply ? vrd_reply(reply, state->data, sizeof state->data) : 0;
}

/* In a process of its own, in which nothing goes wrong, for as long as its parent lives. */
static int serve(void *arg)
{
    const struct operation_state *state = arg;
    char data[8];
    struct vrd_message request = { .data = data, .size = sizeof data };
    vrd_cap_t reply;

    support_require(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    for (;;) {
        request.len = 0;
        support_require_equal(vrd_receive_call(state->send, &request, &reply, VRD_FOREVER), 0);
        vrd_reply(reply, data, request.len); /* the caller may have given up */
    }
    return 0;
}

static int run_call_view(struct operation_state *state)
{
    struct vrd_view view = { 0 };
    const int result = vrd_call_view(state->send, state->data, 8, &view, ANSWER_TIMEOUT);

    support_require((view.data != NULL) == (result == 0));
    return result < 0 ? result : vrd_view_release(&view);
}

static void prepare_served(struct operation_state *state)
{
    prepare_endpoint(state);
    support_child(serve, state);
    support_require_equal(run_call_view(state), 0);
}

/* ---- other people's loops ------------------------------------------------------------------------------- */

static int run_cap_fd(struct operation_state *state)
{
    return vrd_cap_fd(state->receive);
}

static void prepare_cap_fd(struct operation_state *state)
{
    prepare_linked(state);
    support_require(run_cap_fd(state) >= 0);
}

static int run_receive_empty(struct operation_state *state)
{
    const ssize_t result = vrd_receive_async(state->receive, state->data, sizeof state->data);

    return result == VRD_ERR_CHANNEL_EMPTY ? 0 : (int)result;
}

static int run_waitset(struct operation_state *state)
{
    const struct vrd_event what = { .cap = state->receive };
    struct vrd_event event;
    struct vrd_waitset *set;
    int result = vrd_waitset_new(&set);

    if (result < 0)
        return result;
    result = vrd_waitset_add(set, &what);
    if (result == 0)
        result = vrd_waitset_wait(set, &event, 1, TIMEOUT);
    vrd_waitset_free(set);
    return result;
}

const struct operation operations[] = {
    { "create", NULL, run_create },
    { "first send", prepare_channel, run_send },
    { "first big send", prepare_channel, run_send_big },
    { "first receive", prepare_sent, run_receive },
    { "receive that waits", prepare_linked, run_receive },
    { "receive that waits for a first sender", prepare_channel, run_receive },
    { "big send", prepare_linked, run_send_big },
    { "big receive", prepare_sent_big, run_receive },
    { "first loan", prepare_channel, run_lend },
    { "loan", prepare_linked, run_lend },
    { "copy of a loan", prepare_lent, run_receive },
    { "view of a loan", prepare_lent, run_view },
    { "view of a small message", prepare_sent, run_view },
    { "export", prepare_channel, run_export },
    { "export of receive", prepare_channel, run_export_receive },
    { "import", prepare_exported, run_import },
    { "import of receive", prepare_exported_receive, run_import },
    { "big send after import", prepare_imported, run_send_imported },
    { "derive", prepare_channel, run_derive },
    { "derive over a link", prepare_linked, run_derive },
    { "revoke", prepare_derived, run_revoke },
    { "revoke all", prepare_derived, run_revoke_all },
    { "receive from an import", prepare_sent_imported, run_receive },
    { "give a capability", prepare_derived_to_give, run_give },
    { "take a capability", prepare_given, run_take },
    { "endpoint", NULL, run_endpoint },
    { "call", prepare_endpoint, run_call },
    { "receive a call", prepare_called, run_receive_call },
    { "big reply", prepare_reply, run_reply_big },
    { "reply in place", prepare_reply, run_reply_in_place },
    { "answer as a view", prepare_served, run_call_view },
    { "descriptor", prepare_linked, run_cap_fd },
    { "nothing there, with a descriptor", prepare_cap_fd, run_receive_empty },
    { "waitset", prepare_linked, run_waitset },
    { 0 },
};

/* Memory, descriptors and time may run out; nobody has broken a promise. */
static void require_clear(const char *name, const char *when, int result)
{
    static const int clear[] = { VRD_ERR_OUT_OF_MEMORY,  VRD_ERR_TIMEOUT,   VRD_ERR_CHANNEL_FULL,
                                 VRD_ERR_QUOTA_EXCEEDED, VRD_ERR_PEER_GONE, VRD_ERR_SYSTEM };

    if (result >= 0)
        return;
    for (size_t i = 0; i < sizeof clear / sizeof clear[0]; i++)
        if (result == clear[i])
            return;
    support_fail(__FILE__, __LINE__, "%s, %s: %d (%s)", name, when, result, vrd_strerror(result));
}

static void close_all(const struct operation_state *state)
{
    const vrd_cap_t caps[] = { state->imported, state->send, state->receive };

    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        const int result = caps[i] ? vrd_cap_close(caps[i]) : 0;

        /* an export moves RECEIVE away from its capability */
        support_require(result == 0 ||
                        (result == VRD_ERR_INVALID_CAPABILITY && caps[i] == state->receive));
    }
    if (state->invitation >= 0)
        support_require(close(state->invitation) == 0);
}

/* Also starts what a process keeps for good once it has slept. */
static void require_new_channel_works(void)
{
    struct operation_state state = { .invitation = -1 };

    prepare_sent_imported(&state);
    receive_surely(&state, 300);
    support_require_equal(run_receive(&state), VRD_ERR_TIMEOUT);
    close_all(&state);
}

void operation_check(const struct operation *operation, const struct operation_fault *fault)
{
    static struct operation_state state = { .invitation = -1 };
    int result;

    if (operation->prepare)
        operation->prepare(&state);
    fault->arm(fault->arg);
    result = operation->run(&state);
    fault->disarm(fault->arg);

    require_clear(operation->name, "under the fault", result);
    if (result < 0)
        require_clear(operation->name, "again", operation->run(&state));
    close_all(&state);
    require_new_channel_works();
    if (fault->first) {
        support_sleep_ms(100); /* the control thread closes in its own time */
        support_snapshot_take(fault->left);
    } else {
        support_require(support_snapshot_holds(fault->left));
    }
}
