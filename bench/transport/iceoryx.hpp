// SPDX-License-Identifier: MIT
// iceoryx 2: publish and subscribe over memory that its daemon hands out.
#pragma once

#include <signal.h>
#include <sys/wait.h>

#include <cstdio>
#include <cstdlib>
#include <memory>

#include <iceoryx_posh/internal/runtime/posh_runtime_impl.hpp>
#include <iceoryx_posh/popo/untyped_publisher.hpp>
#include <iceoryx_posh/popo/untyped_subscriber.hpp>

#include "transport/lent.hpp"

namespace bench {

// A process has one runtime, and our child inherits its parent's: it makes one of its own in its place.
struct IceoryxRuntime : iox::runtime::PoshRuntimeImpl {
    explicit IceoryxRuntime(const iox::RuntimeName_t *name)
        : PoshRuntimeImpl(iox::cxx::make_optional<const iox::RuntimeName_t *>(name))
    {
    }
    static iox::runtime::PoshRuntime &factory(iox::cxx::optional<const iox::RuntimeName_t *>)
    {
        return *instance;
    }
    static void enter(const char *side)
    {
        static pid_t of;
        if (of == getpid())
            return;
        of = getpid();
        const std::string text = std::string("bench-") + side + std::to_string(of);
        const iox::RuntimeName_t name(iox::cxx::TruncateToCapacity, text.c_str());
        instance = new IceoryxRuntime(&name); // until the process leaves: what is inherited stays
        setRuntimeFactory(factory);
    }
    static void leave()
    {
        delete instance; // the daemon and the file system forget this process
        instance = nullptr;
    }
    static inline IceoryxRuntime *instance;
};

// The daemon, with chunks for our sizes, as long as this lives.
class IceoryxDaemon {
  public:
    explicit IceoryxDaemon(const std::vector<size_t> &sizes)
    {
        char path[] = "/tmp/bench-iceoryx-XXXXXX";
        const int fd = mkstemp(path);
        FILE *file = fd < 0 ? nullptr : fdopen(fd, "w");
        if (!file)
            throw_errno("mkstemp");
        fputs("[general]\nversion = 1\n\n[[segment]]\n", file);
        for (size_t size : sizes)
            fprintf(file, "\n[[segment.mempool]]\nsize = %zu\ncount = 32\n", size);
        fclose(file);
        path_ = path;
        parent_ = getpid();
        pid_ = fork();
        if (pid_ == 0) {
            execlp("iox-roudi", "iox-roudi", "-c", path, "-m", "off", "-l", "off", nullptr);
            _exit(127);
        }
    }
    ~IceoryxDaemon()
    {
        if (getpid() != parent_)
            return;
        IceoryxRuntime::leave();
        kill(pid_, SIGTERM);
        waitpid(pid_, nullptr, 0);
        unlink(path_.c_str());
    }
    IceoryxDaemon(const IceoryxDaemon &) = delete;

  private:
    std::string path_;
    pid_t parent_, pid_;
};

class IceoryxLent : public LentTransport<IceoryxLent> {
  public:
    explicit IceoryxLent(size_t size) : LentTransport(size)
    {
        static int count;
        topic_ = std::to_string(getpid()) + "-" + std::to_string(count++);
    }
    std::string name() const override
    {
        return "iceoryx";
    }
    void enter_parent() override
    {
        IceoryxRuntime::enter("parent");
        open(TO_CHILD);
    }
    void enter_child() override
    {
        IceoryxRuntime::enter("child");
        open(TO_PARENT);
    }
    void leave_child() override
    {
        publisher_.reset();
        subscriber_.reset();
        IceoryxRuntime::leave();
    }
    void put(Direction, size_t size, uint64_t number)
    {
        while (!publisher_->hasSubscribers())
            __builtin_ia32_pause();
        publisher_->loan(static_cast<uint32_t>(size))
            .and_then([&](void *&chunk) {
                stamp(chunk, size, number);
                publisher_->publish(chunk);
            })
            .or_else([](auto &) { throw std::runtime_error("iceoryx: no chunk"); });
    }
    bool take(Direction, size_t size, uint64_t number)
    {
        bool right = false, taken = false;
        while (!taken)
            subscriber_->take().and_then([&](const void *chunk) {
                right = stamped(chunk, size, number);
                subscriber_->release(chunk);
                taken = true;
            });
        return right;
    }

  private:
    void open(Direction out)
    {
        const auto service = [this](Direction direction) {
            const iox::capro::IdString_t instance(iox::cxx::TruncateToCapacity, topic_.c_str());
            return iox::capro::ServiceDescription("bench", instance,
                                                  direction == TO_CHILD
                                                      ? iox::capro::IdString_t("to-child")
                                                      : iox::capro::IdString_t("to-parent"));
        };
        publisher_ = std::make_unique<iox::popo::UntypedPublisher>(service(out));
        subscriber_ = std::make_unique<iox::popo::UntypedSubscriber>(
            service(out == TO_CHILD ? TO_PARENT : TO_CHILD));
    }
    std::string topic_;
    std::unique_ptr<iox::popo::UntypedPublisher> publisher_;
    std::unique_ptr<iox::popo::UntypedSubscriber> subscriber_;
};

} // namespace bench
