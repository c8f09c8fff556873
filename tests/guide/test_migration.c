/* SPDX-License-Identifier: MIT */
/* The guide's section "Migration Guide", for those who come from pipe(): fork, close, write, read. */
#include "guide/guide.h"

static int write_to_it(void *arg)
{
    const vrd_cap_t *ends = arg;

    support_require(vrd_cap_close(ends[0]) == VRD_OK); /* close(fd[0]) */
    support_require(vrd_send(ends[1], "one", 3) == VRD_OK);
    support_require(vrd_send(ends[1], "two", 3) == VRD_OK);
    return 0;
}

static void test_from_pipe(void **state)
{
    vrd_cap_t ends[2];
    char data[16];

    (void)state;
    assert_int_equal(vrd_channel_create(16, &ends[1], &ends[0]), VRD_OK); /* pipe(fd) */
    const pid_t child = support_child(write_to_it, ends);
    assert_int_equal(vrd_cap_close(ends[1]), VRD_OK); /* close(fd[1]) */

    /* Messages keep their bounds, other than bytes in a pipe. */
    assert_int_equal(vrd_receive(ends[0], data, sizeof data), 3);
    assert_memory_equal(data, "one", 3);
    assert_int_equal(vrd_receive(ends[0], data, sizeof data), 3);
    assert_memory_equal(data, "two", 3);
    assert_int_equal(vrd_receive(ends[0], data, sizeof data), VRD_ERR_PEER_GONE); /* read() == 0 */
    assert_int_equal(vrd_cap_close(ends[0]), VRD_OK);
    support_wait_exit(child, 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_from_pipe),
                     { 0 },
                 },
             .warm_up = guide_warm_up)
