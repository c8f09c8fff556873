/* SPDX-License-Identifier: MIT */
/* Capabilities: closing, what they tell, and invitations, good, bad and forged. */
#include "unit/api/ends.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cap/frame.h"
#include "os/fd.h"
#include "os/socket.h"

#define SENDER (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define RECEIVER (VRD_RIGHT_RECEIVE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)

static int export_ok(vrd_cap_t cap, uint32_t rights)
{
    int fd = -1;

    support_require_equal(vrd_cap_export(cap, rights, &fd), 0);
    support_require(fd >= 0);
    return fd;
}

static vrd_cap_t import_ok(int fd)
{
    vrd_cap_t cap = VRD_CAP_NONE;

    support_require_equal(vrd_cap_import(fd, &cap), 0);
    support_require(cap != VRD_CAP_NONE);
    return cap;
}

static void closing_is_for_once(void **state)
{
    struct ends ends = ends_new(4);
    vrd_cap_t caps[ENDS_NO_CAPS];

    (void)state;
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;)
        assert_int_equal(vrd_cap_close(caps[i]), VRD_ERR_INVALID_CAPABILITY);
    ends_close(&ends);
    assert_int_equal(vrd_cap_close(ends.send), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_cap_close(ends.receive), VRD_ERR_INVALID_CAPABILITY);
}

static void numbers_are_never_used_again(void **state)
{
    enum { N = 300 };
    vrd_cap_t seen[2 * N];

    (void)state;
    for (int i = 0; i < N; i++) {
        const struct ends ends = ends_new(1);

        seen[2 * i] = ends.send;
        seen[2 * i + 1] = ends.receive;
        ends_close(&ends);
    }
    for (int i = 0; i < 2 * N; i++)
        for (int k = 0; k < i; k++)
            assert_true(seen[i] != seen[k]);
}

/* --- info --------------------------------------------------------------------------------------------- */

static void info_tells_what_it_is(void **state)
{
    struct ends ends = ends_new_with(7, 1234);
    struct vrd_cap_info info;
    static const uint64_t zero[8];
    char byte;

    (void)state;
    for (int settled = 0; settled <= 1; settled++) {
        memset(&info, 0xee, sizeof info);
        assert_int_equal(vrd_cap_info(ends.send, &info), 0);
        assert_int_equal(info.kind, VRD_OBJECT_CHANNEL);
        assert_int_equal(info.rights, SENDER);
        assert_int_equal(info.badge, 0);
        assert_int_equal(info.slots, 7);
        assert_int_equal(info.max_message_size, 1234);
        assert_true(info.generation > 0);
        assert_int_equal(info.links, settled);
        assert_int_equal(info.owner, settled ? getpid() : 0);
        assert_memory_equal(info.reserved, zero, sizeof zero);

        memset(&info, 0xee, sizeof info);
        assert_int_equal(vrd_cap_info(ends.receive, &info), 0);
        assert_int_equal(info.kind, VRD_OBJECT_CHANNEL);
        assert_int_equal(info.rights, RECEIVER);
        assert_int_equal(info.slots, 7);
        assert_int_equal(info.max_message_size, 1234);
        assert_int_equal(info.links, settled);
        assert_int_equal(info.owner, getpid());
        ends_settle(&ends);
    }
    assert_int_equal(vrd_cap_close(ends.send), 0);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_cap_info(ends.receive, &info), 0);
    assert_int_equal(info.links, 0);
    assert_int_equal(vrd_cap_close(ends.receive), 0);
}

static void info_checks_its_arguments(void **state)
{
    struct ends ends = ends_new(4);
    struct vrd_cap_info info = { .slots = 4711 };
    vrd_cap_t caps[ENDS_NO_CAPS];

    (void)state;
    assert_int_equal(vrd_cap_info(ends.send, NULL), VRD_ERR_INVALID_ARGUMENT);
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;)
        assert_int_equal(vrd_cap_info(caps[i], &info), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(info.slots, 4711);
    ends_close(&ends);
}

/* --- export ------------------------------------------------------------------------------------------- */

static void export_checks_its_arguments(void **state)
{
    static const uint32_t bad[] = { 0,
                                    VRD_RIGHT_GRANT,
                                    VRD_RIGHT_REVOKE,
                                    VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE,
                                    VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE,
                                    16,
                                    VRD_RIGHT_SEND | 16,
                                    VRD_RIGHT_SEND | 0x80000000,
                                    UINT32_MAX };
    struct ends ends = ends_new(4);
    vrd_cap_t caps[ENDS_NO_CAPS];
    int fd = -7;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(vrd_cap_export(ends.send, bad[i], &fd), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(vrd_cap_export(ends.receive, bad[i], &fd), VRD_ERR_INVALID_ARGUMENT);
    }
    assert_int_equal(vrd_cap_export(ends.send, VRD_RIGHT_SEND, NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_cap_export(ends.send, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_cap_export(ends.receive, VRD_RIGHT_SEND, &fd), VRD_ERR_PERMISSION_DENIED);
    for (size_t i = ends_no_caps(&ends, caps); i-- > 0;)
        assert_int_equal(vrd_cap_export(caps[i], VRD_RIGHT_SEND, &fd), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(fd, -7);
    ends_close(&ends);
}

static void rights_only_become_fewer(void **state)
{
    struct ends ends = ends_new(4);
    struct vrd_cap_info info;
    int fd = -7;

    (void)state;
    for (uint32_t more = 0; more <= (VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE); more += VRD_RIGHT_GRANT) {
        const uint32_t rights = VRD_RIGHT_SEND | more;
        const vrd_cap_t cap = import_ok(export_ok(ends.send, rights));

        assert_int_equal(vrd_cap_info(cap, &info), 0);
        assert_int_equal(info.rights, rights);
        for (uint32_t k = 0; k <= (VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE); k += VRD_RIGHT_GRANT) {
            const uint32_t wish = VRD_RIGHT_SEND | k;

            if ((more & VRD_RIGHT_GRANT) == 0 || (wish & ~rights) != 0) {
                assert_int_equal(vrd_cap_export(cap, wish, &fd), VRD_ERR_PERMISSION_DENIED);
                continue;
            }
            const vrd_cap_t next = import_ok(export_ok(cap, wish));
            assert_int_equal(vrd_cap_info(next, &info), 0);
            assert_int_equal(info.rights, wish);
            assert_int_equal(vrd_cap_close(next), 0);
        }
        assert_int_equal(vrd_cap_close(cap), 0);
    }
    assert_int_equal(fd, -7);
    ends_close(&ends);
}

static void an_invitation_is_close_on_exec_and_carries_the_geometry(void **state)
{
    struct ends ends = ends_new_with(9, 777);
    struct vrd_cap_info info;
    const int fd = export_ok(ends.send, VRD_RIGHT_SEND);
    vrd_cap_t cap;
    char byte;

    (void)state;
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    cap = import_ok(fd);
    assert_int_equal(fcntl(fd, F_GETFD), -1); /* consumed */
    assert_int_equal(vrd_cap_info(cap, &info), 0);
    assert_int_equal(info.slots, 9);
    assert_int_equal(info.max_message_size, 777);
    for (int i = 0; i < 9; i++)
        assert_int_equal(vrd_send_async(cap, "x", 1), 0);
    assert_int_equal(vrd_send_async(cap, "x", 1), VRD_ERR_CHANNEL_FULL);
    for (int i = 0; i < 9; i++)
        assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(vrd_cap_close(cap), 0);
    ends_close(&ends);
}

static void an_invitation_works_once(void **state)
{
    struct ends ends = ends_new(4);
    const int fd = export_ok(ends.send, VRD_RIGHT_SEND);
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    vrd_cap_t first = import_ok(fd), second = VRD_CAP_NONE;
    char byte;
    int r;

    (void)state;
    assert_int_equal(vrd_send(first, "1", 1), 0);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    r = vrd_cap_import(copy, &second);
    if (r == 0) /* a refusal may come with the next operation */
        r = vrd_send(second, "2", 1);
    assert_int_equal(r, VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_receive_async(ends.receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    if (second != VRD_CAP_NONE)
        assert_int_equal(vrd_cap_close(second), 0);
    assert_int_equal(vrd_cap_close(first), 0);
    ends_close(&ends);
}

static void nobody_to_send_to_is_told(void **state)
{
    struct ends ends = ends_new(4);
    const int fd = export_ok(ends.send, VRD_RIGHT_SEND);
    vrd_cap_t cap = VRD_CAP_NONE;
    int invitation = -7, r;

    (void)state;
    assert_int_equal(vrd_cap_close(ends.receive), 0);
    assert_int_equal(vrd_cap_export(ends.send, VRD_RIGHT_SEND, &invitation), VRD_ERR_PEER_GONE);
    assert_int_equal(invitation, -7);
    r = vrd_cap_import(fd, &cap);
    if (r == 0) {
        r = vrd_send(cap, "x", 1);
        vrd_cap_close(cap);
    }
    assert_int_equal(r, VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_cap_close(ends.send), 0);
}

static void the_right_to_receive_moves(void **state)
{
    struct ends ends = ends_new_with(5, 99);
    struct vrd_cap_info info;
    vrd_cap_t moved;
    char byte;

    (void)state;
    moved = import_ok(export_ok(ends.receive, RECEIVER));
    assert_int_equal(vrd_cap_close(ends.receive), VRD_ERR_INVALID_CAPABILITY); /* closed by it */
    assert_int_equal(vrd_cap_info(moved, &info), 0);
    assert_int_equal(info.rights, RECEIVER);
    assert_int_equal(info.slots, 5);
    assert_int_equal(info.max_message_size, 99);
    ends.receive = moved;
    assert_int_equal(vrd_send(ends.send, "x", 1), 0);
    assert_int_equal(vrd_receive(moved, &byte, 1), 1);
    ends_close(&ends);
}

static void not_while_there_are_links(void **state)
{
    struct ends ends = ends_new(5);
    int fd = -7;

    (void)state;
    ends_settle(&ends);
    assert_int_equal(vrd_cap_export(ends.receive, VRD_RIGHT_RECEIVE, &fd), VRD_ERR_RESOURCE_BUSY);
    assert_int_equal(fd, -7);
    ends_settle(&ends); /* it is as it was */
    ends_close(&ends);
}

static void what_is_on_its_way_moves_too(void **state)
{
    struct ends ends = ends_new(5);
    const int invitation = export_ok(ends.send, VRD_RIGHT_SEND);
    vrd_cap_t sender;
    char byte;

    (void)state;
    assert_int_equal(vrd_send(ends.send, "a", 1), 0); /* a HELLO that nobody has read */
    ends.receive = import_ok(export_ok(ends.receive, VRD_RIGHT_RECEIVE));
    sender = import_ok(invitation);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(byte, 'a');
    assert_int_equal(vrd_send(sender, "b", 1), 0);
    assert_int_equal(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(byte, 'b');
    assert_int_equal(vrd_cap_close(sender), 0);
    ends_close(&ends);
}

static void an_invitation_to_receive_that_is_dropped_ends_the_channel(void **state)
{
    struct ends ends = ends_new(5);
    const int fd = export_ok(ends.receive, VRD_RIGHT_RECEIVE);

    (void)state;
    close(fd);
    assert_int_equal(vrd_send(ends.send, "x", 1), VRD_ERR_PEER_GONE);
    assert_int_equal(vrd_cap_close(ends.send), 0);
}

/* --- import ------------------------------------------------------------------------------------------- */

static void other_descriptors_are_refused_and_closed(void **state)
{
    vrd_cap_t cap = 4711;
    int fds[2];

    (void)state;
    assert_int_equal(vrd_cap_import(-1, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_cap_import(INT32_MAX, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vrd_cap_import(fds[i], &cap), VRD_ERR_INVALID_ARGUMENT);
        assert_int_equal(fcntl(fds[i], F_GETFD), -1);
    }
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
    assert_int_equal(vrd_cap_import(fds[0], &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    close(fds[1]);
    support_socket_pair(fds);
    assert_int_equal(vrd_cap_import(fds[0], NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(fcntl(fds[0], F_GETFD), -1);
    close(fds[1]);
    assert_int_equal(cap, 4711);
}

static void a_withdrawn_invitation_is_gone(void **state)
{
    vrd_cap_t cap = 4711;
    int fds[2];

    (void)state;
    support_socket_pair(fds);
    close(fds[1]);
    assert_int_equal(vrd_cap_import(fds[0], &cap), VRD_ERR_PEER_GONE);
    assert_int_equal(cap, 4711);
}

/* What an import makes of a socket on which these bytes and descriptors wait. */
static int import_of(const void *data, size_t len, const int *fds, size_t n_fds)
{
    vrd_cap_t cap = 4711;
    int pair[2], r;

    assert_int_equal(socket_pair(pair), 0);
    assert_int_equal(socket_send(pair[1], data, len, fds, n_fds), 0);
    r = vrd_cap_import(pair[0], &cap);
    assert_int_equal(fcntl(pair[0], F_GETFD), -1);
    if (r < 0)
        assert_int_equal(cap, 4711);
    else
        assert_int_equal(vrd_cap_close(cap), 0);
    close(pair[1]);
    return r;
}

static int import_of_frame(const struct frame *frame, const int *fds, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    return import_of(buf, sizeof buf, fds, n_fds);
}

static void forged_greetings_are_refused(void **state)
{
    static const uint32_t wrong_to_send[] = { VRD_RIGHT_GRANT, VRD_RIGHT_REVOKE, RECEIVER,
                                              VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE };
    static const uint32_t wrong_to_receive[] = { VRD_RIGHT_GRANT, SENDER,
                                                 VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE };
    struct frame frame = { .slots = 4, .max_message = 64, .rights = VRD_RIGHT_SEND };
    int pipes[2];

    (void)state;
    frame.type = FRAME_GREETING_SEND;
    assert_int_equal(import_of_frame(&frame, NULL, 0), 0); /* the counter-example */
    for (size_t i = 0; i < sizeof wrong_to_send / sizeof wrong_to_send[0]; i++) {
        frame.rights = wrong_to_send[i];
        assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
    }
    frame.type = FRAME_GREETING_RECEIVE;
    for (size_t i = 0; i < sizeof wrong_to_receive / sizeof wrong_to_receive[0]; i++) {
        frame.rights = wrong_to_receive[i];
        assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
    }
    for (int i = 0; i < 2; i++) { /* memory of a kind that there is not */
        frame.type = i == 0 ? FRAME_GREETING_SEND : FRAME_GREETING_RECEIVE;
        frame.rights = i == 0 ? VRD_RIGHT_SEND : VRD_RIGHT_RECEIVE;
        frame.extension = UINT32_C(4) << 16;
        assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
        frame.extension = UINT32_MAX;
        assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
    }
    frame.extension = 0;
    assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
    assert_int_equal(import_of_frame(&frame, pipes, 1), VRD_ERR_PEER_CORRUPT); /* no socket */
    assert_int_equal(import_of_frame(&frame, pipes, 2), VRD_ERR_PEER_CORRUPT); /* too many */
    frame.count = 1; /* which do not follow */
    assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
    frame.count = UINT32_MAX;
    assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
    frame = (struct frame){ .type = FRAME_CLOSE };
    assert_int_equal(import_of_frame(&frame, NULL, 0), VRD_ERR_PEER_CORRUPT);
    frame = (struct frame){ .type = FRAME_DERIVE, .rights = VRD_RIGHT_SEND };
    assert_int_equal(import_of_frame(&frame, pipes, 1), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(import_of("x", 1, NULL, 0), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(import_of("x", 1, pipes, 2), VRD_ERR_PEER_CORRUPT);
    uint8_t zeros[SOCKET_DATA_MAX + 10] = { 0 };
    assert_int_equal(import_of(zeros, FRAME_SIZE, NULL, 0), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(import_of(zeros, sizeof zeros, pipes, 2), VRD_ERR_PEER_CORRUPT);
    close(pipes[0]);
    close(pipes[1]);
}

/* Invitations that follow a greeting to receive: other frames, other descriptors, too many. */
static void forged_invitations_are_refused(void **state)
{
    struct frame greeting = { .type = FRAME_GREETING_RECEIVE,
                              .slots = 4,
                              .max_message = 64,
                              .rights = VRD_RIGHT_RECEIVE,
                              .count = 2 };
    struct frame follow = { .type = FRAME_INVITATIONS, .rights = VRD_RIGHT_SEND, .id = 1 };
    int others[3][2], fds[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(socket_pair(others[i]), 0);
        fds[i] = others[i][0];
    }
    for (int kind = 0; kind < 4; kind++) {
        uint8_t buf[FRAME_SIZE];
        vrd_cap_t cap = 4711;
        int pair[2], r, pipes[2];
        size_t n = 2;

        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        assert_int_equal(socket_pair(pair), 0);
        frame_encode(&greeting, buf);
        assert_int_equal(socket_send(pair[1], buf, sizeof buf, NULL, 0), 0);
        frame_encode(&follow, buf);
        if (kind == 1)
            n = 3; /* more than was said */
        if (kind == 2)
            n = 1; /* fewer */
        if (kind == 3)
            fds[1] = pipes[0]; /* no socket */
        assert_int_equal(socket_send(pair[1], buf, sizeof buf, fds, n), 0);
        r = vrd_cap_import(pair[0], &cap);
        assert_int_equal(r, kind == 0 ? 0 : VRD_ERR_PEER_CORRUPT);
        if (r == 0)
            assert_int_equal(vrd_cap_close(cap), 0);
        else
            assert_int_equal(cap, 4711);
        close(pair[1]);
        close(pipes[0]);
        close(pipes[1]);
    }
    for (int i = 0; i < 3; i++) {
        close(others[i][0]);
        close(others[i][1]);
    }
}

/* No limits are ours: a greeting may name the largest channel there is. */
static void extreme_greetings_are_survived(void **state)
{
    struct frame frame = { .type = FRAME_GREETING_SEND,
                           .slots = 1,
                           .max_message = PTRDIFF_MAX,
                           .rights = VRD_RIGHT_SEND };
    uint8_t buf[FRAME_SIZE], data[200] = { 0 };
    vrd_cap_t cap;
    int pair[2];

    (void)state;
    frame_encode(&frame, buf);
    assert_int_equal(socket_pair(pair), 0);
    assert_int_equal(socket_send(pair[1], buf, sizeof buf, NULL, 0), 0);
    cap = import_ok(pair[0]);
    assert_int_equal(vrd_send_async(cap, data, sizeof data), 0);
    assert_int_equal(vrd_send_async(cap, data, sizeof data), VRD_ERR_CHANNEL_FULL);
    assert_int_equal(vrd_cap_close(cap), 0);
    close(pair[1]);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(closing_is_for_once),
                     SUPPORT_TEST(numbers_are_never_used_again),
                     SUPPORT_TEST(info_tells_what_it_is),
                     SUPPORT_TEST(info_checks_its_arguments),
                     SUPPORT_TEST(export_checks_its_arguments),
                     SUPPORT_TEST(rights_only_become_fewer),
                     SUPPORT_TEST(an_invitation_is_close_on_exec_and_carries_the_geometry),
                     SUPPORT_TEST(an_invitation_works_once),
                     SUPPORT_TEST(nobody_to_send_to_is_told),
                     SUPPORT_TEST(the_right_to_receive_moves),
                     SUPPORT_TEST(not_while_there_are_links),
                     SUPPORT_TEST(what_is_on_its_way_moves_too),
                     SUPPORT_TEST(an_invitation_to_receive_that_is_dropped_ends_the_channel),
                     SUPPORT_TEST(other_descriptors_are_refused_and_closed),
                     SUPPORT_TEST(a_withdrawn_invitation_is_gone),
                     SUPPORT_TEST(forged_greetings_are_refused),
                     SUPPORT_TEST(forged_invitations_are_refused),
                     SUPPORT_TEST(extreme_greetings_are_survived),
                     { 0 },
                 },
             .warm_up = ends_warm_up)
