// SPDX-License-Identifier: MIT
// A stream of messages from one process to another: one message a call, in batches, and freshly
// written.
#include "support/rounds.hpp"
#include "transport/all.hpp"

namespace bench {
namespace {

RoundFunction stream(bool fresh)
{
    return [fresh](Pair &pair, size_t transport, uint64_t n, Metrics &metrics) {
        const uint64_t elapsed = pair.stream(transport, n / 8, n, fresh);
        metrics["ns"] = static_cast<double>(elapsed) * ns_per_tick() / static_cast<double>(n);
        metrics["million_per_s"] = 1e3 / metrics["ns"];
        return metrics["ns"];
    };
}

// Every ring has as many slots: fewer of the large messages.
template <size_t N> constexpr size_t slots_for()
{
    return N <= 64 ? 16384 : N <= 256 ? 4096 : N <= 4096 ? 256 : N <= 65536 ? 16 : 4;
}

template <size_t N> Contest contest(const char *prefix, bool fresh)
{
    Contest contest;
    contest.prefix = prefix + std::to_string(N);
    contest.round = stream(fresh);
    contest.max_operations = UINT64_C(1) << 22;
    return contest;
}

template <size_t N> void throughput(const Settings &settings, Results &results)
{
    Contest c = contest<N>("throughput/", false);
    c.competitors = [] {
        Transports list;
        add<BareRing<N, slots_for<N>()>>(list);
        add_veridian<N>(list, slots_for<N>());
        add_veridian_batch<N>(list, slots_for<N>());
        add_lock_free<N, slots_for<N>()>(list);
        add_kernel<N>(list);
        if constexpr (N >= 4096)
            add<OneCopy<N, slots_for<N>()>>(list);
        return list;
    };
    run_contest(c, settings, results);
}

template <size_t N> void throughput_fresh(const Settings &settings, Results &results)
{
    Contest c = contest<N>("throughput_fresh/", true);
    c.competitors = [] {
        Transports list;
        add<BareRing<N, slots_for<N>()>>(list);
        add_veridian<N>(list, slots_for<N>());
        add_lock_free<N, slots_for<N>()>(list);
        return list;
    };
    run_contest(c, settings, results);
}

} // namespace
} // namespace bench

int main(int argc, char **argv)
{
    using namespace bench;
    const Settings settings = settings_from(&argc, argv);
    Results results;
    throughput<8>(settings, results);
    throughput<32>(settings, results);
    throughput<56>(settings, results);
    throughput<64>(settings, results);
    throughput<256>(settings, results);
    throughput<1024>(settings, results);
    throughput<4096>(settings, results);
    throughput<65536>(settings, results);
    throughput<1048576>(settings, results);
    throughput_fresh<32>(settings, results);
    throughput_fresh<56>(settings, results);
    throughput_fresh<64>(settings, results);
    return results.report();
}
