/* SPDX-License-Identifier: MIT */
/*
 * Random histories of several processes, step by step beside a model that says what each step may
 * come to: rights only shrink, only who holds a right sends, badges and pids are true, each sender's
 * messages come once and in order, through no other channel, no more are under way than the capacity
 * allows, what a message carries is in one place, each call is answered once or its caller is told why
 * not, revoking leaves nothing, a number never names a second thing, nobody waits for ever, and in the
 * end nothing is left in any process.
 *
 * VERIDIAN_SEED=n replays one history; a failure says which.
 *
 * ctest: timeout=300
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "calls.h"
#include "history.h"
#include "steps.h"

static const struct {
    void (*step)(struct history *h);
    uint32_t weight;
} steps[] = {
    { step_create, 4 },      { step_derive, 10 },  { step_export, 12 },       { step_import, 12 },
    { step_import_void, 2 }, { step_send, 60 },    { step_receive, 50 },      { step_burst, 2 },
    { step_close, 5 },       { step_revoke, 4 },   { step_revoke_all, 1 },    { step_info, 4 },
    { step_forge, 6 },       { step_withdraw, 1 }, { step_close_channel, 1 }, { step_kill, 1 },
    { step_calls, 8 },       { step_share, 15 },
};

static void history_step(struct history *h)
{
    uint32_t total = 0, n;

    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++)
        total += steps[i].weight;
    n = dice(h, total);
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        if (n < steps[i].weight) {
            steps[i].step(h);
            parcels_lose(h);
            return;
        }
        n -= steps[i].weight;
    }
}

/* Everything that was sent arrives, everything is closed, and nothing is left. */
static void history_end(struct history *h)
{
    for (uint32_t i = 0; i < h->n_channels; i++)
        while (h->channels[i].owned && channel_waiting(h, i) > 0)
            receive_one(h, &h->channels[i]);
    for (uint32_t i = 0; i < h->n_caps; i++) {
        struct cap *cap = &h->caps[i];

        if (cap->standing == STANDING_HELD || cap->standing == STANDING_REVOKED)
            REQUIRE_EQUAL(
                tell(h, cap->worker,
                     (struct worker_order){ .op = WORKER_CLOSE, .cap = cap->number, .fd = -1 })
                    .result,
                0);
        cap_gone(h, cap);
    }
    for (uint32_t i = 0; i < h->n_channels; i++) {
        struct worker_answer answer;

        if (!h->channels[i].owned)
            continue;
        answer = tell(h, h->channels[i].worker,
                      (struct worker_order){ .op = WORKER_RECEIVE,
                                             .cap = h->channels[i].number,
                                             .wait_ns = h->channels[i].endpoint ? 0 : WAIT_NS,
                                             .fd = -1 });
        REQUIRE_EQUAL(answer.result, /* an endpoint's owner could send */
                      h->channels[i].endpoint ? VRD_ERR_CHANNEL_EMPTY : VRD_ERR_PEER_GONE);
        tell(h, h->channels[i].worker,
             (struct worker_order){ .op = WORKER_CLOSE, .cap = h->channels[i].number, .fd = -1 });
    }
    for (uint32_t i = 0; i < WORKERS; i++)
        worker_quit(&h->workers[i]);
}

static void history_run(uint64_t seed)
{
    struct history *h = calloc(1, sizeof *h);
    const uint32_t n_steps = (uint32_t)support_iterations(STEPS);

    support_require(h != NULL);
    now = h;
    h->seed = h->random = seed;
    for (uint32_t i = 0; i < WORKERS; i++)
        worker_start(&h->workers[i], forget);
    for (h->step = 0; h->step < n_steps; h->step++)
        history_step(h);
    history_end(h);
    free(h);
}

static void histories(uint64_t first, uint64_t n)
{
    const char *seed = getenv("VERIDIAN_SEED");

    if (seed) {
        history_run(strtoull(seed, NULL, 0));
        return;
    }
    for (uint64_t i = 0; i < n; i++)
        history_run(first + i);
}

static void the_same_histories_every_time(void **state)
{
    (void)state;
    histories(1, 12);
}

/* And one that nobody has seen yet. */
static void a_new_history(void **state)
{
    struct timespec time;

    (void)state;
    clock_gettime(CLOCK_REALTIME, &time);
    histories((uint64_t)time.tv_sec << 20 ^ (uint64_t)time.tv_nsec, 1);
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST_TIMEOUT(the_same_histories_every_time, 120),
                 SUPPORT_TEST_TIMEOUT(a_new_history, 30),
                 { 0 },
             })
