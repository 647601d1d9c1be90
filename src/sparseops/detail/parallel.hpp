// SPDX-License-Identifier: BSD-3-Clause
// The only place that starts threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <vector>

namespace sparseops::detail {

// Bytes between data that different workers write: a cache line, and the one that the hardware fetches with it.
constexpr std::size_t cache_gap = 128;

// The worker threads of this copy of the library and what set_num_threads chose, and the order to use those of another copy in
// the process: several statically linked copies need not each start their own. Call it before any work.
void* thread_pool();
void share_thread_pool(void* other) noexcept;

// The team size for `work` elementary operations: 1 for small work, inside another team, and in a forked child.
// `requested` <= 0 means the process's default (runtime.hpp).
int team_size(int requested, double work) noexcept;

// Calls f(i, worker) for every i in [0, n), each index once, on at most `threads` threads, worker in [0, threads) saying
// on which. Iteration i owns what it writes: then the number of threads cannot change a result. If f throws,
// one of the exceptions is thrown here, and other iterations may or may not have run.
using Body = void (*)(const void* f, std::size_t i, std::size_t worker);
void run_parallel(std::size_t n, int threads, Body body, const void* f);

template <class F>
void parallel_for(std::size_t n, int threads, const F& f) {
    if (threads <= 1 || n <= 1) {
        for (std::size_t i = 0; i < n; ++i) f(i, std::size_t{0});
        return;
    }
    run_parallel(n, threads, [](const void* g, std::size_t i, std::size_t worker) { (*static_cast<const F*>(g))(i, worker); }, &f);
}

// Elements from one worker's buffer of n elements to the next one's, cache_gap included.
template <class T>
constexpr std::size_t padded_stride(std::size_t n) noexcept {
    return (n * sizeof(T) / cache_gap + 2) * cache_gap / sizeof(T);
}

// A buffer of n elements for each worker.
template <class T>
class PerWorker {
public:
    PerWorker(std::size_t n, int threads) : stride_(padded_stride<T>(n)), all_(stride_ * static_cast<std::size_t>(std::max(1, threads))) {}
    T* operator[](std::size_t worker) noexcept { return all_.data() + worker * stride_; }

private:
    std::size_t stride_;
    std::vector<T> all_;
};

// The lowest place that any thread reports.
class FirstPlace {
public:
    void report(std::size_t place) noexcept {
        std::size_t seen = place_.load();
        while (place < seen && !place_.compare_exchange_weak(seen, place)) {}
    }
    bool any() const noexcept { return place() != ~std::size_t{0}; }
    std::size_t place() const noexcept { return place_.load(); }

private:
    std::atomic<std::size_t> place_{~std::size_t{0}};
};

}  // namespace sparseops::detail
