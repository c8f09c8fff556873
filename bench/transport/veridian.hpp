// SPDX-License-Identifier: MIT
// This library, as any program uses it: public functions, capability checked at every call.
#pragma once

#include <sched.h>
#include <veridian/ipc.h>

#include "transport/transport.hpp"

namespace bench {

template <class Result> Result checked(const char *what, Result result)
{
    if (result >= 0)
        return result;
    throw std::runtime_error(std::string(what) + ": " + vrd_error_name(static_cast<int>(result)));
}

// The right to send once more, with a link of its own from its first use on.
inline vrd_cap_t derived(vrd_cap_t from)
{
    vrd_cap_t cap;
    int result;
    while ((result = vrd_cap_derive(from, VRD_RIGHT_SEND, &cap)) == VRD_ERR_QUOTA_EXCEEDED)
        sched_yield(); // the owner has yet to look at the last ones
    checked("vrd_cap_derive", result);
    return cap;
}

// A channel each way; after the fork each process closes the ends that it does not use.
class ChannelPair {
  public:
    ChannelPair(size_t slots, size_t message_size)
    {
        vrd_channel_options options = {};
        options.slots = slots;
        options.max_message_size = message_size;
        for (Direction direction : { TO_CHILD, TO_PARENT })
            checked("vrd_channel_create_with",
                    vrd_channel_create_with(&options, &sender_[direction], &receiver_[direction]));
    }
    ~ChannelPair()
    {
        for (Direction direction : { TO_CHILD, TO_PARENT })
            close(sender_[direction]), close(receiver_[direction]);
    }
    vrd_cap_t sender(Direction direction) const
    {
        return sender_[direction];
    }
    vrd_cap_t receiver(Direction direction) const
    {
        return receiver_[direction];
    }
    void keep_parent()
    {
        close(receiver_[TO_CHILD]), close(sender_[TO_PARENT]);
    }
    void keep_child()
    {
        close(sender_[TO_CHILD]), close(receiver_[TO_PARENT]);
    }

  private:
    static void close(vrd_cap_t &cap)
    {
        if (cap != VRD_CAP_NONE)
            vrd_cap_close(cap);
        cap = VRD_CAP_NONE;
    }
    vrd_cap_t sender_[2], receiver_[2];
};

template <size_t N> class VeridianTransport : public TransportLoops<VeridianTransport<N>, N> {
  public:
    explicit VeridianTransport(size_t slots) : channels_(slots, N)
    {
    }
    std::string name() const override
    {
        return "veridian";
    }
    void enter_parent() override
    {
        channels_.keep_parent();
    }
    void enter_child() override
    {
        channels_.keep_child();
    }

    void send(Direction direction, const Message<N> *message)
    {
        const int result = vrd_send(channels_.sender(direction), message, N);
        if (__builtin_expect(result < 0, 0))
            checked("vrd_send", result);
    }
    void receive(Direction direction, Message<N> *message)
    {
        const ssize_t result = vrd_receive(channels_.receiver(direction), message, N);
        if (__builtin_expect(result != static_cast<ssize_t>(N), 0))
            checked("vrd_receive", result);
    }

  protected:
    ChannelPair channels_;
};

// The same with an operation code, as a server's protocol would have it.
template <size_t N> class VeridianMessages : public TransportLoops<VeridianMessages<N>, N> {
  public:
    explicit VeridianMessages(size_t slots) : channels_(slots, N)
    {
    }
    std::string name() const override
    {
        return "veridian message";
    }
    void enter_parent() override
    {
        channels_.keep_parent();
    }
    void enter_child() override
    {
        channels_.keep_child();
    }

    void send(Direction direction, const Message<N> *message)
    {
        vrd_message out = {};
        out.data = const_cast<Message<N> *>(message);
        out.len = N;
        out.opcode = OPCODE;
        checked("vrd_send_message",
                vrd_send_message(channels_.sender(direction), &out, VRD_FOREVER));
    }
    void receive(Direction direction, Message<N> *message)
    {
        vrd_message in = {};
        in.data = message;
        in.size = N;
        checked("vrd_receive_message",
                vrd_receive_message(channels_.receiver(direction), &in, VRD_FOREVER));
        if (in.len != N || in.opcode != OPCODE)
            throw std::runtime_error("vrd_receive_message: another message");
    }

  private:
    static constexpr uint32_t OPCODE = 7;
    ChannelPair channels_;
};

// The same with 32 messages a call.
template <size_t N> class VeridianBatch : public VeridianTransport<N> {
  public:
    explicit VeridianBatch(size_t slots) : VeridianTransport<N>(slots), inboxes_(BATCH)
    {
        for (size_t i = 0; i < BATCH; i++) {
            out_[i] = {};
            out_[i].data = this->pool_[i];
            out_[i].len = N;
            in_[i] = {};
            in_[i].data = &inboxes_[i];
            in_[i].size = N;
        }
    }
    std::string name() const override
    {
        return "veridian batch";
    }

    uint64_t stream_out(uint64_t warm, uint64_t n, bool) override
    {
        give(0, warm);
        const uint64_t start = ticks();
        give(warm, warm + n);
        return ticks() - start;
    }

    uint64_t stream_in(uint64_t warm, uint64_t n) override
    {
        uint64_t sum = take(warm);
        const uint64_t start = ticks();
        sum += take(n);
        const uint64_t elapsed = ticks() - start;
        this->verify(sum, warm + n);
        return elapsed;
    }

  private:
    static constexpr size_t BATCH = 32;

    void give(uint64_t first, uint64_t end)
    {
        for (uint64_t i = first; i < end;) {
            const size_t from = i % BATCH, most = std::min<uint64_t>(BATCH - from, end - i);
            i += static_cast<uint64_t>(
                checked("vrd_send_batch", vrd_send_batch(this->channels_.sender(TO_CHILD),
                                                         &out_[from], most, VRD_FOREVER)));
        }
    }

    uint64_t take(uint64_t n)
    {
        uint64_t sum = 0;
        for (uint64_t i = 0; i < n;) {
            const size_t most = std::min<uint64_t>(BATCH, n - i);
            const int count =
                checked("vrd_receive_batch", vrd_receive_batch(this->channels_.receiver(TO_CHILD),
                                                               in_, most, VRD_FOREVER));
            for (int k = 0; k < count; k++)
                sum += checksum(inboxes_[static_cast<size_t>(k)]);
            i += static_cast<uint64_t>(count);
        }
        return sum;
    }

    std::vector<Message<N>> inboxes_;
    vrd_message out_[BATCH], in_[BATCH];
};

} // namespace bench
