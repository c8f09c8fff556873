/* SPDX-License-Identifier: MIT */
/*
 * spare.h - segments that are made while nobody waits, since making one takes a quarter of the time in which
 * a link is made: of the size that most links need, at either end. Only while links are expected: where a
 * name is published, and one where somebody connects again and again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define SPARES_MAX 4

struct segment;
struct source;

/* One of this size, as segment_create makes it. False: there is none. Control lock held. */
bool spare_take(size_t size, struct segment *ret, int *ret_fd);

/*
 * Are links expected from now on? The library's thread, if there is one, is woken to make what they need;
 * what was not used goes when they no longer are. Control lock held.
 */
void spares_expected(bool expected);

/*
 * Somebody connects. Where that was so less than SPARE_LEASE_NS ago, one is kept ready until nobody has for
 * so long. Control lock held.
 */
#define SPARE_LEASE_NS INT64_C(1000000000)
void spares_connecting(void);

/* All of them go. Control lock held. */
void spares_drop(void);

/*
 * Without the control lock: are there fewer than `n`, where links are expected? Makes one if so; false:
 * there is no need, no room, or no thread that gives it back.
 */
bool spares_short(size_t n);
bool spare_make(size_t n);

/* The lease may be over. */
void spare_source_ready(struct source *source);

void spares_after_fork(void);
