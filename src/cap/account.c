/* SPDX-License-Identifier: MIT */
#include "cap/account.h"

#include <stdlib.h>

#include "base/list.h"
#include "os/fd.h"
#include "os/process.h"

/* Of a user, or of one of a user's processes. */
struct account {
    struct list node;       /* among the users, or among the user's processes */
    struct list processes;  /* of a user */
    struct account *parent; /* of a process: its user */
    uint32_t id;
    uint64_t used[ACCOUNT_KINDS];
};

static struct list users = { &users, &users };
static uint64_t total[ACCOUNT_KINDS];
static uint64_t quotas[ACCOUNT_KINDS] = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };

void account_set_quota(enum account_kind kind, uint64_t most)
{
    quotas[kind] = most;
}

static struct account *account_find(struct list *among, struct account *parent, uint32_t id)
{
    struct account *account;

    list_foreach(node, among) {
        account = list_entry(node, struct account, node);
        if (account->id == id)
            return account;
    }
    account = calloc(1, sizeof(*account));
    if (!account)
        return NULL;
    list_init(&account->processes);
    account->parent = parent;
    account->id = id;
    list_append(among, &account->node);
    return account;
}

struct account *account_open(uid_t uid, pid_t pid)
{
    struct account *user = account_find(&users, NULL, uid);
    struct account *account = user ? account_find(&user->processes, user, (uint32_t)pid) : NULL;

    if (user && !account)
        account_close(user);
    return account;
}

void account_close(struct account *account)
{
    while (account && list_empty(&account->processes)) {
        struct account *parent = account->parent;

        for (int kind = 0; kind < ACCOUNT_KINDS; kind++)
            if (account->used[kind] > 0)
                return;
        list_remove(&account->node);
        free(account);
        account = parent;
    }
}

static uint64_t account_limit(enum account_kind kind)
{
    switch (kind) {
    case ACCOUNT_DESCRIPTORS:
        return fd_limit();
    case ACCOUNT_MAPPINGS:
        return ACCOUNT_MAPPINGS_MAX;
    case ACCOUNT_BYTES:
        return process_memory_limit();
    default:
        return ACCOUNT_LINKS_MAX;
    }
}

bool account_allows(const struct account *account, enum account_kind kind, uint64_t n)
{
    uint64_t limit, left, of_user;

    if (!account)
        return true;
    limit = account_limit(kind);
    if (n > limit || total[kind] + n > limit || account->used[kind] + n > quotas[kind])
        return false;
    left = limit - total[kind] - n;
    of_user = account->parent->used[kind] + n;
    return account->used[kind] + n <= ACCOUNT_PROCESS_SHARE * left &&
           (of_user <= left ||
            (of_user <= ACCOUNT_USER_SHARE * left && account->parent->id == process_user()));
}

void account_charge(struct account *account, enum account_kind kind, uint64_t n)
{
    if (!account)
        return;
    account->used[kind] += n;
    account->parent->used[kind] += n;
    total[kind] += n;
}

void account_discharge(struct account *account, enum account_kind kind, uint64_t n)
{
    if (!account)
        return;
    account->used[kind] -= n;
    account->parent->used[kind] -= n;
    total[kind] -= n;
    account_close(account);
}

uint64_t account_total(enum account_kind kind)
{
    return total[kind];
}
