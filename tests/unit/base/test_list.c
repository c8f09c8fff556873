/* SPDX-License-Identifier: MIT */
/* Lists against a plain array as the model. */
#include "unit/unit.h"

#include "base/list.h"

struct item {
    int before; /* so that the node is not at the start */
    struct list node;
    int number;
};

static void expect(struct list *head, const int *numbers, size_t n)
{
    size_t i = 0;
    const struct list *prev = head;

    list_foreach(node, head) {
        assert_true(i < n);
        assert_ptr_equal(node->prev, prev);
        assert_int_equal(list_entry(node, struct item, node)->number, numbers[i++]);
        prev = node;
    }
    assert_int_equal(i, n);
    assert_ptr_equal(head->prev, prev);
    assert_int_equal(list_empty(head), n == 0);
}

static void a_node_on_its_own_is_empty(void **state)
{
    struct item item = { .number = 1 };

    (void)state;
    list_init(&item.node);
    assert_true(list_empty(&item.node));
    list_remove(&item.node); /* again and again is fine */
    list_remove(&item.node);
    assert_true(list_empty(&item.node));
}

static void appends_in_order(void **state)
{
    struct list head;
    struct item items[3] = { { .number = 1 }, { .number = 2 }, { .number = 3 } };

    (void)state;
    list_init(&head);
    expect(&head, NULL, 0);
    for (size_t i = 0; i < 3; i++) {
        list_append(&head, &items[i].node);
        expect(&head, (int[]){ 1, 2, 3 }, i + 1);
    }
}

static void a_removed_node_stands_alone(void **state)
{
    struct list head;
    struct item items[3] = { { .number = 1 }, { .number = 2 }, { .number = 3 } };

    (void)state;
    list_init(&head);
    for (size_t i = 0; i < 3; i++)
        list_append(&head, &items[i].node);
    list_remove(&items[1].node);
    assert_true(list_empty(&items[1].node));
    expect(&head, (int[]){ 1, 3 }, 2);
    list_remove(&items[0].node);
    expect(&head, (int[]){ 3 }, 1);
    list_remove(&items[2].node);
    expect(&head, NULL, 0);
    list_append(&head, &items[1].node);
    expect(&head, (int[]){ 2 }, 1);
}

static void splices_to_the_end(void **state)
{
    struct list a, b;
    struct item items[4] = { { .number = 1 }, { .number = 2 }, { .number = 3 }, { .number = 4 } };

    (void)state;
    list_init(&a);
    list_init(&b);
    list_splice(&a, &b); /* nothing to nothing */
    expect(&a, NULL, 0);

    list_append(&b, &items[0].node);
    list_append(&b, &items[1].node);
    list_splice(&a, &b); /* to nothing */
    expect(&a, (int[]){ 1, 2 }, 2);
    expect(&b, NULL, 0);

    list_append(&b, &items[2].node);
    list_append(&b, &items[3].node);
    list_splice(&a, &b);
    expect(&a, (int[]){ 1, 2, 3, 4 }, 4);
    expect(&b, NULL, 0);
    list_splice(&a, &b); /* nothing to something */
    expect(&a, (int[]){ 1, 2, 3, 4 }, 4);
}

static void iterating_survives_removal(void **state)
{
    struct list head, other;
    struct item items[5];
    size_t seen = 0;

    (void)state;
    list_init(&head);
    list_init(&other);
    for (size_t i = 0; i < 5; i++) {
        items[i].number = (int)i;
        list_append(&head, &items[i].node);
    }
    list_foreach(node, &head) {
        seen++;
        if (list_entry(node, struct item, node)->number % 2 == 0) {
            list_remove(node);
            list_append(&other, node); /* also when it goes elsewhere */
        }
    }
    assert_int_equal(seen, 5);
    expect(&head, (int[]){ 1, 3 }, 2);
    expect(&other, (int[]){ 0, 2, 4 }, 3);
}

#define ITEMS 32

/* Two arrays of numbers in order. */
struct model {
    int numbers[2][ITEMS];
    size_t n[2];
};

static void model_remove(struct model *model, int list, int number)
{
    size_t at = 0;

    while (model->numbers[list][at] != number)
        at++;
    model->n[list]--;
    memmove(&model->numbers[list][at], &model->numbers[list][at + 1],
            (model->n[list] - at) * sizeof(int));
}

static void behaves_like_the_model(void **state)
{
    struct list heads[2];
    struct item items[ITEMS];
    int where[ITEMS];
    struct model model = { 0 };
    uint64_t random = 1;

    (void)state;
    list_init(&heads[0]);
    list_init(&heads[1]);
    for (int i = 0; i < ITEMS; i++) {
        items[i].number = i;
        list_init(&items[i].node);
        where[i] = -1;
    }
    for (size_t step = 0; step < support_iterations(50000); step++) {
        const int i = (int)random_below(&random, ITEMS);
        const int list = (int)random_below(&random, 2);

        if (where[i] >= 0)
            model_remove(&model, where[i], i);
        list_remove(&items[i].node);
        where[i] = -1;
        if (random_below(&random, 3) > 0) {
            list_append(&heads[list], &items[i].node);
            where[i] = list;
            model.numbers[list][model.n[list]++] = i;
        }
        if (random_below(&random, 50) == 0) {
            memcpy(&model.numbers[0][model.n[0]], model.numbers[1], model.n[1] * sizeof(int));
            model.n[0] += model.n[1];
            model.n[1] = 0;
            for (int k = 0; k < ITEMS; k++)
                where[k] = where[k] == 1 ? 0 : where[k];
            list_splice(&heads[0], &heads[1]);
        }
        expect(&heads[0], model.numbers[0], model.n[0]);
        expect(&heads[1], model.numbers[1], model.n[1]);
    }
}

SUPPORT_MAIN(.tests = (const struct support_test[]){
                 SUPPORT_TEST(a_node_on_its_own_is_empty),
                 SUPPORT_TEST(appends_in_order),
                 SUPPORT_TEST(a_removed_node_stands_alone),
                 SUPPORT_TEST(splices_to_the_end),
                 SUPPORT_TEST(iterating_survives_removal),
                 SUPPORT_TEST(behaves_like_the_model),
                 { 0 },
             })
