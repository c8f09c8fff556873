/* SPDX-License-Identifier: MIT */
/* Capabilities across fork: inherited like pipe ends, and with the pipe's rule. */
#include "process/channels.h"

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define STREAM 3000

struct stream {
    struct ends ends;
    uint32_t sender;
    uint32_t n;
};

static int send_stream(void *arg)
{
    const struct stream *stream = arg;

    EXPECT(vrd_cap_close(stream->ends.receive), 0);
    for (uint32_t i = 0; i < stream->n; i++)
        numbered_send(stream->ends.send, stream->sender, i, 8 + i % 150);
    return 0;
}

static int receive_stream(void *arg)
{
    const struct stream *stream = arg;

    EXPECT(vrd_cap_close(stream->ends.send), 0);
    for (uint32_t i = 0; i < stream->n; i++)
        numbered_receive(stream->ends.receive, stream->sender, i, 8 + i % 150);
    EXPECT(vrd_receive(stream->ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    return 0;
}

static void test_child_sends(void **state)
{
    struct stream stream = { ends_new(16), 3, STREAM };
    const pid_t child = support_child(send_stream, &stream);

    (void)state;
    receive_stream(&stream);
    EXPECT(vrd_cap_close(stream.ends.receive), 0);
    support_wait_exit(child, 0);
}

static void test_child_receives(void **state)
{
    struct stream stream = { ends_new(16), 3, STREAM };
    const pid_t child = support_child(receive_stream, &stream);

    (void)state;
    send_stream(&stream);
    EXPECT(vrd_cap_close(stream.ends.send), 0);
    support_wait_exit(child, 0);
}

static void test_between_two_children(void **state)
{
    struct stream stream = { ends_new(3), 3, STREAM };
    const pid_t sender = support_child(send_stream, &stream);
    const pid_t receiver = support_child(receive_stream, &stream);

    (void)state;
    ends_close(&stream.ends);
    support_wait_exit(sender, 0);
    support_wait_exit(receiver, 0);
}

/* ---- both directions ---------------------------------------------------------------------------- */

struct pair {
    struct ends there;
    struct ends back;
};

static int echo(void *arg)
{
    const struct pair *pair = arg;
    uint8_t data[NUMBERED_MAX];
    ssize_t len;

    EXPECT(vrd_cap_close(pair->there.send), 0);
    EXPECT(vrd_cap_close(pair->back.receive), 0);
    while ((len = vrd_receive(pair->there.receive, data, sizeof data)) >= 0)
        EXPECT(vrd_send(pair->back.send, data, (size_t)len), 0);
    EXPECT(len, VRD_ERR_PEER_GONE);
    return 0;
}

static void test_both_directions(void **state)
{
    struct pair pair = { ends_new(4), ends_new(4) };
    const pid_t child = support_child(echo, &pair);

    (void)state;
    EXPECT(vrd_cap_close(pair.there.receive), 0);
    EXPECT(vrd_cap_close(pair.back.send), 0);
    for (uint32_t i = 0; i < STREAM; i++) {
        numbered_send(pair.there.send, 2, i, 8 + i % 300);
        numbered_receive(pair.back.receive, 2, i, 8 + i % 300);
    }
    EXPECT(vrd_cap_close(pair.there.send), 0);
    EXPECT(vrd_receive(pair.back.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(pair.back.receive), 0);
    support_wait_exit(child, 0);
}

/* ---- the pipe's rule ------------------------------------------------------------------------------ */

static void test_an_unclosed_end_keeps_the_channel_alive(void **state)
{
    struct stream stream = { ends_new(16), 3, 5 };
    const pid_t child = support_child(send_stream, &stream);

    (void)state;
    for (uint32_t i = 0; i < 5; i++)
        numbered_receive(stream.ends.receive, 3, i, 8 + i % 150);
    support_wait_exit(child, 0);
    EXPECT(vrd_receive_timed(stream.ends.receive, NULL, 0, 100 * MS), VRD_ERR_TIMEOUT);
    EXPECT(vrd_cap_close(stream.ends.send), 0);
    EXPECT(vrd_receive(stream.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(stream.ends.receive), 0);
}

struct holder {
    struct ends ends;
    struct support_gate go;
};

static int hold_both(void *arg)
{
    const struct holder *holder = arg;

    support_gate_wait(&holder->go);
    return 0;
}

/* A child that never touches what it inherited holds it open all the same, and lets go by exit. */
static void test_a_child_that_uses_nothing(void **state)
{
    struct holder holder = { .ends = ends_new(16) };

    (void)state;
    support_gate_init(&holder.go);
    const pid_t child = support_child(hold_both, &holder);
    EXPECT(vrd_cap_close(holder.ends.send), 0);
    EXPECT(vrd_receive_timed(holder.ends.receive, NULL, 0, 100 * MS), VRD_ERR_TIMEOUT);
    support_gate_open(&holder.go);
    EXPECT(vrd_receive(holder.ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(holder.ends.receive), 0);
    support_gate_deinit(&holder.go);
}

static int hold_one_end(void *arg)
{
    const struct holder *holder = arg;

    EXPECT(vrd_cap_close(holder->ends.send), 0);
    return hold_both(arg);
}

/* The same with a channel in use: the child has the receiving end, and everything that was sent. */
static void test_the_last_receiver_is_a_child_that_never_receives(void **state)
{
    struct holder holder = { .ends = ends_new(2) };

    (void)state;
    support_gate_init(&holder.go);
    const pid_t child = support_child(hold_one_end, &holder);
    EXPECT(vrd_cap_close(holder.ends.receive), 0);
    numbered_send(holder.ends.send, 1, 0, 10);
    numbered_send(holder.ends.send, 1, 1, 10);
    EXPECT(numbered_try_send(holder.ends.send, 1, 2, 10, 0), VRD_ERR_CHANNEL_FULL);
    EXPECT(numbered_try_send(holder.ends.send, 1, 2, 10, 50 * MS), VRD_ERR_TIMEOUT);
    support_gate_open(&holder.go);
    EXPECT(numbered_try_send(holder.ends.send, 1, 2, 10, VRD_FOREVER), VRD_ERR_PEER_GONE);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(holder.ends.send), 0);
    support_gate_deinit(&holder.go);
}

static int close_both(void *arg)
{
    ends_close(arg);
    return 0;
}

/* What a child closes was its own: the parent's links go on, on both sides. */
static void test_a_child_closes_what_the_parent_uses(void **state)
{
    struct ends ends = ends_new(16);

    (void)state;
    for (uint32_t i = 0; i < 20; i++) {
        numbered_send(ends.send, 1, 3 * i, 40);
        numbered_send(ends.send, 1, 3 * i + 1, 400);
        const pid_t child = support_child(close_both, &ends);
        numbered_receive(ends.receive, 1, 3 * i, 40);
        support_wait_exit(child, 0);
        numbered_send(ends.send, 1, 3 * i + 2, 40);
        numbered_receive(ends.receive, 1, 3 * i + 1, 400);
        numbered_receive(ends.receive, 1, 3 * i + 2, 40);
    }
    ends_close(&ends);
}

/* The same with a peer in another process, whichever side the closing child is of. */
static void test_a_grandchild_closes_what_the_child_uses(void **state)
{
    struct pair pair = { ends_new(4), ends_new(4) };
    const pid_t child = support_child(echo, &pair);

    (void)state;
    EXPECT(vrd_cap_close(pair.there.receive), 0);
    EXPECT(vrd_cap_close(pair.back.send), 0);
    for (uint32_t i = 0; i < 10; i++) {
        struct ends mine = { pair.there.send, pair.back.receive };

        numbered_send(pair.there.send, 2, 2 * i, 100);
        const pid_t closer = support_child(close_both, &mine);
        support_wait_exit(closer, 0);
        numbered_receive(pair.back.receive, 2, 2 * i, 100);
        numbered_send(pair.there.send, 2, 2 * i + 1, 10);
        numbered_receive(pair.back.receive, 2, 2 * i + 1, 10);
    }
    EXPECT(vrd_cap_close(pair.there.send), 0);
    EXPECT(vrd_receive(pair.back.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(pair.back.receive), 0);
    support_wait_exit(child, 0);
}

/* ---- generations ---------------------------------------------------------------------------------- */

static int send_from_each_generation(void *arg)
{
    struct stream *stream = arg;

    if (stream->sender < 6) {
        struct stream next = *stream;

        next.sender++;
        const pid_t child = support_child(send_from_each_generation, &next);
        if (stream->sender % 2)
            support_wait_exit(child, 0);
        EXPECT(send_stream(stream), 0);
        if (stream->sender % 2 == 0)
            support_wait_exit(child, 0);
        return 0;
    }
    return send_stream(stream);
}

static void test_grandchildren(void **state)
{
    const uint32_t counts[7] = { 0, 500, 500, 500, 500, 500, 500 };
    struct stream stream = { ends_new(16), 1, 500 };
    const pid_t child = support_child(send_from_each_generation, &stream);

    (void)state;
    EXPECT(vrd_cap_close(stream.ends.send), 0);
    numbered_drain(stream.ends.receive, counts, 7);
    EXPECT(vrd_cap_close(stream.ends.receive), 0);
    support_wait_exit(child, 0);
}

/* Each generation uses the capability before it forks the next one. */
static int send_then_fork(void *arg)
{
    struct stream *stream = arg;

    for (uint32_t i = 0; i < stream->n; i++) {
        numbered_send(stream->ends.send, stream->sender, i, 20);
        if (i == stream->n / 2 && stream->sender < 6) {
            struct stream next = *stream;

            next.sender++;
            support_wait_exit(support_child(send_then_fork, &next), 0);
        }
    }
    return 0;
}

static void test_grandchildren_of_users(void **state)
{
    const uint32_t counts[7] = { 500, 500, 500, 500, 500, 500, 500 };
    struct stream stream = { ends_new(16), 0, 500 };

    (void)state;
    const pid_t child = support_child(send_then_fork, &stream);
    EXPECT(vrd_cap_close(stream.ends.send), 0);
    numbered_drain(stream.ends.receive, counts, 7);
    EXPECT(vrd_cap_close(stream.ends.receive), 0);
    support_wait_exit(child, 0);
}

static void test_many_forked_senders(void **state)
{
    enum { SENDERS = 12 };
    struct stream stream = { ends_new(8), 0, 400 };
    uint32_t counts[SENDERS];
    pid_t children[SENDERS];

    (void)state;
    for (stream.sender = 0; stream.sender < SENDERS; stream.sender++) {
        counts[stream.sender] = stream.n;
        children[stream.sender] = support_child(send_stream, &stream);
    }
    EXPECT(vrd_cap_close(stream.ends.send), 0);
    numbered_drain(stream.ends.receive, counts, SENDERS);
    EXPECT(vrd_cap_close(stream.ends.receive), 0);
    for (size_t i = 0; i < SENDERS; i++)
        support_wait_exit(children[i], 0);
}

/* Parent and children send over the same handle; what the parent sent before the fork is read once. */
static void test_parent_and_children_send(void **state)
{
    enum { CHILDREN = 5 };
    struct stream stream = { ends_new(64), 0, 300 };
    uint32_t counts[CHILDREN + 1] = { 50 };
    pid_t children[CHILDREN];

    (void)state;
    for (uint32_t i = 0; i < 40; i++)
        numbered_send(stream.ends.send, 0, i, 70);
    for (uint32_t i = 0; i < CHILDREN; i++) {
        stream.sender = i + 1;
        counts[i + 1] = stream.n;
        children[i] = support_child(send_stream, &stream);
    }
    for (uint32_t i = 40; i < 50; i++)
        numbered_send(stream.ends.send, 0, i, 7 * i);
    EXPECT(vrd_cap_close(stream.ends.send), 0);
    numbered_drain(stream.ends.receive, counts, CHILDREN + 1);
    EXPECT(vrd_cap_close(stream.ends.receive), 0);
    for (size_t i = 0; i < CHILDREN; i++)
        support_wait_exit(children[i], 0);
}

/* ---- fork beside threads ---------------------------------------------------------------------------- */

static void *send_stream_in_thread(void *arg)
{
    const struct stream *stream = arg;

    for (uint32_t i = 0; i < stream->n; i++)
        numbered_send(stream->ends.send, stream->sender, i, 8 + i % 150);
    return NULL;
}

static int drain_all(void *arg)
{
    const struct stream *stream = arg;
    uint32_t counts[40];

    EXPECT(vrd_cap_close(stream->ends.send), 0);
    for (size_t i = 0; i < 40; i++)
        counts[i] = i < 2 ? stream->n : 25;
    numbered_drain(stream->ends.receive, counts, 40);
    return 0;
}

static void test_fork_while_threads_send(void **state)
{
    struct stream stream = { ends_new(16), 0, 4000 };
    const pid_t receiver = support_child(drain_all, &stream);
    const vrd_cap_t other = sender_new(stream.ends.send);
    struct stream streams[2] = { { { stream.ends.send, 0 }, 0, stream.n },
                                 { { other, 0 }, 1, stream.n } };
    pthread_t threads[2];

    (void)state;
    for (size_t i = 0; i < 2; i++)
        EXPECT(pthread_create(&threads[i], NULL, send_stream_in_thread, &streams[i]), 0);
    for (uint32_t i = 2; i < 40; i++) {
        struct stream child = { stream.ends, i, 25 };

        support_wait_exit(support_child(send_stream, &child), 0);
    }
    for (size_t i = 0; i < 2; i++)
        EXPECT(pthread_join(threads[i], NULL), 0);
    EXPECT(vrd_cap_close(other), 0);
    ends_close(&stream.ends);
    support_wait_exit(receiver, 0);
}

/* A fork while a thread waits on the capability: the child uses it, the thread goes on waiting. */
static void *receive_one_in_thread(void *arg)
{
    const struct stream *stream = arg;

    numbered_receive(stream->ends.receive, 4, 0, 9);
    return NULL;
}

static int send_one(void *arg)
{
    const struct stream *stream = arg;

    EXPECT(vrd_cap_close(stream->ends.receive), 0);
    numbered_send(stream->ends.send, 4, 0, 9);
    return 0;
}

static void test_fork_while_a_thread_waits(void **state)
{
    struct stream stream = { .ends = ends_new(16) };

    (void)state;
    for (size_t i = 0; i < 30; i++) {
        pthread_t thread;

        EXPECT(pthread_create(&thread, NULL, receive_one_in_thread, &stream), 0);
        if (i % 2)
            support_sleep_ms(5);
        const pid_t child = support_child(send_one, &stream);
        EXPECT(pthread_join(thread, NULL), 0);
        support_wait_exit(child, 0);
    }
    ends_close(&stream.ends);
}

/* A child's own channels, and its own reactor, beside what it inherited. */
static int make_and_use_channels(void *arg)
{
    const struct stream *stream = arg;
    const struct ends own = ends_new(4);

    EXPECT(vrd_receive_timed(own.receive, NULL, 0, 30 * MS), VRD_ERR_TIMEOUT);
    const vrd_cap_t sender = sender_new(own.send);
    numbered_send(sender, 1, 1, 30);
    numbered_receive(own.receive, 1, 1, 30);
    struct stream inner = { own, 2, 100 };
    const pid_t grandchild = support_child(send_stream, &inner);
    EXPECT(vrd_cap_close(sender), 0);
    EXPECT(receive_stream(&inner), 0);
    support_wait_exit(grandchild, 0);
    EXPECT(vrd_cap_close(own.receive), 0);
    return send_one(arg) + (stream->ends.send == 0);
}

static void test_child_makes_channels_of_its_own(void **state)
{
    struct stream stream = { .ends = ends_new(16) };

    (void)state;
    numbered_send(stream.ends.send, 4, 7, 9);
    const pid_t child = support_child(make_and_use_channels, &stream);
    numbered_receive(stream.ends.receive, 4, 7, 9);
    numbered_receive(stream.ends.receive, 4, 0, 9);
    support_wait_exit(child, 0);
    ends_close(&stream.ends);
}

/* A program that knows nothing of channels inherits nothing of them. */
static void test_spawned_programs_hold_nothing(void **state)
{
    char *const argv[] = { (char[]){ "cat" }, NULL };
    const struct ends ends = ends_new(4);
    posix_spawn_file_actions_t actions;
    int pipe_ends[2], status;
    pid_t pid;

    (void)state;
    numbered_send(ends.send, 1, 0, 10);
    numbered_receive(ends.receive, 1, 0, 10);
    support_require(pipe(pipe_ends) == 0);
    EXPECT(posix_spawn_file_actions_init(&actions), 0);
    EXPECT(posix_spawn_file_actions_adddup2(&actions, pipe_ends[0], 0), 0);
    EXPECT(posix_spawn_file_actions_addclose(&actions, pipe_ends[1]), 0);
    EXPECT(posix_spawnp(&pid, "cat", &actions, NULL, argv, environ), 0);
    EXPECT(posix_spawn_file_actions_destroy(&actions), 0);
    EXPECT(vrd_cap_close(ends.send), 0);
    EXPECT(vrd_receive(ends.receive, NULL, 0), VRD_ERR_PEER_GONE);
    EXPECT(vrd_cap_close(ends.receive), 0);
    close(pipe_ends[0]);
    close(pipe_ends[1]);
    EXPECT(waitpid(pid, &status, 0), pid);
    EXPECT(status, 0);
}

static int send_before_the_owner_looks(void *arg)
{
    numbered_send(*(const vrd_cap_t *)arg, 3, 0, 8);
    return 0;
}

/* Until the owner's queue is full. */
static int export_many(void *arg)
{
    int result = 0;

    for (int i = 0; i < 5000 && result == 0; i++) {
        int invitation = -1;

        result = vrd_cap_export(*(const vrd_cap_t *)arg, VRD_RIGHT_SEND, &invitation);
        close(invitation);
    }
    EXPECT(result, VRD_ERR_QUOTA_EXCEEDED);
    return 0;
}

/* A child that makes no use of RECEIVE reads nothing that was meant for its parent. */
static void test_a_sending_child_leaves_the_queue_alone(void **state)
{
    struct ends ends = ends_new(4);

    (void)state;
    support_wait_exit(support_child(send_before_the_owner_looks, &ends.send), 0);
    support_wait_exit(support_child(export_many, &ends.send), 0);
    numbered_receive(ends.receive, 3, 0, 8);
    ends_close(&ends);
}

enum { NUMBERS = 200 };

struct closer {
    vrd_cap_t caps[5]; /* of senders and receivers in turn */
    bool files;        /* or event counters, one of the kinds that look all the same */
};

/* As programs do that become daemons: closes all and opens what it wants, under the same numbers. */
static int close_all_and_go_on(void *arg)
{
    const struct closer *closer = arg;
    int opened[NUMBERS];
    char byte;

    support_require(syscall(SYS_close_range, 3, ~0U, 0) == 0);
    for (int i = 0; i < NUMBERS; i++) {
        opened[i] = closer->files ? open("/dev/null", O_RDWR | O_CLOEXEC) : eventfd(0, EFD_CLOEXEC);
        support_require(opened[i] >= 0);
    }
    for (size_t i = 0; i < 5; i++) {
        if (i % 2 == 0)
            EXPECT(vrd_send_timed(closer->caps[i], "x", 1, 0), VRD_ERR_PEER_GONE);
        else
            EXPECT(vrd_receive_timed(closer->caps[i], &byte, 1, 0), VRD_ERR_PEER_GONE);
    }
    const struct ends own = ends_new(4);
    numbered_send(own.send, 1, 1, 8);
    numbered_receive(own.receive, 1, 1, 8);
    ends_close(&own);
    for (size_t i = 0; i < 5; i++)
        EXPECT(vrd_cap_close(closer->caps[i]), 0);
    for (int i = 0; i < NUMBERS; i++)
        EXPECT(close(opened[i]), 0);
    return 0;
}

static void test_a_child_closes_all_descriptors(void **state)
{
    const struct ends used = ends_new(4), fresh = ends_new(4);
    const vrd_cap_t importer = sender_new(used.send);
    struct closer closer = { { used.send, used.receive, fresh.send, fresh.receive, importer },
                             false };
    char byte;

    (void)state;
    numbered_send(used.send, 1, 0, 8);
    numbered_receive(used.receive, 1, 0, 8);
    numbered_send(importer, 2, 0, 8);
    numbered_receive(used.receive, 2, 0, 8);
    EXPECT(vrd_receive_timed(used.receive, &byte, 1, MS), VRD_ERR_TIMEOUT);
    for (int files = 0; files < 2; files++) {
        closer.files = files;
        support_wait_exit(support_child(close_all_and_go_on, &closer), 0);
    }
    numbered_send(importer, 2, 1, 8);
    numbered_receive(used.receive, 2, 1, 8);
    EXPECT(vrd_cap_close(importer), 0);
    ends_close(&used);
    ends_close(&fresh);
}

/* ---- fork beside a thread that makes memory ------------------------------------------------------------ */

#define MAKER_FORKS 300

static void *makes_memory(void *arg)
{
    const struct vrd_region_options published = { .mode = VRD_REGION_PUBLISHED };
    atomic_bool *stop = arg;

    while (!atomic_load(stop)) {
        struct ends ends = ends_new(4);
        vrd_cap_t region;

        numbered_send(ends.send, 1, 1, 8);
        numbered_receive(ends.receive, 1, 1, 8);
        ends_close(&ends);
        EXPECT(vrd_region_create(4096, VRD_RIGHT_READ, &published, &region), 0);
        EXPECT(vrd_cap_close(region), 0);
    }
    return NULL;
}

static void require_no_writable_mapping(void)
{
    char line[512], permissions[5];
    FILE *maps = fopen("/proc/self/maps", "re");

    support_require(maps != NULL);
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "/memfd:veridian") && sscanf(line, "%*s %4s", permissions) == 1)
            support_require(permissions[1] != 'w');
    fclose(maps);
}

/* Before its first use of the library: what it has is what fork left it. */
static int cannot_write_what_is_made(void *arg)
{
    char path[32], target[64];

    (void)arg;
    require_no_writable_mapping();
    for (int fd = 0; fd < 256; fd++) {
        ssize_t len;

        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        len = readlink(path, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        if (strncmp(target, "/memfd:veridian", 15) == 0)
            support_require(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) ==
                            MAP_FAILED);
    }
    return 0;
}

static void test_fork_while_memory_is_made(void **state)
{
    atomic_bool stop = false;
    pthread_t thread;

    (void)state;
    support_require(pthread_create(&thread, NULL, makes_memory, &stop) == 0);
    for (int i = 0; i < MAKER_FORKS; i++)
        support_wait_exit(support_child(cannot_write_what_is_made, NULL), 0);
    atomic_store(&stop, true);
    support_require(pthread_join(thread, NULL) == 0);
}

/* Nothing is left of the parent's but the loop of its reactor. */
static int close_all_and_begin(void *arg)
{
    int opened[NUMBERS];

    (void)arg;
    support_require(syscall(SYS_close_range, 3, ~0U, 0) == 0);
    for (int i = 0; i < NUMBERS; i++)
        opened[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    const struct ends own = ends_new(4);
    numbered_send(own.send, 1, 1, 8);
    numbered_receive(own.receive, 1, 1, 8);
    ends_close(&own);
    for (int i = 0; i < NUMBERS; i++)
        EXPECT(close(opened[i]), 0);
    return 0;
}

static void test_a_child_closes_all_and_begins_anew(void **state)
{
    (void)state;
    support_wait_exit(support_child(close_all_and_begin, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_child_sends),
                     SUPPORT_TEST(test_child_receives),
                     SUPPORT_TEST(test_between_two_children),
                     SUPPORT_TEST(test_both_directions),
                     SUPPORT_TEST(test_an_unclosed_end_keeps_the_channel_alive),
                     SUPPORT_TEST(test_a_child_that_uses_nothing),
                     SUPPORT_TEST(test_the_last_receiver_is_a_child_that_never_receives),
                     SUPPORT_TEST(test_a_child_closes_what_the_parent_uses),
                     SUPPORT_TEST(test_a_grandchild_closes_what_the_child_uses),
                     SUPPORT_TEST(test_grandchildren),
                     SUPPORT_TEST(test_grandchildren_of_users),
                     SUPPORT_TEST(test_many_forked_senders),
                     SUPPORT_TEST(test_parent_and_children_send),
                     SUPPORT_TEST(test_fork_while_threads_send),
                     SUPPORT_TEST(test_fork_while_a_thread_waits),
                     SUPPORT_TEST(test_child_makes_channels_of_its_own),
                     SUPPORT_TEST(test_spawned_programs_hold_nothing),
                     SUPPORT_TEST(test_a_sending_child_leaves_the_queue_alone),
                     SUPPORT_TEST(test_a_child_closes_all_descriptors),
                     SUPPORT_TEST(test_a_child_closes_all_and_begins_anew),
                     SUPPORT_TEST(test_fork_while_memory_is_made),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
