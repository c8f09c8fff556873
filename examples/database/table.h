/* SPDX-License-Identifier: MIT */
/*
 * table.h - records in shared memory, found through a hash index, read in place while one process
 * updates them.
 *
 * Memory:   header | index: a word for each of 2^n places | records of two cache lines
 *
 * An index word holds the number of a record and 32 bits of its key's hash; equal hashes take the next
 * place. A record holds its key, a count of its updates, and two values: the one in force, and the one
 * before, which the next update overwrites. So a reader is never kept waiting, and a writer that is
 * killed in the middle of an update leaves the record as it was before.
 *
 * All that changes is read and written by atomic operations. A value is made of words, each stored with
 * release and loaded with acquire: a reader that has seen a word of a later update also sees, when it
 * looks at the count once more, that there was one.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TABLE_WORDS 7

struct value {
    uint64_t word[TABLE_WORDS];
};

struct record {
    _Atomic uint64_t updates; /* the value in force is the one with this number's parity */
    _Atomic uint64_t key;
    _Atomic uint64_t values[2][TABLE_WORDS];
};

/* Private to a process: where things are, checked once. */
struct table {
    struct header *header;
    _Atomic uint64_t *index;
    struct record *records;
    uint64_t mask;     /* places in the index - 1 */
    uint64_t capacity; /* records */
    uint64_t retries;  /* values read again, because they had changed twice meanwhile */
};

/* Bytes for that many records. */
size_t table_size(uint64_t capacity);

/* Makes an empty table of `size` zeroes. False: too small. */
bool table_create(struct table *table, void *memory, size_t size, uint64_t capacity);

/* For reading. False: it is no table that fits into `size`. */
bool table_open(struct table *table, const void *memory, size_t size);

/* Inserts or updates; by one process, one thread at a time. False: full. */
bool table_put(struct table *table, uint64_t key, const struct value *value);

/*
 * Who has several keys to look up says so first, for all of them the one, then the other: what they will
 * have to wait for is then fetched from memory at one time.
 */
void table_expect(const struct table *table, uint64_t key);
void table_expect_record(const struct table *table, uint64_t key);

/* Any number of readers, at any time. False: no such key. */
bool table_get(struct table *table, uint64_t key, struct value *ret);
