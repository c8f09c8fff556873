/* SPDX-License-Identifier: MIT */
/* Datagrams with descriptors and credentials; the end, and what is not the end. */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "os/fd.h"
#include "os/socket.h"

struct ends {
    int near, far;
};

static struct ends ends_new(void)
{
    int fds[2];

    support_require_equal(socket_pair(fds), 0);
    return (struct ends){ fds[0], fds[1] };
}

static void ends_close(struct ends *ends)
{
    fd_close(&ends->near);
    fd_close(&ends->far);
}

static void send_ok(int fd, const void *data, size_t len)
{
    support_require_equal(socket_send(fd, data, len, NULL, 0), 0);
}

static void pairs_are_close_on_exec_and_ask_who(void **state)
{
    struct ends ends = ends_new();
    const int fds[2] = { ends.near, ends.far };

    (void)state;
    for (int i = 0; i < 2; i++) {
        int value = 0;
        socklen_t len = sizeof value;

        assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
        assert_int_equal(getsockopt(fds[i], SOL_SOCKET, SO_PASSCRED, &value, &len), 0);
        assert_int_equal(value, 1);
        assert_int_equal(getsockopt(fds[i], SOL_SOCKET, SO_TYPE, &value, &len), 0);
        assert_int_equal(value, SOCK_SEQPACKET);
    }
    ends_close(&ends);
}

static void datagrams_come_whole_and_in_order(void **state)
{
    struct ends ends = ends_new();
    uint8_t data[SOCKET_DATA_MAX];

    (void)state;
    memset(data, 3, sizeof data);
    for (size_t len = 1; len <= SOCKET_DATA_MAX; len++) {
        datagram_auto datagram = { .pidfd = -1 };

        send_ok(ends.near, data, len);
        assert_int_equal(socket_receive(ends.far, &datagram), 1);
        assert_int_equal(datagram.len, len);
        assert_memory_equal(datagram.data, data, len);
        assert_int_equal(datagram.n_fds, 0);
    }
    send_ok(ends.near, "1", 1);
    send_ok(ends.near, "22", 2);
    for (size_t len = 1; len <= 2; len++) {
        datagram_auto datagram = { .pidfd = -1 };

        assert_int_equal(socket_receive(ends.far, &datagram), 1);
        assert_int_equal(datagram.len, len);
    }
    ends_close(&ends);
}

static void nothing_there_is_said_without_waiting(void **state)
{
    struct ends ends = ends_new();
    datagram_auto datagram = { .pidfd = -1 };

    (void)state;
    errno = 4711;
    assert_int_equal(socket_receive(ends.near, &datagram), -EAGAIN);
    assert_int_equal(errno, 4711);
    assert_false(socket_ended(ends.near));
    assert_int_equal(errno, 4711);
    ends_close(&ends);
}

static void a_full_queue_is_said_without_waiting(void **state)
{
    struct ends ends = ends_new();
    size_t sent = 0;
    int r;

    (void)state;
    errno = 4711;
    while ((r = socket_send(ends.near, "x", 1, NULL, 0)) == 0)
        sent++;
    assert_int_equal(r, -EAGAIN);
    assert_int_equal(errno, 4711);
    assert_true(sent > 0);
    for (size_t i = 0; i < sent; i++) {
        datagram_auto datagram = { .pidfd = -1 };

        assert_int_equal(socket_receive(ends.far, &datagram), 1);
    }
    send_ok(ends.near, "x", 1);
    ends_close(&ends);
}

/* --- who --------------------------------------------------------------------------------------------- */

static void expect_sender(struct datagram *datagram, pid_t pid)
{
    assert_int_equal(datagram->pid, pid);
    assert_int_equal(datagram->uid, getuid());
    assert_int_equal(datagram->gid, getgid());
    if (datagram->pidfd < 0)
        return; /* before Linux 6.5 */
    assert_int_equal(fcntl(datagram->pidfd, F_GETFD), FD_CLOEXEC);
}

static int child_sends(void *arg)
{
    const struct ends *ends = arg;

    send_ok(ends->near, "child", 5);
    return 0;
}

static void each_datagram_says_who_sent_it(void **state)
{
    struct ends ends = ends_new();
    pid_t child;

    (void)state;
    child = support_child(child_sends, &ends);
    support_wait_exit(child, 0);
    send_ok(ends.near, "parent", 6);
    for (int i = 0; i < 2; i++) {
        datagram_auto datagram = { .pidfd = -1 };

        assert_int_equal(socket_receive(ends.far, &datagram), 1);
        assert_int_equal(datagram.len, i == 0 ? 5 : 6);
        if (i == 1)
            expect_sender(&datagram, getpid());
        else if (datagram.pid != 0) /* the dead may have no number any more */
            assert_int_equal(datagram.pid, child);
    }
    ends_close(&ends);
}

static int child_sends_and_stays(void *arg)
{
    const struct ends *ends = arg;
    char byte;

    send_ok(ends->near, "child", 5);
    close(ends->near);
    return read(ends->near, &byte, 1) == -1 && pause() ? 0 : 1;
}

static void a_living_sender_is_known_by_its_pidfd(void **state)
{
    struct ends ends = ends_new();
    datagram_auto datagram = { .pidfd = -1 };
    pid_t child;

    (void)state;
    child = support_child(child_sends_and_stays, &ends);
    fd_wait(ends.far);
    assert_int_equal(socket_receive(ends.far, &datagram), 1);
    expect_sender(&datagram, child);
    if (datagram.pidfd >= 0)
        assert_false(fd_readable(datagram.pidfd));
    support_kill(child);
    if (datagram.pidfd >= 0)
        assert_true(fd_readable(datagram.pidfd));
    ends_close(&ends);
}

static void adopted_sockets_ask_who(void **state)
{
    datagram_auto datagram = { .pidfd = -1 };
    int fds[2];

    (void)state;
    support_socket_pair(fds);
    assert_int_equal(send(fds[0], "early", 5, 0), 5);
    assert_int_equal(socket_adopt(fds[1]), 0);
    send_ok(fds[0], "late", 4);
    assert_int_equal(socket_receive(fds[1], &datagram), 1);
    assert_int_equal(datagram.len, 5);
    assert_true(datagram.pid == 0 || datagram.pid == getpid()); /* kernels differ */
    datagram_deinit(&datagram);
    assert_int_equal(socket_receive(fds[1], &datagram), 1);
    assert_int_equal(datagram.pid, getpid());
    close(fds[0]);
    close(fds[1]);
}

static void other_descriptors_are_not_adopted(void **state)
{
    const int kinds[][3] = { { AF_UNIX, SOCK_STREAM, 0 },
                             { AF_UNIX, SOCK_DGRAM, 0 },
                             { AF_INET, SOCK_STREAM, 0 },
                             { AF_INET, SOCK_DGRAM, 0 } };
    int fds[2], fd;

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        fd = socket(kinds[i][0], kinds[i][1] | SOCK_CLOEXEC, kinds[i][2]);
        if (fd < 0)
            continue;
        assert_true(socket_adopt(fd) < 0);
        close(fd);
    }
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    assert_true(socket_adopt(fds[0]) < 0);
    close(fds[0]);
    close(fds[1]);
    assert_true(socket_adopt(-1) < 0);
    assert_true(socket_adopt(fds[0]) < 0);
}

/* --- descriptors ------------------------------------------------------------------------------------- */

/* n eventfds that hold the numbers 1 to n. */
static void eventfds_new(int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        fds[i] = eventfd((unsigned)i + 1, EFD_CLOEXEC | EFD_NONBLOCK);
        support_require(fds[i] >= 0);
    }
}

static void eventfds_close(const int *fds, size_t n)
{
    for (size_t i = 0; i < n; i++)
        support_require(close(fds[i]) == 0);
}

static void descriptors_come_in_order_and_close_on_exec(void **state)
{
    static const size_t counts[] = { 1, 2, 3, 100, SOCKET_FDS_MAX };
    struct ends ends = ends_new();

    (void)state;
    for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
        datagram_auto datagram = { .pidfd = -1 };
        int fds[SOCKET_FDS_MAX];
        eventfd_t value;

        eventfds_new(fds, counts[c]);
        assert_int_equal(socket_send(ends.near, "fds", 3, fds, counts[c]), 0);
        eventfds_close(fds, counts[c]);
        assert_int_equal(socket_receive(ends.far, &datagram), 1);
        assert_int_equal(datagram.len, 3);
        assert_int_equal(datagram.n_fds, counts[c]);
        assert_int_equal(datagram.pid, getpid());
        for (size_t i = 0; i < counts[c]; i++) {
            assert_int_equal(fcntl(datagram.fds[i], F_GETFD), FD_CLOEXEC);
            assert_int_equal(eventfd_read(datagram.fds[i], &value), 0);
            assert_int_equal(value, i + 1);
        }
    }
    ends_close(&ends);
}

static void a_taken_descriptor_is_not_closed(void **state)
{
    struct ends ends = ends_new();
    struct datagram datagram = { .pidfd = -1 };
    int fds[2], taken;

    (void)state;
    eventfds_new(fds, 2);
    assert_int_equal(socket_send(ends.near, "f", 1, fds, 2), 0);
    assert_int_equal(socket_receive(ends.far, &datagram), 1);
    taken = fd_take(&datagram.fds[0]);
    errno = 4711;
    datagram_deinit(&datagram);
    assert_int_equal(errno, 4711);
    assert_int_equal(datagram.n_fds, 0);
    assert_int_equal(datagram.pidfd, -1);
    datagram_deinit(&datagram); /* again and again */
    assert_true(fcntl(taken, F_GETFD) >= 0);
    close(taken);
    eventfds_close(fds, 2);
    ends_close(&ends);
}

static void too_long_is_taken_and_its_descriptors_closed(void **state)
{
    struct ends ends = ends_new();
    uint8_t data[SOCKET_DATA_MAX + 1] = { 0 };
    datagram_auto datagram = { .pidfd = -1 };
    size_t before;
    int fds[3];

    (void)state;
    eventfds_new(fds, 3);
    before = support_count_fds();
    assert_int_equal(socket_send(ends.near, data, sizeof data, fds, 3), 0);
    assert_int_equal(socket_receive(ends.far, &datagram), -EPROTO);
    datagram_deinit(&datagram);
    support_await_fds(before);
    assert_int_equal(socket_receive(ends.far, &datagram), -EAGAIN); /* it is gone */
    eventfds_close(fds, 3);
    ends_close(&ends);
}

static int child_without_room(void *arg)
{
    struct ends ends = ends_new();
    struct datagram datagram = { .pidfd = -1 };
    struct rlimit limit;
    size_t before;
    int fds[5], last;

    (void)arg;
    eventfds_new(fds, 5);
    support_require_equal(socket_send(ends.near, "f", 1, fds, 5), 0);
    send_ok(ends.near, "next", 4);
    last = dup(0);
    support_require(last >= 0);
    before = support_count_fds();
    support_require_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)last + 3; /* room for two of them */
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    support_require_equal(socket_receive(ends.far, &datagram), -EMFILE);
    datagram_deinit(&datagram);
    limit.rlim_cur = limit.rlim_max;
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    support_await_fds(before);
    support_require_equal(socket_receive(ends.far, &datagram), 1);
    support_require_equal(datagram.len, 4);
    datagram_deinit(&datagram);
    return 0;
}

static void without_room_for_descriptors_it_is_taken_and_said(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_without_room, NULL), 0);
}

/* --- the end ------------------------------------------------------------------------------------------ */

static void the_end_comes_after_what_was_sent(void **state)
{
    struct ends ends = ends_new();
    datagram_auto datagram = { .pidfd = -1 };

    (void)state;
    send_ok(ends.near, "last", 4);
    fd_close(&ends.near);
    assert_false(socket_ended(ends.far));
    assert_int_equal(socket_receive(ends.far, &datagram), 1);
    datagram_deinit(&datagram);
    assert_true(socket_ended(ends.far));
    assert_int_equal(socket_receive(ends.far, &datagram), 0);
    assert_int_equal(socket_receive(ends.far, &datagram), 0); /* for good */
    errno = 4711;
    assert_int_equal(socket_send(ends.far, "x", 1, NULL, 0), -EPIPE); /* and no signal */
    assert_int_equal(errno, 4711);
    ends_close(&ends);
}

/* Closed with something unread: what it had sent is still there, and then comes the end. */
static void the_end_also_comes_when_the_other_had_not_read_all(void **state)
{
    struct ends ends = ends_new();
    datagram_auto datagram = { .pidfd = -1 };

    (void)state;
    send_ok(ends.far, "never read", 10);
    send_ok(ends.near, "last", 4);
    fd_close(&ends.near);
    assert_int_equal(socket_receive(ends.far, &datagram), 1);
    assert_int_equal(datagram.len, 4);
    datagram_deinit(&datagram);
    assert_int_equal(socket_receive(ends.far, &datagram), 0);
    assert_true(socket_ended(ends.far));
    ends_close(&ends);
}

static void an_end_with_something_unread_is_seen_at_once(void **state)
{
    struct ends ends = ends_new();

    (void)state;
    send_ok(ends.far, "never read", 10);
    fd_close(&ends.near);
    assert_true(socket_ended(ends.far));
    assert_true(socket_ended(ends.far));
    ends_close(&ends);
}

/* None of us sends one: whoever does has ended the conversation. Its descriptors go. */
static void an_empty_datagram_is_an_end_too(void **state)
{
    struct ends ends = ends_new();
    datagram_auto datagram = { .pidfd = -1 };
    int fds[2];
    size_t before;

    (void)state;
    eventfds_new(fds, 2);
    before = support_count_fds();
    assert_int_equal(socket_send(ends.near, NULL, 0, fds, 2), 0);
    assert_int_equal(socket_receive(ends.far, &datagram), 0);
    datagram_deinit(&datagram);
    support_await_fds(before);
    assert_int_equal(socket_receive(ends.far, &datagram), -EAGAIN);
    eventfds_close(fds, 2);
    ends_close(&ends);
}

static void a_shutdown_ends_it_for_all_copies(void **state)
{
    struct ends ends = ends_new();
    datagram_auto datagram = { .pidfd = -1 };
    int copy = fcntl(ends.far, F_DUPFD_CLOEXEC, 0);

    (void)state;
    assert_true(copy >= 0);
    errno = 4711;
    socket_shutdown(ends.near);
    socket_shutdown(-1);
    assert_int_equal(errno, 4711);
    assert_true(socket_ended(ends.far));
    assert_true(socket_ended(copy));
    assert_true(socket_ended(ends.near));
    assert_int_equal(socket_receive(copy, &datagram), 0);
    assert_int_equal(socket_send(copy, "x", 1, NULL, 0), -EPIPE);
    assert_int_equal(socket_send(ends.near, "x", 1, NULL, 0), -EPIPE);
    close(copy);
    ends_close(&ends);
}

static int child_holds(void *arg)
{
    const struct ends *ends = arg;
    char byte;

    close(ends->far);
    return read(ends->near, &byte, 1) == 0 ? 0 : 1; /* until the parent has closed the other end */
}

static void a_copy_in_another_process_keeps_it_alive(void **state)
{
    struct ends ends = ends_new();
    pid_t child;

    (void)state;
    child = support_child(child_holds, &ends);
    fd_close(&ends.near);
    assert_false(socket_ended(ends.far));
    ends_close(&ends);
    support_wait_exit(child, 0);
}

static void bad_descriptors_are_errors(void **state)
{
    datagram_auto datagram = { .pidfd = -1 };

    (void)state;
    assert_int_equal(socket_receive(-1, &datagram), -EBADF);
    assert_int_equal(socket_send(-1, "x", 1, NULL, 0), -EBADF);
    assert_false(socket_ended(-1));
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(pairs_are_close_on_exec_and_ask_who),
                 SUPPORT_TEST(datagrams_come_whole_and_in_order),
                 SUPPORT_TEST(nothing_there_is_said_without_waiting),
                 SUPPORT_TEST(a_full_queue_is_said_without_waiting),
                 SUPPORT_TEST(each_datagram_says_who_sent_it),
                 SUPPORT_TEST(a_living_sender_is_known_by_its_pidfd),
                 SUPPORT_TEST(adopted_sockets_ask_who),
                 SUPPORT_TEST(other_descriptors_are_not_adopted),
                 SUPPORT_TEST(descriptors_come_in_order_and_close_on_exec),
                 SUPPORT_TEST(a_taken_descriptor_is_not_closed),
                 SUPPORT_TEST(too_long_is_taken_and_its_descriptors_closed),
                 SUPPORT_TEST(without_room_for_descriptors_it_is_taken_and_said),
                 SUPPORT_TEST(the_end_comes_after_what_was_sent),
                 SUPPORT_TEST(the_end_also_comes_when_the_other_had_not_read_all),
                 SUPPORT_TEST(an_end_with_something_unread_is_seen_at_once),
                 SUPPORT_TEST(an_empty_datagram_is_an_end_too),
                 SUPPORT_TEST(a_shutdown_ends_it_for_all_copies),
                 SUPPORT_TEST(a_copy_in_another_process_keeps_it_alive),
                 SUPPORT_TEST(bad_descriptors_are_errors),
                 { 0 },
             })
