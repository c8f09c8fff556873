/* SPDX-License-Identifier: MIT */
/*
 * producer_consumer.c - an asynchronous pipeline of two processes.
 *
 *   producer --numbers--> consumer --squares--> producer
 *
 * The producer never waits in a call: it sends what there is room for, takes the squares that have
 * come back, and lets others run when it can do neither. The consumer has nothing else to do and
 * waits for its input, in batches.
 */
#include <veridian/ipc.h>

#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NUMBERS UINT64_C(200000)
#define SLOTS 1000
#define BATCH 32

static int complain(const char *what, int err)
{
    fprintf(stderr, "producer_consumer: %s: %s\n", what, vrd_strerror(err));
    return 1;
}

/* ---- the consumer ------------------------------------------------------------------------------ */

/* Sends all of `messages`: a batch ends early when the channel is full. */
static int batch_send(vrd_cap_t output, const struct vrd_message *messages, size_t n)
{
    while (n > 0) {
        int sent = vrd_send_batch(output, messages, n, VRD_FOREVER);
        if (sent < 0)
            return sent;
        messages += sent;
        n -= (size_t)sent;
    }
    return VRD_OK;
}

static int consumer_main(vrd_cap_t input, vrd_cap_t output)
{
    uint64_t numbers[BATCH];
    struct vrd_message messages[BATCH];

    for (;;) {
        for (size_t i = 0; i < BATCH; i++)
            messages[i] = (struct vrd_message){ .data = &numbers[i], .size = sizeof(numbers[i]) };

        int n = vrd_receive_batch(input, messages, BATCH, VRD_FOREVER);
        if (n == VRD_ERR_PEER_GONE)
            return 0; /* the producer has closed its end, and all that it sent was received */
        if (n < 0)
            return complain("consumer: receive", n);

        for (int i = 0; i < n; i++) {
            numbers[i] *= numbers[i];
            messages[i] = (struct vrd_message){ .data = &numbers[i], .len = sizeof(numbers[i]) };
        }
        int err = batch_send(output, messages, (size_t)n);
        if (err < 0)
            return complain("consumer: send", err);
    }
}

/* ---- the producer ------------------------------------------------------------------------------ */

struct progress {
    uint64_t sent;
    uint64_t received;
    uint64_t sum;
};

/* Sends numbers until the channel is full. */
static int numbers_send(vrd_cap_t input, struct progress *progress)
{
    while (progress->sent < NUMBERS) {
        int err = vrd_send_async(input, &progress->sent, sizeof(progress->sent));
        if (err < 0)
            return err == VRD_ERR_CHANNEL_FULL ? VRD_OK : err;
        progress->sent++;
    }
    return VRD_OK;
}

/* Takes squares until the channel is empty. */
static int squares_receive(vrd_cap_t output, struct progress *progress)
{
    uint64_t square;
    while (progress->received < NUMBERS) {
        ssize_t n = vrd_receive_async(output, &square, sizeof(square));
        if (n < 0)
            return n == VRD_ERR_CHANNEL_EMPTY ? VRD_OK : (int)n;
        progress->received++;
        progress->sum += square;
    }
    return VRD_OK;
}

static int producer_main(vrd_cap_t input, vrd_cap_t output)
{
    struct progress progress = { 0 };

    while (progress.received < NUMBERS) {
        uint64_t before = progress.sent + progress.received;
        int err = numbers_send(input, &progress);
        if (err < 0)
            return complain("producer: send", err);
        err = squares_receive(output, &progress);
        if (err < 0)
            return complain("producer: receive", err);
        if (progress.sent + progress.received == before)
            sched_yield();
    }

    const uint64_t n = NUMBERS - 1;
    bool right = progress.sum == n * (n + 1) * (2 * n + 1) / 6;
    printf("%" PRIu64 " squares, sum %" PRIu64 ", %s\n", progress.received, progress.sum,
           right ? "as it should be" : "which is WRONG");
    return right ? 0 : 1;
}

int main(void)
{
    vrd_cap_t input_send = VRD_CAP_NONE, input_receive = VRD_CAP_NONE;
    vrd_cap_t output_send = VRD_CAP_NONE, output_receive = VRD_CAP_NONE;

    int err = vrd_async_channel_create(SLOTS, &input_send, &input_receive);
    if (err == VRD_OK)
        err = vrd_async_channel_create(SLOTS, &output_send, &output_receive);
    if (err < 0)
        return complain("channel", err);

    pid_t child = fork();
    if (child < 0)
        return complain("fork", VRD_ERR_SYSTEM);

    /* As with pipes: each process closes the ends that it does not use. */
    if (child == 0) {
        vrd_cap_close(input_send);
        vrd_cap_close(output_receive);
        return consumer_main(input_receive, output_send);
    }
    vrd_cap_close(input_receive);
    vrd_cap_close(output_send);
    int failed = producer_main(input_send, output_receive);
    vrd_cap_close(input_send);
    vrd_cap_close(output_receive);

    int status;
    return waitpid(child, &status, 0) == child && status == 0 ? failed : 1;
}
