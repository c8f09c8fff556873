// SPDX-License-Identifier: MIT
// Messages that are written where they are to be read, or as few copies from there as can be, beside
// programs that copy: whatever their size, the sender touches their first and last word, which the
// receiver checks. What comes back is 64 bytes, by the same means.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <cstring>
#include <vector>

#include "transport/kernel.hpp"
#include "transport/veridian.hpp"

namespace bench {

constexpr size_t LENT_ANSWER = 64;

inline void stamp(void *data, size_t size, uint64_t number)
{
    auto *bytes = static_cast<unsigned char *>(data);
    __builtin_memcpy(bytes, &number, sizeof number);
    __builtin_memcpy(bytes + size - sizeof number, &number, sizeof number);
}

inline bool stamped(const void *data, size_t size, uint64_t number)
{
    auto *bytes = static_cast<const unsigned char *>(data);
    return load_word(bytes) == number && load_word(bytes + size - sizeof number) == number;
}

// Self has put(Direction, size, number) and take(Direction, size, number); false: something else came.
template <class Self> class LentTransport : public Transport {
  public:
    explicit LentTransport(size_t size) : sizes_{ size, LENT_ANSWER }
    {
    }
    void ping(uint64_t n, uint64_t *samples) override
    {
        uint64_t last = ticks();
        for (uint64_t i = 0; i < n; i++) {
            put(TO_CHILD, i);
            take(TO_PARENT, i);
            const uint64_t now = ticks();
            samples[i] = now - last;
            last = now;
        }
    }
    void pong(uint64_t n) override
    {
        for (uint64_t i = 0; i < n; i++) {
            take(TO_CHILD, i);
            put(TO_PARENT, i);
        }
    }
    void ping_asleep(uint64_t, uint64_t, uint64_t *) override
    {
        throw std::logic_error("round trips only");
    }
    void pong_asleep(uint64_t, uint64_t, uint64_t *) override
    {
        throw std::logic_error("round trips only");
    }
    uint64_t stream_out(uint64_t, uint64_t, bool) override
    {
        throw std::logic_error("round trips only");
    }
    uint64_t stream_in(uint64_t, uint64_t) override
    {
        throw std::logic_error("round trips only");
    }

  protected:
    size_t size(Direction direction) const
    {
        return sizes_[direction];
    }

  private:
    void put(Direction direction, uint64_t number)
    {
        static_cast<Self *>(this)->put(direction, sizes_[direction], number);
    }
    void take(Direction direction, uint64_t number)
    {
        if (!static_cast<Self *>(this)->take(direction, sizes_[direction], number))
            throw std::runtime_error(name() + ": wrong bytes arrived");
    }
    size_t sizes_[2];
};

// Ours: lent and viewed; or (COPIED) sent and received from and into the program's own memory.
template <bool COPIED> class VeridianLent : public LentTransport<VeridianLent<COPIED>> {
  public:
    explicit VeridianLent(size_t size)
        : LentTransport<VeridianLent<COPIED>>(size), channels_(16, size),
          buffer_(COPIED ? size : LENT_ANSWER)
    {
    }
    std::string name() const override
    {
        return COPIED ? "copied" : "veridian";
    }
    void enter_parent() override
    {
        channels_.keep_parent();
    }
    void enter_child() override
    {
        channels_.keep_child();
    }
    void put(Direction direction, size_t size, uint64_t number)
    {
        const vrd_cap_t cap = channels_.sender(direction);
        struct vrd_loan loan;
        if (COPIED || direction == TO_PARENT) {
            stamp(buffer_.data(), size, number);
            checked("vrd_send", vrd_send(cap, buffer_.data(), size));
            return;
        }
        checked("vrd_loan", vrd_loan(cap, size, &loan));
        stamp(loan.data, size, number);
        checked("vrd_loan_send", vrd_loan_send(&loan, VRD_FOREVER));
    }
    bool take(Direction direction, size_t size, uint64_t number)
    {
        const vrd_cap_t cap = channels_.receiver(direction);
        struct vrd_view view;
        if (COPIED || direction == TO_PARENT) {
            checked("vrd_receive", vrd_receive(cap, buffer_.data(), size));
            return stamped(buffer_.data(), size, number);
        }
        checked("vrd_receive_view", vrd_receive_view(cap, &view, VRD_FOREVER));
        const bool right = view.len == size && stamped(view.data, size, number);
        checked("vrd_view_release", vrd_view_release(&view));
        return right;
    }

  private:
    ChannelPair channels_;
    std::vector<unsigned char> buffer_;
};

// One memcpy into shared memory, and a bare word that says so.
class MemcpyLent : public LentTransport<MemcpyLent> {
  public:
    explicit MemcpyLent(size_t size)
        : LentTransport(size), memory_{ SharedMemory(HEAD + size),
                                        SharedMemory(HEAD + LENT_ANSWER) },
          buffer_(size)
    {
    }
    std::string name() const override
    {
        return "memcpy";
    }
    void put(Direction direction, size_t size, uint64_t number)
    {
        stamp(buffer_.data(), size, number);
        memcpy(memory_[direction].at<char>(HEAD), buffer_.data(), size);
        word(direction)->store(++sent_, std::memory_order_release); // partner: take
    }
    bool take(Direction direction, size_t size, uint64_t number)
    {
        taken_++;
        while (word(direction)->load(std::memory_order_acquire) != taken_) // partner: put
            __builtin_ia32_pause();
        return stamped(memory_[direction].at<char>(HEAD), size, number);
    }

  private:
    static constexpr size_t HEAD = 4096;
    std::atomic<uint64_t> *word(Direction direction)
    {
        return memory_[direction].at<std::atomic<uint64_t>>(0);
    }
    SharedMemory memory_[2];
    std::vector<unsigned char> buffer_;
    uint64_t sent_ = 0, taken_ = 0;
};

// The sender's pages go into the pipe as they are; the receiver copies them out.
class SpliceLent : public LentTransport<SpliceLent> {
  public:
    explicit SpliceLent(size_t size) : LentTransport(size), buffer_(size), answer_(LENT_ANSWER)
    {
        for (Direction direction : { TO_CHILD, TO_PARENT })
            if (pipe(fds_.pair(direction)) < 0)
                throw_errno("pipe");
        fcntl(fds_.writer(TO_CHILD), F_SETPIPE_SZ, 1 << 20); // the most that all may have
    }
    std::string name() const override
    {
        return "vmsplice";
    }
    void enter_parent() override
    {
        fds_.keep_parent();
    }
    void enter_child() override
    {
        fds_.keep_child();
    }
    void put(Direction direction, size_t size, uint64_t number)
    {
        auto &buffer = direction == TO_CHILD ? buffer_ : answer_;
        stamp(buffer.data(), size, number);
        for (size_t at = 0; at < size;) {
            const iovec piece = { buffer.data() + at, size - at };
            const ssize_t n = vmsplice(fds_.writer(direction), &piece, 1, 0);
            if (n < 0)
                throw_errno("vmsplice");
            at += static_cast<size_t>(n);
        }
    }
    bool take(Direction direction, size_t size, uint64_t number)
    {
        auto &buffer = direction == TO_CHILD ? buffer_ : answer_;
        for (size_t at = 0; at < size;) {
            const ssize_t n = read(fds_.reader(direction), buffer.data() + at, size - at);
            if (n <= 0)
                throw_errno("read");
            at += static_cast<size_t>(n);
        }
        return stamped(buffer.data(), size, number);
    }

  private:
    DescriptorPairs fds_;
    std::vector<unsigned char> buffer_, answer_;
};

// A memfd goes over a Unix socket with each message; the receiver maps it, reads it, and unmaps it.
class MemfdLent : public LentTransport<MemfdLent> {
  public:
    explicit MemfdLent(size_t size) : LentTransport(size)
    {
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets_) < 0)
            throw_errno("socketpair");
        fd_ = memfd_create("bench", MFD_CLOEXEC);
        if (fd_ < 0 || ftruncate(fd_, static_cast<off_t>(size)) < 0)
            throw_errno("memfd");
        memory_ = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_, 0);
        if (memory_ == MAP_FAILED)
            throw_errno("mmap");
    }
    ~MemfdLent() override
    {
        munmap(memory_, size(TO_CHILD));
        close_fd(fd_), close_fd(sockets_[0]), close_fd(sockets_[1]);
    }
    std::string name() const override
    {
        return "memfd";
    }
    void put(Direction direction, size_t size, uint64_t number)
    {
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
        iovec piece = { answer_, sizeof answer_ };
        msghdr message = {};
        message.msg_iov = &piece, message.msg_iovlen = 1;
        stamp(direction == TO_CHILD ? memory_ : answer_, size, number);
        if (direction == TO_CHILD) {
            message.msg_control = control, message.msg_controllen = sizeof control;
            cmsghdr *head = CMSG_FIRSTHDR(&message);
            head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS;
            head->cmsg_len = CMSG_LEN(sizeof(int));
            memcpy(CMSG_DATA(head), &fd_, sizeof fd_);
        }
        if (sendmsg(sockets_[direction], &message, 0) < 0)
            throw_errno("sendmsg");
    }
    bool take(Direction direction, size_t size, uint64_t number)
    {
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        iovec piece = { answer_, sizeof answer_ };
        msghdr message = {};
        int fd;
        message.msg_iov = &piece, message.msg_iovlen = 1;
        message.msg_control = control, message.msg_controllen = sizeof control;
        if (recvmsg(sockets_[1 - direction], &message, MSG_CMSG_CLOEXEC) <= 0)
            throw_errno("recvmsg");
        if (direction == TO_PARENT)
            return stamped(answer_, size, number);
        memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
        void *view = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
        if (view == MAP_FAILED)
            throw_errno("mmap");
        const bool right = stamped(view, size, number);
        munmap(view, size);
        close(fd);
        return right;
    }

  private:
    int sockets_[2], fd_;
    void *memory_;
    char answer_[LENT_ANSWER] = {};
};

} // namespace bench
