/* SPDX-License-Identifier: MIT */
/* Loans: pieces come back in any order, once, and a hostile other side gets nothing else out of it. */
#include "unit/link/pair.h"

#include "link/loan.h"

#define EXTENSION ((size_t)1 << 20)

struct lending {
    struct loan_writer w;
    struct loan_reader r;
    uint64_t max_message;
    struct receiver_segment *receiver;
};

static int reader_attach(struct loan_reader *r, uint32_t number, struct segment segment)
{
    struct loan_memory *memory = loan_memory_new(number, segment, NULL);
    int result;

    assert_non_null(memory);
    result = loan_reader_attach(r, memory);
    if (result < 0) {
        assert_true(loan_memory_let_go(memory));
        loan_memory_free(memory);
    }
    return result;
}

static bool reader_detach(struct loan_reader *r, uint32_t number)
{
    struct loan_memory *memory = loan_reader_detach(r, number);

    if (memory && loan_memory_let_go(memory))
        loan_memory_free(memory);
    return memory != NULL;
}

static int lending_find(const struct lending *l, const struct slot_bytes *bytes,
                        const void **ret_data)
{
    struct loan_view view;
    int result = loan_find(&l->r, bytes, l->max_message, &view);

    if (result == 0) {
        assert_int_equal(view.len, bytes->len);
        assert_int_equal(view.loan, bytes->loan);
        assert_int_equal(view.memory->number, bytes->extension);
        *ret_data = view.data;
    }
    return result;
}

static bool may_attach(const struct loan_writer *w, uint32_t number)
{
    uint32_t found;

    return loan_writer_number(w, number - 1, &found) && found == number;
}

static void lending_attach(struct lending *l, uint32_t number)
{
    struct segment peer;
    struct segment own = pair_bytes(EXTENSION, &peer);

    assert_true(may_attach(&l->w, number));
    assert_int_equal(loan_writer_attach(&l->w, number, own), 0);
    assert_int_equal(reader_attach(&l->r, number, peer), 0);
    assert_false(may_attach(&l->w, number));
}

static struct lending *lending_new(void)
{
    struct lending *l = calloc(1, sizeof(*l));

    assert_non_null(l);
    l->receiver = aligned_alloc(LAYOUT_PAGE, LAYOUT_PAGE);
    assert_non_null(l->receiver);
    memset(l->receiver, 0, LAYOUT_PAGE);
    loan_writer_init(&l->w);
    loan_writer_answered(&l->w, l->receiver);
    l->max_message = EXTENSION;
    lending_attach(l, 1);
    return l;
}

static void lending_free(struct lending *l)
{
    loan_writer_deinit(&l->w);
    for (size_t i = 0; i < LOAN_EXTENSIONS_MAX; i++)
        if (l->r.memories[i])
            assert_true(reader_detach(&l->r, l->r.memories[i]->number));
    free(l->receiver);
    free(l);
}

static void lending_release(struct lending *l, const struct slot_bytes *bytes)
{
    loan_release(l->receiver, bytes->loan);
}

/* Writes `len` bytes of `fill`, lends them, and finds them at the other side. */
static struct slot_bytes lending_send(struct lending *l, size_t len, uint8_t fill,
                                      const uint8_t **ret_data)
{
    struct heap_block *block = loan_take(&l->w, len);
    struct slot_bytes bytes;
    const void *data;

    assert_non_null(block);
    memset(loan_data(&l->w, block), fill, len);
    assert_int_equal(loan_lend(&l->w, block, len, &bytes), 0);
    assert_int_equal(lending_find(l, &bytes, &data), 0);
    *ret_data = data;
    return bytes;
}

struct view {
    struct slot_bytes bytes;
    const uint8_t *data;
    uint8_t fill;
    bool held;
};

static void view_check(const struct view *view)
{
    for (size_t i = 0; i < view->bytes.len; i++)
        if (view->data[i] != view->fill)
            fail_msg("byte %zu of %zu has changed", i, (size_t)view->bytes.len);
}

static void pieces_stay_until_they_are_released_in_any_order(void **state)
{
    struct lending *l = lending_new();
    struct view views[64] = { 0 };
    uint64_t random = 81;

    (void)state;
    for (size_t round = 0; round < support_iterations(20000); round++) {
        struct view *view = &views[random_below(&random, 63)]; /* the last one is held for ever */

        if (round == 0)
            view = &views[63];
        if (view->held) {
            view_check(view);
            lending_release(l, &view->bytes);
        } else {
            view->fill = (uint8_t)random_below(&random, 256);
            view->bytes = lending_send(l, random_below(&random, 8192), view->fill, &view->data);
        }
        view->held = !view->held;
    }
    view_check(&views[63]);
    for (size_t i = 0; i < 63; i++)
        if (views[i].held)
            lending_release(l, &views[i].bytes);
    loan_reclaim(&l->w);
    assert_int_equal(l->w.n_out, 1);
    lending_release(l, &views[63].bytes);
    loan_reclaim(&l->w);
    assert_int_equal(l->w.n_out, 0);
    assert_int_equal(l->w.heap.used, 0);
    lending_free(l);
}

static void says_full_when_all_numbers_are_out_and_not_for_longer(void **state)
{
    struct lending *l = lending_new();
    struct slot_bytes all[LOANS_MAX], bytes;
    bool seen[LOANS_MAX] = { false };
    struct heap_block *block;
    const uint8_t *data;

    (void)state;
    for (size_t i = 0; i < LOANS_MAX; i++) {
        all[i] = lending_send(l, 1, 1, &data);
        assert_true(all[i].loan >= LOANS_MAX && !seen[all[i].loan % LOANS_MAX]);
        seen[all[i].loan % LOANS_MAX] = true;
    }
    block = loan_take(&l->w, 1);
    assert_non_null(block);
    assert_int_equal(loan_lend(&l->w, block, 1, &bytes), VRD_ERR_CHANNEL_FULL);
    lending_release(l, &all[100]);
    assert_int_equal(loan_lend(&l->w, block, 1, &bytes), 0);
    assert_int_equal(bytes.loan, all[100].loan + LOANS_MAX);
    lending_free(l);
}

static void a_cancelled_piece_is_free_at_once(void **state)
{
    struct lending *l = lending_new();
    struct heap_block *block = loan_take(&l->w, EXTENSION);

    (void)state;
    assert_non_null(block);
    assert_null(loan_take(&l->w, 1));
    loan_cancel(&l->w, block);
    block = loan_take(&l->w, EXTENSION);
    assert_non_null(block);
    lending_free(l);
}

/* Nor does that of the use before, or none at all, when the uses of a number begin again. */
static void an_old_word_releases_nothing(void **state)
{
    struct lending *l = lending_new();
    const uint8_t *data;

    (void)state;
    for (uint32_t i = 0; i < LOANS_MAX; i++)
        l->w.out[i].loan = l->receiver->released[i] = UINT32_MAX - LOANS_MAX + 1 + i;
    for (uint16_t i = 0; i < LOANS_MAX; i++) {
        struct slot_bytes bytes = lending_send(l, 64, 1, &data);

        assert_true(bytes.loan >= LOANS_MAX && bytes.loan < 2 * LOANS_MAX);
        loan_reclaim(&l->w);
        assert_int_equal(l->w.n_out, i + 1);
    }
    lending_free(l);
}

static void a_reader_who_writes_what_it_likes_gets_no_piece_given_twice(void **state)
{
    struct lending *l = lending_new();
    struct heap_block *block;
    uint64_t random = 82;

    (void)state;
    for (size_t round = 0; round < support_iterations(50000); round++) {
        struct slot_bytes bytes;

        block = loan_take(&l->w, random_below(&random, 16384));
        if (block && loan_lend(&l->w, block, 0, &bytes) < 0)
            loan_cancel(&l->w, block);
        for (size_t i = 0; i < 4; i++)
            l->receiver->released[random_below(&random, LOANS_MAX)] =
                (uint32_t)random_below(&random, (round / 100 + 2) * LOANS_MAX);
    }
    for (uint16_t i = 0; i < l->w.n_out; i++)
        l->receiver->released[l->w.order[i]] = l->w.out[l->w.order[i]].loan;
    loan_reclaim(&l->w);
    assert_int_equal(l->w.n_out, 0);
    assert_int_equal(l->w.heap.used, 0);
    block = loan_take(&l->w, EXTENSION); /* in one piece: nothing was lost or given twice */
    assert_non_null(block);
    lending_free(l);
}

static void descriptions_beyond_the_extension_are_refused(void **state)
{
    static const uint64_t far[] = { EXTENSION + 1,     2 * EXTENSION,  UINT32_MAX,
                                    INT64_MAX,         UINT64_MAX / 2, UINT64_MAX - EXTENSION,
                                    UINT64_MAX - 4095, UINT64_MAX };
    static const uint32_t strange[] = { 0, 1, LOANS_MAX - 1 };
    struct lending *l = lending_new();
    const void *data = NULL;

    (void)state;
    l->max_message = UINT64_MAX; /* so that it alone is not what saves us */
    for (size_t i = 0; i < sizeof far / sizeof far[0]; i++)
        for (uint64_t one = 0; one < 2; one++) {
            struct slot_bytes b = { .len = far[i], .offset = one, .extension = 1, .loan = 256 };

            assert_int_equal(lending_find(l, &b, &data), VRD_ERR_PEER_CORRUPT);
            b = (struct slot_bytes){ .len = one, .offset = far[i], .extension = 1, .loan = 256 };
            assert_int_equal(lending_find(l, &b, &data), VRD_ERR_PEER_CORRUPT);
            b = (struct slot_bytes){
                .len = far[i], .offset = one - far[i], .extension = 1, .loan = 256
            };
            assert_int_equal(lending_find(l, &b, &data), VRD_ERR_PEER_CORRUPT);
        }
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        const struct slot_bytes b = { .len = 1, .extension = 1, .loan = strange[i] };

        assert_int_equal(lending_find(l, &b, &data), VRD_ERR_PEER_CORRUPT);
    }
    assert_null(data);
    l->max_message = 100;
    assert_int_equal(
        lending_find(l, &(struct slot_bytes){ .len = 101, .extension = 1, .loan = 256 }, &data),
        VRD_ERR_PEER_CORRUPT);
    l->max_message = EXTENSION;
    assert_int_equal(
        lending_find(
            l, &(struct slot_bytes){ .len = EXTENSION, .extension = 1, .loan = UINT32_MAX }, &data),
        0);
    assert_ptr_equal(data, l->r.memories[1]->segment.addr);
    assert_int_equal(
        lending_find(l, &(struct slot_bytes){ .offset = EXTENSION, .extension = 1, .loan = 256 },
                     &data),
        0); /* nothing, at the end */
    lending_free(l);
}

static void extensions_come_and_go(void **state)
{
    struct lending *l = lending_new();
    struct slot_bytes bytes = { .extension = 2, .loan = 256 };
    struct segment peer, own;
    const void *found;
    const uint8_t *data;
    uint32_t number;

    (void)state;
    assert_int_equal(lending_find(l, &bytes, &found), LOAN_NEEDS_EXTENSION);
    bytes = lending_send(l, EXTENSION, 7, &data);
    assert_false(heap_idle(&l->w.heap, false, &number));
    assert_null(loan_take(&l->w, 1));
    lending_attach(l, 2);
    assert_true(heap_idle(&l->w.heap, false, &number));
    assert_int_equal(number, 2);
    lending_release(l, &bytes);
    loan_reclaim(&l->w);
    for (uint32_t n = 1; n <= 2; n++) {
        loan_writer_detach(&l->w, n);
        assert_true(reader_detach(&l->r, n));
        assert_false(reader_detach(&l->r, n));
        assert_int_equal(lending_find(l, &bytes, &found), LOAN_NEEDS_EXTENSION);
    }
    assert_false(reader_detach(&l->r, 0));
    assert_false(may_attach(&l->w, 0));
    lending_attach(l, UINT32_MAX);
    own = pair_bytes(EXTENSION, &peer);
    assert_int_equal(reader_attach(&l->r, LOAN_EXTENSIONS_MAX - 1, peer), VRD_ERR_PEER_CORRUPT);
    assert_int_equal(reader_attach(&l->r, 0, own), VRD_ERR_PEER_CORRUPT);
    lending_free(l);
}

static void nothing_comes_back_before_the_reader_has_answered(void **state)
{
    struct lending *l = lending_new();
    const uint8_t *data;

    (void)state;
    l->w.peer = NULL;
    lending_send(l, 100, 1, &data);
    loan_reclaim(&l->w);
    assert_int_equal(l->w.n_out, 1);
    assert_null(loan_take(&l->w, EXTENSION));
    lending_free(l);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(pieces_stay_until_they_are_released_in_any_order),
                 SUPPORT_TEST(says_full_when_all_numbers_are_out_and_not_for_longer),
                 SUPPORT_TEST(a_cancelled_piece_is_free_at_once),
                 SUPPORT_TEST(an_old_word_releases_nothing),
                 SUPPORT_TEST(a_reader_who_writes_what_it_likes_gets_no_piece_given_twice),
                 SUPPORT_TEST(descriptions_beyond_the_extension_are_refused),
                 SUPPORT_TEST(extensions_come_and_go),
                 SUPPORT_TEST(nothing_comes_back_before_the_reader_has_answered),
                 { 0 },
             })
