/* SPDX-License-Identifier: MIT */
/* cipher.h - the work of the transformer: a byte changes by where it stands in the file. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Exclusive-or of `data`, which starts at `position` (a multiple of 8) of the file, with a stream
 * made from the position. Doing it twice restores the data, at the same position only: a piece that
 * was lost, doubled, moved or never enciphered comes out wrong. (It keeps no secrets.)
 */
void cipher_apply(uint64_t position, unsigned char *data, size_t length);
