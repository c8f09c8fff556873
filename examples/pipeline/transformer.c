/* SPDX-License-Identifier: MIT */
/* transformer.c - the middle of the pipeline: enciphers what comes in and sends it on. */
#include "cipher.h"
#include "stage.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    struct stage_options options = stage_begin(argc, argv);
    struct message *message = stage_message_new(&options);
    struct transport in, out;

    stage_open(&in, &options, options.in_fd, options.message_size);
    stage_open(&out, &options, options.out_fd, options.message_size);

    do {
        int err = transport_receive(&in, message);
        if (err < 0)
            stage_fail("cannot receive", err);

        if (message->kind == MESSAGE_PLAIN) {
            cipher_apply(message->position, message->data, message->length);
            message->kind = MESSAGE_CIPHER;
        } else if (message->kind != MESSAGE_END) {
            stage_fail("cannot transform", VRD_ERR_INVALID_MESSAGE);
        }

        err = transport_send(&out, message);
        if (err < 0)
            stage_fail("cannot send", err);
    } while (message->kind != MESSAGE_END);

    transport_close(&in);
    transport_close(&out);
    free(message);
    return 0;
}
