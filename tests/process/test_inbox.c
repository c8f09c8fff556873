/* SPDX-License-Identifier: MIT */
/* Grants by process number: they arrive at the inbox of the other, and are taken back from here. */
#include "channels.h"

#include <stdio.h>
#include <sys/stat.h>

#define SECONDS (INT64_C(1000) * MS)
#define FULL (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

static void inbox_path(pid_t pid, char path[108])
{
    snprintf(path, 108, "%s/inbox-%d", support_runtime_dir(), (int)pid);
}

static bool inbox_exists(pid_t pid)
{
    char path[108];

    inbox_path(pid, path);
    return access(path, F_OK) == 0;
}

/* The capability that arrives next, and who gave it. */
static vrd_cap_t grant_take(vrd_cap_t inbox, struct vrd_source *ret_who)
{
    struct vrd_message message = { .max_caps = VRD_MESSAGE_CAPS_MAX };

    EXPECT(vrd_receive_message(inbox, &message, 20 * SECONDS), 0);
    EXPECT(message.len, 0);
    EXPECT(message.n_caps, 1);
    support_require(message.caps[0] != VRD_CAP_NONE);
    if (ret_who)
        *ret_who = message.source;
    return message.caps[0];
}

/* ---- the other process ------------------------------------------------------------------------- */

/* holder PID: takes a grant that PID gave, sends with it, and waits for its end if there is a gate. */
static int role_holder(struct support_role_args *args)
{
    const struct support_gate ready = { .fd = args->fds[0] };
    struct vrd_cap_info info;
    struct vrd_source who;
    vrd_cap_t inbox, cap;

    EXPECT(vrd_inbox_open(NULL, &inbox), 0);
    support_gate_open(&ready);
    cap = grant_take(inbox, &who);
    EXPECT(who.pid, atoi(args->args[0]));
    EXPECT(who.uid, getuid());
    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.rights, VRD_RIGHT_SEND);
    EXPECT(vrd_send(cap, "granted", 7), 0);
    if (args->n_fds > 1) {
        const struct support_gate revoked = { .fd = args->fds[1] };

        support_gate_wait(&revoked);
        EXPECT(vrd_send(cap, "too late", 8), VRD_ERR_REVOKED);
    }
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_cap_close(inbox), 0);
    return 0;
}

/* idle: opens an inbox, and goes when told. */
static int role_idle(struct support_role_args *args)
{
    const struct support_gate ready = { .fd = args->fds[0] };
    const struct support_gate done = { .fd = args->fds[1] };
    vrd_cap_t inbox;

    EXPECT(vrd_inbox_open(NULL, &inbox), 0);
    support_gate_open(&ready);
    support_gate_wait(&done);
    return 0;
}

struct scene {
    struct support_gate ready, done;
    vrd_cap_t send, receive, inbox;
    pid_t other;
};

static void scene_open(struct scene *scene, const char *role)
{
    char self[16];

    support_runtime_dir();
    snprintf(self, sizeof self, "%d", (int)getpid());
    support_gate_init(&scene->ready);
    support_gate_init(&scene->done);
    EXPECT(vrd_channel_create(4, &scene->send, &scene->receive), 0);
    EXPECT(vrd_inbox_open(NULL, &scene->inbox), 0);
    scene->other = support_spawn_role(role, (int[]){ scene->ready.fd, scene->done.fd }, 2,
                                      (const char *[]){ self, NULL });
    support_gate_wait(&scene->ready);
}

static void scene_close(struct scene *scene)
{
    if (scene->other > 0)
        support_wait_exit(scene->other, 0);
    EXPECT(vrd_cap_close(scene->inbox), 0);
    EXPECT(vrd_cap_close(scene->send), 0);
    EXPECT(vrd_cap_close(scene->receive), 0);
    support_gate_deinit(&scene->ready);
    support_gate_deinit(&scene->done);
}

static void receive_granted(vrd_cap_t receive)
{
    char text[16];

    EXPECT(vrd_receive_timed(receive, text, sizeof text, 20 * SECONDS), 7);
    assert_memory_equal(text, "granted", 7);
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void a_grant_arrives_and_is_taken_back(void **state)
{
    struct scene scene;
    struct vrd_cap_info info;
    vrd_cap_t grant;

    (void)state;
    scene_open(&scene, "holder");
    EXPECT(vrd_cap_grant(scene.send, scene.other, VRD_RIGHT_SEND, &grant), 0);
    EXPECT(vrd_cap_info(grant, &info), 0);
    EXPECT(info.rights, FULL);
    receive_granted(scene.receive);
    EXPECT(vrd_cap_revoke(grant), 0);
    support_gate_open(&scene.done);
    EXPECT(vrd_send(scene.send, "granted", 7), 0); /* only what was given is gone */
    receive_granted(scene.receive);
    EXPECT(vrd_cap_close(grant), 0);
    scene_close(&scene);
}

/* Who received the right to grant passes it on, and what it gave falls with what it was given. */
static void a_grant_of_a_grant(void **state)
{
    struct scene scene;
    vrd_cap_t first, second, taken;

    (void)state;
    scene_open(&scene, "holder");
    EXPECT(vrd_cap_grant(scene.send, getpid(), VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &first), 0);
    taken = grant_take(scene.inbox, NULL);
    EXPECT(vrd_cap_grant(taken, scene.other, VRD_RIGHT_SEND, &second), 0);
    EXPECT(vrd_cap_revoke(second), VRD_ERR_PERMISSION_DENIED); /* never had that right */
    receive_granted(scene.receive);
    EXPECT(vrd_cap_revoke(first), 0);
    support_gate_open(&scene.done);
    EXPECT(vrd_send(taken, "x", 1), VRD_ERR_REVOKED);
    EXPECT(vrd_cap_close(first), 0);
    EXPECT(vrd_cap_close(second), 0);
    EXPECT(vrd_cap_close(taken), 0);
    scene_close(&scene);
}

/* Closing the number that names a grant leaves the grant alone. */
static void a_grant_outlives_its_name(void **state)
{
    struct scene scene;
    vrd_cap_t grant, cap;

    (void)state;
    scene_open(&scene, "idle");
    EXPECT(vrd_cap_grant(scene.send, getpid(), VRD_RIGHT_SEND, &grant), 0);
    EXPECT(vrd_cap_close(grant), 0);
    cap = grant_take(scene.inbox, NULL);
    EXPECT(vrd_send(cap, "granted", 7), 0);
    receive_granted(scene.receive);
    EXPECT(vrd_cap_close(cap), 0);
    support_gate_open(&scene.done);
    scene_close(&scene);
}

static void a_region_can_be_granted(void **state)
{
    struct scene scene;
    struct vrd_cap_info info;
    vrd_cap_t region, grant, cap;
    void *memory, *view;
    size_t size;

    (void)state;
    scene_open(&scene, "idle");
    EXPECT(vrd_region_create(4096, VRD_RIGHTS_READ_WRITE | VRD_RIGHT_GRANT, NULL, &region), 0);
    EXPECT(vrd_region_map(region, VRD_RIGHTS_READ_WRITE, &memory, &size), 0);
    EXPECT(vrd_cap_grant(region, getpid(), VRD_RIGHT_READ, &grant), 0);
    cap = grant_take(scene.inbox, NULL);
    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.kind, VRD_OBJECT_REGION);
    EXPECT(info.rights, VRD_RIGHT_READ);
    memcpy(memory, "shared", sizeof "shared");
    EXPECT(vrd_region_map(cap, VRD_RIGHT_READ, &view, &size), 0);
    assert_string_equal(view, "shared");
    EXPECT(vrd_region_unmap(cap), 0);
    EXPECT(vrd_region_unmap(region), 0);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_cap_close(grant), 0);
    EXPECT(vrd_cap_close(region), 0);
    support_gate_open(&scene.done);
    scene_close(&scene);
}

static void an_endpoint_can_be_granted(void **state)
{
    struct scene scene;
    struct vrd_message request = { 0 };
    struct vrd_cap_info info;
    vrd_cap_t endpoint, grant, cap, reply;
    uint64_t id;

    (void)state;
    scene_open(&scene, "idle");
    EXPECT(vrd_endpoint_create(&id, &endpoint), 0);
    EXPECT(vrd_cap_grant(endpoint, getpid(), VRD_RIGHT_SEND, &grant), 0);
    cap = grant_take(scene.inbox, NULL);
    EXPECT(vrd_cap_info(cap, &info), 0);
    EXPECT(info.kind, VRD_OBJECT_ENDPOINT);
    EXPECT(info.rights, VRD_RIGHT_SEND);
    EXPECT(vrd_send(cap, NULL, 0), 0);
    EXPECT(vrd_receive_call(endpoint, &request, &reply, 20 * SECONDS), 0);
    EXPECT(reply, VRD_CAP_NONE);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(vrd_cap_close(grant), 0);
    EXPECT(vrd_cap_close(endpoint), 0);
    support_gate_open(&scene.done);
    scene_close(&scene);
}

static void what_is_not_given(void **state)
{
    struct scene scene;
    vrd_cap_t weak, grant;

    (void)state;
    scene_open(&scene, "idle");
    EXPECT(vrd_cap_derive(scene.send, VRD_RIGHT_SEND, &weak), 0);
    EXPECT(vrd_cap_grant(weak, scene.other, VRD_RIGHT_SEND, &grant), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_close(weak), 0);
    EXPECT(vrd_cap_grant(weak, scene.other, VRD_RIGHT_SEND, &grant), VRD_ERR_INVALID_CAPABILITY);
    EXPECT(vrd_cap_grant(scene.send, scene.other, 0, &grant), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_grant(scene.send, scene.other, 1u << 20, &grant), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_grant(scene.receive, scene.other, VRD_RIGHT_RECEIVE, &grant),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_grant(scene.send, 0, VRD_RIGHT_SEND, &grant), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_grant(scene.send, -1, VRD_RIGHT_SEND, &grant), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_cap_grant(scene.send, scene.other, VRD_RIGHT_SEND, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_inbox_open(NULL, &grant), VRD_ERR_NAME_IN_USE);
    EXPECT(vrd_inbox_open(NULL, NULL), VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_inbox_open(&(struct vrd_inbox_options){ .reserved = { 1 } }, &grant),
           VRD_ERR_INVALID_ARGUMENT);
    EXPECT(vrd_inbox_open(&(struct vrd_inbox_options){ .mode = 01000 }, &grant),
           VRD_ERR_INVALID_ARGUMENT);
    support_gate_open(&scene.done);
    scene_close(&scene);
}

static int waits(void *gate)
{
    support_gate_wait(gate);
    return 0;
}

static void who_takes_no_part(void **state)
{
    struct scene scene;
    vrd_cap_t grant;
    pid_t child;

    (void)state;
    scene_open(&scene, "idle");
    child = support_child(waits, &scene.ready); /* no inbox */
    EXPECT(vrd_cap_grant(scene.send, child, VRD_RIGHT_SEND, &grant), VRD_ERR_NO_BROKER);
    support_gate_open(&scene.ready);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_grant(scene.send, child, VRD_RIGHT_SEND, &grant), VRD_ERR_PROCESS_NOT_FOUND);
    support_kill(scene.other); /* its file stays, and nobody is behind it */
    assert_true(inbox_exists(scene.other));
    EXPECT(vrd_cap_grant(scene.send, scene.other, VRD_RIGHT_SEND, &grant),
           VRD_ERR_PROCESS_NOT_FOUND);
    assert_false(inbox_exists(scene.other)); /* who finds it so removes it */
    scene.other = -1;
    EXPECT(vrd_cap_close(scene.inbox), 0);
    assert_false(inbox_exists(getpid()));
    EXPECT(vrd_cap_grant(scene.send, getpid(), VRD_RIGHT_SEND, &grant), VRD_ERR_NOT_INITIALIZED);
    EXPECT(vrd_inbox_open(NULL, &scene.inbox), 0);
    scene_close(&scene);
}

static void who_opens_an_inbox_removes_those_of_the_dead(void **state)
{
    struct scene scene;

    (void)state;
    scene_open(&scene, "idle");
    support_kill(scene.other);
    assert_true(inbox_exists(scene.other));
    EXPECT(vrd_cap_close(scene.inbox), 0);
    EXPECT(vrd_inbox_open(NULL, &scene.inbox), 0);
    assert_false(inbox_exists(scene.other));
    scene.other = -1;
    scene_close(&scene);
}

/* Somebody else behind the name of that number. */
static void an_inbox_under_a_false_name(void **state)
{
    struct scene scene;
    vrd_cap_t grant;
    char name[32];
    pid_t child;

    (void)state;
    scene_open(&scene, "idle");
    child = support_child(waits, &scene.ready);
    snprintf(name, sizeof name, "inbox-%d", (int)child);
    EXPECT(vrd_publish(scene.send, name, NULL), 0);
    EXPECT(vrd_cap_grant(scene.send, child, VRD_RIGHT_SEND, &grant), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_unpublish(name), 0);
    support_gate_open(&scene.ready);
    support_wait_exit(child, 0);
    support_gate_open(&scene.done);
    scene_close(&scene);
}

/* ---- who may ---------------------------------------------------------------------------------------- */

struct choice {
    pid_t unwanted;
    int asked;
};

static bool choose(const struct vrd_source *who, void *user)
{
    struct choice *choice = user;
    struct vrd_notice notice;

    choice->asked++;
    support_require(vrd_notices_take(&notice, 1) >= 0); /* it may use the library */
    return who->pid != choice->unwanted;
}

static void the_own_inbox_decides_both_ways(void **state)
{
    struct choice choice = { 0 };
    struct scene scene;
    vrd_cap_t grant;

    (void)state;
    scene_open(&scene, "holder");
    EXPECT(vrd_cap_close(scene.inbox), 0);
    EXPECT(vrd_inbox_open(&(struct vrd_inbox_options){ .allow = choose, .user = &choice },
                          &scene.inbox),
           0);
    choice.unwanted = scene.other;
    EXPECT(vrd_cap_grant(scene.send, scene.other, VRD_RIGHT_SEND, &grant),
           VRD_ERR_PERMISSION_DENIED);
    EXPECT(choice.asked, 1);
    choice.unwanted = 0;
    EXPECT(vrd_cap_grant(scene.send, scene.other, VRD_RIGHT_SEND, &grant), 0);
    EXPECT(choice.asked, 2);
    receive_granted(scene.receive);
    EXPECT(vrd_cap_revoke(grant), 0);
    EXPECT(vrd_cap_close(grant), 0);
    support_gate_open(&scene.done);
    scene_close(&scene);
}

static bool anybody(const struct vrd_source *who, void *user)
{
    (void)who;
    (void)user;
    return true;
}

/* Another user, with an inbox for everybody. */
static int stranger(void *arg)
{
    struct scene *scene = arg;
    const struct vrd_inbox_options open = { .mode = 0666, .allow = anybody };
    vrd_cap_t inbox, send, receive, grant;

    if (setgid(65534) != 0 || setuid(65534) != 0)
        return 1;
    EXPECT(vrd_inbox_open(&open, &inbox), 0);
    support_gate_open(&scene->ready);
    support_gate_wait(&scene->done);
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_cap_grant(send, getppid(), VRD_RIGHT_SEND, &grant), VRD_ERR_PERMISSION_DENIED);
    EXPECT(vrd_cap_close(inbox), 0);
    return 0;
}

static void another_user_is_kept_out_from_both_sides(void **state)
{
    const struct vrd_inbox_options visible = { .mode = 0666 }; /* but only for the same user */
    struct scene scene;
    vrd_cap_t grant;
    pid_t child;

    (void)state;
    if (getuid() != 0)
        skip();
    scene_open(&scene, "idle");
    assert_int_equal(chmod(support_runtime_dir(), 01777), 0);
    EXPECT(vrd_cap_close(scene.inbox), 0);
    EXPECT(vrd_inbox_open(&visible, &scene.inbox), 0);
    support_gate_open(&scene.done);
    support_wait_exit(scene.other, 0);
    child = support_child(stranger, &scene);
    support_gate_wait(&scene.ready);
    EXPECT(vrd_cap_grant(scene.send, child, VRD_RIGHT_SEND, &grant), VRD_ERR_PERMISSION_DENIED);
    support_gate_open(&scene.done);
    scene.other = child;
    scene_close(&scene);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(a_grant_arrives_and_is_taken_back),
                     SUPPORT_TEST(a_grant_of_a_grant),
                     SUPPORT_TEST(a_grant_outlives_its_name),
                     SUPPORT_TEST(a_region_can_be_granted),
                     SUPPORT_TEST(an_endpoint_can_be_granted),
                     SUPPORT_TEST(what_is_not_given),
                     SUPPORT_TEST(who_takes_no_part),
                     SUPPORT_TEST(who_opens_an_inbox_removes_those_of_the_dead),
                     SUPPORT_TEST(an_inbox_under_a_false_name),
                     SUPPORT_TEST(the_own_inbox_decides_both_ways),
                     SUPPORT_TEST(another_user_is_kept_out_from_both_sides),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "holder", role_holder },
                     { "idle", role_idle },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
