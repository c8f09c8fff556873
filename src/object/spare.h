/* SPDX-License-Identifier: MIT */
/*
 * spare.h - segments that are made while there is nothing else to do, since making one takes about as
 * long as all the rest of a link: of the size that most links need, at either end. Only while links are
 * expected.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SPARES_MAX 4

struct segment;

/* One of this size, as segment_create makes it. False: there is none. Control lock held. */
bool spare_take(size_t size, struct segment *ret, int *ret_fd);

/* Are links expected from now on? What was not used goes when they no longer are. Control lock held. */
void spares_expected(bool expected);

/* All of them go. Control lock held. */
void spares_drop(void);

/*
 * Without the control lock: are there fewer than `n`, where links are expected? Makes one if so; false:
 * there is no need, or no room.
 */
bool spares_short(size_t n);
bool spare_make(size_t n);

void spares_after_fork(void);
