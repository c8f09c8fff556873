/* SPDX-License-Identifier: MIT */
/* What a process holds, before a test and after it. */
#include "support/internal.h"
#include "support/support.h"

#include <dirent.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRACE_MS 2000
#define LOOK_EVERY_MS 10

#define RING "anon_inode:[io_uring]"
#define RING_MAPPINGS 2

static char runtime_dir[64];
static _Thread_local size_t rings; /* seen by counts_fd */

/* The number of entries that count; with report, also lists them on stderr. */
static size_t count_entries(const char *path, bool (*counts)(const char *path, const char *name),
                            bool report)
{
    size_t n = 0;
    struct dirent *entry;
    DIR *directory = opendir(path);

    if (!directory)
        return 0;
    char own_fd[16];
    snprintf(own_fd, sizeof own_fd, "%d", dirfd(directory));
    while ((entry = readdir(directory))) {
        if (entry->d_name[0] == '.' || !counts(path, entry->d_name))
            continue;
        if (strcmp(path, "/proc/self/fd") == 0 && strcmp(entry->d_name, own_fd) == 0)
            continue;
        n++;
        if (report) {
            char file[PATH_MAX], target[PATH_MAX];
            snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
            const ssize_t length = readlink(file, target, sizeof target - 1);
            target[length > 0 ? length : 0] = '\0';
            fprintf(stderr, "    %s %s\n", file, target);
        }
    }
    closedir(directory);
    return n;
}

static bool is_ring(const char *path, const char *name)
{
    char file[PATH_MAX], target[sizeof RING] = "";

    snprintf(file, sizeof file, "%s/%s", path, name);
    return readlink(file, target, sizeof target - 1) > 0 && strcmp(target, RING) == 0;
}

/* The thread of the library opens a ring in its own time, and keeps it. A second one counts. */
static bool counts_fd(const char *path, const char *name)
{
    return !is_ring(path, name) || ++rings > 1;
}

/* The kernel's io_uring workers come and go on their own and are nobody's to join. */
static bool counts_thread(const char *path, const char *name)
{
    char file[PATH_MAX], comm[32] = "";

    snprintf(file, sizeof file, "%s/%s/comm", path, name);
    FILE *stream = fopen(file, "re");
    if (!stream)
        return false;
    const bool read = fgets(comm, sizeof comm, stream) != NULL;
    fclose(stream);
    return read && strncmp(comm, "iou-", 4) != 0;
}

/* Names that end in a pid are its files: of a test that runs beside this one, in a group of its own? */
static bool of_another_test(const char *name)
{
    const char *dot = strrchr(name, '.');
    const pid_t pid = dot ? (pid_t)strtol(dot + 1, NULL, 10) : 0;
    const pid_t group = pid > 0 ? getpgid(pid) : -1;

    return group > 0 && group != getpgrp();
}

/* /tmp and /dev/shm belong to the whole machine: only files that the library could have made here. */
static bool counts_ours(const char *path, const char *name)
{
    char file[PATH_MAX];
    struct stat status;

    if ((strncmp(name, "vrd", 3) != 0 && strncmp(name, "veridian", 8) != 0) ||
        of_another_test(name))
        return false;
    snprintf(file, sizeof file, "%s/%s", path, name);
    return lstat(file, &status) == 0 && !S_ISDIR(status.st_mode) && status.st_uid == geteuid();
}

static size_t count_mappings(bool report)
{
    size_t n = 0, of_ring = 0;
    char line[PATH_MAX + 128];
    FILE *maps = fopen("/proc/self/maps", "re");

    if (!maps)
        return 0;
    while (fgets(line, sizeof line, maps)) {
        char permissions[5];

        if (sscanf(line, "%*s %4s", permissions) != 1 || permissions[3] != 's')
            continue;
        if (strstr(line, RING) && ++of_ring <= RING_MAPPINGS)
            continue;
        n++;
        if (report)
            fprintf(stderr, "    %s", line);
    }
    fclose(maps);
    return n;
}

static size_t count_fds(bool report)
{
    rings = 0;
    return count_entries("/proc/self/fd", counts_fd, report);
}

size_t support_count_fds(void)
{
    return count_fds(false);
}

void support_await_fds(size_t n)
{
    for (int tries = 0; support_count_fds() != n && tries < 500; tries++)
        support_sleep_ms(10);
    support_require_equal(support_count_fds(), n);
}

size_t support_count_rings(void)
{
    return count_entries("/proc/self/fd", is_ring, false);
}

static size_t count_files(bool report)
{
    return count_entries("/dev/shm", counts_ours, report) +
           count_entries("/tmp", counts_ours, report);
}

void support_snapshot_take(struct support_snapshot *ret)
{
    ret->fds = support_count_fds();
    ret->mappings = count_mappings(false);
    ret->threads = count_entries("/proc/self/task", counts_thread, false);
    ret->files = count_files(false);
}

static bool snapshot_grew(const struct support_snapshot *before, const struct support_snapshot *now)
{
    return now->fds > before->fds || now->mappings > before->mappings ||
           now->threads > before->threads || now->files > before->files;
}

bool support_snapshot_holds(const struct support_snapshot *before)
{
    struct support_snapshot now;

    support_snapshot_take(&now);
    for (unsigned waited = 0; snapshot_grew(before, &now); waited += LOOK_EVERY_MS) {
        if (waited >= GRACE_MS)
            break;
        support_sleep_ms(LOOK_EVERY_MS);
        support_snapshot_take(&now);
    }
    if (!snapshot_grew(before, &now))
        return true;

    fprintf(stderr, "support: something was left behind\n");
    fprintf(stderr, "  descriptors: %zu before, %zu now\n", before->fds, now.fds);
    if (now.fds > before->fds)
        count_fds(true);
    fprintf(stderr, "  shared mappings: %zu before, %zu now\n", before->mappings, now.mappings);
    if (now.mappings > before->mappings)
        count_mappings(true);
    fprintf(stderr, "  threads: %zu before, %zu now\n", before->threads, now.threads);
    fprintf(stderr, "  files: %zu before, %zu now\n", before->files, now.files);
    if (now.files > before->files)
        count_files(true);
    return false;
}

const char *support_runtime_dir(void)
{
    if (runtime_dir[0])
        return runtime_dir;
    snprintf(runtime_dir, sizeof runtime_dir, "/tmp/support-XXXXXX");
    support_require(mkdtemp(runtime_dir) != NULL);
    support_require(setenv("VERIDIAN_RUNTIME_DIR", runtime_dir, 1) == 0);
    return runtime_dir;
}

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *where)
{
    (void)status;
    (void)kind;
    if (where->level > 0)
        fprintf(stderr, "support: left in the runtime directory: %s\n", path);
    return remove(path);
}

/* The usual one is the machine's: programs that run at a time would meet there. This cannot be made. */
void runtime_dir_none(void)
{
    setenv("VERIDIAN_RUNTIME_DIR", "/proc/support-has-none", 1);
}

bool runtime_dir_remove(void)
{
    if (!runtime_dir[0])
        return true;
    const bool empty = rmdir(runtime_dir) == 0;
    if (!empty)
        nftw(runtime_dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    runtime_dir_none();
    runtime_dir[0] = '\0';
    return empty;
}
