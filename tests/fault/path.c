/* SPDX-License-Identifier: MIT */
#include "path.h"

#include <stdbool.h>
#include <stdlib.h>

#include "support/support.h"

void step_path_put(struct step_path *path, size_t step, uintptr_t address)
{
    support_require(step <= path->n);
    if (step == path->size) {
        path->size = path->size ? path->size * 2 : 1024;
        path->addresses = realloc(path->addresses, path->size * sizeof path->addresses[0]);
        support_require(path->addresses != NULL);
    }
    path->addresses[step] = address;
    path->n = step + 1;
}

void step_path_clear(struct step_path *path)
{
    free(path->addresses);
    *path = (struct step_path){ 0 };
}

/* A repeated string instruction takes many steps and meets a breakpoint once. */
static bool is_visit(const struct step_path *path, size_t step)
{
    return step == 0 || path->addresses[step] != path->addresses[step - 1];
}

static size_t visits_until(const struct step_path *path, size_t step)
{
    size_t visits = 0;

    for (size_t i = 0; i <= step; i++)
        visits += path->addresses[i] == path->addresses[step] && is_visit(path, i);
    return visits;
}

struct step_landmark step_path_landmark(const struct step_path *path)
{
    struct step_landmark best = { 0 };
    size_t fewest = path->n; /* stops: visits, and steps from there on */

    for (size_t back = 0; back + 1 < path->n && back < fewest; back++) {
        const size_t step = path->n - 1 - back;
        const size_t visits = is_visit(path, step) ? visits_until(path, step) : fewest;

        if (back + visits >= fewest)
            continue;
        best = (struct step_landmark){ step, path->addresses[step], visits };
        fewest = back + visits;
    }
    return best;
}
