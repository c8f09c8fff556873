/* SPDX-License-Identifier: MIT */
/* Requirements that may fail in any thread and any process. */
#include "support/internal.h"
#include "support/support.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static bool ends_process;
static __thread bool runner_thread;

void failure_runner_is_this_thread(void)
{
    runner_thread = true;
    ends_process = false;
    unsetenv("CMOCKA_TEST_ABORT");
}

void failure_ends_process(void)
{
    /* cmocka catches these to jump back to its runner, and asserts do the same. In a child the
     * runner is a copy that would go on with the remaining tests. */
    static const int caught[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGSYS };

    ends_process = true;
    setenv("CMOCKA_TEST_ABORT", "1", 1);
    for (size_t i = 0; i < sizeof caught / sizeof caught[0]; i++)
        signal(caught[i], SIG_DFL);
}

noreturn void support_fail(const char *file, int line, const char *format, ...)
{
    char message[512];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);

    /* One write, so that failures of several processes do not run into each other. */
    char report[768];
    const int length = snprintf(report, sizeof report, "%s:%d: pid %d: requirement failed: %s\n",
                                file, line, (int)getpid(), message);
    if (write(STDERR_FILENO, report, (size_t)length) < 0)
        abort();

    if (ends_process)
        _exit(SUPPORT_EXIT_FAILED);
    if (!runner_thread)
        abort();
    _fail(file, line);
    abort();
}

unsigned support_slowdown(void)
{
    return SUPPORT_SLOWDOWN;
}

size_t support_iterations(size_t n)
{
    const size_t scaled = n / support_slowdown();

    return scaled > 0 ? scaled : 1;
}
