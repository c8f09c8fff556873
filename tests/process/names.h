/* SPDX-License-Identifier: MIT */
/* names.h - what the tests of names share. */
#ifndef PROCESS_NAMES_H
#define PROCESS_NAMES_H

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "process/channels.h"

static inline void path_of(const char *name, char path[108])
{
    snprintf(path, 108, "%s/%s", support_runtime_dir(), name);
}

/* A visitor without the library. */
static inline int bare_connect(const char *name)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    path_of(name, address.sun_path);
    support_require(fd >= 0);
    EXPECT(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

#endif
