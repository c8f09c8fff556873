/* SPDX-License-Identifier: MIT */
/* Looking for a word: it is there, it never comes, it comes meanwhile. */
#include "unit/unit.h"

#include <pthread.h>
#include <sched.h>

#include "link/look.h"
#include "link/ring.h"

#define ROUNDS 2000

static struct slot slots[2];

static void word_is_there(void **state)
{
    (void)state;
    slots[0].word = slot_word(7, 5, SLOT_INLINE);
    for (int looks = 1; looks < 4; looks++)
        assert_int_equal(slot_await(&slots[0], 7, looks), slots[0].word);
}

/* Whatever stands there instead is what is said, and other bits than the sequence's do not count. */
static void word_never_comes(void **state)
{
    (void)state;
    slots[0].word = slot_word(7, 5, SLOT_INLINE);
    for (int looks = 1; looks < 4; looks++) {
        assert_int_equal(slot_await(&slots[0], 8, looks), slots[0].word);
        assert_int_equal(slot_await(&slots[0], 0, looks), slots[0].word);
    }
    assert_int_equal(slot_await(&slots[0], 7 + (UINT32_C(1) << 16), 1000), slots[0].word);
}

static void wait_for(const struct slot *slot, uint32_t sequence)
{
    while ((uint32_t)slot_await(slot, sequence, 100) != sequence)
        sched_yield();
}

/* Answers each word in the other slot, with what it has read. */
static void *echo_run(void *arg)
{
    (void)arg;
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        wait_for(&slots[0], i);
        memcpy(slot_payload(&slots[1]), slot_payload_read(&slots[0]), SLOT_INLINE_MAX);
        slot_publish(&slots[1], slot_word(i, SLOT_INLINE_MAX, SLOT_INLINE));
    }
    return NULL;
}

/* What was written before the word is there when the word is. */
static void word_comes(void **state)
{
    uint8_t sent[SLOT_INLINE_MAX];
    pthread_t echo;

    (void)state;
    memset(slots, 0, sizeof slots);
    support_require(pthread_create(&echo, NULL, echo_run, NULL) == 0);
    for (uint32_t i = 1; i <= ROUNDS; i++) {
        memset(sent, (int)(i % 251), sizeof sent);
        memcpy(slot_payload(&slots[0]), sent, sizeof sent);
        slot_publish(&slots[0], slot_word(i, SLOT_INLINE_MAX, SLOT_INLINE));
        wait_for(&slots[1], i);
        assert_memory_equal(slot_payload_read(&slots[1]), sent, sizeof sent);
    }
    pthread_join(echo, NULL);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(word_is_there),
                 SUPPORT_TEST(word_never_comes),
                 SUPPORT_TEST(word_comes),
                 { 0 },
             })
