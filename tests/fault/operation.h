/* SPDX-License-Identifier: MIT */
/* operation.h - operations that something goes wrong in, and what must hold afterwards. */
#ifndef FAULT_OPERATION_H
#define FAULT_OPERATION_H

#include <stdbool.h>
#include <stdint.h>
#include <veridian/ipc.h>

#include "support/support.h"

#define OPERATION_BIG ((size_t)100 << 10)

struct operation_state {
    vrd_cap_t send, receive, imported; /* VRD_CAP_NONE where there is none */
    int invitation;                    /* or -1                            */
    uint8_t data[OPERATION_BIG];
};

struct operation {
    const char *name;
    void (*prepare)(struct operation_state *state); /* nothing goes wrong yet; may be NULL */
    int (*run)(struct operation_state *state);      /* >= 0 or VRD_ERR_*                   */
};

extern const struct operation operations[]; /* ends with an all-zero entry */

/* How a fault is armed before an operation and disarmed after it. */
struct operation_fault {
    void (*arm)(void *arg);
    void (*disarm)(void *arg);
    void *arg;
    bool first; /* take `left` as what remains of a run without faults, else hold it against it */
    struct support_snapshot *left;
};

/* In a process of its own: the operation under the fault, once more without it, and then: each
 * result is a success or a clear error, everything can be closed, a new channel works, and nothing
 * is left that a run without faults does not leave. */
void operation_check(const struct operation *operation, const struct operation_fault *fault);

#endif
