// SPDX-License-Identifier: MIT
// Request and reply of ZeroMQ and of nng, over their fastest transports between two processes of one
// machine. The sockets are made after the fork, since the libraries have threads. nng refuses to run in
// the child of a process that has ever used it: its contest has to be the last that forks.
#pragma once

#include <unistd.h>

#include <string>

#include "transport/transport.hpp"

#ifdef BENCH_HAVE_ZEROMQ
#include <zmq.h>
#endif
#ifdef BENCH_HAVE_NNG
#include <nng/nng.h>
#include <nng/protocol/reqrep0/rep.h>
#include <nng/protocol/reqrep0/req.h>
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

#ifdef BENCH_HAVE_NNG
template <size_t N> class NngRequest : public TransportLoops<NngRequest<N>, N> {
  public:
    NngRequest() : address_(request_address("abstract://", "nng", this))
    {
    }
    ~NngRequest() override
    {
        if (opened_)
            nng_close(socket_);
    }
    std::string name() const override
    {
        return "nng";
    }
    void enter_parent() override
    {
        opened("nng_req0_open", nng_req0_open(&socket_));
        // the other side may not listen yet: it is tried again
        succeed("nng_dial", nng_dial(socket_, address_.c_str(), nullptr, NNG_FLAG_NONBLOCK));
    }
    void enter_child() override
    {
        opened("nng_rep0_open", nng_rep0_open(&socket_));
        succeed("nng_listen", nng_listen(socket_, address_.c_str(), nullptr, 0));
    }
    void send(Direction, const Message<N> *message)
    {
        succeed("nng_send", nng_send(socket_, const_cast<Message<N> *>(message), N, 0));
    }
    void receive(Direction, Message<N> *message)
    {
        size_t size = N;
        succeed("nng_recv", nng_recv(socket_, message, &size, 0));
    }

  private:
    static void succeed(const char *what, int error)
    {
        if (error != 0)
            throw std::runtime_error(std::string(what) + ": " + nng_strerror(error));
    }
    void opened(const char *what, int error)
    {
        succeed(what, error);
        opened_ = true;
    }

    std::string address_;
    nng_socket socket_ = NNG_SOCKET_INITIALIZER;
    bool opened_ = false;
};
#endif

} // namespace bench
