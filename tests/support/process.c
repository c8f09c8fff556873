/* SPDX-License-Identifier: MIT */
/* Children, roles, and waiting for them. */
#include "support/internal.h"
#include "support/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ROLE_FLAG "--role"
#define ROLE_FIRST_FD 3
#define ROLE_MAX_FDS 64
#define ROLE_MAX_ARGS 32

pid_t support_child(int (*fn)(void *arg), void *arg)
{
    fflush(NULL);
    const pid_t pid = fork();
    support_require(pid >= 0);
    if (pid > 0)
        return pid;

    failure_ends_process();
    const int code = fn(arg);
    fflush(NULL);
    _exit(code);
}

/* Lays the descriptors at 3, 4, ... without close-on-exec and closes everything above. In two
 * steps, because a target number may be another's source. */
static void role_place_fds(const int *fds, size_t n_fds)
{
    int high[ROLE_MAX_FDS];
    const int above = ROLE_FIRST_FD + (int)n_fds;

    for (size_t i = 0; i < n_fds; i++) {
        high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, above);
        support_require(high[i] >= 0);
    }
    for (size_t i = 0; i < n_fds; i++)
        support_require(dup2(high[i], ROLE_FIRST_FD + (int)i) >= 0);
    support_require(syscall(SYS_close_range, (unsigned)above, ~0U, 0) == 0);
}

pid_t support_spawn_role(const char *role, const int *fds, size_t n_fds, const char *const *args)
{
    char count[24];
    char *argv[4 + ROLE_MAX_ARGS + 1] = { "role", ROLE_FLAG, (char *)role, count };

    support_require(n_fds <= ROLE_MAX_FDS);
    snprintf(count, sizeof count, "%zu", n_fds);
    for (size_t i = 0; args && args[i]; i++) {
        support_require(i < ROLE_MAX_ARGS);
        argv[4 + i] = (char *)args[i];
    }

    fflush(NULL);
    const pid_t pid = fork();
    support_require(pid >= 0);
    if (pid > 0)
        return pid;

    failure_ends_process();
    role_place_fds(fds, n_fds);
    execv("/proc/self/exe", argv);
    support_fail(__FILE__, __LINE__, "execv: %s", strerror(errno));
}

bool role_wanted(int argc, char **argv)
{
    return argc >= 4 && strcmp(argv[1], ROLE_FLAG) == 0;
}

int role_run(const struct support_role *roles, int argc, char **argv)
{
    int fds[ROLE_MAX_FDS];
    const size_t n_fds = strtoul(argv[3], NULL, 10);

    failure_ends_process();
    support_require(n_fds <= ROLE_MAX_FDS);
    for (size_t i = 0; i < n_fds; i++) {
        fds[i] = ROLE_FIRST_FD + (int)i;
        support_require(fcntl(fds[i], F_SETFD, FD_CLOEXEC) == 0);
    }

    struct support_role_args args = {
        .n_fds = n_fds,
        .fds = fds,
        .n_args = (size_t)argc - 4,
        .args = argv + 4,
    };
    for (const struct support_role *role = roles; role && role->name; role++)
        if (strcmp(role->name, argv[2]) == 0)
            return role->run(&args);
    support_fail(__FILE__, __LINE__, "no role named %s", argv[2]);
}

static int wait_status(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) != pid)
        support_require_equal(errno, EINTR);
    return status;
}

void support_wait_exit(pid_t pid, int expected_code)
{
    const int status = wait_status(pid);

    if (WIFSIGNALED(status))
        support_fail(__FILE__, __LINE__, "process %d died of signal %d instead of exiting with %d",
                     (int)pid, WTERMSIG(status), expected_code);
    if (WEXITSTATUS(status) != expected_code)
        support_fail(__FILE__, __LINE__, "process %d exited with %d instead of %d", (int)pid,
                     WEXITSTATUS(status), expected_code);
}

void support_wait_signal(pid_t pid, int expected_signal)
{
    const int status = wait_status(pid);

    if (!WIFSIGNALED(status))
        support_fail(__FILE__, __LINE__, "process %d exited with %d instead of dying of signal %d",
                     (int)pid, WEXITSTATUS(status), expected_signal);
    if (WTERMSIG(status) != expected_signal)
        support_fail(__FILE__, __LINE__, "process %d died of signal %d instead of %d", (int)pid,
                     WTERMSIG(status), expected_signal);
}

void support_kill(pid_t pid)
{
    support_require(kill(pid, SIGKILL) == 0);
    support_wait_signal(pid, SIGKILL);
}

/* State letter and parent of a process or thread, from /proc; false when it is gone. */
static bool process_look(pid_t pid, char *ret_state, int *ret_parent)
{
    char path[64], line[512];

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return false;
    const bool read = fgets(line, sizeof line, file) != NULL;
    fclose(file);
    /* The name before it may hold anything, parentheses too. */
    const char *name_end = read ? strrchr(line, ')') : NULL;
    return name_end && sscanf(name_end + 1, " %c %d", ret_state, ret_parent) == 2;
}

static void children_kill(void)
{
    struct dirent *entry;
    DIR *proc = opendir("/proc");

    while (proc && (entry = readdir(proc))) {
        const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        char state;
        int parent;

        if (pid > 0 && process_look(pid, &state, &parent) && parent == getpid()) {
            fprintf(stderr, "support: child %d still runs; killed\n", (int)pid);
            kill(pid, SIGKILL);
        }
    }
    if (proc)
        closedir(proc);
}

bool children_none_left(void)
{
    bool none = true;
    pid_t pid;

    while ((pid = waitpid(-1, NULL, WNOHANG | __WALL)) >= 0) {
        none = false;
        if (pid > 0) {
            fprintf(stderr, "support: child %d ended and nobody waited for it\n", (int)pid);
            continue;
        }
        children_kill();
        support_sleep_ms(10);
    }
    return none;
}

void support_sleep_ms(unsigned ms)
{
    struct timespec left = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000L };

    while (nanosleep(&left, &left) != 0)
        ;
}

bool support_asleep(pid_t tid)
{
    char state;
    int parent;

    return process_look(tid, &state, &parent) && state == 'S';
}

void support_wait_asleep(pid_t tid)
{
    unsigned in_a_row = 0;

    /* 8 x 5 ms outlast the library's last short sleep before the one for good. */
    while (in_a_row < 8) {
        char state;
        int parent;

        if (!process_look(tid, &state, &parent) || state == 'Z' || state == 'X')
            return;
        in_a_row = state == 'S' ? in_a_row + 1 : 0;
        support_sleep_ms(5);
    }
}

void support_gate_init(struct support_gate *gate)
{
    gate->fd = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
    support_require(gate->fd >= 0);
}

void support_gate_open(const struct support_gate *gate)
{
    support_require(eventfd_write(gate->fd, 1) == 0);
}

void support_gate_wait(const struct support_gate *gate)
{
    eventfd_t value;

    while (eventfd_read(gate->fd, &value) != 0)
        support_require_equal(errno, EINTR);
}

void support_gate_deinit(struct support_gate *gate)
{
    support_require(close(gate->fd) == 0);
    gate->fd = -1;
}

void *support_shared_new(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    support_require(memory != MAP_FAILED);
    return memory;
}

void support_shared_free(void *memory, size_t size)
{
    support_require(munmap(memory, size) == 0);
}
