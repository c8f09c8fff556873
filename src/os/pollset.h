/* SPDX-License-Identifier: MIT */
/* pollset.h - waiting for many descriptors, level-triggered. Any thread, at any time. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum pollset_events { POLLSET_IN = 1, POLLSET_OUT = 2, POLLSET_HANGUP = 4 };

struct pollset_event {
    uint64_t token;
    unsigned events;
};

/* A descriptor, readable while something is to be collected, or -errno. */
int pollset_open(void);

/* HANGUP is always told. 0 or -errno: -EEXIST, -EPERM for a file of a kind that is always ready. */
int pollset_add(int set, int fd, unsigned events, uint64_t token);
int pollset_remove(int set, int fd);

/* What is ready now? How many, or -errno. */
int pollset_collect(int set, struct pollset_event *events, size_t max);
