/* SPDX-License-Identifier: MIT */
/* steps.h - what can happen next, beside calls. */
#ifndef PROPERTY_STEPS_H
#define PROPERTY_STEPS_H

#include "history.h"

void step_derive(struct history *h);
void step_export(struct history *h);
void step_import_void(struct history *h);
void step_import(struct history *h);

/* Somebody lets somebody else send. */
void step_share(struct history *h);
void step_withdraw(struct history *h);
void step_close(struct history *h);
uint32_t message_size(struct history *h);
void step_send(struct history *h);
void receive_one(struct history *h, struct channel *channel);
void step_create(struct history *h);
void step_receive(struct history *h);

/* Several processes send at once while the owner receives. */
void step_burst(struct history *h);
void step_revoke(struct history *h);

/* By the owner: everything that could send. */
void revoke_all(struct history *h, struct channel *channel);
void step_revoke_all(struct history *h);
void step_info(struct history *h);

/* A number from the past, or from nowhere. */
void step_forge(struct history *h);
void close_channel(struct history *h, struct channel *channel);
void step_close_channel(struct history *h);
void kill_one(struct history *h, uint32_t worker);
void step_kill(struct history *h);

#endif
