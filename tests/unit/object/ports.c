/* SPDX-License-Identifier: MIT */
#include "unit/object/ports.h"

#include "object/control.h"

int ports_warm_up(void)
{
    vrd_cap_t send, receive;
    char byte;

    if (support_warm_up_channel() != 0 || vrd_channel_create(1, &send, &receive) != 0)
        return -1;
    if (vrd_receive_timed(receive, &byte, 1, 30 * MS) != VRD_ERR_TIMEOUT)
        return -1;
    return vrd_cap_close(send) != 0 || vrd_cap_close(receive) != 0 ? -1 : 0;
}

struct port *port_receiver(uint32_t capacity, uint64_t max_message, vrd_cap_t *ret_cap)
{
    struct port *port;

    support_require_equal(control_ready(), 0);
    control_lock();
    port = port_new(PORT_RECEIVER, RIGHTS_RECEIVER, capacity, max_message, ret_cap);
    support_require(port != NULL);
    receiver_init(port);
    port_show(port, *ret_cap);
    control_unlock();
    return port;
}

struct port *port_sender(uint32_t capacity, uint64_t max_message, int root, vrd_cap_t *ret_cap)
{
    struct port *port;

    support_require_equal(control_ready(), 0);
    control_lock();
    port = port_new(PORT_SENDER, RIGHTS_SENDER, capacity, max_message, ret_cap);
    support_require(port != NULL);
    sender_init(port, root);
    port_show(port, *ret_cap);
    control_unlock();
    return port;
}

void port_hold(struct port *port, vrd_cap_t cap)
{
    support_require(port_enter(port, cap));
}

void port_let_go(struct port *port)
{
    pin_leave(&port->handle.pin);
}

void port_hold_and_close(struct port *port, vrd_cap_t cap)
{
    port_hold(port, cap);
    port_close(port);
}

int frame_put(int fd, const struct frame *frame, const int *fds, size_t n_fds)
{
    uint8_t buf[FRAME_SIZE];

    frame_encode(frame, buf);
    return socket_send(fd, buf, sizeof buf, fds, n_fds);
}

struct frame frame_get(int fd, enum frame_type type, struct datagram *datagram)
{
    struct frame frame = { 0 };

    support_require_equal(socket_receive(fd, datagram), 1);
    support_require_equal(frame_decode(datagram->data, datagram->len, datagram->n_fds, &frame), 0);
    support_require_equal(frame.type, type);
    return frame;
}
