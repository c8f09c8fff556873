/* SPDX-License-Identifier: MIT */
/*
 * The watchdog: a process beside the test program that kills the program's process group when a
 * test outlasts its limit, and sweeps up what is left of the group when the program is gone.
 *
 * A process rather than a signal, because a hung test may have its signals blocked, be stopped,
 * or spin where a sanitizer holds signals back.
 */
#include "support/internal.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <stdnoreturn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct order {
    unsigned timeout_s; /* 0: stand down */
    char test[120];
};

static int order_fd = -1;

static long now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000L + now.tv_nsec / 1000000L;
}

/* Copies a file of /proc to stderr as one indented line or several. */
static void show_file(const char *label, const char *path)
{
    char text[1024];
    FILE *file = fopen(path, "re");

    if (!file)
        return;
    while (fgets(text, sizeof text, file))
        fprintf(stderr, "    %s %s", label, text);
    fclose(file);
}

static void show_threads(pid_t pid)
{
    char path[64];
    struct dirent *entry;

    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks)
        return;
    while ((entry = readdir(tasks))) {
        char file[128];
        const int tid = (int)strtol(entry->d_name, NULL, 10);

        if (tid <= 0)
            continue;
        fprintf(stderr, "  process %d thread %d\n", (int)pid, tid);
        snprintf(file, sizeof file, "/proc/%d/task/%d/comm", (int)pid, tid);
        show_file("name  ", file);
        snprintf(file, sizeof file, "/proc/%d/task/%d/syscall", (int)pid, tid);
        show_file("call  ", file);
        snprintf(file, sizeof file, "/proc/%d/task/%d/stack", (int)pid, tid);
        show_file("kernel", file);
    }
    closedir(tasks);
}

/* Says what every process of the group was doing: a hang is hard to see twice. */
static void show_group(pid_t group)
{
    struct dirent *entry;
    DIR *proc = opendir("/proc");

    if (!proc)
        return;
    while ((entry = readdir(proc))) {
        const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

        if (pid > 0 && getpgid(pid) == group)
            show_threads(pid);
    }
    closedir(proc);
}

noreturn static void watchdog_loop(int orders, pid_t group, int pidfd, bool sweep)
{
    struct order order = { 0 };
    long deadline_ms = 0;

    signal(SIGPIPE, SIG_IGN); /* it kills also where nobody is left to read why */
    for (;;) {
        struct pollfd fds[2] = { { .fd = orders, .events = POLLIN },
                                 { .fd = pidfd, .events = POLLIN } };
        int timeout_ms = -1;

        if (order.timeout_s > 0) {
            const long left_ms = deadline_ms - now_ms();
            timeout_ms = left_ms > 0 ? (int)left_ms : 0;
        }
        const int ready = poll(fds, 2, timeout_ms);
        if (ready < 0 && errno != EINTR)
            break;
        if (ready == 0) {
            fprintf(stderr, "support: %s was not done after %u s; killed\n", order.test,
                    order.timeout_s);
            show_group(group);
            break;
        }
        if (ready < 0)
            continue;
        if (fds[1].revents && !sweep)
            _exit(EXIT_SUCCESS);
        if (fds[1].revents)
            break;
        if (recv(orders, &order, sizeof order, 0) != (ssize_t)sizeof order)
            break;
        deadline_ms = now_ms() + order.timeout_s * 1000L;
        if (send(orders, "", 1, MSG_NOSIGNAL) != 1)
            break;
    }
    kill(-group, SIGKILL);
    _exit(EXIT_SUCCESS);
}

bool fork_apart(void)
{
    int status;

    fflush(NULL);
    const pid_t child = fork();
    if (child < 0)
        abort();
    if (child == 0) {
        const pid_t grandchild = fork();

        if (grandchild != 0)
            _exit(grandchild < 0);
        setsid();
        return true;
    }
    if (waitpid(child, &status, 0) != child || status != 0)
        abort();
    return false;
}

void watchdog_start(void)
{
    int pair[2];
    const pid_t group = getpid();

    /* A group of its own, so that the kill reaches this program's children and nobody else. A shell
     * may have made one already, and put the rest of a pipeline into it: no sweep there. */
    const bool sweep = getpgrp() != group;
    if (sweep && setpgid(0, 0) != 0)
        abort();
    const int pidfd = (int)syscall(SYS_pidfd_open, group, 0);
    if (pidfd < 0 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        abort();

    if (fork_apart()) {
        close(pair[0]);
        watchdog_loop(pair[1], group, pidfd, sweep);
    }
    close(pair[1]);
    close(pidfd);
    order_fd = pair[0];
}

static void watchdog_order(const struct order *order)
{
    char done;

    if (send(order_fd, order, sizeof *order, MSG_NOSIGNAL) != (ssize_t)sizeof *order ||
        recv(order_fd, &done, 1, 0) != 1) {
        fprintf(stderr, "support: the watchdog is gone\n");
        abort();
    }
}

void watchdog_arm(const char *test, unsigned timeout_s)
{
    struct order order = { .timeout_s = timeout_s };

    snprintf(order.test, sizeof order.test, "%s", test);
    watchdog_order(&order);
}

void watchdog_disarm(void)
{
    const struct order order = { 0 };

    watchdog_order(&order);
}
