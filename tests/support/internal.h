/* SPDX-License-Identifier: MIT */
/* What the files of the harness share with each other and tests need not see. */
#ifndef SUPPORT_INTERNAL_H
#define SUPPORT_INTERNAL_H

#include <stdbool.h>
#include <sys/types.h>

/* Starts the watchdog of this process group; call before any thread exists. */
void watchdog_start(void);
void watchdog_arm(const char *test, unsigned timeout_s);
void watchdog_disarm(void);

/* Puts huge pages into the machine's pools until this program ends, if it may; before any thread exists. */
void pools_fill(void);

/* From here on a failed assertion ends this process: cmocka's runner belongs to the parent. */
void failure_ends_process(void);

/* The thread in which a failed requirement may return to cmocka's runner. */
void failure_runner_is_this_thread(void);

/* True if no child, dead or alive, was left; otherwise names, kills and reaps them. */
bool children_none_left(void);

/* True: in a process of its own session, forked twice: the program has no child that it did not start. */
bool fork_apart(void);

/* Removes the test's runtime directory; true if it was empty or never made. */
bool runtime_dir_remove(void);

/* Without one, nothing can be published. */
void runtime_dir_none(void);

/* Runs the role this execution was started for and returns its exit code. */
struct support_role;
int role_run(const struct support_role *roles, int argc, char **argv);
bool role_wanted(int argc, char **argv);

#endif
