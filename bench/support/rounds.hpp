// SPDX-License-Identifier: MIT
// Rounds: short measurements, taken in turn (A B C A B C ...), each with the distance of the CPUs
// before and after it; what disagrees or was disturbed is thrown away, the rest is summed up by
// medians within one state, and Google Benchmark reports it.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "support/pair.hpp"

namespace bench {

struct Settings {
    bool quick = false;
    size_t rounds = 40;    // accepted ones wanted for each competitor, in one state
    size_t set_ups = 4;    // fresh memory and a fresh fork so many times
    double round_ns = 3e6; // how long a round takes; short, to fit between two disturbances
    uint64_t contest_ns = UINT64_C(7000000000); // at most for one contest
    std::string only;                           // regular expression for the competitors' names
    std::string contest;                        // the same for the contests' ("latency/64")
};

// Reads the command line: our options, and those of Google Benchmark. May end the program.
Settings settings_from(int *argc, char **argv);

using Metrics = std::map<std::string, double>; // the one named "ns" is the reported time

// The result of all rounds of one competitor, by state of the machine ("nearest", "near", "middle", "far", "one_cpu").
struct Series {
    std::map<std::string, std::vector<Metrics>> by_state;
    int dropped = 0;
};

class Results {
  public:
    Series &operator[](const std::string &name);
    // Registers one benchmark for each series and state and lets Google Benchmark write them out.
    int report();

  private:
    std::deque<std::pair<std::string, Series>> series_;
};

// One round of n operations with the given transport: fills metrics, returns ns for an operation.
using RoundFunction = std::function<double(Pair &, size_t transport, uint64_t n, Metrics &)>;

struct Contest {
    std::string prefix;                      // "latency/64"
    std::function<Transports()> competitors; // called before each fork
    RoundFunction round;
    uint64_t max_operations = Pair::MAX_SAMPLES;
    int parent_cpu = 0, child_cpu = 1;
};

void run_contest(const Contest &contest, const Settings &settings, Results &results);

// p50, p99, p99.9 and mean of ticks, in ns. Sorts.
Metrics quantiles(std::vector<uint64_t> samples);

} // namespace bench
