// SPDX-License-Identifier: BSD-3-Clause
// Search against sorting all log-probabilities.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <sparseops/search.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

template <class T>
void test_search() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        Problem<T> p(h, 66, 9, 10);
        for (const T scale : {T(0), T(1), T(100)}) {
            if (scale > 0) {  // few values, so that many classes are equally likely; if large, as likely as the nodes above them
                for (T& w : p.W) w = scale * std::round(w);
                for (T& x : p.X) x = std::round(x);
                std::fill(p.b.begin(), p.b.end(), T(0));
            }
            const auto all = log_proba(h, p.input());
            for (const std::size_t k : {std::size_t{1}, std::size_t{3}, h.classes(), h.classes() + 2}) {
                std::vector<std::int64_t> classes(p.n * k);
                std::vector<T> log_p(p.n * k), bound(p.n);
                SearchOptions options;
                options.k = k;
                hsoftmax_search<T>(h, p.input(), options, {classes.data(), p.n, k}, {log_p.data(), p.n, k}, bound);
                for (std::size_t i = 0; i < p.n; ++i) {
                    const T* row = all.data() + i * h.classes();
                    std::vector<std::int64_t> sorted(h.classes());
                    std::iota(sorted.begin(), sorted.end(), 0);
                    std::stable_sort(sorted.begin(), sorted.end(), [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
                    bool same = true;
                    for (std::size_t j = 0; j < k; ++j) {
                        const bool filled = j < sorted.size();
                        same = same && classes[i * k + j] == (filled ? sorted[j] : -1) &&
                               log_p[i * k + j] == (filled ? row[sorted[j]] : -std::numeric_limits<T>::infinity());
                    }
                    check(same, name, ": the search for ", k, " of row ", i, " should equal sorting log_proba, ties and bits included");
                    check(k < h.classes() ? !(bound[i] > log_p[i * k + k - 1]) : bound[i] == -std::numeric_limits<T>::infinity(), name,
                          ": bound of row ", i);
                }
            }
            SearchOptions narrow;  // as wide as the tree: exact again
            narrow.beam = static_cast<std::int64_t>(h.classes());
            std::vector<std::int64_t> best(p.n), beam(p.n);
            std::vector<T> log_p(p.n), bound(p.n);
            hsoftmax_search<T>(h, p.input(), narrow, {beam.data(), p.n, 1}, {log_p.data(), p.n, 1}, bound);
            hsoftmax_search<T>(h, p.input(), {}, {best.data(), p.n, 1}, {log_p.data(), p.n, 1}, bound);
            check(beam == best, name, ": a beam as wide as the tree should be exact");
        }
    }
}

// More nodes are as likely as the results than come from the queue: the rest is searched depth first.
template <Real T>
void test_ties(T spread, int arity) {
    constexpr std::size_t classes = 40000, k = 7, dim = 3;
    const HierarchyIndex tree(balanced(classes, arity));
    const HierarchyView& h = tree.view();
    std::vector<T> x{1, T(-0.5), 2}, W(h.rows() * dim), all(classes), log_p(k), bound(1);
    for (std::size_t i = 0; i < W.size(); ++i) W[i] = spread * static_cast<T>(static_cast<int>(i * 7919 % 101) - 50);
    const HSoftmaxInput<T> in{.X = {x.data(), 1, dim}, .W = {W.data(), h.rows(), dim}};
    hsoftmax_log_proba<T>(h, in, {all.data(), 1, classes});
    std::vector<std::int64_t> found(k), order(classes);
    hsoftmax_search<T>(h, in, {.k = k}, {found.data(), 1, k}, {log_p.data(), 1, k}, bound);
    for (std::size_t c = 0; c < classes; ++c) order[c] = static_cast<std::int64_t>(c);
    std::stable_sort(order.begin(), order.end(),
                     [&](auto a, auto b) { return all[static_cast<std::size_t>(a)] > all[static_cast<std::size_t>(b)]; });
    for (std::size_t j = 0; j < k; ++j)
        check(found[j] == order[j] && log_p[j] == all[static_cast<std::size_t>(order[j])], "result ", j, " of ties should be class ",
              order[j], ", it is ", found[j]);
    check(bound[0] <= log_p[k - 1], "what was left should not be likelier than the results");
}

// Bags and search by blocks: the bytes of both after each other, whatever the threads.
template <Real T, Index I>
void test_bags() {
    constexpr std::size_t n = 77, features = 50, dim = 9, k = 4;
    std::vector<I> indptr{0}, indices;
    std::vector<T> data, E(features * dim);
    for (std::size_t i = 0; i < E.size(); ++i) E[i] = static_cast<T>(static_cast<int>(i * 7919 % 101) - 50) / T(50);
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t j = 0; j < i % 7; ++j) {
            indices.push_back(static_cast<I>((i * 31 + j * 17) % features));
            data.push_back(static_cast<T>(1 + (i + j) % 5));
        }
        indptr.push_back(static_cast<I>(indices.size()));
    }
    const CsrView<const T, I> X{.indptr = indptr, .indices = indices, .data = data, .cols = features};
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        Problem<T> p(h, n, dim, 3);
        HSoftmaxInput<T> in = p.input();
        std::vector<std::int64_t> classes(n * k), found(n * k);
        std::vector<T> hidden(n * dim), log_p(n * k), log_probs(n * k), bound(n), left(n);
        embedding_bag<T, I>(X, {E.data(), features, dim}, BagMode::mean, {hidden.data(), n, dim}, 1);
        in.X = {hidden.data(), n, dim};
        hsoftmax_search<T>(h, in, {.k = k}, {classes.data(), n, k}, {log_p.data(), n, k}, bound, 1);
        in.X = {};
        for (const int threads : {1, 2, 3}) {
            bag_search<T, I>(X, {E.data(), features, dim}, BagMode::mean, h, in, {.k = k}, {found.data(), n, k}, {log_probs.data(), n, k},
                             left, threads);
            check(found == classes && log_probs == log_p && left == bound, name, ": bags searched by ", threads, " threads");
        }
        if (h.nodes() == 0) continue;
        std::vector<T> far(E), large(data);  // row 3 is the first with this feature
        std::fill_n(far.begin() + static_cast<std::ptrdiff_t>(indices[5]) * dim, dim, std::numeric_limits<T>::max());
        for (T& x : large) x = T(1e30);
        check_refused("X must be finite, got inf at row 3, column 0", [&] {
            bag_search<T, I>({indptr, indices, large, features}, {far.data(), features, dim}, BagMode::sum, h, in, {.k = k},
                             {found.data(), n, k}, {log_probs.data(), n, k}, left, 2);
        });
    }
}

}  // namespace

int main() {
    test_search<float>();
    test_search<double>();
    test_bags<float, std::int32_t>();
    test_bags<float, std::int64_t>();
    test_bags<double, std::int32_t>();
    test_bags<double, std::int64_t>();
    for (const int arity : {2, 3}) {
        for (const float spread : {0.0f, 1e-9f, 1e-6f}) test_ties<float>(spread, arity);
        test_ties<double>(1e-9, arity);
    }
    return finish("search");
}
