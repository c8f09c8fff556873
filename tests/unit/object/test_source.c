/* SPDX-License-Identifier: MIT */
/* Sources: descriptors by their numbers, and the draining of what waits on them. */
#include "unit/object/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "object/control.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/fd.h"

static struct port *port;
static vrd_cap_t cap;

static int setup(void **state)
{
    (void)state;
    port = port_receiver(4, 64, &cap);
    control_lock();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_unlock();
    port_hold_and_close(port, cap);
    return 0;
}

/* The other end of it. */
static struct source *source_on_pair(enum source_kind kind, int *ret_far)
{
    int pair[2];
    struct source *source;

    support_require_equal(socket_pair(pair), 0);
    source = source_new(port, kind, pair[0]);
    support_require(source != NULL);
    *ret_far = pair[1];
    return source;
}

static bool fd_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void a_source_owns_its_descriptor(void **state)
{
    int far, fd;
    struct source *source = source_on_pair(SOURCE_INVITATION, &far);

    (void)state;
    fd = source->fd;
    assert_int_equal(source->kind, SOURCE_INVITATION);
    assert_ptr_equal(source->port, port);
    assert_null(source->link);
    assert_false(source->watched);
    source_free(&source);
    assert_null(source);
    assert_false(fd_open(fd));
    assert_true(socket_ended(far));
    source_free(&source); /* of none */
    close(far);
}

static void taking_the_descriptor_leaves_it_open(void **state)
{
    int far, fd;
    struct source *source = source_on_pair(SOURCE_INVITATION, &far);

    (void)state;
    assert_int_equal(source_watch(source), 0);
    fd = source_take_fd(&source);
    assert_null(source);
    assert_true(fd_open(fd));
    assert_false(socket_ended(far));
    close(fd);
    close(far);
}

static void any_number_will_do(void **state)
{
    static const int numbers[] = { 63, 64, 65, 127, 128, 1000 };
    const int fd = eventfd(0, EFD_CLOEXEC);

    (void)state;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const int high = fcntl(fd, F_DUPFD_CLOEXEC, numbers[i]);
        struct source *source;

        assert_true(high >= numbers[i]);
        source = source_new(port, SOURCE_PEER, high);
        assert_non_null(source);
        assert_int_equal(source_watch(source), 0);
        assert_int_equal(source_watch(source), 0); /* again and again */
        source_free(&source);
        assert_false(fd_open(high));
    }
    close(fd);
}

static void what_cannot_be_watched_is_an_error(void **state)
{
    struct source *source =
        source_new(port, SOURCE_PEER, open("/proc/self/exe", O_RDONLY | O_CLOEXEC));

    (void)state;
    assert_non_null(source);
    assert_int_equal(source_watch(source), VRD_ERR_SYSTEM);
    assert_int_equal(errno, EPERM);
    assert_false(source->watched);
    source_free(&source);
}

static void forged_tokens_are_nobodys(void **state)
{
    int far;
    struct source *source = source_on_pair(SOURCE_INVITATION, &far);
    const uint64_t fd = (uint64_t)source->fd;
    uint64_t random = 9;

    (void)state;
    close(far);           /* whoever dispatches it frees it */
    reactor_dispatch(fd); /* no serial */
    reactor_dispatch((uint64_t)(source->serial + 1) << 32 | fd);
    reactor_dispatch((uint64_t)(source->serial - 1) << 32 | fd);
    reactor_dispatch((uint64_t)source->serial << 32 | UINT32_MAX);
    reactor_dispatch(0);
    reactor_dispatch(UINT64_MAX);
    for (int i = 0; i < 10000; i++)
        reactor_dispatch(random_next(&random));
    assert_true(fd_open((int)fd)); /* it is still there */
    source_free(&source);
}

/* --- draining ----------------------------------------------------------------------------------- */

static struct {
    size_t n;
    size_t n_fds;
    int result_at; /* from this one on ... */
    int result;    /* ... that */
} handled;

static int handle(struct source *source, struct datagram *datagram)
{
    (void)source;
    support_require(datagram->len > 0);
    handled.n_fds += datagram->n_fds;
    return handled.n++ >= (size_t)handled.result_at ? handled.result : 0;
}

static void handled_reset(void)
{
    memset(&handled, 0, sizeof handled);
    handled.result_at = INT32_MAX;
}

static void all_that_waits_is_handled(void **state)
{
    int far;
    struct source *source = source_on_pair(SOURCE_ROOT, &far);

    (void)state;
    handled_reset();
    assert_int_equal(source_drain(source, handle), 0);
    assert_true(source->drained);
    assert_int_equal(handled.n, 0);
    for (int i = 0; i < 10; i++)
        assert_int_equal(socket_send(far, "abc", 3, NULL, 0), 0);
    assert_int_equal(source_drain(source, handle), 0);
    assert_int_equal(handled.n, 10);
    assert_true(source->drained);
    source_free(&source);
    close(far);
}

static void one_sender_does_not_keep_it_for_ever(void **state)
{
    int far;
    struct source *source = source_on_pair(SOURCE_ROOT, &far);
    size_t sent = 0;

    (void)state;
    handled_reset();
    while (sent < 150 && socket_send(far, "abc", 3, NULL, 0) == 0)
        sent++;
    assert_true(sent > 64);
    assert_int_equal(source_drain(source, handle), 0);
    assert_false(source->drained);
    assert_true(handled.n < sent);
    while (!source->drained)
        assert_int_equal(source_drain(source, handle), 0);
    assert_int_equal(handled.n, sent);
    source_free(&source);
    close(far);
}

static void an_error_ends_it_there(void **state)
{
    int far;
    struct source *source = source_on_pair(SOURCE_ROOT, &far);

    (void)state;
    handled_reset();
    handled.result_at = 2;
    handled.result = VRD_ERR_PEER_CORRUPT;
    for (int i = 0; i < 5; i++)
        assert_int_equal(socket_send(far, "abc", 3, NULL, 0), 0);
    assert_int_equal(source_drain(source, handle), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(handled.n, 3);
    handled_reset();
    assert_int_equal(source_drain(source, handle), 0); /* the others are still there */
    assert_int_equal(handled.n, 2);
    source_free(&source);
    close(far);
}

static void the_end_is_told_after_what_was_sent(void **state)
{
    int far;
    struct source *source = source_on_pair(SOURCE_ROOT, &far);

    (void)state;
    handled_reset();
    assert_int_equal(socket_send(far, "abc", 3, NULL, 0), 0);
    close(far);
    assert_int_equal(source_drain(source, handle), VRD_ERR_PEER_GONE);
    assert_int_equal(handled.n, 1);
    assert_int_equal(source_drain(source, handle), VRD_ERR_PEER_GONE);
    assert_int_equal(handled.n, 1);
    source_free(&source);
}

static void too_long_is_corrupt(void **state)
{
    uint8_t data[SOCKET_DATA_MAX + 1] = { 1 };
    int far;
    struct source *source = source_on_pair(SOURCE_ROOT, &far);

    (void)state;
    handled_reset();
    assert_int_equal(socket_send(far, data, sizeof data, NULL, 0), 0);
    assert_int_equal(source_drain(source, handle), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(handled.n, 0);
    source_free(&source);
    close(far);
}

static void descriptors_that_nobody_takes_are_closed(void **state)
{
    int far, fds[3];
    struct source *source = source_on_pair(SOURCE_ROOT, &far);
    size_t before;

    (void)state;
    handled_reset();
    for (int i = 0; i < 3; i++)
        fds[i] = eventfd(0, EFD_CLOEXEC);
    before = support_count_fds();
    for (int i = 0; i < 4; i++)
        assert_int_equal(socket_send(far, "abc", 3, fds, 3), 0);
    assert_int_equal(source_drain(source, handle), 0);
    assert_int_equal(handled.n_fds, 12);
    support_await_fds(before);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    source_free(&source);
    close(far);
}

/* No room for a request's descriptors refuses the request; on a link it is the link's end. */
static int child_without_room(void *arg)
{
    const enum source_kind kind = *(const enum source_kind *)arg;
    struct source *source;
    struct rlimit limit;
    int far, fds[4], last, r;

    source = source_on_pair(kind, &far);
    for (int i = 0; i < 4; i++)
        fds[i] = eventfd(0, EFD_CLOEXEC);
    handled_reset();
    support_require_equal(socket_send(far, "abc", 3, fds, 4), 0);
    support_require_equal(socket_send(far, "next", 4, NULL, 0), 0);
    last = dup(0);
    support_require_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = (rlim_t)last + 2;
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    r = source_drain(source, handle);
    if (kind == SOURCE_LINK || kind == SOURCE_TETHER) {
        support_require_equal(r, VRD_ERR_OUT_OF_MEMORY);
        support_require_equal(handled.n, 0);
    } else {
        support_require_equal(r, 0);
        support_require_equal(handled.n, 1);
    }
    support_require_equal(handled.n_fds, 0);
    return 0;
}

static void without_room_for_descriptors(void **state)
{
    static const enum source_kind kinds[] = { SOURCE_ROOT, SOURCE_INVITATION, SOURCE_LINK,
                                              SOURCE_TETHER };

    (void)state;
    control_unlock(); /* a fork takes it */
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        support_wait_exit(support_child(child_without_room, (void *)(uintptr_t)&kinds[i]), 0);
    control_lock();
}

#define SOURCE_TEST(fn) SUPPORT_TEST_FIXTURE(fn, setup, teardown)

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SOURCE_TEST(a_source_owns_its_descriptor),
                     SOURCE_TEST(taking_the_descriptor_leaves_it_open),
                     SOURCE_TEST(any_number_will_do),
                     SOURCE_TEST(what_cannot_be_watched_is_an_error),
                     SOURCE_TEST(forged_tokens_are_nobodys),
                     SOURCE_TEST(all_that_waits_is_handled),
                     SOURCE_TEST(one_sender_does_not_keep_it_for_ever),
                     SOURCE_TEST(an_error_ends_it_there),
                     SOURCE_TEST(the_end_is_told_after_what_was_sent),
                     SOURCE_TEST(too_long_is_corrupt),
                     SOURCE_TEST(descriptors_that_nobody_takes_are_closed),
                     SOURCE_TEST(without_room_for_descriptors),
                     { 0 },
                 },
             .warm_up = ports_warm_up)
