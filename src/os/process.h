/* SPDX-License-Identifier: MIT */
/* process.h - this process and others. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

pid_t process_self(void);

/* The user in whose name this process acts. */
uid_t process_user(void);

/* The machine's memory, in bytes. */
uint64_t process_memory_limit(void);

/* Zeroed memory, in whole pages, that a forked child finds zeroed again. NULL: none left. */
void *process_wiped_memory(size_t size);

/*
 * Registers this process for process_barrier(). Cheap while there is one thread. False: the kernel
 * does not offer it.
 */
bool process_barrier_register(void);

/* Every other thread of this process executes a full memory barrier before this returns. */
void process_barrier(void);

/* A descriptor that becomes readable when `pid` exits, or -errno. */
int process_open(pid_t pid);

/* Lets some time pass, in ns below a second. */
void process_pause(long ns);

/*
 * Starts a thread, detached, with all signals blocked and a name. Returns 0 or -errno.
 */
int process_thread(void *(*run)(void *), const char *name);
