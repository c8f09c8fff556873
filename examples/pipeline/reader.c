/* SPDX-License-Identifier: MIT */
/* reader.c - the first program of the pipeline: cuts a file into messages and sends them. */
#include "stage.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* Waits until `time_ns` on the monotonic clock. */
static void sleep_until(uint64_t time_ns)
{
    struct timespec t = {
        .tv_sec = (time_t)(time_ns / 1000000000),
        .tv_nsec = (long)(time_ns % 1000000000),
    };
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR)
        continue;
}

/* Sends the message, and waits for the writer's answer where it asks for one. */
static void message_send(struct transport *out, struct transport *answers, struct message *message)
{
    message->stamp_ns = now_ns();
    int err = transport_send(out, message);
    if (err < 0)
        stage_fail("cannot send", err);

    struct message answer;
    if (message->answer && (err = transport_receive(answers, &answer)) < 0)
        stage_fail("cannot hear from the writer", err);
}

/* Sends the file from its first byte to its last, or as much of it as the options say. */
static void file_send(const struct stage_options *options, FILE *file, struct transport *out,
                      struct transport *answers, struct message *message)
{
    size_t room = options->message_size - MESSAGE_HEADER;

    for (uint64_t sent = 0; options->limit == 0 || sent < options->limit; sent++) {
        size_t length = fread(message->data, 1, room, file);
        if (length == 0)
            break;
        if (options->interval)
            sleep_until(message->stamp_ns + options->interval);
        message->length = (uint32_t)length;
        message->answer = options->closed_loop;
        message_send(out, answers, message);
        message->position += length;
    }
    if (ferror(file))
        stage_fail("cannot read the file", VRD_ERR_SYSTEM);
}

int main(int argc, char **argv)
{
    struct stage_options options = stage_begin(argc, argv);
    struct message *message = stage_message_new(&options);
    struct transport out, answers;

    stage_open(&out, &options, options.out_fd, options.message_size);
    stage_open(&answers, &options, options.answer_fd, MESSAGE_HEADER);
    FILE *file = stage_file_open(&options, "r");

    /* An empty message goes ahead: once it is answered, all three programs are up and running. */
    message->kind = MESSAGE_PLAIN;
    message->answer = 1;
    message_send(&out, &answers, message);

    file_send(&options, file, &out, &answers, message);

    message->kind = MESSAGE_END;
    message->length = 0;
    message->answer = 0;
    message_send(&out, &answers, message);

    transport_close(&out);
    transport_close(&answers);
    fclose(file);
    free(message);
    return 0;
}
