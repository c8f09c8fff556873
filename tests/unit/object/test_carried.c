/* SPDX-License-Identifier: MIT */
/* Capabilities that wait for their message: order, bounds, what may be one, and that none is left open. */
#include "object/carried.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>
#include <veridian/error.h>

#include "os/fd.h"
#include "os/socket.h"
#include "unit/unit.h"

static struct frame frame_of(uint64_t id)
{
    return (struct frame){ .type = FRAME_TRANSFER, .id = id };
}

/* With n near ends of fresh pairs; the far ones, which show what becomes of them, in `far`. */
static struct datagram datagram_of(int *far, size_t n)
{
    struct datagram datagram = { .n_fds = n, .pidfd = -1 };

    for (size_t i = 0; i < n; i++) {
        int pair[2];

        assert_int_equal(socket_pair(pair), 0);
        datagram.fds[i] = pair[0];
        far[i] = pair[1];
    }
    return datagram;
}

static int arrive(struct carried_queue *queue, uint64_t id, int *far, size_t n)
{
    datagram_auto datagram = datagram_of(far, n);
    const struct frame frame = frame_of(id);

    return carried_arrived(queue, &frame, &datagram);
}

static void expect_closed(int *far, size_t n, bool closed)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(socket_ended(far[i]), closed);
        if (closed)
            fd_close(&far[i]);
    }
}

static void taken_in_order_and_by_their_number(void **state)
{
    struct carried_queue queue;
    struct carried *carried;
    int far[3][4];

    (void)state;
    carried_queue_init(&queue);
    assert_null(carried_take(&queue, 1));
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(arrive(&queue, id, far[id - 1], id), 0);
    assert_null(carried_take(&queue, 0));
    assert_null(carried_take(&queue, 2));
    for (uint64_t id = 1; id <= 3; id++) {
        carried = carried_take(&queue, id);
        assert_non_null(carried);
        assert_int_equal(carried->n, id);
        assert_null(carried_take(&queue, id));
        expect_closed(far[id - 1], id, false);
        carried_free(&carried);
        assert_null(carried);
        expect_closed(far[id - 1], id, true);
    }
    assert_int_equal(queue.n, 0);
    carried_queue_deinit(&queue);
}

static void numbers_that_are_not_next(void **state)
{
    static const uint64_t wrong[] = { 0, 2, 3, UINT64_MAX };
    struct carried_queue queue;
    int far[4], kept[1];

    (void)state;
    carried_queue_init(&queue);
    for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(arrive(&queue, wrong[i], far, 2), VRD_ERR_PEER_CORRUPT);
        expect_closed(far, 2, true);
    }
    assert_int_equal(arrive(&queue, 1, kept, 1), 0);
    assert_int_equal(arrive(&queue, 1, far, 1), VRD_ERR_PEER_CORRUPT); /* replayed */
    expect_closed(far, 1, true);
    carried_queue_deinit(&queue);
    expect_closed(kept, 1, true);
}

static void no_more_than_may_wait(void **state)
{
    int far[CARRIED_MAX + 2];
    struct carried_queue queue;
    struct carried *carried;
    uint64_t id = 0;

    (void)state;
    carried_queue_init(&queue);
    for (int i = 0; i < CARRIED_MAX + 1; i++)
        assert_int_equal(arrive(&queue, ++id, &far[i], 1), 0);
    assert_int_equal(arrive(&queue, id + 1, &far[CARRIED_MAX + 1], 1), VRD_ERR_PEER_CORRUPT);
    expect_closed(&far[CARRIED_MAX + 1], 1, true);
    carried = carried_take(&queue, 1);
    carried_free(&carried);
    expect_closed(&far[0], 1, true);
    assert_int_equal(arrive(&queue, id + 1, &far[0], 1), 0);
    carried_queue_deinit(&queue);
    expect_closed(far, CARRIED_MAX + 1, true);
}

static int fd_open(int kind)
{
    int fds[2];

    switch (kind) {
    case 0:
        return socket(AF_UNIX, SOCK_SEQPACKET, 0); /* not connected */
    case 1:
        return socket(AF_INET, SOCK_STREAM, 0);
    case 2:
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        break;
    default:
        assert_int_equal(pipe(fds), 0);
        break;
    }
    close(fds[1]);
    return fds[0];
}

static void only_sockets_of_ours(void **state)
{
    struct carried_queue queue;

    (void)state;
    carried_queue_init(&queue);
    for (int kind = 0; kind < 4; kind++)
        for (size_t at = 0; at < 3; at++) {
            const struct frame frame = frame_of(1);
            int far[3];
            struct datagram datagram = datagram_of(far, 3);

            close(datagram.fds[at]);
            datagram.fds[at] = fd_open(kind);
            assert_int_equal(carried_arrived(&queue, &frame, &datagram), VRD_ERR_PEER_CORRUPT);
            assert_int_equal(queue.n, 0);
            datagram_deinit(&datagram);
            expect_closed(far, 3, true);
        }
    carried_queue_deinit(&queue);
}

/* In a forked child that has closed all descriptors, the numbers may be somebody else's. */
static void others_under_the_same_number(void **state)
{
    struct carried_queue queue;
    struct carried *carried;
    int far[2], other;

    (void)state;
    carried_queue_init(&queue);
    assert_int_equal(arrive(&queue, 1, far, 2), 0);
    carried = carried_take(&queue, 1);
    assert_non_null(carried);
    other = carried->fds[1];
    assert_int_equal(dup2(STDOUT_FILENO, other), other);
    carried_free(&carried);
    assert_true(fd_identity(other) != 0);
    close(other);
    expect_closed(far, 2, true);
    carried_queue_deinit(&queue);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(taken_in_order_and_by_their_number),
                 SUPPORT_TEST(numbers_that_are_not_next),
                 SUPPORT_TEST(no_more_than_may_wait),
                 SUPPORT_TEST(only_sockets_of_ours),
                 SUPPORT_TEST(others_under_the_same_number),
                 { 0 },
             });
