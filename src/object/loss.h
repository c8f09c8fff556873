/* SPDX-License-Identifier: MIT */
/*
 * loss.h - what this process has lost, and why, until somebody asks. All with the control lock held.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <veridian/capability.h>

struct port;

#define LOSSES_MAX 1024 /* remembered; of more, the oldest are forgotten and counted */

/* What a notice's cause (enum notice_cause) means for whoever is told. */
enum vrd_loss loss_of_cause(uint8_t cause);

/* Does it say that the right was taken back, by whomever? */
bool loss_is_revocation(uint16_t cause);

/* The capability is lost for good. Only the first time counts. */
void loss_note(struct port *port, enum vrd_loss loss);

/* Takes up to `n`, oldest first. How many? */
size_t loss_take(struct vrd_notice *ret, size_t n);

/* In a forked child: what was lost was the parent's. */
void loss_after_fork(void);
