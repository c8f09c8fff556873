/* SPDX-License-Identifier: MIT */
/* Memory comes from the node that was asked for, as the kernel itself says. */
#include "unit/unit.h"

#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/placement.h"
#include "os/region.h"

#define PAGES 64
#define SIZE (PAGES * UNIT_PAGE)
#define MPOL_BIND 2
#define MPOL_F_ADDR 2

/* Any that can be used; -1: this build or this kernel knows none. */
static int any_node(int from)
{
    for (int node = from; node < placement_nodes(); node++)
        if (placement_check(node) == 0)
            return node;
    return -1;
}

static void without_nodes_everything_says_so(void **state)
{
    uint64_t total, room, bytes[1] = { 0 };

    (void)state;
    if (placement_nodes() > 0)
        return;
    assert_int_equal(placement_check(0), -ENOTSUP);
    assert_int_equal(placement_room(0, &total, &room), -ENOTSUP);
    assert_int_equal(placement_bind(bytes, 8, 0, false), -ENOTSUP);
    assert_int_equal(placement_count(bytes, 8, 4096, bytes, 1), -ENOTSUP);
}

static void a_node_has_memory(void **state)
{
    uint64_t total = 0, room = 0;
    const int node = any_node(0);

    (void)state;
    if (node < 0)
        return;
    assert_int_equal(placement_room(node, &total, &room), 0);
    assert_true(total > 0 && room <= total);
}

static void nodes_that_do_not_exist_are_said(void **state)
{
    static const int nodes[] = { -2, -1, 1023, 1024, 100000, INT32_MAX };
    uint64_t total = 7, room = 8;

    (void)state;
    if (placement_nodes() == 0)
        return;
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++) {
        assert_int_equal(placement_check(nodes[i]), -ENODEV);
        assert_int_equal(placement_room(nodes[i], &total, &room), -ENODEV);
        assert_int_equal(placement_bind(&total, 8, nodes[i], false), -ENODEV);
    }
    assert_int_equal(total, 7);
    assert_int_equal(room, 8);
}

/* What /proc says of the mapping that begins at `addr`. */
static void numa_maps(const void *addr, char *line, size_t size)
{
    FILE *file = fopen("/proc/self/numa_maps", "re");
    char wanted[32];

    assert_non_null(file);
    snprintf(wanted, sizeof wanted, "%lx ", (unsigned long)(uintptr_t)addr);
    do {
        assert_non_null(fgets(line, (int)size, file));
    } while (strncmp(line, wanted, strlen(wanted)) != 0);
    fclose(file);
}

/* The policy, the pages, and the count of them: three answers of the kernel. */
static void require_on_node(void *addr, int node)
{
    unsigned long mask[16] = { 0 };
    char line[512], wanted[32];
    void *pages[PAGES];
    int policy = -1, nodes[PAGES];
    uint64_t bytes[64] = { 0 };

    assert_int_equal(syscall(SYS_get_mempolicy, &policy, mask, 1024UL, addr, (long)MPOL_F_ADDR), 0);
    assert_int_equal(policy, MPOL_BIND);
    assert_int_equal(mask[(size_t)node / 64], 1UL << (node % 64));
    for (size_t i = 0; i < PAGES; i++)
        pages[i] = (char *)addr + i * UNIT_PAGE;
    assert_int_equal(syscall(SYS_move_pages, 0, (long)PAGES, pages, NULL, nodes, 0), 0);
    for (size_t i = 0; i < PAGES; i++)
        assert_int_equal(nodes[i], node);
    numa_maps(addr, line, sizeof line);
    snprintf(wanted, sizeof wanted, "bind:%d ", node);
    assert_non_null(strstr(line, wanted));
    snprintf(wanted, sizeof wanted, "N%d=%d ", node, PAGES);
    assert_non_null(strstr(line, wanted));

    assert_int_equal(placement_count(addr, SIZE, UNIT_PAGE, bytes, 64), 0);
    for (int i = 0; i < 64; i++)
        assert_int_equal(bytes[i], i == node ? SIZE : 0);
}

static void pages_come_from_the_node_that_was_asked_for(void **state)
{
    (void)state;
    for (int node = any_node(0); node >= 0; node = any_node(node + 1)) {
        const struct pages pages = { .node = node };
        struct region_memory memory, renewed;

        print_message("[          ] node %d\n", node);
        assert_int_equal(region_memory_create(SIZE, &pages, -1, REGION_PUBLISHED, &memory), 0);
        require_on_node(memory.addr, node);
        assert_int_equal(region_memory_renew(&memory, &renewed), 0);
        require_on_node(renewed.addr, node);
        region_memory_deinit(&memory);
        region_memory_deinit(&renewed);
    }
}

static void more_than_a_node_has_is_an_error(void **state)
{
    const int node = any_node(0);
    const struct pages pages = { .node = node };
    struct region_memory memory = { .size = 7 };
    uint64_t total = 0, room;

    (void)state;
    if (node < 0)
        return;
    assert_int_equal(placement_room(node, &total, &room), 0);
    assert_int_equal(region_memory_create(total + UNIT_PAGE, &pages, -1, REGION_OPEN, &memory),
                     -ENOMEM);
    assert_int_equal(memory.size, 7);
}

static void untouched_pages_are_not_counted(void **state)
{
    uint64_t bytes[64] = { 0 }, sum = 0;
    char *addr = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(addr, MAP_FAILED);
    if (placement_nodes() > 0) {
        madvise(addr, SIZE, MADV_NOHUGEPAGE);
        addr[0] = 1;
        addr[5 * UNIT_PAGE] = 1;
        assert_int_equal(placement_count(addr, SIZE, UNIT_PAGE, bytes, 64), 0);
        for (int i = 0; i < 64; i++)
            sum += bytes[i];
        assert_int_equal(sum, 2 * UNIT_PAGE);
    }
    munmap(addr, SIZE);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(without_nodes_everything_says_so),
                 SUPPORT_TEST(a_node_has_memory),
                 SUPPORT_TEST(nodes_that_do_not_exist_are_said),
                 SUPPORT_TEST(pages_come_from_the_node_that_was_asked_for),
                 SUPPORT_TEST(more_than_a_node_has_is_an_error),
                 SUPPORT_TEST(untouched_pages_are_not_counted),
                 { 0 },
             })
