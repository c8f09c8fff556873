/* SPDX-License-Identifier: MIT */
/* tasks.h - how many threads this process has. */
#ifndef PROCESS_TASKS_H
#define PROCESS_TASKS_H

#include "support/support.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

/* Is it the library's own? */
static inline bool task_is_ours(const char *task)
{
    char path[300], name[32] = "";
    FILE *file;

    snprintf(path, sizeof path, "/proc/self/task/%s/comm", task);
    file = fopen(path, "re");
    if (file && !fgets(name, sizeof name, file))
        name[0] = '\0';
    if (file)
        fclose(file);
    return strcmp(name, "veridian\n") == 0;
}

/* All threads; under a sanitizer, which has some of its own, the first one and the library's. */
static inline int tasks_count(void)
{
    DIR *tasks = opendir("/proc/self/task");
    const struct dirent *entry;
    int all = 0, ours = 0;

    support_require(tasks != NULL);
    while ((entry = readdir(tasks))) {
        if (entry->d_name[0] == '.')
            continue;
        all++;
        ours += task_is_ours(entry->d_name);
    }
    closedir(tasks);
    return support_slowdown() > 1 ? 1 + ours : all;
}

#endif
