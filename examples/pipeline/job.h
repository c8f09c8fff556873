/* SPDX-License-Identifier: MIT */
/* job.h - one run of the pipeline: three programs, two connections, one file. */
#pragma once

#include "transport.h"

struct job {
    enum transport_kind kind;
    size_t message_size; /* bytes, header included                                */
    size_t slots;        /* messages that a connection holds                      */
    int input_fd;        /* a regular file                                        */
    int output_fd;       /* a regular file, open for reading and writing          */
    uint64_t limit;      /* messages; 0: the whole file                           */
    uint64_t interval;   /* ns between two messages; 0: none                      */
    bool closed_loop;    /* one message under way at a time                       */
    bool verbose;        /* print the pid of each program                         */
};

struct figures {
    uint64_t messages;
    uint64_t bytes;
    uint64_t elapsed_ns; /* from the first message's stamp to the arrival of the end */
    uint64_t p50_ns;
    uint64_t p99_ns;
};

/*
 * Runs the pipeline, waits for its programs, and compares the output with the input byte by byte.
 * Returns false when a program failed or the output is wrong, having said so on stderr.
 */
bool job_run(const struct job *job, struct figures *ret);
