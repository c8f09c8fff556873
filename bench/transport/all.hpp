// SPDX-License-Identifier: MIT
// The competitors by family; a reference whose library is not installed is left out.
#pragma once

#include "support/pair.hpp"
#include "transport/bare.hpp"
#include "transport/kernel.hpp"
#include "transport/signalled.hpp"
#ifdef BENCH_HAVE_CK
#include "transport/ck.hpp"
#endif
#ifdef BENCH_HAVE_BOOST
#include "transport/lockfree.hpp"
#endif
#ifdef BENCH_HAVE_VERIDIAN
#include "transport/veridian.hpp"
#endif

namespace bench {

template <class T, class... Args> void add(Transports &list, Args &&...args)
{
    list.push_back(std::make_unique<T>(std::forward<Args>(args)...));
}

template <size_t N, size_t SLOTS> void add_lock_free(Transports &list)
{
#ifdef BENCH_HAVE_CK
    add<CkTransport<N, SLOTS>>(list);
#endif
#ifdef BENCH_HAVE_BOOST
    add<LockfreeTransport<N, SLOTS>>(list);
#endif
    (void)list;
}

// The queues' default limit is 8 KiB a message.
template <size_t N> void add_kernel(Transports &list)
{
    add<PipeTransport<N>>(list);
    add<SocketTransport<N, SOCK_STREAM>>(list);
    add<SocketTransport<N, SOCK_SEQPACKET>>(list);
    if constexpr (N <= 8192) {
        add<PosixQueueTransport<N>>(list);
        add<SysvQueueTransport<N>>(list);
    }
    add<EventfdTransport<N, 16>>(list);
}

template <size_t N> void add_veridian(Transports &list, size_t slots)
{
#ifdef BENCH_HAVE_VERIDIAN
    add<VeridianTransport<N>>(list, slots);
#endif
    (void)list, (void)slots;
}

template <size_t N> void add_veridian_messages(Transports &list, size_t slots)
{
#ifdef BENCH_HAVE_VERIDIAN
    add<VeridianMessages<N>>(list, slots);
#endif
    (void)list, (void)slots;
}

template <size_t N> void add_veridian_batch(Transports &list, size_t slots)
{
#ifdef BENCH_HAVE_VERIDIAN
    add<VeridianBatch<N>>(list, slots);
#endif
    (void)list, (void)slots;
}

} // namespace bench
