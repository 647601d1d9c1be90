// SPDX-License-Identifier: BSD-3-Clause
// A shared library that holds the core, for test_unload.
#include <atomic>
#include <chrono>
#include <thread>

#include <sparseops/detail/parallel.hpp>

// True once a worker has taken part.
extern "C" [[gnu::visibility("default")]] bool run_in_plugin() {
    std::atomic<bool> joined{false};
    for (int round = 0; round < 200 && !joined; ++round) {
        sparseops::detail::parallel_for(2, 2, [&](std::size_t, std::size_t worker) {
            if (worker == 1) joined = true;
            for (int i = 0; i < 100 && !joined; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
    }
    return joined;
}
