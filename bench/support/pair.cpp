// SPDX-License-Identifier: MIT
#include "support/pair.hpp"

#include "support/quantile.hpp"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace bench {

namespace {

constexpr uint64_t CALIBRATION_TRIPS = 1000;

Switches switches_now()
{
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return { usage.ru_nvcsw, usage.ru_nivcsw };
}

Switches operator-(const Switches &a, const Switches &b)
{
    return { a.voluntary - b.voluntary, a.involuntary - b.involuntary };
}

// A peer that dies leaves the other one spinning; say so and end.
void on_child_death(int)
{
    static const char text[] = "bench: the other process died\n";
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    _exit(1);
}

void watch_child(void (*handler)(int))
{
    struct sigaction action = {};
    action.sa_handler = handler;
    action.sa_flags = SA_RESTART | SA_NOCLDSTOP;
    sigaction(SIGCHLD, &action, nullptr);
}

} // namespace

void pin_to_cpu(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        throw_errno("sched_setaffinity");
}

void take_precedence()
{
    // A session of our own is a group of its own for the scheduler; it ends with its parent all the
    // same. What is not allowed is not done: a round that is disturbed is thrown away anyway.
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    setsid();
    setpriority(PRIO_PROCESS, 0, -20);
    const int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "-20", 3) < 0)
        errno = 0;
    close(fd);
}

Pair::Pair(Transports &transports, int parent_cpu, int child_cpu)
    : transports_(transports), samples_(MAX_SAMPLES), one_cpu_(parent_cpu == child_cpu)
{
    ns_per_tick();
    fflush(nullptr);
    watch_child(on_child_death);
    child_ = fork();
    if (child_ < 0)
        throw_errno("fork");
    if (child_ == 0)
        child_main(child_cpu);
    pin_to_cpu(parent_cpu);
    for (auto &transport : transports_)
        transport->enter_parent();
}

Pair::~Pair()
{
    watch_child(SIG_DFL);
    order(Command::LEAVE, 0, 0);
    waitpid(child_, nullptr, 0);
}

void Pair::idle() const
{
    if (one_cpu_)
        sched_yield();
    else
        _mm_pause();
}

void Pair::order(Command command, size_t transport, uint64_t n, uint64_t warm, uint64_t pause_ns)
{
    control_->command = command;
    control_->transport = transport;
    control_->n = n;
    control_->warm = warm;
    control_->pause_ns = pause_ns;
    before_ = switches_now();
    control_->order.store(++orders_, std::memory_order_release); // partner: child_main
}

void Pair::await_done()
{
    while (control_->done.load(std::memory_order_acquire) != orders_)
        idle(); // partner: child_main
    const Switches mine = switches_now() - before_, theirs = control_->switches;
    switches_ = { mine.voluntary + theirs.voluntary, mine.involuntary + theirs.involuntary };
}

void Pair::child_main(int cpu)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    watch_child(SIG_DFL);
    try {
        pin_to_cpu(cpu);
        for (auto &transport : transports_)
            transport->enter_child();
        for (uint32_t seen = 1;; seen++) {
            while (control_->order.load(std::memory_order_acquire) != seen)
                idle(); // partner: order
            if (control_->command == Command::LEAVE) {
                for (auto &transport : transports_)
                    transport->leave_child();
                _exit(0);
            }
            const Switches before = switches_now();
            child_obey();
            control_->switches = switches_now() - before;
            control_->done.store(seen, std::memory_order_release); // partner: await_done
        }
    } catch (const std::exception &e) {
        fprintf(stderr, "bench: child: %s\n", e.what());
        _exit(1);
    }
}

void Pair::child_obey()
{
    const Control &c = *control_;
    switch (c.command) {
    case Command::CALIBRATE:
        for (uint64_t i = 1; i <= c.n; i++) {
            while (control_->ball[0].load(std::memory_order_acquire) != i) {
            }
            control_->ball[1].store(i, std::memory_order_release);
        }
        break;
    case Command::PONG:
        transports_[c.transport]->pong(c.n);
        break;
    case Command::PONG_ASLEEP:
        transports_[c.transport]->pong_asleep(c.n, c.pause_ns, control_->samples);
        break;
    case Command::STREAM_IN:
        control_->elapsed = transports_[c.transport]->stream_in(c.warm, c.n);
        break;
    case Command::LEAVE:
        break;
    }
}

double Pair::calibrate()
{
    control_->ball[0].store(0, std::memory_order_relaxed);
    control_->ball[1].store(0, std::memory_order_relaxed);
    order(Command::CALIBRATE, 0, CALIBRATION_TRIPS);
    samples_.resize(CALIBRATION_TRIPS);
    uint64_t last = ticks();
    for (uint64_t i = 1; i <= CALIBRATION_TRIPS; i++) {
        control_->ball[0].store(i, std::memory_order_release);
        while (control_->ball[1].load(std::memory_order_acquire) != i) {
        }
        const uint64_t now = ticks();
        samples_[i - 1] = now - last;
        last = now;
    }
    await_done();
    std::sort(samples_.begin(), samples_.end());
    return quantile(samples_, 0.5) * ns_per_tick();
}

const std::vector<uint64_t> &Pair::round_trips(size_t transport, uint64_t n)
{
    samples_.resize(n);
    order(Command::PONG, transport, n);
    transports_[transport]->ping(n, samples_.data());
    await_done();
    return samples_;
}

const std::vector<uint64_t> &Pair::asleep(size_t transport, uint64_t n, uint64_t pause_ns)
{
    n = std::min(n, static_cast<uint64_t>(std::size(control_->samples)));
    samples_.resize(n);
    order(Command::PONG_ASLEEP, transport, n, 0, pause_ns);
    transports_[transport]->ping_asleep(n, pause_ns, samples_.data());
    await_done();
    samples_.insert(samples_.end(), control_->samples, control_->samples + n);
    return samples_;
}

uint64_t Pair::stream(size_t transport, uint64_t warm, uint64_t n, bool fresh)
{
    order(Command::STREAM_IN, transport, n, warm);
    const uint64_t sending = transports_[transport]->stream_out(warm, n, fresh);
    await_done();
    // The slower side is the rate of the stream: the other one had a ring's worth of start.
    return std::max(sending, control_->elapsed);
}

} // namespace bench
