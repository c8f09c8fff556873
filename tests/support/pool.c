/* SPDX-License-Identifier: MIT */
/*
 * The machine's pools of huge pages: what is in them, and for a program whose tests need some, some more, as
 * long as it runs. A process beside it gives them back, whatever becomes of the program, and holds a lock
 * meanwhile: the tests count what is free, and the pools are those of everybody on this machine.
 */
#include "support/internal.h"
#include "support/support.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#define POOLS "/sys/kernel/mm/hugepages"
#define KEPT_FREE 4 /* times what is asked for is the memory that must be free before */

/* How many pages the tests need of each size, and how many were added for that. */
static struct pool {
    size_t size, wanted, added;
} pools[] = { { .size = (size_t)2 << 20, .wanted = 20 }, { .size = (size_t)1 << 30, .wanted = 1 } };

#define N_POOLS (sizeof(pools) / sizeof(pools[0]))

static size_t count_in(const char *path)
{
    FILE *file = fopen(path, "re");
    size_t n = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%zu", &n) != 1)
        n = 0;
    fclose(file);
    return n;
}

static size_t pool_count(const struct pool *pool, const char *what)
{
    char path[128];

    snprintf(path, sizeof path, POOLS "/hugepages-%zukB/%s", pool->size >> 10, what);
    return count_in(path);
}

size_t support_huge_pages_free(void)
{
    return pool_count(&pools[0], "free_hugepages");
}

size_t support_node_pages_free(int node, size_t size)
{
    char path[128];

    snprintf(path, sizeof path,
             "/sys/devices/system/node/node%d/hugepages/hugepages-%zukB/free_hugepages", node,
             size >> 10);
    return count_in(path);
}

/* The kernel gives what it can. Only root may ask. */
static void pool_resize(const struct pool *pool, size_t pages)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, POOLS "/hugepages-%zukB/nr_hugepages", pool->size >> 10);
    file = fopen(path, "we");
    if (!file)
        return;
    fprintf(file, "%zu", pages);
    fclose(file);
}

static bool memory_is_free(size_t bytes)
{
    struct sysinfo info;

    return sysinfo(&info) == 0 && (uint64_t)info.freeram * info.mem_unit >= KEPT_FREE * bytes;
}

static void pool_fill(struct pool *pool)
{
    const size_t before = pool_count(pool, "nr_hugepages");
    const size_t free = pool_count(pool, "free_hugepages");
    size_t after;

    if (free < pool->wanted && memory_is_free((pool->wanted - free) * pool->size)) {
        pool_resize(pool, before + pool->wanted - free);
        after = pool_count(pool, "nr_hugepages");
        pool->added = after > before ? after - before : 0;
    }
    if (pool_count(pool, "free_hugepages") < pool->wanted)
        printf(
            "[          ] not %zu pages of %zu MiB to be had: not all is tested that needs them\n",
            pool->wanted, pool->size >> 20);
    fflush(stdout);
}

/* Pages that somebody still has go when they are let go. */
static void pool_give_back(const struct pool *pool)
{
    const size_t now = pool_count(pool, "nr_hugepages");

    if (pool->added > 0)
        pool_resize(pool, now > pool->added ? now - pool->added : 0);
}

/* Until the program has ended. The lock goes with this process. */
noreturn static void keeper_run(int filled, int program)
{
    struct pollfd end = { .fd = program, .events = POLLIN };
    const int lock = open(POOLS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (lock >= 0 && flock(lock, LOCK_EX) != 0)
        _exit(EXIT_FAILURE);
    for (size_t i = 0; i < N_POOLS; i++)
        pool_fill(&pools[i]);
    close(filled);
    while (poll(&end, 1, -1) != 1)
        ;
    for (size_t i = 0; i < N_POOLS; i++)
        pool_give_back(&pools[i]);
    _exit(EXIT_SUCCESS);
}

/* By a process beside the program, which is there when the program has died. */
void pools_fill(void)
{
    const int program = (int)syscall(SYS_pidfd_open, getpid(), 0);
    int filled[2];
    char byte;

    if (program < 0 || pipe2(filled, O_CLOEXEC) != 0)
        abort();
    if (fork_apart()) {
        close(filled[0]);
        keeper_run(filled[1], program);
    }
    close(program);
    close(filled[1]);
    if (read(filled[0], &byte, 1) != 0)
        abort();
    close(filled[0]);
}
