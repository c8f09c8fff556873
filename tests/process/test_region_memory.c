/* SPDX-License-Identifier: MIT */
/* Where the memory of regions comes from: nodes, and huge pages, also in other processes. */
/*
 * The pool of huge pages is one for the machine.
 * ctest: serial
 */
#include "support/support.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#define HUGE ((size_t)2 << 20)
#define NODES_MAX 64

static void close_cap(vrd_cap_t cap)
{
    support_require_equal(vrd_cap_close(cap), 0);
}

static uint8_t *map(vrd_cap_t cap, uint32_t rights)
{
    void *addr;
    size_t size;

    support_require_equal(vrd_region_map(cap, rights, &addr, &size), 0);
    return addr;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static void all_pages_lie_where_they_were_asked_for(void **state)
{
    struct vrd_numa_usage usage[NODES_MAX];
    const int nodes = vrd_numa_usage(VRD_CAP_NONE, usage, NODES_MAX);

    (void)state;
    if (nodes == VRD_ERR_NOT_SUPPORTED)
        return;
    assert_in_range(nodes, 1, NODES_MAX);
    for (int node = 0; node < nodes; node++) {
        struct vrd_numa_usage of_region[NODES_MAX];
        vrd_cap_t cap;

        assert_int_equal(usage[node].region, 0);
        if (usage[node].total == 0)
            continue;
        assert_true(usage[node].free <= usage[node].total);
        assert_int_equal(vrd_region_create_numa(1 << 20, VRD_RIGHTS_READ_WRITE, node, &cap), 0);
        map(cap, VRD_RIGHT_READ);
        assert_int_equal(vrd_numa_usage(cap, of_region, NODES_MAX), nodes);
        for (int i = 0; i < nodes; i++)
            assert_int_equal(of_region[i].region, i == node ? 1 << 20 : 0);
        close_cap(cap);
    }
}

static void a_node_that_is_not_there_is_an_error(void **state)
{
    const bool known = vrd_numa_usage(VRD_CAP_NONE, NULL, 0) > 0;
    const int expected = known ? VRD_ERR_INVALID_ARGUMENT : VRD_ERR_NOT_SUPPORTED;
    const int nodes[] = { 1023, 100000, INT32_MAX };
    vrd_cap_t cap = 7, send, receive;
    struct vrd_numa_usage usage;

    (void)state;
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        assert_int_equal(vrd_region_create_numa(4096, VRD_RIGHT_READ, nodes[i], &cap), expected);
    assert_int_equal(vrd_region_create_numa(4096, VRD_RIGHT_READ, -1, &cap),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(cap, 7);
    if (!known)
        return;
    assert_int_equal(vrd_numa_usage(VRD_CAP_NONE, NULL, 1), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_numa_usage(12345, &usage, 1), VRD_ERR_INVALID_CAPABILITY);
    assert_int_equal(vrd_channel_create(1, &send, &receive), 0);
    assert_int_equal(vrd_numa_usage(send, &usage, 1), VRD_ERR_INVALID_MEMORY_REGION);
    close_cap(send);
    close_cap(receive);
}

/* --- huge pages ------------------------------------------------------------------------------- */

static int reader(void *arg)
{
    const int *fd = arg;
    struct vrd_region_info info;
    const uint8_t *bytes;
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(*fd, &cap), 0);
    support_require_equal(vrd_region_info(cap, &info), 0);
    support_require_equal(info.page_size, HUGE);
    support_require_equal(info.size, 2 * HUGE);
    bytes = map(cap, VRD_RIGHT_READ);
    for (size_t i = 0; i < 2 * HUGE; i++)
        support_require(bytes[i] == 7);
    return 0;
}

static void others_read_huge_pages(void **state)
{
    static const uint32_t modes[] = { VRD_REGION_PUBLISHED, VRD_REGION_SNAPSHOT };
    const size_t n = support_huge_pages_free();

    (void)state;
    if (n < 2)
        return;
    for (size_t i = 0; i < 2; i++) {
        const struct vrd_region_options options = { .mode = modes[i],
                                                    .huge_pages = VRD_PAGES_2_MIB };
        vrd_cap_t cap;
        pid_t child;
        int fd;

        assert_int_equal(vrd_region_create(HUGE + 1, VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
        memset(map(cap, VRD_RIGHTS_READ_WRITE), 7, 2 * HUGE);
        assert_int_equal(vrd_cap_export(cap, VRD_RIGHT_READ, &fd), 0);
        child = support_child(reader, &fd);
        close(fd);
        support_wait_exit(child, 0);
        assert_int_equal(support_huge_pages_free(), n - 2); /* nobody took more */
        close_cap(cap);
        assert_int_equal(support_huge_pages_free(), n);
    }
}

struct reading {
    int fd;
    size_t page;
};

static int reads_one_page(void *arg)
{
    const struct reading *reading = arg;
    struct vrd_region_info info;
    const uint8_t *bytes;
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(reading->fd, &cap), 0);
    support_require_equal(vrd_region_info(cap, &info), 0);
    support_require_equal(info.page_size, reading->page);
    support_require_equal(info.size, reading->page);
    bytes = map(cap, VRD_RIGHT_READ);
    for (size_t at = 0; at < reading->page; at += 4096)
        support_require_equal(bytes[at], 7);
    close_cap(cap);
    return 0;
}

/* A page of the pool of a node, read elsewhere; and one more than the node has. */
static void huge_page_on(int node, size_t page, uint32_t huge_pages)
{
    const struct vrd_region_options options = { .huge_pages = huge_pages,
                                                .numa_node = VRD_NUMA_NODE(node) };
    const size_t n = support_node_pages_free(node, page);
    struct vrd_numa_usage usage[NODES_MAX];
    struct reading reading = { .page = page };
    vrd_cap_t cap = VRD_CAP_NONE;
    uint8_t *bytes;
    pid_t child;
    int nodes, r;

    r = vrd_region_create((n + 1) * page, VRD_RIGHTS_READ_WRITE, &options, &cap);
    assert_true(r == VRD_ERR_OUT_OF_MEMORY || r == VRD_ERR_NOT_SUPPORTED);
    if (n == 0)
        return;
    assert_int_equal(vrd_region_create(page, VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
    bytes = map(cap, VRD_RIGHTS_READ_WRITE);
    for (size_t at = 0; at < page; at += 4096)
        bytes[at] = 7;
    nodes = vrd_numa_usage(cap, usage, NODES_MAX);
    for (int i = 0; i < nodes; i++)
        assert_int_equal(usage[i].region, i == node ? page : 0);
    assert_int_equal(vrd_cap_export(cap, VRD_RIGHT_READ, &reading.fd), 0);
    child = support_child(reads_one_page, &reading);
    close(reading.fd);
    support_wait_exit(child, 0);
    assert_int_equal(support_node_pages_free(node, page), n - 1); /* and nobody took another */
    close_cap(cap);
    assert_int_equal(support_node_pages_free(node, page), n);
    print_message("[          ] a page of %zu MiB on node %d\n", page >> 20, node);
}

static void huge_pages_of_either_size_lie_on_their_node(void **state)
{
    struct vrd_numa_usage usage[NODES_MAX];
    const int nodes = vrd_numa_usage(VRD_CAP_NONE, usage, NODES_MAX);

    (void)state;
    for (int node = 0; node < nodes; node++) {
        if (usage[node].total == 0)
            continue;
        huge_page_on(node, HUGE, VRD_PAGES_2_MIB);
        huge_page_on(node, (size_t)1 << 30, VRD_PAGES_1_GIB);
    }
}

static void a_copy_of_huge_pages_takes_its_own(void **state)
{
    const struct vrd_region_options options = { .mode = VRD_REGION_SNAPSHOT,
                                                .huge_pages = VRD_PAGES_2_MIB };
    const size_t n = support_huge_pages_free();
    vrd_cap_t cap, copy;
    void *addr = NULL;
    size_t size;
    uint8_t *bytes;
    int r;

    (void)state;
    if (n < 1)
        return;
    assert_int_equal(vrd_region_create(n * HUGE, VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
    assert_int_equal(vrd_region_create_capability(cap, 0, VRD_TRANSFER_COPY_ON_WRITE, &copy), 0);
    /* all are in use: that is said now, and not by a signal at the first write */
    r = vrd_region_map(copy, VRD_RIGHTS_READ_WRITE, &addr, &size);
    assert_int_equal(r, VRD_ERR_OUT_OF_MEMORY);
    close_cap(copy);
    close_cap(cap);
    if (n < 2)
        return;
    assert_int_equal(vrd_region_create(HUGE, VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
    assert_int_equal(vrd_region_create_capability(cap, 0, VRD_TRANSFER_COPY_ON_WRITE, &copy), 0);
    bytes = map(copy, VRD_RIGHTS_READ_WRITE);
    memset(bytes, 9, HUGE);
    assert_int_equal(map(cap, VRD_RIGHT_READ)[5], 0);
    close_cap(copy);
    close_cap(cap);
    assert_int_equal(support_huge_pages_free(), n);
}

static void a_pool_too_small_is_said(void **state)
{
    const struct vrd_region_options large = { .huge_pages = VRD_PAGES_2_MIB };
    const struct vrd_region_options gigantic = { .huge_pages = VRD_PAGES_1_GIB };
    const size_t n = support_huge_pages_free();
    vrd_cap_t cap = 7;
    int r = vrd_region_create((n + 1) * HUGE, VRD_RIGHT_READ, &large, &cap);

    (void)state;
    assert_true(r == VRD_ERR_OUT_OF_MEMORY || r == VRD_ERR_NOT_SUPPORTED);
    r = vrd_region_create((size_t)1 << 50, VRD_RIGHT_READ, &gigantic, &cap);
    assert_true(r == VRD_ERR_OUT_OF_MEMORY || r == VRD_ERR_NOT_SUPPORTED);
    assert_int_equal(cap, 7);
    assert_int_equal(support_huge_pages_free(), n);
}

static void transparent_ones_are_a_wish(void **state)
{
    const struct vrd_region_options options = { .huge_pages = VRD_PAGES_TRANSPARENT };
    vrd_cap_t cap;
    const int r = vrd_region_create(3 * HUGE, VRD_RIGHTS_READ_WRITE, &options, &cap);

    (void)state;
    if (r == VRD_ERR_NOT_SUPPORTED)
        return;
    assert_int_equal(r, 0);
    memset(map(cap, VRD_RIGHTS_READ_WRITE), 1, 3 * HUGE);
    close_cap(cap);
}

static int warm_up(void)
{
    vrd_cap_t cap;

    vrd_numa_usage(VRD_CAP_NONE, NULL, 0);
    return support_warm_up_channel() != 0 ||
                   vrd_region_create(4096, VRD_RIGHT_READ, NULL, &cap) != 0
               ? -1
               : vrd_cap_close(cap);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(all_pages_lie_where_they_were_asked_for),
                     SUPPORT_TEST(a_node_that_is_not_there_is_an_error),
                     SUPPORT_TEST(others_read_huge_pages),
                     SUPPORT_TEST(huge_pages_of_either_size_lie_on_their_node),
                     SUPPORT_TEST(a_copy_of_huge_pages_takes_its_own),
                     SUPPORT_TEST(a_pool_too_small_is_said),
                     SUPPORT_TEST(transparent_ones_are_a_wish),
                     { 0 },
                 },
             .warm_up = warm_up, .huge_pages = true)
