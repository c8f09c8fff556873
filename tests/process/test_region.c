/* SPDX-License-Identifier: MIT */
/* Regions between processes: modes, ways to pass them on, and what is left when somebody ends. */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <veridian/ipc.h>

#define SIZE ((size_t)1 << 20)
#define READ_WRITE (VRD_RIGHT_READ | VRD_RIGHT_WRITE)

static vrd_cap_t create(enum vrd_region_mode mode)
{
    const struct vrd_region_options options = { .mode = (uint32_t)mode };
    vrd_cap_t cap;

    support_require_equal(vrd_region_create(SIZE, READ_WRITE, &options, &cap), 0);
    return cap;
}

static uint8_t *map(vrd_cap_t cap, uint32_t rights)
{
    void *addr;
    size_t size;

    support_require_equal(vrd_region_map(cap, rights, &addr, &size), 0);
    support_require_equal(size, SIZE);
    support_require_equal((uintptr_t)addr % 4096, 0);
    return addr;
}

static int map_error(vrd_cap_t cap, uint32_t rights)
{
    void *addr = NULL;
    size_t size = 7;
    const int r = vrd_region_map(cap, rights, &addr, &size);

    support_require(r < 0 && addr == NULL && size == 7);
    return r;
}

static int export(vrd_cap_t cap, uint32_t rights)
{
    int fd;

    support_require_equal(vrd_cap_export(cap, rights, &fd), 0);
    return fd;
}

static vrd_cap_t import(int fd)
{
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(fd, &cap), 0);
    return cap;
}

static vrd_cap_t make(vrd_cap_t cap, enum vrd_transfer_mode mode)
{
    vrd_cap_t made;

    support_require_equal(vrd_region_create_capability(cap, 0, mode, &made), 0);
    return made;
}

static void close_cap(vrd_cap_t cap)
{
    support_require_equal(vrd_cap_close(cap), 0);
}

static struct vrd_region_info info(vrd_cap_t cap)
{
    struct vrd_region_info ret;

    support_require_equal(vrd_region_info(cap, &ret), 0);
    return ret;
}

static bool all_are(const uint8_t *bytes, uint8_t value)
{
    for (size_t i = 0; i < SIZE; i++)
        if (bytes[i] != value)
            return false;
    return true;
}

/* Waits until the memory at `bytes` reads as `value`. */
static void wait_for_byte(const uint8_t *bytes, uint8_t value)
{
    while (*(const volatile uint8_t *)bytes != value)
        support_sleep_ms(1);
}

/* --- alone ------------------------------------------------------------------------------------ */

static void its_maker_maps_and_closes_it(void **state)
{
    (void)state;
    for (int mode = VRD_REGION_PUBLISHED; mode <= VRD_REGION_SHARED; mode++) {
        const vrd_cap_t cap = create((enum vrd_region_mode)mode);
        uint8_t *bytes = map(cap, READ_WRITE);
        struct vrd_cap_info about;

        assert_true(all_are(bytes, 0));
        memset(bytes, 0x5a, SIZE);
        assert_ptr_equal(map(cap, VRD_RIGHT_READ), bytes);
        assert_int_equal(info(cap).mapped, 2);
        assert_int_equal(info(cap).mode, mode);
        assert_int_equal(info(cap).size, SIZE);
        assert_int_equal(info(cap).page_size, 4096);
        assert_int_equal(info(cap).immutable, 0);
        assert_int_equal(vrd_region_unmap(cap), 0);
        assert_int_equal(vrd_region_unmap(cap), 0);
        assert_int_equal(vrd_region_unmap(cap), VRD_ERR_INVALID_ARGUMENT);
        assert_true(all_are(map(cap, VRD_RIGHT_READ), 0x5a)); /* nothing was lost */

        assert_int_equal(vrd_cap_info(cap, &about), 0);
        assert_int_equal(about.kind, VRD_OBJECT_REGION);
        assert_int_equal(about.rights, READ_WRITE | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE);
        assert_int_equal(about.owner, getpid());
        close_cap(cap);
        assert_int_equal(map_error(cap, VRD_RIGHT_READ), VRD_ERR_INVALID_CAPABILITY);
    }
}

static void sizes_are_whole_pages(void **state)
{
    struct vrd_region_info about;
    vrd_cap_t cap;

    (void)state;
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ, NULL, &cap), 0);
    about = info(cap);
    assert_int_equal(about.size, 4096);
    close_cap(cap);
    assert_int_equal(vrd_region_create(4097, VRD_RIGHT_READ, NULL, &cap), 0);
    about = info(cap);
    assert_int_equal(about.size, 8192);
    assert_int_equal(map_error(cap, READ_WRITE), VRD_ERR_PERMISSION_DENIED); /* made without */
    close_cap(cap);
}

static void wrong_arguments_are_said(void **state)
{
    struct vrd_region_options options = { 0 };
    vrd_cap_t cap = 7, send, receive;
    void *addr;
    size_t size;

    (void)state;
    assert_int_equal(vrd_region_create(0, VRD_RIGHT_READ, NULL, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create(1, 0, NULL, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_WRITE, NULL, &cap), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ | VRD_RIGHT_SEND, NULL, &cap),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ, NULL, NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create(SIZE_MAX, VRD_RIGHT_READ, NULL, &cap),
                     VRD_ERR_OUT_OF_MEMORY);
    assert_int_equal(vrd_region_create((size_t)1 << 62, VRD_RIGHT_READ, NULL, &cap),
                     VRD_ERR_OUT_OF_MEMORY);
    options.mode = 3;
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ, &options, &cap),
                     VRD_ERR_INVALID_ARGUMENT);
    options = (struct vrd_region_options){ .huge_pages = 4 };
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ, &options, &cap),
                     VRD_ERR_INVALID_ARGUMENT);
    options = (struct vrd_region_options){ .reserved = { [12] = 1 } };
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ, &options, &cap),
                     VRD_ERR_INVALID_ARGUMENT);
    options =
        (struct vrd_region_options){ .mode = VRD_REGION_SHARED, .huge_pages = VRD_PAGES_2_MIB };
    assert_int_equal(vrd_region_create(1, VRD_RIGHT_READ, &options, &cap),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(cap, 7);

    assert_int_equal(vrd_channel_create(4, &send, &receive), 0);
    assert_int_equal(map_error(send, VRD_RIGHT_READ), VRD_ERR_INVALID_MEMORY_REGION);
    assert_int_equal(map_error(receive, VRD_RIGHT_READ), VRD_ERR_INVALID_MEMORY_REGION);
    assert_int_equal(vrd_region_unmap(send), VRD_ERR_INVALID_MEMORY_REGION);
    assert_int_equal(vrd_region_create_capability(send, 0, VRD_TRANSFER_SHARE, &cap),
                     VRD_ERR_INVALID_MEMORY_REGION);
    close_cap(send);
    close_cap(receive);

    cap = create(VRD_REGION_PUBLISHED);
    assert_int_equal(vrd_region_map(cap, 0, &addr, &size), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_map(cap, VRD_RIGHT_WRITE, &addr, &size), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_map(cap, VRD_RIGHT_READ, NULL, &size), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_map(cap, VRD_RIGHT_READ, &addr, NULL), VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create_capability(cap, -1, VRD_TRANSFER_SHARE, &send),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_region_create_capability(cap, 0, (enum vrd_transfer_mode)3, &send),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_send(cap, "x", 1), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_receive_timed(cap, &size, sizeof size, 0), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_cap_export(cap, VRD_RIGHT_READ | VRD_RIGHT_SEND, (int[1]){ 0 }),
                     VRD_ERR_INVALID_ARGUMENT);
    assert_int_equal(vrd_cap_export(cap, VRD_RIGHT_SEND, (int[1]){ 0 }), VRD_ERR_PERMISSION_DENIED);
    close_cap(cap);
}

static void capabilities_in_one_process(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_SHARED);
    vrd_cap_t reads, derived;
    uint8_t *bytes = map(cap, READ_WRITE), *seen;

    (void)state;
    assert_int_equal(vrd_cap_derive(cap, VRD_RIGHT_READ | VRD_RIGHT_GRANT, &reads), 0);
    assert_int_equal(vrd_cap_derive(reads, READ_WRITE, &derived), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_cap_derive(reads, VRD_RIGHT_READ, &derived), 0);
    seen = map(derived, VRD_RIGHT_READ);
    assert_ptr_not_equal(seen, bytes);
    memset(bytes, 0x77, SIZE);
    assert_true(all_are(seen, 0x77));
    assert_int_equal(map_error(derived, READ_WRITE), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(vrd_cap_derive(derived, VRD_RIGHT_READ, &reads), VRD_ERR_PERMISSION_DENIED);
    close_cap(cap); /* the others keep it */
    assert_true(all_are(seen, 0x77));
    assert_int_equal(vrd_region_unmap(derived), 0);
    assert_true(all_are(map(derived, VRD_RIGHT_READ), 0x77));
    close_cap(derived);
    close_cap(reads);
}

/* --- modes ------------------------------------------------------------------------------------ */

struct visit {
    int invitation;
    struct support_gate go, done;
};

static struct visit visit_new(int invitation)
{
    struct visit visit = { .invitation = invitation };

    support_gate_init(&visit.go);
    support_gate_init(&visit.done);
    return visit;
}

static void visit_free(struct visit *visit)
{
    support_gate_deinit(&visit->go);
    support_gate_deinit(&visit->done);
}

static int reader_of_published(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);
    const uint8_t *bytes = map(cap, VRD_RIGHT_READ);

    support_require(all_are(bytes, 1));
    support_require_equal(info(cap).immutable, 0);
    support_require_equal(map_error(cap, READ_WRITE), VRD_ERR_PERMISSION_DENIED);
    support_require(mprotect((void *)(uintptr_t)bytes, 4096, PROT_READ | PROT_WRITE) < 0);
    support_gate_open(&visit->done);
    support_gate_wait(&visit->go);
    support_require(all_are(bytes, 2));
    return 0;
}

static void others_see_what_its_maker_publishes(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    uint8_t *bytes = map(cap, READ_WRITE);
    struct visit visit = visit_new(export(cap, VRD_RIGHT_READ));
    pid_t child;
    int fd;

    (void)state;
    assert_int_equal(vrd_cap_export(cap, READ_WRITE, &fd), VRD_ERR_PERMISSION_DENIED);
    memset(bytes, 1, SIZE);
    child = support_child(reader_of_published, &visit);
    close(visit.invitation);
    support_gate_wait(&visit.done);
    memset(bytes, 2, SIZE);
    support_gate_open(&visit.go);
    support_wait_exit(child, 0);
    visit_free(&visit);
    close_cap(cap);
}

static int writer_of_shared(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);

    memset(map(cap, READ_WRITE), 3, SIZE);
    return 0;
}

static void who_shares_writes(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_SHARED);
    const uint8_t *bytes = map(cap, VRD_RIGHT_READ);
    struct visit visit = visit_new(export(cap, READ_WRITE));
    pid_t child = support_child(writer_of_shared, &visit);

    (void)state;
    close(visit.invitation);
    support_wait_exit(child, 0);
    assert_true(all_are(bytes, 3));
    visit_free(&visit);
    close_cap(cap);
}

/* Runs fn in a child that dies of SIGSEGV. */
static void require_fault(int (*fn)(void *), void *arg)
{
    support_wait_signal(support_child(fn, arg), SIGSEGV);
}

static int write_byte(void *arg)
{
    signal(SIGSEGV, SIG_DFL);
    *(volatile uint8_t *)arg = 1;
    return 0;
}

static int write_frozen(void *arg)
{
    const vrd_cap_t cap = create(VRD_REGION_SNAPSHOT);
    uint8_t *bytes = map(cap, READ_WRITE);

    (void)arg;
    export(cap, VRD_RIGHT_READ);
    return write_byte(bytes);
}

static int reader_of_snapshot(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);

    support_require_equal(info(cap).immutable, 1);
    support_require(all_are(map(cap, VRD_RIGHT_READ), 9));
    return 0;
}

static void a_snapshot_is_nobodys_to_write(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_SNAPSHOT);
    uint8_t *bytes = map(cap, READ_WRITE);
    struct visit visit;
    pid_t child;

    (void)state;
    memset(bytes, 9, SIZE);
    assert_int_equal(info(cap).immutable, 0);
    visit = visit_new(export(cap, VRD_RIGHT_READ));
    assert_int_equal(info(cap).immutable, 1);
    assert_true(all_are(bytes, 9)); /* where it was */
    assert_int_equal(map_error(cap, READ_WRITE), VRD_ERR_PERMISSION_DENIED);
    child = support_child(reader_of_snapshot, &visit);
    close(visit.invitation);
    support_wait_exit(child, 0);
    require_fault(write_frozen, NULL);
    visit_free(&visit);
    close_cap(cap);
}

static int writer_of_copy(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);
    uint8_t *bytes = map(cap, READ_WRITE);

    support_require_equal(info(cap).immutable, 1);
    support_require(all_are(bytes, 4));
    memset(bytes, 5, SIZE / 2);
    support_require(bytes[0] == 5 && bytes[SIZE - 1] == 4);
    support_gate_open(&visit->done);
    support_gate_wait(&visit->go);
    return 0;
}

static void copies_are_written_by_those_who_have_them(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_SNAPSHOT), live = create(VRD_REGION_PUBLISHED);
    uint8_t *bytes = map(cap, READ_WRITE);
    struct visit visit;
    vrd_cap_t copy;
    pid_t child;

    (void)state;
    assert_int_equal(vrd_region_create_capability(live, 0, VRD_TRANSFER_COPY_ON_WRITE, &copy),
                     VRD_ERR_INVALID_MEMORY_REGION);
    memset(bytes, 4, SIZE);
    copy = make(cap, VRD_TRANSFER_COPY_ON_WRITE);
    visit = visit_new(export(copy, READ_WRITE));
    child = support_child(writer_of_copy, &visit);
    close(visit.invitation);
    support_gate_wait(&visit.done);
    assert_true(all_are(bytes, 4));
    memset(map(copy, READ_WRITE), 6, SIZE);
    assert_true(all_are(bytes, 4));
    support_gate_open(&visit.go);
    support_wait_exit(child, 0);
    visit_free(&visit);
    close_cap(copy);
    close_cap(cap);
    close_cap(live);
}

static int receiver_of_moved(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);
    struct vrd_cap_info about;
    uint8_t *bytes;

    support_gate_wait(&visit->go); /* the giver is done */
    support_require_equal(info(cap).immutable, 1);
    support_require_equal(vrd_cap_info(cap, &about), 0);
    support_require_equal(about.owner, getpid());
    bytes = map(cap, READ_WRITE);
    support_require(all_are(bytes, 8));
    bytes[0] = 1;
    return 0;
}

static void moving_gives_it_up(void **state)
{
    static const enum vrd_region_mode modes[] = { VRD_REGION_PUBLISHED, VRD_REGION_SNAPSHOT,
                                                  VRD_REGION_SHARED };

    (void)state;
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        const vrd_cap_t cap = create(modes[i]);
        uint8_t *bytes = map(cap, READ_WRITE);
        struct visit visit;
        vrd_cap_t moved;
        pid_t child;

        memset(bytes, 8, SIZE);
        moved = make(cap, VRD_TRANSFER_MOVE);
        assert_int_equal(vrd_cap_close(cap), VRD_ERR_INVALID_CAPABILITY);
        assert_int_equal(msync(bytes, SIZE, MS_ASYNC), -1); /* no longer mapped */
        assert_int_equal(errno, ENOMEM);
        visit = visit_new(export(moved, READ_WRITE));
        assert_int_equal(vrd_cap_close(moved), VRD_ERR_INVALID_CAPABILITY);
        child = support_child(receiver_of_moved, &visit);
        close(visit.invitation);
        support_gate_open(&visit.go);
        support_wait_exit(child, 0);
        visit_free(&visit);
    }
}

static void nothing_that_others_hold_is_moved(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_SHARED);
    const vrd_cap_t other = make(cap, VRD_TRANSFER_SHARE);
    vrd_cap_t moved;
    int invitation;

    (void)state;
    assert_int_equal(vrd_region_create_capability(cap, 0, VRD_TRANSFER_MOVE, &moved),
                     VRD_ERR_RESOURCE_BUSY);
    assert_int_equal(vrd_region_create_capability(other, 0, VRD_TRANSFER_MOVE, &moved),
                     VRD_ERR_PERMISSION_DENIED);
    close_cap(other);
    invitation = export(cap, VRD_RIGHT_READ);
    assert_int_equal(vrd_region_create_capability(cap, 0, VRD_TRANSFER_MOVE, &moved),
                     VRD_ERR_RESOURCE_BUSY);
    close(invitation);
    moved = make(cap, VRD_TRANSFER_MOVE);
    assert_int_equal(info(moved).immutable, 1);
    close_cap(moved);
}

static int granted(void *arg)
{
    const struct visit *visit = arg;
    struct vrd_message message = { .max_caps = 1 };
    const uint8_t *bytes;
    vrd_cap_t inbox;

    support_require_equal(vrd_inbox_open(NULL, &inbox), 0);
    support_gate_open(&visit->done);
    for (uint8_t i = 0; i < 2; i++) {
        support_require_equal(vrd_receive_message(inbox, &message, VRD_FOREVER), 0);
        support_require_equal(message.n_caps, 1);
        bytes = map(message.caps[0], i == 0 ? VRD_RIGHT_READ : READ_WRITE);
        support_require(all_are(bytes, (uint8_t)(30 + i)));
        support_gate_open(&visit->done);
        wait_for_byte(bytes, 0); /* revoked */
        support_require_equal(map_error(message.caps[0], VRD_RIGHT_READ), VRD_ERR_REVOKED);
        close_cap(message.caps[0]);
    }
    close_cap(inbox);
    return 0;
}

static void a_process_is_given_it_by_number(void **state)
{
    const vrd_cap_t caps[2] = { create(VRD_REGION_PUBLISHED), create(VRD_REGION_SNAPSHOT) };
    struct visit visit;
    vrd_cap_t inbox, grant;
    pid_t child, gone;

    (void)state;
    support_runtime_dir();
    assert_int_equal(vrd_region_create_capability(caps[0], getppid(), VRD_TRANSFER_SHARE, &grant),
                     VRD_ERR_NOT_INITIALIZED);
    visit = visit_new(-1);
    child = support_child(granted, &visit);
    assert_int_equal(vrd_inbox_open(NULL, &inbox), 0);
    support_gate_wait(&visit.done);
    for (int i = 0; i < 2; i++) {
        memset(map(caps[i], READ_WRITE), 30 + i, SIZE);
        assert_int_equal(
            vrd_region_create_capability(
                caps[i], child, i == 0 ? VRD_TRANSFER_SHARE : VRD_TRANSFER_COPY_ON_WRITE, &grant),
            0);
        support_gate_wait(&visit.done);
        assert_int_equal(vrd_cap_revoke(grant), 0);
        close_cap(grant);
    }
    assert_int_equal(vrd_region_create_capability(caps[0], child, VRD_TRANSFER_MOVE, &grant),
                     VRD_ERR_INVALID_ARGUMENT);
    support_wait_exit(child, 0);
    gone = fork();
    if (gone == 0)
        _exit(0);
    waitpid(gone, NULL, 0);
    assert_int_equal(vrd_region_create_capability(caps[0], gone, VRD_TRANSFER_SHARE, &grant),
                     VRD_ERR_PROCESS_NOT_FOUND);
    assert_int_equal(vrd_region_create_capability(caps[0], getpid(), VRD_TRANSFER_SHARE, &grant),
                     0);
    close_cap(grant);
    close_cap(inbox);
    close_cap(caps[0]);
    close_cap(caps[1]);
    visit_free(&visit);
}

struct courier {
    vrd_cap_t receive;
    struct visit visit;
};

static int receiver_of_message(void *arg)
{
    const struct courier *courier = arg;
    char text[8];
    struct vrd_message message = { .data = text, .size = sizeof text, .max_caps = 4 };
    const uint8_t *bytes;

    support_require_equal(vrd_receive_message(courier->receive, &message, VRD_FOREVER), 0);
    support_require_equal(message.n_caps, 3);
    bytes = map(message.caps[0], VRD_RIGHT_READ);
    support_require(all_are(bytes, 21));
    support_require_equal(map_error(message.caps[0], READ_WRITE), VRD_ERR_PERMISSION_DENIED);
    memset(map(message.caps[1], READ_WRITE), 23, SIZE);
    support_require_equal(info(message.caps[2]).immutable, 1);
    support_require(all_are(map(message.caps[2], VRD_RIGHT_READ), 24));
    support_gate_open(&courier->visit.done);
    wait_for_byte(bytes, 0); /* revoked */
    return 0;
}

static void regions_travel_in_messages(void **state)
{
    const vrd_cap_t published = create(VRD_REGION_PUBLISHED), shared = create(VRD_REGION_SHARED);
    const vrd_cap_t third = create(VRD_REGION_PUBLISHED);
    struct vrd_message message = { .data = (char[]){ "three" }, .len = 6, .n_caps = 3 };
    struct courier courier;
    vrd_cap_t send;
    pid_t child;

    (void)state;
    assert_int_equal(vrd_channel_create(4, &send, &courier.receive), 0);
    courier.visit = visit_new(-1);
    memset(map(published, READ_WRITE), 21, SIZE);
    memset(map(third, READ_WRITE), 24, SIZE);
    child = support_child(receiver_of_message, &courier);
    close_cap(courier.receive);
    message.caps[0] = make(published, VRD_TRANSFER_SHARE);
    message.caps[1] = make(shared, VRD_TRANSFER_SHARE);
    message.caps[2] = make(third, VRD_TRANSFER_MOVE);
    assert_int_equal(vrd_send_message(send, &message, VRD_FOREVER), 0);
    for (size_t i = 0; i < 3; i++) /* gone from here */
        assert_int_equal(map_error(message.caps[i], VRD_RIGHT_READ), VRD_ERR_INVALID_CAPABILITY);
    support_gate_wait(&courier.visit.done);
    assert_true(all_are(map(shared, VRD_RIGHT_READ), 23));
    assert_int_equal(vrd_cap_revoke(published), 0);
    support_wait_exit(child, 0);
    visit_free(&courier.visit);
    close_cap(send);
    close_cap(published);
    close_cap(shared);
}

static void a_message_that_does_not_go_gives_them_back(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_SNAPSHOT);
    struct vrd_message message = { .data = (char[]){ "x" }, .len = 1, .n_caps = 1 };
    vrd_cap_t send, receive, moved;

    (void)state;
    memset(map(cap, READ_WRITE), 25, SIZE);
    moved = make(cap, VRD_TRANSFER_MOVE);
    assert_int_equal(vrd_channel_create(4, &send, &receive), 0);
    close_cap(receive);
    message.caps[0] = moved;
    assert_int_equal(vrd_send_message(send, &message, 0), VRD_ERR_PEER_GONE);
    assert_true(all_are(map(moved, VRD_RIGHT_READ), 25));
    close_cap(send);
    close_cap(moved);
}

/* --- taking it back --------------------------------------------------------------------------- */

static int loser(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);
    const uint8_t *bytes = map(cap, VRD_RIGHT_READ);
    struct vrd_notice notice;
    struct vrd_cap_info about;
    int fd;

    support_require(all_are(bytes, 1));
    support_gate_open(&visit->done);
    wait_for_byte(bytes, 0); /* no fault */
    support_require(all_are(bytes, 0));
    support_require_equal(map_error(cap, VRD_RIGHT_READ), VRD_ERR_REVOKED);
    support_require_equal(vrd_cap_export(cap, VRD_RIGHT_READ, &fd), VRD_ERR_REVOKED);
    support_require_equal(vrd_cap_info(cap, &about), 0);
    support_require_equal(about.loss, VRD_LOSS_REVOKED);
    support_require_equal(vrd_notices_take(&notice, 1), 1);
    support_require(notice.cap == cap && notice.loss == VRD_LOSS_REVOKED);
    support_require_equal(vrd_region_unmap(cap), 0);
    close_cap(cap);
    return 0;
}

static void who_is_revoked_loses_the_mapping(void **state)
{
    (void)state;
    for (int mode = VRD_REGION_PUBLISHED; mode <= VRD_REGION_SHARED; mode++) {
        const vrd_cap_t cap = create((enum vrd_region_mode)mode);
        uint8_t *bytes = map(cap, READ_WRITE);
        struct visit visit;
        pid_t child;
        int unused;
        vrd_cap_t got;

        memset(bytes, 1, SIZE);
        visit = visit_new(export(cap, VRD_RIGHT_READ | VRD_RIGHT_GRANT));
        child = support_child(loser, &visit);
        close(visit.invitation);
        unused = export(cap, VRD_RIGHT_READ);
        support_gate_wait(&visit.done);
        assert_int_equal(vrd_cap_revoke(cap), 0);
        support_wait_exit(child, 0);
        assert_true(all_are(bytes, 1)); /* its maker's it still is */
        if (mode != VRD_REGION_SNAPSHOT)
            memset(bytes, 2, SIZE);
        if (vrd_cap_import(unused, &got) == 0) { /* an invitation not yet used goes the same way */
            assert_int_equal(map_error(got, VRD_RIGHT_READ), VRD_ERR_REVOKED);
            close_cap(got);
        }
        got = import(export(cap, VRD_RIGHT_READ)); /* a new one is a new one */
        assert_true(all_are(map(got, VRD_RIGHT_READ), mode == VRD_REGION_SNAPSHOT ? 1 : 2));
        close_cap(got);
        visit_free(&visit);
        close_cap(cap);
    }
}

/* The memory that comes with an invitation. */
static int greeting_fd(int sock)
{
    char data[256];
    union {
        char buf[256];
        struct cmsghdr align;
    } control;
    struct iovec iov = { .iov_base = data, .iov_len = sizeof data };
    struct msghdr message = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control
    };
    int fd = -1;

    support_require(recvmsg(sock, &message, MSG_CMSG_CLOEXEC) > 0);
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c; c = CMSG_NXTHDR(&message, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
            memcpy(&fd, CMSG_DATA(c), sizeof fd);
    support_require(fd >= 0);
    return fd;
}

/* Does not run the library, and keeps what it was given. */
static int keeper(void *arg)
{
    const struct visit *visit = arg;
    const uint8_t *bytes;
    const int fd = greeting_fd(visit->invitation);

    bytes = mmap(NULL, SIZE, PROT_READ, MAP_SHARED, fd, 0);
    support_require(bytes != MAP_FAILED && all_are(bytes, 1));
    support_gate_open(&visit->done);
    support_gate_wait(&visit->go);
    support_require(all_are(bytes, 1)); /* and nothing of what was written since */
    return 0;
}

static int survivor(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit->invitation);
    const uint8_t *bytes = map(cap, VRD_RIGHT_READ);

    support_require(all_are(bytes, 1));
    support_gate_open(&visit->done);
    wait_for_byte(bytes, 2);
    support_gate_wait(&visit->go);
    support_require(all_are(bytes, 2)); /* where it was */
    support_require_equal(info(cap).generation, 1);
    support_require_equal(vrd_region_unmap(cap), 0);
    support_require(all_are(map(cap, VRD_RIGHT_READ), 2));
    return 0;
}

static void who_keeps_the_old_memory_sees_nothing_new(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    const vrd_cap_t some = make(cap, VRD_TRANSFER_SHARE);
    uint8_t *bytes = map(cap, READ_WRITE);
    struct visit bad, good, late;
    vrd_cap_t got;
    pid_t pids[2];

    (void)state;
    memset(bytes, 1, SIZE);
    bad = visit_new(export(some, VRD_RIGHT_READ));
    good = visit_new(export(cap, VRD_RIGHT_READ));
    late = visit_new(export(cap, VRD_RIGHT_READ)); /* with the old memory, and not yet used */
    pids[0] = support_child(keeper, &bad);
    close(bad.invitation);
    pids[1] = support_child(survivor, &good);
    close(good.invitation);
    support_gate_wait(&bad.done);
    support_gate_wait(&good.done);
    assert_int_equal(vrd_cap_revoke(some), 0);
    assert_ptr_equal(map(cap, READ_WRITE), bytes);
    assert_true(all_are(bytes, 1));
    memset(bytes, 2, SIZE);
    support_gate_open(&bad.go);
    support_gate_open(&good.go);
    support_wait_exit(pids[0], 0);
    support_wait_exit(pids[1], 0);
    got = import(late.invitation);
    assert_true(all_are(map(got, VRD_RIGHT_READ), 2));
    close_cap(got);
    assert_true(all_are(map(some, VRD_RIGHT_READ), 2)); /* which itself stays */
    close_cap(some);
    visit_free(&bad);
    visit_free(&good);
    visit_free(&late);
    close_cap(cap);
}

static int middleman(void *arg)
{
    const struct visit *visit = arg;
    const vrd_cap_t cap = import(visit[0].invitation);

    support_send_fd(visit[1].invitation, export(cap, VRD_RIGHT_READ));
    support_gate_wait(&visit->go);
    support_require_equal(vrd_cap_revoke(cap), 0);
    support_require(all_are(map(cap, VRD_RIGHT_READ), 1)); /* itself it keeps it */
    support_gate_open(&visit->done);
    support_gate_wait(&visit->go);
    return 0;
}

static void a_holder_takes_back_what_it_passed_on(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    const uint8_t *bytes;
    struct vrd_cap_info about;
    struct visit visit[2];
    vrd_cap_t got;
    int pair[2];
    pid_t child;

    (void)state;
    memset(map(cap, READ_WRITE), 1, SIZE);
    support_socket_pair(pair);
    visit[0] = visit_new(export(cap, VRD_RIGHT_READ | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE));
    visit[1] = (struct visit){ .invitation = pair[1] };
    child = support_child(middleman, visit);
    close(visit[0].invitation);
    got = import(support_receive_fd(pair[0]));
    bytes = map(got, VRD_RIGHT_READ);
    assert_true(all_are(bytes, 1));
    support_gate_open(&visit[0].go);
    support_gate_wait(&visit[0].done);
    wait_for_byte(bytes, 0);
    assert_int_equal(map_error(got, VRD_RIGHT_READ), VRD_ERR_REVOKED);
    close_cap(got);

    got = import(export(cap, VRD_RIGHT_READ | VRD_RIGHT_GRANT)); /* without REVOKE */
    assert_int_equal(vrd_cap_revoke(got), VRD_ERR_PERMISSION_DENIED);
    close_cap(got);
    assert_int_equal(vrd_cap_revoke(cap), 0); /* and the middleman itself */
    support_gate_open(&visit[0].go);
    support_wait_exit(child, 0);
    assert_int_equal(vrd_cap_info(cap, &about), 0);
    assert_int_equal(about.loss, VRD_LOSS_NONE);
    visit_free(&visit[0]);
    close(pair[0]);
    close(pair[1]);
    close_cap(cap);
}

static void generations_of_memory_come_in_order(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED), held = make(cap, VRD_TRANSFER_SHARE);
    uint8_t *bytes = map(cap, READ_WRITE);
    const uint8_t *seen = map(held, VRD_RIGHT_READ);

    (void)state;
    for (int i = 1; i <= 50; i++) {
        const vrd_cap_t some = make(cap, VRD_TRANSFER_SHARE);

        close_cap(import(export(some, VRD_RIGHT_READ)));
        assert_int_equal(vrd_cap_revoke(some), 0);
        memset(bytes, i, SIZE);
        wait_for_byte(seen, (uint8_t)i);
        assert_true(all_are(seen, (uint8_t)i));
        close_cap(some);
    }
    assert_int_equal(info(cap).generation, 50);
    close_cap(held);
    close_cap(cap);
}

/* --- death ------------------------------------------------------------------------------------ */

static int short_lived_maker(void *arg)
{
    const int *sock = arg;
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    uint8_t *bytes = map(cap, READ_WRITE);
    int fd = export(cap, VRD_RIGHT_READ | VRD_RIGHT_GRANT);

    memset(bytes, 11, SIZE);
    support_send_fd(sock[1], fd);
    pause();
    return 0;
}

static void a_region_outlives_its_maker(void **state)
{
    int pair[2];
    vrd_cap_t cap, again;
    const uint8_t *bytes;
    pid_t child;

    (void)state;
    support_socket_pair(pair);
    child = support_child(short_lived_maker, pair);
    cap = import(support_receive_fd(pair[0]));
    bytes = map(cap, VRD_RIGHT_READ);
    support_kill(child);
    assert_true(all_are(bytes, 11));
    assert_int_equal(vrd_region_unmap(cap), 0);
    assert_true(all_are(map(cap, VRD_RIGHT_READ), 11));
    again = import(export(cap, VRD_RIGHT_READ)); /* also passed on */
    assert_true(all_are(map(again, VRD_RIGHT_READ), 11));
    close_cap(again);
    close_cap(cap);
    close(pair[0]);
    close(pair[1]);
}

static void an_invitation_is_used_once(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    const int fd = export(cap, VRD_RIGHT_READ), copy = dup(fd);
    vrd_cap_t first = import(fd), second;
    int r;

    (void)state;
    r = vrd_cap_import(copy, &second);
    if (r == 0) { /* of no use */
        assert_int_equal(map_error(second, VRD_RIGHT_READ), VRD_ERR_INVALID_MEMORY_REGION);
        close_cap(second);
    }
    memset(map(cap, READ_WRITE), 13, SIZE);
    assert_true(all_are(map(first, VRD_RIGHT_READ), 13));
    close_cap(first);
    close_cap(cap);
}

/* --- fork ------------------------------------------------------------------------------------- */

struct family {
    vrd_cap_t caps[3];
    struct support_gate parent, child;
};

static int child_of_maker(void *arg)
{
    const struct family *family = arg;
    int fd;

    for (int mode = VRD_REGION_PUBLISHED; mode <= VRD_REGION_SHARED; mode++) {
        const vrd_cap_t cap = family->caps[mode];
        vrd_cap_t other;

        support_require_equal(info(cap).mapped, 0);
        if (mode != VRD_REGION_SHARED)
            support_require_equal(map_error(cap, READ_WRITE), VRD_ERR_PERMISSION_DENIED);
        support_require(all_are(map(cap, VRD_RIGHT_READ), (uint8_t)(mode + 1)));
        if (mode == VRD_REGION_SNAPSHOT) { /* its maker has not frozen it */
            support_require_equal(vrd_cap_export(cap, VRD_RIGHT_READ, &fd), VRD_ERR_RESOURCE_BUSY);
            continue;
        }
        other = import(export(cap, VRD_RIGHT_READ));
        support_require(all_are(map(other, VRD_RIGHT_READ), (uint8_t)(mode + 1)));
    }
    support_require_equal(vrd_region_unmap(family->caps[VRD_REGION_SHARED]), 0);
    memset(map(family->caps[VRD_REGION_SHARED], READ_WRITE), 99, SIZE);
    return 0;
}

static void a_makers_child_maps_again_and_reads(void **state)
{
    struct family family;

    (void)state;
    for (int mode = VRD_REGION_PUBLISHED; mode <= VRD_REGION_SHARED; mode++) {
        family.caps[mode] = create((enum vrd_region_mode)mode);
        memset(map(family.caps[mode], READ_WRITE), mode + 1, SIZE);
    }
    support_wait_exit(support_child(child_of_maker, &family), 0);
    assert_true(all_are(map(family.caps[VRD_REGION_SHARED], VRD_RIGHT_READ), 99));
    for (int mode = VRD_REGION_PUBLISHED; mode <= VRD_REGION_SHARED; mode++)
        close_cap(family.caps[mode]);
}

static int child_of_holder(void *arg)
{
    const vrd_cap_t cap = *(const vrd_cap_t *)arg;

    support_require(all_are(map(cap, VRD_RIGHT_READ), 12));
    return 0;
}

static void a_holders_child_maps_again(void **state)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    vrd_cap_t held = import(export(cap, VRD_RIGHT_READ));
    const uint8_t *bytes = map(held, VRD_RIGHT_READ);

    (void)state;
    memset(map(cap, READ_WRITE), 12, SIZE);
    for (int i = 0; i < 3; i++)
        support_wait_exit(support_child(child_of_holder, &held), 0);
    assert_true(all_are(bytes, 12)); /* undisturbed */
    close_cap(held);
    close_cap(cap);
}

/* --- providers -------------------------------------------------------------------------------- */

struct provider {
    int fd; /* to hand out; -1: fail with `error` */
    int error;
    size_t asked, freed;
};

static int allocate(void *user, size_t size, uint32_t huge_pages, int *ret_fd)
{
    struct provider *provider = user;

    support_require_equal(huge_pages, VRD_PAGES_DEFAULT);
    provider->asked += size;
    *ret_fd = provider->fd;
    return provider->error;
}

static void give_back(void *user, size_t size)
{
    ((struct provider *)user)->freed += size;
}

static int memfd(size_t size, unsigned flags)
{
    const int fd = memfd_create("provider", MFD_CLOEXEC | flags);

    support_require(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    return fd;
}

static void an_application_brings_the_memory(void **state)
{
    struct provider provider = { .fd = memfd(SIZE, MFD_ALLOW_SEALING) };
    const struct vrd_memory_provider pages = { .allocate_pages = allocate,
                                               .free_pages = give_back,
                                               .user = &provider };
    const struct vrd_region_options options = { .provider = &pages };
    vrd_cap_t cap, held;
    const uint8_t *bytes;

    (void)state;
    assert_int_equal(pwrite(provider.fd, "contents", 8, 4096), 8);
    assert_int_equal(vrd_region_create(SIZE - 5, READ_WRITE, &options, &cap), 0);
    assert_int_equal(provider.asked, SIZE);
    bytes = map(cap, VRD_RIGHT_READ);
    assert_memory_equal(bytes + 4096, "contents", 8);
    held = import(export(cap, VRD_RIGHT_READ)); /* whole and sealed by now */
    assert_memory_equal(map(held, VRD_RIGHT_READ) + 4096, "contents", 8);
    close_cap(held);
    assert_int_equal(provider.freed, 0);
    close_cap(cap);
    assert_int_equal(provider.freed, SIZE);
}

static void what_a_provider_brings_is_checked(void **state)
{
    struct provider provider = { .fd = -1 };
    const struct vrd_memory_provider pages = { .allocate_pages = allocate,
                                               .free_pages = give_back,
                                               .user = &provider };
    const struct vrd_region_options options = { .provider = &pages };
    int fds[5];
    vrd_cap_t cap = 7;

    (void)state;
    provider.error = VRD_ERR_QUOTA_EXCEEDED;
    assert_int_equal(vrd_region_create(SIZE, READ_WRITE, &options, &cap), VRD_ERR_QUOTA_EXCEEDED);
    provider.error = 0;
    assert_int_equal(vrd_region_create(SIZE, READ_WRITE, &options, &cap),
                     VRD_ERR_INVALID_MEMORY_REGION);
    fds[0] = memfd(SIZE / 2, MFD_ALLOW_SEALING);
    fds[1] = memfd(SIZE, 0); /* cannot be sealed */
    fds[2] = memfd(SIZE, MFD_ALLOW_SEALING);
    assert_int_equal(fcntl(fds[2], F_ADD_SEALS, F_SEAL_WRITE), 0);
    assert_int_equal(pipe(fds + 3), 0);
    for (size_t i = 0; i < 5; i++) {
        provider.fd = fds[i];
        provider.freed = 0;
        assert_int_equal(vrd_region_create(SIZE, READ_WRITE, &options, &cap),
                         VRD_ERR_INVALID_MEMORY_REGION);
        assert_int_equal(provider.freed, SIZE);
        assert_int_equal(fcntl(fds[i], F_GETFD), -1); /* taken all the same */
    }
    assert_int_equal(cap, 7);
}

static int warm_up(void)
{
    const vrd_cap_t cap = create(VRD_REGION_PUBLISHED);
    const vrd_cap_t held = import(export(cap, VRD_RIGHT_READ));

    map(held, VRD_RIGHT_READ);
    close_cap(held);
    close_cap(cap);
    return support_warm_up_channel();
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(its_maker_maps_and_closes_it),
                     SUPPORT_TEST(sizes_are_whole_pages),
                     SUPPORT_TEST(wrong_arguments_are_said),
                     SUPPORT_TEST(capabilities_in_one_process),
                     SUPPORT_TEST(others_see_what_its_maker_publishes),
                     SUPPORT_TEST(who_shares_writes),
                     SUPPORT_TEST(a_snapshot_is_nobodys_to_write),
                     SUPPORT_TEST(copies_are_written_by_those_who_have_them),
                     SUPPORT_TEST(moving_gives_it_up),
                     SUPPORT_TEST(nothing_that_others_hold_is_moved),
                     SUPPORT_TEST(a_process_is_given_it_by_number),
                     SUPPORT_TEST(regions_travel_in_messages),
                     SUPPORT_TEST(a_message_that_does_not_go_gives_them_back),
                     SUPPORT_TEST(who_is_revoked_loses_the_mapping),
                     SUPPORT_TEST(who_keeps_the_old_memory_sees_nothing_new),
                     SUPPORT_TEST(a_holder_takes_back_what_it_passed_on),
                     SUPPORT_TEST(generations_of_memory_come_in_order),
                     SUPPORT_TEST(a_region_outlives_its_maker),
                     SUPPORT_TEST(an_invitation_is_used_once),
                     SUPPORT_TEST(a_makers_child_maps_again_and_reads),
                     SUPPORT_TEST(a_holders_child_maps_again),
                     SUPPORT_TEST(an_application_brings_the_memory),
                     SUPPORT_TEST(what_a_provider_brings_is_checked),
                     { 0 },
                 },
             .warm_up = warm_up)
