/* SPDX-License-Identifier: MIT */
/*
 * How often the bytes of a large message are copied, between two processes: once where it is sent, never
 * where it is lent, never where it is viewed. That is shown in two ways, so that neither has to be believed:
 * the library's copies are counted (the linker leads them through this file), and memory that nobody may
 * touch meanwhile is taken away, so that whoever does touch it, in whatever way, dies.
 */
#include "process/loans.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>

#include "link/copy.h"

#define MIB ((size_t)1 << 20)
#define LARGEST (9 * MIB) /* more than copy_write copies by itself */
#define BIG (64 * PAGE)

/* ---- counting ---------------------------------------------------------------------------------- */

/* Of at least so many bytes: slots, descriptions and frames are less. */
#define COUNTED_MIN 256

static _Thread_local struct copies {
    size_t n, bytes;
    bool inside; /* one of the library's functions, which may use those of libc */
} copies;

/* See -wrap in the manual of ld; tests/CMakeLists.txt names these functions. */
void __real_copy_write(void *restrict to, const void *restrict from, size_t len, bool past_caches);
void __wrap_copy_write(void *restrict to, const void *restrict from, size_t len, bool past_caches);
void __real_copy_read(void *restrict to, const void *restrict from, size_t len);
void __wrap_copy_read(void *restrict to, const void *restrict from, size_t len);
void *__real_memcpy(void *restrict to, const void *restrict from, size_t len);
void *__wrap_memcpy(void *restrict to, const void *restrict from, size_t len);
void *__real_memmove(void *to, const void *from, size_t len);
void *__wrap_memmove(void *to, const void *from, size_t len);

static void count(size_t len)
{
    if (copies.inside || len < COUNTED_MIN)
        return;
    copies.n++;
    copies.bytes += len;
}

void __wrap_copy_write(void *restrict to, const void *restrict from, size_t len, bool past_caches)
{
    count(len);
    copies.inside = true;
    __real_copy_write(to, from, len, past_caches);
    copies.inside = false;
}

void __wrap_copy_read(void *restrict to, const void *restrict from, size_t len)
{
    count(len);
    copies.inside = true;
    __real_copy_read(to, from, len);
    copies.inside = false;
}

void *__wrap_memcpy(void *restrict to, const void *restrict from, size_t len)
{
    count(len);
    return __real_memcpy(to, from, len);
}

void *__wrap_memmove(void *to, const void *from, size_t len)
{
    count(len);
    return __real_memmove(to, from, len);
}

static void copies_begin(void)
{
    copies = (struct copies){ 0 };
}

static void copies_were(size_t n, size_t bytes)
{
    EXPECT(copies.n, n);
    EXPECT(copies.bytes, bytes);
}

/* ---- places -------------------------------------------------------------------------------------- */

/* A byte of a file, whoever has it mapped, and wherever. */
struct place {
    uint64_t inode, offset;
};

struct mapping {
    uintptr_t begin, end;
    struct place place; /* of its first byte */
    char rights[8];
};

static bool mapping_next(FILE *maps, struct mapping *ret)
{
    char line[512];

    while (fgets(line, sizeof line, maps))
        if (strstr(line, "memfd:veridian") &&
            sscanf(line, "%" SCNxPTR "-%" SCNxPTR " %7s %" SCNx64 " %*s %" SCNu64, &ret->begin,
                   &ret->end, ret->rights, &ret->place.offset, &ret->place.inode) == 5)
            return true;
    return false;
}

static struct mapping mapping_of(const void *addr)
{
    const uintptr_t at = (uintptr_t)addr;
    FILE *maps = fopen("/proc/self/maps", "re");
    struct mapping mapping;
    bool found = false;

    support_require(maps != NULL);
    while (!found && mapping_next(maps, &mapping))
        found = mapping.begin <= at && at < mapping.end;
    support_require(found);
    fclose(maps);
    return mapping;
}

static struct place place_of(const void *addr)
{
    const struct mapping mapping = mapping_of(addr);

    return (struct place){ .inode = mapping.place.inode,
                           .offset = mapping.place.offset + ((uintptr_t)addr - mapping.begin) };
}

/* Where this process may write that byte. */
static uint8_t *writable_at(struct place place)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    struct mapping mapping;
    bool found = false;

    support_require(maps != NULL);
    while (!found && mapping_next(maps, &mapping))
        found = mapping.place.inode == place.inode && strcmp(mapping.rights, "rw-s") == 0 &&
                place.offset - mapping.place.offset < mapping.end - mapping.begin;
    support_require(found);
    fclose(maps);
    return (uint8_t *)mapping.begin + (place.offset - mapping.place.offset);
}

/* Until allow(), who touches the memory that `addr` is mapped from dies of it. */
static struct mapping forbid(const void *addr)
{
    const struct mapping mapping = mapping_of(addr);

    EXPECT(mprotect((void *)mapping.begin, mapping.end - mapping.begin, PROT_NONE), 0);
    return mapping;
}

static void allow(const struct mapping *mapping)
{
    const int rights = mapping->rights[1] == 'w' ? PROT_READ | PROT_WRITE : PROT_READ;

    EXPECT(mprotect((void *)mapping->begin, mapping->end - mapping->begin, rights), 0);
}

/* ---- two processes ------------------------------------------------------------------------------- */

struct talk {
    int invitation;
    struct support_gate told; /* `place` stands: of the bytes in question */
    struct support_gate done; /* ... and was looked at */
    struct place place;
};

struct both {
    struct talk *talk; /* shared */
    vrd_cap_t receive;
    pid_t child;
};

/* `send` is exported to the child. */
static struct both both_with(int (*child)(void *), vrd_cap_t send, vrd_cap_t receive)
{
    struct both both = { .talk = support_shared_new(sizeof(*both.talk)), .receive = receive };

    support_gate_init(&both.talk->told);
    support_gate_init(&both.talk->done);
    EXPECT(vrd_cap_export(send, VRD_RIGHT_SEND, &both.talk->invitation), 0);
    both.child = support_child(child, both.talk);
    close(both.talk->invitation);
    return both;
}

static struct both both_begin(int (*child)(void *))
{
    const struct ends ends = ends_with(16, LARGEST, 8 * LARGEST);
    const struct both both = both_with(child, ends.send, ends.receive);

    EXPECT(vrd_cap_close(ends.send), 0); /* if the child dies, that is seen */
    return both;
}

static void both_end(struct both *both)
{
    support_wait_exit(both->child, 0);
    EXPECT(vrd_cap_close(both->receive), 0);
    support_gate_deinit(&both->talk->told);
    support_gate_deinit(&both->talk->done);
    support_shared_free(both->talk, sizeof(*both->talk));
}

static const size_t lens[] = { 4097, 64 << 10, MIB, LARGEST };

#define N_LENS (sizeof(lens) / sizeof(lens[0]))

/* ---- sent: copied once ---------------------------------------------------------------------------- */

static int sends(void *arg)
{
    struct talk *talk = arg;
    uint8_t *data = malloc(LARGEST);
    vrd_cap_t cap;

    support_require(data != NULL);
    EXPECT(vrd_cap_import(talk->invitation, &cap), 0);
    for (uint32_t i = 0; i < N_LENS; i++) {
        uint8_t *there;

        number_fill(data, lens[i], (struct number){ 1, i });
        copies_begin();
        EXPECT(vrd_send(cap, data, lens[i]), 0);
        copies_were(1, lens[i]);
        support_gate_wait(&talk->told);
        there = writable_at(talk->place);
        number_check(there, lens[i], (struct number){ 1, i });
        there[lens[i] - 1] ^= 0xff;
        support_gate_open(&talk->done);
    }
    EXPECT(vrd_cap_close(cap), 0);
    free(data);
    return 0;
}

/* What the receiver looks at is what the sender has: the one copy, in the sender's own memory. */
static void test_a_message_is_copied_once_and_viewed_there(void **state)
{
    struct both both = both_begin(sends);

    (void)state;
    for (uint32_t i = 0; i < N_LENS; i++) {
        struct vrd_view view;
        uint8_t last;

        copies_begin();
        EXPECT(vrd_receive_view(both.receive, &view, VRD_FOREVER), 0);
        copies_were(0, 0);
        EXPECT(view.len, lens[i]);
        number_check(view.data, view.len, (struct number){ 1, i });
        last = ((const volatile uint8_t *)view.data)[view.len - 1];
        both.talk->place = place_of(view.data);
        assert_string_equal(mapping_of(view.data).rights, "r--s");
        support_gate_open(&both.talk->told);
        support_gate_wait(&both.talk->done);
        EXPECT(((const volatile uint8_t *)view.data)[view.len - 1], (uint8_t)(last ^ 0xff));
        copies_begin();
        release(&view);
        copies_were(0, 0);
    }
    both_end(&both);
}

static int sends_all(void *arg)
{
    struct talk *talk = arg;
    uint8_t *data = malloc(LARGEST);
    vrd_cap_t cap;

    support_require(data != NULL);
    EXPECT(vrd_cap_import(talk->invitation, &cap), 0);
    for (uint32_t i = 0; i < N_LENS; i++) {
        number_fill(data, lens[i], (struct number){ 1, i });
        EXPECT(vrd_send(cap, data, lens[i]), 0);
    }
    EXPECT(vrd_cap_close(cap), 0);
    free(data);
    return 0;
}

/* Who takes no view pays for one copy more. */
static void test_a_receiver_that_wants_a_copy_makes_one(void **state)
{
    struct both both = both_begin(sends_all);
    uint8_t *data = malloc(LARGEST);

    (void)state;
    assert_non_null(data);
    for (uint32_t i = 0; i < N_LENS; i++) {
        copies_begin();
        EXPECT(vrd_receive(both.receive, data, LARGEST), lens[i]);
        copies_were(1, lens[i]);
        number_check(data, lens[i], (struct number){ 1, i });
    }
    free(data);
    both_end(&both);
}

/* ---- lent: not copied ------------------------------------------------------------------------------- */

static int lends(void *arg)
{
    struct talk *talk = arg;
    vrd_cap_t cap;

    EXPECT(vrd_cap_import(talk->invitation, &cap), 0);
    for (uint32_t i = 0; i < N_LENS; i++) {
        struct vrd_loan loan = loan_of(cap, (struct number){ 1, i }, lens[i]);
        struct mapping mapping;

        talk->place = place_of(loan.data);
        mapping = forbid(loan.data);
        assert_string_equal(mapping.rights, "rw-s");
        copies_begin();
        EXPECT(vrd_loan_send(&loan, VRD_FOREVER), 0);
        copies_were(0, 0);
        allow(&mapping);
        support_gate_open(&talk->told);
        support_gate_wait(&talk->done);
    }
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void test_a_loan_is_where_it_was_written(void **state)
{
    struct both both = both_begin(lends);

    (void)state;
    for (uint32_t i = 0; i < N_LENS; i++) {
        struct vrd_view view;
        struct place place;

        copies_begin();
        EXPECT(vrd_receive_view(both.receive, &view, VRD_FOREVER), 0);
        copies_were(0, 0);
        place = place_of(view.data);
        support_gate_wait(&both.talk->told);
        EXPECT(place.inode, both.talk->place.inode);
        EXPECT(place.offset, both.talk->place.offset);
        EXPECT(view.len, lens[i]);
        number_check(view.data, view.len, (struct number){ 1, i });
        release(&view);
        support_gate_open(&both.talk->done);
    }
    both_end(&both);
}

/* A request that is lent, and an answer that is written and viewed in place. */
static int calls(void *arg)
{
    struct talk *talk = arg;
    vrd_cap_t cap;

    EXPECT(vrd_cap_import(talk->invitation, &cap), 0);
    for (uint32_t i = 0; i < N_LENS; i++) {
        struct vrd_loan request = loan_of(cap, (struct number){ 1, i }, lens[i]);
        const struct mapping mapping = forbid(request.data);
        struct vrd_view answer;

        copies_begin();
        EXPECT(vrd_call_loan_view(&request, &answer, VRD_FOREVER), 0);
        copies_were(0, 0);
        allow(&mapping);
        EXPECT(place_of(answer.data).inode, talk->place.inode);
        EXPECT(place_of(answer.data).offset, talk->place.offset);
        EXPECT(answer.len, lens[i]);
        number_check(answer.data, answer.len, (struct number){ 2, i });
        release(&answer);
    }
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static void answer_in_place(struct talk *talk, vrd_cap_t reply, struct number number, size_t len)
{
    struct mapping mapping;
    struct vrd_loan answer;

    EXPECT(vrd_reply_loan(reply, len, &answer), 0);
    number_fill(answer.data, len, number);
    talk->place = place_of(answer.data);
    mapping = forbid(answer.data);
    copies_begin();
    EXPECT(vrd_loan_send(&answer, 0), 0);
    copies_were(0, 0);
    allow(&mapping);
}

static void test_a_call_copies_neither_request_nor_answer(void **state)
{
    const struct vrd_channel_options options = { .max_message_size = LARGEST,
                                                 .max_bytes = 8 * LARGEST };
    struct both both;
    vrd_cap_t endpoint;
    uint64_t id;

    (void)state;
    EXPECT(vrd_endpoint_create_with(&options, &id, &endpoint), 0);
    both = both_with(calls, endpoint, endpoint);
    for (uint32_t i = 0; i < N_LENS; i++) {
        struct vrd_view request;
        vrd_cap_t reply;

        copies_begin();
        EXPECT(vrd_receive_call_view(endpoint, &request, &reply, VRD_FOREVER), 0);
        copies_were(0, 0);
        EXPECT(request.len, lens[i]);
        number_check(request.data, request.len, (struct number){ 1, i });
        release(&request);
        answer_in_place(both.talk, reply, (struct number){ 2, i }, lens[i]);
    }
    both_end(&both);
}

/* ---- viewed: not even looked at ----------------------------------------------------------------------- */

/* The first one tells where; the second one comes into the same memory. */
static int sends_and_lends_twice(void *arg)
{
    struct talk *talk = arg;
    uint8_t *data = malloc(BIG);
    vrd_cap_t cap;

    support_require(data != NULL);
    EXPECT(vrd_cap_import(talk->invitation, &cap), 0);
    for (uint32_t i = 0; i < 2; i++) {
        number_fill(data, BIG, (struct number){ 1, 2 * i });
        EXPECT(vrd_send(cap, data, BIG), 0);
        lend(cap, (struct number){ 1, 2 * i + 1 }, BIG);
    }
    EXPECT(vrd_cap_close(cap), 0);
    free(data);
    return 0;
}

static void test_taking_a_view_touches_none_of_it(void **state)
{
    struct both both = both_begin(sends_and_lends_twice);
    struct vrd_view views[4];
    struct mapping mapping;

    (void)state;
    views[0] = view_of(both.receive, (struct number){ 1, 0 }, BIG);
    mapping = forbid(views[0].data);
    for (uint32_t i = 1; i < 4; i++)
        EXPECT(vrd_receive_view(both.receive, &views[i], VRD_FOREVER), 0);
    allow(&mapping);
    for (uint32_t i = 0; i < 4; i++) {
        EXPECT(place_of(views[i].data).inode, mapping.place.inode);
        EXPECT(views[i].len, BIG);
        number_check(views[i].data, BIG, (struct number){ 1, i });
    }
    forbid(views[0].data);
    for (uint32_t i = 0; i < 4; i++)
        release(&views[i]);
    allow(&mapping);
    both_end(&both);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_a_message_is_copied_once_and_viewed_there),
                     SUPPORT_TEST(test_a_receiver_that_wants_a_copy_makes_one),
                     SUPPORT_TEST(test_a_loan_is_where_it_was_written),
                     SUPPORT_TEST(test_a_call_copies_neither_request_nor_answer),
                     SUPPORT_TEST(test_taking_a_view_touches_none_of_it),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
