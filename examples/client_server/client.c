/* SPDX-License-Identifier: MIT */
/*
 * client.c - calls the server that is published under a name, once for each argument.
 *
 *   client NAME TEXT...
 */
#include <veridian/ipc.h>

#include <stdio.h>
#include <string.h>

#define SECOND INT64_C(1000000000)

static int complain(const char *what, int err)
{
    fprintf(stderr, "client: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: client NAME TEXT...\n");
        return 2;
    }

    /* The server may still be starting. */
    vrd_cap_t server;
    int err = vrd_connect(argv[1], 10 * SECOND, &server);
    if (err < 0)
        return complain(argv[1], err);

    for (int i = 2; i < argc; i++) {
        char reply[4096];
        ssize_t n = vrd_call(server, argv[i], strlen(argv[i]), reply, sizeof(reply), 5 * SECOND);
        if (n < 0)
            return complain("call", (int)n);
        printf("%.*s\n", (int)n, reply);
    }
    vrd_cap_close(server);
    return 0;
}
