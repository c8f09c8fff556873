/* SPDX-License-Identifier: MIT */
/*
 * life.h - the processes at the other ends of links: one pidfd for each, however many links there are
 * with it. All under the control lock.
 */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/list.h"

struct account;
struct life;
struct link;
struct port;
struct source;

/* Part of whoever wants to know of the end. All zero: watches nothing. */
struct life_watch {
    struct list node; /* in the life's `watches` */
    struct life *life;
    struct port *port;
    struct link *link; /* of the receiver `port`; NULL: `port` is a sender, the process its owner */
};

/*
 * Tells `watch`, whose port and link are set, when the process ends. Takes `pidfd`, which was open before
 * anything else is asked about `pid`; also on failure. 0 or VRD_ERR_*.
 */
int life_watch(struct life_watch *watch, pid_t pid, int pidfd);

/* What is watched nowhere any more is let go of. */
void life_unwatch(struct life_watch *watch);

/* Is the process gone already, even if the reactor has not come to it? */
bool life_over(const struct life_watch *watch);

/* Charges the descriptor, once for each process. */
void life_bill(const struct life_watch *watch, struct account *account);

/* The process has ended. */
void life_source_ready(struct source *source);
