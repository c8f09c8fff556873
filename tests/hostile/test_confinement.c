/* SPDX-License-Identifier: MIT */
/*
 * A process that was given nothing but the right to send, or to receive, tries by every means that
 * the kernel has to write what is the other side's: through its mappings, through descriptors, as
 * root and as nobody. What it can write is its own segment, through the mapping that it has.
 *
 * ctest: no-asan
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include <veridian/ipc.h>

#include "os/fd.h"
#include "os/socket.h"
#include "peer.h"
#include "support/support.h"

#define NOBODY 65534
#define LARGE 3000

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

static const char poison[] = "poison";

/* ---- through a mapping that can be read only --------------------------------------------------------- */

static bool mprotect_works(void *at, size_t size)
{
    return mprotect(at, size, PROT_READ | PROT_WRITE) == 0;
}

static bool second_mapping_works(void *at, size_t size)
{
    void *again = mremap(at, 0, size, MREMAP_MAYMOVE);
    bool works;

    if (again == MAP_FAILED)
        return false;
    works = mprotect(again, size, PROT_READ | PROT_WRITE) == 0;
    munmap(again, size);
    return works;
}

/* The kernel writes here even where the process cannot, unless the mapping is a shared one. */
static bool proc_mem_works(void *at, size_t size)
{
    const int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);
    ssize_t n;

    (void)size;
    support_require(fd >= 0);
    n = pwrite(fd, poison, sizeof poison, (off_t)(uintptr_t)at);
    close(fd);
    return n > 0;
}

static bool vm_writev_works(void *at, size_t size)
{
    const struct iovec from = { .iov_base = (void *)(uintptr_t)poison, .iov_len = sizeof poison };
    const struct iovec to = { .iov_base = at, .iov_len = sizeof poison };

    (void)size;
    return process_vm_writev(getpid(), &from, 1, &to, 1, 0) > 0;
}

static int poke(void *at)
{
    const pid_t target = getppid();
    bool works;

    if (ptrace(PTRACE_ATTACH, target, NULL, NULL) != 0 || waitpid(target, NULL, __WALL) != target)
        return 2;
    works = ptrace(PTRACE_POKEDATA, target, at, (void *)UINTPTR_MAX) == 0;
    return ptrace(PTRACE_DETACH, target, NULL, NULL) != 0 ? 2 : works;
}

/* A debugger may write where the process may not. */
static bool debugger_works(void *at, size_t size)
{
    int status;
    pid_t debugger;

    (void)size;
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    debugger = fork();
    support_require(debugger >= 0);
    if (debugger == 0)
        _exit(poke(at));
    while (waitpid(debugger, &status, 0) != debugger)
        support_require_equal(errno, EINTR);
    support_require(WIFEXITED(status) && WEXITSTATUS(status) <= 1);
    return WEXITSTATUS(status) == 1;
}

static bool syscall_writes(void *at, size_t size)
{
    int pair[2];
    bool works;

    (void)size;
    support_require(pipe2(pair, O_CLOEXEC) == 0);
    support_require(write(pair[1], poison, sizeof poison) == sizeof poison);
    works = read(pair[0], at, sizeof poison) > 0;
    close(pair[0]);
    close(pair[1]);
    return works;
}

static bool remove_pages_works(void *at, size_t size)
{
    return madvise(at, size, MADV_REMOVE) == 0;
}

/* Pages put in place by the process itself, when they are missing. */
static bool userfault_works(void *at, size_t size)
{
    struct uffdio_api api = { .api = UFFD_API };
    struct uffdio_register range = { .range = { (uintptr_t)at, size },
                                     .mode = UFFDIO_REGISTER_MODE_MISSING };
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
    bool works;

    if (fd < 0)
        return false;
    works = ioctl(fd, UFFDIO_API, &api) == 0 && ioctl(fd, UFFDIO_REGISTER, &range) == 0;
    close(fd);
    return works;
}

struct mapping_attack {
    const char *name;
    bool (*works)(void *at, size_t size);
};

static const struct mapping_attack mapping_attacks[] = {
    { "mprotect", mprotect_works },
    { "mprotect of a second mapping", second_mapping_works },
    { "/proc/self/mem", proc_mem_works },
    { "process_vm_writev", vm_writev_works },
    { "a debugger", debugger_works },
    { "a system call that writes", syscall_writes },
    { "MADV_REMOVE", remove_pages_works },
    { "userfaultfd", userfault_works },
    { 0 },
};

/* ---- through a descriptor ------------------------------------------------------------------------------ */

static bool write_works(int fd, size_t size)
{
    (void)size;
    return pwrite(fd, poison, sizeof poison, 0) > 0 || write(fd, poison, sizeof poison) > 0;
}

static bool map_works(int fd, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (at == MAP_FAILED)
        return false;
    munmap(at, size);
    return true;
}

static bool map_and_mprotect_works(int fd, size_t size)
{
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    bool works;

    if (at == MAP_FAILED)
        return false;
    works = mprotect(at, size, PROT_READ | PROT_WRITE) == 0;
    munmap(at, size);
    return works;
}

static bool shrink_works(int fd, size_t size)
{
    return ftruncate(fd, 0) == 0 || ftruncate(fd, (off_t)size - 1) == 0;
}

static bool grow_works(int fd, size_t size)
{
    return ftruncate(fd, (off_t)size + 1) == 0 || fallocate(fd, 0, 0, (off_t)size + 1) == 0 ||
           fallocate(fd, 0, (off_t)size, 4096) == 0;
}

static bool punch_works(int fd, size_t size)
{
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)size) == 0 ||
           fallocate(fd, FALLOC_FL_ZERO_RANGE, 0, (off_t)size) == 0 ||
           fallocate(fd, FALLOC_FL_COLLAPSE_RANGE, 0, 4096) == 0;
}

static bool more_seals_work(int fd, size_t size)
{
    (void)size;
    return fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) == 0;
}

static bool copy_works(int fd, size_t size)
{
    const int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    int pair[2];
    bool works;

    (void)size;
    support_require(from >= 0 && pipe2(pair, O_CLOEXEC) == 0);
    support_require(write(pair[1], poison, sizeof poison) == sizeof poison);
    works = sendfile(fd, from, NULL, 64) > 0 ||
            copy_file_range(from, NULL, fd, &(loff_t){ 0 }, 64, 0) > 0 ||
            splice(pair[0], NULL, fd, &(loff_t){ 0 }, sizeof poison, 0) > 0;
    close(pair[0]);
    close(pair[1]);
    close(from);
    return works;
}

struct fd_attack {
    const char *name;
    bool (*works)(int fd, size_t size);
};

static const struct fd_attack fd_attacks[] = {
    { "write", write_works },
    { "mmap", map_works },
    { "mmap and mprotect", map_and_mprotect_works },
    { "making it smaller", shrink_works },
    { "making it larger", grow_works },
    { "punching holes", punch_works },
    { "more seals", more_seals_work },
    { "copying into it", copy_works },
    { 0 },
};

static void attack_fd(int fd, size_t size, const char *how)
{
    for (const struct fd_attack *attack = fd_attacks; attack->name; attack++)
        if (attack->works(fd, size))
            support_fail(__FILE__, __LINE__, "%s works on %s", attack->name, how);
}

/* Opens what `path` leads to in every way. Root may open it for writing, and then has nothing. */
static void attack_path(const char *path, size_t size)
{
    static const int flags[] = { O_RDONLY, O_RDWR, O_WRONLY, O_RDWR | O_TRUNC, O_RDWR | O_APPEND };

    chmod(path, 0666); /* root may */
    support_require(truncate(path, 0) != 0);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        const int fd = open(path, flags[i] | O_CLOEXEC);

        if (fd < 0)
            continue;
        support_require(!(flags[i] & O_TRUNC));
        attack_fd(fd, size, path);
        close(fd);
    }
}

/* ---- everything that a process has --------------------------------------------------------------------- */

struct kept {
    uint8_t *copy;
    const void *at;
    size_t size;
};

static struct kept keep(const void *at, size_t size)
{
    struct kept kept = { .copy = malloc(size), .at = at, .size = size };

    support_require(kept.copy != NULL);
    memcpy(kept.copy, at, size);
    return kept;
}

static void require_kept(struct kept *kept)
{
    support_require(memcmp(kept->copy, kept->at, kept->size) == 0);
    free(kept->copy);
}

static void attack_mapping(const struct mapping *mapping)
{
    void *at = (void *)mapping->start;
    const size_t size = mapping->end - mapping->start;
    struct kept kept = keep(at, size);
    char path[96];

    for (const struct mapping_attack *attack = mapping_attacks; attack->name; attack++)
        if (attack->works(at, size))
            support_fail(__FILE__, __LINE__, "%s works", attack->name);
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", mapping->start, mapping->end);
    attack_path(path, size);
    require_kept(&kept);
}

/* Its own segment: nothing but the one mapping, and no holes in it for the other side to pay. */
static void attack_own_mapping(const struct mapping *mapping)
{
    const size_t size = mapping->end - mapping->start;
    char path[96];

    support_require(madvise((void *)mapping->start, size, MADV_REMOVE) != 0);
    snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", mapping->start, mapping->end);
    attack_path(path, size);
}

static size_t attack_mappings(void)
{
    struct mapping mappings[MAPPINGS_MAX];
    const size_t n = mappings_of_segments(mappings);
    size_t others = 0;

    for (size_t i = 0; i < n; i++) {
        support_require(!mappings[i].executable);
        if (mappings[i].writable) {
            attack_own_mapping(&mappings[i]);
        } else {
            attack_mapping(&mappings[i]);
            others++;
        }
    }
    support_require(others > 0 && others < n);
    return n;
}

/* Whatever stands in /proc/self/fd and leads to a memfd. */
static void attack_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;

    support_require(directory != NULL);
    while ((entry = readdir(directory))) {
        char path[300], target[300];
        ssize_t len;

        snprintf(path, sizeof path, "/proc/self/fd/%s", entry->d_name);
        len = readlink(path, target, sizeof target - 1);
        target[len > 0 ? len : 0] = '\0';
        if (strncmp(target, "/memfd:", 7) != 0)
            continue;
        attack_fd(atoi(entry->d_name), LAYOUT_PAGE, path);
        attack_path(path, LAYOUT_PAGE);
    }
    closedir(directory);
}

/* Root, with all that this is worth, or nobody. */
static void become(const char *whom)
{
    if (strcmp(whom, "nobody") == 0 && geteuid() == 0) {
        support_require(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
        support_require(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0); /* or it had no /proc/self */
    }
}

/* ---- the sender ------------------------------------------------------------------------------------------- */

static void send_both_kinds(vrd_cap_t cap)
{
    static uint8_t large[LARGE];

    memset(large, 7, sizeof large);
    support_require_equal(vrd_send(cap, "small", 5), 0);
    support_require_equal(vrd_send(cap, large, sizeof large), 0);
}

static void receive_both_kinds(vrd_cap_t cap)
{
    static uint8_t buf[LARGE];

    support_require_equal(vrd_receive(cap, buf, sizeof buf), 5);
    support_require(memcmp(buf, "small", 5) == 0);
    support_require_equal(vrd_receive(cap, buf, sizeof buf), LARGE);
    for (size_t i = 0; i < LARGE; i++)
        support_require_equal(buf[i], 7);
}

/* Descriptors: the invitation, and a socket to say what is done and to hear what to do. */
static int role_sender(struct support_role_args *args)
{
    vrd_cap_t cap;
    char byte;

    support_require_equal(vrd_cap_import(args->fds[0], &cap), 0);
    become(args->args[0]);
    send_both_kinds(cap);
    support_require(write(args->fds[1], "", 1) == 1 && read(args->fds[1], &byte, 1) == 1);
    send_both_kinds(cap); /* the owner's answer has been taken over */
    support_require(write(args->fds[1], "", 1) == 1 && read(args->fds[1], &byte, 1) == 1);
    /* its own ring and byte ring, and the owner's page */
    support_require_equal(attack_mappings(), 3);
    attack_descriptors();
    support_require(write(args->fds[1], "", 1) == 1);
    send_both_kinds(cap);
    support_require_equal(vrd_cap_close(cap), 0);
    return 0;
}

static void sender_is_confined(const char *whom)
{
    vrd_cap_t send, receive;
    int invitation, pair[2];
    pid_t sender;
    char byte;

    assert_int_equal(vrd_channel_create(16, &send, &receive), 0);
    assert_int_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &invitation), 0);
    assert_int_equal(vrd_cap_close(send), 0);
    support_socket_pair(pair);
    sender = support_spawn_role("sender", (int[]){ invitation, pair[1] }, 2,
                                (const char *[]){ whom, NULL });
    fd_close(&invitation);
    fd_close(&pair[1]);
    for (int i = 0; i < 2; i++) {
        receive_both_kinds(receive);
        assert_int_equal(read(pair[0], &byte, 1), 1);
        assert_int_equal(write(pair[0], "", 1), 1);
    }
    /* while it attacks, this side writes nothing */
    assert_int_equal(read(pair[0], &byte, 1), 1);
    receive_both_kinds(receive);
    assert_int_equal(vrd_receive(receive, &byte, 1), VRD_ERR_PEER_GONE);
    support_wait_exit(sender, 0);
    fd_close(&pair[0]);
    assert_int_equal(vrd_cap_close(receive), 0);
}

static void test_a_sender_as_root(void **state)
{
    (void)state;
    sender_is_confined("root");
}

static void test_a_sender_as_nobody(void **state)
{
    (void)state;
    sender_is_confined("nobody");
}

/* ---- the receiver ----------------------------------------------------------------------------------------- */

static int role_receiver(struct support_role_args *args)
{
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(args->fds[0], &cap), 0);
    become(args->args[0]);
    receive_both_kinds(cap);
    /* its own page, the sender's ring and byte ring */
    support_require_equal(attack_mappings(), 3);
    attack_descriptors();
    support_require(write(args->fds[1], "", 1) == 1);
    receive_both_kinds(cap);
    support_require_equal(vrd_cap_close(cap), 0);
    return 0;
}

static void receiver_is_confined(const char *whom)
{
    vrd_cap_t send, receive;
    int invitation, pair[2];
    pid_t receiver;
    char byte;

    assert_int_equal(vrd_channel_create(16, &send, &receive), 0);
    assert_int_equal(vrd_cap_export(receive, VRD_RIGHT_RECEIVE, &invitation), 0);
    support_socket_pair(pair);
    receiver = support_spawn_role("receiver", (int[]){ invitation, pair[1] }, 2,
                                  (const char *[]){ whom, NULL });
    fd_close(&invitation);
    fd_close(&pair[1]);
    send_both_kinds(send);
    assert_int_equal(read(pair[0], &byte, 1), 1);
    send_both_kinds(send);
    support_wait_exit(receiver, 0);
    fd_close(&pair[0]);
    assert_int_equal(vrd_cap_close(send), 0);
}

static void test_a_receiver_as_root(void **state)
{
    (void)state;
    receiver_is_confined("root");
}

static void test_a_receiver_as_nobody(void **state)
{
    (void)state;
    receiver_is_confined("nobody");
}

/* ---- who keeps the descriptor ------------------------------------------------------------------------------ */

/* The library closes the descriptor of the other side's segment; this process has never run it. */
static int role_keeper(struct support_role_args *args)
{
    struct datagram datagram;
    struct peer peer;
    int fd;

    raw_hung_up(args->fds[0]); /* takes the GREETING */
    peer_connect(&peer, args->fds[0], 16, 1 << 20);
    fd_wait(peer.tether);
    support_require_equal(socket_receive(peer.tether, &datagram), 1);
    support_require_equal(datagram.n_fds, 1);
    fd = fd_take(&datagram.fds[0]);
    datagram_deinit(&datagram);
    become(args->args[0]);
    attack_fd(fd, LAYOUT_PAGE, "the owner's page");
    attack_descriptors();
    peer_publish(&peer, "small", 5);
    fd_close(&fd);
    peer_deinit(&peer);
    return 0;
}

static void keeper_is_confined(const char *whom)
{
    vrd_cap_t send, receive;
    int invitation;
    pid_t keeper;
    char buf[16];

    assert_int_equal(vrd_channel_create(16, &send, &receive), 0);
    assert_int_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &invitation), 0);
    assert_int_equal(vrd_cap_close(send), 0);
    keeper = support_spawn_role("keeper", &invitation, 1, (const char *[]){ whom, NULL });
    fd_close(&invitation);
    assert_int_equal(vrd_receive(receive, buf, sizeof buf), 5);
    assert_int_equal(vrd_receive(receive, buf, sizeof buf), VRD_ERR_PEER_GONE);
    support_wait_exit(keeper, 0);
    assert_int_equal(vrd_cap_close(receive), 0);
}

static void test_a_kept_descriptor_as_root(void **state)
{
    (void)state;
    keeper_is_confined("root");
}

static void test_a_kept_descriptor_as_nobody(void **state)
{
    (void)state;
    keeper_is_confined("nobody");
}

/* ---- that the attacks are attacks ----------------------------------------------------------------------------- */

/* On memory that is not sealed every one of them works, or this file shows nothing. */
static int unsealed_run(void *unused)
{
    const int fd = memfd_create("veridian", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *at;

    (void)unused;
    support_require(fd >= 0 && ftruncate(fd, LAYOUT_PAGE) == 0);
    at = mmap(NULL, LAYOUT_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    support_require(at != MAP_FAILED);
    for (const struct mapping_attack *attack = mapping_attacks; attack->name; attack++)
        if (!attack->works(at, LAYOUT_PAGE) && attack->works != userfault_works)
            support_fail(__FILE__, __LINE__, "%s does not work", attack->name);
    support_require(munmap(at, LAYOUT_PAGE) == 0);
    for (const struct fd_attack *attack = fd_attacks; attack->name; attack++) {
        support_require(ftruncate(fd, LAYOUT_PAGE) == 0);
        if (!attack->works(fd, LAYOUT_PAGE) && attack->works != more_seals_work)
            support_fail(__FILE__, __LINE__, "%s does not work", attack->name);
        if (attack->works == more_seals_work)
            break; /* takes the right to write away */
    }
    return 0;
}

static void test_the_attacks_work_on_unsealed_memory(void **state)
{
    (void)state;
    support_wait_exit(support_child(unsealed_run, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_a_sender_as_root),
                     SUPPORT_TEST(test_a_sender_as_nobody),
                     SUPPORT_TEST(test_a_receiver_as_root),
                     SUPPORT_TEST(test_a_receiver_as_nobody),
                     SUPPORT_TEST(test_a_kept_descriptor_as_root),
                     SUPPORT_TEST(test_a_kept_descriptor_as_nobody),
                     SUPPORT_TEST(test_the_attacks_work_on_unsealed_memory),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "sender", role_sender },
                     { "receiver", role_receiver },
                     { "keeper", role_keeper },
                     { 0 },
                 },
             .warm_up = support_warm_up_channel);
