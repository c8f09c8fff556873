// SPDX-License-Identifier: MIT
// A zeroed, pre-faulted mapping that parent and child share.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <system_error>

namespace bench {

class SharedMemory {
  public:
    explicit SharedMemory(size_t size) : size_(size)
    {
        base_ = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (base_ == MAP_FAILED)
            throw std::system_error(errno, std::generic_category(), "mmap");
    }
    ~SharedMemory()
    {
        munmap(base_, size_);
    }
    SharedMemory(const SharedMemory &) = delete;
    SharedMemory &operator=(const SharedMemory &) = delete;

    template <class T> T *at(size_t offset)
    {
        return reinterpret_cast<T *>(static_cast<char *>(base_) + offset);
    }

  private:
    void *base_;
    size_t size_;
};

// One T, constructed in shared memory.
template <class T> class Shared {
  public:
    Shared() : memory_(sizeof(T)), object_(new (memory_.at<void>(0)) T())
    {
    }
    T *operator->()
    {
        return object_;
    }
    T &operator*()
    {
        return *object_;
    }

  private:
    SharedMemory memory_;
    T *object_;
};

} // namespace bench
