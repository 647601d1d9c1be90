// SPDX-License-Identifier: BSD-3-Clause
// Hierarchical softmax against the textbook's sums, their refusals, and the promise on threads.
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>

#include <sparseops/detail/parallel.hpp>
#include <sparseops/hsoftmax.hpp>
#include <sparseops/search.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

template <class T>
struct Gradient {
    std::vector<T> nll, dX, dW, db;
    bool operator==(const Gradient& o) const {
        return same_bytes(nll, o.nll) && same_bytes(dX, o.dX) && same_bytes(dW, o.dW) && same_bytes(db, o.db);
    }
};

template <class T>
Gradient<T> gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, bool dense, int num_threads = 1) {
    const std::size_t rows = dense ? plan.hierarchy().rows() : plan.touched_rows();
    Gradient<T> g{std::vector<T>(plan.examples()), std::vector<T>(in.X.rows() * in.X.cols()), std::vector<T>(rows * in.X.cols()),
                  std::vector<T>(rows)};
    const auto run = dense ? hsoftmax_gradient_dense<T> : hsoftmax_gradient<T>;
    run(plan, in, g.nll, {g.dX.data(), in.X.rows(), in.X.cols()}, {g.dW.data(), rows, in.X.cols()}, g.db, num_threads);
    return g;
}

void near(double got, const Reference& exact, const std::string& what) {
    check(std::fabs(got - exact.value) <= exact.bound, what, " should be ", exact.value, " within ", exact.bound, ", is ", got);
}

template <class T>
void test_loss() {
    const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        Problem<T> p(h, 150, 19, 7);
        p.labels[3] = p.labels[140] = -100;
        const HSoftmaxPlan plan(h, p.labels, -100);
        for (const double smoothing : {0.0, 0.1}) {
            auto in = p.input();
            in.label_smoothing = smoothing;
            std::vector<T> nll(p.n), residuals(plan.n_logits()), again(p.n);
            hsoftmax<T>(plan, in, nll, residuals);
            hsoftmax<T>(plan, in, again, {});
            check(same_bytes(nll, again), name, ": residuals on request should not change the loss");
            for (std::size_t i = 0; i < p.n; ++i) {
                const auto label = static_cast<std::size_t>(p.labels[i]);
                const Reference exact = p.labels[i] < 0 ? Reference{} : p.example(i).nll(h, label, smoothing);
                near(static_cast<double>(nll[i]), exact, name + ": nll, 0 where ignored,");
            }
            const auto sparse = gradient(plan, in, false), dense = gradient(plan, in, true);
            check(same_bytes(sparse.nll, nll), name, ": the gradient should report the same loss");
            in.residuals = residuals;
            check(gradient(plan, in, false) == sparse, name, ": residuals should not change the gradient");
            std::vector<std::int64_t> rows(plan.touched_rows());
            plan.write_rows(rows);
            std::vector<T> spread(h.rows() * p.dim, T(0)), bias(h.rows(), T(0));
            for (std::size_t slot = 0; slot < rows.size(); ++slot) {
                const auto row = static_cast<std::size_t>(rows[slot]);
                std::copy_n(sparse.dW.begin() + static_cast<std::ptrdiff_t>(slot * p.dim), p.dim,
                            spread.begin() + static_cast<std::ptrdiff_t>(row * p.dim));
                bias[row] = sparse.db[slot];
            }
            check(same_bytes(spread, dense.dW) && same_bytes(bias, dense.db) && same_bytes(dense.dX, sparse.dX), name,
                  ": sparse and dense gradient should agree");
            check(std::is_sorted(rows.begin(), rows.end()) && std::adjacent_find(rows.begin(), rows.end()) == rows.end(), name,
                  ": rows should rise");
        }
        auto in = p.input();
        in.sample_weight = p.weight;
        const auto weighted = gradient(plan, in, false);
        in.scale_loss = false;
        const auto upstream = gradient(plan, in, false);
        check(same_bytes(upstream.dW, weighted.dW) && same_bytes(upstream.dX, weighted.dX), name,
              ": scale_loss should not change the gradient");
        for (std::size_t i = 0; i < p.n; ++i) {
            const double plain = static_cast<double>(upstream.nll[i]), scaled = plain * static_cast<double>(p.weight[i]);
            near(static_cast<double>(weighted.nll[i]), {scaled, eps * std::fabs(scaled)}, name + ": weighted nll");
        }
    }
}

// Central differences of Σ weight · nll in double. Of each softmax or sigmoid the third derivative is at most 1/2 · |x|³, so the
// formula's own error is h²/12 · Σ weight · steps · |x|³; rounding adds that of two sums over 2h.
void test_gradient_by_differences() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        Problem<double> p(h, 12, 5, 8);
        const HSoftmaxPlan plan(h, p.labels);
        const double step = 1e-4;
        for (const double smoothing : {0.0, 0.2}) {
            const auto input = [&] {
                auto in = p.input();
                in.sample_weight = p.weight;
                in.label_smoothing = smoothing;
                return in;
            };
            const auto loss = [&] {
                std::vector<double> nll(p.n);
                hsoftmax<double>(plan, input(), nll, {});
                return std::accumulate(nll.begin(), nll.end(), 0.0);
            };
            const auto g = gradient(plan, input(), true);
            double reach = 0;  // Σ weight · steps: entries of X and W are at most 1, so that |x|³ <= 1
            for (std::size_t i = 0; i < p.n; ++i) {
                reach += p.weight[i] * static_cast<double>(h.path_nodes(static_cast<std::size_t>(p.labels[i])).size());
            }
            const double bound = step * step / 12 * reach + 0x1p-53 * 32 * (loss() + reach + 1) / (2 * step);
            const auto compare = [&, &name = name](std::vector<double>& at, const std::vector<double>& exact, const char* what) {
                for (std::size_t i = 0; i < at.size(); ++i) {
                    const double x = at[i], above = x + step, below = x - step;
                    at[i] = above;
                    double difference = loss();
                    at[i] = below;
                    difference -= loss();
                    at[i] = x;
                    near(exact[i], {difference / (above - below), bound}, name + ": " + what + " against central differences");
                }
            };
            compare(p.X, g.dX, "dX");
            compare(p.W, g.dW, "dW");
            compare(p.b, g.db, "db");
        }
    }
}

// More examples through a node than are summed at once: the sum of the gradients of one example each, whose logits have the same bits.
template <class T>
void test_large_batch() {
    for (const Hierarchy& tree : {huffman(zipf(12)), balanced(13, 4)}) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Problem<T> p(h, 900, 10, 27);
        const auto whole = gradient(HSoftmaxPlan(h, p.labels), p.input(), true);
        std::vector<Reference> dW(whole.dW.size()), db(whole.db.size());
        const double roundings = 1.01 * static_cast<double>(p.n + 1) * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
        const auto add = [&](std::vector<Reference>& sums, const std::vector<T>& terms) {
            for (std::size_t i = 0; i < sums.size(); ++i) {
                sums[i].value += static_cast<double>(terms[i]);
                sums[i].bound += roundings * std::fabs(static_cast<double>(terms[i]));
            }
        };
        for (std::size_t i = 0; i < p.n; ++i) {
            auto in = p.input();
            in.X = {p.X.data() + i * p.dim, 1, p.dim};
            const auto one = gradient(HSoftmaxPlan(h, std::span(p.labels).subspan(i, 1)), in, true);
            add(dW, one.dW);
            add(db, one.db);
        }
        for (std::size_t i = 0; i < dW.size(); ++i) near(static_cast<double>(whole.dW[i]), dW[i], "dW of a large batch");
        for (std::size_t i = 0; i < db.size(); ++i) near(static_cast<double>(whole.db[i]), db[i], "db of a large batch");
    }
}

// More nodes than one stretch of the walk over the tree holds.
template <class T>
void test_large_tree() {
    for (const Hierarchy& tree : {huffman(zipf(9500)), huffman(zipf(14000), 3), renumbered(huffman(zipf(9000)))}) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Problem<T> p(h, 10, 3, 28);
        Labels some(p.n * 700);
        for (std::size_t i = 0; i < some.size(); ++i) some[i] = static_cast<std::int64_t>(i * 13 % h.classes());
        std::vector<T> asked(some.size());
        hsoftmax_log_proba_of<T>(h, p.input(), {some.data(), p.n, 700}, {asked.data(), p.n, 700});
        const auto all = log_proba(h, p.input());
        for (std::size_t i = 0; i < some.size(); ++i) {
            const std::size_t at = i / 700 * h.classes() + static_cast<std::size_t>(some[i]);
            check(asked[i] == all[at], "log_proba of class ", some[i], " of a large tree should be ", asked[i], ", is ", all[at]);
        }
    }
}

template <class T>
void test_distributions() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Problem<T> p(h, 21, 11, 9);
        const auto all = log_proba(h, p.input());
        Labels every(p.n * h.classes());
        for (std::size_t i = 0; i < every.size(); ++i) every[i] = static_cast<std::int64_t>(i % h.classes());
        std::vector<T> asked(every.size()), nodes(p.n * h.nodes());
        hsoftmax_log_proba_of<T>(h, p.input(), {every.data(), p.n, h.classes()}, {asked.data(), p.n, h.classes()});
        check(same_bytes(asked, all), name, ": log_proba_of should give the bytes of log_proba");
        hsoftmax_node_log_proba<T>(h, p.input(), {nodes.data(), p.n, h.nodes()});
        for (std::size_t i = 0; i < p.n; ++i) {
            double sum = 0, sum_bound = 0;
            std::vector<double> below(h.nodes(), 0);
            for (std::size_t c = 0; c < h.classes(); ++c) {
                const Reference exact = p.example(i).nll(h, c);
                const double got = static_cast<double>(all[i * h.classes() + c]);
                near(-got, exact, name + ": -log_proba");
                sum += std::exp(got);
                sum_bound += 1.001 * std::exp(got) * exact.bound;
                for (const std::int32_t v : h.path_nodes(c)) below[static_cast<std::size_t>(v)] += std::exp(got);
            }
            near(sum, {1, sum_bound + 1e-15 * static_cast<double>(h.classes())}, name + ": the sum of the probabilities");
            for (std::size_t v = 0; v < h.nodes(); ++v) {
                near(std::exp(static_cast<double>(nodes[i * h.nodes() + v])),
                     {below[v], 2 * sum_bound + 1e-15 * static_cast<double>(h.classes())}, name + ": node_log_proba");
            }
        }
    }
}

template <class T>
void test_threads() {
    check(detail::team_size(3, 1e9) == 3, "large work should get the threads that were asked for");
    for (const Hierarchy& tree : {huffman(zipf(700)), huffman(zipf(500), 5), renumbered(huffman(zipf(300)))}) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Problem<T> p(h, 1500, 64, 12);
        const HSoftmaxPlan plan(h, p.labels);
        std::optional<Gradient<T>> first;
        std::vector<T> first_all, first_log_p;
        std::vector<std::int64_t> first_classes, first_sample;
        for (const int threads : {1, 2, 3}) {
            auto in = p.input();
            in.sample_weight = p.weight;
            auto g = gradient(plan, in, false, threads);
            in.X = {p.X.data(), 300, p.dim};
            auto all = log_proba(h, in, threads);
            std::vector<std::int64_t> classes(300 * 5), sample(300 * 4);
            std::vector<T> log_p(300 * 5), bound(300);
            SearchOptions options;
            options.k = 5;
            hsoftmax_search<T>(h, in, options, {classes.data(), 300, 5}, {log_p.data(), 300, 5}, bound, threads);
            hsoftmax_sample<T>(h, in, 99, {sample.data(), 300, 4}, threads);
            if (threads == 1) {
                first = std::move(g), first_all = all, first_classes = classes, first_log_p = log_p, first_sample = sample;
                continue;
            }
            check(*first == g, threads, " threads should give the gradient of one");
            check(same_bytes(first_all, all), threads, " threads should give log_proba of one");
            check(first_classes == classes && same_bytes(first_log_p, log_p), threads, " threads should find what one does");
            check(first_sample == sample, threads, " threads should draw what one does");
        }
    }
}

void test_refusals() {
    const Hierarchy tree = huffman(zipf(9));
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    check_refused("labels must be in [0, 9), got 9 at index 2", [&] { HSoftmaxPlan(h, Labels{0, 8, 9}); });
    check_refused("labels must be in [0, 9), got -1 at index 0", [&] { HSoftmaxPlan(h, Labels{-1}); });
    check_refused("labels must be in [0, 9), got -2 at index 1", [&] { HSoftmaxPlan(h, Labels{-1, -2}, -1); });
    const Problem<double> p(h, 4, 3, 13);
    const HSoftmaxPlan plan(h, p.labels);
    const std::size_t rows = plan.touched_rows();
    std::vector<double> nll(4, 7), dX(12, 7), dW(rows * 3, 7), db(rows, 7), residuals(plan.n_logits(), 7);
    const auto untouched = [&] {
        for (const auto* v : {&nll, &dX, &dW, &db, &residuals}) {
            if (std::any_of(v->begin(), v->end(), [](double x) { return x != 7; })) return false;
        }
        return true;
    };
    using Change = std::function<void(HSoftmaxInput<double>&)>;
    std::vector<double> bad_x = p.X, bad_w = p.W;
    bad_x[7] = std::nan("");
    const auto refused = [&](const std::string& text, const Change& change) {
        auto in = p.input();
        change(in);
        check_refused(text, [&] { hsoftmax<double>(plan, in, nll, residuals); });
        check_refused(text, [&] { hsoftmax_gradient<double>(plan, in, nll, {dX.data(), 4, 3}, {dW.data(), rows, 3}, db); });
        check(untouched(), "after '", text, "' the outputs should be as they were");
    };
    refused("X must have one row a label, 4, got 3", [&](auto& in) { in.X = {p.X.data(), 3, 3}; });
    refused("W must have shape (8, 3), got (7, 3)", [&](auto& in) { in.W = {p.W.data(), 7, 3}; });
    refused("W must have shape (8, 3), got (8, 2)", [&](auto& in) { in.W = {p.W.data(), 8, 2}; });
    refused("b must have 8 entries, got 5", [](auto& in) { in.b = in.b.first(5); });
    refused("sample_weight must have 4 entries, got 2", [&](auto& in) { in.sample_weight = std::span<const double>(p.weight).first(2); });
    refused("grad_output must have 4 entries, got 2",
            [&](auto& in) { in.sample_weight = std::span<const double>(p.weight).first(2), in.scale_loss = false; });
    refused("label_smoothing must be in [0, 1), got 1", [](auto& in) { in.label_smoothing = 1; });
    refused("X must be finite, got nan at row 2, column 1", [&](auto& in) { in.X = {bad_x.data(), 4, 3}; });
    const double* const nowhere = nullptr;
    refused("b must point to 8 values, got a null pointer", [&](auto& in) { in.b = {nowhere, 8}; });
    refused("sample_weight must point to 4 values, got a null pointer", [&](auto& in) { in.sample_weight = {nowhere, 4}; });
    refused("residuals must point to " + std::to_string(plan.n_logits()) + " values, got a null pointer",
            [&](auto& in) { in.residuals = {nowhere, plan.n_logits()}; });
    check_refused("labels must point to 2 values, got a null pointer",
                  [&] { HSoftmaxPlan(h, {static_cast<const std::int64_t*>(nullptr), 2}); });
    HierarchyView lost = h;
    lost.path_child = {static_cast<const std::int32_t*>(nullptr), h.path_child.size()};
    check_refused("path_child must point to " + std::to_string(h.path_child.size()) + " values, got a null pointer",
                  [&] { HierarchyIndex{lost}; });
    check_refused("counts must point to 3 values, got a null pointer", [&] { huffman({nowhere, 3}); });
    const std::vector<std::int64_t> indptr(5, 0);
    const CsrView<const double, std::int64_t> sparse{indptr, {}, {}, 3};
    refused("X must be dense with rows of W that are, got compressed sparse rows", [&](auto& in) { in.X = sparse; });
    const auto in = p.input();
    check_refused("nll must point to 4 values, got a null pointer",
                  [&] { hsoftmax<double>(plan, in, {static_cast<double*>(nullptr), 4}, {}); });
    check_refused("nll must have 4 entries, got 3", [&] { hsoftmax<double>(plan, in, std::span<double>(nll).first(3), {}); });
    check_refused("residuals must have " + std::to_string(plan.n_logits()) + " entries, got 1",
                  [&] { hsoftmax<double>(plan, in, nll, std::span<double>(residuals).first(1)); });
    check_refused("dX must have shape (4, 3), got (4, 2)",
                  [&] { hsoftmax_gradient<double>(plan, in, nll, {dX.data(), 4, 2}, {dW.data(), rows, 3}, db); });
    check_refused("db must have 8 entries, got " + std::to_string(rows - 1), [&] {
        hsoftmax_gradient_dense<double>(plan, in, nll, {dX.data(), 4, 3}, {dW.data(), 8, 3}, std::span<double>(db).first(rows - 1));
    });
    check_refused("out must have shape (4, 9), got (4, 8)", [&] { hsoftmax_log_proba<double>(h, in, {dX.data(), 4, 8}); });
    std::int64_t classes[4] = {0, 1, 2, 9};
    check_refused("classes must be in [0, 9), got 9 at index 3",
                  [&] { hsoftmax_log_proba_of<double>(h, in, {classes, 4, 1}, {nll.data(), 4, 1}); });
    SearchOptions options;
    const auto search = [&] { hsoftmax_search<double>(h, in, options, {classes, 4, 1}, {nll.data(), 4, 1}, std::span<double>(nll)); };
    options.k = 0;
    check_refused("k must be at least 1, got 0", search);
    options.k = 2;
    check_refused("classes must have shape (4, 2), got (4, 1)", search);
    options = {}, options.beam = 0;
    check_refused("beam must be at least 1, got 0", search);
    options = {}, options.edge_beam = -1;
    check_refused("edge_beam must be at least 0, got -1", search);
    options = {}, options.min_prob = 1.5;
    check_refused("min_prob must be in (0, 1], got 1.5", search);
    check(untouched(), "after the refusals the outputs should be as they were");
    std::fill(bad_w.begin(), bad_w.end(), std::numeric_limits<double>::infinity());
    auto overflow = in;
    overflow.W = {bad_w.data(), 8, 3};
    bool named = false;
    try {
        hsoftmax<double>(plan, overflow, nll, {});
    } catch (const std::invalid_argument& e) {
        named = std::string(e.what()).starts_with("W and b must be finite, with finite logits, got ");
    }
    check(named, "a logit that is not finite should be refused as one of W and b");
}

template <class T>
void test_all() {
    test_loss<T>();
    test_distributions<T>();
    test_large_batch<T>();
    test_large_tree<T>();
    test_threads<T>();
}

}  // namespace

int main() {
    test_all<float>();
    test_all<double>();
    test_gradient_by_differences();
    test_refusals();
    return finish("core");
}
