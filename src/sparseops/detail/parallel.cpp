#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <exception>
#include <fstream>
#include <sstream>
#include <string>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#define SPARSEOPS_HAS_FORK 1
#endif

#include "../runtime.hpp"
#include "require.hpp"

namespace sparseops {
namespace {

std::atomic<int> chosen_threads{0};
std::atomic<bool> forked{false};

// Cores that the control group grants, rounded up; 0 if it sets no limit. Read once.
int read_cgroup_limit() {
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    std::string quota;
    double period = 0;
    if (v2 >> quota >> period) {
        if (quota != "max" && period > 0) return std::max(1, static_cast<int>(std::ceil(std::stod(quota) / period)));
        return 0;
    }
    std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    double us = 0;
    if (q >> us && p >> period && us > 0 && period > 0) return std::max(1, static_cast<int>(std::ceil(us / period)));
    return 0;
}

int cgroup_limit() noexcept {
    static const int limit = [] {
        try {
            return read_cgroup_limit();
        } catch (...) {
            return 0;
        }
    }();
    return limit;
}

// An OpenMP team does not survive fork, whoever started it (another library may share the runtime), and using it
// again can hang: a forked child runs on one thread.
#ifdef SPARSEOPS_HAS_FORK
void after_fork() { forked.store(true, std::memory_order_relaxed); }
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork);
#endif

}  // namespace

void set_num_threads(int n) {
    detail::require(n >= 0, "n must be at least 0, got ", n);
    chosen_threads.store(n);
}

int get_num_threads() noexcept {
    const int chosen = chosen_threads.load(std::memory_order_relaxed);
    if (chosen > 0) return chosen;
#ifdef _OPENMP
    const int limit = cgroup_limit();
    const int own = omp_get_max_threads();
    return std::max(1, limit > 0 ? std::min(own, limit) : own);
#else
    return 1;
#endif
}

bool has_openmp() noexcept {
#ifdef _OPENMP
    return true;
#else
    return false;
#endif
}

namespace detail {

int team_size(int requested, double work) noexcept {
#ifdef _OPENMP
    constexpr double work_worth_a_team = 1.5e6;  // multiply-adds: about 100 µs, several times what waking a team costs
    if (work < work_worth_a_team || forked.load(std::memory_order_relaxed) || omp_in_parallel()) return 1;
    return requested > 0 ? std::min(requested, 1024) : get_num_threads();
#else
    (void)requested, (void)work;
    return 1;
#endif
}

void run_parallel(std::size_t n, int threads, Body body, const void* f) {
#ifdef _OPENMP
    const int team = static_cast<int>(std::min<std::size_t>(n, static_cast<std::size_t>(threads)));
    const auto count = static_cast<std::ptrdiff_t>(n);
    std::exception_ptr failure;  // out of memory, say: must not leave the team
#pragma omp parallel for schedule(dynamic, 1) num_threads(team)
    for (std::ptrdiff_t i = 0; i < count; ++i) {
        try {
            body(f, static_cast<std::size_t>(i), static_cast<std::size_t>(omp_get_thread_num()));
        } catch (...) {
#pragma omp critical(sparseops_failure)
            failure = std::current_exception();
        }
    }
    if (failure) std::rethrow_exception(failure);
#else
    (void)threads;
    for (std::size_t i = 0; i < n; ++i) body(f, i, 0);
#endif
}

}  // namespace detail
}  // namespace sparseops
