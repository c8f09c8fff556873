/* SPDX-License-Identifier: MIT */
/* A link as the receiver has it: from HELLO to its end, and the refusals. */
#include "unit/object/ports.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "object/control.h"
#include "object/link.h"
#include "object/reactor.h"
#include "object/source.h"
#include "os/fd.h"
#include "os/process.h"

static struct port *port;
static vrd_cap_t cap;

static int setup(void **state)
{
    (void)state;
    port = port_receiver(8, 1000, &cap);
    port_hold(port, cap);
    control_lock();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    control_unlock();
    port_close(port);
    return 0;
}

/* A HELLO as it arrives, and what its sender keeps. */
struct hello {
    struct frame frame;
    struct datagram datagram;
    struct segment segment;
    int tether;
};

static void hello_init(struct hello *hello, uint32_t slots)
{
    int pair[2];

    memset(hello, 0, sizeof *hello);
    hello->frame = (struct frame){ .type = FRAME_HELLO, .slots = slots, .max_message = 1000 };
    hello->datagram.pid = getpid();
    hello->datagram.uid = 12;
    hello->datagram.gid = 13;
    hello->datagram.pidfd = -1;
    hello->datagram.n_fds = 2;
    support_require_equal(socket_pair(pair), 0);
    hello->tether = pair[0];
    hello->datagram.fds[0] = pair[1];
    support_require_equal(segment_create(layout_sender_size(ring_slots(slots)), &hello->segment,
                                         &hello->datagram.fds[1]),
                          0);
}

static void hello_deinit(struct hello *hello)
{
    datagram_deinit(&hello->datagram);
    segment_unmap(&hello->segment);
    fd_close(&hello->tether);
}

/* As if it had come over the root. */
static struct link *hello_answer(struct hello *hello)
{
    struct source over = { .kind = SOURCE_ROOT, .right = &port->receiver.tree };

    return link_new(port, &hello->frame, &hello->datagram, &over);
}

static struct link *link_of(struct hello *hello)
{
    struct link *link = hello_answer(hello);

    support_require(link != NULL);
    return link;
}

/* The receiver's segment, from the WELCOME. */
static struct segment welcome(const struct hello *hello)
{
    datagram_auto datagram = { .pidfd = -1 };
    struct segment answer;

    frame_get(hello->tether, FRAME_WELCOME, &datagram);
    support_require_equal(datagram.n_fds, 1);
    support_require_equal(segment_import(datagram.fds[0], LAYOUT_RECEIVER_SIZE, &answer), 0);
    return answer;
}

static void a_hello_is_welcomed(void **state)
{
    struct hello hello;
    struct link *link;
    struct segment answer;

    (void)state;
    for (uint32_t slots = 1; slots <= 8; slots++) {
        hello_init(&hello, slots);
        link = link_of(&hello);
        answer = welcome(&hello);
        assert_int_equal(link->source.pid, getpid());
        assert_int_equal(link->source.uid, 12);
        assert_int_equal(link->source.gid, 13);
        assert_int_equal(link->ring.mask, ring_slots(slots) - 1);
        assert_int_equal(link->ring.max_message, 1000);
        assert_ptr_equal(link->tether->right, &port->receiver.tree);
        assert_ptr_equal(link->tether->link, link);
        assert_true(link->tether->watched);
        assert_null(link->life.life); /* nobody watches himself */
        assert_false(link->ended);
        link_free(link, NOTICE_CLOSED, false);
        segment_unmap(&answer);
        hello_deinit(&hello);
    }
}

static void messages_pass(void **state)
{
    struct hello hello;
    struct link *link;
    struct segment answer;
    struct ring_writer w;
    char data[60] = "abc", got[60];
    struct ring_message in = { .data = got };
    uint64_t word;

    (void)state;
    hello_init(&hello, 8);
    link = link_of(&hello);
    answer = welcome(&hello);
    ring_writer_init(&w, hello.segment, 8);
    hello.segment = (struct segment){ 0 };
    ring_writer_answered(&w, answer.addr);
    for (int i = 0; i < 100; i++) {
        const struct ring_message out = { .data = data, .len = sizeof data };

        assert_int_equal(ring_write(&w, &out), 0);
        assert_int_equal(ring_peek(&link->ring, &word), RING_READY);
        assert_int_equal(ring_read(&link->ring, word, &in, sizeof got), 0);
        assert_memory_equal(data, got, sizeof data);
    }
    link_free(link, NOTICE_CLOSED, false);
    ring_writer_deinit(&w);
    segment_unmap(&answer);
    hello_deinit(&hello);
}

static void the_end_says_why(void **state)
{
    static const enum notice_cause causes[] = { NOTICE_CLOSED, NOTICE_REVOKED, NOTICE_CORRUPT };
    struct hello hello;

    (void)state;
    for (int i = 0; i < 3; i++) {
        datagram_auto datagram = { .pidfd = -1 };
        const struct receiver_segment *seen;
        struct segment answer;
        struct link *link;

        hello_init(&hello, 8);
        link = link_of(&hello);
        answer = welcome(&hello);
        seen = answer.addr;
        assert_int_equal(seen->notice >> 32 & 0xff, NOTICE_NONE);
        link_free(link, causes[i], false);
        assert_int_equal(seen->notice >> 32 & 0xff, causes[i]);
        frame_get(hello.tether, FRAME_CLOSE, &datagram);
        assert_true(socket_ended(hello.tether));
        segment_unmap(&answer);
        hello_deinit(&hello);
    }
}

static void the_tether_may_outlive_the_link(void **state)
{
    struct hello hello;
    struct link *link;
    struct source *tether;

    (void)state;
    hello_init(&hello, 8);
    link = link_of(&hello);
    tether = link->tether;
    link_free(link, NOTICE_CLOSED, true);
    assert_null(tether->link);
    assert_false(socket_ended(hello.tether)); /* its WELCOME and CLOSE are unread, too */
    source_free(&tether);
    hello_deinit(&hello);
}

/* --- refusals ------------------------------------------------------------------------------------------ */

/* And nothing is left: the leak check of the test sees to it. */
static void refuse(struct hello *hello)
{
    assert_null(hello_answer(hello));
    hello_deinit(hello);
}

static void a_tether_must_be_a_socket(void **state)
{
    struct hello hello;
    int pipes[2];

    (void)state;
    for (int end = 0; end < 2; end++) {
        hello_init(&hello, 4);
        fd_close(&hello.datagram.fds[0]);
        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        hello.datagram.fds[0] = pipes[end];
        close(pipes[1 - end]);
        refuse(&hello);
    }
}

static void a_segment_must_fit_the_geometry(void **state)
{
    struct hello hello;

    (void)state;
    hello_init(&hello, 4);
    hello.frame.slots = 64; /* more than the segment has room for */
    refuse(&hello);
    hello_init(&hello, 64);
    hello.frame.slots = 4; /* less: also a lie */
    refuse(&hello);
    hello_init(&hello, 4);
    fd_close(&hello.datagram.fds[1]);
    hello.datagram.fds[1] = memfd_create("unit", MFD_CLOEXEC);
    assert_int_equal(ftruncate(hello.datagram.fds[1], 4096), 0);
    refuse(&hello);
}

static void a_tether_that_is_shut_is_drained(void **state)
{
    struct hello hello;
    struct link *link;

    (void)state;
    hello_init(&hello, 4);
    fd_close(&hello.tether); /* sent and gone */
    link = link_of(&hello);
    assert_true(link->ended);
    link_free(link, NOTICE_CLOSED, false);
    hello_deinit(&hello);
}

static int child_ends(void *arg)
{
    (void)arg;
    return 0;
}

static void a_sender_that_is_dead_is_drained(void **state)
{
    struct hello hello;
    struct link *link;
    pid_t child;

    (void)state;
    control_unlock();
    child = support_child(child_ends, NULL);
    support_wait_exit(child, 0);
    control_lock();
    hello_init(&hello, 4);
    hello.datagram.pid = child;
    link = link_of(&hello);
    assert_true(link->ended);
    assert_null(link->life.life);
    link_free(link, NOTICE_CLOSED, false);
    hello_deinit(&hello);
}

static int child_stays(void *arg)
{
    support_gate_wait(arg);
    return 0;
}

static void the_exit_of_a_living_sender_is_watched(void **state)
{
    struct support_gate gate;
    struct hello hello;
    struct link *link;
    pid_t child;

    (void)state;
    support_gate_init(&gate);
    control_unlock();
    child = support_child(child_stays, &gate);
    control_lock();
    hello_init(&hello, 4);
    hello.datagram.pid = child;
    link = link_of(&hello);
    assert_false(link->ended);
    assert_non_null(link->life.life);
    assert_false(life_over(&link->life));
    link_free(link, NOTICE_CLOSED, false);
    hello_deinit(&hello);
    support_gate_open(&gate);
    support_wait_exit(child, 0);
    support_gate_deinit(&gate);
}

/* Another process, until the gate opens. */
static pid_t child_new(struct support_gate *gate)
{
    pid_t child;

    support_gate_init(gate);
    control_unlock();
    child = support_child(child_stays, gate);
    control_lock();
    return child;
}

static void child_end(pid_t child, struct support_gate *gate)
{
    support_gate_open(gate);
    support_wait_exit(child, 0);
    support_gate_deinit(gate);
}

static struct link *link_with(struct hello *hello, pid_t pid, int pidfd)
{
    hello_init(hello, 4);
    hello->datagram.pid = pid;
    hello->datagram.pidfd = pidfd;
    return link_of(hello);
}

static void see_who_ended(void)
{
    control_unlock();
    reactor_poll();
    control_lock();
}

#define SHARED 5

static void links_with_one_process_share_its_descriptor(void **state)
{
    struct hello hello[SHARED];
    struct link *links[SHARED];
    struct support_gate gate;
    pid_t child = child_new(&gate);
    size_t fds = 0;

    (void)state;
    for (int i = 0; i < SHARED; i++) {
        links[i] = link_with(&hello[i], child, i % 2 ? process_open(child) : -1);
        if (i == 0)
            fds = support_count_fds();
        assert_ptr_equal(links[i]->life.life, links[0]->life.life);
    }
    /* a tether with both its ends here */
    assert_int_equal(support_count_fds(), fds + (SHARED - 1) * 2);
    link_free(links[0], NOTICE_CLOSED, false); /* who came first may go first */
    see_who_ended();
    assert_false(links[1]->ended);
    child_end(child, &gate);
    see_who_ended();
    for (int i = 1; i < SHARED; i++) {
        assert_true(links[i]->ended);
        assert_null(links[i]->life.life);
        link_free(links[i], NOTICE_CLOSED, false);
    }
    for (int i = 0; i < SHARED; i++)
        hello_deinit(&hello[i]);
}

/* Processes that are not there at the same time may have the same number. */
static void a_number_used_again_is_another_process(void **state)
{
    struct hello hello[3];
    struct link *first, *dead, *next;
    struct support_gate gates[3];
    pid_t children[3];
    int pidfds[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        children[i] = child_new(&gates[i]);
        pidfds[i] = process_open(children[i]);
        support_require(pidfds[i] >= 0);
    }
    first = link_with(&hello[0], children[0], pidfds[0]);
    child_end(children[1], &gates[1]);
    dead = link_with(&hello[1], children[0], pidfds[1]);
    assert_ptr_not_equal(dead->life.life, first->life.life);
    child_end(children[0], &gates[0]);
    next = link_with(&hello[2], children[0], pidfds[2]);
    assert_ptr_not_equal(next->life.life, first->life.life);
    assert_ptr_not_equal(next->life.life, dead->life.life);
    see_who_ended();
    assert_true(first->ended);
    assert_true(dead->ended);
    assert_false(next->ended);
    child_end(children[2], &gates[2]);
    see_who_ended();
    assert_true(next->ended);
    link_free(first, NOTICE_CLOSED, false);
    link_free(dead, NOTICE_CLOSED, false);
    link_free(next, NOTICE_CLOSED, false);
    for (int i = 0; i < 3; i++)
        hello_deinit(&hello[i]);
}

/* --- byte rings ------------------------------------------------------------------------------------------- */

static int attach(struct link *link, uint32_t number, uint64_t bytes, uint64_t said)
{
    const struct frame frame = { .type = FRAME_ATTACH, .extension = number, .bytes = said };
    struct segment own;
    int fd, r;

    support_require_equal(segment_create(bytes, &own, &fd), 0);
    segment_unmap(&own);
    r = link_attach(link, &frame, fd);
    close(fd);
    return r;
}

static void byte_rings_wait_to_be_adopted(void **state)
{
    struct hello hello;
    struct link *link;

    (void)state;
    hello_init(&hello, 4);
    link = link_of(&hello);
    assert_int_equal(attach(link, 1, 4096, 8192), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(attach(link, 1, 8192, 4096), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(link->n_inbox, 0);
    for (uint32_t i = 1; i <= RING_EXTENSIONS_MAX; i++)
        assert_int_equal(attach(link, i, 4096, 4096), 0);
    assert_int_equal(attach(link, RING_EXTENSIONS_MAX + 1, 4096, 4096), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(link_adopt(link), 0);
    assert_int_equal(link->n_inbox, 0);
    assert_int_equal(link_adopt(link), 0); /* of none */
    assert_int_equal(attach(link, RING_EXTENSIONS_MAX + 1, 4096, 4096), 0);
    assert_int_equal(link_adopt(link), VRD_ERR_PEER_CORRUPT); /* none has been used yet */
    assert_int_equal(link->n_inbox, 0);
    link_free(link, NOTICE_CLOSED, false);
    hello_deinit(&hello);
}

static void a_wrong_number_spoils_all_that_follow(void **state)
{
    struct hello hello;
    struct link *link;

    (void)state;
    hello_init(&hello, 4);
    link = link_of(&hello);
    assert_int_equal(attach(link, 1, 4096, 4096), 0);
    assert_int_equal(attach(link, 3, 4096, 4096), 0);
    assert_int_equal(attach(link, 2, 4096, 4096), 0);
    assert_int_equal(link_adopt(link), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(link->n_inbox, 0);
    assert_int_equal(attach(link, 7, 4096, 4096), 0); /* not adopted at all */
    link_free(link, NOTICE_CORRUPT, false);
    hello_deinit(&hello);
}

/* --- arming and ringing --------------------------------------------------------------------------------------- */

static void arming_names_the_position_and_is_counted_once(void **state)
{
    const struct receiver_segment *seen;
    struct segment answer;
    struct hello hello;
    struct link *link;

    (void)state;
    hello_init(&hello, 4);
    link = link_of(&hello);
    answer = welcome(&hello);
    seen = answer.addr;
    control_unlock();
    link_arm(link, RING_FUTEX);
    assert_int_equal(seen->notice, (uint64_t)RING_FUTEX << 40 | 1);
    assert_int_equal(link->tether->arms, 0); /* no byte comes for it */
    link_arm(link, RING_TETHER);
    link_arm(link, RING_TETHER);
    assert_int_equal(seen->notice, (uint64_t)RING_TETHER << 40 | 1);
    assert_int_equal(link->tether->arms, 1);
    link->ring.position = UINT32_MAX;
    link_arm(link, RING_TETHER);
    assert_int_equal(seen->notice, (uint64_t)RING_TETHER << 40 | 0);
    assert_int_equal(link->tether->arms, 2);
    control_lock();
    link_free(link, NOTICE_CLOSED, false);
    segment_unmap(&answer);
    hello_deinit(&hello);
}

static void ringing_is_as_the_sender_wished(void **state)
{
    static const uint64_t wishes[] = { 0,
                                       (uint64_t)RING_NOT << 40 | 5,
                                       (uint64_t)RING_FUTEX << 40,
                                       UINT64_C(3) << 40,
                                       UINT64_C(255) << 40,
                                       UINT64_C(1) << 48 };
    datagram_auto datagram = { .pidfd = -1 };
    struct segment answer;
    struct hello hello;
    struct link *link;

    (void)state;
    hello_init(&hello, 4);
    link = link_of(&hello);
    answer = welcome(&hello);
    control_unlock();
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++)
        link_ring(link, wishes[i]);
    assert_int_equal(socket_receive(hello.tether, &datagram), -EAGAIN);
    link_ring(link, (uint64_t)RING_TETHER << 40 | 77);
    assert_int_equal(socket_receive(hello.tether, &datagram), 1);
    assert_int_equal(datagram.len, 1);
    assert_int_equal(datagram.n_fds, 0);
    control_lock();
    link_free(link, NOTICE_CLOSED, false);
    segment_unmap(&answer);
    hello_deinit(&hello);
}

#define LINK_TEST(fn) SUPPORT_TEST_FIXTURE(fn, setup, teardown)

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     LINK_TEST(a_hello_is_welcomed),
                     LINK_TEST(messages_pass),
                     LINK_TEST(the_end_says_why),
                     LINK_TEST(the_tether_may_outlive_the_link),
                     LINK_TEST(a_tether_must_be_a_socket),
                     LINK_TEST(a_segment_must_fit_the_geometry),
                     LINK_TEST(a_tether_that_is_shut_is_drained),
                     LINK_TEST(a_sender_that_is_dead_is_drained),
                     LINK_TEST(the_exit_of_a_living_sender_is_watched),
                     LINK_TEST(links_with_one_process_share_its_descriptor),
                     LINK_TEST(a_number_used_again_is_another_process),
                     LINK_TEST(byte_rings_wait_to_be_adopted),
                     LINK_TEST(a_wrong_number_spoils_all_that_follow),
                     LINK_TEST(arming_names_the_position_and_is_counted_once),
                     LINK_TEST(ringing_is_as_the_sender_wished),
                     { 0 },
                 },
             .warm_up = ports_warm_up)
