/* SPDX-License-Identifier: MIT */
/* The derivation tree: rights that only shrink, badges that stay, and no node without a holder. */
#include "unit/unit.h"

#include <veridian/capability.h>
#include <veridian/error.h>

#include "cap/node.h"

#define ALL (VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE)
#define HOLDERS 64

/* One who holds a node, by a socket or by a link. */
struct holder {
    struct list held;
    struct node *node;
};

static void hold(struct holder *holder, struct node *node)
{
    holder->node = node;
    list_append(&node->sockets, &holder->held);
}

static void use(struct holder *holder, struct node *node)
{
    holder->node = node;
    list_append(&node->links, &holder->held);
}

static void let_go(struct holder *holder)
{
    list_remove(&holder->held);
    node_settle(holder->node);
    holder->node = NULL;
}

static struct node *derived(struct holder *holder, struct node *parent, uint32_t rights,
                            uint64_t badge)
{
    struct node *node = NULL;

    support_require_equal(node_derive(parent, rights, badge, &node), 0);
    hold(holder, node);
    return node;
}

static size_t count_below(const struct node *top)
{
    size_t n = 0;

    for (const struct node *node = node_next(top, top); node; node = node_next(top, node))
        n++;
    return n;
}

/* --- what a child gets -------------------------------------------------------------------------- */

static void a_child_has_a_subset_of_the_rights(void **state)
{
    (void)state;
    for (uint32_t rights = 0; rights <= ALL; rights++)
        for (uint32_t wish = 0; wish <= ALL; wish++) {
            const bool subset = (wish & ~rights) == 0;
            struct holder holder;
            struct node root, *node = &root;

            node_init(&root, rights);
            assert_int_equal(node_derive(&root, wish, 0, &node),
                             subset ? 0 : VRD_ERR_PERMISSION_DENIED);
            if (!subset) {
                assert_ptr_equal(node, &root); /* untouched */
                assert_true(list_empty(&root.children));
                continue;
            }
            hold(&holder, node);
            assert_int_equal(node->rights, wish);
            assert_ptr_equal(node->parent, &root);
            assert_int_equal(node->depth, 1);
            assert_true(node_valid(&root));
            let_go(&holder);
            assert_true(list_empty(&root.children));
        }
}

static void a_badge_is_put_on_once_and_inherited(void **state)
{
    struct holder plain_holder, badged_holder, below_holder;
    struct node root, *plain, *badged, *below, *none = NULL;

    (void)state;
    node_init(&root, ALL);
    plain = derived(&plain_holder, &root, ALL, 0);
    badged = derived(&badged_holder, plain, ALL, 77);
    below = derived(&below_holder, badged, VRD_RIGHT_SEND, 0);
    assert_int_equal(plain->badge, 0);
    assert_int_equal(badged->badge, 77);
    assert_int_equal(below->badge, 77);
    assert_int_equal(below->depth, 3);
    assert_int_equal(node_derive(badged, ALL, 78, &none), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(node_derive(badged, ALL, 77, &none), VRD_ERR_PERMISSION_DENIED);
    assert_int_equal(node_derive(below, VRD_RIGHT_SEND, 1, &none), VRD_ERR_PERMISSION_DENIED);
    assert_null(none);
    let_go(&below_holder);
    let_go(&badged_holder);
    let_go(&plain_holder);
}

/* --- who keeps a node --------------------------------------------------------------------------- */

static void a_node_lives_while_a_socket_or_a_link_holds_it(void **state)
{
    struct holder socket, second, link;
    struct node root, *node;

    (void)state;
    node_init(&root, ALL);
    node = derived(&socket, &root, ALL, 0);
    hold(&second, node);
    use(&link, node);
    let_go(&socket);
    assert_int_equal(count_below(&root), 1);
    let_go(&second);
    assert_int_equal(count_below(&root), 1);
    assert_true(node_valid(&root));
    let_go(&link);
    assert_int_equal(count_below(&root), 0);
}

static void the_root_stays_without_a_holder(void **state)
{
    struct holder holder;
    struct node root;

    (void)state;
    node_init(&root, ALL);
    hold(&holder, &root);
    let_go(&holder);
    assert_true(node_valid(&root));
    assert_int_equal(root.rights, ALL);
}

static void children_go_to_the_grandparent(void **state)
{
    struct holder middle_holder, holders[3];
    struct node root, *middle, *children[3];

    (void)state;
    node_init(&root, ALL);
    middle = derived(&middle_holder, &root, ALL, 5);
    for (size_t i = 0; i < 3; i++)
        children[i] = derived(&holders[i], middle, VRD_RIGHT_SEND, 0);
    let_go(&middle_holder);
    assert_int_equal(count_below(&root), 3);
    assert_true(node_valid(&root));
    for (size_t i = 0; i < 3; i++) {
        assert_ptr_equal(children[i]->parent, &root);
        assert_int_equal(children[i]->badge, 5);
        assert_int_equal(children[i]->depth, 2); /* what its holder was told */
        let_go(&holders[i]);
    }
    assert_int_equal(count_below(&root), 0);
}

/* --- walking ------------------------------------------------------------------------------------ */

static void a_walk_meets_parents_first_and_all_below_the_top_only(void **state)
{
    struct holder holders[6];
    struct node root, *a, *b, *a1, *a2, *a11, *node;

    (void)state;
    node_init(&root, ALL);
    a = derived(&holders[0], &root, ALL, 0);
    b = derived(&holders[1], &root, ALL, 0);
    a1 = derived(&holders[2], a, ALL, 0);
    a2 = derived(&holders[3], a, ALL, 0);
    a11 = derived(&holders[4], a1, ALL, 0);

    struct node *const all[] = { a, a1, a11, a2, b };
    struct node *const some[] = { a1, a11, a2 };

    node = node_next(&root, &root);
    for (size_t i = 0; i < 5; i++, node = node_next(&root, node))
        assert_ptr_equal(node, all[i]);
    assert_null(node);
    node = node_next(a, a);
    for (size_t i = 0; i < 3; i++, node = node_next(a, node))
        assert_ptr_equal(node, some[i]);
    assert_null(node);
    assert_null(node_next(b, b));
    for (size_t i = 0; i < 5; i++)
        let_go(&holders[i]);
}

static void a_chain_of_any_depth_needs_no_stack(void **state)
{
    const size_t n = 200000;
    struct holder *holders = calloc(n, sizeof(*holders));
    struct node root, *node = &root;

    (void)state;
    support_require(holders != NULL);
    node_init(&root, ALL);
    for (size_t i = 0; i < n; i++)
        node = derived(&holders[i], node, ALL, 0);
    assert_int_equal(node->depth, n);
    assert_true(node_valid(&root));
    assert_int_equal(count_below(&root), n);
    for (size_t i = 0; i < n; i++)
        let_go(&holders[i]);
    assert_int_equal(count_below(&root), 0);
    free(holders);
}

/* --- the validator ------------------------------------------------------------------------------ */

static void the_validator_finds_what_is_wrong(void **state)
{
    struct holder holder, below_holder;
    struct node root, *node, *below;

    (void)state;
    node_init(&root, VRD_RIGHT_SEND);
    node = derived(&holder, &root, VRD_RIGHT_SEND, 3);
    below = derived(&below_holder, node, VRD_RIGHT_SEND, 0);
    assert_true(node_valid(&root));
    assert_false(node_valid(node)); /* not a root */

    below->rights |= VRD_RIGHT_REVOKE;
    assert_false(node_valid(&root));
    below->rights = VRD_RIGHT_SEND;
    below->badge = 4;
    assert_false(node_valid(&root));
    below->badge = 3;
    below->depth = node->depth;
    assert_false(node_valid(&root));
    below->depth = 2;
    below->parent = &root;
    assert_false(node_valid(&root));
    below->parent = node;
    list_remove(&below_holder.held);
    assert_false(node_valid(&root));
    hold(&below_holder, below);
    assert_true(node_valid(&root));
    let_go(&below_holder);
    let_go(&holder);
}

/* --- any history -------------------------------------------------------------------------------- */

/* What is below what, kept by the simplest means: each holder's parent holder, or -1. */
struct history {
    struct node root;
    struct holder holders[HOLDERS];
    int parent[HOLDERS];
    uint64_t random;
};

static void history_derive(struct history *h, int i)
{
    int from = (int)random_below(&h->random, HOLDERS + 1) - 1;
    struct node *parent = from >= 0 && h->holders[from].node ? h->holders[from].node : &h->root;
    uint64_t badge = random_below(&h->random, 4) == 0 ? random_next(&h->random) | 1 : 0;
    uint32_t rights = (uint32_t)random_below(&h->random, ALL + 1);
    struct node *node;
    int r = node_derive(parent, rights, badge, &node);

    if ((rights & ~parent->rights) != 0 || (badge != 0 && parent->badge != 0)) {
        assert_int_equal(r, VRD_ERR_PERMISSION_DENIED);
        return;
    }
    assert_int_equal(r, 0);
    hold(&h->holders[i], node);
    h->parent[i] = parent != &h->root ? from : -1;
}

static void history_close(struct history *h, int i)
{
    let_go(&h->holders[i]);
    for (int k = 0; k < HOLDERS; k++)
        if (h->holders[k].node && h->parent[k] == i)
            h->parent[k] = h->parent[i];
}

static void history_check(struct history *h)
{
    size_t n = 0;

    assert_true(node_valid(&h->root));
    for (int i = 0; i < HOLDERS; i++) {
        const struct node *parent;

        if (!h->holders[i].node)
            continue;
        n++;
        parent = h->parent[i] >= 0 ? h->holders[h->parent[i]].node : &h->root;
        assert_ptr_equal(h->holders[i].node->parent, parent);
    }
    assert_int_equal(count_below(&h->root), n);
}

static void any_history_leaves_the_tree_of_a_simple_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct history h = { .random = seed * UINT64_C(0x9e3779b97f4a7c15) };

        node_init(&h.root, ALL);
        for (int step = 0; step < 400; step++) {
            int i = (int)random_below(&h.random, HOLDERS);

            if (h.holders[i].node)
                history_close(&h, i);
            else
                history_derive(&h, i);
            history_check(&h);
        }
        for (int i = 0; i < HOLDERS; i++)
            if (h.holders[i].node)
                history_close(&h, i);
        history_check(&h);
    }
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(a_child_has_a_subset_of_the_rights),
                 SUPPORT_TEST(a_badge_is_put_on_once_and_inherited),
                 SUPPORT_TEST(a_node_lives_while_a_socket_or_a_link_holds_it),
                 SUPPORT_TEST(the_root_stays_without_a_holder),
                 SUPPORT_TEST(children_go_to_the_grandparent),
                 SUPPORT_TEST(a_walk_meets_parents_first_and_all_below_the_top_only),
                 SUPPORT_TEST(a_chain_of_any_depth_needs_no_stack),
                 SUPPORT_TEST(the_validator_finds_what_is_wrong),
                 SUPPORT_TEST(any_history_leaves_the_tree_of_a_simple_model),
                 { 0 },
             })
