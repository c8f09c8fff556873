// SPDX-License-Identifier: MIT
// Shared memory for the bytes and the kernel for the waiting, one call a message: eventfd counters
// over a slot ring, and the barest pair of futex words.
#pragma once

#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>

#include "transport/bare.hpp"

namespace bench {

template <size_t N, size_t SLOTS>
class EventfdTransport : public TransportLoops<EventfdTransport<N, SLOTS>, N> {
  public:
    EventfdTransport()
    {
        for (int direction : { TO_CHILD, TO_PARENT }) {
            filled_[direction] = eventfd(0, EFD_SEMAPHORE);
            free_[direction] = eventfd(SLOTS, EFD_SEMAPHORE);
            if (filled_[direction] < 0 || free_[direction] < 0)
                throw_errno("eventfd");
        }
    }
    ~EventfdTransport() override
    {
        for (int direction : { TO_CHILD, TO_PARENT })
            close(filled_[direction]), close(free_[direction]);
    }
    std::string name() const override
    {
        return "eventfd + shm";
    }

    void send(Direction direction, const Message<N> *message)
    {
        take(free_[direction]);
        copy_wide<N>(rings_->slot[direction][sent_++ % SLOTS], message);
        give(filled_[direction]);
    }
    void receive(Direction direction, Message<N> *message)
    {
        take(filled_[direction]);
        copy_wide<N>(message, rings_->slot[direction][received_++ % SLOTS]);
        give(free_[direction]);
    }

  private:
    static void take(int fd)
    {
        uint64_t one;
        if (read(fd, &one, sizeof one) != sizeof one)
            throw_errno("eventfd read");
    }
    static void give(int fd)
    {
        const uint64_t one = 1;
        if (write(fd, &one, sizeof one) != sizeof one)
            throw_errno("eventfd write");
    }

    struct Rings {
        alignas(64) unsigned char slot[2][SLOTS][N];
    };
    Shared<Rings> rings_;
    int filled_[2], free_[2];
    uint64_t sent_ = 0, received_ = 0;
};

// The floor for a blocked wake-up: one word each way, always waked, never spun on.
template <size_t N> class FutexPair : public TransportLoops<FutexPair<N>, N> {
  public:
    std::string name() const override
    {
        return "bare futex";
    }

    void send(Direction direction, const Message<N> *message)
    {
        Cell &cell = cells_->cell[direction];
        copy_wide<N>(cell.payload, message);
        cell.word.store(++sent_, std::memory_order_release); // partner: receive
        syscall(SYS_futex, &cell.word, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
    }
    void receive(Direction direction, Message<N> *message)
    {
        Cell &cell = cells_->cell[direction];
        received_++;
        while (cell.word.load(std::memory_order_acquire) != received_) // partner: send
            syscall(SYS_futex, &cell.word, FUTEX_WAIT, received_ - 1, nullptr, nullptr, 0);
        copy_wide<N>(message, cell.payload);
    }

  private:
    struct alignas(128) Cell {
        std::atomic<uint32_t> word{ 0 };
        unsigned char payload[N];
    };
    struct Cells {
        Cell cell[2];
    };
    Shared<Cells> cells_;
    uint32_t sent_ = 0, received_ = 0;
};

} // namespace bench
