// SPDX-License-Identifier: MIT
// One active sender among many: the round trip must not depend on how many links are idle.
#include <sys/resource.h>

#include "support/rounds.hpp"
#include "transport/all.hpp"

namespace bench {
namespace {

constexpr size_t SIZE = 64;

// Requests go to the child over a plain channel; answers come back over one of many links, all to one
// receiver. Each link has spoken once before. All are those of one process, which derives a capability
// for each.
class FanIn : public TransportLoops<FanIn, SIZE> {
  public:
    explicit FanIn(size_t links) : channels_(16, SIZE), links_(links)
    {
    }
    std::string name() const override
    {
        return std::to_string(links_) + " links";
    }

    void enter_parent() override
    {
        channels_.keep_parent();
        for (size_t i = 0; i < links_; i++)
            checked("vrd_receive", vrd_receive(channels_.receiver(TO_PARENT), inbox_.get(), SIZE));
    }

    void enter_child() override
    {
        channels_.keep_child();
        for (size_t i = 1; i < links_; i++) {
            const vrd_cap_t idle = derived(channels_.sender(TO_PARENT));
            checked("vrd_send", vrd_send(idle, inbox_.get(), SIZE));
        }
        checked("vrd_send", vrd_send(channels_.sender(TO_PARENT), inbox_.get(), SIZE));
    }

    void send(Direction direction, const Message<SIZE> *message)
    {
        checked("vrd_send", vrd_send(channels_.sender(direction), message, SIZE));
    }
    void receive(Direction direction, Message<SIZE> *message)
    {
        checked("vrd_receive", vrd_receive(channels_.receiver(direction), message, SIZE));
    }

  private:
    ChannelPair channels_;
    size_t links_;
};

double round_of(Pair &pair, size_t transport, uint64_t n, Metrics &metrics)
{
    metrics = quantiles(pair.round_trips(transport, n));
    return metrics["mean"];
}

size_t most_links()
{
    const rlimit wished = { 100000, 100000 };
    rlimit limit;
    if (setrlimit(RLIMIT_NOFILE, &wished) < 0) { // takes a privilege
        getrlimit(RLIMIT_NOFILE, &limit);
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    getrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur * 4 / 7; // a descriptor a link, and some of the others
}

} // namespace
} // namespace bench

int main(int argc, char **argv)
{
    using namespace bench;
    Settings settings = settings_from(&argc, argv);
    const size_t most = settings.quick ? 100 : most_links();
    Results results;
    settings.set_ups = 1; // making ten thousand links takes longer than the rounds
    settings.contest_ns *= 3;
    Contest contest;
    contest.prefix = "fan_in/" + std::to_string(SIZE);
    contest.round = round_of;
    contest.competitors = [most] {
        Transports list;
        for (size_t links : { 1, 16, 17, 100, 1000, 10000 })
            if (links <= most)
                add<FanIn>(list, links);
        return list;
    };
    run_contest(contest, settings, results);
    return results.report();
}
