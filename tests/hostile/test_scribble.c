/* SPDX-License-Identifier: MIT */
/*
 * Processes that write random words over all that they can write, for as long as they live, beside
 * honest traffic on the same link. Whoever faces one neither crashes nor hangs nor lets others wait.
 *
 * ctest: no-tsan timeout=180
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "link/layout.h"
#include "peer.h"
#include "support/support.h"

#define SLOTS 16
#define MILLISECOND INT64_C(1000000)
#define HONEST_SENDERS 2
#define MARK UINT64_C(0x7261656863206f6e)
#define LARGE 1000

/* ---- scribbling ------------------------------------------------------------------------------------- */

/* Never returns. Random words, and words that are nearly right where the ring stands now. */
static void *scribble(void *arg)
{
    const struct mapping *own = arg;
    uint64_t *words = (uint64_t *)own->start;
    const size_t n = (own->end - own->start) / sizeof *words;
    uint64_t seed = UINT64_C(0x9e3779b97f4a7c15) * (uint64_t)getpid() | 1;

    while (true) {
        const uint64_t random = random_next(&seed);
        uint64_t *word = &words[random_next(&seed) % n];
        const uint64_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
        const uint64_t nearby[] = { random,       old + 1,   old ^ (UINT64_C(1) << (random % 64)),
                                    random % 64,  0,         old + 16,
                                    random << 32, UINT64_MAX };

        __atomic_store_n(word, nearby[random >> 61], __ATOMIC_RELAXED);
        if (random % 256 == 0) /* leave the honest part a chance to come along */
            for (volatile int pause = 0; pause < 20000; pause++)
                ;
    }
    return NULL;
}

/* Over a second mapping of the same pages, which the library does not take away with its own. */
static void scribble_start(size_t size)
{
    static struct mapping own;
    pthread_t thread;
    void *again;

    own = mapping_own(size);
    again = mremap((void *)own.start, 0, size, MREMAP_MAYMOVE);
    support_require(again != MAP_FAILED);
    own.start = (uintptr_t)again;
    own.end = own.start + size;
    support_require(pthread_create(&thread, NULL, scribble, &own) == 0);
}

static int dies_with_parent(void)
{
    return prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* ---- a sender that scribbles ---------------------------------------------------------------------------- */

struct channel {
    vrd_cap_t send, receive;
    size_t messages;
};

/* One life: until the receiver has cut the link. */
static int scribbler_life(void *arg)
{
    struct channel *channel = arg;
    static uint8_t data[LARGE];
    int result;

    support_require(dies_with_parent() == 0);
    support_require_equal(vrd_send(channel->send, data, 8), 0);
    scribble_start(layout_sender_size(SLOTS));
    do {
        result = vrd_send_timed(channel->send, data, sizeof data, MILLISECOND);
        if (result == 0)
            result = vrd_send_timed(channel->send, data, 8, MILLISECOND);
    } while (result == 0 || result == VRD_ERR_TIMEOUT);
    support_require(result == VRD_ERR_PEER_CORRUPT || result == VRD_ERR_PEER_GONE);
    return 0;
}

static int scribbler_run(void *arg)
{
    struct channel *channel = arg;

    support_require(dies_with_parent() == 0);
    support_require_equal(vrd_cap_close(channel->receive), 0);
    while (true) /* forever */
        support_wait_exit(support_child(scribbler_life, channel), 0);
    return 0;
}

/* Mark, number of the sender, number of the message; every eighth one is large. */
struct honest {
    uint64_t mark, sender, number;
    uint8_t rest[LARGE];
};

static size_t honest_len(uint64_t number)
{
    return number % 8 == 0 ? sizeof(struct honest) : offsetof(struct honest, rest);
}

static int honest_run(struct channel *channel, uint64_t sender)
{
    static struct honest message = { .mark = MARK };

    support_require_equal(vrd_cap_close(channel->receive), 0);
    message.sender = sender;
    for (message.number = 0; message.number < channel->messages; message.number++) {
        memset(message.rest, (uint8_t)message.number, sizeof message.rest);
        support_require_equal(vrd_send(channel->send, &message, honest_len(message.number)), 0);
    }
    return 0;
}

static int honest_first(void *arg)
{
    return honest_run(arg, 0);
}

static int honest_second(void *arg)
{
    return honest_run(arg, 1);
}

static bool honest_take(const struct honest *message, size_t len, uint64_t numbers[HONEST_SENDERS])
{
    if (len < offsetof(struct honest, rest) || message->mark != MARK)
        return false;
    support_require(message->sender < HONEST_SENDERS);
    support_require_equal(message->number, numbers[message->sender]);
    support_require_equal(len, honest_len(message->number));
    for (size_t i = offsetof(struct honest, rest); i < len; i++)
        support_require(((const uint8_t *)message)[i] == (uint8_t)message->number);
    numbers[message->sender]++;
    return true;
}

/* What the receiver saw of the scribblers. */
struct seen {
    size_t strange, corrupt;
};

static void receive_all_honest(const struct channel *channel, struct seen *seen)
{
    static struct honest message;
    uint64_t numbers[HONEST_SENDERS] = { 0 };

    while (numbers[0] < channel->messages || numbers[1] < channel->messages) {
        const ssize_t len = vrd_receive(channel->receive, &message, sizeof message);

        if (len == VRD_ERR_PEER_CORRUPT)
            seen->corrupt++;
        else if (len == VRD_ERR_MESSAGE_TOO_LARGE)
            vrd_discard(channel->receive);
        else if (len < 0)
            support_fail(__FILE__, __LINE__, "receive: %s", vrd_strerror((int)len));
        else if (!honest_take(&message, (size_t)len, numbers))
            seen->strange++;
    }
}

static void test_senders_that_scribble(void **state)
{
    struct channel channel = { .messages = support_iterations(200000) };
    struct seen seen = { 0 };
    pid_t scribbler[2], honest[HONEST_SENDERS];

    (void)state;
    assert_int_equal(vrd_channel_create(SLOTS, &channel.send, &channel.receive), 0);
    for (int i = 0; i < 2; i++)
        scribbler[i] = support_child(scribbler_run, &channel);
    while (seen.corrupt == 0) { /* they are at work */
        uint8_t buf[2 * LARGE];

        seen.corrupt += vrd_receive(channel.receive, buf, sizeof buf) == VRD_ERR_PEER_CORRUPT;
    }
    honest[0] = support_child(honest_first, &channel);
    honest[1] = support_child(honest_second, &channel);
    receive_all_honest(&channel, &seen);
    print_message("%zu links cut, %zu strange messages\n", seen.corrupt, seen.strange);
    for (int i = 0; i < HONEST_SENDERS; i++)
        support_wait_exit(honest[i], 0);
    for (int i = 0; i < 2; i++)
        support_kill(scribbler[i]);

    assert_int_equal(vrd_cap_close(channel.send), 0);
    while (true) { /* what is left of them, to the end */
        uint8_t buf[2 * LARGE];
        const ssize_t len = vrd_receive(channel.receive, buf, sizeof buf);

        if (len == VRD_ERR_PEER_GONE)
            break;
        assert_true(len >= 0 || len == VRD_ERR_PEER_CORRUPT);
    }
    assert_int_equal(vrd_cap_close(channel.receive), 0);
}

/* ---- an owner that scribbles ------------------------------------------------------------------------------ */

static int owner_run(void *arg)
{
    struct channel *channel = arg;
    uint8_t buf[2 * LARGE];

    support_require(dies_with_parent() == 0);
    support_require_equal(vrd_cap_close(channel->send), 0);
    support_require_equal(vrd_receive(channel->receive, buf, sizeof buf), 8);
    scribble_start(LAYOUT_RECEIVER_SIZE);
    while (true)
        vrd_receive_timed(channel->receive, buf, sizeof buf, MILLISECOND);
    return 0;
}

/* Sends until the owner is found out or `most` messages are out. */
static size_t send_to_liar(vrd_cap_t send, size_t most)
{
    static const uint8_t data[LARGE];
    size_t sent = 0;
    int result = vrd_send(send, data, 8); /* the owner may have it, and lie, before this looks */

    while ((result == 0 || result == VRD_ERR_TIMEOUT) && sent < most) {
        result = vrd_send_timed(send, data, sent % 5 == 0 ? sizeof data : sent % 65, MILLISECOND);
        sent++;
    }
    support_require(result == 0 || result == VRD_ERR_TIMEOUT || result == VRD_ERR_PEER_CORRUPT ||
                    result == VRD_ERR_PEER_GONE || result == VRD_ERR_REVOKED);
    return sent;
}

/* The same process has a channel to an honest owner, which is all that it should be. */
static int honest_owner_run(void *arg)
{
    struct channel *channel = arg;
    uint64_t number, expected = 0;
    ssize_t len;

    support_require_equal(vrd_cap_close(channel->send), 0);
    while ((len = vrd_receive(channel->receive, &number, sizeof number)) == sizeof number)
        support_require_equal(number, expected++);
    support_require_equal(len, VRD_ERR_PEER_GONE);
    support_require_equal(expected, channel->messages);
    return 0;
}

static void test_owners_that_scribble(void **state)
{
    struct channel honest = { .messages = support_iterations(300) };
    pid_t honest_owner;
    size_t sent = 0;

    (void)state;
    assert_int_equal(vrd_channel_create(SLOTS, &honest.send, &honest.receive), 0);
    honest_owner = support_child(honest_owner_run, &honest);
    assert_int_equal(vrd_cap_close(honest.receive), 0);
    for (uint64_t round = 0; round < honest.messages; round++) {
        struct channel channel = { 0 };
        pid_t owner;

        assert_int_equal(vrd_channel_create(SLOTS, &channel.send, &channel.receive), 0);
        owner = support_child(owner_run, &channel);
        assert_int_equal(vrd_cap_close(channel.receive), 0);
        sent += send_to_liar(channel.send, 300);
        assert_int_equal(vrd_send(honest.send, &round, sizeof round), 0);
        support_kill(owner);
        assert_int_equal(vrd_cap_close(channel.send), 0);
    }
    print_message("%zu messages sent\n", sent);
    assert_int_equal(vrd_cap_close(honest.send), 0);
    support_wait_exit(honest_owner, 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_senders_that_scribble, 90),
                     SUPPORT_TEST_TIMEOUT(test_owners_that_scribble, 90),
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
