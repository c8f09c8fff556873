// SPDX-License-Identifier: MIT
// The time-stamp counter: the one clock that both processes share and that costs next to nothing.
#pragma once

#include <time.h>
#include <x86intrin.h>

#include <cstdint>

namespace bench {

inline uint64_t ticks()
{
    return __rdtsc();
}

// Stays behind the loads before it: for one-way times, where reading early would flatter.
inline uint64_t ticks_ordered()
{
    unsigned aux;
    return __rdtscp(&aux);
}

inline uint64_t monotonic_ns()
{
    timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return static_cast<uint64_t>(ts.tv_sec) * 1000000000u + static_cast<uint64_t>(ts.tv_nsec);
}

// Measured once; call it before forking so that both processes agree.
inline double ns_per_tick()
{
    static const double value = [] {
        const uint64_t ns = monotonic_ns(), t = ticks();
        while (monotonic_ns() - ns < 50000000u) {
        }
        const uint64_t ns_end = monotonic_ns(), t_end = ticks();
        return static_cast<double>(ns_end - ns) / static_cast<double>(t_end - t);
    }();
    return value;
}

inline void busy_wait_ns(uint64_t ns)
{
    const uint64_t until = ticks() + static_cast<uint64_t>(static_cast<double>(ns) / ns_per_tick());
    while (ticks() < until)
        _mm_pause();
}

} // namespace bench
