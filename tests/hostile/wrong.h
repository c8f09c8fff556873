/* SPDX-License-Identifier: MIT */
/* wrong.h - descriptors of every kind but the right one. */
#ifndef HOSTILE_WRONG_H
#define HOSTILE_WRONG_H

#include <stdbool.h>
#include <stddef.h>

struct wrong {
    const char *name;
    int (*make)(void);
    bool dead_socket; /* of our kind, but nobody is or ever will be at its other end */
};

/* In place of a tether or an invitation; in place of a segment of one page. Both end with an
 * all-zero entry. */
extern const struct wrong wrong_sockets[];
extern const struct wrong wrong_segments[];

/* A segment as it should be: sealed, whole, `size` bytes. */
int sealed_memfd(size_t size);

/* As many blocks as it should have, but none where it counts. Sealed, one page, writable. */
int memfd_sparse_in_disguise(void);

#endif
