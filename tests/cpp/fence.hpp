// SPDX-License-Identifier: BSD-3-Clause
// Memory between two pages that may not be touched, and the message when one is.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>

#include "check.hpp"

namespace sparseops_test {

inline char at_work[128] = "";  // what runs, for the message of a crash

inline void out_of_bounds(int) {
    static const char text[] = "failed: an access outside the arrays of ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, at_work, std::strlen(at_work));
    (void)!write(2, "\n", 1);
    _exit(1);
}

// Some pages between two that may not be touched.
class Fence {
public:
    Fence() : page_(static_cast<std::size_t>(sysconf(_SC_PAGESIZE))), room_((32768 + page_ - 1) / page_ * page_) {
        void* all = mmap(nullptr, room_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (all == MAP_FAILED) std::abort();
        inside_ = static_cast<unsigned char*>(all) + page_;
        if (mprotect(inside_, room_, PROT_READ | PROT_WRITE) != 0) std::abort();
        std::memset(inside_, pattern, room_);
    }
    ~Fence() { munmap(inside_ - page_, room_ + 2 * page_); }
    Fence(const Fence&) = delete;
    Fence& operator=(const Fence&) = delete;

    template <class T>
    T* place(std::size_t n, bool at_end, Random& random, double low, double high) {
        bytes_ = n * sizeof(T);
        if (bytes_ > room_) std::abort();
        std::memset(inside_, pattern, room_);
        start_ = at_end ? room_ - bytes_ : 0;
        T* array = reinterpret_cast<T*>(inside_ + start_);
        for (std::size_t i = 0; i < n; ++i) array[i] = static_cast<T>(random.uniform(low, high));
        return array;
    }
    bool rest_untouched() const {
        for (std::size_t i = 0; i < room_; ++i) {
            if ((i < start_ || i >= start_ + bytes_) && inside_[i] != pattern) return false;
        }
        return true;
    }

private:
    static constexpr unsigned char pattern = 0xa5;
    std::size_t page_, room_, start_ = 0, bytes_ = 0;
    unsigned char* inside_ = nullptr;
};

inline void report_accesses() {
    std::signal(SIGSEGV, out_of_bounds);
    std::signal(SIGBUS, out_of_bounds);
}

}  // namespace sparseops_test
