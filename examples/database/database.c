/* SPDX-License-Identifier: MIT */
/*
 * database.c - a database in shared memory: one process writes, others read in place.
 *
 *   database [-r READERS] [-s SECONDS] [-n RECORDS] [-k] [-H]
 *
 * The writer makes a region and a read capability for each reader. The readers map it, look records up,
 * and check each value that they find: every word of it says of which key and which update it is.
 * With -k the writer is killed half-way: the readers go on, with what is there. With -H the memory is
 * made of huge pages (2 MiB), of which the machine has to have some set aside (vm.nr_hugepages).
 */
#include <veridian/ipc.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "table.h"

#define READERS_MAX 64
#define LOOK 256   /* times AT_ONCE reads between two looks at the clock */
#define AT_ONCE 16 /* reads whose memory is fetched together */

struct job {
    uint64_t readers, records;
    double seconds;
    int kill;
    uint32_t huge_pages;
    vrd_cap_t ready; /* each reader says here that it has begun */
};

/* What a reader tells at the end. */
struct result {
    uint64_t reads, retries, torn, missing, newest;
    double seconds;
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int complain(const char *what, int err)
{
    fprintf(stderr, "database: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* ---- values that can be checked ------------------------------------------------------------------ */

static uint64_t word_of(uint64_t key, uint64_t update, uint64_t i)
{
    return (key * UINT64_C(0x9e3779b97f4a7c15)) ^ (update * UINT64_C(0xbf58476d1ce4e5b9)) ^ i;
}

static struct value value_of(uint64_t key, uint64_t update)
{
    struct value value = { .word = { update } };

    for (uint64_t i = 1; i < TABLE_WORDS; i++)
        value.word[i] = word_of(key, update, i);
    return value;
}

static int value_holds(const struct value *value, uint64_t key)
{
    for (uint64_t i = 1; i < TABLE_WORDS; i++)
        if (value->word[i] != word_of(key, value->word[0], i))
            return 0;
    return 1;
}

static uint64_t key_of(uint64_t number)
{
    return number * UINT64_C(0x2545f4914f6cdd1d) + 1;
}

/* ---- a reader -------------------------------------------------------------------------------------- */

static void reader_read(struct table *table, uint64_t key, struct result *result)
{
    struct value value;

    result->reads++;
    if (!table_get(table, key, &value)) {
        result->missing++;
        return;
    }
    result->torn += !value_holds(&value, key);
    if (value.word[0] > result->newest)
        result->newest = value.word[0];
}

static void reader_read_some(struct table *table, const struct job *job, uint64_t *seed,
                             struct result *result)
{
    uint64_t keys[AT_ONCE];

    for (size_t i = 0; i < AT_ONCE; i++) {
        keys[i] = key_of(random_next(seed) % job->records);
        table_expect(table, keys[i]);
    }
    for (size_t i = 0; i < AT_ONCE; i++)
        table_expect_record(table, keys[i]);
    for (size_t i = 0; i < AT_ONCE; i++)
        reader_read(table, keys[i], result);
}

static int reader_main(const struct job *job, int invitation, vrd_cap_t results, uint64_t seed)
{
    struct result result = { 0 };
    struct table table;
    double started;
    vrd_cap_t cap;
    size_t size = 0;
    void *memory = NULL;
    int err = vrd_cap_import(invitation, &cap);

    if (err == 0)
        err = vrd_region_map(cap, VRD_RIGHT_READ, &memory, &size);
    if (err < 0)
        return complain("reader: the region", err);
    if (!table_open(&table, memory, size))
        return complain("reader: the table", VRD_ERR_INVALID_MEMORY_REGION);
    err = vrd_send(job->ready, NULL, 0);
    if (err < 0)
        return complain("reader: ready", err);

    started = now();
    do {
        for (int i = 0; i < LOOK; i++)
            reader_read_some(&table, job, &seed, &result);
    } while (now() - started < job->seconds);
    result.seconds = now() - started;
    for (uint64_t i = 0; i < job->records; i++) /* and each once */
        reader_read(&table, key_of(i), &result);
    result.retries = table.retries;

    err = vrd_send(results, &result, sizeof(result));
    return err < 0 ? complain("reader: result", err) : 0;
}

/* ---- the writer -------------------------------------------------------------------------------------- */

/* Starts a reader with a capability of its own. */
static int reader_start(const struct job *job, vrd_cap_t region, vrd_cap_t results, uint64_t seed)
{
    int invitation;
    int err = vrd_cap_export(region, VRD_RIGHT_READ, &invitation);

    if (err < 0)
        return complain("writer: a capability", err);
    switch (fork()) {
    case -1:
        perror("database: fork");
        return 1;
    case 0:
        vrd_cap_close(region); /* what it may do is what the invitation says */
        _exit(reader_main(job, invitation, results, seed));
    default:
        close(invitation);
        return 0;
    }
}

static int table_fill(struct table *table, uint64_t records)
{
    for (uint64_t i = 0; i < records; i++) {
        const struct value value = value_of(key_of(i), 0);

        if (!table_put(table, key_of(i), &value))
            return 1;
    }
    return 0;
}

static int writer_main(const struct job *job, vrd_cap_t results)
{
    const struct vrd_region_options options = { .huge_pages = job->huge_pages };
    uint64_t seed = 42, update = 0;
    struct table table;
    vrd_cap_t region;
    double started;
    size_t size = 0;
    void *memory = NULL;
    int err = vrd_region_create(table_size(job->records), VRD_RIGHTS_READ_WRITE, &options, &region);

    if (err == 0)
        err = vrd_region_map(region, VRD_RIGHTS_READ_WRITE, &memory, &size);
    if (err < 0)
        return complain("writer: the region", err);
    if (!table_create(&table, memory, size, job->records) || table_fill(&table, job->records))
        return complain("writer: the table", VRD_ERR_INVALID_MEMORY_REGION);
    for (uint64_t i = 0; i < job->readers; i++)
        if (reader_start(job, region, results, i + 1))
            return 1;
    vrd_cap_close(results);
    vrd_cap_close(job->ready);

    started = now();
    while (job->kill || now() - started < job->seconds)
        for (int i = 0; i < LOOK; i++) {
            const uint64_t key = key_of(random_next(&seed) % job->records);
            const struct value value = value_of(key, ++update);

            table_put(&table, key, &value);
        }
    printf("writer: %.1f million updates/s\n", (double)update / (now() - started) * 1e-6);
    fflush(stdout);
    while (wait(NULL) > 0) {
    }
    return 0;
}

/* ---- the launcher ------------------------------------------------------------------------------------ */

static int collect(const struct job *job, vrd_cap_t results)
{
    double sum = 0;
    uint64_t bad = 0;

    for (uint64_t i = 0; i < job->readers; i++) {
        struct result result;
        ssize_t n = vrd_receive(results, &result, sizeof(result));

        if (n < 0)
            return complain("results", (int)n);
        printf("reader: %.1f million reads/s, %" PRIu64 " read again, newest update %" PRIu64 "\n",
               (double)result.reads / result.seconds * 1e-6, result.retries, result.newest);
        sum += (double)result.reads / result.seconds;
        bad += result.torn + result.missing;
    }
    printf("%" PRIu64 " readers: %.1f million reads/s, %" PRIu64 " wrong\n", job->readers,
           sum * 1e-6, bad);
    return bad > 0;
}

/* All readers have begun: from now on they need no writer. */
static int await_readers(const struct job *job, vrd_cap_t ready)
{
    for (uint64_t i = 0; i < job->readers; i++) {
        ssize_t n = vrd_receive(ready, NULL, 0);

        if (n < 0)
            return complain("ready", (int)n);
    }
    return 0;
}

static int job_parse(struct job *job, int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "r:s:n:kH")) != -1) {
        if (option == 'r')
            job->readers = strtoul(optarg, NULL, 10);
        else if (option == 's')
            job->seconds = strtod(optarg, NULL);
        else if (option == 'n')
            job->records = strtoul(optarg, NULL, 10);
        else if (option == 'k')
            job->kill = 1;
        else if (option == 'H')
            job->huge_pages = VRD_PAGES_2_MIB;
        else
            return 1;
    }
    return optind < argc || job->readers < 1 || job->readers > READERS_MAX || job->records < 1 ||
           job->records > UINT32_MAX / 2 || !(job->seconds >= 0);
}

int main(int argc, char **argv)
{
    struct job job = { .readers = 2, .records = 65536, .seconds = 1 };
    vrd_cap_t send = VRD_CAP_NONE, results = VRD_CAP_NONE, ready = VRD_CAP_NONE;
    int err, status, failed;
    pid_t writer;

    if (job_parse(&job, argc, argv)) {
        fprintf(stderr, "usage: database [-r READERS] [-s SECONDS] [-n RECORDS] [-k] [-H]\n");
        return 2;
    }
    err = vrd_channel_create(READERS_MAX, &send, &results);
    if (err == 0)
        err = vrd_channel_create(READERS_MAX, &job.ready, &ready);
    if (err < 0)
        return complain("channel", err);
    writer = fork();
    if (writer < 0)
        return complain("fork", VRD_ERR_SYSTEM);
    if (writer == 0) {
        vrd_cap_close(results);
        vrd_cap_close(ready);
        _exit(writer_main(&job, send));
    }
    vrd_cap_close(send);
    vrd_cap_close(job.ready);
    failed = await_readers(&job, ready);
    if (job.kill) {
        const struct timespec half = { .tv_sec = (time_t)(job.seconds / 2),
                                       .tv_nsec = (long)(job.seconds / 2 * 1e9) % 1000000000 };

        nanosleep(&half, NULL);
        kill(writer, SIGKILL);
        printf("the writer is killed\n");
    }
    failed = failed || collect(&job, results);
    if (waitpid(writer, &status, 0) != writer || (!job.kill && status != 0))
        failed = 1;
    return failed;
}
