/* SPDX-License-Identifier: MIT */
/* frames.c - pictures of 8 MiB that are never copied: drawn in place, looked at in place. */
#include <veridian/ipc.h>

#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FRAME ((size_t)8 << 20)
#define FRAMES 100

static int complain(const char *what, int err)
{
    fprintf(stderr, "frames: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

static int camera_main(vrd_cap_t send)
{
    struct vrd_loan loan;

    for (uint32_t i = 0; i < FRAMES; i++) {
        int err = vrd_loan(send, FRAME, &loan); /* waits while all there may be are looked at */
        if (err < 0)
            return complain("loan", err);
        memset(loan.data, (int)i, FRAME);
        loan.opcode = i;
        err = vrd_loan_send(&loan, VRD_FOREVER);
        if (err < 0)
            return complain("send", err);
    }
    return 0;
}

static int screen_main(vrd_cap_t receive)
{
    struct vrd_view now, before = { 0 };
    unsigned good = 0;
    int err;

    /* The last frame is kept to compare with: views are released when and in which order one likes. */
    while ((err = vrd_receive_view(receive, &now, VRD_FOREVER)) == 0) {
        const unsigned char *pixels = now.data, *last = before.data;

        good += pixels[0] == now.opcode && pixels[FRAME - 1] == now.opcode &&
                (!last || last[0] + 1 == pixels[0]);
        if (last)
            vrd_view_release(&before);
        before = now;
    }
    if (before.data)
        vrd_view_release(&before);
    printf("%u frames of %zu MiB\n", good, FRAME >> 20);
    return err == VRD_ERR_PEER_GONE ? 0 : complain("receive", err);
}

int main(void)
{
    const struct vrd_channel_options options = { .max_message_size = FRAME,
                                                 .max_bytes = 4 * FRAME };
    vrd_cap_t send, receive;
    int err = vrd_channel_create_with(&options, &send, &receive);
    if (err < 0)
        return complain("channel", err);

    pid_t child = fork();
    if (child < 0)
        return complain("fork", VRD_ERR_SYSTEM);
    if (child == 0) {
        vrd_cap_close(receive);
        return camera_main(send);
    }
    vrd_cap_close(send);
    int failed = screen_main(receive);
    vrd_cap_close(receive);

    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? failed : 1;
}
