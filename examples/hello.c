/* SPDX-License-Identifier: MIT */
/* hello.c - a channel, a child that sends, a parent that receives. */
#include <veridian/ipc.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int complain(const char *what, int err)
{
    fprintf(stderr, "hello: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

static int child_main(vrd_cap_t send)
{
    const char greeting[] = "Hello from the other process";
    int err = vrd_send(send, greeting, strlen(greeting));
    return err < 0 ? complain("send", err) : 0;
}

static int parent_main(vrd_cap_t receive)
{
    char text[64];
    ssize_t length;

    while ((length = vrd_receive(receive, text, sizeof(text))) >= 0)
        printf("%.*s\n", (int)length, text);

    /* The end of a channel is the same for one that was closed and one whose sender died. */
    return length == VRD_ERR_PEER_GONE ? 0 : complain("receive", (int)length);
}

int main(void)
{
    vrd_cap_t send, receive;
    int err = vrd_channel_create(VRD_CHANNEL_SLOTS_DEFAULT, &send, &receive);
    if (err < 0)
        return complain("channel", err);

    pid_t child = fork();
    if (child < 0)
        return complain("fork", VRD_ERR_SYSTEM);

    /* As with a pipe: each process closes the end that it does not use. */
    if (child == 0) {
        vrd_cap_close(receive);
        return child_main(send);
    }
    vrd_cap_close(send);
    int failed = parent_main(receive);
    vrd_cap_close(receive);

    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? failed : 1;
}
