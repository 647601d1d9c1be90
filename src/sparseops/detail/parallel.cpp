// SPDX-License-Identifier: BSD-3-Clause
#include "parallel.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#define SPARSEOPS_HAS_FORK 1
#endif
#ifdef __linux__
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "../runtime.hpp"
#include "cpus.hpp"
#include "require.hpp"

namespace sparseops {
namespace {

constexpr int most_threads = 1024;
std::atomic<bool> forked{false};
thread_local bool inside_team = false;

// f() once, kept. No function-local static: one that another thread was making when the process forked would block the
// child for ever. Two threads may both call f; it gives both the same.
template <class F>
int once(std::atomic<int>& kept, F f) noexcept {
    int value = kept.load(std::memory_order_relaxed);
    if (value < 0) {
        try {
            value = f();
        } catch (...) {
            value = 0;
        }
        kept.store(value, std::memory_order_relaxed);
    }
    return value;
}

int cgroup_limit() noexcept {
    static constinit std::atomic<int> kept{-1};
    return once(kept, [] { return detail::cgroup_cpus(); });
}

// The cores that the process may run on.
int cores() noexcept {
    static constinit std::atomic<int> kept{-1};
    return once(kept, [] {
#ifdef __linux__
        cpu_set_t set;
        if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
#endif
        return static_cast<int>(std::thread::hardware_concurrency());
    });
}

// The number of threads that OpenMP would take: OMP_NUM_THREADS, else the cores.
int wanted_threads() noexcept {
#ifdef _OPENMP
    return omp_get_max_threads();
#else
    static constinit std::atomic<int> kept{-1};
    return once(kept, [] {
        const int n = detail::first_number(std::getenv("OMP_NUM_THREADS"));
        return n > 0 ? n : cores();
    });
#endif
}

#ifdef SPARSEOPS_HAS_FORK

// While it lives, new threads start with signals blocked. A signal that the program has blocked, to wait for it, would
// otherwise go to a worker and end the process. Faults and the profiler's clock stay.
class SignalsBlocked {
public:
    SignalsBlocked() {
        sigset_t set;
        sigfillset(&set);
        for (const int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) sigdelset(&set, signal);
        pthread_sigmask(SIG_BLOCK, &set, &before_);
    }
    ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
    SignalsBlocked(const SignalsBlocked&) = delete;
    SignalsBlocked& operator=(const SignalsBlocked&) = delete;

private:
    sigset_t before_;
};
#else
struct SignalsBlocked {
    ~SignalsBlocked() {}
};
#endif

// A shared library with a thread-local that has yet to be destroyed is not unloaded: after dlclose, the code of sleeping
// workers is still there.
std::atomic<int> workers_ended{0};
struct StaysLoaded {
    ~StaysLoaded() { workers_ended.fetch_add(1, std::memory_order_relaxed); }
    bool begun = false;
};
thread_local StaysLoaded stays_loaded;

// Keeps a worker off the core of the caller. Linux may wake a thread on the core of the thread that wakes it, and does so in a
// virtual machine, where an idle core does not look available: the worker then waits there for the end of the caller's time slice
// while its own core idles. (Measured on 6.18 with two cores: after a pause, more than half of the calls ran on one.)
class Place {
public:
#ifdef __linux__
    void enter() noexcept { thread_ = static_cast<pid_t>(syscall(SYS_gettid)); }
    void keep_off(int core) noexcept {
        if (thread_ == 0 || core == core_) return;
        cpu_set_t now, wanted;
        if (sched_getaffinity(thread_, sizeof now, &now) != 0 || sched_getaffinity(0, sizeof wanted, &wanted) != 0) return;
        if (core_ < 0 || !CPU_EQUAL(&now, &set_)) all_ = now;  // not what was set here: the user's
        CPU_AND(&wanted, &wanted, &all_);
        CPU_CLR(static_cast<std::size_t>(core), &wanted);
        if (CPU_COUNT(&wanted) == 0 || sched_setaffinity(thread_, sizeof wanted, &wanted) != 0) return;
        set_ = wanted;
        core_ = core;
    }
    static int here() noexcept { return sched_getcpu(); }

private:
    cpu_set_t all_, set_;
    pid_t thread_ = 0;
    int core_ = -1;
#else
    void enter() noexcept {}
    void keep_off(int) noexcept {}
    static int here() noexcept { return -1; }
#endif
};

// Worker threads that sleep between jobs. The caller works too and never waits for a thread that has not begun: where
// other processes hold the cores, a call costs what one thread would take, not a scheduler's time slice. (An OpenMP
// region joins the whole team at its end; with a busy neighbor that was measured at 12 ms for 0.3 ms of work.)
class Pool {
public:
    std::atomic<int> chosen_threads{0};  // by set_num_threads, of all copies that share the pool

    bool started() const noexcept { return started_.load(std::memory_order_relaxed); }

    void run(std::size_t n, int threads, detail::Body body, const void* f) {
        started_.store(true);  // before any lock is taken: a child forked from here on does not touch them
        const std::unique_lock<std::mutex> only(submit_, std::try_to_lock);
        if (!only) {  // another thread's job has the workers
            for (std::size_t i = 0; i < n; ++i) body(f, i, 0);
            return;
        }
        {
            const std::lock_guard<std::mutex> hold(lock_);
            grow(threads - 1);
            share(n, static_cast<std::size_t>(threads));
            body_ = body, f_ = f, seats_ = threads - 1, joined_ = 0, open_ = true, failure_ = nullptr;
            job_.fetch_add(1, std::memory_order_release);
            for (Place& place : places_) place.keep_off(Place::here());
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
    // Long enough for what a caller does between the parallel parts of one call, and of one call and the next: waking a sleeping
    // worker costs more than what it would do of a small batch. (Gradient of 128 examples from Python, two threads: 205 µs with 50,
    // 135 from 200 on; of 1024, 0.9 of the time with 600.) The core is yielded to whoever wants it.
    template <class Done>
    static void spin_until(Done done) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::microseconds(500);
        while (!done() && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    }

    void grow(int workers) {
        if (workers_ >= workers) return;
        const SignalsBlocked blocked;
        try {
            const int kept = std::max(cores(), 8) - 1;
            while (workers_ < workers) {
                const auto place = places_.emplace(places_.end());
                try {
                    std::thread([this, place, extra = workers_ >= kept] { serve(place, extra); }).detach();
                } catch (...) {
                    places_.erase(place);
                    throw;
                }
                ++workers_;
            }
        } catch (...) {
            // no more threads or memory to be had: the threads that there are do the work
        }
    }

    // An extra worker, one of more than a few and than there are cores, ends when no job follows at once: each one that sleeps makes
    // waking the others dearer. (Kept, the 999 of one call made a gradient take 393 µs of CPU time instead of 249.)
    void serve(std::list<Place>::iterator place, bool extra) {
        stays_loaded.begun = true;
        inside_team = true;
        std::uint64_t seen = 0;
        const auto called = [&] { return job_.load(std::memory_order_acquire) != seen; };
        {
            const std::lock_guard<std::mutex> hold(lock_);
            place->enter();
        }
        for (;;) {
            spin_until(called);
            std::unique_lock<std::mutex> hold(lock_);
            if (extra && !called()) {
                places_.erase(place);
                --workers_;
                return;
            }
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

    // A worker's own stretch of the iterations. Neighbors are done by one thread: their data lie on the same pages, and two threads
    // that touch a fresh huge page at once both clear 2 MiB, one of them for nothing.
    struct alignas(detail::cache_gap) Share {
        std::atomic<std::size_t> next{0};
        std::size_t end = 0;
    };

    // Without memory for more shares, workers have some in common: a caller may have begun to write, and cannot stop.
    void share(std::size_t n, std::size_t threads) {
        try {
            if (shares_.size() < threads) shares_ = std::vector<Share>(threads);
        } catch (const std::bad_alloc&) {
            threads = shares_.size();
        }
        n_shares_ = threads;
        std::size_t begin = 0;
        for (std::size_t s = 0; s < threads; ++s) {
            shares_[s].next.store(begin, std::memory_order_relaxed);
            begin += n / threads + (s < n % threads ? 1 : 0);
            shares_[s].end = begin;
        }
    }

    // Its own share, then what is left of the others'.
    void work(std::size_t worker) {
        const bool outer = std::exchange(inside_team, true);
        for (std::size_t s = 0; s < n_shares_; ++s) {
            Share& share = shares_[(worker + s) % n_shares_];
            for (std::size_t i; (i = share.next.fetch_add(1, std::memory_order_relaxed)) < share.end;) {
                try {
                    body_(f_, i, worker);
                } catch (...) {  // out of memory, say
                    const std::lock_guard<std::mutex> hold(lock_);
                    failure_ = std::current_exception();
                }
            }
        }
        inside_team = outer;
    }

    std::mutex submit_, lock_;
    std::list<Place> places_;  // of all workers
    std::condition_variable wake_, done_;
    std::atomic<std::uint64_t> job_{0};
    std::atomic<int> running_{0};
    std::atomic<bool> started_{false};
    std::vector<Share> shares_ = std::vector<Share>(1);
    std::size_t n_shares_ = 0;
    detail::Body body_ = nullptr;
    const void* f_ = nullptr;
    int workers_ = 0, seats_ = 0, joined_ = 0;
    bool open_ = false;
    std::exception_ptr failure_;
};

std::atomic<Pool*> shared_pool{nullptr};

// Never destroyed: a worker may still look at it while the process ends. Not a function-local static: see `once`.
// Null without memory for one.
Pool* pool() noexcept {
    Pool* found = shared_pool.load(std::memory_order_acquire);
    if (found) return found;
    try {
        auto made = std::make_unique<Pool>();
        if (shared_pool.compare_exchange_strong(found, made.get())) found = made.release();
    } catch (const std::bad_alloc&) {}
    return found;
}

// Threads do not survive fork: a child runs on one, unless none had begun, as in a server that only imports and forks.
#ifdef SPARSEOPS_HAS_FORK
void after_fork() {
    const Pool* const pool = shared_pool.load(std::memory_order_acquire);
    if (pool && pool->started()) forked.store(true, std::memory_order_relaxed);
}
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, after_fork);
#endif

}  // namespace

void set_num_threads(int n) {
    detail::require(n >= 0, "n must be at least 0, got ", n);
    Pool* const team = pool();
    if (!team) throw std::bad_alloc();
    team->chosen_threads.store(std::min(n, most_threads));
}

int get_num_threads() noexcept {
    if (forked.load(std::memory_order_relaxed)) return 1;
    const Pool* const team = shared_pool.load(std::memory_order_acquire);
    const int chosen = team ? team->chosen_threads.load(std::memory_order_relaxed) : 0;
    if (chosen > 0) return chosen;
    const int wanted = wanted_threads(), limit = cgroup_limit();
    return std::clamp(limit > 0 ? std::min(wanted, limit) : wanted, 1, most_threads);
}

bool has_openmp() noexcept {
#ifdef _OPENMP
    return true;
#else
    return false;
#endif
}

namespace detail {

void* thread_pool() { return pool(); }
void share_thread_pool(void* other) noexcept { shared_pool.store(static_cast<Pool*>(other), std::memory_order_release); }

int team_size(int requested, double work) noexcept {
    constexpr double work_worth_a_team = 2e5;  // multiply-adds: about 15 µs; a caller does not wait for threads that come late
    if (work < work_worth_a_team || inside_team || forked.load(std::memory_order_relaxed)) return 1;
#ifdef _OPENMP
    if (omp_in_parallel()) return 1;
#endif
    return requested > 0 ? std::min(requested, most_threads) : get_num_threads();
}

void run_parallel(std::size_t n, int threads, Body body, const void* f) {
    Pool* const team = inside_team || forked.load(std::memory_order_relaxed) ? nullptr : pool();
    if (!team) {
        for (std::size_t i = 0; i < n; ++i) body(f, i, 0);
        return;
    }
    team->run(n, static_cast<int>(std::min<std::size_t>(n, static_cast<std::size_t>(threads))), body, f);
}

}  // namespace detail
}  // namespace sparseops
