/* SPDX-License-Identifier: MIT */
/*
 * account.h - what this process keeps for each of its peers, and how much of what there is one of
 * them may use: never so much that nothing is left for the others. All with the control lock held.
 *
 * A process may use up to ACCOUNT_PROCESS_SHARE times what would be left after it, a user of another
 * uid as much as would be left, one of our own uid (who could as well kill us) up to
 * ACCOUNT_USER_SHARE times. So the first who takes all that it can still leaves room for the second,
 * and so on. A NULL account is our own: nothing is counted.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum account_kind {
    ACCOUNT_DESCRIPTORS, /* limit: RLIMIT_NOFILE                                   */
    ACCOUNT_MAPPINGS,    /* of memory, that of peers and our own that goes with it */
    ACCOUNT_LINKS,
    ACCOUNT_BYTES, /* of those mappings; limit: the machine's memory         */
    ACCOUNT_KINDS,
};

#define ACCOUNT_PROCESS_SHARE 7
#define ACCOUNT_USER_SHARE 15
#define ACCOUNT_MAPPINGS_MAX 60000 /* of vm.max_map_count's default of 65530 */
#define ACCOUNT_LINKS_MAX (UINT64_C(1) << 20)

struct account;

/* What one process may have of it besides, whatever is left; UINT64_MAX: no such limit, as at first. */
void account_set_quota(enum account_kind kind, uint64_t most);

/* The account of a process; makes it if there is none. NULL: no memory for it. */
struct account *account_open(uid_t uid, pid_t pid);

/* Frees it if nothing is charged to it. */
void account_close(struct account *account);

/* May so much more be charged to it? */
bool account_allows(const struct account *account, enum account_kind kind, uint64_t n);

void account_charge(struct account *account, enum account_kind kind, uint64_t n);

/* The opposite; frees the account when nothing is left on it. */
void account_discharge(struct account *account, enum account_kind kind, uint64_t n);

/* What is charged to all. */
uint64_t account_total(enum account_kind kind);
