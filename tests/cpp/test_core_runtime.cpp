// SPDX-License-Identifier: BSD-3-Clause
// Random numbers and threads.
#include <algorithm>
#include <atomic>
#include <numeric>
#include <thread>

#if defined(__unix__) || defined(__APPLE__)
#include <sys/wait.h>
#include <unistd.h>
#define SPARSEOPS_TEST_FORK 1
#endif

#include <sparseops/bag.hpp>
#include <sparseops/detail/parallel.hpp>
#include <sparseops/detail/random.hpp>
#include <sparseops/runtime.hpp>

#include "check.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

void test_philox() {
    using detail::philox;
    check(philox(0, 0, 0) == detail::PhiloxBlock{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
          "Philox of zeros should be the published block");
    const std::uint64_t ones = ~std::uint64_t{0};
    check(philox(ones, ones, ones) == detail::PhiloxBlock{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
          "Philox of ones should be the published block");
    check(philox(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e) ==
              detail::PhiloxBlock{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
          "Philox of the digits of pi should be the published block");
    check(detail::unit_double(0, 0) == 0 && detail::unit_double(~0u, ~0u) == 1 - 0x1p-53, "unit_double should cover [0, 1)");
    for (const std::size_t n : {0u, 1u, 2u, 1000u}) {
        std::vector<std::int64_t> order(n), again(n), other(n);
        detail::shuffled_order(5, 1, order);
        detail::shuffled_order(5, 1, again);
        detail::shuffled_order(5, 2, other);
        check(order == again && (n < 3 || order != other), "a shuffle should depend on seed and epoch alone");
        std::sort(order.begin(), order.end());
        for (std::size_t i = 0; i < n; ++i) check(order[i] == static_cast<std::int64_t>(i), "a shuffle should be a permutation");
    }
}

// Each index once, on the workers that there are.
void test_parallel_for(int threads, std::size_t n) {
    std::vector<int> count(n, 0);
    std::atomic<bool> worker_fits{true};
    detail::parallel_for(n, threads, [&](std::size_t i, std::size_t worker) {
        ++count[i];
        if (worker >= static_cast<std::size_t>(threads)) worker_fits = false;
    });
    check(std::all_of(count.begin(), count.end(), [](int c) { return c == 1; }) && worker_fits, threads, " threads should visit each of ",
          n, " once");
}

void test_exceptions(int threads, std::size_t n) {
    std::vector<int> count(n, 0);
    bool caught = false;
    try {
        detail::parallel_for(n, threads, [&](std::size_t i, std::size_t) {
            if (i == n / 2) throw std::runtime_error("at work");
            ++count[i];
        });
    } catch (const std::runtime_error& e) {
        caught = std::string(e.what()) == "at work";
    }
    check(caught, "an exception out of ", threads, " threads should reach the caller");
    const auto visited = static_cast<std::size_t>(std::accumulate(count.begin(), count.end(), 0));
    if (threads > 1 && n > 1) check(visited == n - 1, "the other iterations should still run");
}

// Two callers at once share the workers, or one does without; both finish.
void test_callers_at_once() {
    const auto work = [](std::vector<int>& count) {
        for (int round = 0; round < 300; ++round) detail::parallel_for(count.size(), 3, [&](std::size_t i, std::size_t) { ++count[i]; });
    };
    std::vector<int> first(50, 0), second(50, 0);
    std::thread other([&] { work(second); });
    work(first);
    other.join();
    const auto all = [](const std::vector<int>& count) { return std::all_of(count.begin(), count.end(), [](int c) { return c == 300; }); };
    check(all(first) && all(second), "two callers at once should each visit every index once a call");
}

void test_team_size() {
    check(detail::team_size(3, 1e9) == 3, "large work should get the threads that were asked for");
    check(detail::team_size(4, 10) == 1, "small work should stay on one thread");
    std::atomic<bool> alone{true};
    detail::parallel_for(20, 3, [&](std::size_t, std::size_t) {
        if (detail::team_size(3, 1e9) != 1) alone = false;
    });
    check(alone, "inside a team large work should stay on one thread");
    check(detail::team_size(3, 1e9) == 3, "after a team it should not");
    check_refused("n must be at least 0, got -1", [] { set_num_threads(-1); });
    set_num_threads(3);
    check(get_num_threads() == 3 && detail::team_size(0, 1e9) == 3, "set_num_threads should hold where a call names none");
    set_num_threads(0);
    check(get_num_threads() >= 1, "the default should be at least one thread");
}

void test_forked_child_finishes() {
#if defined(SPARSEOPS_TEST_FORK)
    test_parallel_for(3, 100);  // the workers exist
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        std::atomic<int> count{0};
        const int threads = detail::team_size(3, 1e9);
        detail::parallel_for(100, threads, [&](std::size_t, std::size_t) { ++count; });
        _exit(threads == 1 && count == 100 ? 0 : 1);
    }
    int status = 0;
    check(child > 0 && waitpid(child, &status, 0) == child, "a child should be forked and waited for");
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a forked child should finish, on one thread");
    check(detail::team_size(3, 1e9) == 3, "its parent should keep its threads");
#endif
}

void test_isas() {
    const auto compiled = compiled_isas(), available = available_isas();
    check(!available.empty() && std::find(available.begin(), available.end(), active_isa()) != available.end(),
          "the set in use should be available");
    for (const std::string& isa : available) {
        check(std::find(compiled.begin(), compiled.end(), isa) != compiled.end(), isa, " should be compiled, as it is available");
    }
}

}  // namespace

int main() {
    test_philox();
    for (const int threads : {1, 2, 3, 8}) {
        for (const std::size_t n : {0u, 1u, 2u, 777u}) {
            test_parallel_for(threads, n);
            if (n > 0) test_exceptions(threads, n);
        }
    }
    test_callers_at_once();
    test_team_size();
    test_forked_child_finishes();
    test_isas();
    return finish("runtime");
}
