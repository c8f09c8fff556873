/* SPDX-License-Identifier: MIT */
/* path.h - the instructions that a victim has met, step by step. */
#ifndef FAULT_PATH_H
#define FAULT_PATH_H

#include <stddef.h>
#include <stdint.h>

/* Zeroed, it is empty. */
struct step_path {
    uintptr_t *addresses; /* [n]: of the instruction that comes after so many steps */
    size_t n, size;
};

/* What was known of the path from `step` on is forgotten. */
void step_path_put(struct step_path *path, size_t step, uintptr_t address);
void step_path_clear(struct step_path *path);

/* Where to run to instead of stepping all the way to the end of the path. */
struct step_landmark {
    size_t step; /* 0: nowhere */
    uintptr_t address;
    size_t visits; /* it is reached when the instruction is met for this time, from 1 */
};

/* The one from which the end of the path takes the fewest stops. */
struct step_landmark step_path_landmark(const struct step_path *path);

#endif
