// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace bench {

// The counter of a virtual machine may step by 5 or 10 ns. Equal samples are therefore spread over
// their step, as with any grouped data; the median of many is then much finer than a step.
inline double quantile(const std::vector<uint64_t> &sorted, double q)
{
    const double rank = q * static_cast<double>(sorted.size() - 1);
    const uint64_t value = sorted[static_cast<size_t>(rank)];
    const auto group = std::equal_range(sorted.begin(), sorted.end(), value);
    if (group.first == sorted.begin() || group.second == sorted.end())
        return static_cast<double>(value);
    const double low = static_cast<double>(*(group.first - 1) + value) / 2;
    const double high = static_cast<double>(*group.second + value) / 2;
    const double before = static_cast<double>(group.first - sorted.begin());
    const double count = static_cast<double>(group.second - group.first);
    return low + (high - low) * (rank - before + 0.5) / count;
}

} // namespace bench
