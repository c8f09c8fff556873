/* SPDX-License-Identifier: MIT */
#include "link/heap_jemalloc.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <veridian/error.h>

#include "base/arith.h"
#include "base/macro.h"
#include "os/jemalloc.h"
#include "os/process.h"

#define PAGE UINT64_C(4096) /* jemalloc's own are no larger on any machine that has Debian's */
#define BITS 64
#define SMALL_MAX 14336 /* jemalloc's */

/* The pages of an extension. */
struct heap_pages {
    struct heap_pages *next;
    struct heap_extension *extension; /* not there in a forked child */
    uint8_t *addr;
    uint64_t n;
    uint64_t n_used;
    uint64_t used[]; /* a bit for each */
};

struct heap_jemalloc {
    struct jemalloc_hooks hooks;
    unsigned arena;
    pid_t pid;             /* whose it is */
    pthread_mutex_t mutex; /* any thread can have jemalloc purge all arenas */
    struct heap_pages *pages;
};

/* The first page from `at` on that is used, or not; n: there is none before that. */
static uint64_t pages_next(const struct heap_pages *pages, uint64_t at, uint64_t n, bool used)
{
    while (at < n) {
        uint64_t word = pages->used[at / BITS] ^ (used ? 0 : ~UINT64_C(0));

        word &= ~UINT64_C(0) << at % BITS;
        if (word != 0) {
            at = at / BITS * BITS + (unsigned)__builtin_ctzll(word);
            return at < n ? at : n;
        }
        at = (at / BITS + 1) * BITS;
    }
    return n;
}

static void pages_mark(struct heap_pages *pages, uint64_t at, uint64_t n, bool used)
{
    pages->n_used += used ? n : -n;
    while (n > 0) {
        const uint64_t first = at % BITS, some = n < BITS - first ? n : BITS - first;
        const uint64_t bits = ~UINT64_C(0) >> (BITS - some) << first;

        if (used)
            pages->used[at / BITS] |= bits;
        else
            pages->used[at / BITS] &= ~bits;
        at += some;
        n -= some;
    }
}

/* Where a run of `n` starts that is aligned so, or pages->n. */
static uint64_t pages_find(const struct heap_pages *pages, uint64_t n, uint64_t alignment)
{
    const uint64_t base = (uintptr_t)pages->addr;

    for (uint64_t at = 0;;) {
        uint64_t used;

        at = pages_next(pages, at, pages->n, false);
        at = (round_up(base + at * PAGE, alignment) - base) / PAGE;
        if (at >= pages->n || pages->n - at < n)
            return pages->n;
        used = pages_next(pages, at, at + n, true);
        if (used == at + n)
            return at;
        at = used;
    }
}

static bool pages_hold(const struct heap_pages *pages, const void *addr)
{
    return (uintptr_t)addr - (uintptr_t)pages->addr < pages->n * PAGE;
}

/* Those that an address is in; NULL: none. Mutex held. */
static struct heap_pages *pages_of(const struct heap_jemalloc *jemalloc, const void *addr)
{
    for (struct heap_pages *pages = jemalloc->pages; pages; pages = pages->next)
        if (pages_hold(pages, addr))
            return pages;
    return NULL;
}

static uint64_t page_of(const struct heap_pages *pages, const void *addr)
{
    return ((uintptr_t)addr - (uintptr_t)pages->addr) / PAGE;
}

static void *run_take_at(struct heap_jemalloc *jemalloc, void *addr, uint64_t n)
{
    struct heap_pages *pages = pages_of(jemalloc, addr);
    uint64_t at = pages ? page_of(pages, addr) : 0;

    if (!pages || pages->n - at < n || pages_next(pages, at, at + n, true) != at + n)
        return NULL;
    pages_mark(pages, at, n, true);
    return addr;
}

static void *run_take_any(struct heap_jemalloc *jemalloc, uint64_t n, uint64_t alignment)
{
    for (struct heap_pages *pages = jemalloc->pages; pages; pages = pages->next) {
        uint64_t at = pages_find(pages, n, alignment);

        if (at == pages->n)
            continue;
        pages_mark(pages, at, n, true);
        return pages->addr + at * PAGE;
    }
    return NULL;
}

static void *run_take(struct heap_jemalloc *jemalloc, void *addr, uint64_t size, uint64_t alignment)
{
    void *run;

    pthread_mutex_lock(&jemalloc->mutex);
    run = addr ? run_take_at(jemalloc, addr, size / PAGE)
               : run_take_any(jemalloc, size / PAGE, alignment);
    pthread_mutex_unlock(&jemalloc->mutex);
    return run;
}

static void run_give(struct heap_jemalloc *jemalloc, const void *addr, uint64_t size)
{
    struct heap_pages *pages;

    pthread_mutex_lock(&jemalloc->mutex);
    pages = pages_of(jemalloc, addr);
    if (pages)
        pages_mark(pages, page_of(pages, addr), size / PAGE, false);
    pthread_mutex_unlock(&jemalloc->mutex);
}

/*
 * A forked child has jemalloc's arena, but not the memory, and another thread may have had the mutex when it was
 * forked. Whatever jemalloc asks for there, it gets nothing, and keeps what it has.
 */
static bool hooks_inherited(const struct jemalloc_hooks *hooks)
{
    return container_of(hooks, const struct heap_jemalloc, hooks)->pid != process_self();
}

static void *hook_alloc(struct jemalloc_hooks *hooks, void *new_addr, size_t size, size_t alignment,
                        bool *zero, bool *commit, unsigned arena)
{
    void *run;

    (void)arena;
    if (hooks_inherited(hooks))
        return NULL;
    run = run_take(container_of(hooks, struct heap_jemalloc, hooks), new_addr, size,
                   alignment > PAGE ? alignment : PAGE);
    if (!run)
        return NULL;
    if (*zero) /* what was lent before may be there */
        memset(run, 0, size);
    *commit = true;
    return run;
}

static bool hook_dalloc(struct jemalloc_hooks *hooks, void *addr, size_t size, bool committed,
                        unsigned arena)
{
    (void)committed;
    (void)arena;
    if (hooks_inherited(hooks))
        return true;
    run_give(container_of(hooks, struct heap_jemalloc, hooks), addr, size);
    return false;
}

static bool hook_split(struct jemalloc_hooks *hooks, void *addr, size_t size, size_t size_a,
                       size_t size_b, bool committed, unsigned arena)
{
    (void)hooks;
    (void)addr;
    (void)size;
    (void)size_a;
    (void)size_b;
    (void)committed;
    (void)arena;
    return false;
}

/* Two extensions may be neighbours in this process, but are not in the receiver. */
static bool hook_merge(struct jemalloc_hooks *hooks, void *a, size_t size_a, void *b, size_t size_b,
                       bool committed, unsigned arena)
{
    struct heap_jemalloc *jemalloc = container_of(hooks, struct heap_jemalloc, hooks);
    bool other;

    (void)size_a;
    (void)size_b;
    (void)committed;
    (void)arena;
    if (hooks_inherited(hooks))
        return true;
    pthread_mutex_lock(&jemalloc->mutex);
    other = pages_of(jemalloc, a) != pages_of(jemalloc, b);
    pthread_mutex_unlock(&jemalloc->mutex);
    return other;
}

struct heap_jemalloc *heap_jemalloc_new(void)
{
    struct heap_jemalloc *jemalloc = calloc(1, sizeof(*jemalloc));

    if (!jemalloc)
        return NULL;
    jemalloc->hooks = (struct jemalloc_hooks){
        .alloc = hook_alloc, .dalloc = hook_dalloc, .split = hook_split, .merge = hook_merge
    };
    jemalloc->pid = process_self();
    pthread_mutex_init(&jemalloc->mutex, NULL);
    if (jemalloc_arena_new(&jemalloc->hooks, &jemalloc->arena))
        return jemalloc;
    pthread_mutex_destroy(&jemalloc->mutex);
    free(jemalloc);
    return NULL;
}

void heap_jemalloc_free(struct heap_jemalloc *jemalloc)
{
    jemalloc_arena_free(jemalloc->arena);
    for (struct heap_pages *pages = jemalloc->pages, *next; pages; pages = next) {
        next = pages->next;
        free(pages);
    }
    pthread_mutex_destroy(&jemalloc->mutex);
    free(jemalloc);
}

int heap_jemalloc_extend(struct heap_jemalloc *jemalloc, struct heap_extension *extension)
{
    const uint64_t n = extension->size / PAGE;
    struct heap_pages *pages =
        calloc(1, sizeof(*pages) + round_up(n, BITS) / BITS * sizeof(pages->used[0]));

    if (!pages)
        return VRD_ERR_OUT_OF_MEMORY;
    pages->extension = extension;
    pages->addr = extension->addr;
    pages->n = n;
    extension->pages = pages;
    pthread_mutex_lock(&jemalloc->mutex);
    pages->next = jemalloc->pages;
    jemalloc->pages = pages;
    pthread_mutex_unlock(&jemalloc->mutex);
    return 0;
}

void heap_jemalloc_shrink(struct heap_jemalloc *jemalloc, struct heap_extension *extension)
{
    struct heap_pages **at = &jemalloc->pages;

    pthread_mutex_lock(&jemalloc->mutex);
    while (*at != extension->pages)
        at = &(*at)->next;
    *at = extension->pages->next;
    pthread_mutex_unlock(&jemalloc->mutex);
    free(extension->pages);
}

void heap_jemalloc_purge(struct heap_jemalloc *jemalloc)
{
    jemalloc_arena_purge(jemalloc->arena);
}

bool heap_jemalloc_has_none(const struct heap_extension *extension)
{
    return extension->pages->n_used == 0;
}

static void *take_small(struct heap_jemalloc *jemalloc, uint64_t size)
{
    return size <= SMALL_MAX ? jemalloc_take(jemalloc->arena, size) : NULL;
}

static void *take_run(struct heap_jemalloc *jemalloc, uint64_t size)
{
    return run_take(jemalloc, NULL, round_up(size, PAGE), PAGE);
}

static void *take_anyhow(struct heap_jemalloc *jemalloc, uint64_t size, bool *ret_run)
{
    void *data = take_small(jemalloc, size);

    *ret_run = !data;
    if (!data)
        data = take_run(jemalloc, size);
    if (likely(data))
        return data;
    heap_jemalloc_purge(jemalloc); /* what it keeps for later may be in the way */
    data = take_small(jemalloc, size);
    *ret_run = !data;
    return data ? data : take_run(jemalloc, size);
}

bool heap_jemalloc_take(struct heap_jemalloc *jemalloc, uint64_t size, struct heap_block *ret)
{
    bool run;
    void *data = take_anyhow(jemalloc, size, &run);
    struct heap_pages *pages;

    if (!data)
        return false;
    pages = pages_of(jemalloc, data); /* this thread alone adds or removes any */
    ret->extension = pages->extension;
    ret->offset = (uint64_t)((uint8_t *)data - pages->addr);
    ret->size = run ? round_up(size, PAGE) : size;
    ret->run = run;
    return true;
}

void heap_jemalloc_give(struct heap_jemalloc *jemalloc, const struct heap_block *block)
{
    uint8_t *data = (uint8_t *)block->extension->addr + block->offset;

    if (block->run)
        run_give(jemalloc, data, block->size);
    else
        jemalloc_give(data);
}
