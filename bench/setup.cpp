// SPDX-License-Identifier: MIT
// What it costs to set a channel up, beside a socket pair, and what an idle link holds.
#include <benchmark/benchmark.h>
#include <dirent.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <set>
#include <stdexcept>

#include "support/clock.hpp"
#include "support/quantile.hpp"
#include "transport/kernel.hpp"
#include "transport/veridian.hpp"

namespace {

using namespace bench;

constexpr size_t SIZE = 64;

struct Ends {
    Ends()
    {
        checked("vrd_channel_create", vrd_channel_create(16, &sender, &receiver));
    }
    ~Ends()
    {
        vrd_cap_close(sender), vrd_cap_close(receiver);
    }
    vrd_cap_t sender, receiver;
};

void create_close(benchmark::State &state)
{
    for (auto _ : state)
        Ends ends;
}

void create_use_close(benchmark::State &state)
{
    char bytes[SIZE] = {};
    for (auto _ : state) {
        Ends ends;
        checked("vrd_send", vrd_send(ends.sender, bytes, SIZE));
        checked("vrd_receive", vrd_receive(ends.receiver, bytes, SIZE));
    }
}

void socketpair_create_close(benchmark::State &state)
{
    for (auto _ : state) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
            throw_errno("socketpair");
        close(fds[0]), close(fds[1]);
    }
}

void socketpair_create_use_close(benchmark::State &state)
{
    char bytes[SIZE] = {};
    for (auto _ : state) {
        int fds[2];
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
            throw_errno("socketpair");
        write_all<SIZE>(fds[1], bytes);
        read_all<SIZE>(fds[0], bytes);
        close(fds[0]), close(fds[1]);
    }
}

void export_invitation(benchmark::State &state)
{
    Ends ends;
    char bytes[SIZE];
    size_t count = 0;
    for (auto _ : state) {
        int fd;
        checked("vrd_cap_export", vrd_cap_export(ends.sender, VRD_RIGHT_SEND, &fd));
        close(fd);
        if (++count % 1000 == 0) { // lets the owner find out that they were withdrawn
            state.PauseTiming();
            vrd_receive_async(ends.receiver, bytes, SIZE);
            state.ResumeTiming();
        }
    }
}

// Export, import, and the first message all the way: a new link.
void export_import_use(benchmark::State &state)
{
    Ends ends;
    char bytes[SIZE] = {};
    for (auto _ : state) {
        int fd;
        vrd_cap_t imported;
        checked("vrd_cap_export", vrd_cap_export(ends.sender, VRD_RIGHT_SEND, &fd));
        checked("vrd_cap_import", vrd_cap_import(fd, &imported));
        checked("vrd_send", vrd_send(imported, bytes, SIZE));
        checked("vrd_receive", vrd_receive(ends.receiver, bytes, SIZE));
        vrd_cap_close(imported);
    }
}

// What every call begins and ends with: finds the capability, checks number and right, takes and gives
// back its pin, the general way (plain messages have a shorter one). A batch of nothing does no more.
void check_capability(benchmark::State &state)
{
    Ends ends;
    char bytes[SIZE] = {};
    checked("vrd_send", vrd_send(ends.sender, bytes, SIZE));
    checked("vrd_receive", vrd_receive(ends.receiver, bytes, SIZE));
    checked("vrd_send", vrd_send(ends.sender, bytes, SIZE)); // there is an answer
    for (auto _ : state)
        benchmark::DoNotOptimize(vrd_send_batch(ends.sender, nullptr, 0, 0));
}

struct Holdings {
    long fds = 0, bytes = 0;
};

// Descriptors, and bytes of memory files that are mapped, each file once.
Holdings holdings()
{
    Holdings result;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        result.fds++;
    closedir(dir);

    std::set<std::string> seen;
    char line[512], range[128], inode[64], path[256];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        if (sscanf(line, "%127s %*s %*s %*s %63s %255s", range, inode, path) != 3)
            continue;
        if (strncmp(path, "/memfd:", 7) || !seen.insert(inode).second)
            continue;
        struct stat info;
        if (stat((std::string("/proc/self/map_files/") + range).c_str(), &info) == 0)
            result.bytes += info.st_blocks * 512;
    }
    fclose(maps);
    return result;
}

// Both ends in this process: the sum of what both processes would hold.
void idle_link(benchmark::State &state)
{
    constexpr long LINKS = 100;
    for (auto _ : state) {
        Ends first; // what a process needs once is not counted
        char bytes[SIZE] = {};
        std::vector<vrd_cap_t> receivers, senders;
        const auto use = [&](vrd_cap_t sender, vrd_cap_t receiver) {
            checked("vrd_send", vrd_send(sender, bytes, SIZE));
            checked("vrd_receive", vrd_receive(receiver, bytes, SIZE));
        };
        use(first.sender, first.receiver);
        const Holdings before = holdings();
        for (long i = 0; i < LINKS; i++) {
            vrd_cap_t sender, receiver;
            const size_t slots = static_cast<size_t>(state.range(0));
            checked("vrd_channel_create", vrd_channel_create(slots, &sender, &receiver));
            use(sender, receiver);
            senders.push_back(sender), receivers.push_back(receiver);
        }
        const Holdings after = holdings();
        state.counters["bytes"] = static_cast<double>(after.bytes - before.bytes) / LINKS;
        state.counters["fds"] = static_cast<double>(after.fds - before.fds) / LINKS;
        for (vrd_cap_t cap : senders)
            vrd_cap_close(cap);
        for (vrd_cap_t cap : receivers)
            vrd_cap_close(cap);
    }
}

// Descriptors for so many descendants: two each, and their holders' with them.
void raise_descriptor_limit()
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

size_t open_descriptors()
{
    size_t n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

// When what the last revocation left to be closed is closed.
size_t settled_descriptors()
{
    size_t before, n = open_descriptors();
    do {
        before = n;
        usleep(20000);
        n = open_descriptors();
    } while (n < before);
    return n;
}

// A process that derives `n` capabilities from the one that it is given, in a tree of two children each,
// sends something with each if they are to be `used`, and keeps them.
class Holder {
  public:
    Holder(const Ends &ends, size_t n, bool used)
    {
        const size_t before = settled_descriptors();
        char bytes[SIZE];
        int fd;
        checked("vrd_cap_export",
                vrd_cap_export(ends.sender, VRD_RIGHT_SEND | VRD_RIGHT_GRANT, &fd));
        pid_ = fork();
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            try {
                hold(fd, n, used);
            } catch (const std::exception &error) {
                fprintf(stderr, "%s\n", error.what());
            }
            _exit(1);
        }
        close(fd);
        if (pid_ < 0)
            throw_errno("fork");
        for (size_t i = 0; used && i < n; i++)
            checked("vrd_receive", vrd_receive(ends.receiver, bytes, SIZE));
        while (open_descriptors() < before + n) // until all have arrived
            vrd_receive_timed(ends.receiver, bytes, SIZE, 1000000);
    }
    ~Holder()
    {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
    }
    Holder(const Holder &) = delete;
    pid_t pid() const
    {
        return pid_;
    }

  private:
    static void hold(int fd, size_t n, bool used)
    {
        const uint32_t rights = VRD_RIGHT_SEND | VRD_RIGHT_GRANT;
        std::vector<vrd_cap_t> caps(n);
        char bytes[SIZE] = {};
        vrd_cap_t cap;
        checked("vrd_cap_import", vrd_cap_import(fd, &cap));
        for (size_t i = 0; i < n; i++) {
            int r;
            while ((r = vrd_cap_derive(i < 2 ? cap : caps[i / 2 - 1], rights, &caps[i])) ==
                   VRD_ERR_QUOTA_EXCEEDED)
                usleep(100);
            checked("vrd_cap_derive", r);
        }
        for (size_t i = 0; used && i < n; i++)
            checked("vrd_send", vrd_send(caps[i], bytes, SIZE));
        for (;;)
            pause();
    }

    pid_t pid_;
};

// All that was derived from one capability and is held by another process. Only the call is timed.
void revoke(benchmark::State &state, bool used)
{
    raise_descriptor_limit();
    for (auto _ : state) {
        Ends ends;
        const Holder holder(ends, static_cast<size_t>(state.range(0)), used);
        const auto begin = std::chrono::steady_clock::now();
        checked("vrd_cap_revoke", vrd_cap_revoke(ends.receiver));
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        state.SetIterationTime(took.count());
    }
}

// The same by whose they are.
void revoke_process(benchmark::State &state)
{
    raise_descriptor_limit();
    for (auto _ : state) {
        Ends ends;
        const Holder holder(ends, static_cast<size_t>(state.range(0)), true);
        const auto begin = std::chrono::steady_clock::now();
        checked("vrd_process_cleanup", vrd_process_cleanup(holder.pid()));
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        state.SetIterationTime(took.count());
    }
}

void socketpairs_close(benchmark::State &state)
{
    const size_t n = static_cast<size_t>(state.range(0));
    raise_descriptor_limit();
    for (auto _ : state) {
        std::vector<std::array<int, 2>> pairs(n);
        for (auto &pair : pairs)
            if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) < 0)
                return state.SkipWithError("not enough descriptors");
        const auto begin = std::chrono::steady_clock::now();
        for (auto &pair : pairs)
            close(pair[0]), close(pair[1]);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
        state.SetIterationTime(took.count());
    }
}

// A server in a process of its own, under a name in a directory of its own, both gone at the end.
class Server {
  public:
    explicit Server(void (*serve)(const char *directory, int ready))
    {
        int ready[2];
        char byte;
        if (!mkdtemp(directory_) || pipe(ready) < 0)
            throw_errno("mkdtemp or pipe");
        setenv("VERIDIAN_RUNTIME_DIR", directory_, 1);
        pid_ = fork();
        if (pid_ == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            try {
                serve(directory_, ready[1]);
            } catch (const std::exception &error) {
                fprintf(stderr, "%s\n", error.what());
            }
            _exit(1);
        }
        close(ready[1]);
        const bool serves = pid_ > 0 && read(ready[0], &byte, 1) == 1;
        close(ready[0]);
        if (!serves)
            throw std::runtime_error("the server has not started");
    }
    ~Server()
    {
        kill(pid_, SIGKILL);
        waitpid(pid_, nullptr, 0);
        unlink(path(directory_).c_str());
        rmdir(directory_);
    }
    Server(const Server &) = delete;
    std::string path() const
    {
        return path(directory_);
    }
    static std::string path(const char *directory)
    {
        return std::string(directory) + "/server";
    }

  private:
    char directory_[32] = "/tmp/veridian-bench-XXXXXX";
    pid_t pid_;
};

sockaddr_un address_of(const std::string &path)
{
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
}

void serve_calls(const char *, int ready)
{
    uint64_t id;
    vrd_cap_t endpoint;
    char bytes[SIZE];
    checked("vrd_endpoint_create", vrd_endpoint_create(&id, &endpoint));
    checked("vrd_publish", vrd_publish(endpoint, "server", nullptr));
    if (write(ready, "", 1) != 1)
        return;
    for (vrd_cap_t reply = VRD_CAP_NONE;;) {
        vrd_message request = {};
        request.data = bytes, request.size = SIZE;
        const int r = vrd_reply_receive(endpoint, &reply, bytes, SIZE, &request, VRD_FOREVER);
        if (r < 0 && r != VRD_ERR_PEER_GONE)
            checked("vrd_reply_receive", r);
    }
}

void serve_sockets(const char *directory, int ready)
{
    const sockaddr_un address = address_of(Server::path(directory));
    char bytes[SIZE];
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) < 0 ||
        listen(fd, SOMAXCONN) < 0)
        throw_errno("listen");
    if (write(ready, "", 1) != 1)
        return;
    for (;;) {
        const int client = accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
        read_all<SIZE>(client, bytes);
        write_all<SIZE>(client, bytes);
        close(client);
    }
}

uint64_t connect_call(const Server &)
{
    char bytes[SIZE] = {};
    vrd_cap_t cap;
    const uint64_t begin = monotonic_ns();
    checked("vrd_connect", vrd_connect("server", VRD_FOREVER, &cap));
    checked("vrd_call", static_cast<int>(vrd_call(cap, bytes, SIZE, bytes, SIZE, VRD_FOREVER)));
    const uint64_t took = monotonic_ns() - begin;
    vrd_cap_close(cap);
    return took;
}

uint64_t socket_connect_call(const Server &server)
{
    const sockaddr_un address = address_of(server.path());
    char bytes[SIZE] = {};
    const uint64_t begin = monotonic_ns();
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<const sockaddr *>(&address), sizeof address) < 0)
        throw_errno("connect");
    write_all<SIZE>(fd, bytes);
    read_all<SIZE>(fd, bytes);
    const uint64_t took = monotonic_ns() - begin;
    close(fd);
    return took;
}

// From nothing to the first reply; closing is not timed. One client that comes again after a pause, since
// in practice nobody connects without end, or again and again at once.
void connections(benchmark::State &state, void (*serve)(const char *, int),
                 uint64_t (*connect)(const Server &), useconds_t pause)
{
    Server server(serve);
    std::vector<uint64_t> times;
    for (auto _ : state) {
        times.push_back(connect(server));
        state.SetIterationTime(static_cast<double>(times.back()) / 1e9);
        if (pause > 0)
            usleep(pause);
    }
    std::sort(times.begin(), times.end());
    state.counters["p10"] = quantile(times, 0.1);
    state.counters["p50"] = quantile(times, 0.5);
    state.counters["p90"] = quantile(times, 0.9);
}

BENCHMARK(create_close)->Name("setup/create_close/veridian");
BENCHMARK(socketpair_create_close)->Name("setup/create_close/unix seqpacket");
BENCHMARK(create_use_close)->Name("setup/create_use_close/veridian");
BENCHMARK(socketpair_create_use_close)->Name("setup/create_use_close/unix seqpacket");
BENCHMARK(export_invitation)->Name("setup/export/veridian");
BENCHMARK(export_import_use)->Name("setup/export_import_use/veridian");
constexpr useconds_t PAUSE_US = 1000;
BENCHMARK_CAPTURE(connections, calls, serve_calls, connect_call, PAUSE_US)
    ->Name("setup/connect_call/veridian")
    ->Iterations(3000)
    ->UseManualTime();
BENCHMARK_CAPTURE(connections, sockets, serve_sockets, socket_connect_call, PAUSE_US)
    ->Name("setup/connect_call/unix seqpacket")
    ->Iterations(3000)
    ->UseManualTime();
BENCHMARK_CAPTURE(connections, calls_at_once, serve_calls, connect_call, 0)
    ->Name("setup/connect_call_at_once/veridian")
    ->Iterations(10000)
    ->UseManualTime();
BENCHMARK_CAPTURE(connections, sockets_at_once, serve_sockets, socket_connect_call, 0)
    ->Name("setup/connect_call_at_once/unix seqpacket")
    ->Iterations(10000)
    ->UseManualTime();
BENCHMARK_CAPTURE(revoke, unused, false)
    ->Name("setup/revoke/veridian")
    ->Arg(10000)
    ->Iterations(3)
    ->UseManualTime();
BENCHMARK_CAPTURE(revoke, used, true)
    ->Name("setup/revoke_used/veridian")
    ->Arg(10000)
    ->Iterations(3)
    ->UseManualTime();
BENCHMARK(revoke_process)
    ->Name("setup/revoke_process/veridian")
    ->Arg(10000)
    ->Iterations(3)
    ->UseManualTime();
BENCHMARK(socketpairs_close)
    ->Name("setup/revoke/unix seqpacket")
    ->Arg(9900)
    ->Iterations(3)
    ->UseManualTime();
BENCHMARK(check_capability)->Name("setup/check_capability/veridian");
BENCHMARK(idle_link)->Name("setup/idle_link")->Arg(16)->Arg(64)->Iterations(1);

} // namespace

BENCHMARK_MAIN();
