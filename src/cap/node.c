/* SPDX-License-Identifier: MIT */
#include "cap/node.h"

#include <stdlib.h>
#include <veridian/error.h>

void node_init(struct node *node, uint32_t rights)
{
    *node = (struct node){ .rights = rights };
    list_init(&node->children);
    list_init(&node->sibling);
    list_init(&node->sockets);
    list_init(&node->links);
}

int node_derive(struct node *parent, uint32_t rights, uint64_t badge, struct node **ret)
{
    struct node *node;

    if ((rights & ~parent->rights) != 0 || (badge != 0 && parent->badge != 0))
        return VRD_ERR_PERMISSION_DENIED;
    node = malloc(sizeof(*node));
    if (!node)
        return VRD_ERR_OUT_OF_MEMORY;
    node_init(node, rights);
    node->parent = parent;
    node->badge = badge != 0 ? badge : parent->badge;
    node->depth = parent->depth + 1;
    list_append(&parent->children, &node->sibling);
    *ret = node;
    return 0;
}

void node_settle(struct node *node)
{
    struct node *parent = node->parent;

    if (!parent || node->doomed || !list_empty(&node->sockets) || !list_empty(&node->links))
        return;
    list_foreach(child, &node->children)
        list_entry(child, struct node, sibling)->parent = parent;
    list_splice(&parent->children, &node->children);
    list_remove(&node->sibling);
    free(node);
}

struct node *node_next(const struct node *top, const struct node *node)
{
    if (!list_empty(&node->children))
        return list_entry(node->children.next, struct node, sibling);
    while (node != top && node->sibling.next == &node->parent->children)
        node = node->parent;
    return node != top ? list_entry(node->sibling.next, struct node, sibling) : NULL;
}

static bool node_valid_child(const struct node *parent, const struct node *node)
{
    return node->parent == parent && node->sibling.next->prev == &node->sibling &&
           (node->rights & ~parent->rights) == 0 && node->depth > parent->depth &&
           (parent->badge == 0 || node->badge == parent->badge) &&
           !(list_empty(&node->sockets) && list_empty(&node->links));
}

bool node_valid(const struct node *root)
{
    if (root->parent || !list_empty(&root->sibling))
        return false;
    for (const struct node *node = root; node; node = node_next(root, node))
        list_foreach(child, &node->children)
            if (!node_valid_child(node, list_entry(child, struct node, sibling)))
                return false;
    return true;
}
