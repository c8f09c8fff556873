// SPDX-License-Identifier: MIT
// Concurrency Kit's ck_ring, single producer and single consumer, messages by value, laid in shared
// memory.
#pragma once

// The header is C: one function returns `false` for a null pointer, and CK_RING_PROTOTYPE converts
// from void * silently. So we call the inline functions that the prototypes for values consist of.
#define false 0
extern "C" {
#include <ck_ring.h>
}
#undef false

#include "support/shared.hpp"
#include "transport/transport.hpp"

namespace bench {

template <size_t N, size_t SLOTS>
class CkTransport : public TransportLoops<CkTransport<N, SLOTS>, N> {
  public:
    CkTransport()
    {
        for (auto &channel : channels_->channel)
            ck_ring_init(&channel.ring, SLOTS);
    }
    std::string name() const override
    {
        return "ck_ring";
    }

    void send(Direction direction, const Message<N> *message)
    {
        Channel &channel = channels_->channel[direction];
        while (!_ck_ring_enqueue_sp(&channel.ring, channel.buffer, message, N, nullptr))
            ck_pr_stall();
    }
    void receive(Direction direction, Message<N> *message)
    {
        Channel &channel = channels_->channel[direction];
        while (!_ck_ring_dequeue_sc(&channel.ring, channel.buffer, message, N))
            ck_pr_stall();
    }

  private:
    struct Channel {
        alignas(128) ck_ring_t ring;
        alignas(128) unsigned char buffer[SLOTS][N];
    };
    struct Channels {
        Channel channel[2];
    };
    Shared<Channels> channels_;
};

} // namespace bench
