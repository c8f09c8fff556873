// SPDX-License-Identifier: MIT
#include "support/rounds.hpp"

#include "support/quantile.hpp"

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <regex>

namespace bench {

namespace {

// Two virtual CPUs can be two threads of one core (a bare line's round trip takes 70 ns), two cores
// with a common cache (100-150), or cores further apart (240-270 and 350-550), and the host moves them about.
const char *state_of(double line_ns)
{
    return line_ns < 90 ? "nearest" : line_ns < 180 ? "near" : line_ns < 300 ? "middle" : "far";
}

double median(std::vector<double> values)
{
    auto middle = values.begin() + static_cast<long>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

Metrics medians(const std::vector<Metrics> &rounds)
{
    Metrics result;
    for (const auto &entry : rounds.front()) {
        std::vector<double> values;
        for (const Metrics &round : rounds)
            values.push_back(round.at(entry.first));
        result[entry.first] = median(values);
    }
    return result;
}

// One set-up of a contest: its transports over fresh memory, and a child.
class SetUp {
  public:
    SetUp(const Contest &contest, const Settings &settings, Results &results)
        : contest_(contest), settings_(settings), results_(results),
          transports_(matching(contest.competitors(), settings.only)),
          one_cpu_(contest.parent_cpu == contest.child_cpu),
          pair_(transports_, contest.parent_cpu, contest.child_cpu), pace_(transports_.size())
    {
        for (size_t t = 0; t < transports_.size(); t++)
            learn_pace(t);
    }

    // Takes turns until all competitors have so many rounds in one state, or the time is up.
    void run(size_t wanted, uint64_t until_ns)
    {
        while (monotonic_ns() < until_ns && !complete(wanted))
            for (size_t t = 0; t < transports_.size(); t++)
                take_turn(t, wanted);
    }

  private:
    struct Pace {
        double ns_each = 0, round_ns = 0;
        bool sleeps = false;
    };

    static Transports matching(Transports all, const std::string &only)
    {
        Transports kept;
        for (auto &transport : all)
            if (std::regex_search(transport->name(), std::regex(only)))
                kept.push_back(std::move(transport));
        return kept;
    }

    Series &series(size_t t)
    {
        return results_[contest_.prefix + "/" + transports_[t]->name()];
    }

    uint64_t operations(size_t t) const
    {
        const double n = pace_[t].round_ns / pace_[t].ns_each;
        return std::clamp(static_cast<uint64_t>(n), uint64_t{ 16 }, contest_.max_operations);
    }

    // Warms up, and finds out how long one operation takes.
    void learn_pace(size_t t)
    {
        Metrics ignored;
        pace_[t].round_ns = settings_.round_ns;
        pace_[t].ns_each = contest_.round(pair_, t, 16, ignored);
        const uint64_t n = operations(t);
        pace_[t].ns_each = contest_.round(pair_, t, n, ignored);
        pace_[t].sleeps = one_cpu_ || pair_.switches().voluntary * 10 > static_cast<long>(n);
        if (pace_[t].sleeps)
            pace_[t].round_ns *= 8; // slow operations: enough of them for a quantile
    }

    std::string state_now(double *line_ns)
    {
        *line_ns = one_cpu_ ? 0 : pair_.calibrate();
        return one_cpu_ ? "one_cpu" : state_of(*line_ns);
    }

    void take_turn(size_t t, size_t wanted)
    {
        double line_before, line_after;
        const std::string state = state_now(&line_before);
        auto &rounds = series(t).by_state[state];
        if (rounds.size() >= wanted)
            return;

        Metrics metrics;
        const uint64_t n = operations(t);
        pace_[t].ns_each = contest_.round(pair_, t, n, metrics);
        const Switches switches = pair_.switches();
        // Whoever spins gives the CPU away only to a stranger.
        const bool disturbed = !pace_[t].sleeps && switches.involuntary > 0;
        if (state_now(&line_after) != state || disturbed) {
            series(t).dropped++;
            return;
        }
        metrics["line_ns"] = (line_before + line_after) / 2;
        metrics["sleeps_per_op"] = static_cast<double>(switches.voluntary) / static_cast<double>(n);
        rounds.push_back(metrics);
    }

    bool complete(size_t wanted)
    {
        for (const char *state : { "nearest", "near", "middle", "far", "one_cpu" }) {
            size_t full = 0;
            for (size_t t = 0; t < transports_.size(); t++)
                full += series(t).by_state[state].size() >= wanted;
            if (full == transports_.size())
                return true;
        }
        return false;
    }

    const Contest &contest_;
    const Settings &settings_;
    Results &results_;
    Transports transports_;
    const bool one_cpu_;
    Pair pair_;
    std::vector<Pace> pace_;
};

} // namespace

Settings settings_from(int *argc, char **argv)
{
    Settings settings;
    int kept = 1;

    benchmark::Initialize(argc, argv); // first: --help ends the program
    for (int i = 1; i < *argc; i++) {
        if (!strcmp(argv[i], "--quick"))
            settings.quick = true;
        else if (!strncmp(argv[i], "--only=", 7))
            settings.only = argv[i] + 7;
        else if (!strncmp(argv[i], "--contest=", 10))
            settings.contest = argv[i] + 10;
        else if (!strncmp(argv[i], "--rounds=", 9))
            settings.rounds = std::max(1ul, strtoul(argv[i] + 9, nullptr, 10));
        else
            argv[kept++] = argv[i];
    }
    if (benchmark::ReportUnrecognizedArguments(kept, argv))
        exit(EXIT_FAILURE);
    if (settings.quick) {
        settings.rounds = 12;
        settings.set_ups = 2;
        settings.contest_ns = UINT64_C(1800000000);
    }
    take_precedence();
    alarm(settings.quick ? 120 : 400); // a transport that loses a message must not hang the run
    return settings;
}

Series &Results::operator[](const std::string &name)
{
    for (auto &entry : series_)
        if (entry.first == name)
            return entry.second;
    return series_.emplace_back(name, Series()).second;
}

int Results::report()
{
    for (auto &[name, series] : series_) {
        for (auto &[state, rounds] : series.by_state) {
            if (rounds.empty())
                continue;
            Metrics metrics = medians(rounds);
            metrics["rounds"] = static_cast<double>(rounds.size());
            metrics["dropped"] = series.dropped;
            benchmark::RegisterBenchmark((name + "/" + state).c_str(),
                                         [metrics](benchmark::State &st) {
                                             for (auto _ : st)
                                                 st.SetIterationTime(metrics.at("ns") * 1e-9);
                                             for (auto &[key, value] : metrics)
                                                 if (key != "ns")
                                                     st.counters[key] = value;
                                         })
                ->UseManualTime()
                ->Iterations(1)
                ->Unit(benchmark::kNanosecond);
        }
    }
    benchmark::RunSpecifiedBenchmarks();
    return 0;
}

void run_contest(const Contest &contest, const Settings &settings, Results &results)
{
    const size_t set_ups = settings.set_ups;
    if (!std::regex_search(contest.prefix, std::regex(settings.contest)))
        return;
    for (size_t i = 1; i <= set_ups; i++) {
        SetUp set_up(contest, settings,
                     results); // with memory of up to 1 GiB: not of the time to measure
        set_up.run(settings.rounds * i / set_ups, monotonic_ns() + settings.contest_ns / set_ups);
    }
}

Metrics quantiles(std::vector<uint64_t> samples)
{
    std::sort(samples.begin(), samples.end());
    double sum = 0;
    for (uint64_t sample : samples)
        sum += static_cast<double>(sample);
    return { { "ns", quantile(samples, 0.5) * ns_per_tick() },
             { "p99", quantile(samples, 0.99) * ns_per_tick() },
             { "p999", quantile(samples, 0.999) * ns_per_tick() },
             { "mean", sum / static_cast<double>(samples.size()) * ns_per_tick() } };
}

} // namespace bench
