/* SPDX-License-Identifier: MIT */
/* Regions from a maker, and in the hands of a holder, that never ran the library. */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "peer.h"
#include "wrong.h"

#define SIZE ((size_t)4096)
#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW)
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static int memfd(size_t size, int seals)
{
    static const char zeroes[16 * SIZE];
    const int fd = memfd_create("hostile", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    support_require(fd >= 0 && pwrite(fd, zeroes, size, 0) == (ssize_t)size);
    support_require(fcntl(fd, F_ADD_SEALS, seals) == 0);
    return fd;
}

static struct frame greeting(enum vrd_region_mode mode, uint32_t rights)
{
    return (struct frame){ .type = FRAME_GREETING_REGION,
                           .rights = rights,
                           .bytes = SIZE,
                           .id = 1 + (uint64_t)mode,
                           .extension = 1 + VRD_TRANSFER_SHARE };
}

/* What importing an invitation with this greeting gives; *ret_far is the maker's end. */
static int offer(const struct frame *frame, const int *fds, size_t n_fds, vrd_cap_t *ret,
                 int *ret_far)
{
    int pair[2];

    support_socket_pair(pair);
    support_require_equal(raw_send_frame(pair[1], frame, fds, n_fds), 0);
    *ret_far = pair[1];
    return vrd_cap_import(pair[0], ret);
}

static void require_refused(const struct frame *frame, const int *fds, size_t n_fds)
{
    vrd_cap_t cap = 7;
    int far;

    support_require_equal(offer(frame, fds, n_fds, &cap, &far), VRD_ERR_PEER_CORRUPT);
    support_require_equal(cap, 7);
    close(far);
}

/* --- a maker ------------------------------------------------------------------------------------ */

/* What is no segment of a link may be a region: further seals do not matter, and who shares writes. */
static bool is_one_after_all(const char *name, enum vrd_region_mode mode)
{
    if (strcmp(name, "a memfd that takes more seals") == 0)
        return mode != VRD_REGION_SNAPSHOT;
    return strcmp(name, "a memfd that can be mapped writable") == 0 && mode == VRD_REGION_SHARED;
}

static void memory_that_is_none_is_refused(void **state)
{
    (void)state;
    for (const struct wrong *wrong = wrong_segments; wrong->name; wrong++)
        for (int mode = VRD_REGION_PUBLISHED; mode <= VRD_REGION_SHARED; mode++) {
            struct frame frame = greeting((enum vrd_region_mode)mode, VRD_RIGHT_READ);
            const int fd = wrong->make();

            if (!is_one_after_all(wrong->name, (enum vrd_region_mode)mode))
                require_refused(&frame, &fd, 1);
            frame.extension = 1 + VRD_TRANSFER_COPY_ON_WRITE;
            require_refused(&frame, &fd, 1);
            frame.extension = 1 + VRD_TRANSFER_MOVE;
            require_refused(&frame, &fd, 1);
            close(fd);
        }
}

static void each_mode_has_its_seals(void **state)
{
    static const struct {
        enum vrd_region_mode mode;
        int seals;
    } wrong[] = {
        { VRD_REGION_PUBLISHED, SEALS_SIZE },
        { VRD_REGION_PUBLISHED, F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE },
        { VRD_REGION_SNAPSHOT, SEALS_SIZE | F_SEAL_FUTURE_WRITE },
        { VRD_REGION_SNAPSHOT, F_SEAL_GROW | F_SEAL_WRITE },
        { VRD_REGION_SHARED, F_SEAL_SHRINK },
        { VRD_REGION_SHARED, 0 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const struct frame frame = greeting(wrong[i].mode, VRD_RIGHT_READ);
        const int fd = memfd(SIZE, wrong[i].seals);

        require_refused(&frame, &fd, 1);
        close(fd);
    }
}

static void greetings_that_contradict_themselves_are_refused(void **state)
{
    const int fd = memfd(SIZE, SEALS_SIZE | F_SEAL_WRITE), two[2] = { fd, fd };
    const struct frame good = greeting(VRD_REGION_PUBLISHED, VRD_RIGHT_READ);
    struct frame frame;
    vrd_cap_t cap;
    int far;

    (void)state;
    frame = good, frame.bytes = 2 * SIZE, require_refused(&frame, &fd, 1);
    frame = good, frame.bytes = SIZE - 1, require_refused(&frame, &fd, 1);
    frame = good, frame.bytes = UINT64_MAX, require_refused(&frame, &fd, 1);
    frame = good, frame.bytes = (uint64_t)1 << 62, require_refused(&frame, &fd, 1);
    frame = good, frame.id = 4, require_refused(&frame, &fd, 1);
    frame = good, frame.id = UINT64_MAX, require_refused(&frame, &fd, 1);
    frame = good, frame.extension = 4, require_refused(&frame, &fd, 1);
    frame = good, frame.extension = UINT32_MAX, require_refused(&frame, &fd, 1);
    frame = good, frame.count = 21, require_refused(&frame, &fd, 1);
    frame = good, frame.count = 30, require_refused(&frame, &fd, 1);
    frame = good, frame.count = 64, require_refused(&frame, &fd, 1);
    frame = good, frame.count = UINT32_MAX, require_refused(&frame, &fd, 1);
    frame = good, frame.rights = VRD_RIGHT_WRITE, require_refused(&frame, &fd, 1);
    frame = good, frame.rights |= VRD_RIGHT_SEND, require_refused(&frame, &fd, 1);
    frame = good, frame.rights |= VRD_RIGHT_RECEIVE, require_refused(&frame, &fd, 1);
    frame = good, frame.rights |= VRD_RIGHT_WRITE, require_refused(&frame, &fd, 1);
    require_refused(&good, two, 2);
    require_refused(&good, NULL, 0);
    assert_int_equal(offer(&good, &fd, 1, &cap, &far), 0); /* the counter-example */
    assert_int_equal(vrd_cap_close(cap), 0);
    close(far);
    close(fd);
}

static void no_other_capability_reads(void **state)
{
    struct frame frame = { .type = FRAME_GREETING_SEND,
                           .slots = 16,
                           .max_message = 4096,
                           .rights = VRD_RIGHT_SEND | VRD_RIGHT_READ };

    (void)state;
    require_refused(&frame, NULL, 0);
    frame.type = FRAME_GREETING_RECEIVE;
    frame.rights = VRD_RIGHT_RECEIVE | VRD_RIGHT_WRITE;
    require_refused(&frame, NULL, 0);
}

static void a_right_to_write_wants_a_descriptor_for_it(void **state)
{
    const struct frame frame = greeting(VRD_REGION_SHARED, VRD_RIGHT_READ | VRD_RIGHT_WRITE);
    const int fd = memfd(SIZE, SEALS_SIZE);
    char path[64];
    int readonly;

    (void)state;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    readonly = open(path, O_RDONLY | O_CLOEXEC);
    require_refused(&frame, &readonly, 1);
    close(readonly);
    close(fd);
}

static const volatile uint8_t *map(vrd_cap_t cap)
{
    void *addr;
    size_t size;

    support_require_equal(vrd_region_map(cap, VRD_RIGHT_READ, &addr, &size), 0);
    return addr;
}

static void what_its_maker_does_to_shared_memory_faults_nobody(void **state)
{
    const struct frame frame = greeting(VRD_REGION_SHARED, VRD_RIGHT_READ);
    const int fd = memfd(SIZE, SEALS_SIZE);
    const volatile uint8_t *bytes;
    vrd_cap_t cap;
    int far;

    (void)state;
    assert_int_equal(offer(&frame, &fd, 1, &cap, &far), 0);
    bytes = map(cap);
    assert_int_equal(pwrite(fd, "x", 1, 5), 1);
    assert_int_equal(bytes[5], 'x');
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, SIZE), 0);
    assert_int_equal(bytes[5], 0);
    assert_int_equal(vrd_cap_close(cap), 0);
    close(far);
    close(fd);
}

/* Sends it to a holder who has the region mapped; what is then at its place? */
static void after_frame(const struct frame *frame, const int *fds, size_t n_fds, int expected_map)
{
    const struct frame good = greeting(VRD_REGION_PUBLISHED, VRD_RIGHT_READ);
    const int fd = memfd(SIZE, SEALS_SIZE | F_SEAL_FUTURE_WRITE);
    const volatile uint8_t *bytes;
    vrd_cap_t cap;
    void *addr;
    size_t size;
    int far;

    support_require_equal(offer(&good, &fd, 1, &cap, &far), 0);
    bytes = map(cap);
    support_require_equal(raw_send_frame(far, frame, fds, n_fds), 0);
    support_require_equal(vrd_region_map(cap, VRD_RIGHT_READ, &addr, &size), expected_map);
    for (size_t i = 0; i < SIZE; i++)
        support_require_equal(bytes[i], 0);
    support_require_equal(vrd_cap_close(cap), 0);
    close(far);
    close(fd);
}

static void wrong_news_end_it_without_a_fault(void **state)
{
    const int good = memfd(SIZE, SEALS_SIZE | F_SEAL_FUTURE_WRITE);
    const int large = memfd(2 * SIZE, SEALS_SIZE | F_SEAL_FUTURE_WRITE);
    const int open_one = memfd(SIZE, SEALS_SIZE);
    struct frame frame = { .type = FRAME_ATTACH, .extension = 1, .bytes = SIZE };

    (void)state;
    after_frame(&frame, &good, 1, 0); /* the counter-example: new memory */
    after_frame(&frame, &large, 1, VRD_ERR_PEER_CORRUPT);
    after_frame(&frame, &open_one, 1, VRD_ERR_PEER_CORRUPT);
    frame.bytes = 2 * SIZE;
    after_frame(&frame, &large, 1, VRD_ERR_PEER_CORRUPT);
    frame = (struct frame){ .type = FRAME_WELCOME };
    after_frame(&frame, &good, 1, VRD_ERR_PEER_CORRUPT);
    frame = (struct frame){ .type = FRAME_DERIVE, .rights = VRD_RIGHT_READ };
    after_frame(&frame, &good, 1, VRD_ERR_PEER_CORRUPT);
    frame = greeting(VRD_REGION_PUBLISHED, VRD_RIGHT_READ);
    after_frame(&frame, &good, 1, VRD_ERR_PEER_CORRUPT);
    frame = (struct frame){ .type = FRAME_CLOSE };
    after_frame(&frame, NULL, 0, VRD_ERR_REVOKED);
    frame = (struct frame){ .type = FRAME_REVOKED, .id = 99 }; /* nobody asked: nobody cares */
    after_frame(&frame, NULL, 0, 0);
    close(good);
    close(large);
    close(open_one);
}

/* A maker that takes the right back and sends new memory all the same. */
static void what_is_lost_stays_lost(void **state)
{
    const struct frame good = greeting(VRD_REGION_PUBLISHED, VRD_RIGHT_READ);
    const struct frame close_frame = { .type = FRAME_CLOSE };
    const struct frame renewed = { .type = FRAME_ATTACH, .extension = 1, .bytes = SIZE };
    const int fd = memfd(SIZE, SEALS_SIZE | F_SEAL_FUTURE_WRITE), other = memfd(SIZE, 0);
    const volatile uint8_t *bytes;
    vrd_cap_t cap;
    void *addr;
    size_t size;
    int far;

    (void)state;
    assert_int_equal(pwrite(other, "new", 3, 0), 3);
    assert_int_equal(fcntl(other, F_ADD_SEALS, SEALS_SIZE | F_SEAL_FUTURE_WRITE), 0);
    assert_int_equal(offer(&good, &fd, 1, &cap, &far), 0);
    bytes = map(cap);
    assert_int_equal(raw_send_frame(far, &close_frame, NULL, 0), 0);
    assert_int_equal(raw_send_frame(far, &renewed, &other, 1), 0);
    assert_int_equal(vrd_region_map(cap, VRD_RIGHT_READ, &addr, &size), VRD_ERR_REVOKED);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(vrd_cap_close(cap), 0);
    close(far);
    close(fd);
    close(other);
}

static void memory_of_no_snapshot_is_ever_replaced(void **state)
{
    const struct frame snapshot = greeting(VRD_REGION_SNAPSHOT, VRD_RIGHT_READ);
    const struct frame frame = { .type = FRAME_ATTACH, .extension = 1, .bytes = SIZE };
    const int fd = memfd(SIZE, SEALS_SIZE | F_SEAL_WRITE);
    void *addr;
    size_t size;
    vrd_cap_t cap;
    int far;

    (void)state;
    assert_int_equal(offer(&snapshot, &fd, 1, &cap, &far), 0);
    assert_int_equal(raw_send_frame(far, &frame, &fd, 1), 0);
    assert_int_equal(vrd_region_map(cap, VRD_RIGHT_READ, &addr, &size), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(vrd_cap_close(cap), 0);
    close(far);
    close(fd);
}

/* --- a holder ----------------------------------------------------------------------------------- */

/* A region with an honest holder, and the near end of a hostile one, which has read its greeting. */
struct mine {
    vrd_cap_t maker, honest;
    uint8_t *bytes;
    const volatile uint8_t *seen;
    int near;
};

static struct mine mine_new(uint32_t rights)
{
    struct mine mine;
    size_t size;
    void *addr;
    int fd;

    support_require_equal(vrd_region_create(SIZE, VRD_RIGHTS_READ_WRITE, NULL, &mine.maker), 0);
    support_require_equal(vrd_region_map(mine.maker, VRD_RIGHTS_READ_WRITE, &addr, &size), 0);
    mine.bytes = addr;
    support_require_equal(vrd_cap_export(mine.maker, VRD_RIGHT_READ, &fd), 0);
    support_require_equal(vrd_cap_import(fd, &mine.honest), 0);
    mine.seen = map(mine.honest);
    support_require_equal(vrd_cap_export(mine.maker, rights, &mine.near), 0);
    return mine;
}

/* The hostile one is gone from the tree, the honest one is well. */
static void mine_free(struct mine *mine)
{
    close(mine->near);
    mine->bytes[0] = 42;
    support_require_equal(mine->seen[0], 42);
    support_require_equal(vrd_cap_close(mine->honest), 0);
    support_require_equal(vrd_cap_close(mine->maker), 0);
}

static void wait_hung_up(int fd)
{
    while (!raw_hung_up(fd))
        support_sleep_ms(1);
}

static void require_cut_off(const struct frame *frame, const int *fds, size_t n_fds)
{
    struct mine mine = mine_new(VRD_RIGHT_READ);

    support_require_equal(raw_send_frame(mine.near, frame, fds, n_fds), 0);
    wait_hung_up(mine.near);
    mine_free(&mine);
}

static void who_asks_for_what_it_may_not_is_cut_off(void **state)
{
    struct frame frame = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_READ };
    int pair[2];

    (void)state;
    support_socket_pair(pair);
    require_cut_off(&frame, pair, 1); /* without GRANT */
    frame.count = 1;
    frame.rights = VRD_RIGHT_READ | VRD_RIGHT_WRITE;
    require_cut_off(&frame, pair, 1);
    frame.rights = VRD_RIGHT_READ | VRD_RIGHT_GRANT;
    require_cut_off(&frame, pair, 1);
    frame.rights = VRD_RIGHT_SEND;
    require_cut_off(&frame, pair, 1);
    frame.rights = VRD_RIGHT_READ;
    frame.count = 2;
    require_cut_off(&frame, pair, 1);
    frame = (struct frame){ .type = FRAME_REVOKE, .id = 1 };
    require_cut_off(&frame, NULL, 0);
    frame = (struct frame){ .type = FRAME_REVOKED, .id = 1 };
    require_cut_off(&frame, NULL, 0);
    frame = (struct frame){ .type = FRAME_ATTACH, .extension = 1, .bytes = SIZE };
    require_cut_off(&frame, pair, 1);
    frame = (struct frame){ .type = FRAME_HELLO, .slots = 16, .max_message = 4096 };
    require_cut_off(&frame, pair, 2);
    frame = greeting(VRD_REGION_PUBLISHED, VRD_RIGHT_READ);
    require_cut_off(&frame, pair, 1);
    close(pair[0]);
    close(pair[1]);
}

static void bytes_that_are_no_frame_end_it(void **state)
{
    static const char junk[256];

    (void)state;
    for (size_t len = 1; len <= sizeof junk; len = len * 3 + 1) {
        struct mine mine = mine_new(VRD_RIGHT_READ);

        support_require_equal(raw_send(mine.near, junk, len, NULL, 0), 0);
        wait_hung_up(mine.near);
        mine_free(&mine);
    }
}

static void what_is_no_socket_confers_nothing(void **state)
{
    const struct frame frame = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_READ };

    (void)state;
    for (const struct wrong *wrong = wrong_sockets; wrong->name; wrong++) {
        struct mine mine = mine_new(VRD_RIGHT_READ | VRD_RIGHT_GRANT);
        const int fd = wrong->make();

        assert_int_equal(raw_send_frame(mine.near, &frame, &fd, 1), 0);
        if (!wrong->dead_socket)
            wait_hung_up(mine.near);
        close(fd);
        mine_free(&mine);
    }
}

/* Whoever may pass it on may pass it on often; all of it goes at once. */
static void a_flood_is_taken_back(void **state)
{
    const struct frame frame = { .type = FRAME_DERIVE, .rights = VRD_RIGHT_READ | VRD_RIGHT_GRANT };
    struct mine mine = mine_new(VRD_RIGHT_READ | VRD_RIGHT_GRANT);
    int ends[200];

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        const int last = i > 0 ? ends[i - 1] : mine.near; /* each from the one before */
        int pair[2];

        support_socket_pair(pair);
        ends[i] = pair[0];
        assert_int_equal(raw_send_frame(last, &frame, &pair[1], 1), 0);
        close(pair[1]);
    }
    assert_int_equal(vrd_cap_revoke(mine.maker), 0);
    for (size_t i = 0; i < 200; i++) {
        wait_hung_up(ends[i]);
        close(ends[i]);
    }
    wait_hung_up(mine.near);
    close(mine.near);
    assert_int_equal(vrd_cap_close(mine.honest), 0);
    assert_int_equal(vrd_cap_close(mine.maker), 0);
}

/* A holder that reads nothing does not keep the others from their new memory. */
static void who_reads_nothing_is_cut_off_in_the_end(void **state)
{
    struct mine mine = mine_new(VRD_RIGHT_READ);

    (void)state;
    for (int i = 0; i < 600; i++) {
        vrd_cap_t some, other;
        int fd;

        assert_int_equal(vrd_region_create_capability(mine.maker, 0, VRD_TRANSFER_SHARE, &some), 0);
        assert_int_equal(vrd_cap_export(some, VRD_RIGHT_READ, &fd), 0);
        assert_int_equal(vrd_cap_import(fd, &other), 0);
        assert_int_equal(vrd_cap_revoke(some), 0);
        assert_int_equal(vrd_cap_close(other), 0);
        assert_int_equal(vrd_cap_close(some), 0);
        mine.bytes[0] = (uint8_t)(i + 1);
        while (mine.seen[0] != (uint8_t)(i + 1))
            support_sleep_ms(1);
    }
    wait_hung_up(mine.near);
    mine_free(&mine);
}

static int warm_up(void)
{
    struct mine mine = mine_new(VRD_RIGHT_READ);

    mine_free(&mine);
    return support_warm_up_channel();
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(memory_that_is_none_is_refused),
                     SUPPORT_TEST(each_mode_has_its_seals),
                     SUPPORT_TEST(greetings_that_contradict_themselves_are_refused),
                     SUPPORT_TEST(no_other_capability_reads),
                     SUPPORT_TEST(a_right_to_write_wants_a_descriptor_for_it),
                     SUPPORT_TEST(what_its_maker_does_to_shared_memory_faults_nobody),
                     SUPPORT_TEST(wrong_news_end_it_without_a_fault),
                     SUPPORT_TEST(what_is_lost_stays_lost),
                     SUPPORT_TEST(memory_of_no_snapshot_is_ever_replaced),
                     SUPPORT_TEST(who_asks_for_what_it_may_not_is_cut_off),
                     SUPPORT_TEST(bytes_that_are_no_frame_end_it),
                     SUPPORT_TEST(what_is_no_socket_confers_nothing),
                     SUPPORT_TEST(a_flood_is_taken_back),
                     SUPPORT_TEST(who_reads_nothing_is_cut_off_in_the_end),
                     { 0 },
                 },
             .warm_up = warm_up)
