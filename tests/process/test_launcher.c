/* SPDX-License-Identifier: MIT */
/*
 * A launcher makes a channel, gives its ends to two programs that it starts, and is gone. The
 * programs are left to this test by the kernel, which makes it the reaper of orphans.
 */
#include "process/channels.h"

#include <sys/prctl.h>

#define STREAM 2000

/* fd: an invitation to send. */
static int role_writer(struct support_role_args *args)
{
    const vrd_cap_t send = import_at(args, 0);

    for (uint32_t i = 0; i < STREAM; i++)
        numbered_send(send, 0, i, 8 + i % 300);
    return 0;
}

/* fd: an invitation to receive. */
static int role_reader(struct support_role_args *args)
{
    const uint32_t counts[1] = { STREAM };

    numbered_drain(import_at(args, 0), counts, 1);
    return 0;
}

/* fds: invitations to receive and to send on. */
static int role_relay(struct support_role_args *args)
{
    const vrd_cap_t receive = import_at(args, 0), send = import_at(args, 1);
    uint8_t data[NUMBERED_MAX];
    ssize_t len;

    while ((len = vrd_receive(receive, data, sizeof data)) >= 0)
        EXPECT(vrd_send(send, data, (size_t)len), 0);
    EXPECT(len, VRD_ERR_PEER_GONE);
    return 0;
}

struct launch {
    bool reader_first;
    bool wait_for_the_first; /* its program runs, and has imported, before the other is started */
    pid_t writer;
    pid_t relay;
    pid_t reader;
};

static pid_t launch_with(const char *role, vrd_cap_t cap, uint32_t rights)
{
    int invitation;

    EXPECT(vrd_cap_export(cap, rights, &invitation), 0);
    const pid_t pid = support_spawn_role(role, &invitation, 1, NULL);
    EXPECT(close(invitation), 0);
    return pid;
}

static int launcher(void *arg)
{
    struct launch *launch = arg;
    const struct ends ends = ends_new(16);

    if (launch->reader_first) {
        launch->reader = launch_with("reader", ends.receive, VRD_RIGHT_RECEIVE);
        if (launch->wait_for_the_first)
            support_wait_asleep(launch->reader);
        launch->writer = launch_with("writer", ends.send, VRD_RIGHT_SEND);
    } else {
        launch->writer = launch_with("writer", ends.send, VRD_RIGHT_SEND);
        if (launch->wait_for_the_first)
            support_wait_asleep(launch->writer);
        launch->reader = launch_with("reader", ends.receive, VRD_RIGHT_RECEIVE);
    }
    return 0;
}

static int launcher_of_three(void *arg)
{
    struct launch *launch = arg;
    const struct ends first = ends_new(16), second = ends_new(4);
    int fds[2];

    launch->reader = launch_with("reader", second.receive, VRD_RIGHT_RECEIVE);
    EXPECT(vrd_cap_export(first.receive, VRD_RIGHT_RECEIVE, &fds[0]), 0);
    EXPECT(vrd_cap_export(second.send, VRD_RIGHT_SEND, &fds[1]), 0);
    launch->relay = support_spawn_role("relay", fds, 2, NULL);
    launch->writer = launch_with("writer", first.send, VRD_RIGHT_SEND);
    return 0;
}

static void run_launcher(int (*run)(void *), struct launch how)
{
    struct launch *launch = support_shared_new(sizeof *launch);

    *launch = how;
    EXPECT(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    support_wait_exit(support_child(run, launch), 0);
    support_wait_exit(launch->writer, 0);
    if (launch->relay)
        support_wait_exit(launch->relay, 0);
    support_wait_exit(launch->reader, 0);
    EXPECT(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
    support_shared_free(launch, sizeof *launch);
}

static void test_receiving_end_first(void **state)
{
    (void)state;
    for (size_t i = 0; i < 5; i++)
        run_launcher(launcher, (struct launch){ .reader_first = true });
    run_launcher(launcher, (struct launch){ .reader_first = true, .wait_for_the_first = true });
}

static void test_sending_end_first(void **state)
{
    (void)state;
    for (size_t i = 0; i < 5; i++)
        run_launcher(launcher, (struct launch){ .reader_first = false });
    run_launcher(launcher, (struct launch){ .reader_first = false, .wait_for_the_first = true });
}

static void test_pipeline_of_three_programs(void **state)
{
    (void)state;
    for (size_t i = 0; i < 3; i++)
        run_launcher(launcher_of_three, (struct launch){ 0 });
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_receiving_end_first),
                     SUPPORT_TEST(test_sending_end_first),
                     SUPPORT_TEST(test_pipeline_of_three_programs),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "writer", role_writer },
                     { "reader", role_reader },
                     { "relay", role_relay },
                     { 0 },
                 },
             .warm_up = channels_warm_up)
