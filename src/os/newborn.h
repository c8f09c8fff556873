/* SPDX-License-Identifier: MIT */
/*
 * newborn.h - memory that is being made. Until it is kept from fork and sealed, a child that is forked would
 * have a writable mapping of it, or a descriptor to make one with, for as long as it lives. So fork waits.
 */
#pragma once

/* Around making it: no child is forked meanwhile. Many threads at a time; takes no other lock of ours inside. */
void newborn_begin(void);
void newborn_end(void);

/*
 * Around fork: waits until none is being made, and lets none begin until newborn_resume, which parent and
 * child both call. One thread at a time.
 */
void newborn_await(void);
void newborn_resume(void);

/* In a child whose fork may have called neither, and where nobody else is. */
void newborn_after_fork(void);
