// SPDX-License-Identifier: MIT
// What every competitor looks like to the programs: two processes, one message path each way.
//
// A transport writes two inline functions, send(direction, message) and receive(direction, message);
// the loops below are instantiated for each, so that no virtual call stands between two messages.
// Messages are prepared in memory and end in memory, whatever the transport: a reference whose copies
// the compiler could keep in registers would measure another job than ours.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include "support/clock.hpp"

namespace bench {

enum Direction { TO_CHILD = 0, TO_PARENT = 1 };

[[noreturn]] inline void throw_errno(const char *what)
{
    throw std::system_error(errno, std::generic_category(), what);
}

template <size_t N> struct alignas(64) Message {
    std::array<unsigned char, N> bytes;
};

// Makes the compiler believe that the message is read and written here.
inline void escape(void *message)
{
    asm volatile("" : : "r"(message) : "memory");
}

inline uint64_t load_word(const unsigned char *bytes)
{
    uint64_t word;
    __builtin_memcpy(&word, bytes, sizeof word);
    return word;
}

// Reads all words of a small message and one word of each line of a large one: the transports have
// copied every byte by then, and this is the consumer's look at what arrived.
template <size_t N> inline uint64_t checksum(const Message<N> &message)
{
    constexpr size_t stride = N <= 256 ? 8 : 64;
    uint64_t sum = 0;
    for (size_t i = 0; i + 8 <= N; i += stride)
        sum += load_word(&message.bytes[i]);
    return sum;
}

// Messages with known content, taken in turn. Small ones are many, so that a lost, repeated or torn
// message shows in the sum of a stream.
template <size_t N> class MessagePool {
  public:
    MessagePool() : messages_(COUNT)
    {
        uint64_t x = 88172645463325252u;
        for (size_t i = 0; i < COUNT; i++) {
            for (auto &byte : messages_[i].bytes) {
                x ^= x << 13, x ^= x >> 7, x ^= x << 17;
                byte = static_cast<unsigned char>(x);
            }
            sums_[i] = checksum(messages_[i]);
        }
    }
    Message<N> *operator[](uint64_t i)
    {
        return &messages_[i % COUNT];
    }
    uint64_t sum(uint64_t count) const
    {
        uint64_t total = 0;
        for (size_t i = 0; i < COUNT; i++)
            total += sums_[i] * (count / COUNT + (i < count % COUNT));
        return total;
    }

  private:
    static constexpr size_t COUNT = N <= 256 ? 32 : 4;
    std::vector<Message<N>> messages_;
    std::array<uint64_t, COUNT> sums_;
};

class Transport {
  public:
    virtual ~Transport() = default;
    virtual std::string name() const = 0;

    // After the fork, once in each process.
    virtual void enter_parent()
    {
    }
    virtual void enter_child()
    {
    }

    // Before the child goes away without any destructor.
    virtual void leave_child()
    {
    }

    // n round trips; the parent's samples are ticks a round trip.
    virtual void ping(uint64_t n, uint64_t *samples) = 0;
    virtual void pong(uint64_t n) = 0;

    // Both sides asleep: each waits pause_ns before it sends, so that the other one sleeps by then.
    // The samples are ticks one way, stamped in the message by the sender.
    virtual void ping_asleep(uint64_t n, uint64_t pause_ns, uint64_t *samples) = 0;
    virtual void pong_asleep(uint64_t n, uint64_t pause_ns, uint64_t *samples) = 0;

    // warm + n messages from parent to child; each returns the ticks that the last n took it.
    // Fresh: the sender writes each message word by word just before it sends it, as a program that
    // fills in a struct does, so that the transport's loads meet stores still on their way.
    virtual uint64_t stream_out(uint64_t warm, uint64_t n, bool fresh) = 0;
    virtual uint64_t stream_in(uint64_t warm, uint64_t n) = 0;
};

// Self has send(Direction, const Message<N> *) and receive(Direction, Message<N> *).
template <class Self, size_t N> class TransportLoops : public Transport {
  public:
    void ping(uint64_t n, uint64_t *samples) override
    {
        uint64_t sum = 0, last = ticks();
        for (uint64_t i = 0; i < n; i++) {
            send(TO_CHILD, pool_[i]);
            receive(TO_PARENT);
            sum += checksum(*inbox_);
            const uint64_t now = ticks();
            samples[i] = now - last;
            last = now;
        }
        verify(sum, n);
    }

    void pong(uint64_t n) override
    {
        uint64_t sum = 0;
        for (uint64_t i = 0; i < n; i++) {
            receive(TO_CHILD);
            send(TO_PARENT, inbox_.get());
            sum += checksum(*inbox_);
        }
        verify(sum, n);
    }

    void ping_asleep(uint64_t n, uint64_t pause_ns, uint64_t *samples) override
    {
        for (uint64_t i = 0; i < n; i++) {
            send_stamped(TO_CHILD, pause_ns);
            samples[i] = receive_stamped(TO_PARENT);
        }
    }

    void pong_asleep(uint64_t n, uint64_t pause_ns, uint64_t *samples) override
    {
        for (uint64_t i = 0; i < n; i++) {
            samples[i] = receive_stamped(TO_CHILD);
            send_stamped(TO_PARENT, pause_ns);
        }
    }

    uint64_t stream_out(uint64_t warm, uint64_t n, bool fresh) override
    {
        give(0, warm, fresh);
        const uint64_t start = ticks();
        give(warm, warm + n, fresh);
        return ticks() - start;
    }

    uint64_t stream_in(uint64_t warm, uint64_t n) override
    {
        uint64_t sum = take(warm);
        const uint64_t start = ticks();
        sum += take(n);
        const uint64_t elapsed = ticks() - start;
        verify(sum, warm + n);
        return elapsed;
    }

  protected:
    void verify(uint64_t sum, uint64_t n) const
    {
        if (sum != pool_.sum(n))
            throw std::runtime_error(name() + ": wrong bytes arrived");
    }

    MessagePool<N> pool_;
    std::unique_ptr<Message<N>> inbox_ = std::make_unique<Message<N>>();
    std::unique_ptr<Message<N>> outbox_ = std::make_unique<Message<N>>();

  private:
    void send(Direction direction, Message<N> *message)
    {
        escape(message);
        static_cast<Self *>(this)->send(direction, message);
    }

    static void write_words(Message<N> *to, const Message<N> &from)
    {
        for (size_t i = 0; i + 8 <= N; i += 8) {
            const uint64_t word = load_word(&from.bytes[i]);
            __builtin_memcpy(&to->bytes[i], &word, sizeof word);
            escape(to); // keeps the compiler from joining the stores
        }
    }

    void receive(Direction direction)
    {
        static_cast<Self *>(this)->receive(direction, inbox_.get());
        escape(inbox_.get());
    }

    void give(uint64_t first, uint64_t end, bool fresh)
    {
        if (!fresh) {
            for (uint64_t i = first; i < end; i++)
                send(TO_CHILD, pool_[i]);
            return;
        }
        for (uint64_t i = first; i < end; i++) {
            write_words(outbox_.get(), *pool_[i]);
            send(TO_CHILD, outbox_.get());
        }
    }

    uint64_t take(uint64_t n)
    {
        uint64_t sum = 0;
        for (uint64_t i = 0; i < n; i++) {
            receive(TO_CHILD);
            sum += checksum(*inbox_);
        }
        return sum;
    }

    void send_stamped(Direction direction, uint64_t pause_ns)
    {
        busy_wait_ns(pause_ns);
        const uint64_t now = ticks_ordered();
        __builtin_memcpy(inbox_->bytes.data(), &now, sizeof now);
        send(direction, inbox_.get());
    }

    uint64_t receive_stamped(Direction direction)
    {
        receive(direction);
        return ticks_ordered() - load_word(inbox_->bytes.data());
    }
};

} // namespace bench
