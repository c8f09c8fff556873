// SPDX-License-Identifier: MIT
// The floor: a slot with a sequence word and the payload in shared memory, and nothing else. No
// capability, no validation, no sleeping, no flags; compiled for this very CPU and for one size.
#pragma once

#include <immintrin.h>

#include <atomic>

#include "support/shared.hpp"
#include "transport/transport.hpp"

namespace bench {

// Copies of constant size in the widest registers that the target has.
template <size_t N> inline void copy_wide(void *to, const void *from)
{
    __builtin_memcpy(to, from, N);
}

#ifdef __AVX__
inline void copy_32(unsigned char *to, const unsigned char *from)
{
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to),
                        _mm256_loadu_si256(reinterpret_cast<const __m256i *>(from)));
}

// In a slot the payload starts at byte 8 of a line: overlapping copies keep every access in one line.
template <> inline void copy_wide<56>(void *to, const void *from)
{
    auto *out = static_cast<unsigned char *>(to);
    auto *in = static_cast<const unsigned char *>(from);
    copy_32(out, in);
    copy_32(out + 24, in + 24);
}
template <> inline void copy_wide<64>(void *to, const void *from)
{
    copy_wide<56>(to, from);
    __builtin_memcpy(static_cast<unsigned char *>(to) + 56,
                     static_cast<const unsigned char *>(from) + 56, 8);
}
#endif

// Sequence word first. Up to 56 bytes of payload share its line, 64 take two lines, and what is
// larger starts on a line of its own, for the sake of the copies.
template <size_t N> struct alignas(N == 64 ? 128 : 64) Slot {
    std::atomic<uint64_t> sequence{ 0 };
    alignas(N <= 64 ? 8 : 64) unsigned char payload[N];
};

template <size_t N>
inline void slot_write(Slot<N> &slot, uint64_t sequence, const Message<N> *message)
{
    copy_wide<N>(slot.payload, message->bytes.data());
    slot.sequence.store(sequence, std::memory_order_release); // partner: slot_read
}

template <size_t N> inline bool slot_read(Slot<N> &slot, uint64_t sequence, Message<N> *message)
{
    if (slot.sequence.load(std::memory_order_acquire) != sequence)
        return false; // partner: slot_write
    copy_wide<N>(message->bytes.data(), slot.payload);
    return true;
}

// One slot each way. Only for ping-pong: the answer is what says that the slot is free again.
template <size_t N> class BareHandOff : public TransportLoops<BareHandOff<N>, N> {
  public:
    std::string name() const override
    {
        return "bare";
    }

    void send(Direction direction, const Message<N> *message)
    {
        slot_write(slots_->slot[direction], ++sent_, message);
    }
    void receive(Direction direction, Message<N> *message)
    {
        received_++;
        while (!slot_read(slots_->slot[direction], received_, message)) {
        }
    }

  private:
    struct Slots {
        Slot<N> slot[2];
    };
    Shared<Slots> slots_;
    uint64_t sent_ = 0, received_ = 0;
};

// A ring of slots with a cursor that the reader publishes once in an eighth of the ring.
template <size_t N, size_t SLOTS> class BareRing : public TransportLoops<BareRing<N, SLOTS>, N> {
  public:
    std::string name() const override
    {
        return "bare ring";
    }

    void send(Direction direction, const Message<N> *message)
    {
        Ring &ring = rings_->ring[direction];
        while (sent_ - seen_cursor_ >= SLOTS) {
            seen_cursor_ = ring.cursor.load(std::memory_order_acquire); // partner: receive
            if (sent_ - seen_cursor_ >= SLOTS)
                _mm_pause();
        }
        slot_write(ring.slot[sent_ % SLOTS], sent_ + 1, message);
        sent_++;
    }

    void receive(Direction direction, Message<N> *message)
    {
        Ring &ring = rings_->ring[direction];
        while (!slot_read(ring.slot[received_ % SLOTS], received_ + 1, message))
            _mm_pause();
        received_++;
        if (received_ % CURSOR_STEP == 0)
            ring.cursor.store(received_, std::memory_order_release); // partner: send
    }

  private:
    static constexpr uint64_t CURSOR_STEP = SLOTS >= 8 ? SLOTS / 8 : 1;
    struct Ring {
        alignas(128) std::atomic<uint64_t> cursor{ 0 };
        alignas(128) Slot<N> slot[SLOTS];
    };
    struct Rings {
        Ring ring[2];
    };
    Shared<Rings> rings_;
    uint64_t sent_ = 0, received_ = 0, seen_cursor_ = 0;
};

// Not a transport: how long one copy of each message takes, through as much memory as a ring has, in
// one process.
template <size_t N, size_t SLOTS> class OneCopy : public TransportLoops<OneCopy<N, SLOTS>, N> {
  public:
    std::string name() const override
    {
        return "memcpy";
    }

    uint64_t stream_out(uint64_t, uint64_t, bool) override
    {
        return 0;
    }
    uint64_t stream_in(uint64_t warm, uint64_t n) override
    {
        copy_all(warm);
        const uint64_t start = ticks();
        copy_all(n);
        return ticks() - start;
    }

    void send(Direction, const Message<N> *)
    {
    }
    void receive(Direction, Message<N> *)
    {
    }

  private:
    void copy_all(uint64_t n)
    {
        for (uint64_t i = 0; i < n; i++) {
            __builtin_memcpy(&ring_[i % SLOTS], this->pool_[i], N);
            escape(&ring_[i % SLOTS]);
        }
    }
    std::vector<Message<N>> ring_ = std::vector<Message<N>>(SLOTS);
};

} // namespace bench
