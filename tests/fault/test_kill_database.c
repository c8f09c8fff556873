/* SPDX-License-Identifier: MIT */
/*
 * The database of examples/database, whose writer dies at any instruction of an update or an insertion. The
 * readers find what the operations up to some point have made, and nothing of the next one; and a new writer
 * goes on: in the same memory if it may write there, else with a copy.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "../../examples/database/table.h"
#include "step.h"
#include "support/support.h"

#define RECORDS 8
#define KEYS 5 /* 1 to KEYS; the last ones are not there at first */
#define KEYS_AT_FIRST 3

/* What the writer does: the value of a key becomes that of an update. */
static const struct put {
    uint64_t key, update;
} puts_of_writer[] = { { 1, 1 }, { 4, 2 }, { 2, 3 }, { 1, 4 }, { 5, 5 }, { 4, 6 } };

#define PUTS (sizeof(puts_of_writer) / sizeof(puts_of_writer[0]))

struct scene {
    enum vrd_region_mode mode;
    int sock; /* the invitation goes there */
    struct support_gate may;
};

static struct value value_of(uint64_t key, uint64_t update)
{
    struct value value = { .word = { update } };

    for (uint64_t i = 1; i < TABLE_WORDS; i++)
        value.word[i] = key * UINT64_C(0x9e3779b97f4a7c15) ^ update << 8 ^ i;
    return value;
}

static void put(struct table *table, uint64_t key, uint64_t update)
{
    const struct value value = value_of(key, update);

    support_require(table_put(table, key, &value));
}

static void *map(vrd_cap_t cap, uint32_t rights, size_t *ret_size)
{
    void *addr;

    support_require_equal(vrd_region_map(cap, rights, &addr, ret_size), 0);
    return addr;
}

static vrd_cap_t create(enum vrd_region_mode mode, struct table *ret)
{
    const struct vrd_region_options options = { .mode = (uint32_t)mode };
    vrd_cap_t cap;
    size_t size;
    void *addr;

    support_require_equal(
        vrd_region_create(table_size(RECORDS), VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
    addr = map(cap, VRD_RIGHTS_READ_WRITE, &size);
    support_require(table_create(ret, addr, size, RECORDS));
    return cap;
}

/* --- the writer ----------------------------------------------------------------------------------- */

static int writer_run(void *arg)
{
    const struct scene *scene = arg;
    struct table table;
    const vrd_cap_t cap = create(scene->mode, &table);
    const uint32_t rights =
        scene->mode == VRD_REGION_SHARED ? VRD_RIGHTS_READ_WRITE : VRD_RIGHT_READ;
    int fd;

    for (uint64_t key = 1; key <= KEYS_AT_FIRST; key++)
        put(&table, key, 0);
    support_require_equal(vrd_cap_export(cap, rights, &fd), 0);
    support_send_fd(scene->sock, fd);
    close(fd);
    support_gate_wait(&scene->may);
    step_begin();
    for (size_t i = 0; i < PUTS; i++)
        put(&table, puts_of_writer[i].key, puts_of_writer[i].update);
    step_end();
    return 0;
}

/* --- what must hold ------------------------------------------------------------------------------- */

#define NOTHING UINT64_MAX

/* The update whose value the key has, all of it; or NOTHING. */
static uint64_t update_of(struct table *table, uint64_t key)
{
    struct value value, whole;

    if (!table_get(table, key, &value))
        return NOTHING;
    whole = value_of(key, value.word[0]);
    if (memcmp(&value, &whole, sizeof value) != 0)
        support_fail(__FILE__, __LINE__, "the value of key %ju is torn", (uintmax_t)key);
    return value.word[0];
}

/* ... and after the first n of what the writer does? */
static uint64_t update_after(size_t n, uint64_t key)
{
    uint64_t update = key <= KEYS_AT_FIRST ? 0 : NOTHING;

    for (size_t i = 0; i < n; i++)
        if (puts_of_writer[i].key == key)
            update = puts_of_writer[i].update;
    return update;
}

static bool stands_after(struct table *table, size_t n)
{
    for (uint64_t key = 1; key <= KEYS; key++)
        if (update_of(table, key) != update_after(n, key))
            return false;
    return true;
}

/* How many operations were done? There is nothing between two of them. */
static size_t done_in(struct table *table)
{
    for (size_t n = 0; n <= PUTS; n++)
        if (stands_after(table, n))
            return n;
    support_fail(__FILE__, __LINE__, "the table is as it never was");
}

/* One more of each key, twice, since a record has room for two values, and a new one. */
static void go_on(struct table *table)
{
    for (uint64_t update = 100; update < 102; update++)
        for (uint64_t key = 1; key <= KEYS + 1; key++) {
            put(table, key, update);
            support_require_equal(update_of(table, key), update);
        }
    for (uint64_t key = 1; key <= KEYS + 1; key++)
        support_require_equal(update_of(table, key), 101);
}

static void go_on_with_a_copy(struct table *left)
{
    struct table table;
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED, &table);
    struct value value;

    for (uint64_t key = 1; key <= KEYS; key++)
        if (table_get(left, key, &value))
            support_require(table_put(&table, key, &value));
    support_require_equal(done_in(&table), done_in(left));
    go_on(&table);
    support_require_equal(vrd_cap_close(cap), 0);
}

static bool kill_writer_at(enum vrd_region_mode mode, struct step_walk *walk, size_t *ret_done)
{
    const bool shared = mode == VRD_REGION_SHARED;
    struct scene scene = { .mode = mode };
    struct table table;
    vrd_cap_t held;
    int pair[2];
    size_t size;
    pid_t victim;
    bool inside;

    support_socket_pair(pair);
    scene.sock = pair[1];
    support_gate_init(&scene.may);
    victim = support_child(writer_run, &scene);
    close(pair[1]);
    support_require_equal(vrd_cap_import(support_receive_fd(pair[0]), &held), 0);
    support_require(table_open(
        &table, map(held, shared ? VRD_RIGHTS_READ_WRITE : VRD_RIGHT_READ, &size), size));
    support_require_equal(done_in(&table), 0);
    support_gate_open(&scene.may);
    inside = step_kill(victim, walk);
    *ret_done = done_in(&table);
    if (shared)
        go_on(&table);
    else
        go_on_with_a_copy(&table);
    support_require_equal(vrd_cap_close(held), 0);
    close(pair[0]);
    support_gate_deinit(&scene.may);
    return inside;
}

static void kill_everywhere(enum vrd_region_mode mode)
{
    struct step_walk walk = { .unit = STEP_INSTRUCTION, .stride = 1 };
    size_t deaths = 0, deaths_after[PUTS + 1] = { 0 };

    while (step_walk_next(&walk)) {
        size_t done;
        const bool inside = kill_writer_at(mode, &walk, &done);

        deaths += inside;
        deaths_after[done] += inside;
    }
    print_message("%zu deaths\n", deaths);
    for (size_t i = 0; i <= PUTS; i++)
        assert_true(deaths_after[i] > 0);
}

static void test_the_memory_is_the_writers(void **state)
{
    (void)state;
    kill_everywhere(VRD_REGION_PUBLISHED);
}

static void test_the_memory_is_shared(void **state)
{
    (void)state;
    kill_everywhere(VRD_REGION_SHARED);
}

static int warm_up(void)
{
    struct table table;
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED, &table);
    size_t size;
    vrd_cap_t held;
    int fd;

    if (vrd_cap_export(cap, VRD_RIGHT_READ, &fd) != 0 || vrd_cap_import(fd, &held) != 0)
        return -1;
    map(held, VRD_RIGHT_READ, &size);
    return vrd_cap_close(held) != 0 || vrd_cap_close(cap) != 0 ? -1 : support_warm_up_channel();
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_the_memory_is_the_writers, 120),
                     SUPPORT_TEST_TIMEOUT(test_the_memory_is_shared, 120),
                     { 0 },
                 },
             .warm_up = warm_up)
