/* SPDX-License-Identifier: MIT */
/* Revoking: whatever was derived, by whomever, to any depth, used or not; what it sent is dropped,
 * who waits is woken, and all others go on. */
#include "process/channels.h"

#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

#define SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

static struct vrd_cap_info info_of(vrd_cap_t cap)
{
    struct vrd_cap_info info;

    EXPECT(vrd_cap_info(cap, &info), 0);
    return info;
}

static vrd_cap_t derived(vrd_cap_t cap, uint32_t rights)
{
    vrd_cap_t ret;

    EXPECT(vrd_cap_derive(cap, rights, &ret), 0);
    return ret;
}

static int try_send(vrd_cap_t cap, uint64_t value)
{
    return vrd_send_timed(cap, &value, sizeof value, 0);
}

static uint64_t receive_value(vrd_cap_t cap)
{
    uint64_t value = 0;

    EXPECT(vrd_receive(cap, &value, sizeof value), sizeof value);
    return value;
}

static void nothing_to_receive(vrd_cap_t cap)
{
    uint64_t value;

    EXPECT(vrd_receive_timed(cap, &value, sizeof value, 0), VRD_ERR_CHANNEL_EMPTY);
}

static void expect_revoked(vrd_cap_t cap, enum vrd_loss loss)
{
    vrd_cap_t none;

    EXPECT(info_of(cap).loss, loss);
    EXPECT(try_send(cap, 0), VRD_ERR_REVOKED);
    EXPECT(try_send(cap, 0), VRD_ERR_REVOKED);
    EXPECT(info_of(cap).loss, loss);
    if (info_of(cap).rights & VRD_RIGHT_GRANT)
        EXPECT(vrd_cap_derive(cap, VRD_RIGHT_SEND, &none), VRD_ERR_REVOKED);
    if (info_of(cap).rights & VRD_RIGHT_REVOKE)
        EXPECT(vrd_cap_revoke(cap), VRD_ERR_REVOKED);
}

/* ---- in one process --------------------------------------------------------------------------- */

static void test_descendants_go_and_all_others_stay(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t other = derived(ends.send, SENDER);
    const vrd_cap_t a = derived(ends.send, SENDER);
    const vrd_cap_t b = derived(a, SENDER);
    const vrd_cap_t c = derived(b, VRD_RIGHT_SEND);
    const vrd_cap_t unused = derived(b, SENDER);

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        EXPECT(try_send((vrd_cap_t[]){ a, b, c }[i], i), 0);
        EXPECT(receive_value(ends.receive), i);
    }
    EXPECT(vrd_cap_revoke(a), 0);
    expect_revoked(b, VRD_LOSS_REVOKED);
    expect_revoked(c, VRD_LOSS_PARENT_REVOKED);
    expect_revoked(unused, VRD_LOSS_PARENT_REVOKED);
    EXPECT(try_send(a, 5), 0); /* not itself */
    EXPECT(receive_value(ends.receive), 5);
    EXPECT(try_send(other, 6), 0);
    EXPECT(receive_value(ends.receive), 6);
    EXPECT(info_of(a).loss, VRD_LOSS_NONE);
    EXPECT(vrd_cap_revoke(a), 0); /* once more, for nothing */
    EXPECT(vrd_cap_revoke(ends.send), 0);
    expect_revoked(a, VRD_LOSS_REVOKED);
    expect_revoked(other, VRD_LOSS_REVOKED);
    EXPECT(try_send(ends.send, 7), 0);
    EXPECT(receive_value(ends.receive), 7);
    for (size_t i = 0; i < 5; i++)
        EXPECT(vrd_cap_close((vrd_cap_t[]){ other, a, b, c, unused }[i]), 0);
    ends_close(&ends);
}

/* The children of one that is closed are its parent's. */
static void test_what_is_below_a_closed_one_is_not_forgotten(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    const vrd_cap_t b = derived(a, SENDER);
    const vrd_cap_t c = derived(b, SENDER);

    (void)state;
    EXPECT(try_send(b, 1), 0);
    EXPECT(try_send(c, 1), 0);
    EXPECT(vrd_cap_close(b), 0);
    EXPECT(receive_value(ends.receive), 1);
    EXPECT(receive_value(ends.receive), 1);
    EXPECT(vrd_cap_revoke(a), 0);
    /* a child of `a` once the receiver has found that nothing more comes from `b` */
    support_require(info_of(c).loss == VRD_LOSS_REVOKED ||
                    info_of(c).loss == VRD_LOSS_PARENT_REVOKED);
    expect_revoked(c, info_of(c).loss);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(c), 0);
    ends_close(&ends);
}

static void test_it_needs_the_right_or_ownership(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT);
    const vrd_cap_t b = derived(a, VRD_RIGHT_SEND);

    (void)state;
    EXPECT(vrd_cap_revoke(a), VRD_ERR_PERMISSION_DENIED);
    EXPECT(try_send(b, 1), 0);
    EXPECT(receive_value(ends.receive), 1);
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    expect_revoked(a, VRD_LOSS_PARENT_REVOKED);
    expect_revoked(b, VRD_LOSS_PARENT_REVOKED);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(b), 0);
    ends_close(&ends);
}

static void test_the_owner_takes_back_everything(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t used = derived(ends.send, SENDER);
    const vrd_cap_t unused = derived(ends.send, SENDER);
    uint64_t value;

    (void)state;
    EXPECT(try_send(used, 1), 0);
    EXPECT(try_send(ends.send, 2), 0);
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    EXPECT(vrd_receive(ends.receive, &value, sizeof value), VRD_ERR_PEER_GONE);
    expect_revoked(used, VRD_LOSS_PARENT_REVOKED);
    expect_revoked(unused, VRD_LOSS_PARENT_REVOKED);
    expect_revoked(ends.send, VRD_LOSS_REVOKED);
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    EXPECT(vrd_cap_close(used), 0);
    EXPECT(vrd_cap_close(unused), 0);
    ends_close(&ends);
}

/* A root that was never used has no link by which to learn it. */
static void test_an_unused_root_learns_it_too(void **state)
{
    const struct ends ends = ends_new(16);

    (void)state;
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    expect_revoked(ends.send, VRD_LOSS_REVOKED);
    ends_close(&ends);
}

/* ---- what is in flight -------------------------------------------------------------------------- */

static void fill(vrd_cap_t cap, uint64_t from)
{
    while (try_send(cap, from) == 0)
        from++;
    EXPECT(try_send(cap, from), VRD_ERR_CHANNEL_FULL);
}

static void test_what_is_in_flight_is_dropped(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    const vrd_cap_t b = derived(a, SENDER);
    uint8_t large[5000] = { 0 };

    (void)state;
    for (int i = 0; i < 100; i++) { /* the fast path is in use, for this link */
        EXPECT(try_send(a, 1), 0);
        EXPECT(receive_value(ends.receive), 1);
    }
    EXPECT(try_send(a, 2), 0);
    EXPECT(vrd_send(a, large, sizeof large), 0);
    fill(a, 100);
    fill(b, 200);
    EXPECT(try_send(ends.send, 3), 0);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    EXPECT(receive_value(ends.receive), 3);
    nothing_to_receive(ends.receive);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(b), 0);
    ends_close(&ends);
}

static void test_a_batch_takes_nothing_of_it(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    struct vrd_message messages[8] = { 0 };
    uint64_t values[8];

    (void)state;
    for (size_t i = 0; i < 8; i++) {
        messages[i].data = &values[i];
        messages[i].size = sizeof values[i];
    }
    fill(a, 1);
    EXPECT(vrd_receive_batch(ends.receive, messages, 8, 0), 8);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    EXPECT(vrd_receive_batch(ends.receive, messages, 8, 0), VRD_ERR_CHANNEL_EMPTY);
    EXPECT(vrd_cap_close(a), 0);
    ends_close(&ends);
}

/* A message for which the buffer was too small is dropped as well, and cannot be discarded. */
static void test_a_kept_message_goes_too(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    char byte;

    (void)state;
    EXPECT(try_send(a, 1), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), VRD_ERR_MESSAGE_TOO_LARGE);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    EXPECT(vrd_discard(ends.receive), VRD_ERR_CHANNEL_EMPTY);
    nothing_to_receive(ends.receive);
    EXPECT(vrd_cap_close(a), 0);
    ends_close(&ends);
}

/* ---- sleepers ------------------------------------------------------------------------------------- */

struct sleeper {
    pthread_t thread;
    vrd_cap_t cap;
    int64_t result;
    pid_t tid;
    struct support_gate ready;
};

static void *sleeper_sends(void *arg)
{
    struct sleeper *sleeper = arg;
    uint64_t value = 1;

    sleeper->tid = gettid();
    support_gate_open(&sleeper->ready);
    while ((sleeper->result = vrd_send(sleeper->cap, &value, sizeof value)) == 0) {
    }
    return NULL;
}

static void *sleeper_receives(void *arg)
{
    struct sleeper *sleeper = arg;
    uint64_t value;

    sleeper->tid = gettid();
    support_gate_open(&sleeper->ready);
    sleeper->result = vrd_receive(sleeper->cap, &value, sizeof value);
    return NULL;
}

static void sleeper_start(struct sleeper *sleeper, vrd_cap_t cap, void *(*run)(void *))
{
    sleeper->cap = cap;
    support_gate_init(&sleeper->ready);
    EXPECT(pthread_create(&sleeper->thread, NULL, run, sleeper), 0);
    support_gate_wait(&sleeper->ready);
    support_wait_asleep(sleeper->tid);
}

static void sleeper_ends(struct sleeper *sleeper, int64_t result)
{
    EXPECT(pthread_join(sleeper->thread, NULL), 0);
    EXPECT(sleeper->result, result);
    support_gate_deinit(&sleeper->ready);
}

static void test_a_sender_that_waits_for_room_is_woken(void **state)
{
    const struct ends ends = ends_new(2);
    const vrd_cap_t a = derived(ends.send, SENDER);
    const vrd_cap_t b = derived(a, SENDER);
    struct sleeper direct, deeper;

    (void)state;
    sleeper_start(&direct, a, sleeper_sends);
    sleeper_start(&deeper, b, sleeper_sends);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    sleeper_ends(&direct, VRD_ERR_REVOKED);
    sleeper_ends(&deeper, VRD_ERR_REVOKED);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(b), 0);
    ends_close(&ends);
}

static void test_a_receiver_that_waits_learns_the_end(void **state)
{
    const struct ends ends = ends_new(2);
    const vrd_cap_t a = derived(ends.send, SENDER);
    struct sleeper sleeper;

    (void)state;
    EXPECT(try_send(a, 1), 0);
    EXPECT(receive_value(ends.receive), 1);
    EXPECT(vrd_cap_close(ends.send), 0);
    sleeper_start(&sleeper, ends.receive, sleeper_receives);
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    sleeper_ends(&sleeper, VRD_ERR_PEER_GONE);
    expect_revoked(a, VRD_LOSS_PARENT_REVOKED);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(ends.receive), 0);
}

/* ---- invitations and children ----------------------------------------------------------------------- */

static void test_unused_invitations_are_revoked(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    int direct, below, after;
    vrd_cap_t cap = 99;

    (void)state;
    EXPECT(vrd_cap_export(ends.send, SENDER, &direct), 0);
    EXPECT(vrd_cap_export(a, VRD_RIGHT_SEND, &below), 0);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    EXPECT(vrd_cap_import(direct, &cap), VRD_ERR_REVOKED);
    EXPECT(vrd_cap_import(below, &cap), VRD_ERR_REVOKED);
    EXPECT(cap, 99);
    EXPECT(vrd_cap_export(ends.send, SENDER, &after), 0);
    EXPECT(vrd_cap_import(after, &cap), 0);
    EXPECT(try_send(cap, 1), 0);
    EXPECT(receive_value(ends.receive), 1);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_cap_close(a), 0);
    ends_close(&ends);
}

/* The import's HELLO and what was derived over the new link are still queued. */
static void test_an_import_that_the_owner_has_not_seen(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t cap = sender_new(ends.send);
    vrd_cap_t none;

    (void)state;
    EXPECT(try_send(cap, 1), 0);
    EXPECT(vrd_cap_revoke(ends.receive), 0);
    EXPECT(try_send(cap, 2), VRD_ERR_REVOKED);
    EXPECT(info_of(cap).loss, VRD_LOSS_PARENT_REVOKED);
    EXPECT(vrd_cap_derive(cap, VRD_RIGHT_SEND, &none), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_close(cap), 0);
    ends_close(&ends);
}

static vrd_cap_t inherited;

static int child_finds_it_revoked(void *arg)
{
    struct support_gate *gate = arg;

    support_gate_wait(gate);
    EXPECT(try_send(inherited, 0), VRD_ERR_REVOKED);
    EXPECT(info_of(inherited).loss, VRD_LOSS_REVOKED);
    return 0;
}

static void test_children_of_the_holder_lose_it_too(void **state)
{
    const struct ends ends = ends_new(16);
    struct support_gate gate;
    pid_t used, unused;

    (void)state;
    support_gate_init(&gate);
    inherited = derived(ends.send, SENDER);
    unused = support_child(child_finds_it_revoked, &gate);
    EXPECT(try_send(inherited, 1), 0);
    EXPECT(receive_value(ends.receive), 1);
    used = support_child(child_finds_it_revoked, &gate);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    support_gate_open(&gate);
    support_gate_open(&gate);
    support_wait_exit(unused, 0);
    support_wait_exit(used, 0);
    expect_revoked(inherited, VRD_LOSS_REVOKED);
    EXPECT(vrd_cap_close(inherited), 0);
    support_gate_deinit(&gate);
    ends_close(&ends);
}

/* ---- across processes ------------------------------------------------------------------------------ */

/* fds: an invitation, a socket. Passes on what it derived, uses its own, and learns the end asleep. */
static int role_middle(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    const vrd_cap_t mine = derived(cap, SENDER);
    int invitation;
    uint64_t value = 1;
    int r;

    EXPECT(vrd_cap_export(mine, VRD_RIGHT_SEND, &invitation), 0);
    support_send_fd(args->fds[1], invitation);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_send(cap, &value, sizeof value), 0);
    while ((r = vrd_send(mine, &value, sizeof value)) == 0) {
    }
    EXPECT(r, VRD_ERR_REVOKED);
    EXPECT(info_of(mine).loss, VRD_LOSS_PARENT_REVOKED);
    EXPECT(try_send(cap, 1), VRD_ERR_REVOKED);
    EXPECT(info_of(cap).loss, VRD_LOSS_REVOKED);
    return 0;
}

/* fd: an invitation, made by another than the owner. */
static int role_leaf(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    uint64_t value = 2;
    int r;

    while ((r = vrd_send(cap, &value, sizeof value)) == 0) {
    }
    EXPECT(r, VRD_ERR_REVOKED);
    EXPECT(info_of(cap).loss, VRD_LOSS_PARENT_REVOKED);
    return 0;
}

static void test_several_processes_lose_it_in_their_sleep(void **state)
{
    const struct ends ends = ends_new(4);
    int pair[2], invitation;
    bool seen[3] = { false };
    pid_t middle, leaf;

    (void)state;
    support_socket_pair(pair);
    EXPECT(vrd_cap_export(ends.send, SENDER, &invitation), 0);
    middle = support_spawn_role("middle", (int[]){ invitation, pair[1] }, 2, NULL);
    EXPECT(close(invitation), 0);
    invitation = support_receive_fd(pair[0]);
    leaf = support_spawn_role("leaf", &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    while (!seen[1] || !seen[2])
        seen[receive_value(ends.receive)] = true;
    support_wait_asleep(middle);
    support_wait_asleep(leaf);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    nothing_to_receive(ends.receive);
    support_wait_exit(middle, 0);
    support_wait_exit(leaf, 0);
    EXPECT(close(pair[0]), 0);
    EXPECT(close(pair[1]), 0);
    ends_close(&ends);
}

/* fds: an invitation, a socket. Revokes what it has derived and passed on: the owner's program does
 * nothing for it. */
static int role_revoker(struct support_role_args *args)
{
    const vrd_cap_t cap = import_at(args, 0);
    int invitation;
    uint64_t value = 1;

    EXPECT(vrd_cap_export(cap, SENDER, &invitation), 0);
    support_send_fd(args->fds[1], invitation);
    EXPECT(close(invitation), 0);
    invitation = support_receive_fd(args->fds[1]); /* a sign to go on */
    EXPECT(close(invitation), 0);
    EXPECT(vrd_cap_revoke(cap), 0);
    EXPECT(vrd_send(cap, &value, sizeof value), 0);
    return 0;
}

static void test_another_process_revokes(void **state)
{
    const struct ends ends = ends_new(4);
    int pair[2], invitation;
    vrd_cap_t granted;
    pid_t pid;

    (void)state;
    support_socket_pair(pair);
    EXPECT(vrd_cap_export(ends.send, SENDER, &invitation), 0);
    pid = support_spawn_role("revoker", (int[]){ invitation, pair[1] }, 2, NULL);
    EXPECT(close(invitation), 0);
    EXPECT(vrd_cap_import(support_receive_fd(pair[0]), &granted), 0);
    EXPECT(try_send(granted, 7), 0);
    EXPECT(receive_value(ends.receive), 7);
    fill(granted, 8);
    support_send_fd(pair[0], pair[0]);
    while (try_send(granted, 0) != VRD_ERR_REVOKED)
        support_sleep_ms(1);
    EXPECT(receive_value(ends.receive), 1); /* of what `granted` sent, nothing is left */
    support_wait_exit(pid, 0);
    expect_revoked(granted, VRD_LOSS_REVOKED);
    EXPECT(try_send(ends.send, 9), 0);
    EXPECT(receive_value(ends.receive), 9);
    EXPECT(vrd_cap_close(granted), 0);
    EXPECT(close(pair[0]), 0);
    EXPECT(close(pair[1]), 0);
    ends_close(&ends);
}

/* ---- calls ----------------------------------------------------------------------------------- */

static void *sleeper_calls(void *arg)
{
    struct sleeper *sleeper = arg;
    char answer[8];

    sleeper->tid = gettid();
    support_gate_open(&sleeper->ready);
    sleeper->result = vrd_call(sleeper->cap, "ask", 3, answer, sizeof answer, VRD_FOREVER);
    return NULL;
}

/* Not yet received, and received but not yet answered. The endpoint itself goes on. */
static void test_calls_of_the_revoked_fail_at_once(void **state)
{
    vrd_cap_t endpoint, clients[2], again, reply, none;
    struct vrd_message request = { 0 };
    struct sleeper sleepers[3];
    char buffer[8];
    uint64_t id;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    request.data = buffer;
    request.size = sizeof buffer;
    for (size_t i = 0; i < 2; i++)
        clients[i] = derived(endpoint, SENDER);
    sleeper_start(&sleepers[0], clients[0], sleeper_calls);
    EXPECT(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
    sleeper_start(&sleepers[1], clients[1], sleeper_calls);
    EXPECT(vrd_cap_revoke(endpoint), 0);
    sleeper_ends(&sleepers[0], VRD_ERR_REVOKED);
    sleeper_ends(&sleepers[1], VRD_ERR_REVOKED);
    const int r = vrd_reply(reply, "no", 2);
    support_require(r == VRD_ERR_REVOKED || r == VRD_ERR_PEER_GONE);
    EXPECT(vrd_receive_call(endpoint, &request, &none, 0), VRD_ERR_CHANNEL_EMPTY);
    again = derived(endpoint, VRD_RIGHT_SEND);
    sleeper_start(&sleepers[2], again, sleeper_calls);
    EXPECT(vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER), 0);
    EXPECT(vrd_reply(reply, "yes!", 4), 0);
    sleeper_ends(&sleepers[2], 4);
    EXPECT(vrd_cap_close(clients[0]), 0);
    EXPECT(vrd_cap_close(clients[1]), 0);
    EXPECT(vrd_cap_close(again), 0);
    EXPECT(vrd_cap_close(endpoint), 0);
}

/* ---- depth and width --------------------------------------------------------------------------------- */

static void test_a_deep_chain_and_a_wide_fan(void **state)
{
    enum { N = 150 };
    const struct ends ends = ends_new(2);
    const vrd_cap_t top = derived(ends.send, SENDER);
    vrd_cap_t chain[N], fan[N];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        chain[i] = derived(i > 0 ? chain[i - 1] : top, SENDER);
        fan[i] = derived(i % 2 > 0 ? top : chain[i / 2], VRD_RIGHT_SEND);
        if (i % 3 == 0) {
            EXPECT(try_send(chain[i], i), 0);
            EXPECT(try_send(fan[i], i), 0);
            EXPECT(receive_value(ends.receive), i);
            EXPECT(receive_value(ends.receive), i);
        }
    }
    EXPECT(info_of(chain[N - 1]).depth, N + 1);
    EXPECT(vrd_cap_revoke(top), 0);
    for (size_t i = 0; i < N; i++) {
        EXPECT(try_send(chain[i], 0), VRD_ERR_REVOKED);
        EXPECT(try_send(fan[i], 0), VRD_ERR_REVOKED);
        EXPECT(info_of(chain[i]).loss, i == 0 ? VRD_LOSS_REVOKED : VRD_LOSS_PARENT_REVOKED);
        EXPECT(info_of(fan[i]).loss, i % 2 > 0 ? VRD_LOSS_REVOKED : VRD_LOSS_PARENT_REVOKED);
        EXPECT(vrd_cap_close(chain[i]), 0);
        EXPECT(vrd_cap_close(fan[i]), 0);
    }
    EXPECT(try_send(top, 5), 0);
    EXPECT(receive_value(ends.receive), 5);
    EXPECT(vrd_cap_close(top), 0);
    ends_close(&ends);
}

/* ---- hundreds: told and closed in turns of the reactor ----------------------------------------------- */

/* How many of `n` there can be, at `each` descriptors. */
static size_t within_descriptors(size_t n, size_t each)
{
    struct rlimit limit;

    EXPECT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    return limit.rlim_max / 2 < n * each ? limit.rlim_max / 2 / each : n;
}

static int role_deep_chain(struct support_role_args *args)
{
    const size_t n = within_descriptors(3000, 2);
    const struct ends ends = ends_new(2);
    vrd_cap_t *chain = calloc(n, sizeof(*chain));

    (void)args;
    support_require(chain != NULL);
    for (size_t i = 0; i < n; i++)
        chain[i] = derived(i > 0 ? chain[i - 1] : ends.send, SENDER);
    EXPECT(try_send(chain[n - 1], 1), 0);
    EXPECT(receive_value(ends.receive), 1);
    EXPECT(vrd_cap_revoke(chain[0]), 0);
    EXPECT(try_send(chain[n - 1], 2), VRD_ERR_REVOKED);
    EXPECT(info_of(chain[n - 1]).loss, VRD_LOSS_PARENT_REVOKED);
    EXPECT(try_send(chain[n - 2], 2), VRD_ERR_REVOKED);
    EXPECT(info_of(chain[n - 2]).loss, VRD_LOSS_PARENT_REVOKED);
    EXPECT(try_send(chain[1], 2), VRD_ERR_REVOKED);
    EXPECT(info_of(chain[1]).loss, VRD_LOSS_REVOKED);
    EXPECT(try_send(chain[0], 3), 0);
    EXPECT(receive_value(ends.receive), 3);
    for (size_t i = 0; i < n; i++)
        EXPECT(vrd_cap_close(chain[i]), 0);
    ends_close(&ends);
    free(chain);
    return 0;
}

static void test_a_chain_of_thousands(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("deep chain", NULL, 0, NULL), 0);
}

#define CROWD 700

struct crowd {
    struct ends ends;
    size_t fds; /* without it */
    vrd_cap_t caps[CROWD];
};

/* Every tenth is in use. */
static void crowd_init(struct crowd *crowd)
{
    within_descriptors(CROWD, 3);
    crowd->ends = ends_new(2);
    EXPECT(try_send(crowd->ends.send, 0), 0);
    EXPECT(receive_value(crowd->ends.receive), 0);
    crowd->fds = support_count_fds();
    for (size_t i = 0; i < CROWD; i++) {
        crowd->caps[i] = derived(crowd->ends.send, SENDER);
        if (i % 10 == 0) {
            EXPECT(try_send(crowd->caps[i], i), 0);
            EXPECT(receive_value(crowd->ends.receive), i);
        }
    }
    do /* until all have arrived */
        nothing_to_receive(crowd->ends.receive);
    while (support_count_fds() < crowd->fds + 2 * CROWD);
}

static void crowd_expect_revoked(struct crowd *crowd, enum vrd_loss loss)
{
    for (size_t i = 0; i < CROWD; i++) {
        EXPECT(try_send(crowd->caps[i], i), VRD_ERR_REVOKED);
        EXPECT(info_of(crowd->caps[i]).loss, loss);
    }
}

static void crowd_deinit(struct crowd *crowd)
{
    for (size_t i = 0; i < CROWD; i++)
        EXPECT(vrd_cap_close(crowd->caps[i]), 0);
    ends_close(&crowd->ends);
}

static int run_idle_child(void *arg)
{
    const struct crowd *crowd = arg;
    const size_t before = support_count_fds();

    (void)vrd_cap_close(crowd->caps[1]); /* its first use of the library */
    support_require(support_count_fds() < before);
    return 0;
}

static int run_crowd(bool sleeps)
{
    static struct crowd crowd;
    uint64_t value;

    crowd_init(&crowd);
    if (sleeps) /* with a thread, and without */
        EXPECT(vrd_receive_timed(crowd.ends.receive, &value, sizeof value, 20 * MS),
               VRD_ERR_TIMEOUT);
    EXPECT(vrd_cap_revoke(crowd.ends.send), 0);
    support_wait_exit(support_child(run_idle_child, &crowd), 0);
    crowd_expect_revoked(&crowd, VRD_LOSS_REVOKED);
    nothing_to_receive(crowd.ends.receive);
    EXPECT(try_send(crowd.ends.send, 5), 0);
    EXPECT(receive_value(crowd.ends.receive), 5);
    while (support_count_fds() > crowd.fds + CROWD) /* the near ends are the capabilities' */
        support_sleep_ms(1);
    crowd_deinit(&crowd);
    return 0;
}

static int role_sleepy_crowd(struct support_role_args *args)
{
    (void)args;
    return run_crowd(true);
}

static void test_a_crowd_is_revoked(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("sleepy crowd", NULL, 0, NULL), 0);
}

static int role_crowd(struct support_role_args *args)
{
    (void)args;
    return run_crowd(false);
}

static void test_a_crowd_is_revoked_before_anything_slept(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("crowd", NULL, 0, NULL), 0);
}

/* The application's loop has the turns. */
static int role_threadless_crowd(struct support_role_args *args)
{
    static struct crowd crowd;
    struct pollfd loop = { .events = POLLIN };

    (void)args;
    EXPECT(vrd_init(&(struct vrd_init_options){ .flags = VRD_INIT_NO_THREAD }), 0);
    loop.fd = vrd_reactor_fd();
    crowd_init(&crowd);
    EXPECT(vrd_cap_revoke(crowd.ends.receive), 0);
    support_require(support_count_fds() > crowd.fds + CROWD);
    while (support_count_fds() > crowd.fds + CROWD) {
        EXPECT(poll(&loop, 1, 10000), 1);
        EXPECT(vrd_reactor_dispatch(), 0);
    }
    crowd_expect_revoked(&crowd, VRD_LOSS_PARENT_REVOKED);
    crowd_deinit(&crowd);
    return 0;
}

static void test_a_crowd_is_revoked_without_a_thread(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("threadless crowd", NULL, 0, NULL), 0);
}

/* Descriptors that are about to be closed are not missing where new ones are made. */
static int role_crowded_out(struct support_role_args *args)
{
    static struct crowd crowd;
    struct rlimit limit;
    vrd_cap_t send, receive;
    uint64_t value = 1;
    int top, last;

    (void)args;
    EXPECT(vrd_init(&(struct vrd_init_options){ .flags = VRD_INIT_NO_THREAD }), 0);
    crowd_init(&crowd);
    EXPECT(getrlimit(RLIMIT_NOFILE, &limit), 0);
    top = dup(0);
    limit.rlim_cur = (rlim_t)top;
    EXPECT(setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT(close(top), 0);
    EXPECT(vrd_cap_revoke(crowd.ends.receive), 0);
    do
        last = dup(0); /* what was closed at once is taken */
    while (last >= 0);
    EXPECT(vrd_channel_create(2, &send, &receive), 0);
    EXPECT(vrd_send(send, &value, sizeof value), 0);
    EXPECT(receive_value(receive), value);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    crowd_expect_revoked(&crowd, VRD_LOSS_PARENT_REVOKED);
    return 0;
}

static void test_a_crowd_makes_room(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("crowded out", NULL, 0, NULL), 0);
}

/* The holder is another process, which learns the reason sooner or later, and sleeps for it. */
static int role_holder(struct support_role_args *args)
{
    static vrd_cap_t caps[CROWD];
    vrd_cap_t cap;
    uint64_t value = 7;

    within_descriptors(CROWD, 2);
    EXPECT(vrd_cap_import(dup(args->fds[0]), &cap), 0);
    EXPECT(vrd_send(cap, &value, sizeof value), 0);
    for (size_t i = 0; i < CROWD; i++)
        while (vrd_cap_derive(cap, VRD_RIGHT_SEND, &caps[i]) == VRD_ERR_QUOTA_EXCEEDED)
            support_sleep_ms(1);
    EXPECT(vrd_send(caps[CROWD - 1], &value, sizeof value), 0); /* all have arrived */
    while (try_send(cap, value) != VRD_ERR_REVOKED)
        support_sleep_ms(1);
    for (size_t i = 0; i < CROWD; i++) {
        int r;

        while ((r = vrd_send_timed(caps[i], &value, sizeof value, VRD_FOREVER)) == 0)
            support_sleep_ms(1); /* the revocation has come as far as `cap` */
        EXPECT(r, VRD_ERR_REVOKED);
        support_require(info_of(caps[i]).loss == VRD_LOSS_REVOKED ||
                        info_of(caps[i]).loss == VRD_LOSS_PARENT_REVOKED);
        EXPECT(vrd_cap_close(caps[i]), 0);
    }
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static int role_owner(struct support_role_args *args)
{
    struct ends ends;
    uint64_t value = 0;
    int fd;
    pid_t pid;

    (void)args;
    within_descriptors(CROWD, 3);
    ends = ends_new(16);
    EXPECT(vrd_cap_export(ends.send, SENDER, &fd), 0);
    pid = support_spawn_role("holder", &fd, 1, NULL);
    close(fd);
    EXPECT(vrd_receive(ends.receive, &value, sizeof value), sizeof value);
    EXPECT(vrd_receive(ends.receive, &value, sizeof value), sizeof value);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    support_wait_exit(pid, 0);
    ends_close(&ends);
    return 0;
}

static void test_a_crowd_held_elsewhere(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("owner", NULL, 0, NULL), 0);
}

/* ---- notices ------------------------------------------------------------------------------------------- */

static size_t drain_notices(struct vrd_notice *notices, size_t n)
{
    const int taken = vrd_notices_take(notices, n);

    support_require(taken >= 0);
    return (size_t)taken;
}

static void test_notices_tell_what_was_lost(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    struct vrd_notice notices[8];
    vrd_cap_t b;

    (void)state;
    while (drain_notices(notices, 8) > 0) {
    }
    EXPECT(vrd_cap_derive_badged(a, SENDER, 17, &b), 0);
    EXPECT(try_send(a, 1), 0);
    EXPECT(try_send(b, 2), 0);
    receive_value(ends.receive);
    receive_value(ends.receive);
    EXPECT(drain_notices(notices, 8), 0);
    EXPECT(vrd_cap_revoke(ends.send), 0);
    EXPECT(drain_notices(notices, 8), 2);
    const size_t at_a = notices[0].cap == a ? 0 : 1;
    EXPECT(notices[at_a].cap, a);
    EXPECT(notices[at_a].loss, VRD_LOSS_REVOKED);
    EXPECT(notices[at_a].badge, 0);
    EXPECT(notices[at_a].forgotten, 0);
    EXPECT(notices[1 - at_a].cap, b);
    EXPECT(notices[1 - at_a].loss, VRD_LOSS_PARENT_REVOKED);
    EXPECT(notices[1 - at_a].badge, 17);
    EXPECT(try_send(a, 0), VRD_ERR_REVOKED);
    EXPECT(try_send(b, 0), VRD_ERR_REVOKED);
    EXPECT(drain_notices(notices, 8), 0); /* once is enough */
    EXPECT(vrd_notices_take(NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_notices_take(NULL, 0), 0);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(b), 0);
    ends_close(&ends);
}

static void test_a_closed_object_is_a_loss_too(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    struct vrd_notice notice;

    (void)state;
    while (drain_notices(&notice, 1) > 0) {
    }
    EXPECT(try_send(a, 1), 0);
    receive_value(ends.receive);
    EXPECT(vrd_cap_close(ends.receive), 0);
    EXPECT(drain_notices(&notice, 1), 1);
    EXPECT(notice.cap, a);
    EXPECT(notice.loss, VRD_LOSS_CLOSED);
    EXPECT(try_send(a, 1), VRD_ERR_PEER_GONE);
    EXPECT(info_of(a).loss, VRD_LOSS_CLOSED);
    EXPECT(vrd_cap_close(a), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

static void test_forged_and_stale_numbers(void **state)
{
    const struct ends ends = ends_new(16);
    const vrd_cap_t a = derived(ends.send, SENDER);
    vrd_cap_t wrong[] = {
        0, 1, a + 1, a - 1, a ^ UINT64_C(1) << 63, a + (1u << 20), UINT64_MAX, 0
    };
    vrd_cap_t none = 99;
    int fd = -7;

    (void)state;
    EXPECT(vrd_cap_close(a), 0);
    wrong[7] = a;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        if (wrong[i] == ends.send || wrong[i] == ends.receive)
            continue;
        EXPECT(vrd_cap_derive(wrong[i], VRD_RIGHT_SEND, &none), VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_cap_derive_badged(wrong[i], VRD_RIGHT_SEND, 1, &none),
               VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_cap_revoke(wrong[i]), VRD_ERR_INVALID_CAPABILITY);
        EXPECT(vrd_cap_export(wrong[i], VRD_RIGHT_SEND, &fd), VRD_ERR_INVALID_CAPABILITY);
        EXPECT(try_send(wrong[i], 1), VRD_ERR_INVALID_CAPABILITY);
    }
    EXPECT(none, 99);
    EXPECT(fd, -7);
    ends_close(&ends);
}

/* An endpoint that has not received anything yet has not read what was derived from it. */
static void test_endpoint_before_its_first_use(void **state)
{
    vrd_cap_t endpoint, used, unused, deeper;
    uint64_t id;

    (void)state;
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    EXPECT(vrd_cap_derive(endpoint, VRD_RIGHT_SEND, &used), 0);
    EXPECT(vrd_cap_derive(endpoint, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &unused), 0);
    EXPECT(vrd_cap_derive(unused, VRD_RIGHT_SEND, &deeper), 0);
    EXPECT(vrd_send(used, "x", 1), 0);
    EXPECT(vrd_cap_revoke(endpoint), 0);
    EXPECT(vrd_send(used, "y", 1), VRD_ERR_REVOKED);
    EXPECT(vrd_send(unused, "y", 1), VRD_ERR_REVOKED);
    EXPECT(vrd_send(deeper, "y", 1), VRD_ERR_REVOKED);
    EXPECT(vrd_send(endpoint, "z", 1), 0); /* itself it keeps */
    EXPECT(vrd_cap_close(used), 0);
    EXPECT(vrd_cap_close(unused), 0);
    EXPECT(vrd_cap_close(deeper), 0);
    EXPECT(vrd_cap_close(endpoint), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_descendants_go_and_all_others_stay),
                     SUPPORT_TEST(test_what_is_below_a_closed_one_is_not_forgotten),
                     SUPPORT_TEST(test_it_needs_the_right_or_ownership),
                     SUPPORT_TEST(test_the_owner_takes_back_everything),
                     SUPPORT_TEST(test_an_unused_root_learns_it_too),
                     SUPPORT_TEST(test_what_is_in_flight_is_dropped),
                     SUPPORT_TEST(test_a_batch_takes_nothing_of_it),
                     SUPPORT_TEST(test_a_kept_message_goes_too),
                     SUPPORT_TEST(test_a_sender_that_waits_for_room_is_woken),
                     SUPPORT_TEST(test_a_receiver_that_waits_learns_the_end),
                     SUPPORT_TEST(test_unused_invitations_are_revoked),
                     SUPPORT_TEST(test_an_import_that_the_owner_has_not_seen),
                     SUPPORT_TEST(test_children_of_the_holder_lose_it_too),
                     SUPPORT_TEST(test_several_processes_lose_it_in_their_sleep),
                     SUPPORT_TEST(test_another_process_revokes),
                     SUPPORT_TEST(test_calls_of_the_revoked_fail_at_once),
                     SUPPORT_TEST(test_a_deep_chain_and_a_wide_fan),
                     SUPPORT_TEST(test_a_chain_of_thousands),
                     SUPPORT_TEST(test_a_crowd_is_revoked),
                     SUPPORT_TEST(test_a_crowd_is_revoked_before_anything_slept),
                     SUPPORT_TEST(test_a_crowd_is_revoked_without_a_thread),
                     SUPPORT_TEST(test_a_crowd_makes_room),
                     SUPPORT_TEST(test_a_crowd_held_elsewhere),
                     SUPPORT_TEST(test_notices_tell_what_was_lost),
                     SUPPORT_TEST(test_a_closed_object_is_a_loss_too),
                     SUPPORT_TEST(test_forged_and_stale_numbers),
                     SUPPORT_TEST(test_endpoint_before_its_first_use),
                     { 0 },
                 },
             .roles = (const struct support_role[]){ { "middle", role_middle },
                                                     { "leaf", role_leaf },
                                                     { "revoker", role_revoker },
                                                     { "deep chain", role_deep_chain },
                                                     { "sleepy crowd", role_sleepy_crowd },
                                                     { "crowd", role_crowd },
                                                     { "threadless crowd", role_threadless_crowd },
                                                     { "crowded out", role_crowded_out },
                                                     { "owner", role_owner },
                                                     { "holder", role_holder },
                                                     { 0 } },
             .warm_up = channels_warm_up)
