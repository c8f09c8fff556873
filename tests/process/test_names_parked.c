/* SPDX-License-Identifier: MIT */
/* Visitors of a name for whom the owner, which is another process and stopped, has no room. */
#include "names.h"

#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#define SECONDS (INT64_C(1000) * MS)
#define NAME "crowded"
#define CROWD_MAX 2000
#define PATIENCE_MS 1000 /* who was not greeted by then waits for the owner */

struct crowd {
    int socket[2]; /* for the invitation */
    pid_t owner;
    vrd_cap_t cap;           /* the publisher's */
    int visitors[CROWD_MAX]; /* the last one is not greeted */
    size_t n;
};

/* Gives a right away that others may have, too; then receives from two of them. */
static int owner_run(void *arg)
{
    const struct crowd *crowd = arg;
    const struct ends ends = ends_new(4);
    int invitation;
    char byte;

    EXPECT(vrd_cap_export(ends.send, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation), 0);
    support_send_fd(crowd->socket[1], invitation);
    EXPECT(close(invitation), 0);
    for (int i = 0; i < 2; i++)
        EXPECT(vrd_receive_timed(ends.receive, &byte, 1, 60 * SECONDS), 1);
    ends_close(&ends);
    return 0;
}

static int connects_and_sends(void *arg)
{
    vrd_cap_t cap;

    (void)arg;
    EXPECT(vrd_connect(NAME, 60 * SECONDS, &cap), 0);
    EXPECT(vrd_send(cap, "x", 1), 0);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static bool readable(int fd, int ms)
{
    struct pollfd poller = { .fd = fd, .events = POLLIN };

    return poll(&poller, 1, ms) == 1;
}

/* Publishes what a stopped process owns, and lets in visitors until one is not greeted. */
static void crowd_gather(struct crowd *crowd)
{
    int invitation, status;

    support_runtime_dir();
    crowd->n = 0;
    support_socket_pair(crowd->socket);
    crowd->owner = support_child(owner_run, crowd);
    invitation = support_receive_fd(crowd->socket[0]);
    EXPECT(vrd_cap_import(invitation, &crowd->cap), 0);
    EXPECT(vrd_publish(crowd->cap, NAME, NULL), 0);
    EXPECT(kill(crowd->owner, SIGSTOP), 0);
    EXPECT(waitpid(crowd->owner, &status, WUNTRACED), crowd->owner);
    support_require(WIFSTOPPED(status));
    do {
        support_require(crowd->n < CROWD_MAX);
        crowd->visitors[crowd->n++] = bare_connect(NAME);
    } while (readable(crowd->visitors[crowd->n - 1], PATIENCE_MS));
    support_require(crowd->n > 1);
}

static void crowd_leave(struct crowd *crowd)
{
    for (size_t i = 0; i < crowd->n; i++)
        EXPECT(close(crowd->visitors[i]), 0);
    EXPECT(vrd_cap_close(crowd->cap), 0);
    EXPECT(close(crowd->socket[0]), 0);
    EXPECT(close(crowd->socket[1]), 0);
}

static void all_are_let_in_when_the_owner_goes_on(void **state)
{
    struct crowd crowd;
    int gone, last;
    pid_t client;

    (void)state;
    crowd_gather(&crowd);
    gone = bare_connect(NAME);
    last = bare_connect(NAME);
    client = support_child(connects_and_sends, NULL);
    assert_false(readable(last, 50));
    EXPECT(close(gone), 0); /* did not want to wait */
    EXPECT(kill(crowd.owner, SIGCONT), 0);
    assert_true(readable(crowd.visitors[crowd.n - 1], 60000));
    assert_true(readable(last, 60000));
    support_wait_exit(client, 0);
    EXPECT(vrd_send(crowd.cap, "y", 1), 0);
    support_wait_exit(crowd.owner, 0);
    EXPECT(close(last), 0);
    crowd_leave(&crowd);
}

/* Who is parked then hears it; who was introduced already only waits for the owner. */
static void withdrawing_the_name_sends_them_away(void **state)
{
    struct crowd crowd;
    char bytes[64];
    int last;

    (void)state;
    crowd_gather(&crowd);
    last = bare_connect(NAME);
    EXPECT(vrd_unpublish(NAME), 0);
    assert_true(readable(crowd.visitors[crowd.n - 1], 60000));
    EXPECT(recv(crowd.visitors[crowd.n - 1], bytes, sizeof bytes, 0), 0);
    EXPECT(recv(last, bytes, sizeof bytes, 0) <= 0, true);
    support_kill(crowd.owner);
    EXPECT(close(last), 0);
    crowd_leave(&crowd);
}

/* Killed where it stands: nobody will ever let them in. */
static void the_end_of_the_owner_sends_them_away(void **state)
{
    struct crowd crowd;
    char bytes[64];

    (void)state;
    crowd_gather(&crowd);
    support_kill(crowd.owner);
    assert_true(readable(crowd.visitors[crowd.n - 1], 60000));
    EXPECT(recv(crowd.visitors[crowd.n - 1], bytes, sizeof bytes, 0), 0);
    crowd_leave(&crowd);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(all_are_let_in_when_the_owner_goes_on),
                     SUPPORT_TEST(withdrawing_the_name_sends_them_away),
                     SUPPORT_TEST(the_end_of_the_owner_sends_them_away),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
