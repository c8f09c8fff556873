// SPDX-License-Identifier: MIT
// What the kernel offers: pipe, Unix sockets, POSIX and System V message queues.
#pragma once

#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/socket.h>
#include <unistd.h>

#include "transport/transport.hpp"

namespace bench {

inline void close_fd(int &fd)
{
    if (fd >= 0)
        close(fd);
    fd = -1;
}

// One end to write and one to read for each direction; every process closes what it does not use.
class DescriptorPairs {
  public:
    ~DescriptorPairs()
    {
        for (auto &pair : fds_)
            for (int &fd : pair)
                close_fd(fd);
    }
    int reader(Direction direction) const
    {
        return fds_[direction][0];
    }
    int writer(Direction direction) const
    {
        return fds_[direction][1];
    }
    int *pair(Direction direction)
    {
        return fds_[direction];
    }
    void keep_parent()
    {
        close_fd(fds_[TO_CHILD][0]), close_fd(fds_[TO_PARENT][1]);
    }
    void keep_child()
    {
        close_fd(fds_[TO_CHILD][1]), close_fd(fds_[TO_PARENT][0]);
    }

  private:
    int fds_[2][2] = { { -1, -1 }, { -1, -1 } };
};

template <size_t N> void write_all(int fd, const void *data)
{
    auto *at = static_cast<const char *>(data);
    for (size_t left = N; left > 0;) {
        const ssize_t n = write(fd, at, left);
        if (n < 0)
            throw_errno("write");
        at += n, left -= static_cast<size_t>(n);
    }
}

template <size_t N> void read_all(int fd, void *data)
{
    auto *at = static_cast<char *>(data);
    for (size_t left = N; left > 0;) {
        const ssize_t n = read(fd, at, left);
        if (n < 0)
            throw_errno("read");
        if (n == 0)
            throw std::runtime_error("read: unexpected end");
        at += n, left -= static_cast<size_t>(n);
    }
}

template <class Self, size_t N> class DescriptorTransport : public TransportLoops<Self, N> {
  public:
    void enter_parent() override
    {
        fds_.keep_parent();
    }
    void enter_child() override
    {
        fds_.keep_child();
    }
    void send(Direction direction, const Message<N> *message)
    {
        write_all<N>(fds_.writer(direction), message);
    }
    void receive(Direction direction, Message<N> *message)
    {
        read_all<N>(fds_.reader(direction), message);
    }

  protected:
    DescriptorPairs fds_;
};

template <size_t N> class PipeTransport : public DescriptorTransport<PipeTransport<N>, N> {
  public:
    PipeTransport()
    {
        for (Direction direction : { TO_CHILD, TO_PARENT })
            if (pipe(this->fds_.pair(direction)) < 0)
                throw_errno("pipe");
    }
    std::string name() const override
    {
        return "pipe";
    }
};

template <size_t N, int TYPE>
class SocketTransport : public DescriptorTransport<SocketTransport<N, TYPE>, N> {
  public:
    SocketTransport()
    {
        for (Direction direction : { TO_CHILD, TO_PARENT }) {
            int *pair = this->fds_.pair(direction);
            if (socketpair(AF_UNIX, TYPE, 0, pair) < 0)
                throw_errno("socketpair");
            const int room = N * 2 + 4096;
            if (N > 65536)
                setsockopt(pair[1], SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
        }
    }
    std::string name() const override
    {
        return TYPE == SOCK_STREAM ? "unix stream" : "unix seqpacket";
    }
};

template <size_t N> class PosixQueueTransport : public TransportLoops<PosixQueueTransport<N>, N> {
  public:
    PosixQueueTransport()
    {
        for (Direction direction : { TO_CHILD, TO_PARENT }) {
            const std::string path = "/bench-" + std::to_string(getpid());
            mq_attr attributes = {};
            attributes.mq_maxmsg = 10;
            attributes.mq_msgsize = N;
            queues_[direction] =
                mq_open(path.c_str(), O_CREAT | O_EXCL | O_RDWR, 0600, &attributes);
            if (queues_[direction] < 0)
                throw_errno("mq_open");
            mq_unlink(path.c_str());
        }
    }
    ~PosixQueueTransport() override
    {
        for (mqd_t queue : queues_)
            mq_close(queue);
    }
    std::string name() const override
    {
        return "posix mq";
    }

    void send(Direction direction, const Message<N> *message)
    {
        if (mq_send(queues_[direction], reinterpret_cast<const char *>(message), N, 0) < 0)
            throw_errno("mq_send");
    }
    void receive(Direction direction, Message<N> *message)
    {
        if (mq_receive(queues_[direction], reinterpret_cast<char *>(message), N, nullptr) < 0)
            throw_errno("mq_receive");
    }

  private:
    mqd_t queues_[2] = { -1, -1 };
};

template <size_t N> class SysvQueueTransport : public TransportLoops<SysvQueueTransport<N>, N> {
  public:
    SysvQueueTransport() : creator_(getpid())
    {
        for (int &queue : queues_) {
            queue = msgget(IPC_PRIVATE, 0600);
            if (queue < 0)
                throw_errno("msgget");
        }
    }
    ~SysvQueueTransport() override
    {
        if (getpid() != creator_)
            return;
        for (int queue : queues_)
            msgctl(queue, IPC_RMID, nullptr);
    }
    std::string name() const override
    {
        return "sysv msg";
    }

    void send(Direction direction, const Message<N> *message)
    {
        staged_.type = 1;
        __builtin_memcpy(staged_.bytes, message, N);
        if (msgsnd(queues_[direction], &staged_, N, 0) < 0)
            throw_errno("msgsnd");
    }
    void receive(Direction direction, Message<N> *message)
    {
        if (msgrcv(queues_[direction], &staged_, N, 0, 0) < 0)
            throw_errno("msgrcv");
        __builtin_memcpy(message, staged_.bytes, N);
    }

  private:
    struct {
        long type;
        unsigned char bytes[N];
    } staged_;
    int queues_[2];
    pid_t creator_;
};

} // namespace bench
