/* SPDX-License-Identifier: MIT */
#include "support/support.h"

#include <stdio.h>

static size_t count_in(const char *path)
{
    FILE *file = fopen(path, "re");
    size_t n = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%zu", &n) != 1)
        n = 0;
    fclose(file);
    return n;
}

size_t support_huge_pages_free(void)
{
    return count_in("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
}

size_t support_node_pages_free(int node, size_t size)
{
    char path[128];

    snprintf(path, sizeof path,
             "/sys/devices/system/node/node%d/hugepages/hugepages-%zukB/free_hugepages", node,
             size >> 10);
    return count_in(path);
}
