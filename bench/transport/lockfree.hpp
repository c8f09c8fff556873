// SPDX-License-Identifier: MIT
// Boost.Lockfree's spsc_queue with compile-time capacity, laid in shared memory.
#pragma once

#include <boost/lockfree/spsc_queue.hpp>

#include "support/shared.hpp"
#include "transport/transport.hpp"

namespace bench {

template <size_t N, size_t SLOTS>
class LockfreeTransport : public TransportLoops<LockfreeTransport<N, SLOTS>, N> {
  public:
    std::string name() const override
    {
        return "boost spsc_queue";
    }

    void send(Direction direction, const Message<N> *message)
    {
        while (!queues_->queue[direction].push(*reinterpret_cast<const Value *>(message)))
            _mm_pause();
    }
    void receive(Direction direction, Message<N> *message)
    {
        while (!queues_->queue[direction].pop(*reinterpret_cast<Value *>(message)))
            _mm_pause();
    }

  private:
    using Value = std::array<unsigned char, N>;
    struct Queues {
        alignas(128) boost::lockfree::spsc_queue<Value, boost::lockfree::capacity<SLOTS>> queue[2];
    };
    Shared<Queues> queues_;
};

} // namespace bench
