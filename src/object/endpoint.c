/* SPDX-License-Identifier: MIT */
#include "object/endpoint.h"

#include <veridian/error.h>

#include "object/owner.h"
#include "object/port.h"
#include "os/fd.h"

/* The receiver; not yet shown. */
static struct port *endpoint_receiver(uint32_t rights, uint32_t slots, uint64_t max_message,
                                      int far, vrd_cap_t *ret_cap)
{
    struct port *port = port_new(PORT_RECEIVER, rights, slots, max_message, ret_cap);
    fd_auto fd = far;

    if (!port)
        return NULL;
    port->object = VRD_OBJECT_ENDPOINT;
    receiver_init(port);
    if (pending_init(&port->receiver.pending) == 0 && owner_root(port, fd_take(&fd)) == 0)
        return port;
    pending_deinit(&port->receiver.pending);
    port_free(port);
    return NULL;
}

struct port *endpoint_new(uint32_t rights, uint32_t slots, uint64_t max_message, int near, int far,
                          vrd_cap_t *ret_cap)
{
    fd_auto fd = near;
    struct port *receiver = endpoint_receiver(rights, slots, max_message, far, ret_cap);
    struct port *sender;
    vrd_cap_t hidden; /* its own number is nobody's */

    if (!receiver)
        return NULL;
    sender = port_new(PORT_SENDER, rights, slots, max_message, &hidden);
    if (!sender) {
        receiver_close(receiver);
        port_free(receiver);
        return NULL;
    }
    sender->object = VRD_OBJECT_ENDPOINT;
    sender_init(sender, fd_take(&fd));
    sender->sender.twin = *ret_cap;
    receiver->receiver.caller = sender;
    return receiver;
}

void endpoint_show(struct port *receiver, vrd_cap_t cap)
{
    port_show(receiver->receiver.caller, cap);
    port_show(receiver, cap);
}

void endpoint_free(struct port *receiver)
{
    sender_close(receiver->receiver.caller);
    port_free(receiver->receiver.caller);
    receiver_close(receiver);
    port_free(receiver);
}
