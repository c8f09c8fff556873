// SPDX-License-Identifier: MIT
// Request and reply of ZeroMQ, over its fastest transport between two processes of one machine. The
// sockets are made after the fork, since the library has threads. (nng cannot stand beside it: it
// refuses to run in the child of a process that has ever used it.)
#pragma once

#include <unistd.h>

#include <string>

#include "transport/transport.hpp"

#ifdef BENCH_HAVE_ZEROMQ
#include <zmq.h>
#endif

namespace bench {

inline std::string request_address(const char *scheme, const char *library, const void *object)
{
    return std::string(scheme) + "bench-" + library + "-" + std::to_string(getppid()) + "-" +
           std::to_string(reinterpret_cast<uintptr_t>(object));
}

#ifdef BENCH_HAVE_ZEROMQ
template <size_t N> class ZeromqRequest : public TransportLoops<ZeromqRequest<N>, N> {
  public:
    ZeromqRequest() : address_(request_address("ipc://@", "zeromq", this))
    {
    }
    ~ZeromqRequest() override
    {
        if (socket_)
            zmq_close(socket_);
        if (context_)
            zmq_ctx_term(context_);
    }
    std::string name() const override
    {
        return "zeromq";
    }
    void enter_parent() override
    {
        open(ZMQ_REQ);
        if (zmq_connect(socket_, address_.c_str()) < 0)
            throw_errno("zmq_connect");
    }
    void enter_child() override
    {
        open(ZMQ_REP);
        if (zmq_bind(socket_, address_.c_str()) < 0)
            throw_errno("zmq_bind");
    }
    void send(Direction, const Message<N> *message)
    {
        if (zmq_send(socket_, message, N, 0) < 0)
            throw_errno("zmq_send");
    }
    void receive(Direction, Message<N> *message)
    {
        if (zmq_recv(socket_, message, N, 0) != static_cast<int>(N))
            throw_errno("zmq_recv");
    }

  private:
    void open(int type)
    {
        const int at_once = 0;
        context_ = zmq_ctx_new();
        socket_ = zmq_socket(context_, type);
        if (!socket_)
            throw_errno("zmq_socket");
        zmq_setsockopt(socket_, ZMQ_LINGER, &at_once, sizeof at_once);
    }

    std::string address_;
    void *context_ = nullptr, *socket_ = nullptr;
};
#endif

} // namespace bench
