/* SPDX-License-Identifier: MIT */
/*
 * No system call where nobody sleeps: after some messages the kernel is told to kill the process at
 * its next call but exit, and then it sends and receives many.
 *
 * ctest: no-asan no-tsan
 */
#include "process/channels.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define MESSAGES 10000

/* For the calling thread, for good. */
static void forbid_system_calls(void)
{
    struct sock_filter program[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    const struct sock_fprog filter = { sizeof program / sizeof program[0], program };

    EXPECT(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    EXPECT(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
}

/* ---- the filter itself --------------------------------------------------------------------------- */

static int call_the_kernel(void *arg)
{
    (void)arg;
    forbid_system_calls();
    return syscall(SYS_getppid) > 0;
}

static void test_the_filter_kills(void **state)
{
    (void)state;
    support_wait_signal(support_child(call_the_kernel, NULL), SIGSYS);
}

/* A process that has never slept has no thread of the library's to listen for new senders, and looks
 * itself now and then. One that has slept leaves that to the thread. */
static void sleep_once(vrd_cap_t receive)
{
    EXPECT(vrd_receive_timed(receive, NULL, 0, 30 * MS), VRD_ERR_TIMEOUT);
}

/* ---- in one process -------------------------------------------------------------------------------- */

static int pass_messages(const struct ends *ends, size_t len, uint32_t n)
{
    uint8_t data[NUMBERED_MAX] = { 0 }, got[NUMBERED_MAX];

    for (uint32_t i = 0; i < n; i++) {
        memcpy(data, &i, sizeof i);
        if (vrd_send(ends->send, data, len) != 0)
            return 1;
        if (vrd_receive(ends->receive, got, sizeof got) != (ssize_t)len)
            return 2;
        if (memcmp(data, got, len) != 0)
            return 3;
    }
    return 0;
}

struct passing {
    struct ends ends;
    size_t len;
};

static int pass_without_calls(void *arg)
{
    const struct passing *passing = arg;

    sleep_once(passing->ends.receive);
    EXPECT(pass_messages(&passing->ends, passing->len, 200), 0);
    forbid_system_calls();
    _exit(pass_messages(&passing->ends, passing->len, MESSAGES));
}

static void test_one_process(void **state)
{
    static const size_t sizes[] = { 4, 56, 64, 65, 1000, 4096 };

    (void)state;
    for (size_t i = 0; i < 6; i++) {
        struct passing passing = { ends_new(16), sizes[i] };

        support_wait_exit(support_child(pass_without_calls, &passing), 0);
        ends_close(&passing.ends);
    }
}

static int fill_and_drain(const struct ends *ends, uint32_t rounds)
{
    char byte = 1;
    struct vrd_message messages[16];

    memset(messages, 0, sizeof messages);
    for (size_t i = 0; i < 16; i++)
        messages[i] = (struct vrd_message){ .data = &byte, .len = 1, .size = 1, .opcode = 5 };
    for (uint32_t i = 0; i < rounds; i++) {
        if (vrd_send_batch(ends->send, messages, 16, 0) != 16)
            return 1;
        if (vrd_receive_batch(ends->receive, messages, 16, 0) != 16)
            return 2;
        if (vrd_send_message(ends->send, messages, 0) != 0)
            return 3;
        if (vrd_receive_message(ends->receive, messages, 0) != 0)
            return 4;
        if (vrd_send_async(ends->send, &byte, 1) != 0)
            return 5;
        if (vrd_receive_async(ends->receive, &byte, 1) != 1)
            return 6;
    }
    return 0;
}

static int batch_without_calls(void *arg)
{
    const struct passing *passing = arg;

    sleep_once(passing->ends.receive);
    EXPECT(fill_and_drain(&passing->ends, 20), 0);
    forbid_system_calls();
    _exit(fill_and_drain(&passing->ends, MESSAGES / 16));
}

static void test_batches(void **state)
{
    struct passing passing = { ends_new(16), 0 };

    (void)state;
    support_wait_exit(support_child(batch_without_calls, &passing), 0);
    ends_close(&passing.ends);
}

/* ---- between processes ------------------------------------------------------------------------------ */

/* Says beside the channel how far each side is, so that neither has to wait inside it. */
struct pace {
    atomic_uint sent;
    atomic_uint received;
};

struct paced {
    struct ends ends;
    struct pace *pace;
    size_t len;
    struct support_gate ready;
};

static void hold_until(const atomic_uint *count, uint32_t at_least)
{
    while (atomic_load_explicit(count, memory_order_acquire) < at_least)
        ;
}

#define WARM 200
#define SLOTS 16

static int send_paced(void *arg)
{
    const struct paced *paced = arg;
    uint8_t data[NUMBERED_MAX] = { 0 };

    EXPECT(vrd_cap_close(paced->ends.receive), 0);
    support_gate_wait(&paced->ready);
    for (uint32_t i = 0; i < WARM + MESSAGES; i++) {
        if (i == WARM)
            forbid_system_calls();
        if (i >= SLOTS)
            hold_until(&paced->pace->received, i - SLOTS + 1);
        memcpy(data, &i, sizeof i);
        if (vrd_send(paced->ends.send, data, paced->len) != 0)
            _exit(1);
        atomic_store(&paced->pace->sent, i + 1);
    }
    hold_until(&paced->pace->received, WARM + MESSAGES);
    _exit(0);
}

static int receive_paced(void *arg)
{
    const struct paced *paced = arg;
    uint8_t data[NUMBERED_MAX];

    EXPECT(vrd_cap_close(paced->ends.send), 0);
    sleep_once(paced->ends.receive);
    support_gate_open(&paced->ready);
    for (uint32_t i = 0; i < WARM + MESSAGES; i++) {
        uint32_t index;

        if (i == WARM)
            forbid_system_calls();
        hold_until(&paced->pace->sent, i + 1);
        if (vrd_receive(paced->ends.receive, data, sizeof data) != (ssize_t)paced->len)
            _exit(1);
        memcpy(&index, data, sizeof index);
        if (index != i)
            _exit(2);
        atomic_store(&paced->pace->received, i + 1);
    }
    _exit(0);
}

static void test_two_processes(void **state)
{
    static const size_t sizes[] = { 8, 64, 1000 };

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct paced paced = { .ends = ends_new(SLOTS),
                               .len = sizes[i],
                               .pace = support_shared_new(sizeof *paced.pace) };

        support_gate_init(&paced.ready);
        const pid_t sender = support_child(send_paced, &paced);
        const pid_t receiver = support_child(receive_paced, &paced);

        support_wait_exit(sender, 0);
        support_wait_exit(receiver, 0);
        support_gate_deinit(&paced.ready);
        support_shared_free(paced.pace, sizeof *paced.pace);
        ends_close(&paced.ends);
    }
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_the_filter_kills),
                     SUPPORT_TEST(test_one_process),
                     SUPPORT_TEST(test_batches),
                     SUPPORT_TEST(test_two_processes),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
