// SPDX-License-Identifier: MIT
// A call and its reply between two processes that are both awake; and with many clients of which one
// is active.
#include <sys/resource.h>

#include "support/rounds.hpp"
#include "transport/all.hpp"
#include "transport/call.hpp"
#include "transport/request.hpp"

namespace bench {
namespace {

double round_of(Pair &pair, size_t transport, uint64_t n, Metrics &metrics)
{
    metrics = quantiles(pair.round_trips(transport, n));
    return metrics["mean"];
}

template <size_t N> void call(const Settings &settings, Results &results)
{
    Contest contest;
    contest.prefix = "call/" + std::to_string(N);
    contest.round = round_of;
    contest.competitors = [] {
        Transports list;
        add<BareHandOff<N>>(list);
        add<CallTransport<N>>(list);
        add<SocketTransport<N, SOCK_SEQPACKET>>(list);
#ifdef BENCH_HAVE_ZEROMQ
        add<ZeromqRequest<N>>(list);
#endif
        return list;
    };
    run_contest(contest, settings, results);
}

size_t most_clients()
{
    const rlimit wished = { 100000, 100000 };
    rlimit limit;
    if (setrlimit(RLIMIT_NOFILE, &wished) < 0) { // takes a privilege
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur * 4 / 7; // a descriptor a client, and some of the others
}

void fan_in(Settings settings, Results &results)
{
    constexpr size_t SIZE = 64;
    const size_t most = settings.quick ? 100 : most_clients();
    settings.set_ups = 1; // connecting ten thousand clients takes longer than the rounds
    settings.contest_ns *= 3;
    Contest contest;
    contest.prefix = "call_fan_in/" + std::to_string(SIZE);
    contest.round = round_of;
    contest.competitors = [most] {
        Transports list;
        for (size_t clients : { 1, 100, 1000, 10000 })
            if (clients <= most)
                add<CallTransport<SIZE>>(list, clients);
        return list;
    };
    run_contest(contest, settings, results);
}

#ifdef BENCH_HAVE_NNG
// The last one, and with one fork: see NngRequest.
void beside_nng(Settings settings, Results &results)
{
    constexpr size_t SIZE = 64;
    settings.set_ups = 1;
    Contest contest;
    contest.prefix = "call_nng/" + std::to_string(SIZE);
    contest.round = round_of;
    contest.competitors = [] {
        Transports list;
        add<CallTransport<SIZE>>(list);
        add<NngRequest<SIZE>>(list);
        return list;
    };
    run_contest(contest, settings, results);
}
#endif

} // namespace
} // namespace bench

int main(int argc, char **argv)
{
    using namespace bench;
    const Settings settings = settings_from(&argc, argv);
    Results results;
    call<8>(settings, results);
    call<56>(settings, results);
    call<64>(settings, results);
    call<1024>(settings, results);
    call<65536>(settings, results);
    fan_in(settings, results);
#ifdef BENCH_HAVE_NNG
    beside_nng(settings, results);
#endif
    return results.report();
}
