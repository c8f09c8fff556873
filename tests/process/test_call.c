/* SPDX-License-Identifier: MIT */
/* Calls and replies in good order: any size, any number of clients and server threads. */
#include "process/endpoints.h"

#include <pthread.h>

static void *serve_in_thread(void *arg)
{
    serve(*(const vrd_cap_t *)arg, SERVED_MAX);
    return NULL;
}

static void *serve_combined_in_thread(void *arg)
{
    serve_combined(*(const vrd_cap_t *)arg, SERVED_MAX);
    return NULL;
}

static void test_one_process(void **state)
{
    vrd_cap_t cap = endpoint_new();
    pthread_t server;

    (void)state;
    EXPECT(pthread_create(&server, NULL, serve_in_thread, &cap), 0);
    for (uint32_t i = 0; i < 1000; i++)
        numbered_call(cap, 1, i, 8 + i % 57);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(pthread_join(server, NULL), 0);
}

static int call_many(void *arg)
{
    vrd_cap_t cap = *(const vrd_cap_t *)arg;

    for (uint32_t i = 0; i < support_iterations(20000); i++)
        numbered_call(cap, 7, i, 8 + i % 57);
    return 0;
}

static void test_forked_client(void **state)
{
    vrd_cap_t cap = endpoint_new();
    pthread_t server;
    pid_t child;

    (void)state;
    child = support_child(call_many, &cap);
    EXPECT(pthread_create(&server, NULL, serve_combined_in_thread, &cap), 0);
    support_wait_exit(child, 0);
    EXPECT(vrd_cap_close(cap), 0);
    EXPECT(pthread_join(server, NULL), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(test_one_process),
                     SUPPORT_TEST(test_forked_client),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
