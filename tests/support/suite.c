/* SPDX-License-Identifier: MIT */
/* Runs the tests of one program: cmocka's runner with a time limit and a leak check round each. */
#include "support/internal.h"
#include "support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
    if (!support_snapshot_holds(&running->before))
        clean = false;
    watchdog_disarm();

    /* After a failure the leftovers are a consequence, and the failure is reported already. */
    return clean || !running->finished ? 0 : -1;
}

static size_t count_tests(const struct support_test *tests)
{
    size_t n = 0;

    while (tests[n].name)
        n++;
    return n;
}

int support_main(int argc, char **argv, const struct support_suite *suite)
{
    if (role_wanted(argc, argv))
        return role_run(suite->roles, argc, argv);

    const size_t n = count_tests(suite->tests);
    struct running_test *running = calloc(n, sizeof *running);
    struct CMUnitTest *units = calloc(n, sizeof *units);
    if (n == 0 || !running || !units)
        return EXIT_FAILURE;

    for (size_t i = 0; i < n; i++) {
        running[i].test = &suite->tests[i];
        units[i] = (struct CMUnitTest){
            .name = suite->tests[i].name,
            .test_func = during_test,
            .setup_func = before_test,
            .teardown_func = after_test,
            .initial_state = &running[i],
        };
    }

    setvbuf(stdout, NULL, _IOLBF, 0);
    failure_runner_is_this_thread();
    watchdog_start();
    watchdog_arm("the warm-up", SUPPORT_TIMEOUT_S * support_slowdown());
    if (suite->warm_up && suite->warm_up() != 0) {
        fprintf(stderr, "support: the warm-up failed\n");
        return EXIT_FAILURE;
    }
    watchdog_disarm();

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const char *slash = strrchr(argv[0], '/');
    const int failed = _cmocka_run_group_tests(slash ? slash + 1 : argv[0], units, n, NULL, NULL);

    free(units);
    free(running);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
