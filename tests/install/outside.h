/* SPDX-License-Identifier: MIT */
/* What an outside program does with an installed library; included by one C11 and one C++17 file. */
#include <veridian/ipc.h>

#include <stdio.h>
#include <string.h>

static int outside_main(void)
{
    static const char text[] = "from outside";
    char buf[64];
    vrd_cap_t send, receive;

    int error = vrd_channel_create(16, &send, &receive);
    if (error == 0)
        error = vrd_send(send, text, sizeof text);
    if (error == 0 && vrd_receive(receive, buf, sizeof buf) != (ssize_t)sizeof text)
        error = VRD_ERR_INVALID_MESSAGE;
    if (error == 0)
        error = vrd_cap_close(send);
    if (error == 0)
        error = vrd_cap_close(receive);
    if (error != 0) {
        fprintf(stderr, "%s\n", vrd_strerror(error));
        return 1;
    }
    printf("%s %s\n", vrd_version(), buf);
    return strcmp(buf, text) == 0 ? 0 : 1;
}
