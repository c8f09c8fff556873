/* SPDX-License-Identifier: MIT */
#include "support/support.h"

#include <stdio.h>

size_t support_huge_pages_free(void)
{
    FILE *file = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");
    size_t n = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%zu", &n) != 1)
        n = 0;
    fclose(file);
    return n;
}
