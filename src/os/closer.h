/* SPDX-License-Identifier: MIT */
/*
 * closer.h - closes what somebody else may keep us waiting for: the last `close` of a file whose file system
 * is a program (FUSE) returns when that program answers, and no signal ends the wait. A thread of its own
 * waits, for one descriptor after the other, and is there only as long as there is one.
 */
#pragma once

/* Closes *fd, some time, and sets it to -1. Any thread, with any locks. */
void closer_take(int *fd);

/* In a forked child, which does not have the thread: what it has inherited stays open until exec. */
void closer_after_fork(void);
