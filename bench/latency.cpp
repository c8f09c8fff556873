// SPDX-License-Identifier: MIT
// Round trips of one message between two processes that are both awake, one on each CPU.
#include "support/rounds.hpp"
#include "transport/all.hpp"

namespace bench {
namespace {

constexpr size_t SLOTS = 64; // as in the guide: create_channel(64)

double round_of(Pair &pair, size_t transport, uint64_t n, Metrics &metrics)
{
    metrics = quantiles(pair.round_trips(transport, n));
    return metrics["mean"];
}

template <size_t N> void latency(const Settings &settings, Results &results)
{
    Contest contest;
    contest.prefix = "latency/" + std::to_string(N);
    contest.round = round_of;
    contest.competitors = [] {
        Transports list;
        add<BareHandOff<N>>(list);
        add<BareRing<N, SLOTS>>(list); // polls with a pause, which lets the writer get at the line
        add_veridian<N>(list, SLOTS);
        if (N <= 64)
            add_veridian_messages<N>(list, SLOTS);
        add_lock_free<N, SLOTS>(list);
        add_kernel<N>(list);
        return list;
    };
    run_contest(contest, settings, results);
}

} // namespace
} // namespace bench

int main(int argc, char **argv)
{
    using namespace bench;
    const Settings settings = settings_from(&argc, argv);
    Results results;
    latency<8>(settings, results);
    latency<56>(settings, results);
    latency<64>(settings, results);
    latency<256>(settings, results);
    latency<1024>(settings, results);
    latency<4096>(settings, results);
    latency<65536>(settings, results);
    return results.report();
}
