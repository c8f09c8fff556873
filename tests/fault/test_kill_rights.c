/* SPDX-License-Identifier: MIT */
/*
 * Death at any instruction of deriving, exporting, importing and revoking. Whoever dies takes along
 * only what was its own: another capability goes on, a revocation is carried out for all or for
 * none, and when the last holder is gone the receiver sees the end.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "step.h"
#include "support/support.h"

#define SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define GRANTS 2

struct scene;

struct operation {
    int (*run)(struct scene *scene); /* what is stepped through */
    bool linked;                     /* the victim has used its capability before ...             */
    bool granted;                    /* ... and given away what it derived from it                */
    enum step_unit unit;
    size_t stride;
};

struct scene {
    const struct operation *operation;
    vrd_cap_t send, receive, witness;
    vrd_cap_t cap; /* the victim's */
    int invitation, sockets[2];
    struct support_gate victim_is_ready, victim_may;
};

static int run_derive(struct scene *scene)
{
    vrd_cap_t derived;

    return vrd_cap_derive_badged(scene->cap, SENDER, 3, &derived);
}

static int run_export(struct scene *scene)
{
    int fd;

    return vrd_cap_export(scene->cap, SENDER, &fd);
}

static int run_import(struct scene *scene)
{
    return vrd_cap_import(scene->invitation, &scene->cap);
}

static int run_revoke(struct scene *scene)
{
    return vrd_cap_revoke(scene->cap);
}

/* --- a holder dies --------------------------------------------------------------------------------- */

static int victim_run(void *arg)
{
    struct scene *scene = arg;
    int result;

    support_require_equal(vrd_cap_close(scene->receive), 0);
    scene->cap = scene->send;
    if (scene->operation->linked) {
        support_require_equal(vrd_cap_import(scene->invitation, &scene->cap), 0);
        support_require_equal(vrd_send(scene->cap, "v", 1), 0);
    }
    for (int i = 0; scene->operation->granted && i < GRANTS; i++) {
        int fd;

        support_require_equal(vrd_cap_export(scene->cap, VRD_RIGHT_SEND, &fd), 0);
        support_send_fd(scene->sockets[1], fd);
        support_require_equal(close(fd), 0);
    }
    support_gate_open(&scene->victim_is_ready);
    support_gate_wait(&scene->victim_may);
    step_begin();
    result = scene->operation->run(scene);
    step_end();
    support_require_equal(result, 0);
    return 0;
}

static void receive_one(vrd_cap_t receive, char expected)
{
    char byte = 0;

    support_require_equal(vrd_receive(receive, &byte, 1), 1);
    support_require_equal(byte, expected);
}

static uint32_t links_of(vrd_cap_t receive)
{
    struct vrd_cap_info info;
    char byte;

    support_require_equal(vrd_receive_async(receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    support_require_equal(vrd_cap_info(receive, &info), 0);
    return info.links;
}

/* Both go on, or neither does. How many were revoked? */
static int grants_check(const struct scene *scene, const vrd_cap_t grants[GRANTS])
{
    int revoked = 0;

    while (links_of(scene->receive) > 1 + GRANTS) /* the victim's is not over */
        support_sleep_ms(0);
    for (int i = 0; i < GRANTS; i++) {
        const int result = vrd_send_timed(grants[i], "g", 1, 0);

        if (result == 0)
            receive_one(scene->receive, 'g');
        else
            support_require_equal(result, VRD_ERR_REVOKED);
        revoked += result != 0;
        support_require_equal(vrd_cap_close(grants[i]), 0);
    }
    support_require(revoked == 0 || revoked == GRANTS);
    return revoked;
}

static void scene_start(struct scene *scene)
{
    support_require_equal(vrd_channel_create(4, &scene->send, &scene->receive), 0);
    support_require_equal(vrd_cap_derive(scene->send, SENDER, &scene->witness), 0);
    support_require_equal(vrd_send(scene->witness, "w", 1), 0);
    receive_one(scene->receive, 'w');
    support_require_equal(vrd_cap_export(scene->send, SENDER, &scene->invitation), 0);
}

static bool kill_holder(struct scene *scene, struct step_walk *walk, int *ret_revoked)
{
    const struct operation *operation = scene->operation;
    vrd_cap_t grants[GRANTS] = { 0 };
    bool inside;
    pid_t victim;
    char byte;

    scene_start(scene);
    victim = support_child(victim_run, scene);
    support_require_equal(close(scene->invitation), 0);
    support_require_equal(vrd_cap_close(scene->send), 0);
    if (operation->linked)
        receive_one(scene->receive, 'v');
    for (int i = 0; operation->granted && i < GRANTS; i++) {
        support_require_equal(vrd_cap_import(support_receive_fd(scene->sockets[0]), &grants[i]), 0);
        support_require_equal(vrd_send(grants[i], "g", 1), 0);
        receive_one(scene->receive, 'g');
    }
    support_gate_wait(&scene->victim_is_ready);
    support_gate_open(&scene->victim_may);
    inside = step_kill(victim, walk);

    support_require_equal(vrd_send(scene->witness, "w", 1), 0);
    receive_one(scene->receive, 'w');
    *ret_revoked = operation->granted ? grants_check(scene, grants) : 0;
    support_require_equal(vrd_cap_close(scene->witness), 0);
    support_require_equal(vrd_receive(scene->receive, &byte, 1), VRD_ERR_PEER_GONE);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    return inside;
}

static void kill_holder_everywhere(const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    struct scene scene = { .operation = operation };
    size_t deaths[2] = { 0 };

    support_socket_pair(scene.sockets);
    support_gate_init(&scene.victim_is_ready);
    support_gate_init(&scene.victim_may);
    while (step_walk_next(&walk)) {
        int revoked;
        const bool inside = kill_holder(&scene, &walk, &revoked);

        deaths[revoked > 0] += inside;
        if (operation->granted && !inside)
            assert_int_equal(revoked, GRANTS);
    }
    print_message("%zu deaths, after %zu of them all was revoked\n", deaths[0] + deaths[1],
                  deaths[1]);
    assert_true(deaths[0] + deaths[1] > 5);
    assert_true(!operation->granted || (deaths[0] > 0 && deaths[1] > 0));
    support_gate_deinit(&scene.victim_is_ready);
    support_gate_deinit(&scene.victim_may);
    close(scene.sockets[0]);
    close(scene.sockets[1]);
}

static void test_derive_over_the_root(void **state)
{
    (void)state;
    kill_holder_everywhere(&(struct operation){ run_derive, .stride = 13 });
}

static void test_derive_over_the_root_at_system_calls(void **state)
{
    (void)state;
    kill_holder_everywhere(&(struct operation){ run_derive, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_derive_over_a_link(void **state)
{
    (void)state;
    kill_holder_everywhere(&(struct operation){ run_derive, .linked = true, .stride = 13 });
}

static void test_export_over_a_link_at_system_calls(void **state)
{
    (void)state;
    kill_holder_everywhere(
        &(struct operation){ run_export, .linked = true, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_import(void **state)
{
    (void)state;
    kill_holder_everywhere(&(struct operation){ run_import, .stride = 29 });
}

static void test_import_at_system_calls(void **state)
{
    (void)state;
    kill_holder_everywhere(&(struct operation){ run_import, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_revoke(void **state)
{
    (void)state;
    kill_holder_everywhere(
        &(struct operation){ run_revoke, .linked = true, .granted = true, .stride = 43 });
}

static void test_revoke_at_system_calls(void **state)
{
    (void)state;
    kill_holder_everywhere(&(struct operation){ run_revoke, .linked = true, .granted = true,
                                                .unit = STEP_SYSCALL, .stride = 1 });
}

/* --- the owner dies ---------------------------------------------------------------------------------- */

static int run_owner_revoke(struct scene *scene)
{
    return vrd_cap_revoke(scene->receive);
}

/* Derivations, a link and a request to revoke are waiting in its sockets. */
static int run_owner_serve(struct scene *scene)
{
    char byte;
    const ssize_t n = vrd_receive_async(scene->receive, &byte, 1);

    return n == 1 || n == VRD_ERR_CHANNEL_EMPTY ? 0 : (int)n;
}

static int owner_run(void *arg)
{
    struct scene *scene = arg;
    char byte;
    int result;

    support_require_equal(vrd_cap_close(scene->send), 0);
    support_require_equal(vrd_cap_close(scene->witness), 0);
    while (vrd_receive_async(scene->receive, &byte, 1) == VRD_ERR_CHANNEL_EMPTY)
        support_sleep_ms(0);
    support_gate_open(&scene->victim_is_ready);
    support_gate_wait(&scene->victim_may);
    step_begin();
    result = scene->operation->run(scene);
    step_end();
    support_require_equal(result, 0);
    return 0;
}

/* Fails soon, whatever was going on, and goes on failing. */
static void expect_end(vrd_cap_t cap)
{
    int r;

    while ((r = vrd_send(cap, "x", 1)) == 0) {
    }
    support_require(r == VRD_ERR_PEER_GONE || r == VRD_ERR_REVOKED);
    r = vrd_send(cap, "x", 1);
    support_require(r == VRD_ERR_PEER_GONE || r == VRD_ERR_REVOKED);
    support_require_equal(vrd_cap_close(cap), 0);
}

static bool kill_owner(struct scene *scene, struct step_walk *walk)
{
    vrd_cap_t derived, below;
    bool inside;
    pid_t victim;

    support_require_equal(vrd_channel_create(4, &scene->send, &scene->receive), 0);
    support_require_equal(vrd_cap_derive(scene->send, SENDER, &scene->witness), 0);
    victim = support_child(owner_run, scene);
    support_require_equal(vrd_cap_close(scene->receive), 0);
    support_require_equal(vrd_send(scene->witness, "w", 1), 0);
    support_gate_wait(&scene->victim_is_ready);
    support_require_equal(vrd_cap_derive(scene->witness, SENDER, &derived), 0);
    support_require_equal(vrd_cap_derive(derived, VRD_RIGHT_SEND, &below), 0);
    support_require_equal(vrd_send(derived, "d", 1), 0);
    support_gate_open(&scene->victim_may);
    inside = step_kill(victim, walk);

    expect_end(below);
    expect_end(derived);
    expect_end(scene->witness);
    expect_end(scene->send);
    return inside;
}

static void kill_owner_everywhere(const struct operation *operation)
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    struct scene scene = { .operation = operation };
    size_t deaths = 0;

    support_gate_init(&scene.victim_is_ready);
    support_gate_init(&scene.victim_may);
    while (step_walk_next(&walk)) {
        const bool inside = kill_owner(&scene, &walk);

        deaths += inside;
    }
    print_message("%zu deaths\n", deaths);
    assert_true(deaths > 5);
    support_gate_deinit(&scene.victim_is_ready);
    support_gate_deinit(&scene.victim_may);
}

static void test_owner_revokes(void **state)
{
    (void)state;
    kill_owner_everywhere(&(struct operation){ run_owner_revoke, .stride = 61 });
}

static void test_owner_revokes_at_system_calls(void **state)
{
    (void)state;
    kill_owner_everywhere(
        &(struct operation){ run_owner_revoke, .unit = STEP_SYSCALL, .stride = 1 });
}

static void test_owner_serves_at_system_calls(void **state)
{
    (void)state;
    kill_owner_everywhere(
        &(struct operation){ run_owner_serve, .unit = STEP_SYSCALL, .stride = 1 });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_derive_over_the_root, 120),
                     SUPPORT_TEST_TIMEOUT(test_derive_over_the_root_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_derive_over_a_link, 120),
                     SUPPORT_TEST_TIMEOUT(test_export_over_a_link_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_import, 120),
                     SUPPORT_TEST_TIMEOUT(test_import_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_revoke, 120),
                     SUPPORT_TEST_TIMEOUT(test_revoke_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_owner_revokes, 120),
                     SUPPORT_TEST_TIMEOUT(test_owner_revokes_at_system_calls, 120),
                     SUPPORT_TEST_TIMEOUT(test_owner_serves_at_system_calls, 120),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
