/* SPDX-License-Identifier: MIT */
/*
 * pipeline.c - moves a file through three programs, over channels and over pipes, and compares.
 *
 *   reader --> transformer --> writer
 *
 * The launcher makes the two connections and passes their ends to the programs as descriptors. The
 * transformer enciphers, the writer deciphers, and the launcher compares what was written with the
 * file, so that every run is checked byte by byte.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LATENCY_MESSAGES 5000
#define ROUNDS_MAX 99

static const char usage[] =
    "usage: pipeline [OPTION...] FILE\n"
    "Moves FILE from a reader through a transformer to a writer, three programs, over channels of\n"
    "libveridian-ipc and over pipe(2), checks what arrives, and prints both sets of figures.\n"
    "\n"
    "  -m, --message BYTES    size of a message, 24 of it header: a multiple of 8, from 32\n"
    "                         to 64 Mi (default 4096; 64 is good for messages a second)\n"
    "  -s, --slots N          messages that a connection holds (default 64); a pipe is as large\n"
    "                         as that, at least 64 KiB, at most what the system allows\n"
    "  -t, --transport NAME   veridian, pipe or both (default)\n"
    "  -p, --pass NAME        saturated, single, paced or all (default):\n"
    "                           saturated  the whole file, as fast as it goes\n"
    "                           single     5000 messages, one under way at a time\n"
    "                           paced      5000 messages, no faster than a rate\n"
    "  -r, --rounds N         times to do it all, 1 to 99 (default 3); medians are printed\n"
    "  -R, --rate N           messages a second of the paced pass (default 10000)\n"
    "  -o, --output FILE      keep here what the saturated pass wrote (default: keep nothing)\n"
    "  -v, --verbose          print the pids of the programs on stderr\n"
    "  -h, --help             print this\n"
    "\n"
    "Exit status: 0 all runs moved the file correctly, 1 something failed, 2 wrong usage.\n";

enum pass { PASS_PACED, PASS_SINGLE, PASS_SATURATED, N_PASSES };

static const char *const pass_names[N_PASSES] = { "paced", "single", "saturated" };

struct settings {
    struct job job; /* what all runs have in common */
    const char *path;
    const char *output_path;
    int scratch_fd;
    unsigned rounds;
    uint64_t rate;
    bool kinds[2];
    bool passes[N_PASSES];
};

/* ---- the command line -------------------------------------------------------------------------- */

_Noreturn static void misused(const char *why)
{
    fprintf(stderr, "pipeline: %s\nTry 'pipeline --help'.\n", why);
    exit(2);
}

_Noreturn static void failed(const char *path)
{
    fprintf(stderr, "pipeline: %s: %s\n", path, strerror(errno));
    exit(1);
}

static uint64_t number_parse(const char *text, uint64_t max, const char *complaint)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || end == text || *end || *text == '-' || number == 0 || number > max)
        misused(complaint);
    return number;
}

static void kinds_parse(struct settings *settings, const char *name)
{
    enum transport_kind kind;
    bool both = strcmp(name, "both") == 0;
    settings->kinds[TRANSPORT_VERIDIAN] = settings->kinds[TRANSPORT_PIPE] = both;
    if (both)
        return;
    if (transport_parse(name, &kind) < 0)
        misused("a transport is veridian, pipe or both");
    settings->kinds[kind] = true;
}

static void passes_parse(struct settings *settings, const char *name)
{
    bool known = false;
    for (enum pass pass = 0; pass < N_PASSES; pass++) {
        settings->passes[pass] = strcmp(name, "all") == 0 || strcmp(name, pass_names[pass]) == 0;
        known |= settings->passes[pass];
    }
    if (!known)
        misused("a pass is saturated, single, paced or all");
}

static void option_parse(struct settings *settings, int option)
{
    switch (option) {
    case 'm':
        settings->job.message_size =
            number_parse(optarg, MESSAGE_SIZE_MAX, "a message has 32 bytes to 64 Mi");
        break;
    case 's':
        settings->job.slots =
            number_parse(optarg, VRD_CHANNEL_SLOTS_MAX, "a connection has 1 to 1048576 slots");
        break;
    case 't':
        kinds_parse(settings, optarg);
        break;
    case 'p':
        passes_parse(settings, optarg);
        break;
    case 'r':
        settings->rounds = (unsigned)number_parse(optarg, ROUNDS_MAX, "1 to 99 rounds");
        break;
    case 'R':
        settings->rate = number_parse(optarg, 1000000, "a rate is 1 to 1000000 a second");
        break;
    case 'o':
        settings->output_path = optarg;
        break;
    case 'v':
        settings->job.verbose = true;
        break;
    case 'h':
        fputs(usage, stdout);
        exit(0);
    default:
        misused("unknown option, or an argument is missing");
    }
}

static void settings_parse(struct settings *settings, int argc, char **argv)
{
    static const struct option options[] = {
        { "message", required_argument, NULL, 'm' },
        { "slots", required_argument, NULL, 's' },
        { "transport", required_argument, NULL, 't' },
        { "pass", required_argument, NULL, 'p' },
        { "rounds", required_argument, NULL, 'r' },
        { "rate", required_argument, NULL, 'R' },
        { "output", required_argument, NULL, 'o' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };

    *settings = (struct settings){
        .job = { .message_size = 4096, .slots = 64 },
        .rounds = 3,
        .rate = 10000,
    };
    kinds_parse(settings, "both");
    passes_parse(settings, "all");

    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "m:s:t:p:r:R:o:vh", options, NULL)) != -1;)
        option_parse(settings, option);

    if (argc - optind != 1)
        misused("one file, please");
    if (!message_size_valid(settings->job.message_size))
        misused("a message has a multiple of 8 bytes, at least 32");
    if (settings->output_path && !settings->passes[PASS_SATURATED])
        misused("an output needs the saturated pass");
    settings->path = argv[optind];
}

/* ---- the files --------------------------------------------------------------------------------- */

/* A file without a name: nothing is left of it, whatever happens to this process. */
static int scratch_open(void)
{
    char path[4096];
    const char *folder = getenv("TMPDIR");
    if (!folder || !*folder)
        folder = "/tmp";
    snprintf(path, sizeof(path), "%s/pipeline.XXXXXX", folder);

    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        failed(path);
    unlink(path);
    return fd;
}

static void files_open(struct settings *settings)
{
    struct stat input, output;

    settings->job.input_fd = open(settings->path, O_RDONLY | O_CLOEXEC);
    if (settings->job.input_fd < 0 || fstat(settings->job.input_fd, &input) < 0)
        failed(settings->path);
    if (!S_ISREG(input.st_mode)) {
        fprintf(stderr, "pipeline: %s: not a regular file\n", settings->path);
        exit(1);
    }

    settings->scratch_fd = scratch_open();
    settings->job.output_fd = settings->scratch_fd;
    if (!settings->output_path)
        return;
    settings->job.output_fd = open(settings->output_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (settings->job.output_fd < 0 || fstat(settings->job.output_fd, &output) < 0)
        failed(settings->output_path);
    if (input.st_dev == output.st_dev && input.st_ino == output.st_ino) {
        fprintf(stderr, "pipeline: %s: input and output are one file\n", settings->output_path);
        exit(1);
    }
}

/* ---- the runs ---------------------------------------------------------------------------------- */

struct results {
    struct figures runs[N_PASSES][2][ROUNDS_MAX];
};

static struct job job_of(const struct settings *settings, enum pass pass, enum transport_kind kind)
{
    struct job job = settings->job;
    job.kind = kind;
    if (pass == PASS_SATURATED)
        return job;
    job.output_fd = settings->scratch_fd;
    job.limit = LATENCY_MESSAGES;
    job.closed_loop = pass == PASS_SINGLE;
    job.interval = pass == PASS_PACED ? 1000000000 / settings->rate : 0;
    return job;
}

/* Both transports take turns, so that what else the machine does meets both. */
static bool round_run(const struct settings *settings, struct results *results, unsigned round)
{
    for (enum pass pass = 0; pass < N_PASSES; pass++) {
        for (int turn = 0; turn < 2; turn++) {
            enum transport_kind kind = (round + (unsigned)turn) % 2;
            if (!settings->passes[pass] || !settings->kinds[kind])
                continue;
            const struct job job = job_of(settings, pass, kind);
            if (!job_run(&job, &results->runs[pass][kind][round])) {
                fprintf(stderr, "pipeline: the %s pass over %s failed\n", pass_names[pass],
                        transport_name(kind));
                return false;
            }
        }
    }
    return true;
}

/* ---- the table --------------------------------------------------------------------------------- */

static double messages_per_s(const struct figures *figures)
{
    return (double)figures->messages * 1e9 / (double)figures->elapsed_ns;
}

static double megabytes_per_s(const struct figures *figures)
{
    return (double)figures->bytes * 1e3 / (double)figures->elapsed_ns;
}

static double p50_us(const struct figures *figures)
{
    return (double)figures->p50_ns / 1e3;
}

static double p99_us(const struct figures *figures)
{
    return (double)figures->p99_ns / 1e3;
}

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The median over the rounds; below zero where there was nothing to measure. */
static double median(const struct figures *runs, unsigned rounds,
                     double (*figure)(const struct figures *))
{
    double values[ROUNDS_MAX];
    for (unsigned i = 0; i < rounds; i++) {
        if (runs[i].messages == 0)
            return -1;
        values[i] = figure(&runs[i]);
    }
    qsort(values, rounds, sizeof(values[0]), double_compare);
    return (values[(rounds - 1) / 2] + values[rounds / 2]) / 2;
}

static void value_print(double value, int decimals)
{
    if (value < 0)
        printf(" %13s", "-");
    else
        printf(" %13.*f", decimals, value);
}

/* `more` says that more is better. */
static void row_print(const struct settings *settings, const struct results *results,
                      enum pass pass, const char *name, double (*figure)(const struct figures *),
                      bool more)
{
    double values[2];
    printf("  %-18s", name);
    for (enum transport_kind kind = TRANSPORT_VERIDIAN; kind <= TRANSPORT_PIPE; kind++) {
        values[kind] = median(results->runs[pass][kind], settings->rounds, figure);
        value_print(values[kind], figure == messages_per_s ? 0 : 1);
    }
    double ours = values[TRANSPORT_VERIDIAN], theirs = values[TRANSPORT_PIPE];
    if (ours > 0 && theirs > 0)
        printf(" %9.2f x\n", more ? ours / theirs : theirs / ours);
    else
        printf(" %9s\n", "-");
}

static void table_print(const struct settings *settings, const struct results *results)
{
    struct stat input;
    uint64_t size = fstat(settings->job.input_fd, &input) == 0 ? (uint64_t)input.st_size : 0;

    printf("%s: %" PRIu64 " bytes in messages of %zu bytes (24 of them header), %zu slots\n",
           settings->path, size, settings->job.message_size, settings->job.slots);
    printf(
        "%u round%s, medians; what arrived was compared with the file after every run: equal\n\n",
        settings->rounds, settings->rounds == 1 ? "" : "s");
    printf("  %-18s %13s %13s %11s\n", "", "veridian", "pipe(2)", "gain");

    if (settings->passes[PASS_SATURATED]) {
        printf("saturated: as fast as it goes; latency is mostly waiting in line\n");
        row_print(settings, results, PASS_SATURATED, "messages/s", messages_per_s, true);
        row_print(settings, results, PASS_SATURATED, "MB/s", megabytes_per_s, true);
        row_print(settings, results, PASS_SATURATED, "p50 us", p50_us, false);
        row_print(settings, results, PASS_SATURATED, "p99 us", p99_us, false);
    }
    if (settings->passes[PASS_SINGLE]) {
        printf("single: one message under way at a time; latency is two hand-overs\n");
        row_print(settings, results, PASS_SINGLE, "p50 us", p50_us, false);
        row_print(settings, results, PASS_SINGLE, "p99 us", p99_us, false);
    }
    if (settings->passes[PASS_PACED]) {
        printf("paced: up to %" PRIu64
               " messages/s; latency is two hand-overs to programs that wait\n",
               settings->rate);
        row_print(settings, results, PASS_PACED, "p50 us", p50_us, false);
        row_print(settings, results, PASS_PACED, "p99 us", p99_us, false);
    }
    printf("\nLatency: from the reader's send to the writer's receive. Gain above 1: channels are"
           "\nbetter than pipes.\n");
}

int main(int argc, char **argv)
{
    static struct results results;
    struct settings settings;

    settings_parse(&settings, argc, argv);
    files_open(&settings);
    for (unsigned round = 0; round < settings.rounds; round++) {
        if (!round_run(&settings, &results, round))
            return 1;
    }
    table_print(&settings, &results);
    return fflush(stdout) == 0 ? 0 : 1;
}
