/* SPDX-License-Identifier: MIT */
/* The memory of regions: allocated, sealed as its mode says, and refused if it is anything else. */
/*
 * The pool of huge pages is one for the machine.
 * ctest: serial
 */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/region.h"

#define SIZE ((size_t)64 << 10)
#define HUGE ((size_t)2 << 20)
#define SEALS_SIZE (F_SEAL_SHRINK | F_SEAL_GROW)
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static const struct pages ordinary = { .node = -1 };
static const struct pages huge = { .shift = 21, .node = -1 };

static struct region_memory create_sealed(size_t size, const struct pages *pages,
                                          enum region_seal seal)
{
    struct region_memory memory;

    assert_int_equal(region_memory_create(size, pages, -1, seal, &memory), 0);
    assert_int_equal(memory.size, size);
    return memory;
}

static struct region_memory create(size_t size, const struct pages *pages)
{
    return create_sealed(size, pages, REGION_OPEN);
}

static void *map(int fd, size_t size, unsigned shift, enum region_access access)
{
    void *addr;

    assert_int_equal(region_memory_map(fd, size, shift, access, NULL, &addr), 0);
    return addr;
}

/* --- what it is --------------------------------------------------------------------------------- */

static void it_is_zeroed_and_whole(void **state)
{
    static const size_t sizes[] = { 4096, 1 << 20, (8 << 20) + 4096 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct region_memory memory = create(sizes[i], &ordinary);
        const uint8_t *bytes = memory.addr;

        assert_int_equal(lseek(memory.fd, 0, SEEK_HOLE), sizes[i]);
        assert_int_equal(fcntl(memory.fd, F_GETFL) & O_ACCMODE, O_RDONLY);
        assert_int_equal(fcntl(memory.fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(ftruncate(memory.writable_fd, 0), -1);
        assert_int_equal(ftruncate(memory.writable_fd, (off_t)sizes[i] * 2), -1);
        for (size_t k = 0; k < sizes[i]; k++)
            if (bytes[k] != 0)
                fail_msg("byte %zu is not zero", k);
        region_memory_deinit(&memory);
        assert_null(memory.addr);
        assert_int_equal(memory.fd, -1);
        region_memory_deinit(&memory); /* of none */
    }
}

/* Nobody gets another way to write: not root, by no way of opening it again. */
static void require_nobody_writes(const struct region_memory *memory)
{
    char path[64], byte = 1;
    int again;

    snprintf(path, sizeof path, "/proc/self/fd/%d", memory->fd);
    fchmod(memory->fd, 0666);
    again = open(path, O_RDWR | O_CLOEXEC);
    assert_true(again >= 0);
    assert_int_equal(pwrite(again, &byte, 1, 0), -1);
    assert_int_equal(fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    assert_ptr_equal(mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0), MAP_FAILED);
    close(again);
}

static void a_published_one_is_written_by_its_maker_only(void **state)
{
    struct region_memory memory = create_sealed(SIZE, &ordinary, REGION_PUBLISHED);
    uint8_t *seen;

    (void)state;
    require_nobody_writes(&memory);
    assert_int_equal(region_memory_check(memory.fd, SIZE, 0, REGION_PUBLISHED), 0);
    assert_int_equal(region_memory_check(memory.fd, SIZE, 0, REGION_OPEN), 0);
    assert_int_equal(region_memory_check(memory.fd, SIZE, 0, REGION_FROZEN), -EPROTO);
    seen = map(memory.fd, SIZE, 0, REGION_READ);
    memset(memory.addr, 7, SIZE);
    assert_memory_equal(seen, memory.addr, SIZE);
    assert_int_equal(mprotect(seen, SIZE, PROT_READ | PROT_WRITE), -1);
    assert_int_equal(madvise(memory.addr, SIZE, MADV_REMOVE), -1);
    region_memory_unmap(seen, SIZE);
    region_memory_deinit(&memory);
}

static int child_writes(void *arg)
{
    signal(SIGSEGV, SIG_DFL);
    *(volatile uint8_t *)arg = 1;
    return 0;
}

static void a_frozen_one_is_written_by_nobody(void **state)
{
    static const enum region_seal seals[] = { REGION_OPEN, REGION_PUBLISHED };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct region_memory memory = create_sealed(SIZE, &ordinary, seals[i]);
        uint8_t *bytes = memory.addr;

        memset(bytes, 8, SIZE);
        assert_int_equal(region_memory_freeze(&memory), 0);
        assert_int_equal(region_memory_freeze(&memory), 0);
        assert_ptr_equal(memory.addr, bytes);
        assert_int_equal(bytes[SIZE - 1], 8);
        assert_int_equal(memory.writable_fd, -1);
        assert_int_equal(mprotect(bytes, SIZE, PROT_READ | PROT_WRITE), -1);
        require_nobody_writes(&memory);
        assert_int_equal(region_memory_check(memory.fd, SIZE, 0, REGION_FROZEN), 0);
        assert_int_equal(region_memory_check(memory.fd, SIZE, 0, REGION_PUBLISHED), 0);
        region_memory_deinit(&memory);
    }
}

static void a_frozen_one_faults_its_writer(void **state)
{
    struct region_memory memory = create(SIZE, &ordinary);
    void *seen;

    (void)state;
    assert_int_equal(region_memory_freeze(&memory), 0);
    seen = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, memory.fd, 0); /* which fork inherits */
    support_wait_signal(support_child(child_writes, seen), SIGSEGV);
    munmap(seen, SIZE);
    region_memory_deinit(&memory);
}

static void who_else_can_write_keeps_it_from_freezing(void **state)
{
    struct region_memory memory = create(SIZE, &ordinary);
    uint8_t *other = map(memory.writable_fd, SIZE, 0, REGION_WRITE), *bytes = memory.addr;

    (void)state;
    assert_int_equal(region_memory_freeze(&memory), -EBUSY);
    bytes[0] = 1; /* nothing has changed */
    other[1] = 2;
    assert_int_equal(bytes[1], 2);
    region_memory_unmap(other, SIZE);
    assert_int_equal(region_memory_freeze(&memory), 0);
    assert_int_equal(bytes[0], 1);
    region_memory_deinit(&memory);
}

static void a_copy_is_its_writers(void **state)
{
    struct region_memory memory = create(SIZE, &ordinary);
    uint8_t *bytes = memory.addr, *copy;

    (void)state;
    memset(bytes, 3, SIZE);
    assert_int_equal(region_memory_freeze(&memory), 0);
    copy = map(memory.fd, SIZE, 0, REGION_COPY);
    memset(copy, 4, SIZE / 2);
    assert_int_equal(bytes[0], 3);
    assert_int_equal(copy[0], 4);
    assert_int_equal(copy[SIZE - 1], 3);
    region_memory_unmap(copy, SIZE);
    region_memory_deinit(&memory);
}

static void renewed_memory_is_at_the_same_place(void **state)
{
    struct region_memory old = create_sealed(SIZE, &ordinary, REGION_PUBLISHED), memory;
    uint8_t *bytes = old.addr, *seen;

    (void)state;
    memset(bytes, 5, SIZE);
    seen = map(old.fd, SIZE, 0, REGION_READ);
    assert_int_equal(region_memory_renew(&old, &memory), 0);
    assert_ptr_equal(memory.addr, bytes);
    assert_null(old.addr);
    assert_int_equal(bytes[0], 5);
    memset(bytes, 6, SIZE);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(seen[i], 5); /* who keeps the old one sees nothing new */
    require_nobody_writes(&memory);
    assert_int_equal(region_memory_check(memory.fd, SIZE, 0, REGION_PUBLISHED), 0);
    region_memory_unmap(seen, SIZE);
    region_memory_deinit(&old);
    region_memory_deinit(&memory);
}

static void a_vacated_place_reads_as_zeroes(void **state)
{
    struct region_memory memory = create(SIZE, &ordinary);
    uint8_t *seen = map(memory.writable_fd, SIZE, 0, REGION_WRITE);

    (void)state;
    memset(memory.addr, 9, SIZE);
    region_memory_vacate(seen, SIZE, true);
    for (size_t i = 0; i < SIZE; i++)
        assert_int_equal(seen[i], 0);
    memset(seen, 1, SIZE); /* harmless */
    assert_int_equal(*(uint8_t *)memory.addr, 9);
    region_memory_unmap(seen, SIZE);
    region_memory_deinit(&memory);
}

static int child_looks(void *arg)
{
    const struct region_memory *memory = arg;

    support_require(msync(memory->addr, SIZE, MS_ASYNC) < 0); /* not inherited */
    return 0;
}

static void mappings_are_not_inherited(void **state)
{
    struct region_memory memory = create(SIZE, &ordinary);

    (void)state;
    support_wait_exit(support_child(child_looks, &memory), 0);
    region_memory_deinit(&memory);
}

/* --- what can not be had -------------------------------------------------------------------------- */

static void impossible_wishes_fail_cleanly(void **state)
{
    struct region_memory memory = { .size = 7 };
    const struct pages nowhere = { .node = 1000000 };
    const struct pages gigantic = { .shift = 45, .node = -1 };
    int r;

    (void)state;
    assert_int_equal(region_memory_create(0, &ordinary, -1, REGION_OPEN, &memory), -EINVAL);
    assert_int_equal(region_memory_create(4097, &ordinary, -1, REGION_OPEN, &memory), -EINVAL);
    assert_int_equal(region_memory_create(4096, &huge, -1, REGION_OPEN, &memory), -EINVAL);
    assert_true(region_memory_create((size_t)1 << 62, &ordinary, -1, REGION_OPEN, &memory) < 0);
    r = region_memory_create(4096, &nowhere, -1, REGION_OPEN, &memory);
    assert_true(r == -ENODEV || r == -ENOTSUP); /* without libnuma */
    assert_int_equal(region_memory_create((size_t)1 << 45, &gigantic, -1, REGION_OPEN, &memory),
                     -ENOTSUP);
    assert_int_equal(memory.size, 7);
}

static void a_pool_too_small_is_an_error_now(void **state)
{
    struct region_memory memory = { .size = 7 };
    size_t n = support_huge_pages_free();
    int r = region_memory_create((n + 1) * HUGE, &huge, -1, REGION_OPEN, &memory);

    (void)state;
    assert_true(r == -ENOMEM || r == -ENOSPC || r == -ENOTSUP);
    assert_int_equal(memory.size, 7);
    assert_int_equal(support_huge_pages_free(), n);
}

static void huge_pages_are_huge(void **state)
{
    struct region_memory memory;
    uint8_t *seen;
    size_t n = support_huge_pages_free();

    (void)state;
    if (n < 2)
        return;
    memory = create_sealed(2 * HUGE, &huge, REGION_PUBLISHED);
    assert_int_equal(support_huge_pages_free(), n - 2);
    assert_int_equal(region_memory_check(memory.fd, 2 * HUGE, 21, REGION_PUBLISHED), 0);
    assert_int_equal(region_memory_check(memory.fd, 2 * HUGE, 0, REGION_PUBLISHED), -EPROTO);
    assert_int_equal(region_memory_check(memory.fd, 2 * HUGE, 30, REGION_PUBLISHED), -EPROTO);
    seen = map(memory.fd, 2 * HUGE, 21, REGION_READ);
    memset(memory.addr, 7, 2 * HUGE);
    assert_int_equal(seen[2 * HUGE - 1], 7);
    assert_int_equal(
        fallocate(memory.writable_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)HUGE),
        -1);
    region_memory_unmap(seen, 2 * HUGE);
    region_memory_deinit(&memory);
    assert_int_equal(support_huge_pages_free(), n);
}

static void huge_pages_that_are_missing_are_found_missing(void **state)
{
    void *addr = NULL;
    int fd;

    (void)state;
    if (support_huge_pages_free() < 4)
        return;
    fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | 21u << 26);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 2 * HUGE), 0);
    assert_int_equal(fallocate(fd, 0, 0, HUGE), 0); /* the second one is a hole */
    /* and blocks beyond the end, so that their count looks right */
    assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 2 * HUGE, HUGE), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS_SIZE | F_SEAL_FUTURE_WRITE), 0);
    if (region_memory_check(fd, 2 * HUGE, 21, REGION_PUBLISHED) == 0)
        assert_int_equal(region_memory_map(fd, 2 * HUGE, 21, REGION_READ, NULL, &addr), -EPROTO);
    assert_null(addr);
    close(fd);
}

/* --- what is no region ------------------------------------------------------------------------- */

static void refuse(int fd, size_t size, enum region_seal seal)
{
    assert_int_equal(region_memory_check(fd, size, 0, seal), -EPROTO);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* `fd` stays the caller's */
}

static int memfd(size_t size, size_t filled, int seals)
{
    const int fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    char page[4096] = { 0 };

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    for (size_t at = 0; at < filled; at += sizeof page)
        assert_int_equal(pwrite(fd, page, sizeof page, (off_t)at), sizeof page);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void each_seal_is_required(void **state)
{
    static const struct {
        int seals;
        enum region_seal wanted;
    } wrong[] = {
        { 0, REGION_OPEN },
        { F_SEAL_SHRINK, REGION_OPEN },
        { F_SEAL_GROW, REGION_OPEN },
        { F_SEAL_WRITE, REGION_OPEN },
        { SEALS_SIZE, REGION_PUBLISHED },
        { F_SEAL_SHRINK | F_SEAL_FUTURE_WRITE, REGION_PUBLISHED },
        { F_SEAL_GROW | F_SEAL_FUTURE_WRITE, REGION_PUBLISHED },
        { SEALS_SIZE, REGION_FROZEN },
        { SEALS_SIZE | F_SEAL_FUTURE_WRITE, REGION_FROZEN },
        { F_SEAL_SHRINK | F_SEAL_WRITE, REGION_FROZEN },
        { F_SEAL_GROW | F_SEAL_WRITE, REGION_FROZEN },
    };

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const int fd = memfd(SIZE, SIZE, wrong[i].seals);

        refuse(fd, SIZE, wrong[i].wanted);
        close(fd);
    }
}

static void another_size_is_refused(void **state)
{
    static const size_t sizes[] = { 0, 4096, SIZE - 1, SIZE + 1, SIZE + 4096, SIZE_MAX };
    int fd = memfd(SIZE, SIZE, SEALS_SIZE);

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        refuse(fd, sizes[i], REGION_OPEN);
    close(fd);
    fd = memfd(4097, 4096, SEALS_SIZE); /* no whole pages */
    refuse(fd, 4097, REGION_OPEN);
    close(fd);
    fd = memfd(0, 0, SEALS_SIZE);
    refuse(fd, 0, REGION_OPEN);
    close(fd);
}

static void holes_are_refused(void **state)
{
    int fd = memfd(SIZE, 0, SEALS_SIZE);

    (void)state;
    refuse(fd, SIZE, REGION_OPEN);
    close(fd);
    fd = memfd(SIZE, SIZE - 4096, SEALS_SIZE);
    refuse(fd, SIZE, REGION_OPEN);
    close(fd);
    fd = memfd(SIZE, 0, 0); /* reserved, never touched */
    assert_int_equal(fallocate(fd, 0, 0, SIZE), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS_SIZE), 0);
    refuse(fd, SIZE, REGION_OPEN);
    close(fd);
    fd = memfd(SIZE, SIZE / 2, 0); /* blocks beyond the end do not make up for it */
    assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, SIZE, SIZE), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS_SIZE), 0);
    refuse(fd, SIZE, REGION_OPEN);
    close(fd);
}

static void other_files_are_refused(void **state)
{
    char path[128];
    int fds[2], fd;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    refuse(fds[0], 4096, REGION_OPEN);
    close(fds[0]);
    close(fds[1]);
    snprintf(path, sizeof path, "%s/file", support_runtime_dir());
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    refuse(fd, 4096, REGION_OPEN);
    close(fd);
    fd = open("/dev/zero", O_RDWR | O_CLOEXEC);
    refuse(fd, 4096, REGION_OPEN);
    close(fd);
    fd = open("/", O_PATH | O_CLOEXEC);
    refuse(fd, 4096, REGION_OPEN);
    close(fd);
    assert_int_equal(region_memory_check(-1, 4096, 0, REGION_OPEN), -EPROTO);
    assert_false(region_memory_writable(-1));
}

/* --- failures ------------------------------------------------------------------------------------ */

static int child_refused(void *arg)
{
    const long *call = arg;
    struct support_snapshot before;
    struct region_memory memory = { .fd = -7 };

    support_snapshot_take(&before);
    if (*call == SYS_fallocate) /* which only older kernels need */
        support_refuse_syscall_arg(SYS_madvise, 2, 23 /* MADV_POPULATE_WRITE */, EINVAL);
    support_refuse_syscall(*call, ENOMEM);
    support_require_equal(region_memory_create(SIZE, &ordinary, -1, REGION_OPEN, &memory), -ENOMEM);
    support_require_equal(memory.fd, -7);
    return support_snapshot_holds(&before) ? 0 : 1;
}

static void a_failed_step_leaves_nothing(void **state)
{
    static const long calls[] = { SYS_memfd_create, SYS_ftruncate, SYS_fcntl,
                                  SYS_fchmod,       SYS_fallocate, SYS_madvise };

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        support_wait_exit(support_child(child_refused, (void *)(uintptr_t)&calls[i]), 0);
}

static int child_old_kernel(void *arg)
{
    struct region_memory memory;

    (void)arg;
    support_refuse_syscall_arg(SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8U, EINVAL);
    support_refuse_syscall_arg(SYS_madvise, 2, 23 /* MADV_POPULATE_WRITE */, EINVAL);
    support_require_equal(region_memory_create(SIZE, &ordinary, -1, REGION_OPEN, &memory), 0);
    support_require_equal(region_memory_check(memory.fd, SIZE, 0, REGION_OPEN), 0);
    region_memory_deinit(&memory);
    return 0;
}

static void older_kernels_will_do(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_old_kernel, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(it_is_zeroed_and_whole),
                     SUPPORT_TEST(a_published_one_is_written_by_its_maker_only),
                     SUPPORT_TEST(a_frozen_one_is_written_by_nobody),
                     SUPPORT_TEST(a_frozen_one_faults_its_writer),
                     SUPPORT_TEST(who_else_can_write_keeps_it_from_freezing),
                     SUPPORT_TEST(a_copy_is_its_writers),
                     SUPPORT_TEST(renewed_memory_is_at_the_same_place),
                     SUPPORT_TEST(a_vacated_place_reads_as_zeroes),
                     SUPPORT_TEST(mappings_are_not_inherited),
                     SUPPORT_TEST(impossible_wishes_fail_cleanly),
                     SUPPORT_TEST(a_pool_too_small_is_an_error_now),
                     SUPPORT_TEST(huge_pages_are_huge),
                     SUPPORT_TEST(huge_pages_that_are_missing_are_found_missing),
                     SUPPORT_TEST(each_seal_is_required),
                     SUPPORT_TEST(another_size_is_refused),
                     SUPPORT_TEST(holes_are_refused),
                     SUPPORT_TEST(other_files_are_refused),
                     SUPPORT_TEST(a_failed_step_leaves_nothing),
                     SUPPORT_TEST(older_kernels_will_do),
                     { 0 },
                 },
             .huge_pages = true)
