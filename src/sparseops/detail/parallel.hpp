// The only place that starts threads.
#pragma once

#include <cstddef>

namespace sparseops::detail {

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

}  // namespace sparseops::detail
