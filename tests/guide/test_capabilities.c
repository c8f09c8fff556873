/* SPDX-License-Identifier: MIT */
/*
 * The guide's sections "Capability Management" and "Security Considerations", as far as channels go:
 * each end is a capability with its rights; a lesser one is made by export and import.
 */
#include "guide/guide.h"

/* Create an end with full permissions, and a restricted capability from it. */
static void test_restricted_capability(void **state)
{
    vrd_cap_t send_cap, recv_cap, restricted_cap;
    struct vrd_cap_info info;
    char data[8];
    int invitation;

    (void)state;
    assert_int_equal(vrd_channel_create(4, &send_cap, &recv_cap), VRD_OK);
    assert_int_equal(vrd_cap_info(send_cap, &info), VRD_OK);
    assert_true(info.rights & VRD_RIGHT_GRANT);

    assert_int_equal(vrd_cap_export(send_cap, VRD_RIGHTS_SEND_ONLY, &invitation), VRD_OK);
    assert_int_equal(vrd_cap_import(invitation, &restricted_cap), VRD_OK);
    assert_int_equal(vrd_cap_info(restricted_cap, &info), VRD_OK);
    assert_int_equal(info.rights, VRD_RIGHTS_SEND_ONLY);

    assert_int_equal(vrd_send(restricted_cap, "hello", 5), VRD_OK);
    assert_int_equal(vrd_receive(recv_cap, data, sizeof data), 5);
    assert_int_equal(vrd_receive(restricted_cap, data, sizeof data), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_cap_export(restricted_cap, VRD_RIGHTS_SEND_ONLY, &invitation),
                     VRD_ERR_PERMISSION_DENIED);

    assert_int_equal(vrd_cap_close(restricted_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

/* Send: can send. Receive: can receive. Neither is the other. */
static void test_each_permission_alone(void **state)
{
    vrd_cap_t send_cap, recv_cap;
    char data[8];

    (void)state;
    assert_int_equal(vrd_channel_create(4, &send_cap, &recv_cap), VRD_OK);
    assert_int_equal(vrd_receive(send_cap, data, sizeof data), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_send(recv_cap, data, sizeof data), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
}

/* Another program: it has the capability that it was given, and no other. */
static int role_holder(struct support_role_args *args)
{
    vrd_cap_t cap;
    char data[8];

    support_require(vrd_cap_import(args->fds[0], &cap) == VRD_OK);
    support_require(vrd_send(cap, "granted", 7) == VRD_OK);
    support_require(vrd_receive(cap, data, sizeof data) == VRD_ERR_PERMISSION_DENIED);
    for (vrd_cap_t guess = 0; guess < 100000; guess++)
        support_require(guess == cap || vrd_send(guess, "stolen", 6) == VRD_ERR_INVALID_CAPABILITY);
    return 0;
}

/* "All operations validate capabilities", "No ambient authority". */
static void test_another_program_has_what_it_was_given(void **state)
{
    vrd_cap_t send_cap, recv_cap;
    char data[8];
    int invitation;

    (void)state;
    assert_int_equal(vrd_channel_create(4, &send_cap, &recv_cap), VRD_OK);
    assert_int_equal(vrd_cap_export(send_cap, VRD_RIGHTS_SEND_ONLY, &invitation), VRD_OK);
    assert_int_equal(vrd_cap_close(send_cap), VRD_OK);
    const pid_t pid = support_spawn_role("holder", &invitation, 1, NULL);
    assert_int_equal(close(invitation), 0);
    assert_int_equal(vrd_receive(recv_cap, data, sizeof data), 7);
    assert_memory_equal(data, "granted", 7);
    assert_int_equal(vrd_receive(recv_cap, data, sizeof data), VRD_ERR_PEER_GONE);
    support_wait_exit(pid, 0);
    assert_int_equal(vrd_cap_close(recv_cap), VRD_OK);
    assert_int_equal(vrd_send(recv_cap, "x", 1), VRD_ERR_INVALID_CAPABILITY);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_restricted_capability),
                     SUPPORT_TEST(test_each_permission_alone),
                     SUPPORT_TEST(test_another_program_has_what_it_was_given),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "holder", role_holder },
                     { 0 },
                 },
             .warm_up = guide_warm_up)
