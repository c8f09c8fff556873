/* SPDX-License-Identifier: MIT */
/*
 * node.h - the derivation tree of an object, in its owner's private memory: what was derived from
 * what. A node is what one capability confers; it lives while a socket confers it or a link uses it.
 * When the last is gone, its children become those of its parent: there is no node without a holder
 * but the root. Nothing here recurses: how deep a tree is, is for the holders to say.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

struct node {
    struct node *parent; /* NULL: the root */
    struct list children;
    struct list sibling; /* in the parent's `children` */
    struct list sockets; /* that confer it, by their holders' own list nodes */
    struct list links;   /* that use it, the same way */
    uint64_t badge;      /* 0: none */
    uint32_t rights;
    uint32_t depth;   /* derivations from the root, also when some in between are gone */
    uint32_t ordinal; /* while the tree moves to another process */
    bool doomed;      /* being revoked: stays until its children are */
};

/* The root of a tree. It is its owner's, who never frees it while it has children. */
void node_init(struct node *node, uint32_t rights);

/*
 * A child with a subset of the parent's rights. With `badge` 0 it has that of the parent. 0, or
 * VRD_ERR_PERMISSION_DENIED: more rights than the parent has, or a second badge;
 * VRD_ERR_OUT_OF_MEMORY. It has no holder yet.
 */
int node_derive(struct node *parent, uint32_t rights, uint64_t badge, struct node **ret);

/* Frees the node if nobody holds it and it is not doomed, and hands its children to its parent. The root stays. */
void node_settle(struct node *node);

/*
 * The next in a walk of all that is below `top`, from `node` (or `top` itself to begin with), parents
 * before their children, oldest first. NULL: that was the last.
 */
struct node *node_next(const struct node *top, const struct node *node);

/* Is the tree whole: links both ways, rights that only shrink, badges that stay, nobody unheld? */
bool node_valid(const struct node *root);
