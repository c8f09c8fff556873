/* SPDX-License-Identifier: MIT */
/* Owners and publishers that are stopped in the middle (SIGSTOP), and go on. */
#include "endpoints.h"

#include <signal.h>
#include <sys/wait.h>

#define SECONDS (INT64_C(1000) * MS)
#define SHORT (100 * MS)
#define NAME "stopped"
#define SIZE 256

static void stop(pid_t pid)
{
    int status;

    EXPECT(kill(pid, SIGSTOP), 0);
    EXPECT(waitpid(pid, &status, WUNTRACED), pid); /* all its threads */
    support_require(WIFSTOPPED(status));
}

/* Lets it go on in a while. */
static int wakes_later(void *arg)
{
    support_sleep_ms(100);
    return kill(*(const pid_t *)arg, SIGCONT);
}

struct server {
    struct support_gate ready;
    int socket[2]; /* for an invitation */
    bool named;
};

/* Owns an endpoint, which it publishes, or exports, and serves until the gate opens. */
static int server_run(void *arg)
{
    struct server *server = arg;
    const vrd_cap_t cap = endpoint_new();
    char data[SIZE];
    struct vrd_message request = { .data = data, .size = sizeof data };
    vrd_cap_t reply;
    int invitation, r;

    if (server->named) {
        EXPECT(vrd_publish(cap, NAME, NULL), 0);
    } else {
        EXPECT(vrd_cap_export(cap, VRD_RIGHT_SEND, &invitation), 0);
        support_send_fd(server->socket[1], invitation);
        EXPECT(close(invitation), 0);
    }
    support_gate_open(&server->ready);
    for (;;) {
        EXPECT(vrd_receive_call(cap, &request, &reply, VRD_FOREVER), 0);
        if (request.len == 1) /* that was the last */
            break;
        number_answer(data, request.len);
        r = vrd_reply(reply, data, request.len);
        support_require(r == 0 || r == VRD_ERR_TIMEOUT); /* who called may not wait any more */
    }
    EXPECT(vrd_reply(reply, data, 1), 0);
    EXPECT(vrd_cap_close(cap), 0);
    return 0;
}

static pid_t server_start(struct server *server, bool named)
{
    pid_t pid;

    support_runtime_dir();
    server->named = named;
    support_gate_init(&server->ready);
    support_socket_pair(server->socket);
    pid = support_child(server_run, server);
    support_gate_wait(&server->ready);
    return pid;
}

static void server_end(struct server *server, pid_t pid, vrd_cap_t cap)
{
    char byte = 0;

    EXPECT(vrd_call(cap, &byte, 1, &byte, 1, 20 * SECONDS), 1);
    support_wait_exit(pid, 0);
    EXPECT(vrd_cap_close(cap), 0);
    support_gate_deinit(&server->ready);
    EXPECT(close(server->socket[0]), 0);
    EXPECT(close(server->socket[1]), 0);
}

/* The kernel takes the connection for it, and nobody answers. */
static void a_stopped_publisher_is_waited_for(void **state)
{
    struct server server;
    const pid_t pid = server_start(&server, true);
    vrd_cap_t cap = VRD_CAP_NONE;
    pid_t waker;

    (void)state;
    stop(pid);
    EXPECT(vrd_connect(NAME, SHORT, &cap), VRD_ERR_TIMEOUT);
    EXPECT(cap, VRD_CAP_NONE);
    waker = support_child(wakes_later, (void *)(uintptr_t)&pid);
    EXPECT(vrd_connect(NAME, 20 * SECONDS, &cap), 0);
    numbered_call(cap, 1, 0, SIZE);
    support_wait_exit(waker, 0);
    server_end(&server, pid, cap);
}

/* An import asks nobody; the first call waits for the owner. */
static void a_stopped_owner_is_waited_for(void **state)
{
    struct server server;
    const pid_t pid = server_start(&server, false);
    char data[SIZE];
    vrd_cap_t cap;
    pid_t waker;
    int invitation;

    (void)state;
    stop(pid);
    invitation = support_receive_fd(server.socket[0]);
    EXPECT(vrd_cap_import(invitation, &cap), 0);
    number_fill(data, SIZE, (struct number){ 1, 7 });
    EXPECT(vrd_call(cap, data, SIZE, data, SIZE, SHORT), VRD_ERR_TIMEOUT);
    waker = support_child(wakes_later, (void *)(uintptr_t)&pid);
    numbered_call(cap, 1, 0, SIZE);
    support_wait_exit(waker, 0);
    server_end(&server, pid, cap);
}

/* It was served before, and its link stands: the call lies in the ring until its time is over. */
static void a_server_that_stops_between_two_calls(void **state)
{
    struct server server;
    const pid_t pid = server_start(&server, true);
    char data[SIZE];
    vrd_cap_t cap;
    pid_t waker;

    (void)state;
    EXPECT(vrd_connect(NAME, 20 * SECONDS, &cap), 0);
    numbered_call(cap, 1, 0, SIZE);
    stop(pid);
    waker = support_child(wakes_later, (void *)(uintptr_t)&pid);
    numbered_call(cap, 1, 1, SIZE);
    support_wait_exit(waker, 0);
    stop(pid);
    number_fill(data, SIZE, (struct number){ 1, 2 });
    EXPECT(vrd_call(cap, data, SIZE, data, SIZE, SHORT), VRD_ERR_TIMEOUT);
    EXPECT(kill(pid, SIGCONT), 0);
    numbered_call(cap, 1, 3, SIZE); /* and not the answer to the one before */
    server_end(&server, pid, cap);
}

/* Killed where it stands, it is gone at once for who waits to connect, and for who is connected. */
static void a_stopped_publisher_that_is_killed(void **state)
{
    struct server server;
    const pid_t pid = server_start(&server, true);
    char data[SIZE] = "";
    vrd_cap_t cap, other = VRD_CAP_NONE;

    (void)state;
    EXPECT(vrd_connect(NAME, 20 * SECONDS, &cap), 0);
    numbered_call(cap, 1, 0, SIZE);
    stop(pid);
    support_kill(pid);
    EXPECT(vrd_call(cap, data, SIZE, data, SIZE, 20 * SECONDS), VRD_ERR_PEER_GONE);
    EXPECT(vrd_connect(NAME, 0, &other), VRD_ERR_ENDPOINT_NOT_FOUND);
    EXPECT(vrd_cap_close(cap), 0);
    cap = endpoint_new();
    EXPECT(vrd_publish(cap, NAME, NULL), 0); /* the file is there, and taken over */
    EXPECT(vrd_unpublish(NAME), 0);
    EXPECT(vrd_cap_close(cap), 0);
    support_gate_deinit(&server.ready);
    EXPECT(close(server.socket[0]), 0);
    EXPECT(close(server.socket[1]), 0);
}

SUPPORT_MAIN(.tests =
                 (const struct support_test[]){
                     SUPPORT_TEST(a_stopped_publisher_is_waited_for),
                     SUPPORT_TEST(a_stopped_owner_is_waited_for),
                     SUPPORT_TEST(a_server_that_stops_between_two_calls),
                     SUPPORT_TEST(a_stopped_publisher_that_is_killed),
                     { 0 },
                 },
             .warm_up = channels_warm_up)
