/* SPDX-License-Identifier: MIT */
/*
 * turns.h - in which order a receiver reads its links: the active ones in turn, the silent ones when they
 * ring. All with the receiver's pin.
 */
#pragma once

struct link;
struct receiver;

/* Counts what was taken out of the budget since it was granted. */
void turns_count(struct receiver *rx);

/* The current link may be read that many times without a closer look. */
void turns_grant(struct receiver *rx);

/* `link` is active from now on, and comes after the others. */
void turns_join(struct receiver *rx, struct link *link);

/* The next link has its turn. */
void turns_next(struct receiver *rx);

/* `link` is not active any more. */
void turns_leave(struct receiver *rx, struct link *link);

/* A silent link is to ring its tether; it is looked at once more when a store must have arrived. */
void turns_cool(struct receiver *rx, struct link *link);

/* Looks at the cooled links whose time has come, oldest first. */
void turns_look_again(struct receiver *rx);
