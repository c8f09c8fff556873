// SPDX-License-Identifier: MIT
// Messages from 64 bytes to 1 GiB that are lent, not copied, and what is used today for such; 64 bytes
// come back. And 64 bytes that call for an answer of that size.
#include "support/rounds.hpp"
#include "transport/all.hpp"
#include "transport/answer.hpp"
#ifdef BENCH_HAVE_ICEORYX
#include "transport/iceoryx.hpp"
#endif

namespace bench {
namespace {

constexpr size_t KIB = 1 << 10, MIB = 1 << 20;

double round_of(Pair &pair, size_t transport, uint64_t n, Metrics &metrics)
{
    metrics = quantiles(pair.round_trips(transport, n));
    return metrics["mean"];
}

void lent(size_t size, bool beside_others, const Settings &settings, Results &results)
{
    Contest contest;
    contest.prefix = "zero_copy/" + std::to_string(size);
    contest.round = round_of;
    contest.competitors = [=] {
        Transports list;
        list.push_back(std::make_unique<VeridianLent<false>>(size));
        list.push_back(std::make_unique<VeridianAnswer<false>>(size));
        if (!beside_others)
            return list;
        list.push_back(std::make_unique<VeridianLent<true>>(size));
        list.push_back(std::make_unique<VeridianAnswer<true>>(size));
        list.push_back(std::make_unique<MemcpyLent>(size));
        list.push_back(std::make_unique<SpliceLent>(size));
        list.push_back(std::make_unique<MemfdLent>(size));
#ifdef BENCH_HAVE_ICEORYX
        list.push_back(std::make_unique<IceoryxLent>(size));
#endif
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
#ifdef BENCH_HAVE_ICEORYX
    const IceoryxDaemon daemon({ 256, 4 * KIB, 64 * KIB, MIB, 4 * MIB });
#endif
    for (size_t size : { 4 * KIB, 64 * KIB, MIB, 4 * MIB })
        lent(size, true, settings, results);
    for (size_t size : { size_t(64), 64 * MIB, 1024 * MIB })
        lent(size, false, settings, results);
    return results.report();
}
