/* SPDX-License-Identifier: MIT */
#include "transport.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

const char *transport_name(enum transport_kind kind)
{
    return kind == TRANSPORT_VERIDIAN ? "veridian" : "pipe";
}

int transport_parse(const char *name, enum transport_kind *ret)
{
    for (enum transport_kind kind = TRANSPORT_VERIDIAN; kind <= TRANSPORT_PIPE; kind++) {
        if (strcmp(name, transport_name(kind)) == 0) {
            *ret = kind;
            return VRD_OK;
        }
    }
    return VRD_ERR_INVALID_ARGUMENT;
}

/* ---- channels ---------------------------------------------------------------------------------- */

/* A channel whose ends are both on their way: this process keeps neither. */
static int channel_create(size_t slots, size_t message_size, int *ret_send_fd, int *ret_receive_fd)
{
    const struct vrd_channel_options options = {
        .slots = slots,
        .max_message_size = message_size,
    };
    vrd_cap_t send = VRD_CAP_NONE;
    vrd_cap_t receive = VRD_CAP_NONE;
    int send_fd = -1;
    int receive_fd = -1;

    int err = vrd_channel_create_with(&options, &send, &receive);
    if (err < 0)
        return err;

    err = vrd_cap_export(send, VRD_RIGHT_SEND, &send_fd);
    if (err == VRD_OK)
        err = vrd_cap_export(receive, VRD_RIGHT_RECEIVE, &receive_fd);
    vrd_cap_close(send);
    if (err < 0) {
        vrd_cap_close(receive);
        if (send_fd >= 0)
            close(send_fd);
        return err;
    }
    /* The right to receive exists once: exporting it has closed `receive`. */
    *ret_send_fd = send_fd;
    *ret_receive_fd = receive_fd;
    return VRD_OK;
}

static int channel_receive(vrd_cap_t cap, struct message *message, size_t size)
{
    ssize_t got = vrd_receive(cap, message, size);
    if (got < 0)
        return (int)got;
    bool whole = (size_t)got >= MESSAGE_HEADER && (size_t)got - MESSAGE_HEADER == message->length;
    return whole ? VRD_OK : VRD_ERR_INVALID_MESSAGE;
}

/* ---- pipes ------------------------------------------------------------------------------------- */

/*
 * A pipe has no messages. Here every message takes the same number of bytes, so that one write and
 * one read move one: the cheapest framing for a pipe, with no length to read first.
 */
static int pipe_create(size_t slots, size_t message_size, int *ret_send_fd, int *ret_receive_fd)
{
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) < 0)
        return VRD_ERR_SYSTEM;

    /* The same room as the channel has, where /proc/sys/fs/pipe-max-size allows it. */
    size_t room = slots * message_size;
    if (room > 65536)
        (void)fcntl(fds[1], F_SETPIPE_SZ, room < INT32_MAX ? (int)room : INT32_MAX);
    *ret_receive_fd = fds[0];
    *ret_send_fd = fds[1];
    return VRD_OK;
}

static int pipe_send(int fd, const void *data, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return errno == EPIPE ? VRD_ERR_PEER_GONE : VRD_ERR_SYSTEM;
    }
    return VRD_OK;
}

static int pipe_receive(int fd, struct message *message, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = read(fd, (char *)message + done, size - done);
        if (n == 0)
            return VRD_ERR_PEER_GONE;
        if (n > 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return VRD_ERR_SYSTEM;
    }
    return message->length <= size - MESSAGE_HEADER ? VRD_OK : VRD_ERR_INVALID_MESSAGE;
}

/* ---- either ------------------------------------------------------------------------------------ */

int transport_create(enum transport_kind kind, size_t slots, size_t message_size, int *ret_send_fd,
                     int *ret_receive_fd)
{
    return kind == TRANSPORT_VERIDIAN
               ? channel_create(slots, message_size, ret_send_fd, ret_receive_fd)
               : pipe_create(slots, message_size, ret_send_fd, ret_receive_fd);
}

int transport_open(struct transport *transport, enum transport_kind kind, int fd,
                   size_t message_size)
{
    *transport = (struct transport){ .kind = kind, .message_size = message_size, .fd = -1 };
    if (kind == TRANSPORT_VERIDIAN)
        return vrd_cap_import(fd, &transport->cap);
    transport->fd = fd;
    return VRD_OK;
}

void transport_close(struct transport *transport)
{
    if (transport->kind == TRANSPORT_VERIDIAN)
        vrd_cap_close(transport->cap);
    else
        close(transport->fd);
}

int transport_send(struct transport *transport, const struct message *message)
{
    if (transport->kind == TRANSPORT_VERIDIAN)
        return vrd_send(transport->cap, message, MESSAGE_HEADER + message->length);
    return pipe_send(transport->fd, message, transport->message_size);
}

int transport_receive(struct transport *transport, struct message *message)
{
    if (transport->kind == TRANSPORT_VERIDIAN)
        return channel_receive(transport->cap, message, transport->message_size);
    return pipe_receive(transport->fd, message, transport->message_size);
}
