// SPDX-License-Identifier: MIT
// Two processes, each pinned to its CPU, that run transports against each other on command.
#pragma once

#include <sys/types.h>

#include <atomic>

#include <cstdint>
#include <memory>
#include <vector>

#include "support/shared.hpp"
#include "transport/transport.hpp"

namespace bench {

using Transports = std::vector<std::unique_ptr<Transport>>;

// Context switches of both processes during one command.
struct Switches {
    long voluntary = 0, involuntary = 0;
};

class Pair {
  public:
    // Forks; the transports exist before, and each process keeps its own ends of them.
    Pair(Transports &transports, int parent_cpu, int child_cpu);
    ~Pair();
    Pair(const Pair &) = delete;

    // The bare round trip of one cache line, in ns: how far apart the two CPUs are right now.
    double calibrate();

    // Each fills and returns the samples of one round, in ticks.
    const std::vector<uint64_t> &round_trips(size_t transport, uint64_t n);
    // One-way times, n in each direction, with both sides asleep at each message.
    const std::vector<uint64_t> &asleep(size_t transport, uint64_t n, uint64_t pause_ns);
    // Ticks that the last n of warm + n messages took.
    uint64_t stream(size_t transport, uint64_t warm, uint64_t n, bool fresh = false);

    const Switches &switches() const
    {
        return switches_;
    }
    static constexpr uint64_t MAX_SAMPLES = 1 << 19;

  private:
    enum class Command : uint32_t { CALIBRATE, PONG, PONG_ASLEEP, STREAM_IN, LEAVE };
    struct Control {
        alignas(128) std::atomic<uint64_t> ball[2];
        alignas(128) std::atomic<uint32_t> order{ 0 };
        Command command;
        size_t transport;
        uint64_t n, warm, pause_ns;
        alignas(128) std::atomic<uint32_t> done{ 0 };
        uint64_t elapsed;
        Switches switches;
        uint64_t samples[1 << 13];
    };

    void order(Command command, size_t transport, uint64_t n, uint64_t warm = 0,
               uint64_t pause_ns = 0);
    void await_done();
    [[noreturn]] void child_main(int cpu);
    void child_obey();
    void idle() const;

    Transports &transports_;
    Shared<Control> control_;
    std::vector<uint64_t> samples_;
    Switches before_, switches_;
    uint32_t orders_ = 0;
    bool one_cpu_;
    pid_t child_;
};

void pin_to_cpu(int cpu);

// Before other programs, as far as we may: for the short time that a benchmark runs.
void take_precedence();

} // namespace bench
