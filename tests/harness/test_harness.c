/* SPDX-License-Identifier: MIT */
/*
 * The harness itself: a test that leaks must fail and a test that hangs must be killed, or the
 * other tests prove nothing. Each bad test runs in a program of its own, as a role.
 */
#include "support/support.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- tests that are wrong on purpose, and one that is right ------------------------------------ */

static void bad_descriptor(void **state)
{
    (void)state;
    assert_true(dup(STDERR_FILENO) >= 0);
}

static void bad_mapping(void **state)
{
    (void)state;
    support_shared_new(4096);
}

static void *thread_pause(void *gate)
{
    support_gate_wait(gate);
    return NULL;
}

static void bad_thread(void **state)
{
    static struct support_gate gate;
    pthread_t thread;

    (void)state;
    support_gate_init(&gate);
    assert_int_equal(pthread_create(&thread, NULL, thread_pause, &gate), 0);
    assert_int_equal(pthread_detach(thread), 0);
}

static int child_pause(void *unused)
{
    (void)unused;
    while (true)
        pause();
    return 0;
}

static int child_return(void *unused)
{
    (void)unused;
    return 0;
}

static void bad_live_child(void **state)
{
    (void)state;
    support_child(child_pause, NULL);
}

static void bad_dead_child(void **state)
{
    (void)state;
    support_wait_asleep(support_child(child_return, NULL));
}

static void bad_runtime_file(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof path, "%s/name", support_runtime_dir());
    const int fd = open(path, O_CREAT | O_CLOEXEC | O_WRONLY, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void bad_shm_file(void **state)
{
    char name[64];

    (void)state;
    snprintf(name, sizeof name, "/vrd.harness.%d", (int)getpid());
    const int fd = shm_open(name, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    close(fd);
}

static void bad_assertion(void **state)
{
    (void)state;
    assert_int_equal(1, 2);
}

static void bad_requirement(void **state)
{
    (void)state;
    support_require(false);
}

static int child_fails(void *unused)
{
    (void)unused;
    support_require_equal(1, 2);
    return 0;
}

static void bad_child_requirement(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_fails, NULL), 0);
}

static int child_asserts(void *unused)
{
    (void)unused;
    assert_int_equal(1, 2);
    return 0;
}

static void bad_child_assertion(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_asserts, NULL), 0);
}

static void good(void **state)
{
    (void)state;
    support_runtime_dir();
}

/* Deaf to signals and with a child, which has to go too. */
static void bad_hang(void **state)
{
    sigset_t all;

    (void)state;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    support_child(child_pause, NULL);
    child_pause(NULL);
}

/* ---- running them ---------------------------------------------------------------------------- */

static const struct support_test wrong[] = {
    SUPPORT_TEST(bad_descriptor),      SUPPORT_TEST(bad_mapping),
    SUPPORT_TEST(bad_thread),          SUPPORT_TEST(bad_live_child),
    SUPPORT_TEST(bad_dead_child),      SUPPORT_TEST(bad_runtime_file),
    SUPPORT_TEST(bad_shm_file),        SUPPORT_TEST(bad_assertion),
    SUPPORT_TEST(bad_requirement),     SUPPORT_TEST(bad_child_requirement),
    SUPPORT_TEST(bad_child_assertion), SUPPORT_TEST(good),
    SUPPORT_TEST_TIMEOUT(bad_hang, 1), { 0 },
};

/* Runs one of them as a test program would, its complaints out of the way. */
static int role_program(struct support_role_args *args)
{
    const struct support_suite suite = { .tests = wrong };
    char *argv[] = { "harness", args->args[0], NULL };

    support_require(freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr));
    const int code = support_main(2, argv, &suite);

    char name[64];
    snprintf(name, sizeof name, "/vrd.harness.%d", (int)getpid());
    shm_unlink(name);
    return code;
}

static pid_t start(const char *test)
{
    return support_spawn_role("program", NULL, 0, (const char *const[]){ test, NULL });
}

/* Another test, for all that this one can see: its file is its own business. */
static int role_neighbour(struct support_role_args *args)
{
    const struct support_gate made = { args->fds[0] }, seen = { args->fds[1] };
    char name[64];

    support_require(setpgid(0, 0) == 0);
    alarm(100); /* no watchdog looks after this group */
    snprintf(name, sizeof name, "/vrd.harness.%d", (int)getpid());
    const int fd = shm_open(name, O_CREAT | O_RDWR, 0600);
    support_require(fd >= 0);
    support_gate_open(&made);
    support_gate_wait(&seen);
    shm_unlink(name);
    return 0;
}

static void test_a_neighbours_file_is_no_leak(void **state)
{
    struct support_gate made, seen;
    struct support_snapshot before, now;

    (void)state;
    support_gate_init(&made);
    support_gate_init(&seen);
    support_snapshot_take(&before);
    const pid_t neighbour =
        support_spawn_role("neighbour", (const int[]){ made.fd, seen.fd }, 2, NULL);
    support_gate_wait(&made);
    support_snapshot_take(&now);
    assert_int_equal(now.files, before.files);
    support_gate_open(&seen);
    support_wait_exit(neighbour, 0);
    support_gate_deinit(&made);
    support_gate_deinit(&seen);
}

static void test_wrong_tests_fail(void **state)
{
    pid_t programs[sizeof wrong / sizeof wrong[0]];
    size_t n = 0;

    (void)state;
    for (; wrong[n].run != good; n++)
        programs[n] = start(wrong[n].name);
    for (size_t i = 0; i < n; i++)
        support_wait_exit(programs[i], EXIT_FAILURE);
}

static void test_right_test_passes(void **state)
{
    (void)state;
    support_wait_exit(start("good"), EXIT_SUCCESS);
}

static void test_hanging_test_is_killed(void **state)
{
    (void)state;
    const pid_t program = start("bad_hang");
    support_wait_signal(program, SIGKILL);
    /* The group is named after the program; its last members vanish asynchronously. */
    while (kill(-program, 0) == 0)
        support_sleep_ms(5);
}

/* ---- what the helpers promise ------------------------------------------------------------------ */

static int role_reads_descriptors(struct support_role_args *args)
{
    char byte;

    support_require_equal(args->n_fds, 2);
    support_require_equal(args->n_args, 1);
    support_require_equal(args->args[0][0], 'x');
    /* stdio, the two, and no other */
    support_require_equal(support_count_fds(), 5);
    support_require_equal(read(args->fds[0], &byte, 1), 1);
    support_require_equal(write(args->fds[1], &byte, 1), 1);
    return 7;
}

static void test_role_has_its_descriptors_only(void **state)
{
    int in[2], out[2];
    char byte = 'q';

    (void)state;
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    assert_int_equal(write(in[1], &byte, 1), 1);
    byte = 0;
    support_wait_exit(support_spawn_role("descriptors", (const int[]){ in[0], out[1] }, 2,
                                         (const char *const[]){ "x", NULL }),
                      7);
    assert_int_equal(read(out[0], &byte, 1), 1);
    assert_int_equal(byte, 'q');
    for (int i = 0; i < 2; i++) {
        close(in[i]);
        close(out[i]);
    }
}

static void test_descriptor_passes_through_socket(void **state)
{
    int pair[2], pipe_fds[2];
    char byte = 'z';

    (void)state;
    support_socket_pair(pair);
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    support_send_fd(pair[0], pipe_fds[1]);
    const int passed = support_receive_fd(pair[1]);
    assert_int_equal(write(passed, &byte, 1), 1);
    assert_int_equal(read(pipe_fds[0], &byte, 1), 1);
    close(passed);
    for (int i = 0; i < 2; i++) {
        close(pair[i]);
        close(pipe_fds[i]);
    }
}

static int child_is_refused(void *unused)
{
    (void)unused;
    support_refuse_syscall(SYS_memfd_create, EPERM);
    support_require_equal(memfd_create("refused", 0), -1);
    support_require_equal(errno, EPERM);

    support_refuse_syscall_arg(SYS_dup, 0, STDERR_FILENO, ENOSYS);
    support_require_equal(dup(STDERR_FILENO), -1);
    support_require_equal(errno, ENOSYS);
    support_require(dup(STDOUT_FILENO) >= 0);
    return 0;
}

static void test_system_calls_are_refused(void **state)
{
    (void)state;
    support_wait_exit(support_child(child_is_refused, NULL), 0);
}

static int child_waits(void *gate)
{
    support_gate_wait(gate);
    return 0;
}

static void test_gate_holds_child_asleep(void **state)
{
    struct support_gate gate;

    (void)state;
    support_gate_init(&gate);
    const pid_t pid = support_child(child_waits, &gate);
    support_wait_asleep(pid);
    support_gate_open(&gate);
    support_wait_exit(pid, 0);
    support_gate_deinit(&gate);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_wrong_tests_fail),
                     SUPPORT_TEST(test_a_neighbours_file_is_no_leak),
                     SUPPORT_TEST(test_right_test_passes),
                     SUPPORT_TEST(test_hanging_test_is_killed),
                     SUPPORT_TEST(test_role_has_its_descriptors_only),
                     SUPPORT_TEST(test_descriptor_passes_through_socket),
                     SUPPORT_TEST(test_system_calls_are_refused),
                     SUPPORT_TEST(test_gate_holds_child_asleep),
                     { 0 },
                 },
             .roles = (const struct support_role[]){
                 { "program", role_program },
                 { "neighbour", role_neighbour },
                 { "descriptors", role_reads_descriptors },
                 { 0 },
             })
