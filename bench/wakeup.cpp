// SPDX-License-Identifier: MIT
// Waking a peer that sleeps: on the other CPU (both really asleep at each message), and round trips
// of two processes that share one CPU.
#include "support/rounds.hpp"
#include "transport/all.hpp"

namespace bench {
namespace {

// Longer than any spin before a sleep, so that the peer sleeps by the time the message is sent.
constexpr uint64_t PAUSE_NS = 250000;
constexpr size_t SIZE = 64;

template <size_t N> Transports sleepers()
{
    Transports list;
    add<FutexPair<N>>(list);
    add_veridian<N>(list, 16);
    add_kernel<N>(list);
    return list;
}

// The time of one wake-up; an operation is a round trip with both pauses.
double round_asleep(Pair &pair, size_t transport, uint64_t n, Metrics &metrics)
{
    metrics = quantiles(pair.asleep(transport, n, PAUSE_NS));
    return 2 * (metrics["mean"] + static_cast<double>(PAUSE_NS));
}

double round_one_cpu(Pair &pair, size_t transport, uint64_t n, Metrics &metrics)
{
    metrics = quantiles(pair.round_trips(transport, n));
    return metrics["mean"];
}

} // namespace
} // namespace bench

int main(int argc, char **argv)
{
    using namespace bench;
    const Settings settings = settings_from(&argc, argv);
    Results results;

    Contest asleep;
    asleep.prefix = "wakeup/" + std::to_string(SIZE);
    asleep.round = round_asleep;
    asleep.competitors = sleepers<SIZE>;
    run_contest(asleep, settings, results);

    Contest one_cpu;
    one_cpu.prefix = "one_cpu/" + std::to_string(SIZE);
    one_cpu.round = round_one_cpu;
    one_cpu.competitors = sleepers<SIZE>;
    one_cpu.child_cpu = one_cpu.parent_cpu;
    run_contest(one_cpu, settings, results);
    return results.report();
}
