/* SPDX-License-Identifier: MIT */
/* Loans and views: written in place, read in place, released in any order, whatever ends first. */
#include "process/loans.h"

#include <signal.h>
#include <sys/wait.h>

/* Bytes of message `i`: most small, some of megabytes. */
static size_t len_of(uint32_t i)
{
    return i % 50 == 49 ? ((size_t)1 << 20) - i : 8 + (size_t)i * 97 % 30000;
}

/* fd: an invitation. arg: how many. */
static int role_lender(struct support_role_args *args)
{
    const vrd_cap_t send = import_at(args, 0);
    const uint32_t n = (uint32_t)strtoul(args->args[0], NULL, 10);

    for (uint32_t i = 0; i < n; i++)
        lend(send, (struct number){ 7, i }, len_of(i));
    EXPECT(vrd_cap_close(send), 0);
    return 0;
}

static pid_t lender_spawn(vrd_cap_t cap, const char *n)
{
    const char *const args[] = { n, NULL };
    int invitation;
    pid_t pid;

    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
    pid = support_spawn_role("lender", &invitation, 1, args);
    EXPECT(close(invitation), 0);
    return pid;
}

extern int mallctl(const char *name, void *old, size_t *old_size, void *value, size_t size)
    __attribute__((weak));

/* ctest runs this also on jemalloc: then the rest of this is about its heap. */
static void test_the_heap_is_the_one_asked_for(void **state)
{
    const struct ends ends = ends_with(4, PAGE, PAGE);
    const bool wanted = mallctl && getenv("VERIDIAN_HEAP");
    unsigned before = 0, after = 0;
    size_t size = sizeof before;
    struct vrd_loan loan;

    (void)state;
    support_require(!mallctl || mallctl("arenas.narenas", &before, &size, NULL, 0) == 0);
    EXPECT(vrd_loan(ends.send, 1, &loan), 0);
    support_require(!mallctl || mallctl("arenas.narenas", &after, &size, NULL, 0) == 0);
    EXPECT(after, before + wanted);
    EXPECT(vrd_loan_cancel(&loan), 0);
    ends_close(&ends);
}

static void test_another_program_reads_in_place(void **state)
{
    const struct ends ends = ends_new(16);
    struct vrd_view views[20] = { { 0 } };
    const pid_t pid = lender_spawn(ends.send, "400");
    uint64_t random = 3;

    (void)state;
    EXPECT(vrd_cap_close(ends.send), 0);
    for (uint32_t i = 0; i < 400; i++) { /* up to 20 are held, of any age */
        struct vrd_view *view = &views[random_next(&random) % 20];

        if (view->data)
            release(view);
        *view = view_of(ends.receive, (struct number){ 7, i }, len_of(i));
        EXPECT(view->source.pid, pid);
    }
    EXPECT(vrd_receive_view(ends.receive, &views[0], VRD_FOREVER), VRD_ERR_PEER_GONE);
    for (size_t i = 0; i < 20; i++)
        if (views[i].data)
            release(&views[i]);
    EXPECT(vrd_cap_close(ends.receive), 0);
    support_wait_exit(pid, 0);
}

static void test_whatever_was_sent_can_be_viewed(void **state)
{
    static const size_t lens[] = { 0, 1, 56, 64, 65, 4096, 4097, 100000 };
    const struct ends ends = ends_new(4);
    struct vrd_message message = { .opcode = 5, .flags = 6 };
    struct vrd_view view;
    uint8_t *data = malloc(100000);

    (void)state;
    support_require(data != NULL);
    for (uint32_t i = 0; i < sizeof lens / sizeof lens[0]; i++) {
        number_fill(data, lens[i], (struct number){ 1, i });
        message.data = data;
        message.len = lens[i];
        EXPECT(vrd_send_message(ends.send, &message, 0), 0);
        view = view_of(ends.receive, (struct number){ 1, i }, lens[i]);
        EXPECT(view.opcode, 5);
        EXPECT(view.flags, 6);
        EXPECT(view.source.pid, getpid());
        release(&view);
    }
    free(data);
    ends_close(&ends);
}

static void test_what_was_lent_can_be_copied(void **state)
{
    const struct ends ends = ends_with(4, PAGE, PAGE);
    struct vrd_message message = { 0 };
    uint8_t data[PAGE];

    (void)state;
    for (uint32_t i = 0; i < 600; i++) { /* each gives its room back, and its number */
        struct vrd_loan loan = loan_of(ends.send, (struct number){ 2, i }, i * 7 % PAGE);

        loan.opcode = i;
        EXPECT(vrd_loan_send(&loan, 0), 0);
        message = (struct vrd_message){ .data = data, .size = sizeof data };
        EXPECT(vrd_receive_message(ends.receive, &message, 0), 0);
        EXPECT(message.len, i * 7 % PAGE);
        EXPECT(message.opcode, i);
        number_check(data, message.len, (struct number){ 2, i });
    }
    ends_close(&ends);
}

static void test_a_lent_message_that_is_dropped_is_given_back(void **state)
{
    const struct ends ends = ends_with(4, PAGE, PAGE);
    uint8_t data[100];

    (void)state;
    for (uint32_t i = 0; i < 600; i++) {
        lend(ends.send, (struct number){ 3, i }, PAGE);
        EXPECT(vrd_receive_async(ends.receive, data, sizeof data), VRD_ERR_MESSAGE_TOO_LARGE);
        EXPECT(vrd_discard(ends.receive), 0);
    }
    ends_close(&ends);
}

static void test_a_cancelled_loan_is_free_at_once(void **state)
{
    const struct ends ends = ends_with(4, 8 * PAGE, 8 * PAGE);
    struct vrd_loan first, second;

    (void)state;
    for (uint32_t i = 0; i < 600; i++) {
        EXPECT(vrd_loan(ends.send, 4 * PAGE, &first), 0);
        EXPECT(vrd_loan(ends.send, 4 * PAGE, &second), 0);
        EXPECT(vrd_loan_timed(ends.send, 1, 0, &(struct vrd_loan){ 0 }), VRD_ERR_CHANNEL_FULL);
        EXPECT(vrd_loan_timed(ends.send, 1, 1000, &(struct vrd_loan){ 0 }), VRD_ERR_TIMEOUT);
        EXPECT(vrd_loan_cancel(&first), 0);
        EXPECT(vrd_loan_cancel(&second), 0);
        EXPECT(vrd_loan(ends.send, 8 * PAGE, &first), 0);
        EXPECT(vrd_loan_cancel(&first), 0);
    }
    ends_close(&ends);
}

static void test_views_outlive_everything(void **state)
{
    const struct ends ends = ends_new(4);
    const vrd_cap_t other = sender_new(ends.send);
    struct vrd_view views[3];
    int status;
    pid_t pid;

    (void)state;
    lend(other, (struct number){ 4, 0 }, 5000);
    views[0] = view_of(ends.receive, (struct number){ 4, 0 }, 5000);
    EXPECT(vrd_cap_close(other), 0);
    pid = lender_spawn(ends.send, "1");
    views[1] = view_of(ends.receive, (struct number){ 7, 0 }, len_of(0));
    support_wait_exit(pid, 0);
    lend(ends.send, (struct number){ 4, 1 }, 6000);
    views[2] = view_of(ends.receive, (struct number){ 4, 1 }, 6000);
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    status = vrd_send(ends.send, "", 1);
    EXPECT(status, VRD_ERR_REVOKED);
    ends_close(&ends);
    number_check(views[0].data, views[0].len, (struct number){ 4, 0 });
    number_check(views[1].data, views[1].len, (struct number){ 7, 0 });
    number_check(views[2].data, views[2].len, (struct number){ 4, 1 });
    for (size_t i = 0; i < 3; i++)
        release(&views[i]);
}

static void test_loans_outlive_what_they_were_for(void **state)
{
    const struct ends ends = ends_new(4);
    struct vrd_loan loans[3];

    (void)state;
    for (uint32_t i = 0; i < 3; i++)
        loans[i] = loan_of(ends.send, (struct number){ 5, i }, 5000);
    EXPECT(vrd_loan_send(&loans[0], 0), 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
    EXPECT(vrd_loan_send(&loans[1], VRD_FOREVER), VRD_ERR_PEER_GONE);
    number_fill(loans[1].data, loans[1].size, (struct number){ 5, 4 });
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_loan_send(&loans[1], VRD_FOREVER), VRD_ERR_INVALID_CAPABILITY);
    number_check(loans[2].data, loans[2].size, (struct number){ 5, 2 });
    EXPECT(vrd_loan_cancel(&loans[1]), 0);
    EXPECT(vrd_loan_cancel(&loans[2]), 0);
}

/* One view is held for ever; the rest of the heap goes round and round. */
static void test_a_held_view_stops_nothing_else(void **state)
{
    const struct ends ends = ends_with(4, PAGE, 4 * PAGE);
    struct vrd_view held, view;

    (void)state;
    lend(ends.send, (struct number){ 6, 0 }, PAGE);
    held = view_of(ends.receive, (struct number){ 6, 0 }, PAGE);
    for (uint32_t i = 1; i < 1000; i++) {
        lend(ends.send, (struct number){ 6, i }, PAGE);
        numbered_send(ends.send, 6, i, 1000);
        view = view_of(ends.receive, (struct number){ 6, i }, PAGE);
        release(&view);
        numbered_receive(ends.receive, 6, i, 1000);
    }
    number_check(held.data, held.len, (struct number){ 6, 0 });
    release(&held);
    ends_close(&ends);
}

static void test_as_many_as_there_are_numbers(void **state)
{
    const struct ends ends = ends_new(VRD_LOANS_MAX + 1);
    struct vrd_view *views = calloc(VRD_LOANS_MAX, sizeof *views);
    struct vrd_loan loan;

    (void)state;
    support_require(views != NULL);
    for (uint32_t i = 0; i < VRD_LOANS_MAX; i++) {
        lend(ends.send, (struct number){ 8, i }, 100);
        views[i] = view_of(ends.receive, (struct number){ 8, i }, 100);
    }
    loan = loan_of(ends.send, (struct number){ 8, VRD_LOANS_MAX }, 100);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_CHANNEL_FULL);
    EXPECT(vrd_loan_send(&loan, MS), VRD_ERR_TIMEOUT);
    numbered_send(ends.send, 8, 0, 4000); /* for what is not lent there is room */
    numbered_receive(ends.receive, 8, 0, 4000);
    release(&views[77]);
    EXPECT(vrd_loan_send(&loan, 0), 0);
    views[77] = view_of(ends.receive, (struct number){ 8, VRD_LOANS_MAX }, 100);
    for (size_t i = 0; i < VRD_LOANS_MAX; i++)
        release(&views[i]);
    free(views);
    ends_close(&ends);
}

/* fd: an invitation. There is room for two at a time. */
static int role_waiter(struct support_role_args *args)
{
    const vrd_cap_t send = import_at(args, 0);

    for (uint32_t i = 0; i < 20; i++)
        lend(send, (struct number){ 9, i }, PAGE);
    return 0;
}

static void test_a_release_wakes_a_sender_that_waits_for_room(void **state)
{
    const struct ends ends = ends_with(32, PAGE, 2 * PAGE);
    struct vrd_view views[2];
    int invitation;
    pid_t pid;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), 0);
    pid = support_spawn_role("waiter", &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    views[0] = view_of(ends.receive, (struct number){ 9, 0 }, PAGE);
    for (uint32_t i = 1; i < 20; i++) {
        views[i % 2] = view_of(ends.receive, (struct number){ 9, i }, PAGE);
        if (i < 18)
            support_wait_asleep(pid);
        release(&views[(i + 1) % 2]);
    }
    release(&views[19 % 2]);
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

static void test_extensions_come_and_go(void **state)
{
    const size_t large = (size_t)24 << 20;
    const struct ends ends = ends_with(16, large, 2 * large);
    struct support_snapshot before, after;
    struct vrd_view view;
    struct vrd_loan loan;
    char byte;

    (void)state;
    for (uint32_t i = 0; i < 2; i++) { /* with the second comes the answer to HELLO */
        lend(ends.send, (struct number){ 10, i }, 100);
        view = view_of(ends.receive, (struct number){ 10, i }, 100);
        release(&view);
    }
    support_snapshot_take(&before);
    for (int i = 0; i < 2; i++) {
        EXPECT(vrd_loan(ends.send, large, &loan), 0);
        memset(loan.data, 1, large);
        EXPECT(vrd_loan_send(&loan, 0), 0);
        EXPECT(vrd_receive_view(ends.receive, &view, 0), 0);
        EXPECT(view.len, large);
        release(&view);
    }
    support_snapshot_take(&after);
    support_require(after.mappings > before.mappings);
    for (uint32_t i = 0; i < 40000; i++) {
        lend(ends.send, (struct number){ 10, i }, 100);
        view = view_of(ends.receive, (struct number){ 10, i }, 100);
        release(&view);
    }
    do { /* what the last receive was too early to see goes with the next, also while that sleeps */
        EXPECT(vrd_receive_timed(ends.receive, &byte, 1, 10 * MS), VRD_ERR_TIMEOUT);
        support_snapshot_take(&after);
    } while (after.mappings > before.mappings);
    support_require(support_snapshot_holds(&before));
    for (size_t n = 0; n < 40; n++) { /* each larger than what the one before left */
        const size_t len = (n + 1) * ((size_t)1 << 20);

        EXPECT(vrd_loan(ends.send, len < large ? len : large, &loan), 0);
        EXPECT(vrd_loan_cancel(&loan), 0);
    }
    ends_close(&ends);
}

static void test_arguments(void **state)
{
    const struct ends ends = ends_with(4, PAGE, PAGE);
    struct vrd_loan loan = { 0 };
    struct vrd_view view = { 0 };

    (void)state;
    EXPECT(vrd_loan(ends.send, 1, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan(ends.send, PAGE + 1, &loan), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_loan(ends.send, SIZE_MAX, &loan), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_loan_timed(ends.send, 1, -2, &loan), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan(ends.receive, 1, &loan), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_loan(VRD_CAP_NONE, 1, &loan), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_loan_send(NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan_cancel(NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan_cancel(&loan), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan(ends.send, 10, &loan), 0);
    loan.len = 11;
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_ARGUMENT);
    loan.len = 9;
    EXPECT(vrd_loan_send(&loan, -2), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_loan_send(&loan, 0), 0);
    EXPECT(vrd_loan_send(&loan, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_view(ends.receive, NULL, 0), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_view(ends.receive, &view, -2), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_view(ends.send, &view, 0), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_receive_view(ends.receive, &view, 0), 0);
    EXPECT(view.len, 9);
    EXPECT(vrd_view_release(&view), 0);
    EXPECT(vrd_view_release(&view), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_view_release(NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_receive_view(ends.receive, &view, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_receive_view(ends.receive, &view, MS), VRD_ERR_TIMEOUT);
    ends_close(&ends);
}

static void test_the_limit_has_to_fit_a_message(void **state)
{
    struct vrd_channel_options options = { .max_message_size = PAGE + 1, .max_bytes = PAGE };
    vrd_cap_t send, receive;

    (void)state;
    EXPECT(vrd_channel_create_with(&options, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    options.max_bytes = 2 * PAGE;
    EXPECT(vrd_channel_create_with(&options, &send, &receive), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

/* ---- an owner that does not look at its sockets ------------------------------------------------ */

static int receives_twice(void *arg)
{
    const struct ends *ends = arg;
    char byte;

    EXPECT(vrd_cap_close(ends->send), 0);
    EXPECT(vrd_receive(ends->receive, &byte, 1), 1);
    EXPECT(vrd_receive(ends->receive, &byte, 1), 1);
    return 0;
}

static int wakes_it(void *arg)
{
    support_sleep_ms(100);
    return kill(*(const pid_t *)arg, SIGCONT);
}

/*
 * Its queue is full of what others wanted; room for the loan has to be announced behind that. Nothing lies in
 * the ring, so that no cursor will move once it goes on.
 */
static void test_a_full_queue_of_a_stopped_owner(void **state)
{
    struct ends ends = ends_new(4);
    struct vrd_loan loan;
    struct vrd_cap_info info;
    vrd_cap_t cap, derived[512];
    pid_t owner, waker;
    int invitation, status, r;
    size_t n = 0;

    (void)state;
    owner = support_child(receives_twice, &ends);
    EXPECT(vrd_cap_close(ends.receive), 0);
    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation), 0);
    EXPECT(vrd_cap_import(invitation, &cap), 0); /* whose only socket is the tether */
    EXPECT(vrd_send(cap, "1", 1), 0);
    do {
        support_sleep_ms(10);
        EXPECT(vrd_cap_info(cap, &info), 0);
    } while (info.owner != owner);
    support_wait_asleep(owner); /* in its second receive */
    EXPECT(kill(owner, SIGSTOP), 0);
    EXPECT(waitpid(owner, &status, WUNTRACED), owner); /* all its threads */
    support_require(WIFSTOPPED(status));
    while (n < 512 && (r = vrd_cap_derive(cap, VRD_RIGHT_SEND, &derived[n])) == 0)
        n++;
    EXPECT(r, VRD_ERR_QUOTA_EXCEEDED);
    waker = support_child(wakes_it, &owner);
    EXPECT(vrd_loan(cap, 4096, &loan), 0);
    EXPECT(vrd_loan_cancel(&loan), 0);
    support_wait_exit(waker, 0);
    EXPECT(vrd_send(cap, "2", 1), 0);
    support_wait_exit(owner, 0);
    while (n-- > 0)
        EXPECT(vrd_cap_close(derived[n]), 0);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_the_heap_is_the_one_asked_for),
                     SUPPORT_TEST(test_another_program_reads_in_place),
                     SUPPORT_TEST(test_whatever_was_sent_can_be_viewed),
                     SUPPORT_TEST(test_what_was_lent_can_be_copied),
                     SUPPORT_TEST(test_a_lent_message_that_is_dropped_is_given_back),
                     SUPPORT_TEST(test_a_cancelled_loan_is_free_at_once),
                     SUPPORT_TEST(test_views_outlive_everything),
                     SUPPORT_TEST(test_loans_outlive_what_they_were_for),
                     SUPPORT_TEST(test_a_held_view_stops_nothing_else),
                     SUPPORT_TEST(test_as_many_as_there_are_numbers),
                     SUPPORT_TEST(test_a_release_wakes_a_sender_that_waits_for_room),
                     SUPPORT_TEST(test_extensions_come_and_go),
                     SUPPORT_TEST(test_arguments),
                     SUPPORT_TEST(test_the_limit_has_to_fit_a_message),
                     SUPPORT_TEST(test_a_full_queue_of_a_stopped_owner),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "lender", role_lender },
                     { "waiter", role_waiter },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
