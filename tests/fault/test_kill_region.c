/* SPDX-License-Identifier: MIT */
/*
 * A region's maker, or one who holds it, that dies at any instruction of what can be done with it. Those
 * who hold it read it whole, without a fault; what was passed on is a region or is not there; and
 * the maker finds that a dead holder holds nothing.
 *
 * ctest: no-asan no-tsan timeout=300
 */
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "step.h"
#include "support/support.h"

#define PAGE ((size_t)4096)
#define SIZE (2 * PAGE)

struct scene {
    const struct operation *operation;
    int here, there; /* a socket pair: descriptors come from there */
    vrd_cap_t maker; /* of the region, where that is the test itself */
    int invitation;
    struct support_gate may;
};

/* In the victim. */
struct victim {
    int sock;
    vrd_cap_t cap, some;
    uint8_t *bytes;
};

struct operation {
    enum vrd_region_mode mode;
    void (*run)(struct victim *victim);
    bool made;   /* the victim makes a region before, and the test holds it meanwhile */
    bool sends;  /* what it passes on may come */
    bool writes; /* contents may be 2 instead of 1 */
    bool moved;  /* what comes is nobody's to write */
    enum step_unit unit;
    size_t stride;
};

static uint8_t *map(vrd_cap_t cap, uint32_t rights)
{
    size_t size;
    void *addr;

    support_require_equal(vrd_region_map(cap, rights, &addr, &size), 0);
    support_require_equal(size, SIZE);
    return addr;
}

static vrd_cap_t create(enum vrd_region_mode mode)
{
    const struct vrd_region_options options = { .mode = (uint32_t)mode };
    vrd_cap_t cap;

    support_require_equal(vrd_region_create(SIZE, VRD_RIGHTS_READ_WRITE, &options, &cap), 0);
    return cap;
}

/* Few bytes: a repeated instruction is a step for each. */
static void fill(uint8_t *bytes, uint8_t value)
{
    for (size_t i = 0; i < SIZE; i += PAGE)
        bytes[i] = value;
}

/* --- what the victims do ---------------------------------------------------------------------- */

static void pass_on(struct victim *victim, vrd_cap_t cap)
{
    int fd;

    support_require_equal(vrd_cap_export(cap, VRD_RIGHT_READ, &fd), 0);
    support_send_fd(victim->sock, fd);
    close(fd);
}

static void create_and_pass_on(struct victim *victim)
{
    victim->cap = create(VRD_REGION_SNAPSHOT);
    fill(map(victim->cap, VRD_RIGHTS_READ_WRITE), 1);
    pass_on(victim, victim->cap);
    support_require_equal(vrd_cap_close(victim->cap), 0);
}

static void move(struct victim *victim)
{
    vrd_cap_t moved;

    support_require_equal(vrd_region_create_capability(victim->cap, 0, VRD_TRANSFER_MOVE, &moved),
                          0);
    pass_on(victim, moved);
}

static void revoke_some(struct victim *victim)
{
    support_require_equal(vrd_cap_revoke(victim->some), 0);
    fill(victim->bytes, 2);
}

static void close_it(struct victim *victim)
{
    support_require_equal(vrd_region_unmap(victim->cap), 0);
    support_require_equal(vrd_cap_close(victim->cap), 0);
}

static int maker_run(void *arg)
{
    const struct scene *scene = arg;
    struct victim victim = { .sock = scene->there };

    if (scene->operation->mode != VRD_REGION_SNAPSHOT || scene->operation->made) {
        victim.cap = create(scene->operation->mode);
        victim.bytes = map(victim.cap, VRD_RIGHTS_READ_WRITE);
        fill(victim.bytes, 1);
    }
    if (scene->operation->made) {
        pass_on(&victim, victim.cap);
        support_require_equal(
            vrd_region_create_capability(victim.cap, 0, VRD_TRANSFER_SHARE, &victim.some), 0);
        support_gate_wait(&scene->may);
    }
    step_begin();
    scene->operation->run(&victim);
    step_end();
    return 0;
}

static int holder_run(void *arg)
{
    const struct scene *scene = arg;
    vrd_cap_t cap;

    step_begin();
    support_require_equal(vrd_cap_import(scene->invitation, &cap), 0);
    support_require_equal(map(cap, VRD_RIGHT_READ)[PAGE], 1);
    support_require_equal(vrd_region_unmap(cap), 0);
    support_require_equal(vrd_cap_close(cap), 0);
    step_end();
    return 0;
}

/* --- what must hold ---------------------------------------------------------------------------- */

/* The descriptor that came, or -1 at the end. */
static int receive_if_any(int sock)
{
    union {
        char buf[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    char byte[16];
    struct iovec iov = { .iov_base = byte, .iov_len = sizeof byte };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    int fd = -1;

    if (recvmsg(sock, &message, MSG_CMSG_CLOEXEC) > 0 && CMSG_FIRSTHDR(&message))
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
    return fd;
}

static void require_whole(const struct operation *operation, const uint8_t *bytes)
{
    for (size_t i = 0; i < SIZE; i += PAGE)
        support_require(bytes[i] == 1 || (operation->writes && bytes[i] == 2));
}

/* What the victim passed on before it died. */
static void check_passed_on(const struct operation *operation, int fd)
{
    struct vrd_region_info info;
    vrd_cap_t cap;

    if (fd < 0)
        return;
    support_require_equal(vrd_cap_import(fd, &cap), 0);
    support_require_equal(vrd_region_info(cap, &info), 0);
    support_require_equal(info.immutable, operation->moved);
    require_whole(operation, map(cap, VRD_RIGHT_READ));
    support_require_equal(vrd_cap_close(cap), 0);
}

static bool kill_maker_at(const struct operation *operation, struct step_walk *walk)
{
    struct scene scene = { .operation = operation };
    vrd_cap_t held = VRD_CAP_NONE;
    const uint8_t *bytes = NULL;
    int pair[2];
    pid_t victim;
    bool inside;

    support_socket_pair(pair);
    scene.here = pair[0];
    scene.there = pair[1];
    support_gate_init(&scene.may);
    victim = support_child(maker_run, &scene);
    close(scene.there);
    if (operation->made) {
        support_require_equal(vrd_cap_import(support_receive_fd(scene.here), &held), 0);
        bytes = map(held, VRD_RIGHT_READ);
        support_gate_open(&scene.may);
    }
    inside = step_kill(victim, walk);
    if (operation->made) {
        require_whole(operation, bytes);
        support_require_equal(vrd_region_unmap(held), 0);
        require_whole(operation, map(held, VRD_RIGHT_READ));
        support_require_equal(vrd_cap_close(held), 0);
    }
    if (operation->sends)
        check_passed_on(operation, receive_if_any(scene.here));
    close(scene.here);
    support_gate_deinit(&scene.may);
    return inside;
}

static bool kill_holder_at(const struct operation *operation, struct step_walk *walk)
{
    struct scene scene = { .operation = operation, .maker = create(operation->mode) };
    vrd_cap_t moved;
    pid_t victim;
    bool inside;

    fill(map(scene.maker, VRD_RIGHTS_READ_WRITE), 1);
    support_require_equal(vrd_cap_export(scene.maker, VRD_RIGHT_READ, &scene.invitation), 0);
    victim = support_child(holder_run, &scene);
    close(scene.invitation);
    inside = step_kill(victim, walk);
    while (vrd_region_create_capability(scene.maker, 0, VRD_TRANSFER_MOVE, &moved) ==
           VRD_ERR_RESOURCE_BUSY) /* until it is seen that nobody else has it */
        support_sleep_ms(1);
    require_whole(operation, map(moved, VRD_RIGHT_READ));
    support_require_equal(vrd_cap_close(moved), 0);
    return inside;
}

static void kill_everywhere(const struct operation *operation,
                            bool (*kill_at)(const struct operation *, struct step_walk *))
{
    struct step_walk walk = { .unit = operation->unit, .stride = operation->stride };
    size_t deaths = 0;

    while (step_walk_next(&walk)) {
        const bool inside = kill_at(operation, &walk);

        deaths += inside;
    }
    print_message("%zu deaths\n", deaths);
    assert_true(deaths > 10);
}

/* At every border of a system call, and at every so many instructions. */
static void kill_maker(struct operation operation, size_t stride)
{
    operation.unit = STEP_SYSCALL;
    operation.stride = 1;
    kill_everywhere(&operation, kill_maker_at);
    operation.unit = STEP_INSTRUCTION;
    operation.stride = stride;
    kill_everywhere(&operation, kill_maker_at);
}

static void test_create(void **state)
{
    (void)state;
    kill_maker(
        (struct operation){
            .mode = VRD_REGION_SNAPSHOT, .run = create_and_pass_on, .sends = true, .moved = true },
        97);
}

static void test_move(void **state)
{
    (void)state;
    kill_maker(
        (struct operation){
            .mode = VRD_REGION_PUBLISHED, .run = move, .sends = true, .moved = true },
        41);
}

static void test_revoke_and_new_memory(void **state)
{
    (void)state;
    kill_maker(
        (struct operation){
            .mode = VRD_REGION_PUBLISHED, .run = revoke_some, .made = true, .writes = true },
        131);
}

static void test_close(void **state)
{
    (void)state;
    kill_maker((struct operation){ .mode = VRD_REGION_SHARED, .run = close_it, .made = true }, 29);
}

static void test_import_and_map(void **state)
{
    struct operation operation = { .mode = VRD_REGION_PUBLISHED,
                                   .unit = STEP_SYSCALL,
                                   .stride = 1 };

    (void)state;
    kill_everywhere(&operation, kill_holder_at);
    operation.unit = STEP_INSTRUCTION;
    operation.stride = 101;
    kill_everywhere(&operation, kill_holder_at);
}

static int warm_up(void)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    vrd_cap_t held;
    int fd;

    if (vrd_cap_export(cap, VRD_RIGHT_READ, &fd) != 0 || vrd_cap_import(fd, &held) != 0)
        return -1;
    map(held, VRD_RIGHT_READ);
    return vrd_cap_close(held) != 0 || vrd_cap_close(cap) != 0 ? -1 : support_warm_up_channel();
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(test_create, 120),
                     SUPPORT_TEST_TIMEOUT(test_move, 120),
                     SUPPORT_TEST_TIMEOUT(test_revoke_and_new_memory, 120),
                     SUPPORT_TEST_TIMEOUT(test_close, 120),
                     SUPPORT_TEST_TIMEOUT(test_import_and_map, 120),
                     { 0 },
                 },
             .warm_up = warm_up)
