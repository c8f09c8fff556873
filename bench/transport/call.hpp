// SPDX-License-Identifier: MIT
// Calls and replies of this library; the parent is the client, the child serves.
#pragma once

#include <unistd.h>

#include <utility>
#include <vector>

#include "transport/kernel.hpp"
#include "transport/veridian.hpp"

namespace bench {

// The right to call, as many times as there are clients: each with a link of its own.
class Service {
  public:
    Service(size_t clients, size_t message_size) : clients_(clients)
    {
        vrd_channel_options options = {};
        options.max_message_size = message_size;
        uint64_t id;
        checked("vrd_endpoint_create_with", vrd_endpoint_create_with(&options, &id, &service_));
    }
    ~Service()
    {
        close_service();
        for (vrd_cap_t client : clients_)
            if (client != VRD_CAP_NONE)
                vrd_cap_close(client);
        close_fd(invitation_);
    }
    // Before the fork.
    void invite()
    {
        checked("vrd_cap_export",
                vrd_cap_export(service_, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &invitation_));
    }
    // In the client's process: all call once.
    void enter_clients()
    {
        close_service();
        checked("vrd_cap_import", vrd_cap_import(std::exchange(invitation_, -1), &clients_[0]));
        for (size_t i = 0; i < clients_.size(); i++) {
            if (i > 0)
                clients_[i] = derived(clients_[0]);
            checked("vrd_call", vrd_call(clients_[i], "", 0, nullptr, 0, VRD_FOREVER));
        }
    }
    // In the server's process.
    void enter_server()
    {
        close_fd(invitation_);
        for (size_t i = 0; i < clients_.size(); i++) {
            vrd_message request = {};
            vrd_cap_t reply;
            checked("vrd_receive_call", vrd_receive_call(service_, &request, &reply, VRD_FOREVER));
            checked("vrd_reply", vrd_reply(reply, nullptr, 0));
        }
    }
    vrd_cap_t service() const
    {
        return service_;
    }
    vrd_cap_t client() const
    {
        return clients_.back();
    }

  private:
    void close_service()
    {
        if (service_ != VRD_CAP_NONE)
            vrd_cap_close(service_);
        service_ = VRD_CAP_NONE;
    }

    vrd_cap_t service_ = VRD_CAP_NONE;
    int invitation_ = -1;
    std::vector<vrd_cap_t> clients_;
};

template <size_t N> class CallTransport : public TransportLoops<CallTransport<N>, N> {
  public:
    explicit CallTransport(size_t clients = 1) : service_(clients, N), n_clients_(clients)
    {
        service_.invite();
        request_.size = N;
    }
    std::string name() const override
    {
        return n_clients_ == 1 ? "veridian" : std::to_string(n_clients_) + " clients";
    }
    void enter_parent() override
    {
        service_.enter_clients();
    }
    void enter_child() override
    {
        service_.enter_server();
    }

    // The client's call is made when its reply is wanted.
    void send(Direction direction, const Message<N> *message)
    {
        if (direction == TO_CHILD)
            outgoing_ = message;
        else if (const int result = vrd_reply(reply_, message, N); result < 0)
            checked("vrd_reply", result);
    }
    void receive(Direction direction, Message<N> *message)
    {
        if (direction == TO_PARENT) {
            const ssize_t result =
                vrd_call(service_.client(), outgoing_, N, message, N, VRD_FOREVER);
            if (__builtin_expect(result != static_cast<ssize_t>(N), 0))
                checked("vrd_call", result);
            return;
        }
        request_.data = message;
        const int result = vrd_receive_call(service_.service(), &request_, &reply_, VRD_FOREVER);
        if (__builtin_expect(result < 0, 0))
            checked("vrd_receive_call", result);
    }

  private:
    Service service_;
    size_t n_clients_;
    const Message<N> *outgoing_ = nullptr;
    vrd_message request_ = {};
    vrd_cap_t reply_ = VRD_CAP_NONE;
};

} // namespace bench
