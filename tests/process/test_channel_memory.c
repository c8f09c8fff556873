/* SPDX-License-Identifier: MIT */
/*
 * Where the memory of channels and endpoints comes from: nodes, and huge pages, also in other processes.
 * What is true is asked of the kernel (numa_maps, and the pool's count).
 * ctest: serial
 */
#include "process/loans.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HUGE ((size_t)2 << 20)
#define NODES_MAX 64
#define BYTES 1000 /* too large for a slot, too small for the heap */

struct maps {
    size_t segments; /* mapped in this process */
    size_t such;     /* ... whose line in numa_maps says `what` */
};

static struct maps maps_with(const char *what)
{
    FILE *file = fopen("/proc/self/numa_maps", "re");
    struct maps maps = { 0 };
    char line[512];

    support_require(file);
    while (fgets(line, sizeof(line), file)) {
        if (!strstr(line, "memfd:veridian"))
            continue;
        maps.segments++;
        maps.such += strstr(line, what) != NULL;
    }
    fclose(file);
    return maps;
}

static int nodes_known(struct vrd_numa_usage usage[NODES_MAX])
{
    const int n = vrd_numa_usage(VRD_CAP_NONE, usage, NODES_MAX);

    return n == VRD_ERR_NOT_SUPPORTED ? 0 : n;
}

/* A message in the ring, one copied to the heap, one that is lent, one in a byte ring. */
static void send_all_kinds(vrd_cap_t send, uint32_t sender, size_t len)
{
    uint8_t *bytes = malloc(len);

    support_require(bytes);
    number_fill(bytes, 64, (struct number){ .sender = sender });
    EXPECT(vrd_send(send, bytes, 64), 0);
    number_fill(bytes, len, (struct number){ .sender = sender, .index = 1 });
    EXPECT(vrd_send(send, bytes, len), 0);
    lend(send, (struct number){ .sender = sender, .index = 2 }, len);
    number_fill(bytes, BYTES, (struct number){ .sender = sender, .index = 3 });
    EXPECT(vrd_send(send, bytes, BYTES), 0);
    free(bytes);
}

static void receive_all_kinds(vrd_cap_t receive, uint32_t sender, size_t len)
{
    const size_t lens[] = { 64, len, len, BYTES };

    for (uint32_t i = 0; i < 4; i++) {
        struct vrd_view view =
            view_of(receive, (struct number){ .sender = sender, .index = i }, lens[i]);

        release(&view);
    }
}

struct sending {
    int fd;
    size_t len;
    const char *what; /* numa_maps say ... */
    size_t such;      /* ... of so many segments, at least */
};

/* Sends through what it imports, and says what its own memory is like. */
static int child_sends(void *arg)
{
    const struct sending *sending = arg;
    vrd_cap_t cap;

    EXPECT(vrd_cap_import(sending->fd, &cap), 0);
    send_all_kinds(cap, 1, sending->len);
    support_require(maps_with(sending->what).such >= sending->such);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void child_imports(vrd_cap_t send, size_t len, const char *what, size_t such)
{
    struct sending sending = { .len = len, .what = what, .such = such };
    pid_t child;

    EXPECT(vrd_cap_export(send, VRD_RIGHT_SEND, &sending.fd), 0);
    child = support_child(child_sends, &sending);
    close(sending.fd);
    support_wait_exit(child, 0);
}

/* --- nodes ------------------------------------------------------------------------------------ */

static void test_all_segments_lie_where_they_were_asked_for(void **state)
{
    struct vrd_numa_usage usage[NODES_MAX];
    const int nodes = nodes_known(usage);

    (void)state;
    for (int node = 0; node < nodes; node++) {
        const struct vrd_channel_options options = { .numa_node = VRD_NUMA_NODE(node) };
        char bound[32], there[32];
        struct ends ends;
        struct maps maps;

        if (usage[node].total == 0)
            continue;
        snprintf(bound, sizeof(bound), " bind:%d ", node);
        snprintf(there, sizeof(there), " N%d=", node);
        EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
        send_all_kinds(ends.send, 7, 5000);
        receive_all_kinds(ends.receive, 7, 5000);
        send_all_kinds(ends.send, 7, 5000); /* by now the sender has the answer */
        receive_all_kinds(ends.receive, 7, 5000);
        /* each is mapped twice: the ring, the cursor, a byte ring, room to lend from */
        maps = maps_with(bound);
        assert_int_equal(maps.segments, 8);
        assert_int_equal(maps.such, maps.segments);
        assert_int_equal(maps_with(there).such, maps.segments);
        child_imports(ends.send, 5000, bound, 3);
        receive_all_kinds(ends.receive, 1, 5000);
        ends_close(&ends);
    }
}

static void test_memory_can_be_next_to_who_reads_it(void **state)
{
    const struct vrd_channel_options options = { .numa_node = VRD_NUMA_PEER };
    struct vrd_numa_usage usage[NODES_MAX];
    uint8_t byte = 0;
    struct ends ends;

    (void)state;
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    EXPECT(vrd_send(ends.send, &byte, 1), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), 1);
    assert_int_equal(maps_with(" prefer").such, 0); /* nobody had seen the reader */
    EXPECT(vrd_send(ends.send, &byte, 1), 0);
    EXPECT(vrd_receive(ends.receive, &byte, 1), 1);
    send_all_kinds(ends.send, 7, 5000);
    receive_all_kinds(ends.receive, 7, 5000);
    assert_int_equal(maps_with(" prefer").such, nodes_known(usage) > 0 ? 4 : 0);
    ends_close(&ends);
}

static void test_a_node_that_is_not_there_is_an_error(void **state)
{
    const bool known = vrd_numa_usage(VRD_CAP_NONE, NULL, 0) > 0;
    const int expected = known ? VRD_ERR_INVALID_ARGUMENT : VRD_ERR_NOT_SUPPORTED;
    const uint32_t nodes[] = { 1023, 60000 };
    const uint32_t never[] = { 0xfffe, 0xffff, 1 << 20 };
    vrd_cap_t send = 7, receive = 8;
    uint64_t id = 9;

    (void)state;
    for (size_t i = 0; i < sizeof(nodes) / sizeof(nodes[0]); i++) {
        const struct vrd_channel_options options = { .numa_node = VRD_NUMA_NODE(nodes[i]) };

        EXPECT(vrd_channel_create_with(&options, &send, &receive), expected);
        EXPECT(vrd_endpoint_create_with(&options, &id, &send), expected);
    }
    for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        const struct vrd_channel_options options = { .numa_node = VRD_NUMA_NODE(never[i]) };

        EXPECT(vrd_channel_create_with(&options, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    }
    assert_int_equal(send, 7);
    assert_int_equal(receive, 8);
    assert_int_equal(id, 9);
}

/* --- huge pages ------------------------------------------------------------------------------- */

static void test_large_messages_lie_in_huge_pages(void **state)
{
    const struct vrd_channel_options options = { .huge_pages = VRD_PAGES_2_MIB,
                                                 .max_bytes = 4 * HUGE };
    const char *huge = "kernelpagesize_kB=2048";
    const size_t n = support_huge_pages_free();
    struct ends ends;

    (void)state;
    if (n < 16)
        return;
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    send_all_kinds(ends.send, 7, 64 << 10);
    receive_all_kinds(ends.receive, 7, 64 << 10);
    assert_int_equal(maps_with(huge).such, 0);
    assert_int_equal(support_huge_pages_free(), n); /* small pieces are of ordinary pages */
    ends_close(&ends);
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    send_all_kinds(ends.send, 7, HUGE / 2);
    receive_all_kinds(ends.receive, 7, HUGE / 2);
    assert_in_range(maps_with(huge).such, 2, 4); /* one or two, each mapped twice */
    assert_true(support_huge_pages_free() < n);
    child_imports(ends.send, HUGE / 2, huge, 1);
    receive_all_kinds(ends.receive, 1, HUGE / 2);
    ends_close(&ends);
    assert_int_equal(support_huge_pages_free(), n);
}

static int child_calls(void *arg)
{
    const int *fd = arg;
    uint8_t *bytes = malloc(HUGE);
    vrd_cap_t cap;

    support_require(bytes);
    memset(bytes, 3, HUGE);
    EXPECT(vrd_cap_import(*fd, &cap), 0);
    EXPECT(vrd_call(cap, bytes, 100, bytes, HUGE, VRD_FOREVER), HUGE);
    for (size_t i = 0; i < HUGE; i++)
        support_require(bytes[i] == 5);
    EXPECT(maps_with("kernelpagesize_kB=2048").such, 1);
    EXPECT(vrd_cap_close(cap), 0);
    free(bytes);
    return 0;
}

static void test_large_answers_lie_in_huge_pages(void **state)
{
    const struct vrd_channel_options options = { .huge_pages = VRD_PAGES_2_MIB,
                                                 .max_message_size = HUGE };
    struct vrd_message request = { .size = HUGE };
    const size_t n = support_huge_pages_free();
    vrd_cap_t cap, reply;
    pid_t child;
    uint64_t id;
    int fd;

    (void)state;
    if (n < 2)
        return;
    request.data = malloc(HUGE);
    assert_non_null(request.data);
    EXPECT(vrd_endpoint_create_with(&options, &id, &cap), 0);
    EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &fd), 0);
    child = support_child(child_calls, &fd);
    close(fd);
    EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
    memset(request.data, 5, HUGE);
    EXPECT(vrd_reply(reply, request.data, HUGE), 0);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(cap), 0);
    free(request.data);
    assert_int_equal(support_huge_pages_free(), n);
}

/* A message of one page of the pool of a node, lent and viewed. */
static void lend_huge_on(int node, size_t page, uint32_t huge_pages)
{
    const struct vrd_channel_options options = { .huge_pages = huge_pages,
                                                 .max_message_size = page,
                                                 .max_bytes = page,
                                                 .numa_node = VRD_NUMA_NODE(node) };
    const size_t n = support_node_pages_free(node, page);
    char there[64];
    struct vrd_view view;
    struct vrd_loan loan;
    struct ends ends;

    if (n == 0)
        return;
    snprintf(there, sizeof(there), " N%d=1 kernelpagesize_kB=%zu", node, page >> 10);
    EXPECT(vrd_channel_create_with(&options, &ends.send, &ends.receive), 0);
    EXPECT(vrd_loan_timed(ends.send, page, 0, &loan), 0);
    memset(loan.data, 3, 4096);
    EXPECT(vrd_loan_send(&loan, 0), 0);
    EXPECT(vrd_receive_view(ends.receive, &view, 0), 0);
    EXPECT(view.len, page);
    EXPECT(*(const uint8_t *)view.data, 3);
    assert_int_equal(maps_with(there).such, 2); /* the sender's and the receiver's mapping */
    assert_int_equal(support_node_pages_free(node, page), n - 1);
    release(&view);
    ends_close(&ends);
    assert_int_equal(support_node_pages_free(node, page), n);
    print_message("[          ] a loan of %zu MiB on node %d\n", page >> 20, node);
}

static void test_huge_pages_lie_on_their_node(void **state)
{
    struct vrd_numa_usage usage[NODES_MAX];
    const int nodes = nodes_known(usage);

    (void)state;
    for (int node = 0; node < nodes; node++) {
        lend_huge_on(node, HUGE, VRD_PAGES_2_MIB);
        lend_huge_on(node, (size_t)1 << 30, VRD_PAGES_1_GIB);
    }
}

static void test_a_pool_too_small_is_said(void **state)
{
    const struct vrd_channel_options large = { .huge_pages = VRD_PAGES_2_MIB };
    const struct vrd_channel_options none = { .huge_pages = VRD_PAGES_1_GIB + 1 };
    const struct vrd_region_options region = { .huge_pages = VRD_PAGES_2_MIB };
    const size_t n = support_huge_pages_free();
    vrd_cap_t all, send = 7, receive = 8;
    uint8_t *bytes = calloc(1, HUGE / 2);
    struct vrd_loan loan;
    int r;

    (void)state;
    assert_non_null(bytes);
    EXPECT(vrd_channel_create_with(&none, &send, &receive), VRD_ERR_INVALID_ARGUMENT);
    if (n < 4) {
        r = vrd_channel_create_with(&large, &send, &receive);
        assert_true(n > 0 || r == VRD_ERR_OUT_OF_MEMORY || r == VRD_ERR_NOT_SUPPORTED);
        if (r == 0) {
            EXPECT(vrd_cap_close(send), 0);
            EXPECT(vrd_cap_close(receive), 0);
        }
        free(bytes);
        return;
    }
    EXPECT(vrd_channel_create_with(&large, &send, &receive), 0);
    EXPECT(vrd_region_create(n * HUGE, VRD_RIGHT_READ, &region, &all), 0);
    EXPECT(vrd_send(send, bytes, HUGE / 2), VRD_ERR_OUT_OF_MEMORY);
    EXPECT(vrd_loan(send, HUGE / 2, &loan), VRD_ERR_OUT_OF_MEMORY);
    EXPECT(vrd_send(send, bytes, 64), 0);
    EXPECT(vrd_receive(receive, bytes, 64), 64);
    EXPECT(vrd_cap_close(all), 0);
    EXPECT(vrd_send(send, bytes, HUGE / 2), 0);
    EXPECT(vrd_receive(receive, bytes, HUGE / 2), HUGE / 2);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
    assert_int_equal(support_huge_pages_free(), n);
    free(bytes);
}

static void test_transparent_ones_are_a_wish(void **state)
{
    const struct vrd_channel_options options = { .huge_pages = VRD_PAGES_TRANSPARENT };
    struct ends ends;
    const int r = vrd_channel_create_with(&options, &ends.send, &ends.receive);

    (void)state;
    if (r == VRD_ERR_NOT_SUPPORTED)
        return;
    assert_int_equal(r, 0);
    send_all_kinds(ends.send, 7, HUGE / 2);
    receive_all_kinds(ends.receive, 7, HUGE / 2);
    child_imports(ends.send, HUGE / 2, "", 3);
    receive_all_kinds(ends.receive, 1, HUGE / 2);
    ends_close(&ends);
}

static int warm_up(void)
{
    vrd_numa_usage(VRD_CAP_NONE, NULL, 0);
    return channels_warm_up();
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_all_segments_lie_where_they_were_asked_for),
                     SUPPORT_TEST(test_memory_can_be_next_to_who_reads_it),
                     SUPPORT_TEST(test_a_node_that_is_not_there_is_an_error),
                     SUPPORT_TEST(test_large_messages_lie_in_huge_pages),
                     SUPPORT_TEST(test_large_answers_lie_in_huge_pages),
                     SUPPORT_TEST(test_huge_pages_lie_on_their_node),
                     SUPPORT_TEST(test_a_pool_too_small_is_said),
                     SUPPORT_TEST(test_transparent_ones_are_a_wish),
                     { 0 },
                 },
             .warm_up = warm_up, .huge_pages = true)
