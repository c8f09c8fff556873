/* SPDX-License-Identifier: MIT */
/* pattern.h - payloads that tell who sent them, in which order, and whether they are whole. */
#ifndef FAULT_PATTERN_H
#define FAULT_PATTERN_H

#include <stddef.h>
#include <stdint.h>

#define PATTERN_SENDERS 4
#define PATTERN_LEN_MAX 4096

/* Fills `buf` with message number `sequence` of `sender`; `len` at least 1. */
void pattern_fill(uint8_t *buf, size_t len, unsigned sender, size_t sequence);

/* Requires that `buf` holds exactly the next message of one of the senders, of which `counts` have
 * been seen, and counts it. Returns the sender. */
unsigned pattern_check(const uint8_t *buf, size_t len, size_t counts[PATTERN_SENDERS]);

#endif
