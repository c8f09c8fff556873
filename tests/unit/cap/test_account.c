/* SPDX-License-Identifier: MIT */
/* Accounts: what one peer may use, and that it never is all. */
#include "unit/unit.h"

#include <sys/resource.h>
#include <unistd.h>

#include "cap/account.h"
#include "os/process.h"

#define LIMIT 8000

/* In a process of its own, with that many descriptors. */
static void in_a_child(int (*run)(void *))
{
    support_wait_exit(support_child(run, NULL), 0);
}

static void limit_descriptors(void)
{
    struct rlimit limit;

    support_require_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    support_require(limit.rlim_max >= LIMIT);
    limit.rlim_cur = LIMIT;
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/* As much as it may have, one by one. */
static uint64_t charge_all(struct account *account, enum account_kind kind)
{
    uint64_t n = 0;

    while (account_allows(account, kind, 1)) {
        account_charge(account, kind, 1);
        n++;
    }
    return n;
}

static struct account *opened(uid_t uid, pid_t pid)
{
    struct account *account = account_open(uid, pid);

    support_require(account != NULL);
    return account;
}

static int run_one_process_leaves_an_eighth(void *arg)
{
    struct account *account;

    (void)arg;
    limit_descriptors();
    account = opened(geteuid(), 100);
    support_require_equal(charge_all(account, ACCOUNT_DESCRIPTORS), LIMIT / 8 * 7);
    support_require_equal(account_total(ACCOUNT_DESCRIPTORS), LIMIT / 8 * 7);
    account_discharge(account, ACCOUNT_DESCRIPTORS, LIMIT / 8 * 7);
    support_require_equal(account_total(ACCOUNT_DESCRIPTORS), 0);
    return 0;
}

static int run_processes_of_a_user_share(void *arg)
{
    struct account *accounts[20];
    uint64_t got[20], sum = 0;

    (void)arg;
    limit_descriptors();
    for (int i = 0; i < 20; i++) {
        accounts[i] = opened(geteuid(), 100 + i);
        got[i] = charge_all(accounts[i], ACCOUNT_DESCRIPTORS);
        sum += got[i];
    }
    support_require_equal(got[0], LIMIT / 8 * 7);
    support_require(got[1] > 0);                 /* something was left for the second */
    support_require_equal(sum, LIMIT / 16 * 15); /* and all of them leave something */
    for (int i = 0; i < 20; i++) {
        if (got[i] > 0)
            account_discharge(accounts[i], ACCOUNT_DESCRIPTORS, (uint32_t)got[i]);
        else
            account_close(accounts[i]);
    }
    return 0;
}

static int run_strangers_get_half_of_what_is_left(void *arg)
{
    uint64_t left = LIMIT;

    (void)arg;
    limit_descriptors();
    for (uid_t i = 1; i <= 5; i++) {
        struct account *account = opened(geteuid() + i, 7);
        const uint64_t got = charge_all(account, ACCOUNT_DESCRIPTORS);

        support_require_equal(got, left / 2);
        left -= got;
    }
    support_require(account_allows(opened(geteuid(), 8), ACCOUNT_DESCRIPTORS, LIMIT / 64));
    return 0;
}

/* Ten thousand links of two descriptors, where there are a few more. */
static int run_ten_thousand_links_fit(void *arg)
{
    struct rlimit limit;
    struct account *account = opened(geteuid(), 9);

    (void)arg;
    support_require_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    if (limit.rlim_max < 24000)
        return 0;
    limit.rlim_cur = 24000;
    support_require_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
    for (int i = 0; i < 10000; i++) {
        support_require(account_allows(account, ACCOUNT_DESCRIPTORS, 2));
        support_require(account_allows(account, ACCOUNT_MAPPINGS, 2));
        account_charge(account, ACCOUNT_DESCRIPTORS, 2);
        account_charge(account, ACCOUNT_MAPPINGS, 2);
    }
    return 0;
}

static int run_accounts_are_found_again_and_go(void *arg)
{
    struct account *account = opened(5, 6), *other;

    (void)arg;
    support_require(opened(5, 6) == account);
    other = opened(5, 7);
    support_require(other != account);
    support_require(opened(6, 6) != account);
    account_charge(account, ACCOUNT_MAPPINGS, 3);
    account_close(account); /* stays: something is charged */
    support_require(opened(5, 6) == account);
    account_discharge(account, ACCOUNT_MAPPINGS, 1);
    support_require_equal(account_total(ACCOUNT_MAPPINGS), 2);
    account_discharge(account, ACCOUNT_MAPPINGS, 2);
    support_require_equal(account_total(ACCOUNT_MAPPINGS), 0);
    account_close(other);
    return 0;
}

static int run_kinds_are_counted_apart(void *arg)
{
    struct account *account = opened(geteuid(), 1);

    (void)arg;
    limit_descriptors();
    charge_all(account, ACCOUNT_DESCRIPTORS);
    support_require(!account_allows(account, ACCOUNT_DESCRIPTORS, 1));
    support_require(account_allows(account, ACCOUNT_MAPPINGS, 1));
    support_require_equal(charge_all(account, ACCOUNT_MAPPINGS), ACCOUNT_MAPPINGS_MAX / 8 * 7);
    return 0;
}

static int run_our_own_is_not_counted(void *arg)
{
    (void)arg;
    support_require(account_allows(NULL, ACCOUNT_DESCRIPTORS, UINT32_MAX));
    account_charge(NULL, ACCOUNT_DESCRIPTORS, 5);
    support_require_equal(account_total(ACCOUNT_DESCRIPTORS), 0);
    account_discharge(NULL, ACCOUNT_DESCRIPTORS, 5);
    account_close(NULL);
    return 0;
}

/* A flood that comes and goes is never owed anything. */
static int run_random_histories_balance(void *arg)
{
    uint64_t random = 99, held[16] = { 0 };

    (void)arg;
    limit_descriptors();
    for (int step = 0; step < 20000; step++) {
        const uint32_t i = (uint32_t)random_below(&random, 16);
        const uint32_t n = 1 + (uint32_t)random_below(&random, 50);
        struct account *account = opened(geteuid() + i / 4, (pid_t)(10 + i));
        uint64_t sum = 0;

        if (random_below(&random, 2) == 0 && account_allows(account, ACCOUNT_DESCRIPTORS, n)) {
            account_charge(account, ACCOUNT_DESCRIPTORS, n);
            held[i] += n;
        } else if (held[i] >= n) {
            account_discharge(account, ACCOUNT_DESCRIPTORS, n);
            held[i] -= n;
        } else {
            account_close(account);
        }
        for (int k = 0; k < 16; k++)
            sum += held[k];
        support_require_equal(account_total(ACCOUNT_DESCRIPTORS), sum);
        support_require(sum < LIMIT);
    }
    return 0;
}

static int run_a_quota_is_for_each_process(void *arg)
{
    struct account *one = opened(geteuid(), 1), *two = opened(geteuid(), 2);
    struct account *stranger = opened(geteuid() + 1, 3);

    (void)arg;
    account_set_quota(ACCOUNT_LINKS, 5);
    support_require_equal(charge_all(one, ACCOUNT_LINKS), 5);
    support_require_equal(charge_all(two, ACCOUNT_LINKS), 5);
    support_require_equal(charge_all(stranger, ACCOUNT_LINKS), 5);
    account_discharge(one, ACCOUNT_LINKS, 2);
    support_require(account_allows(one, ACCOUNT_LINKS, 2));
    support_require(!account_allows(one, ACCOUNT_LINKS, 3));
    support_require(!account_allows(one, ACCOUNT_LINKS, UINT64_MAX));
    account_set_quota(ACCOUNT_LINKS, 0);
    support_require(!account_allows(two, ACCOUNT_LINKS, 1));
    account_set_quota(ACCOUNT_LINKS, UINT64_MAX);
    support_require(account_allows(two, ACCOUNT_LINKS, 1000));
    return 0;
}

static int run_memory_is_shared_out(void *arg)
{
    const uint64_t all = process_memory_limit();
    struct account *one = opened(geteuid(), 1), *two = opened(geteuid(), 2);

    (void)arg;
    support_require(all > 0);
    support_require(!account_allows(one, ACCOUNT_BYTES, all));
    support_require(account_allows(one, ACCOUNT_BYTES, all / 8 * 7));
    account_charge(one, ACCOUNT_BYTES, all / 8 * 7);
    support_require(!account_allows(one, ACCOUNT_BYTES, all / 64));
    support_require(account_allows(two, ACCOUNT_BYTES, all / 32));
    support_require(!account_allows(two, ACCOUNT_BYTES, UINT64_MAX));
    account_discharge(one, ACCOUNT_BYTES, all / 8 * 7);
    support_require_equal(account_total(ACCOUNT_BYTES), 0);
    return 0;
}

#define IN_A_CHILD(name) \
    static void name(void **state) \
    { \
        (void)state; \
        in_a_child(run_##name); \
    }

IN_A_CHILD(one_process_leaves_an_eighth)
IN_A_CHILD(processes_of_a_user_share)
IN_A_CHILD(strangers_get_half_of_what_is_left)
IN_A_CHILD(ten_thousand_links_fit)
IN_A_CHILD(accounts_are_found_again_and_go)
IN_A_CHILD(kinds_are_counted_apart)
IN_A_CHILD(our_own_is_not_counted)
IN_A_CHILD(random_histories_balance)
IN_A_CHILD(a_quota_is_for_each_process)
IN_A_CHILD(memory_is_shared_out)

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(one_process_leaves_an_eighth),
                 SUPPORT_TEST(processes_of_a_user_share),
                 SUPPORT_TEST(strangers_get_half_of_what_is_left),
                 SUPPORT_TEST(ten_thousand_links_fit),
                 SUPPORT_TEST(accounts_are_found_again_and_go),
                 SUPPORT_TEST(kinds_are_counted_apart),
                 SUPPORT_TEST(our_own_is_not_counted),
                 SUPPORT_TEST(random_histories_balance),
                 SUPPORT_TEST(a_quota_is_for_each_process),
                 SUPPORT_TEST(memory_is_shared_out),
                 { 0 },
             })
