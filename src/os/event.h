/* SPDX-License-Identifier: MIT */
/* event.h - descriptors that are readable because this process says so, now or at a point in time. */
#pragma once

#include <stdint.h>

/* Readable from event_set to event_clear. The descriptor, or -errno. */
int event_open(void);
void event_set(int fd);
void event_clear(int fd);

/* Readable from the time set last (of clock_now) to event_clear; not before a time was set. */
int event_open_timer(void);
void event_set_timer(int fd, int64_t when);
