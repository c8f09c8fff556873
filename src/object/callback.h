/* SPDX-License-Identifier: MIT */
/*
 * callback.h - one of the application's functions is being called: so that taking it back can wait
 * until it is not. Before any pin or lock; a function that is being called may take itself back.
 */
#pragma once

void callback_begin(void);
void callback_end(void);

/* In a forked child: whoever called one may have stayed in the parent. */
void callback_after_fork(void);
