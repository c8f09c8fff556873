/* SPDX-License-Identifier: MIT */
#include "os/jemalloc.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#ifdef VRD_HAVE_JEMALLOC

/* Weak: not there, unless somebody else brings them. */
extern void *mallocx(size_t size, int flags) __attribute__((weak));
extern void dallocx(void *data, int flags) __attribute__((weak));
extern int mallctl(const char *name, void *old, size_t *old_size, void *value, size_t size)
    __attribute__((weak));

/* As in jemalloc.h. */
#define LG_ALIGN_64 6
#define TCACHE_NONE (1 << 8)
#define ARENA(arena) (((int)(arena) + 1) << 20)

/* As jemalloc's arena_config_t. */
struct arena_config {
    struct jemalloc_hooks *hooks;
    bool metadata_use_hooks;
};

bool jemalloc_wanted(void)
{
    const char *heap;

    if (!mallocx || !dallocx || !mallctl)
        return false;
    heap = secure_getenv("VERIDIAN_HEAP");
    return heap && strcmp(heap, "jemalloc") == 0;
}

/* False: jemalloc says no. */
static bool arena_control(unsigned arena, const char *what, void *value, size_t size)
{
    char name[64];

    snprintf(name, sizeof(name), "arena.%u.%s", arena, what);
    return mallctl(name, NULL, NULL, value, size) == 0;
}

bool jemalloc_arena_new(struct jemalloc_hooks *hooks, unsigned *ret_arena)
{
    struct arena_config config = { .hooks = hooks, .metadata_use_hooks = false };
    ssize_t never = -1, at_once = 0;
    size_t limit = 65536, size = sizeof(*ret_arena);
    unsigned arena;

    if (mallctl("experimental.arenas_create_ext", &arena, &size, &config, sizeof(config)) != 0)
        return false;
    /* what cannot be set is only slower, or grows sooner */
    arena_control(arena, "dirty_decay_ms", &never, sizeof(never));
    arena_control(arena, "muzzy_decay_ms", &at_once, sizeof(at_once));
    arena_control(arena, "retain_grow_limit", &limit, sizeof(limit));
    *ret_arena = arena;
    return true;
}

void jemalloc_arena_free(unsigned arena)
{
    arena_control(arena, "destroy", NULL, 0);
}

void jemalloc_arena_purge(unsigned arena)
{
    arena_control(arena, "purge", NULL, 0);
}

void *jemalloc_take(unsigned arena, size_t size)
{
    return mallocx(size, ARENA(arena) | TCACHE_NONE | LG_ALIGN_64);
}

void jemalloc_give(void *data)
{
    dallocx(data, TCACHE_NONE);
}

#else

bool jemalloc_wanted(void)
{
    return false;
}

bool jemalloc_arena_new(struct jemalloc_hooks *hooks, unsigned *ret_arena)
{
    (void)hooks;
    (void)ret_arena;
    return false;
}

void jemalloc_arena_free(unsigned arena)
{
    (void)arena;
}

void jemalloc_arena_purge(unsigned arena)
{
    (void)arena;
}

void *jemalloc_take(unsigned arena, size_t size)
{
    (void)arena;
    (void)size;
    return NULL;
}

void jemalloc_give(void *data)
{
    (void)data;
}

#endif
