/* SPDX-License-Identifier: MIT */
/*
 * writer.c - the end of the pipeline: deciphers what arrives, writes it to a file, measures how long
 * each message took since the reader stamped it, and prints the figures as one line on stdout:
 *
 *   messages bytes elapsed_ns p50_ns p99_ns
 */
#include "cipher.h"
#include "histogram.h"
#include "stage.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* What the writer knows of the stream that it has seen so far. */
struct stream {
    uint64_t position;   /* bytes                                                   */
    uint64_t started_ns; /* stamp of the first message that is a piece of the file  */
    uint64_t elapsed_ns; /* from then to the arrival of the end                     */
    struct histogram latency;
};

static void answer_send(struct transport *answers)
{
    const struct message message = { .kind = MESSAGE_ANSWER };
    int err = transport_send(answers, &message);
    if (err < 0)
        stage_fail("cannot answer the reader", err);
}

static void piece_write(struct message *message, FILE *file)
{
    cipher_apply(message->position, message->data, message->length);
    if (fwrite(message->data, 1, message->length, file) != message->length)
        stage_fail("cannot write the file", VRD_ERR_SYSTEM);
}

/* Takes one message. Returns false for the end of the stream. */
static bool stream_advance(struct stream *stream, struct transport *in, struct transport *answers,
                           struct message *message, FILE *file)
{
    int err = transport_receive(in, message);
    uint64_t arrived_ns = now_ns();
    if (err < 0)
        stage_fail("cannot receive", err);
    if (message->answer)
        answer_send(answers);
    if (message->position != stream->position)
        stage_fail("a piece of the file is missing", VRD_ERR_INVALID_MESSAGE);

    if (message->kind == MESSAGE_END) {
        stream->elapsed_ns = stream->started_ns ? arrived_ns - stream->started_ns : 0;
        return false;
    }
    if (message->kind != MESSAGE_CIPHER)
        stage_fail("not from the transformer", VRD_ERR_INVALID_MESSAGE);
    if (message->length == 0)
        return true; /* the one that goes ahead */

    if (stream->started_ns == 0)
        stream->started_ns = message->stamp_ns;
    histogram_add(&stream->latency, arrived_ns - message->stamp_ns);
    piece_write(message, file);
    stream->position += message->length;
    return true;
}

int main(int argc, char **argv)
{
    static struct stream stream;
    struct stage_options options = stage_begin(argc, argv);
    struct message *message = stage_message_new(&options);
    struct transport in, answers;

    stage_open(&in, &options, options.in_fd, options.message_size);
    stage_open(&answers, &options, options.answer_fd, MESSAGE_HEADER);
    FILE *file = stage_file_open(&options, "w");

    while (stream_advance(&stream, &in, &answers, message, file))
        continue;
    if (fclose(file) != 0)
        stage_fail("cannot write the file", VRD_ERR_SYSTEM);

    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", stream.latency.count,
           stream.position, stream.elapsed_ns, histogram_quantile(&stream.latency, 500),
           histogram_quantile(&stream.latency, 990));

    transport_close(&in);
    transport_close(&answers);
    free(message);
    return 0;
}
