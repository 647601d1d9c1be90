// SPDX-License-Identifier: BSD-3-Clause
// The worker threads under stress, and what the surroundings of the process allow.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>
#define SPARSEOPS_TEST_FORK 1
#endif

#include <sparseops/detail/cpus.hpp>
#include <sparseops/detail/parallel.hpp>
#include <sparseops/runtime.hpp>

#include "check.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

// One call: every index once, and an exception out of one of them reaches this caller and no other.
bool one_call(std::size_t n, int threads, int fails_with) {
    std::vector<int> count(n, 0);
    int caught = -1;
    try {
        detail::parallel_for(n, threads, [&](std::size_t i, std::size_t) {
            ++count[i];
            if (fails_with >= 0 && i == n / 2) throw fails_with;
        });
    } catch (int e) {
        caught = e;
    }
    return caught == fails_with && std::all_of(count.begin(), count.end(), [](int c) { return c <= 1; }) &&
           (fails_with >= 0 || std::accumulate(count.begin(), count.end(), std::size_t{0}) == n);
}

// Teams that grow and shrink, from several callers, some of whose work throws.
void test_many_callers_with_teams_of_all_sizes() {
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 4; ++caller) {
        callers.emplace_back([caller, &wrong] {
            Random random(static_cast<std::uint64_t>(caller));
            for (int round = 0; round < 400; ++round) {
                const std::size_t n = 1 + random.below(40);
                const int threads = 1 + static_cast<int>(random.below(6));
                if (!one_call(n, threads, random.below(4) == 0 ? caller * 1000 + round : -1)) ++wrong;
            }
        });
    }
    for (auto& caller : callers) caller.join();
    check(wrong == 0, "of 1600 calls from 4 callers, ", wrong.load(), " went wrong");
}

// Workers that went to sleep are found again; those that are about to are not lost.
void test_calls_after_pauses() {
    int wrong = 0;
    for (int round = 0; round < 200; ++round) {
        std::this_thread::sleep_for(std::chrono::microseconds(round));
        if (!one_call(16, 3, -1)) ++wrong;
    }
    check(wrong == 0, wrong, " of 200 calls after a pause went wrong");
}

void test_workers_take_part() {
    std::atomic<bool> joined{false};
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!joined && std::chrono::steady_clock::now() < end) {
        detail::parallel_for(2, 2, [&](std::size_t, std::size_t worker) {
            if (worker == 1) joined = true;
            for (int i = 0; i < 100 && !joined; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        });
    }
    check(joined, "a worker should take part in a long call");
}

void test_a_call_inside_a_call() {
    std::vector<int> count(20 * 30, 0);
    std::atomic<bool> alone{true};
    detail::parallel_for(20, 3, [&](std::size_t i, std::size_t) {
        detail::parallel_for(30, 3, [&](std::size_t j, std::size_t worker) {
            ++count[i * 30 + j];
            if (worker != 0) alone = false;
        });
    });
    check(alone && std::all_of(count.begin(), count.end(), [](int c) { return c == 1; }),
          "a call inside a call should visit each index once, on the thread that it is on");
}

void test_inside_a_team_of_openmp() {
#if defined(_OPENMP)
    std::atomic<bool> alone{true};
#pragma omp parallel num_threads(2)
    if (detail::team_size(2, 1e9) != 1) alone = false;
    check(alone, "inside a team of OpenMP large work should stay on one thread");
    check(detail::team_size(2, 1e9) == 2, "after it, it should not");
#endif
}

#if defined(SPARSEOPS_TEST_FORK)
void test_workers_leave_signals_to_the_program() {
    std::atomic<int> asked{0}, wrong{0};
    const auto blocked = [](int signal) {
        sigset_t set;
        pthread_sigmask(SIG_SETMASK, nullptr, &set);
        return sigismember(&set, signal) == 1;
    };
    const bool before = blocked(SIGTERM);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (asked == 0 && std::chrono::steady_clock::now() < end) {
        detail::parallel_for(64, 3, [&](std::size_t, std::size_t worker) {
            std::this_thread::sleep_for(std::chrono::microseconds(100));
            if (worker == 0) return;
            ++asked;
            if (!blocked(SIGTERM) || !blocked(SIGINT) || blocked(SIGSEGV)) ++wrong;
        });
    }
    check(asked > 0 && wrong == 0, "workers should block signals, but not faults");
    check(blocked(SIGTERM) == before, "a caller should keep its signals");
}

// The child has only the thread that forked; whatever the others held at that moment is held for ever.
void test_fork_in_the_middle_of_another_call() {
    std::atomic<bool> stop{false};
    std::thread other([&] {
        while (!stop) detail::parallel_for(64, 3, [](std::size_t, std::size_t) {});
    });
    int wrong = 0;
    for (int round = 0; round < 20; ++round) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(20);
            std::atomic<int> count{0};
            detail::parallel_for(64, 3, [&](std::size_t, std::size_t) { ++count; });  // a size from before the fork
            _exit(count == 64 && get_num_threads() == 1 && detail::team_size(3, 1e9) == 1 ? 0 : 1);
        }
        int status = 0;
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 0) ++wrong;
    }
    stop = true;
    other.join();
    check(wrong == 0, wrong, " of 20 children forked in the middle of another thread's call failed");
}
#endif

// A machine of files: what a process of these control groups may use.
int cpus_of(const std::vector<std::pair<std::string, std::string>>& files) {
    namespace fs = std::filesystem;
    const auto now = std::chrono::steady_clock::now().time_since_epoch().count();
    const fs::path root = fs::temp_directory_path() / ("sparseops-test-" + std::to_string(now));
    for (const auto& [path, text] : files) {
        fs::create_directories((root / path).parent_path());
        std::ofstream(root / path) << text;
    }
    const int cpus = detail::cgroup_cpus(root.string());
    fs::remove_all(root);
    return cpus;
}

void test_control_groups() {
    const std::string self = "proc/self/cgroup", group = "sys/fs/cgroup/";
    check(cpus_of({}) == 0, "no control groups should be no limit");
    check(cpus_of({{group + "cpu.max", "max 100000\n"}}) == 0, "max should be no limit");
    check(cpus_of({{group + "cpu.max", "200000 100000\n"}}) == 2, "two periods should be two cores");
    check(cpus_of({{group + "cpu.max", "250000 100000\n"}}) == 3, "two periods and a half should be three cores");
    check(cpus_of({{group + "cpu.max", "10000 100000\n"}}) == 1, "a tenth should be one core");
    check(cpus_of({{group + "cpu.max", "nonsense"}}) == 0 && cpus_of({{group + "cpu.max", ""}}) == 0, "nonsense should be no limit");
    check(cpus_of({{self, "0::/a/b\n"}, {group + "a/b/cpu.max", "max 100000"}, {group + "a/cpu.max", "400000 100000"}}) == 4,
          "a group above should limit");
    check(cpus_of({{self, "0::/a/b\n"}, {group + "a/b/cpu.max", "300000 100000"}, {group + "a/cpu.max", "800000 100000"}}) == 3,
          "the least limit should hold");
    check(cpus_of({{self, "0::/../host\n"}, {group + "cpu.max", "500000 100000"}}) == 5, "in a container the mount should limit");
    const std::string quota = "/cpu.cfs_quota_us", period = "/cpu.cfs_period_us";
    check(cpus_of({{group + "cpu" + quota, "-1\n"}, {group + "cpu" + period, "100000\n"}}) == 0, "version 1: -1 should be no limit");
    check(cpus_of({{group + "cpu" + quota, "150000\n"}, {group + "cpu" + period, "100000\n"}}) == 2, "version 1: 1.5 should be two");
    const std::string v1 = "4:memory:/x\n3:cpu,cpuacct:/docker/a\n2:cpuset:/y\n0::/\n";
    check(cpus_of({{self, v1}, {group + "cpu/docker/a" + quota, "600000"}, {group + "cpu/docker/a" + period, "100000"}}) == 6,
          "version 1: the process's own group should limit");
    check(cpus_of({{self, v1}, {group + "cpu" + quota, "700000"}, {group + "cpu" + period, "100000"}}) == 7,
          "version 1: in a container the mount should limit");
}

void test_first_number() {
    const auto number = detail::first_number;
    check(number("4") == 4 && number("3,2,1") == 3 && number(" 8 ") == 8, "the first of a list should count");
    for (const char* text : {"", "x", "0", "-2", "4x", "1.5", "99999999999999999999"}) {
        check(number(text) == 0, "'", text, "' should be no number of threads");
    }
    check(number(nullptr) == 0 && number("100000") == 1024, "none should be 0, and too many the most there can be");
}

// To be called before the library has looked.
void test_omp_num_threads_without_openmp() {
#if defined(SPARSEOPS_TEST_FORK)
    if (has_openmp()) return;  // it reads the variable itself, when it is loaded
    setenv("OMP_NUM_THREADS", "3,2", 1);
    const int limit = detail::cgroup_cpus();
    check(get_num_threads() == (limit > 0 ? std::min(3, limit) : 3), "OMP_NUM_THREADS should count without OpenMP too, got ",
          get_num_threads());
#endif
}

}  // namespace

int main() {
    test_omp_num_threads_without_openmp();
    test_control_groups();
    test_first_number();
    test_workers_take_part();
    test_many_callers_with_teams_of_all_sizes();
    test_calls_after_pauses();
    test_a_call_inside_a_call();
    test_inside_a_team_of_openmp();
#if defined(SPARSEOPS_TEST_FORK)
    test_workers_leave_signals_to_the_program();
    test_fork_in_the_middle_of_another_call();
#endif
    return finish("threads");
}
