/* SPDX-License-Identifier: MIT */
/*
 * server.c - an endpoint under a name: whoever connects may call it, and gets the text in capitals.
 *
 *   server NAME [CALLS]    ends after so many calls, else never
 */
#include <veridian/ipc.h>

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

static int complain(const char *what, int err)
{
    fprintf(stderr, "server: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

static void capitals(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        text[i] = (char)toupper((unsigned char)text[i]);
}

/* Answers one call, whoever it is from; what a client does wrong is no reason to stop. */
static int serve(vrd_cap_t endpoint)
{
    char text[4096];
    struct vrd_message request = { .data = text, .size = sizeof(text) };
    vrd_cap_t reply;

    int err = vrd_receive_call(endpoint, &request, &reply, VRD_FOREVER);
    if (err == VRD_ERR_MESSAGE_TOO_LARGE)
        return vrd_discard(endpoint);
    if (err < 0 || reply == VRD_CAP_NONE)
        return err;

    capitals(text, request.len);
    printf("%zu bytes for process %ld\n", request.len, (long)request.source.pid);
    vrd_reply(reply, text, request.len); /* an error is the client's end, not ours */
    return VRD_OK;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: server NAME [CALLS]\n");
        return 2;
    }
    long calls = argc > 2 ? strtol(argv[2], NULL, 10) : -1;

    uint64_t id;
    vrd_cap_t endpoint;
    int err = vrd_endpoint_create(&id, &endpoint);
    if (err < 0)
        return complain("endpoint", err);
    err = vrd_publish(endpoint, argv[1], NULL);
    if (err < 0)
        return complain(argv[1], err);

    while (calls != 0) {
        err = serve(endpoint);
        if (err < 0 && err != VRD_ERR_PEER_CORRUPT)
            return complain("receive", err);
        calls -= calls > 0 && err == VRD_OK;
    }
    vrd_unpublish(argv[1]);
    vrd_cap_close(endpoint);
    return 0;
}
