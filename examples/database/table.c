/* SPDX-License-Identifier: MIT */
#include "table.h"

#define MAGIC UINT64_C(0x31656c6261745f76) /* "v_table1" */
#define LINE 128

struct header {
    _Alignas(LINE) uint64_t magic;
    uint64_t capacity;
    uint64_t places;
    uint64_t used; /* the writer's */
};

_Static_assert(sizeof(struct record) == LINE, "a record is two cache lines");

static uint64_t places_for(uint64_t capacity)
{
    uint64_t places = LINE / sizeof(uint64_t);

    while (places < 2 * capacity)
        places *= 2;
    return places;
}

static uint64_t hash_of(uint64_t key)
{
    key ^= key >> 32;
    key *= UINT64_C(0x9e3779b97f4a7c15);
    key ^= key >> 29;
    key *= UINT64_C(0xbf58476d1ce4e5b9);
    return key ^ key >> 32;
}

size_t table_size(uint64_t capacity)
{
    return sizeof(struct header) + places_for(capacity) * sizeof(uint64_t) +
           capacity * sizeof(struct record);
}

static void table_lay_out(struct table *table, void *memory, uint64_t capacity, uint64_t places)
{
    char *bytes = memory;

    *table = (struct table){
        .header = memory,
        .index = (void *)(bytes + sizeof(struct header)),
        .records = (void *)(bytes + sizeof(struct header) + places * sizeof(uint64_t)),
        .mask = places - 1,
        .capacity = capacity,
    };
}

bool table_create(struct table *table, void *memory, size_t size, uint64_t capacity)
{
    struct header *header = memory;

    if (capacity == 0 || capacity > UINT32_MAX / 2 || size < table_size(capacity))
        return false;
    *header =
        (struct header){ .magic = MAGIC, .capacity = capacity, .places = places_for(capacity) };
    table_lay_out(table, memory, capacity, header->places);
    return true;
}

/* The header is written before anybody is given the table; what it says is checked all the same. */
bool table_open(struct table *table, const void *memory, size_t size)
{
    const struct header *header = memory;
    uint64_t capacity, places;

    if (size < sizeof(*header) || header->magic != MAGIC)
        return false;
    capacity = header->capacity;
    places = header->places;
    if (capacity == 0 || capacity > UINT32_MAX / 2 || places != places_for(capacity) ||
        size < table_size(capacity))
        return false;
    table_lay_out(table, (void *)(uintptr_t)memory, capacity, places);
    return true;
}

/* The record of `key`, or NULL; *ret_place is where it is or would be. */
static struct record *table_find(const struct table *table, uint64_t key, uint64_t *ret_place)
{
    const uint64_t hash = hash_of(key);

    for (uint64_t i = 0; i <= table->mask; i++) {
        const uint64_t place = (hash + i) & table->mask;
        /* acquire: pairs with the release in table_insert; the record is there */
        const uint64_t word = atomic_load_explicit(&table->index[place], memory_order_acquire);
        const uint64_t number = (uint32_t)word;

        *ret_place = place;
        if (number == 0)
            return NULL;
        if (word >> 32 != hash >> 32 || number > table->capacity)
            continue;
        if (atomic_load_explicit(&table->records[number - 1].key, memory_order_relaxed) == key)
            return &table->records[number - 1];
    }
    return NULL;
}

void table_expect(const struct table *table, uint64_t key)
{
    __builtin_prefetch(&table->index[hash_of(key) & table->mask]);
}

/* A guess: the first place may be another key's. */
void table_expect_record(const struct table *table, uint64_t key)
{
    /* relaxed: nothing is read on the strength of it */
    const uint64_t word =
        atomic_load_explicit(&table->index[hash_of(key) & table->mask], memory_order_relaxed);
    const uint64_t number = (uint32_t)word;

    if (number == 0 || number > table->capacity)
        return;
    __builtin_prefetch(&table->records[number - 1]);
    __builtin_prefetch((const char *)&table->records[number - 1] + LINE);
}

static void value_store(_Atomic uint64_t *words, const struct value *value)
{
    for (size_t i = 0; i < TABLE_WORDS; i++) /* release: see table.h */
        atomic_store_explicit(&words[i], value->word[i], memory_order_release);
}

static bool table_insert(struct table *table, uint64_t key, uint64_t place,
                         const struct value *value)
{
    struct header *header = table->header;
    struct record *record;

    if (header->used == table->capacity)
        return false;
    record = &table->records[header->used];
    atomic_store_explicit(&record->key, key, memory_order_relaxed);
    value_store(record->values[0], value);
    header->used++;
    /* release: whoever finds the number finds the record */
    atomic_store_explicit(&table->index[place], hash_of(key) >> 32 << 32 | header->used,
                          memory_order_release);
    return true;
}

bool table_put(struct table *table, uint64_t key, const struct value *value)
{
    uint64_t place, updates;
    struct record *record = table_find(table, key, &place);

    if (!record)
        return table_insert(table, key, place, value);
    updates = atomic_load_explicit(&record->updates, memory_order_relaxed) + 1;
    value_store(record->values[updates & 1], value);
    /* release: the value is whole for whoever sees the count */
    atomic_store_explicit(&record->updates, updates, memory_order_release);
    return true;
}

bool table_get(struct table *table, uint64_t key, struct value *ret)
{
    uint64_t place;
    struct record *record = table_find(table, key, &place);

    if (!record)
        return false;
    for (;;) {
        uint64_t updates = atomic_load_explicit(&record->updates, memory_order_acquire);
        const _Atomic uint64_t *words = record->values[updates & 1];

        for (size_t i = 0; i < TABLE_WORDS; i++)
            ret->word[i] = atomic_load_explicit(&words[i], memory_order_acquire);
        if (atomic_load_explicit(&record->updates, memory_order_relaxed) == updates)
            return true;
        table->retries++;
    }
}
