/* SPDX-License-Identifier: MIT */
/* calls.h - calls and their answers, several under way at once. */
#ifndef PROPERTY_CALLS_H
#define PROPERTY_CALLS_H

#include "history.h"

/* Several processes call at once. */
void step_calls(struct history *h);

#endif
