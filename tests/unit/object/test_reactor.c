/* SPDX-License-Identifier: MIT */
/* The reactor: one thread, started when needed, and what happens without it. */
#include "unit/object/ports.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "object/control.h"
#include "object/reactor.h"

/* Threads of this process by that name. */
static int threads_named(const char *name)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    int n = 0;

    support_require(tasks != NULL);
    while ((entry = readdir(tasks))) {
        char path[300], comm[32] = "";
        FILE *file;

        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        file = fopen(path, "re");
        if (!file)
            continue;
        if (fgets(comm, sizeof comm, file))
            comm[strcspn(comm, "\n")] = '\0';
        fclose(file);
        n += strcmp(comm, name) == 0;
    }
    closedir(tasks);
    return n;
}

/* Each in a fresh program: what has been started stays. */
static void in_a_role(const char *role)
{
    support_wait_exit(support_spawn_role(role, NULL, 0, NULL), 0);
}

/* --- the thread -------------------------------------------------------------------------------------- */

static int role_starts(struct support_role_args *args)
{
    (void)args;
    support_require(!reactor_running());
    support_require_equal(control_ready(), 0);
    support_require(!reactor_running()); /* only when it is needed */
    support_require_equal(threads_named("veridian"), 0);
    for (int i = 0; i < 3; i++) {
        support_require(reactor_start());
        support_require(reactor_running());
    }
    while (threads_named("veridian") == 0) /* it names itself in its own time */
        support_sleep_ms(1);
    support_require_equal(threads_named("veridian"), 1);
    return 0;
}

static void one_thread_starts_when_asked(void **state)
{
    (void)state;
    in_a_role("starts");
}

static int role_quiet(struct support_role_args *args)
{
    vrd_cap_t send, receive;
    char byte;

    (void)args;
    support_require_equal(vrd_channel_create(4, &send, &receive), 0);
    for (int i = 0; i < 100; i++) {
        support_require_equal(vrd_send(send, "x", 1), 0);
        support_require_equal(vrd_receive(receive, &byte, 1), 1);
        support_require_equal(vrd_receive_async(receive, &byte, 1), VRD_ERR_CHANNEL_EMPTY);
    }
    support_require_equal(vrd_cap_close(send), 0);
    support_require_equal(vrd_receive_async(receive, &byte, 1), VRD_ERR_PEER_GONE);
    support_require_equal(vrd_cap_close(receive), 0);
    support_require(!reactor_running());
    support_require_equal(threads_named("veridian"), 0);
    return 0;
}

static void no_thread_for_those_who_never_sleep(void **state)
{
    (void)state;
    in_a_role("quiet");
}

/* --- without it ------------------------------------------------------------------------------------- */

static int child_sends(void *arg)
{
    vrd_cap_t cap;

    support_require_equal(vrd_cap_import(*(int *)arg, &cap), 0);
    support_sleep_ms(30); /* the receiver may be asleep by then, or not: both have to work */
    for (uint32_t i = 0; i < 50; i++)
        support_require_equal(vrd_send(cap, &i, sizeof i), 0);
    support_require_equal(vrd_cap_close(cap), 0);
    return 0;
}

/* The other process' HELLO, messages and end are seen by whoever waits. */
static int role_threadless(struct support_role_args *args)
{
    vrd_cap_t send, receive;
    uint32_t number;
    pid_t child;
    int invitation;

    (void)args;
    support_require_equal(vrd_channel_create(4, &send, &receive), 0);
    support_require_equal(vrd_cap_export(send, VRD_RIGHT_SEND, &invitation), 0);
    child = support_child(child_sends, &invitation);
    close(invitation);
    support_require_equal(vrd_cap_close(send), 0);
    support_refuse_syscall(SYS_clone3, EAGAIN);
    support_refuse_syscall(SYS_clone, EAGAIN);
    support_require(!reactor_start());
    for (uint32_t i = 0; i < 50; i++) {
        support_require_equal(vrd_receive(receive, &number, sizeof number), sizeof number);
        support_require_equal(number, i);
    }
    support_wait_exit(child, 0);
    support_require(!reactor_running());
    support_require_equal(vrd_cap_close(receive), 0);
    _exit(0); /* a sanitizer that looks for leaks would want a thread for it */
}

static void without_its_thread_the_waiting_poll(void **state)
{
    (void)state;
    in_a_role("threadless");
}

/* --- polling ----------------------------------------------------------------------------------------- */

static void what_was_sent_is_counted(void **state)
{
    const uint32_t before = reactor_sent_count();

    (void)state;
    reactor_sent();
    reactor_sent();
    assert_int_equal(reactor_sent_count(), before + 2);
}

static void polling_is_fine_with_nothing_to_see(void **state)
{
    (void)state;
    assert_int_equal(control_ready(), 0);
    for (int i = 0; i < 10; i++)
        reactor_poll();
}

static int role_polls_nothing(struct support_role_args *args)
{
    (void)args;
    support_require_equal(control_ready(), 0);
    reactor_poll(); /* not even a loop */
    control_lock();
    reactor_unwatch(0);
    reactor_after_fork(false);
    control_unlock();
    reactor_poll();
    return 0;
}

static void nor_without_a_loop(void **state)
{
    (void)state;
    in_a_role("polls-nothing");
}

/* --- fork --------------------------------------------------------------------------------------------- */

static int child_has_its_own(void *arg)
{
    vrd_cap_t send, receive;
    char byte;

    (void)arg;
    support_require_equal(vrd_channel_create(4, &send, &receive), 0);
    support_require(!reactor_running());
    support_require_equal(threads_named("veridian"), 0);
    support_require_equal(vrd_receive_timed(receive, &byte, 1, 30 * MS), VRD_ERR_TIMEOUT);
    support_require(reactor_running());
    support_require_equal(vrd_send(send, "x", 1), 0);
    support_require_equal(vrd_receive(receive, &byte, 1), 1);
    support_require_equal(vrd_cap_close(send), 0);
    support_require_equal(vrd_cap_close(receive), 0);
    return 0;
}

static void a_child_starts_its_own(void **state)
{
    (void)state;
    assert_true(reactor_running());
    support_wait_exit(support_child(child_has_its_own, NULL), 0);
    assert_true(reactor_running());
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(one_thread_starts_when_asked),
                     SUPPORT_TEST(no_thread_for_those_who_never_sleep),
                     SUPPORT_TEST(without_its_thread_the_waiting_poll),
                     SUPPORT_TEST(what_was_sent_is_counted),
                     SUPPORT_TEST(polling_is_fine_with_nothing_to_see),
                     SUPPORT_TEST(nor_without_a_loop),
                     SUPPORT_TEST(a_child_starts_its_own),
                     { 0 },
                 },
             .roles =
                 (const struct support_role[]){
                     { "starts", role_starts },
                     { "quiet", role_quiet },
                     { "threadless", role_threadless },
                     { "polls-nothing", role_polls_nothing },
                     { 0 },
                 },
             .warm_up = ports_warm_up)
