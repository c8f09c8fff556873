/* SPDX-License-Identifier: MIT */
/*
 * Connecting to a publisher that lies, or says nothing: the caller has its answer in time, and nothing
 * is left of it. And visitors who say what only the owner's own guests may.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "cap/frame.h"
#include "link/layout.h"
#include "os/fd.h"
#include "os/segment.h"
#include "os/socket.h"
#include "support/support.h"

#define MILLISECOND INT64_C(1000000)
#define PATIENCE (20 * MILLISECOND)
#define SECONDS (1000 * MILLISECOND)

static struct sockaddr_un address_of(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    snprintf(address.sun_path, sizeof address.sun_path, "%s/%s", support_runtime_dir(), name);
    return address;
}

/* What a publisher says to whoever comes, and what it sends along. */
struct liar {
    int listener;
    uint8_t data[FRAME_SIZE + 8];
    size_t len;
    int fds[2];
    size_t n_fds;
    bool leaves; /* after that */
    int met;
};

static void liar_open(struct liar *liar)
{
    const struct sockaddr_un address = address_of("liar");

    *liar =
        (struct liar){ .listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), .met = -1 };
    support_require(liar->listener >= 0);
    support_require_equal(bind(liar->listener, (const struct sockaddr *)&address, sizeof address),
                          0);
    support_require_equal(listen(liar->listener, 1), 0);
}

static void liar_close(struct liar *liar)
{
    const struct sockaddr_un address = address_of("liar");

    fd_close(&liar->listener);
    fd_close(&liar->met);
    support_require_equal(unlink(address.sun_path), 0);
}

static void *liar_meet(void *arg)
{
    struct liar *liar = arg;

    liar->met = accept4(liar->listener, NULL, NULL, SOCK_CLOEXEC);
    support_require(liar->met >= 0);
    if (liar->len > 0)
        socket_send(liar->met, liar->data, liar->len, liar->fds, liar->n_fds);
    if (liar->leaves)
        fd_close(&liar->met);
    return NULL;
}

/* What somebody who connects is told, with that much time. */
static int connect_to(struct liar *liar, int64_t timeout_ns)
{
    vrd_cap_t cap = VRD_CAP_NONE;
    pthread_t thread;
    int result;

    support_require_equal(pthread_create(&thread, NULL, liar_meet, liar), 0);
    result = vrd_connect("liar", timeout_ns, &cap);
    support_require_equal(pthread_join(thread, NULL), 0);
    fd_close(&liar->met);
    if (result == 0)
        support_require_equal(vrd_cap_close(cap), 0);
    return result;
}

static void liar_says(struct liar *liar, const struct frame *frame)
{
    frame_encode(frame, liar->data);
    liar->len = FRAME_SIZE;
}

static struct frame greeting(void)
{
    return (struct frame){ .type = FRAME_GREETING_SEND,
                           .slots = 16,
                           .max_message = 4096,
                           .rights = VRD_RIGHT_SEND,
                           .object = VRD_OBJECT_CHANNEL };
}

static int names_warm_up(void)
{
    return support_warm_up_channel();
}

static void silence_lasts_no_longer_than_asked(void **state)
{
    struct liar liar;

    (void)state;
    liar_open(&liar);
    assert_int_equal(connect_to(&liar, PATIENCE), VRD_ERR_TIMEOUT);
    assert_int_equal(connect_to(&liar, 1), VRD_ERR_TIMEOUT);
    liar_close(&liar);
}

/* Neither who waits for room in a full backlog. */
static void nobody_accepts(void **state)
{
    struct liar liar;
    vrd_cap_t cap;

    (void)state;
    liar_open(&liar);
    for (int i = 0; i < 3; i++)
        assert_int_equal(vrd_connect("liar", PATIENCE, &cap), VRD_ERR_TIMEOUT);
    assert_int_equal(vrd_connect("liar", 0, &cap), VRD_ERR_ENDPOINT_BUSY);
    liar_close(&liar);
}

static void who_hangs_up_is_tried_again(void **state)
{
    struct liar liar;
    vrd_cap_t cap;

    (void)state;
    liar_open(&liar);
    liar.leaves = true;
    assert_int_equal(connect_to(&liar, 0), VRD_ERR_ENDPOINT_NOT_FOUND);
    assert_int_equal(connect_to(&liar, PATIENCE), VRD_ERR_TIMEOUT);
    assert_int_equal(vrd_connect("liar", 1, &cap), VRD_ERR_TIMEOUT);
    liar_close(&liar);
}

static void greetings_that_are_none(void **state)
{
    struct frame frame;
    struct liar liar;
    int pipes[2];

    (void)state;
    support_require_equal(pipe2(pipes, O_CLOEXEC), 0);
    liar_open(&liar);
    for (size_t len = 1; len <= sizeof liar.data; len++) { /* of nothing but ones */
        memset(liar.data, 1, sizeof liar.data);
        liar.len = len;
        assert_int_equal(connect_to(&liar, SECONDS), VRD_ERR_PEER_CORRUPT);
    }
    for (int type = 1; type <= FRAME_TYPE_MAX + 1; type++) {
        if (type == FRAME_GREETING_SEND || type == FRAME_CLOSE)
            continue;
        frame = greeting();
        frame.type = (enum frame_type)type;
        liar_says(&liar, &frame);
        assert_int_equal(connect_to(&liar, SECONDS), VRD_ERR_PEER_CORRUPT);
    }
    frame = greeting();
    liar_says(&liar, &frame);
    liar.fds[0] = pipes[0]; /* a greeting brings nothing */
    liar.fds[1] = pipes[1];
    liar.n_fds = 2;
    assert_int_equal(connect_to(&liar, SECONDS), VRD_ERR_PEER_CORRUPT);
    liar.n_fds = 0;
    frame.count = 2;
    liar_says(&liar, &frame);
    assert_int_equal(connect_to(&liar, SECONDS), VRD_ERR_PEER_CORRUPT);
    frame.count = 0;
    frame.rights = VRD_RIGHT_SEND | VRD_RIGHT_RECEIVE;
    liar_says(&liar, &frame);
    assert_int_equal(connect_to(&liar, SECONDS), VRD_ERR_PEER_CORRUPT);
    frame = (struct frame){ .type = FRAME_CLOSE, .cause = NOTICE_POLICY };
    liar_says(&liar, &frame);
    assert_int_equal(connect_to(&liar, SECONDS), VRD_ERR_PERMISSION_DENIED);
    liar_close(&liar);
    close(pipes[0]);
    close(pipes[1]);
}

/* A good greeting, of either kind, and then nothing, or the end: what is connected finds out later. */
static void an_owner_that_never_answers(void **state)
{
    (void)state;
    for (uint32_t here = 0; here < 2; here++)
        for (int leaves = 0; leaves < 2; leaves++) {
            struct frame frame = greeting();
            struct liar liar;
            int result;

            frame.count = here;
            liar_open(&liar);
            liar.leaves = leaves;
            liar_says(&liar, &frame);
            result = connect_to(&liar, SECONDS);
            assert_true(result == 0 || (leaves && result == VRD_ERR_PEER_GONE) ||
                        (leaves && result == VRD_ERR_TIMEOUT));
            liar_close(&liar);
        }
}

/* The next frame that came over `fd`, of that type: what its last descriptor is. */
static uint64_t came(int fd, enum frame_type type)
{
    datagram_auto datagram = { .pidfd = -1 };
    struct frame frame;

    support_require(socket_receive(fd, &datagram) > 0);
    support_require_equal(frame_decode(datagram.data, datagram.len, datagram.n_fds, &frame), 0);
    support_require_equal(frame.type, type);
    return fd_identity(datagram.fds[datagram.n_fds - 1]);
}

/*
 * What was offered to a publisher before it had said that it is not the owner is nothing that the owner is
 * sent messages by: it could read along, and take the wake-ups.
 */
static void a_publisher_between_sees_nothing(void **state)
{
    const struct frame frame = greeting();
    pthread_t thread;
    struct liar liar;
    uint64_t offered;
    vrd_cap_t cap;

    (void)state;
    liar_open(&liar);
    liar_says(&liar, &frame);
    support_require_equal(pthread_create(&thread, NULL, liar_meet, &liar), 0);
    assert_int_equal(vrd_connect("liar", SECONDS, &cap), 0);
    support_require_equal(pthread_join(thread, NULL), 0);
    offered = came(liar.met, FRAME_HELLO_HERE);
    assert_int_not_equal(offered, 0);
    assert_int_not_equal(came(liar.met, FRAME_HELLO), offered);
    assert_int_equal(vrd_cap_close(cap), 0);
    liar_close(&liar);
}

/* --- the other way round ---------------------------------------------------------------------- */

/* The frame over `fd`, with a sender's segment (and a socket). */
static void say_hello(int fd, enum frame_type type, uint32_t slots)
{
    const struct frame frame = { .type = type, .slots = slots, .max_message = 64 };
    uint8_t buf[FRAME_SIZE];
    struct segment segment;
    int fds[2], pair[2];

    support_socket_pair(pair);
    fds[0] = pair[1];
    support_require_equal(segment_create(layout_sender_size(4), &segment, &fds[1]), 0);
    frame_encode(&frame, buf);
    if (type == FRAME_HELLO_HERE)
        socket_send(fd, buf, sizeof buf, &fds[1], 1);
    else
        socket_send(fd, buf, sizeof buf, fds, 2);
    segment_unmap(&segment);
    close(fds[0]);
    close(fds[1]);
    close(pair[0]);
}

/* Only a connection that the owner has accepted itself can be a tether; to think so once is no crime. */
static void an_invitation_is_no_tether(void **state)
{
    vrd_cap_t send, receive;
    char bytes[64];
    int fd;

    (void)state;
    assert_int_equal(vrd_channel_create(4, &send, &receive), 0);
    assert_int_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &fd), 0);
    say_hello(fd, FRAME_HELLO_HERE, 4);
    assert_int_equal(vrd_receive_timed(receive, bytes, sizeof bytes, PATIENCE), VRD_ERR_TIMEOUT);
    assert_false(socket_over(fd));
    say_hello(fd, FRAME_HELLO_HERE, 4);
    assert_int_equal(vrd_receive_timed(receive, bytes, sizeof bytes, PATIENCE), VRD_ERR_TIMEOUT);
    assert_true(socket_over(fd));
    close(fd);
    assert_int_equal(vrd_cap_close(send), 0);
    assert_int_equal(vrd_cap_close(receive), 0);
}

/* Says HELLO twice, or over-sized, or both ways, or leaves, or stays silent; others come as before. */
static void visitors_who_lie(void **state)
{
    enum { WAYS = 5 };
    vrd_cap_t send, receive, honest;
    char bytes[64];

    (void)state;
    support_runtime_dir();
    assert_int_equal(vrd_channel_create(4, &send, &receive), 0);
    assert_int_equal(vrd_publish(send, "honest", NULL), 0);
    assert_int_equal(vrd_receive_timed(receive, bytes, sizeof bytes, MILLISECOND), VRD_ERR_TIMEOUT);
    for (size_t i = 0; i < WAYS * support_iterations(20); i++) {
        const struct sockaddr_un address = address_of("honest");
        int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

        support_require_equal(connect(fd, (const struct sockaddr *)&address, sizeof address), 0);
        if (i % WAYS >= 1)
            say_hello(fd, FRAME_HELLO_HERE, i % WAYS == 2 ? 400 : 4);
        if (i % WAYS >= 3)
            say_hello(fd, i % WAYS == 3 ? FRAME_HELLO_HERE : FRAME_HELLO, 4);
        if (i % WAYS != 4) { /* its bad manners are not its last word */
            vrd_receive_timed(receive, bytes, sizeof bytes, MILLISECOND);
        }
        close(fd);
    }
    assert_int_equal(vrd_connect("honest", 20 * SECONDS, &honest), 0);
    assert_int_equal(vrd_send(honest, "yes", 3), 0);
    while (vrd_receive_timed(receive, bytes, sizeof bytes, 20 * SECONDS) != 3)
        ;
    assert_int_equal(vrd_cap_close(honest), 0);
    assert_int_equal(vrd_unpublish("honest"), 0);
    assert_int_equal(vrd_cap_close(send), 0);
    assert_int_equal(vrd_cap_close(receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(silence_lasts_no_longer_than_asked),
                     SUPPORT_TEST(nobody_accepts),
                     SUPPORT_TEST(who_hangs_up_is_tried_again),
                     SUPPORT_TEST(greetings_that_are_none),
                     SUPPORT_TEST(an_owner_that_never_answers),
                     SUPPORT_TEST(a_publisher_between_sees_nothing),
                     SUPPORT_TEST(an_invitation_is_no_tether),
                     SUPPORT_TEST(visitors_who_lie),
                     { 0 },
                 },
             .warm_up = names_warm_up)
