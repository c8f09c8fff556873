/* SPDX-License-Identifier: MIT */
/*
 * support: the harness under every test of this repository.
 *
 * A test file looks like this:
 *
 *     #include "support/support.h"
 *
 *     static void test_sends(void **state) { ... assert_int_equal(...); ... }
 *
 *     static int role_receiver(struct support_role_args *args) { ... return 0; }
 *
 *     SUPPORT_MAIN(.tests = (const struct support_test[]){
 *                      SUPPORT_TEST(test_sends),
 *                      SUPPORT_TEST_TIMEOUT(test_long, 60),
 *                      {0},
 *                  },
 *                  .roles = (const struct support_role[]){
 *                      {"receiver", role_receiver},
 *                      {0},
 *                  },
 *                  .warm_up = support_warm_up_channel);
 *
 * What each test gets without asking:
 *
 *  - A time limit (30 s, or the one given; several times that under a sanitizer). A watchdog in a
 *    process of its own kills the test's whole process group when it expires, and also when the
 *    test program itself dies, so no child outlives it.
 *  - A leak check: file descriptors, shared mappings, threads, children, files in the runtime
 *    directory, and files of ours in /dev/shm and /tmp. A leak is growth against the moment before
 *    the test that is still there after two seconds (the reactor closes asynchronously). The
 *    reactor's own thread and descriptors live as long as the process: `.warm_up` runs once before
 *    the first test so that they exist in every comparison. Pass support_warm_up_channel (which
 *    sends one message through an exported and imported channel) in tests that use channels.
 *
 * Tests of huge pages pass `.huge_pages = true` and are "serial" (below): whoever runs as root then has 20
 * pages of 2 MiB and one of 1 GiB, which go back when the program ends; else it says what is missing.
 *
 * The program takes an optional argument, a glob that selects tests by name.
 *
 * Where assertions may stand. cmocka's assert_* jump back to the runner, so they are for the
 * test function's own thread. In other threads use support_require(), which aborts the program.
 * In children and roles both work: the child reports and dies, and support_wait_exit() in the
 * parent then fails.
 *
 * How ctest runs a file is said in the file, in a comment line that starts with "ctest:" followed
 * by any of
 *     no-asan  no-tsan     cannot run under that sanitizer (ptrace, fork beside threads, ...)
 *     serial               runs alone, for tests that need all CPUs
 *     timeout=SECONDS      for the whole file; default 120, several times that under a sanitizer
 * Files of a test folder that are not named test_*.c are linked into every test of the folder.
 *
 * VERIDIAN_TEST_LOOP=epoll, in the environment, has the kernel refuse io_uring to the test and its children.
 * ctest runs each test that the reactor has a part in a second time like that, labelled epoll.
 */
#ifndef SUPPORT_SUPPORT_H
#define SUPPORT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/types.h>

/* cmocka.h wants the four above before it. */
#include <cmocka.h>

/* ---- the suite --------------------------------------------------------------------------- */

#define SUPPORT_TIMEOUT_S 30

struct support_test {
    const char *name;
    void (*run)(void **state);
    unsigned timeout_s;
    int (*setup)(void **state);    /* optional; a non-zero return fails the test */
    int (*teardown)(void **state); /* optional; runs also when the test failed */
};

#define SUPPORT_TEST(fn) SUPPORT_TEST_TIMEOUT(fn, SUPPORT_TIMEOUT_S)
#define SUPPORT_TEST_TIMEOUT(fn, seconds) \
    { \
        .name = #fn, .run = (fn), .timeout_s = (seconds) \
    }
#define SUPPORT_TEST_FIXTURE(fn, setup_fn, teardown_fn) \
    { \
        .name = #fn, .run = (fn), .timeout_s = SUPPORT_TIMEOUT_S, .setup = (setup_fn), \
        .teardown = (teardown_fn) \
    }

/* What a role finds: its descriptors stand at 3, 4, ... in the order given, and are inherited. */
struct support_role_args {
    size_t n_fds;
    const int *fds;
    size_t n_args;
    char **args;
};

/* A function that a fresh execution of the test program runs instead of the tests. */
struct support_role {
    const char *name;
    int (*run)(struct support_role_args *args); /* returns the exit code */
};

struct support_suite {
    const struct support_test *tests; /* ends with an all-zero entry */
    const struct support_role *roles; /* ends with an all-zero entry; may be NULL */
    int (*warm_up)(void);             /* may be NULL; 0 on success */
    bool huge_pages; /* the machine's pools are this program's, and hold some if that can be had */
};

int support_main(int argc, char **argv, const struct support_suite *suite);

#define SUPPORT_MAIN(...) \
    int main(int argc, char **argv) \
    { \
        const struct support_suite suite = { __VA_ARGS__ }; \
        return support_main(argc, argv, &suite); \
    }

/* Creates a channel, exports and imports its sending side, passes one message, closes all. */
int support_warm_up_channel(void);

/* ---- assertions that hold anywhere --------------------------------------------------------- */

/* In the test's own thread: fails the test. In a child or role: exits with SUPPORT_EXIT_FAILED.
 * In another thread: aborts the program. Each says where and why. */
#define support_require(condition) \
    do { \
        if (!(condition)) \
            support_fail(__FILE__, __LINE__, "%s", #condition); \
    } while (0)

/* The same for two numbers, showing both. */
#define support_require_equal(left, right) \
    do { \
        const intmax_t support_left_ = (intmax_t)(left); \
        const intmax_t support_right_ = (intmax_t)(right); \
        if (support_left_ != support_right_) \
            support_fail(__FILE__, __LINE__, "%s (%jd) == %s (%jd)", #left, support_left_, #right, \
                         support_right_); \
    } while (0)

#define SUPPORT_EXIT_FAILED 99

noreturn void support_fail(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- sanitizers ----------------------------------------------------------------------------- */

/* How much slower this build runs (1, or more under a sanitizer). */
unsigned support_slowdown(void);

/* n iterations in a plain build, n / slowdown (at least 1) under a sanitizer. */
size_t support_iterations(size_t n);

/* ---- processes ------------------------------------------------------------------------------ */

/* Forks a child that runs fn(arg) and exits with what it returns. */
pid_t support_child(int (*fn)(void *arg), void *arg);

/* Starts this program afresh in the given role: an unrelated process that has nothing but stdio
 * and the n_fds descriptors, at 3, 4, ... The extra arguments are NULL-terminated; may be NULL. */
pid_t support_spawn_role(const char *role, const int *fds, size_t n_fds, const char *const *args);

/* Each waits for the process and requires that it ended in that way. */
void support_wait_exit(pid_t pid, int expected_code);
void support_wait_signal(pid_t pid, int expected_signal);

/* SIGKILL, then support_wait_signal(). */
void support_kill(pid_t pid);

/* Returns once the thread (a tid; a single-threaded process' pid will do) is seen asleep several
 * times in a row, or has ended. */
void support_wait_asleep(pid_t tid);

/* Does it sleep just now? */
bool support_asleep(pid_t tid);

/* Pauses the calling thread. For backing off while polling, never for ordering two sides. */
void support_sleep_ms(unsigned ms);

/* ---- ordering two sides ---------------------------------------------------------------------- */

/* A counting gate on an eventfd: works between threads, across fork, and across exec when its fd
 * is handed to a role. Each wait consumes one open. */
struct support_gate {
    int fd;
};

void support_gate_init(struct support_gate *gate);
void support_gate_open(const struct support_gate *gate);
void support_gate_wait(const struct support_gate *gate);
void support_gate_deinit(struct support_gate *gate);

/* Zeroed memory that fork shares between parent and child; free it in every process or exit. */
void *support_shared_new(size_t size);
void support_shared_free(void *memory, size_t size);

/* ---- descriptors ------------------------------------------------------------------------------ */

/* A connected pair of Unix seqpacket sockets, close-on-exec. */
void support_socket_pair(int ret_fds[2]);

/* Passes descriptors with SCM_RIGHTS; the sender keeps its own. */
void support_send_fds(int sock, const int *fds, size_t n);
void support_receive_fds(int sock, int *ret_fds, size_t n); /* close-on-exec */
void support_send_fd(int sock, int fd);
int support_receive_fd(int sock);

/*
 * Open descriptors of this process. Left out are the one used for counting, and one io_uring: the
 * library's thread opens it in its own time. The second counts them all.
 */
size_t support_count_fds(void);

/* Waits until there are `n` of them again: what a peer sent may be closed by another thread. */
void support_await_fds(size_t n);
size_t support_count_rings(void);

/* ---- older kernels ------------------------------------------------------------------------------ */

/* From now on the system call fails with that errno in every thread of this process and its
 * children: for use in a child or role, since nothing takes it back. The second form refuses only
 * calls whose argument (0 to 5) has that value. */
void support_refuse_syscall(long nr, int error);
void support_refuse_syscall_arg(long nr, unsigned index, uint32_t value, int error);

/* ---- files ---------------------------------------------------------------------------------------- */

/* An empty runtime directory for this test, named by VERIDIAN_RUNTIME_DIR; made at the first call.
 * It goes when the test ends, and it is a leak if anything is left in it. A test without one can publish
 * nothing. */
const char *support_runtime_dir(void);

/* Pages of 2 MiB in the machine's pool that nobody has taken. */
size_t support_huge_pages_free(void);

/* Huge pages of `size` bytes that nobody has taken, of NUMA node `node`. */
size_t support_node_pages_free(int node, size_t size);

/* ---- leaks, for tests that look for themselves ------------------------------------------------------ */

struct support_snapshot {
    size_t fds;
    size_t mappings; /* shared ones, without those of one io_uring */
    size_t threads;
    size_t files; /* ours, in /dev/shm and /tmp */
};

void support_snapshot_take(struct support_snapshot *ret);

/* True when nothing has grown since; looks again for up to two seconds before it says no, and then
 * lists on stderr what there is. Children are not part of it. */
bool support_snapshot_holds(const struct support_snapshot *before);

#endif
