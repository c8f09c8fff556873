/* SPDX-License-Identifier: MIT */
/* stage.h - what the reader, the transformer and the writer have in common. */
#pragma once

#include "message.h"
#include "transport.h"

#include <stdio.h>

struct stage_options {
    enum transport_kind kind;
    size_t message_size; /* bytes, header included                              */
    int in_fd;           /* where messages come from; -1: not given              */
    int out_fd;          /* where messages go to                                 */
    int answer_fd;       /* the way back from the writer to the reader           */
    int file_fd;         /* the file to read, or to write                        */
    uint64_t limit;      /* messages; 0: the whole file                          */
    uint64_t interval;   /* ns between two messages; 0: none                     */
    bool closed_loop;    /* one message under way at a time                       */
};

/* Also makes a broken pipe an error of write(2) instead of a signal. Exits when it is misused. */
struct stage_options stage_begin(int argc, char **argv);

/* Opens one end, or exits. */
void stage_open(struct transport *transport, const struct stage_options *options, int fd,
                size_t message_size);

/* A zeroed message of the size in the options, or exits. */
struct message *stage_message_new(const struct stage_options *options);

/* The file of the options as a stream with a large buffer, for this thread only; or exits. */
FILE *stage_file_open(const struct stage_options *options, const char *mode);

/* Says what failed on stderr, `err` as vrd_strerror tells it, and exits with 1. */
_Noreturn void stage_fail(const char *what, int err);
