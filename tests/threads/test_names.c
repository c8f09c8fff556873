/* SPDX-License-Identifier: MIT */
/* Publishing, withdrawing and connecting beside each other, in the threads of one process. */
#include "process/channels.h"

#include <pthread.h>
#include <stdatomic.h>

#define SECONDS (INT64_C(1000) * MS)
#define NAMES 2
#define CONNECTORS 3

static const char *const names[NAMES] = { "one", "two" };

static atomic_bool over;

/* Publishes a name and withdraws it, again and again; one of two of them finds it taken. */
static void *publisher(void *arg)
{
    const char *name = arg;

    for (size_t i = 0; i < support_iterations(100); i++) {
        vrd_cap_t send, receive;
        char bytes[8];
        int r;

        EXPECT(vrd_channel_create(4, &send, &receive), 0);
        r = vrd_publish(send, name, NULL);
        support_require(r == 0 || r == VRD_ERR_NAME_IN_USE || r == VRD_ERR_RESOURCE_BUSY);
        for (int k = 0; r == 0 && k < 3; k++)
            vrd_receive_timed(receive, bytes, sizeof bytes, MS);
        if (r == 0 && i % 2 == 0)
            EXPECT(vrd_unpublish(name), 0);
        EXPECT(vrd_cap_close(send), 0); /* else with this */
        EXPECT(vrd_cap_close(receive), 0);
    }
    return NULL;
}

/* Connects to whoever is there, and sends; the other side may be gone at any point. */
static void *connector(void *arg)
{
    const char *name = arg;

    while (!atomic_load(&over)) {
        vrd_cap_t cap;
        int r = vrd_connect(name, 5 * MS, &cap);

        support_require(r == 0 || r == VRD_ERR_TIMEOUT || r == VRD_ERR_PEER_GONE ||
                        r == VRD_ERR_REVOKED);
        if (r < 0)
            continue;
        r = vrd_send_timed(cap, "x", 1, MS);
        support_require(r == 0 || r == VRD_ERR_TIMEOUT || r == VRD_ERR_PEER_GONE ||
                        r == VRD_ERR_REVOKED);
        EXPECT(vrd_cap_close(cap), 0);
    }
    return NULL;
}

static void all_at_once(void **state)
{
    pthread_t publishers[2 * NAMES], connectors[CONNECTORS];

    (void)state;
    support_runtime_dir();
    atomic_store(&over, false);
    for (size_t i = 0; i < 2 * NAMES; i++)
        EXPECT(pthread_create(&publishers[i], NULL, publisher, (void *)(uintptr_t)names[i % NAMES]),
               0);
    for (size_t i = 0; i < CONNECTORS; i++)
        EXPECT(pthread_create(&connectors[i], NULL, connector, (void *)(uintptr_t)names[i % NAMES]),
               0);
    for (size_t i = 0; i < 2 * NAMES; i++)
        EXPECT(pthread_join(publishers[i], NULL), 0);
    atomic_store(&over, true);
    for (size_t i = 0; i < CONNECTORS; i++)
        EXPECT(pthread_join(connectors[i], NULL), 0);
}

/* Many at a time, to one who serves them, and all are heard. */
static void *caller(void *arg)
{
    vrd_cap_t cap;

    (void)arg;
    for (size_t i = 0; i < support_iterations(30); i++) {
        EXPECT(vrd_connect("served", 20 * SECONDS, &cap), 0);
        EXPECT(vrd_send_timed(cap, "call", 4, 20 * SECONDS), 0);
        EXPECT(vrd_cap_close(cap), 0);
    }
    return NULL;
}

static void all_are_heard(void **state)
{
    pthread_t callers[CONNECTORS];
    vrd_cap_t send, receive;
    char bytes[8];

    (void)state;
    support_runtime_dir();
    EXPECT(vrd_channel_create(4, &send, &receive), 0);
    EXPECT(vrd_publish(send, "served", NULL), 0);
    for (size_t i = 0; i < CONNECTORS; i++)
        EXPECT(pthread_create(&callers[i], NULL, caller, NULL), 0);
    for (size_t i = 0; i < CONNECTORS * support_iterations(30); i++)
        EXPECT(vrd_receive_timed(receive, bytes, sizeof bytes, 20 * SECONDS), 4);
    for (size_t i = 0; i < CONNECTORS; i++)
        EXPECT(pthread_join(callers[i], NULL), 0);
    EXPECT(vrd_unpublish("served"), 0);
    EXPECT(vrd_cap_close(send), 0);
    EXPECT(vrd_cap_close(receive), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST_TIMEOUT(all_at_once, 60),
                     SUPPORT_TEST(all_are_heard),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
