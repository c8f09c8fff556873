/* SPDX-License-Identifier: MIT */
/*
 * The guide's sections "Zero-Copy Shared Memory", "NUMA-Aware Allocation", "Memory Management" and
 * "Shared Memory Database".
 */
#include "guide/guide.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIZE ((size_t)1 << 16)

static int target_process(void *arg)
{
    const int *cap_fd = arg;
    vrd_cap_t cap;
    size_t size;
    void *data;

    support_require_equal(vrd_cap_import(*cap_fd, &cap), VRD_OK);
    support_require_equal(vrd_region_map(cap, VRD_RIGHTS_READ_WRITE, &data, &size), VRD_OK);
    support_require_equal(size, SIZE);
    support_require(strcmp(data, "to the target") == 0);
    memcpy(data, "and back", sizeof "and back");
    return 0;
}

/* Create a shared region, a capability for the target process, and access the data directly. */
static void test_shared_region(void **state)
{
    const struct vrd_region_options shared = { .mode = VRD_REGION_SHARED };
    vrd_cap_t region, cap;
    size_t size;
    void *data;
    pid_t target;
    int fd;

    (void)state;
    assert_int_equal(vrd_region_create(SIZE, VRD_RIGHTS_READ_WRITE, &shared, &region), VRD_OK);
    assert_int_equal(vrd_region_map(region, VRD_RIGHTS_READ_WRITE, &data, &size), VRD_OK);
    memcpy(data, "to the target", sizeof "to the target");
    assert_int_equal(vrd_region_create_capability(region, 0, VRD_TRANSFER_SHARE, &cap), VRD_OK);
    assert_int_equal(vrd_cap_export(cap, VRD_RIGHTS_READ_WRITE, &fd), VRD_OK);
    target = support_child(target_process, &fd);
    close(fd);
    support_wait_exit(target, 0);
    assert_string_equal(data, "and back");
    assert_int_equal(vrd_cap_close(cap), VRD_OK);
    assert_int_equal(vrd_cap_close(region), VRD_OK);
}

/* Allocate on a NUMA node. */
static void test_numa(void **state)
{
    vrd_cap_t region;
    const int r = vrd_region_create_numa(SIZE, VRD_RIGHTS_READ_WRITE, 0, &region);

    (void)state;
    if (r == VRD_ERR_NOT_SUPPORTED) /* built without libnuma */
        return;
    assert_int_equal(r, VRD_OK);
    assert_int_equal(vrd_cap_close(region), VRD_OK);
}

static int memory_allocate_pages(void *user, size_t size, uint32_t huge_pages, int *ret_fd)
{
    (void)huge_pages;
    *ret_fd = memfd_create("pages", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    ++*(int *)user;
    return *ret_fd < 0 || ftruncate(*ret_fd, (off_t)size) < 0 ? VRD_ERR_OUT_OF_MEMORY : VRD_OK;
}

static void memory_free_pages(void *user, size_t size)
{
    (void)size;
    --*(int *)user;
}

/* A memory manager provides the backing of shared regions. */
static void test_memory_manager(void **state)
{
    int regions = 0;
    const struct vrd_memory_provider manager = { .allocate_pages = memory_allocate_pages,
                                                 .free_pages = memory_free_pages,
                                                 .user = &regions };
    const struct vrd_region_options options = { .provider = &manager };
    vrd_cap_t region;

    (void)state;
    assert_int_equal(vrd_region_create(SIZE, VRD_RIGHTS_READ_WRITE, &options, &region), VRD_OK);
    assert_int_equal(regions, 1);
    assert_int_equal(vrd_cap_close(region), VRD_OK);
    assert_int_equal(regions, 0);
}

struct database {
    char records[16][64];
};

static int client_process(void *arg)
{
    const int *cap_fd = arg;
    const struct database *view;
    vrd_cap_t read_cap;
    size_t size;
    void *data;

    support_require_equal(vrd_cap_import(*cap_fd, &read_cap), VRD_OK);
    support_require_equal(vrd_region_map(read_cap, VRD_RIGHTS_READ_WRITE, &data, &size),
                          VRD_ERR_PERMISSION_DENIED);
    support_require_equal(vrd_region_map(read_cap, VRD_RIGHT_READ, &data, &size), VRD_OK);
    view = data;
    support_require(strcmp(view->records[3], "the third") == 0);
    return 0;
}

/* The database process writes, its clients read. (examples/database is one that changes meanwhile.) */
static void test_database(void **state)
{
    struct database *db;
    vrd_cap_t db_region;
    size_t size;
    void *data;
    pid_t client;
    int read_cap;

    (void)state;
    assert_int_equal(vrd_region_create(sizeof *db, VRD_RIGHTS_READ_WRITE, NULL, &db_region),
                     VRD_OK);
    assert_int_equal(vrd_region_map(db_region, VRD_RIGHTS_READ_WRITE, &data, &size), VRD_OK);
    db = data;
    strcpy(db->records[3], "the third");
    assert_int_equal(vrd_cap_export(db_region, VRD_RIGHT_READ, &read_cap), VRD_OK);
    client = support_child(client_process, &read_cap);
    close(read_cap);
    support_wait_exit(client, 0);
    assert_int_equal(vrd_cap_close(db_region), VRD_OK);
}

static int warm_up(void)
{
    vrd_cap_t region;
    int fd;

    if (guide_warm_up() != 0 || vrd_region_create(1, VRD_RIGHT_READ, NULL, &region) != VRD_OK ||
        vrd_cap_export(region, VRD_RIGHT_READ, &fd) != VRD_OK)
        return -1;
    close(fd);
    return vrd_cap_close(region);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_shared_region),
                     SUPPORT_TEST(test_numa),
                     SUPPORT_TEST(test_memory_manager),
                     SUPPORT_TEST(test_database),
                     { 0 },
                 },
             .warm_up = warm_up)
