/* SPDX-License-Identifier: MIT */
#include "worker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MESSAGE_MAX 8192
#define SENDERS_MAX 4096
#define LONG_NS INT64_C(20000000000)

static uint8_t message_byte(struct worker_tag tag, size_t at)
{
    return (uint8_t)(tag.sender * 37u + tag.index * 11u + at);
}

static void message_fill(uint8_t *data, size_t size, struct worker_tag tag)
{
    for (size_t i = sizeof tag; i < size; i++)
        data[i] = message_byte(tag, i);
    memcpy(data, &tag, sizeof tag);
}

static struct worker_tag message_check(const uint8_t *data, size_t size)
{
    struct worker_tag tag;

    support_require(size >= sizeof tag);
    memcpy(&tag, data, sizeof tag);
    for (size_t i = sizeof tag; i < size; i++)
        support_require(data[i] == message_byte(tag, i));
    return tag;
}

/* ---- in the worker ------------------------------------------------------------------------------- */

static struct vrd_message message_with(const struct worker_order *order, struct worker_tag tag,
                                       uint8_t data[MESSAGE_MAX])
{
    struct vrd_message message = { .data = data, .len = order->size, .n_caps = order->carried.n };

    message_fill(data, order->size, tag);
    memcpy(message.caps, order->carried.caps, sizeof message.caps);
    return message;
}

static void message_tell(const struct vrd_message *message, struct worker_answer *answer)
{
    answer->tag = message_check(message->data, message->len);
    answer->badge = message->badge;
    answer->pid = message->source.pid;
    answer->carried.n = message->n_caps;
    memcpy(answer->carried.caps, message->caps, sizeof message->caps);
}

static int order_send(const struct worker_order *order, struct worker_tag tag, int64_t wait_ns)
{
    uint8_t data[MESSAGE_MAX];
    const struct vrd_message message = message_with(order, tag, data);

    return order->carried.n > 0 ? vrd_send_message(order->cap, &message, wait_ns)
                                : vrd_send_timed(order->cap, data, order->size, wait_ns);
}

static int order_receive(const struct worker_order *order, int64_t wait_ns,
                         struct worker_answer *answer)
{
    uint8_t data[MESSAGE_MAX];
    struct vrd_message message = { .data = data, .size = sizeof data, .max_caps = order->wanted };
    const int result = order->op == WORKER_RECEIVE_CALL
                           ? vrd_receive_call(order->cap, &message, &answer->cap, wait_ns)
                           : vrd_receive_message(order->cap, &message, wait_ns);

    if (result == 0)
        message_tell(&message, answer);
    return result;
}

static int order_call(const struct worker_order *order, struct worker_answer *answer)
{
    uint8_t data[MESSAGE_MAX], buf[MESSAGE_MAX];
    const struct vrd_message message = message_with(order, order->tag, data);
    struct vrd_message reply = { .data = buf, .size = sizeof buf, .max_caps = order->wanted };
    const int result = vrd_call_message(order->cap, &message, &reply, order->wait_ns);

    if (result == 0)
        message_tell(&reply, answer);
    return result;
}

static int order_reply(const struct worker_order *order)
{
    uint8_t data[MESSAGE_MAX];
    const struct vrd_message message = message_with(order, order->tag, data);

    return vrd_reply_message(order->cap, &message);
}

static int order_create_endpoint(const struct worker_order *order, struct worker_answer *answer)
{
    const struct vrd_channel_options options = { .slots = order->size };
    uint64_t id;
    const int result = vrd_endpoint_create_with(&options, &id, &answer->other);

    return result < 0
               ? result
               : vrd_cap_derive(answer->other, VRD_RIGHT_SEND | VRD_RIGHT_GRANT | VRD_RIGHT_REVOKE,
                                &answer->cap);
}

static int order_send_many(const struct worker_order *order)
{
    struct worker_tag tag = order->tag;

    for (uint32_t i = 0; i < order->count; i++, tag.index++) {
        const int result = order_send(order, tag, LONG_NS);

        if (result < 0)
            return result;
    }
    return 0;
}

static int order_receive_many(const struct worker_order *order, struct worker_answer *answer)
{
    static uint32_t next[SENDERS_MAX]; /* the next index of each sender, plus one; 0: not seen */

    memset(next, 0, sizeof next);
    for (uint32_t i = 0; i < order->count; i++) {
        const int result = order_receive(order, LONG_NS, answer);

        if (result < 0)
            return result;
        support_require(answer->tag.sender < SENDERS_MAX);
        if (next[answer->tag.sender] != 0)
            support_require_equal(answer->tag.index + 1, next[answer->tag.sender]);
        next[answer->tag.sender] = answer->tag.index + 2;
    }
    return 0;
}

static int order_info(vrd_cap_t cap, struct worker_answer *answer)
{
    struct vrd_cap_info info;
    const int result = vrd_cap_info(cap, &info);

    if (result == 0) {
        answer->rights = info.rights;
        answer->badge = info.badge;
    }
    return result;
}

static int64_t order_carry_out(const struct worker_order *order, struct worker_answer *answer)
{
    switch (order->op) {
    case WORKER_CREATE:
        return vrd_channel_create(order->size, &answer->cap, &answer->other);
    case WORKER_CREATE_ENDPOINT:
        return order_create_endpoint(order, answer);
    case WORKER_DERIVE:
        return order->badge != 0
                   ? vrd_cap_derive_badged(order->cap, order->rights, order->badge, &answer->cap)
                   : vrd_cap_derive(order->cap, order->rights, &answer->cap);
    case WORKER_EXPORT:
        return vrd_cap_export(order->cap, order->rights, &answer->fd);
    case WORKER_IMPORT:
        return vrd_cap_import(order->fd, &answer->cap);
    case WORKER_CLOSE:
        return vrd_cap_close(order->cap);
    case WORKER_REVOKE:
        return vrd_cap_revoke(order->cap);
    case WORKER_INFO:
        return order_info(order->cap, answer);
    case WORKER_SEND:
        return order_send(order, order->tag, 0);
    case WORKER_RECEIVE:
    case WORKER_RECEIVE_CALL:
        return order_receive(order, order->wait_ns, answer);
    case WORKER_CALL:
        return order_call(order, answer);
    case WORKER_REPLY:
        return order_reply(order);
    case WORKER_SEND_MANY:
        return order_send_many(order);
    case WORKER_RECEIVE_MANY:
        return order_receive_many(order, answer);
    case WORKER_QUIT:
        break;
    }
    return 0;
}

static void worker_put(int socket, const void *data, size_t size, int fd)
{
    support_require_equal(send(socket, data, size, MSG_NOSIGNAL), size);
    if (fd >= 0)
        support_send_fd(socket, fd);
}

static bool worker_get(int socket, void *data, size_t size)
{
    const ssize_t n = recv(socket, data, size, 0);

    support_require(n == 0 || n == (ssize_t)size);
    return n > 0;
}

static int worker_run(int socket)
{
    struct support_snapshot before;
    struct worker_order order = { .op = WORKER_CREATE };

    support_require(support_warm_up_channel() == 0);
    support_snapshot_take(&before);
    while (order.op != WORKER_QUIT && worker_get(socket, &order, sizeof order)) {
        struct worker_answer answer = { .fd = -1 };

        if (order.fd >= 0)
            order.fd = support_receive_fd(socket);
        answer.result = order_carry_out(&order, &answer);
        worker_put(socket, &answer, sizeof answer, answer.fd);
        if (answer.fd >= 0)
            close(answer.fd);
    }
    return support_snapshot_holds(&before) ? 0 : 1;
}

/* ---- in the test ----------------------------------------------------------------------------------- */

struct start {
    int own, other;
    void (*forget)(void);
};

static int worker_main(void *arg)
{
    const struct start *start = arg;

    close(start->other);
    start->forget();
    return worker_run(start->own);
}

void worker_start(struct worker *worker, void (*forget)(void))
{
    int pair[2];

    support_socket_pair(pair);
    worker->pid = support_child(
        worker_main, &(struct start){ .own = pair[1], .other = pair[0], .forget = forget });
    worker->socket = pair[0];
    close(pair[1]);
}

void worker_tell(const struct worker *worker, const struct worker_order *order)
{
    worker_put(worker->socket, order, sizeof *order, order->fd);
}

struct worker_answer worker_hear(const struct worker *worker)
{
    struct worker_answer answer = { .fd = -1 };

    support_require(worker_get(worker->socket, &answer, sizeof answer));
    if (answer.fd >= 0)
        answer.fd = support_receive_fd(worker->socket);
    return answer;
}

struct worker_answer worker_do(const struct worker *worker, const struct worker_order *order)
{
    worker_tell(worker, order);
    return worker_hear(worker);
}

void worker_quit(struct worker *worker)
{
    worker_do(worker, &(struct worker_order){ .op = WORKER_QUIT, .fd = -1 });
    support_wait_exit(worker->pid, 0);
    close(worker->socket);
}

void worker_kill(struct worker *worker)
{
    support_kill(worker->pid);
    close(worker->socket);
}
