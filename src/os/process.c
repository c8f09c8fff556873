/* SPDX-License-Identifier: MIT */
#include "os/process.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define THREAD_STACK ((size_t)128 << 10)

uid_t process_user(void)
{
    return geteuid();
}

uint64_t process_memory_limit(void)
{
    static _Atomic uint64_t bytes; /* relaxed: whoever is first */

    if (atomic_load_explicit(&bytes, memory_order_relaxed) == 0)
        atomic_store_explicit(&bytes,
                              (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE),
                              memory_order_relaxed);
    return atomic_load_explicit(&bytes, memory_order_relaxed);
}

pid_t process_self(void)
{
    return getpid();
}

void *process_wiped_memory(size_t size)
{
    void *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (addr == MAP_FAILED)
        return NULL;
    if (madvise(addr, size, MADV_WIPEONFORK) < 0) {
        munmap(addr, size);
        return NULL;
    }
    return addr;
}

bool process_barrier_register(void)
{
    int saved = errno;
    bool offered = syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;

    errno = saved;
    return offered;
}

void process_barrier(void)
{
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

int process_open(pid_t pid)
{
    int saved = errno;
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);

    if (fd < 0)
        fd = -errno;
    errno = saved;
    return fd;
}

void process_pause(long ns)
{
    struct timespec time = { .tv_nsec = ns };

    nanosleep(&time, NULL);
}

int process_thread(void *(*run)(void *), const char *name)
{
    pthread_attr_t attr;
    pthread_t thread;
    sigset_t all, before;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited: the thread never takes a signal */
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, THREAD_STACK);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    r = pthread_create(&thread, &attr, run, NULL);
    if (r == 0)
        pthread_setname_np(thread, name);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}
