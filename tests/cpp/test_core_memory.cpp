// SPDX-License-Identifier: BSD-3-Clause
// What changes its arguments in place has all memory before the first write: each allocation of a call is failed in turn, and then
// all bytes must be as they were.
#include <atomic>
#include <cstdlib>
#include <functional>
#include <new>

#include <sparseops/bag.hpp>
#include <sparseops/normalize.hpp>
#include <sparseops/update.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

std::atomic<long> allocations_left{-1};  // below 0: all that are asked for

void* allocate(std::size_t size, std::size_t alignment) {
    if (allocations_left.load() >= 0 && allocations_left.fetch_sub(1) == 0) throw std::bad_alloc();
    void* memory = std::aligned_alloc(alignment, (size + alignment) / alignment * alignment);
    if (!memory) throw std::bad_alloc();
    return memory;
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size, alignof(std::max_align_t)); }
void* operator new(std::size_t size, std::align_val_t alignment) { return allocate(size, static_cast<std::size_t>(alignment)); }
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {  // of stable_sort, which does without
    try {
        return operator new(size);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace {

using namespace sparseops;
using namespace sparseops_test;

// `state` is what `call` changes. A call that fails leaves it; one that does not (for want of a thread, say) does as without failure.
// Returns how many failed.
template <class State>
long test_each_failure(const std::string& name, const State& before, const std::function<void(State&)>& call) {
    State after = before;
    call(after);
    check(!(after == before), name, " should change something");
    long failures = 0;
    for (long k = 0; k < 10'000; ++k) {
        State state = before;
        bool failed = false;
        allocations_left = k;
        try {
            call(state);
        } catch (const std::bad_alloc&) {
            failed = true;
        }
        const bool met = allocations_left.exchange(-1) < 0;
        check(state == (failed ? before : after), name, " with allocation ", k, " failed, ", failed ? "and so" : "and not",
              " the call, should leave what ", failed ? "was" : "comes of it");
        failures += failed;
        if (!met) break;
    }
    return failures;
}

template <class T>
struct Parameters {
    std::vector<T> W, b, first, second, b_first, b_second;
    bool operator==(const Parameters& o) const {
        return same_bytes(W, o.W) && same_bytes(b, o.b) && same_bytes(first, o.first) && same_bytes(second, o.second) &&
               same_bytes(b_first, o.b_first) && same_bytes(b_second, o.b_second);
    }

    static Parameters random(std::size_t rows, std::size_t cols, std::uint64_t seed) {
        Random random(seed);
        return {random.vector<T>(rows * cols), random.vector<T>(rows), std::vector<T>(rows * cols),
                std::vector<T>(rows * cols),   std::vector<T>(rows),   std::vector<T>(rows)};
    }
    MatrixView<T> rows(std::vector<T>& of) { return {of.data(), b.size(), W.size() / b.size()}; }
    Optimizer<T> adam(double max_norm) {
        return {.method = Method::adam,
                .lr = 0.05,
                .eps = 1e-8,
                .beta1 = 0.9,
                .beta2 = 0.99,
                .max_norm = max_norm,
                .first = rows(first),
                .second = rows(second),
                .b_first = b_first,
                .b_second = b_second};
    }
};

template <class T>
void test_update(int threads) {
    const NamedTree trees[] = {{"huffman", huffman(zipf(60))},
                               {"huffman of arity 5", huffman(zipf(60), 5)},
                               {"balanced", balanced(64, 2, false)},
                               {"two levels", two_level(60, zipf(60), 20)}};
    for (const auto& [name, tree] : trees) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Problem<T> p(h, 400, 24, 3);
        std::vector<T> nll(p.n), dX(p.n * p.dim);
        const auto before = Parameters<T>::random(h.rows(), p.dim, 4);
        const HSoftmaxPlan plan(h, p.labels);
        const long failures = test_each_failure<Parameters<T>>("an update, " + name, before, [&](Parameters<T>& now) {
            auto in = p.input();
            in.W = now.rows(now.W), in.b = now.b;
            hsoftmax_update<T>(plan, in, now.rows(now.W), now.b, now.adam(1), nll, {dX.data(), p.n, p.dim}, threads);
        });
        check(failures > 0, "an update, ", name, ", should ask for memory");
    }
}

template <class T>
struct Both {
    Parameters<T> E, W;
    bool operator==(const Both& o) const { return E == o.E && W == o.W; }
};

// One minibatch: E and W are stepped, or neither.
template <class T>
void test_bag_train(int threads) {
    const Hierarchy tree = huffman(zipf(60), 3);
    const HierarchyIndex index(tree);
    const std::size_t n = 300, features = 40, dim = 16;
    std::vector<std::int32_t> indptr(n + 1), indices;
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < 6; ++j) indices.push_back(static_cast<std::int32_t>((i * 7 + j * 5) % features));
        indptr[i + 1] = static_cast<std::int32_t>(indices.size());
    }
    const auto data = Random(5).vector<T>(indices.size(), 0.5, 2);
    const auto labels = Random(6).indices<std::int64_t>(n, 60);
    Labels order(n);
    for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<std::int64_t>(i);
    const Both<T> before{Parameters<T>::random(features, dim, 7), Parameters<T>::random(index.view().rows(), dim, 8)};
    const long failures = test_each_failure<Both<T>>("a minibatch", before, [&](Both<T>& now) {
        auto E = now.E.adam(0.5), W = now.W.adam(0.5);
        const BagSchedule schedule{.batch_size = n};
        bag_train<T, std::int32_t>(index.view(), {indptr, indices, data, features}, labels, {}, order, BagMode::mean, now.E.rows(now.E.W),
                                   now.W.rows(now.W.W), now.W.b, E, W, schedule, threads);
    });
    check(failures > 0, "a minibatch should ask for memory");
}

template <class T>
struct Entries {
    std::vector<T> x;
    bool operator==(const Entries& o) const { return same_bytes(x, o.x); }
};

// Rows in the middle of the range, and beyond what squares and quotients of it can be.
template <class T>
void test_normalize(int threads) {
    const std::size_t rows = 900, cols = 40;
    Entries<T> x{Random(9).vector<T>(rows * cols)};
    for (std::size_t i = 0; i < rows; ++i) {
        const int power = i % 3 == 0 ? 0 : std::numeric_limits<T>::max_exponent * (i % 3 == 1 ? -1 : 1) + (i % 3 == 1 ? 4 : -8);
        for (std::size_t j = 0; j < cols; ++j) x.x[i * cols + j] = std::ldexp(x.x[i * cols + j], power);
    }
    std::vector<std::int64_t> named;
    for (std::size_t i = 0; i < rows; i += 2) named.push_back(static_cast<std::int64_t>(i));
    std::vector<double> by_row(rows), by_column(cols), by_name(named.size());
    const auto view = [&](Entries<T>& e) { return MatrixView<T>{e.x.data(), rows, cols}; };
    for (const bool check_finite : {true, false}) {
        for (const Norm ord : {Norm::l1, Norm::l2, Norm::max}) {
            const Normalize options{.ord = ord, .norm = 3, .check_finite = check_finite};
            test_each_failure<Entries<T>>("rows", x, [&](auto& now) { normalize_rows<T>(view(now), view(now), by_row, options, threads); });
            test_each_failure<Entries<T>>("columns", x,
                                          [&](auto& now) { normalize_columns<T>(view(now), view(now), by_column, options, threads); });
        }
        test_each_failure<Entries<T>>(
            "named rows", x, [&](auto& now) { normalize_indexed_rows<T>(view(now), named, by_name, 3, false, check_finite, threads); });
        const Normalize options{.norm = 3, .check_finite = check_finite};
        const Entries<T> g{Random(10).vector<T>(rows * cols)};
        const MatrixView<const T> W{x.x.data(), rows, cols};
        test_each_failure<Entries<T>>("gradient of rows", g,
                                      [&](auto& now) { normalize_rows_gradient<T>(W, now.x, now.x, options, threads); });
        test_each_failure<Entries<T>>("gradient of columns", g,
                                      [&](auto& now) { normalize_columns_gradient<T>(W, now.x, now.x, options, threads); });
    }
}

}  // namespace

int main() {
    for (const int threads : {1, 2}) {
        test_update<float>(threads);
        test_update<double>(threads);
        test_bag_train<float>(threads);
        test_bag_train<double>(threads);
        test_normalize<float>(threads);
        test_normalize<double>(threads);
    }
    return finish("core memory");
}
