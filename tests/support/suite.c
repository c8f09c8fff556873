/* SPDX-License-Identifier: MIT */
/* Runs the tests of one program: cmocka's runner with a time limit and a leak check round each. */
#include "support/internal.h"
#include "support/support.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* One test as cmocka sees it: the initial state of its CMUnitTest. */
struct running_test {
    const struct support_test *test;
    void *state; /* the test's own */
    struct support_snapshot before;
    bool finished; /* a failed test jumps out and leaves what it held: no leak check then */
};

static int before_test(void **state)
{
    struct running_test *running = *state;

    watchdog_arm(running->test->name, running->test->timeout_s * support_slowdown());
    support_snapshot_take(&running->before);
    return 0;
}

static void during_test(void **state)
{
    struct running_test *running = *state;
    const struct support_test *test = running->test;

    if (test->setup && test->setup(&running->state) != 0)
        fail_msg("the setup of %s failed", test->name);
    test->run(&running->state);
    running->finished = true;
}

static int after_test(void **state)
{
    struct running_test *running = *state;
    const struct support_test *test = running->test;
    bool clean = true;

    if (test->teardown && test->teardown(&running->state) != 0)
        clean = false;
    clean = children_none_left() && clean;
    clean = runtime_dir_remove() && clean;
    /* What a failed test holds is a consequence, and the failure is reported already. */
    if (running->finished && !support_snapshot_holds(&running->before))
        clean = false;
    watchdog_disarm();
    return clean || !running->finished ? 0 : -1;
}

static size_t count_tests(const struct support_test *tests)
{
    size_t n = 0;

    while (tests[n].name)
        n++;
    return n;
}

static bool run_all(const struct support_test *tests, const char *name)
{
    const size_t n = count_tests(tests);
    struct running_test *running = calloc(n + 1, sizeof *running);
    struct CMUnitTest *units = calloc(n + 1, sizeof *units);

    if (n == 0 || !running || !units)
        abort();
    for (size_t i = 0; i < n; i++) {
        running[i].test = &tests[i];
        units[i] = (struct CMUnitTest){
            .name = tests[i].name,
            .test_func = during_test,
            .setup_func = before_test,
            .teardown_func = after_test,
            .initial_state = &running[i],
        };
    }
    const int failed = _cmocka_run_group_tests(name, units, n, NULL, NULL);
    free(units);
    free(running);
    return failed == 0;
}

#ifdef VRD_TSAN
static void *thread_return(void *unused)
{
    return unused;
}
#endif

/* ThreadSanitizer starts a thread of its own beside the first of the program; it is not a leak. */
static void sanitizer_warm_up(void)
{
#ifdef VRD_TSAN
    pthread_t thread;

    if (pthread_create(&thread, NULL, thread_return, NULL) != 0 || pthread_join(thread, NULL) != 0)
        abort();
#endif
}

static bool warm_up(const struct support_suite *suite)
{
    sanitizer_warm_up();
    if (!suite->warm_up)
        return true;
    watchdog_arm("the warm-up", SUPPORT_TIMEOUT_S * support_slowdown());
    const int error = suite->warm_up();
    watchdog_disarm();
    if (error != 0)
        fprintf(stderr, "support: the warm-up failed\n");
    return error == 0;
}

/* What the environment says of the reactor's loop; for children, too. */
static void loop_choose(void)
{
    const char *loop = getenv("VERIDIAN_TEST_LOOP");

    if (loop && strcmp(loop, "epoll") == 0)
        support_refuse_syscall(SYS_io_uring_setup, EPERM);
}

int support_main(int argc, char **argv, const struct support_suite *suite)
{
    if (role_wanted(argc, argv))
        return role_run(suite->roles, argc, argv);

    setvbuf(stdout, NULL, _IOLBF, 0);
    failure_runner_is_this_thread();
    runtime_dir_none();
    watchdog_start();
    if (suite->huge_pages)
        pools_fill();
    loop_choose();
    if (!warm_up(suite))
        return EXIT_FAILURE;
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return run_all(suite->tests, program_invocation_short_name) ? EXIT_SUCCESS : EXIT_FAILURE;
}
