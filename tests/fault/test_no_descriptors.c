/* SPDX-License-Identifier: MIT */
/* A process that has no descriptor left when it first receives: it waits, and goes on later. */
#include "support/support.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>
#include <veridian/ipc.h>

#define MS INT64_C(1000000)
#define LIMIT 64

struct ends {
    vrd_cap_t send, receive;
};

static int send_one(void *arg)
{
    const struct ends *ends = arg;
    char byte = 7;

    support_require_equal(vrd_cap_close(ends->receive), 0);
    support_require_equal(vrd_send(ends->send, &byte, 1), 0);
    return 0;
}

/* Takes every descriptor that this process may have; how many there were. */
static size_t descriptors_take(int fds[LIMIT])
{
    size_t n = 0;

    while (n < LIMIT && (fds[n] = dup(STDERR_FILENO)) >= 0)
        n++;
    support_require(n < LIMIT && errno == EMFILE);
    return n;
}

/* A fresh process: nothing has been set up before. */
static int role_receiver(struct support_role_args *args)
{
    const struct rlimit limit = { .rlim_cur = LIMIT, .rlim_max = LIMIT };
    struct ends ends;
    int fds[LIMIT];
    char byte = 0;
    pid_t pid;

    (void)args;
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    support_require_equal(vrd_channel_create(16, &ends.send, &ends.receive), 0);
    pid = support_child(send_one, &ends);
    support_require_equal(vrd_cap_close(ends.send), 0);
    const size_t n = descriptors_take(fds);
    support_require_equal(vrd_receive_timed(ends.receive, &byte, 1, 0), VRD_ERR_CHANNEL_EMPTY);
    support_require_equal(vrd_receive_timed(ends.receive, &byte, 1, 20 * MS), VRD_ERR_TIMEOUT);
    for (size_t i = 0; i < n; i++)
        close(fds[i]);
    support_require_equal(vrd_receive(ends.receive, &byte, 1), 1);
    support_require_equal(byte, 7);
    support_wait_exit(pid, 0);
    support_require_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_PEER_GONE);
    support_require_equal(vrd_cap_close(ends.receive), 0);
    return 0;
}

static void test_first_receive_without_descriptors(void **state)
{
    (void)state;
    support_wait_exit(support_spawn_role("receiver", NULL, 0, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_first_receive_without_descriptors),
                     { 0 },
                 },
             .roles = (const struct support_role[]){
                 { "receiver", role_receiver },
                 { 0 },
             })
