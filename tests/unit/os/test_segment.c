/* SPDX-License-Identifier: MIT */
/*
 * Segments: sealed for good, read-only for all others, and refused if they are anything else.
 * The pool of huge pages is one for the machine.
 * ctest: serial
 */
#include "unit/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "os/segment.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE)

static struct segment create(size_t size, int *ret_fd)
{
    struct segment segment;

    assert_int_equal(segment_create(size, &segment, ret_fd), 0);
    assert_int_equal(segment.size, size);
    return segment;
}

static void is_zeroed_whole_and_writable_here(void **state)
{
    static const size_t sizes[] = { 4096, 8192, 1 << 20, (4 << 20) + 4096 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct stat st;
        int fd;
        struct segment segment = create(sizes[i], &fd);
        const uint8_t *bytes = segment.addr;

        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_size, sizes[i]);
        assert_true((size_t)st.st_blocks * 512 >= sizes[i]);
        assert_int_equal(lseek(fd, 0, SEEK_HOLE), sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            if (bytes[k] != 0)
                fail_msg("byte %zu is not zero", k);
        memset(segment.addr, 0xa5, segment.size);
        segment_unmap(&segment);
        assert_null(segment.addr);
        assert_int_equal(segment.size, 0);
        segment_unmap(&segment); /* of none */
        close(fd);
    }
}

static void its_descriptor_is_read_only_and_sealed(void **state)
{
    struct stat st;
    char byte = 1;
    int fd;
    struct segment segment = create(4096, &fd);

    (void)state;
    assert_int_equal(fcntl(fd, F_GETFL) & O_ACCMODE, O_RDONLY);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(fd, F_GET_SEALS) & SEALS, SEALS);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0400);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
    assert_int_equal(ftruncate(fd, 0), -1);
    assert_int_equal(ftruncate(fd, 8192), -1);
    assert_int_equal(write(fd, &byte, 1), -1);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
    segment_unmap(&segment);
    close(fd);
}

/* Not even for root, by whatever way the file is opened again. */
static void nobody_else_can_write_it(void **state)
{
    char path[64], byte = 1;
    int fd, again;
    struct segment segment = create(4096, &fd);
    void *map;

    (void)state;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    fchmod(fd, 0666); /* its maker may do that; it is of no use */
    again = open(path, O_RDWR | O_CLOEXEC);
    if (again >= 0) {
        assert_int_equal(write(again, &byte, 1), -1);
        assert_int_equal(pwrite(again, &byte, 1, 0), -1);
        assert_int_equal(ftruncate(again, 0), -1);
        assert_int_equal(fallocate(again, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096), -1);
        assert_ptr_equal(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, again, 0),
                         MAP_FAILED);
        map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, again, 0);
        assert_ptr_not_equal(map, MAP_FAILED);
        assert_int_equal(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
        munmap(map, 4096);
        close(again);
    }
    map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_int_equal(mprotect(map, 4096, PROT_READ | PROT_WRITE), -1);
    munmap(map, 4096);
    assert_int_equal(madvise(segment.addr, 4096, MADV_REMOVE), -1); /* no holes from inside */
    segment_unmap(&segment);
    close(fd);
}

static void the_peer_sees_what_is_written(void **state)
{
    int fd;
    struct segment own = create(8192, &fd), peer;

    (void)state;
    assert_int_equal(segment_import(fd, 8192, &peer), 0);
    assert_int_equal(peer.size, 8192);
    assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC); /* still ours */
    close(fd);
    memset(own.addr, 0x5a, own.size);
    assert_memory_equal(own.addr, peer.addr, own.size);
    assert_int_equal(mprotect(peer.addr, peer.size, PROT_READ | PROT_WRITE), -1);
    segment_unmap(&own);
    assert_int_equal(*(uint8_t *)peer.addr, 0x5a); /* also when its maker has let go */
    segment_unmap(&peer);
}

static bool mapped(const void *addr)
{
    return msync((void *)(uintptr_t)addr, 4096, MS_ASYNC) == 0;
}

static int child_looks(void *arg)
{
    const struct segment *segments = arg;

    support_require(!mapped(segments[0].addr)); /* ours: not inherited */
    support_require(mapped(segments[1].addr));  /* the peer's: harmless */
    return 0;
}

static void a_forked_child_has_its_own_none(void **state)
{
    int fd;
    struct segment segments[2];

    (void)state;
    segments[0] = create(4096, &fd);
    assert_int_equal(segment_import(fd, 4096, &segments[1]), 0);
    close(fd);
    support_wait_exit(support_child(child_looks, segments), 0);
    segment_unmap(&segments[0]);
    segment_unmap(&segments[1]);
}

static void impossible_sizes_fail_cleanly(void **state)
{
    struct segment segment = { .addr = &segment, .size = 7 };
    int fd = -7;

    (void)state;
    assert_true(segment_create(0, &segment, &fd) < 0);
    assert_true(segment_create(SIZE_MAX & ~(size_t)4095, &segment, &fd) < 0);
    assert_int_equal(fd, -7); /* outputs are left alone */
    assert_ptr_equal(segment.addr, &segment);
}

static void unmapping_keeps_errno(void **state)
{
    int fd;
    struct segment segment = create(4096, &fd);

    (void)state;
    close(fd);
    errno = 4711;
    segment_unmap(&segment);
    assert_int_equal(errno, 4711);
}

/* --- what is no segment ------------------------------------------------------------------------- */

static void refuse(int fd, size_t size)
{
    struct segment segment = { .size = 7 };

    assert_int_equal(segment_import(fd, size, &segment), -EPROTO);
    assert_int_equal(segment.size, 7);
    assert_true(fcntl(fd, F_GETFD) >= 0); /* `fd` stays the caller's */
}

/* A memfd of `size` bytes, of which `filled` are written, with these seals. */
static int memfd(unsigned flags, size_t size, size_t filled, int seals)
{
    const int fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING | flags);
    char page[4096] = { 0 };

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    for (size_t at = 0; at < filled; at += sizeof page)
        assert_int_equal(pwrite(fd, page, sizeof page, (off_t)at), sizeof page);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

static void another_size_is_refused(void **state)
{
    int fd;
    struct segment segment = create(8192, &fd);

    (void)state;
    refuse(fd, 0);
    refuse(fd, 4096);
    refuse(fd, 8191);
    refuse(fd, 8193);
    refuse(fd, 12288);
    refuse(fd, SIZE_MAX);
    segment_unmap(&segment);
    close(fd);
}

static void each_seal_is_required(void **state)
{
    static const int seals[] = { F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_FUTURE_WRITE };
    struct segment segment;
    int fd;

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        fd = memfd(0, 4096, 4096, SEALS & ~seals[i]);
        refuse(fd, 4096);
        close(fd);
    }
    fd = memfd(0, 4096, 4096, 0);
    refuse(fd, 4096);
    close(fd);
    fd = memfd_create("unit", MFD_CLOEXEC); /* without sealing: F_SEAL_SEAL only */
    assert_int_equal(ftruncate(fd, 4096), 0);
    refuse(fd, 4096);
    close(fd);
    fd = memfd(0, 4096, 4096, SEALS); /* the counter-example */
    assert_int_equal(segment_import(fd, 4096, &segment), 0);
    segment_unmap(&segment);
    close(fd);
}

static void holes_are_refused(void **state)
{
    int fd;

    (void)state;
    fd = memfd(0, 16384, 0, SEALS);
    refuse(fd, 16384);
    close(fd);
    fd = memfd(0, 16384, 12288, SEALS);
    refuse(fd, 16384);
    close(fd);

    /* Blocks beyond the end do not make up for it. */
    fd = memfd(0, 16384, 8192, 0);
    assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 16384, 65536), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    refuse(fd, 16384);
    close(fd);

    /* Nor do pages that are reserved only. */
    fd = memfd(0, 16384, 0, 0);
    assert_int_equal(fallocate(fd, 0, 0, 16384), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    refuse(fd, 16384);
    close(fd);

    /* A hole in the middle. */
    fd = memfd(0, 16384, 16384, 0);
    assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 4096), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    refuse(fd, 16384);
    close(fd);
}

/* Its pages may be missing, which is a SIGBUS for the reader, when the pool is empty. */
static void huge_pages_are_refused(void **state)
{
    int fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);

    (void)state;
    if (fd < 0) {
        print_message("no hugetlbfs here\n");
        return;
    }
    assert_int_equal(ftruncate(fd, 2 << 20), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    refuse(fd, 2 << 20);
    close(fd);
}

/* --- huge pages, where they are expected ------------------------------------------------------- */

#define HUGE ((size_t)2 << 20)

static const struct pages huge = { .shift = PAGES_2_MIB, .node = -1 };

static void huge_pages_are_taken_where_they_are_expected(void **state)
{
    struct segment own, peer = { 0 };
    int fd;

    (void)state;
    if (support_huge_pages_free() < 2)
        return;
    assert_int_equal(segment_create_of(2 * HUGE, &huge, &own, &fd), 0);
    memset(own.addr, 9, 2 * HUGE);
    assert_int_equal(segment_import_of(fd, 2 * HUGE, 0, &peer), -EPROTO);
    assert_int_equal(segment_import_of(fd, 2 * HUGE, PAGES_1_GIB, &peer), -EPROTO);
    assert_int_equal(segment_import_of(fd, HUGE, PAGES_2_MIB, &peer), -EPROTO);
    assert_int_equal(peer.size, 0);
    assert_int_equal(segment_import_of(fd, 2 * HUGE, PAGES_2_MIB, &peer), 0);
    for (size_t i = 0; i < 2 * HUGE; i++)
        support_require(((const uint8_t *)peer.addr)[i] == 9);
    assert_true(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)HUGE) < 0);
    segment_unmap(&peer);
    segment_unmap(&own);
    close(fd);
}

/* Blocks beyond the end make up for the hole, if one only counts. */
static void holes_of_huge_pages_are_refused(void **state)
{
    struct segment segment = { 0 };
    int fd;

    (void)state;
    if (support_huge_pages_free() < 3)
        return;
    fd = memfd_create("unit", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB | PAGES_2_MIB << 26);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, 2 * HUGE), 0);
    assert_int_equal(fallocate(fd, 0, 0, HUGE), 0);
    assert_int_equal(fallocate(fd, FALLOC_FL_KEEP_SIZE, 2 * HUGE, HUGE), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, SEALS), 0);
    assert_int_equal(segment_import_of(fd, 2 * HUGE, PAGES_2_MIB, &segment), -EPROTO);
    assert_int_equal(segment.size, 0);
    close(fd);
}

static void a_pool_too_small_is_an_error(void **state)
{
    struct segment segment = { 0 };
    int fd = -7, r = segment_create_of((size_t)1 << 46, &huge, &segment, &fd);

    (void)state;
    assert_true(r == -ENOMEM || r == -ENOTSUP);
    assert_int_equal(segment.size, 0);
    assert_int_equal(fd, -7);
}

static void other_files_are_refused(void **state)
{
    char path[128];
    int fds[2], fd;

    (void)state;
    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    refuse(fds[0], 4096);
    refuse(fds[1], 4096);
    close(fds[0]);
    close(fds[1]);
    support_socket_pair(fds);
    refuse(fds[0], 4096);
    close(fds[0]);
    close(fds[1]);

    snprintf(path, sizeof path, "%s/file", support_runtime_dir());
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(ftruncate(fd, 4096), 0);
    refuse(fd, 4096);
    close(fd);

    fd = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    refuse(fd, 4096);
    close(fd);
    fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    refuse(fd, 4096);
    close(fd);
    fd = open("/", O_PATH | O_CLOEXEC);
    refuse(fd, 4096);
    close(fd);
}

static void no_descriptor_is_refused(void **state)
{
    struct segment segment;

    (void)state;
    assert_int_equal(segment_import(-1, 4096, &segment), -EPROTO);
}

/* --- failures ------------------------------------------------------------------------------------ */

static int child_refused(void *arg)
{
    const long *call = arg;
    struct support_snapshot before;
    struct segment segment;
    int fd = -7, r;

    support_snapshot_take(&before);
    if (*call == SYS_fallocate) /* which only older kernels need */
        support_refuse_syscall_arg(SYS_madvise, 2, 23 /* MADV_POPULATE_WRITE */, EINVAL);
    support_refuse_syscall(*call, ENOMEM);
    r = segment_create(4096, &segment, &fd);
    support_require_equal(r, -ENOMEM);
    support_require_equal(fd, -7);
    return support_snapshot_holds(&before) ? 0 : 1;
}

static void a_failed_step_leaves_nothing(void **state)
{
    static const long calls[] = { SYS_memfd_create, SYS_ftruncate, SYS_fallocate,
                                  SYS_madvise,      SYS_fcntl,     SYS_fchmod };

    (void)state;
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        support_wait_exit(support_child(child_refused, (void *)(uintptr_t)&calls[i]), 0);
}

static int child_old_kernel(void *arg)
{
    struct segment segment;
    int fd;

    (void)arg;
    support_refuse_syscall_arg(SYS_memfd_create, 1, MFD_CLOEXEC | MFD_ALLOW_SEALING | 8U, EINVAL);
    support_refuse_syscall_arg(SYS_madvise, 2, 23 /* MADV_POPULATE_WRITE */, EINVAL);
    support_require_equal(segment_create(4096, &segment, &fd), 0);
    segment_unmap(&segment);
    close(fd);
    return 0;
}

static void kernels_without_noexec_seals_will_do(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_old_kernel, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(is_zeroed_whole_and_writable_here),
                     SUPPORT_TEST(its_descriptor_is_read_only_and_sealed),
                     SUPPORT_TEST(nobody_else_can_write_it),
                     SUPPORT_TEST(the_peer_sees_what_is_written),
                     SUPPORT_TEST(a_forked_child_has_its_own_none),
                     SUPPORT_TEST(impossible_sizes_fail_cleanly),
                     SUPPORT_TEST(unmapping_keeps_errno),
                     SUPPORT_TEST(another_size_is_refused),
                     SUPPORT_TEST(each_seal_is_required),
                     SUPPORT_TEST(holes_are_refused),
                     SUPPORT_TEST(huge_pages_are_refused),
                     SUPPORT_TEST(huge_pages_are_taken_where_they_are_expected),
                     SUPPORT_TEST(holes_of_huge_pages_are_refused),
                     SUPPORT_TEST(a_pool_too_small_is_an_error),
                     SUPPORT_TEST(other_files_are_refused),
                     SUPPORT_TEST(no_descriptor_is_refused),
                     SUPPORT_TEST(a_failed_step_leaves_nothing),
                     SUPPORT_TEST(kernels_without_noexec_seals_will_do),
                     { 0 },
                 },
             .huge_pages = true)
