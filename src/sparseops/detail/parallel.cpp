#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <fstream>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

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
thread_local bool inside_team = false;

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

// Threads do not survive fork: a forked child runs on one.
#ifdef SPARSEOPS_HAS_FORK
void after_fork() { forked.store(true, std::memory_order_relaxed); }
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork);
#endif

// Worker threads that sleep between jobs. The caller works too and never waits for a thread that has not begun: where
// other processes hold the cores, a call costs what one thread would take, not a scheduler's time slice. (An OpenMP
// region joins the whole team at its end; with a busy neighbour that was measured at 12 ms for 0.3 ms of work.)
class Pool {
public:
    void run(std::size_t n, int threads, detail::Body body, const void* f) {
        const auto only = inside_team ? std::unique_lock<std::mutex>() : std::unique_lock<std::mutex>(submit_, std::try_to_lock);
        if (!only) {  // inside a job, or another thread's job has the workers
            for (std::size_t i = 0; i < n; ++i) body(f, i, 0);
            return;
        }
        {
            const std::lock_guard<std::mutex> hold(lock_);
            grow(threads - 1);
            body_ = body, f_ = f, n_ = n, seats_ = threads - 1, joined_ = 0, open_ = true, failure_ = nullptr;
            next_.store(0, std::memory_order_relaxed);
            job_.fetch_add(1, std::memory_order_release);
        }
        for (int i = 0; i < threads - 1; ++i) wake_.notify_one();
        work(0);
        const auto idle = [this] { return running_.load(std::memory_order_acquire) == 0; };
        std::unique_lock<std::mutex> hold(lock_);
        open_ = false;
        if (!idle()) {
            hold.unlock();
            spin_until(idle);
            hold.lock();
            done_.wait(hold, idle);
        }
        if (failure_) std::rethrow_exception(std::exchange(failure_, nullptr));
    }

private:
    template <class Done>
    static void spin_until(Done done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(50);
        while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    }

    void grow(int workers) {
        try {
            for (; workers_ < workers; ++workers_) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
            // no more threads to be had: those there are do the work
        }
    }

    void serve() {
        inside_team = true;
        std::uint64_t seen = 0;
        const auto called = [&] { return job_.load(std::memory_order_acquire) != seen; };
        for (;;) {
            spin_until(called);
            std::unique_lock<std::mutex> hold(lock_);
            wake_.wait(hold, called);
            seen = job_.load(std::memory_order_relaxed);
            if (!open_ || joined_ == seats_) continue;
            const int worker = ++joined_;
            running_.fetch_add(1, std::memory_order_relaxed);
            hold.unlock();
            work(static_cast<std::size_t>(worker));
            hold.lock();
            if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) done_.notify_one();
        }
    }

    void work(std::size_t worker) {
        const bool outer = std::exchange(inside_team, true);
        for (std::size_t i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < n_;) {
            try {
                body_(f_, i, worker);
            } catch (...) {  // out of memory, say
                const std::lock_guard<std::mutex> hold(lock_);
                failure_ = std::current_exception();
            }
        }
        inside_team = outer;
    }

    std::mutex submit_, lock_;
    std::condition_variable wake_, done_;
    std::atomic<std::uint64_t> job_{0};
    std::atomic<std::size_t> next_{0};
    std::atomic<int> running_{0};
    detail::Body body_ = nullptr;
    const void* f_ = nullptr;
    std::size_t n_ = 0;
    int workers_ = 0, seats_ = 0, joined_ = 0;
    bool open_ = false;
    std::exception_ptr failure_;
};

std::atomic<Pool*> shared_pool{nullptr};

// Never destroyed: a worker may still look at it while the process ends.
Pool& pool() {
    if (Pool* shared = shared_pool.load(std::memory_order_acquire)) return *shared;
    static Pool* const own = new Pool;
    return *own;
}

}  // namespace

void* thread_pool() { return &pool(); }
void share_thread_pool(void* other) noexcept { shared_pool.store(static_cast<Pool*>(other), std::memory_order_release); }

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
    const auto cores = static_cast<int>(std::thread::hardware_concurrency());
    const int limit = cgroup_limit();
    return std::max(1, limit > 0 ? std::min(cores, limit) : cores);
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
    constexpr double work_worth_a_team = 2e5;  // multiply-adds: about 15 µs; a caller does not wait for threads that come late
    if (work < work_worth_a_team || inside_team || forked.load(std::memory_order_relaxed)) return 1;
#ifdef _OPENMP
    if (omp_in_parallel()) return 1;
#endif
    return requested > 0 ? std::min(requested, 1024) : get_num_threads();
}

void run_parallel(std::size_t n, int threads, Body body, const void* f) {
    pool().run(n, static_cast<int>(std::min<std::size_t>(n, static_cast<std::size_t>(threads))), body, f);
}

}  // namespace detail
}  // namespace sparseops
