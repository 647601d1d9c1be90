// SPDX-License-Identifier: BSD-3-Clause
// Sparse rows of W at sparse rows of X, and independent nodes: against the same weights as a dense matrix.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <sparseops/detail/parallel.hpp>
#include <sparseops/search.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

// A dense row-major matrix as CSR.
template <class I>
struct Csr {
    std::vector<I> indptr{0}, indices;
    std::vector<float> data;
    std::size_t cols;

    Csr(const std::vector<float>& dense, std::size_t width) : cols(width) {
        for (std::size_t i = 0; i < dense.size(); ++i) {
            if (dense[i] != 0) indices.push_back(static_cast<I>(i % cols)), data.push_back(dense[i]);
            if (i % cols == cols - 1) indptr.push_back(static_cast<I>(indices.size()));
        }
    }
    CsrView<const float, I> view() const { return {indptr, indices, data, cols}; }
};

SparseRows sparse_rows(const HierarchyView& h, const std::vector<float>& W, std::size_t cols, const std::vector<float>& b) {
    SparseRows s;
    s.features = cols;
    s.bias = b;
    s.row_ptr.assign(h.row_ptr.begin(), h.row_ptr.end());
    s.feature_ptr = s.entry_ptr = {0};
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        for (std::size_t f = 0; f < cols; ++f) {
            for (std::size_t j = 0; j < h.row_count(v); ++j) {
                const float w = W[(h.row(v) + j) * cols + f];
                if (w == 0) continue;
                s.slot.push_back(static_cast<std::uint16_t>(j));
                s.weight.push_back(w);
            }
            if (static_cast<std::int64_t>(s.slot.size()) == s.entry_ptr.back()) continue;
            s.feature.push_back(static_cast<std::int32_t>(f));
            s.entry_ptr.push_back(static_cast<std::int64_t>(s.slot.size()));
        }
        s.feature_ptr.push_back(static_cast<std::int64_t>(s.feature.size()));
    }
    return s;
}

// Weights and examples of which two thirds are 0. Temperatures are powers of two, so that `dense` has the logits' exact weights.
struct Task {
    std::size_t n, dim;
    SparseRows W;
    std::vector<float> X, dense, bias;
    Labels labels;
    Csr<std::int32_t> x;
    Csr<std::int64_t> wide;

    Task(const HierarchyView& h, std::size_t examples, std::size_t width, std::uint64_t seed, bool ties = false)
        : n(examples), dim(width), X(), x({}, width), wide({}, width) {
        Random random(seed);
        const auto few = [&](std::size_t count) {
            auto values = random.vector<float>(count);
            for (float& value : values) {
                if (random.below(3) > 0) value = 0;
                if (ties) value = std::round(value * 2);
            }
            return values;
        };
        X = few(n * dim);
        dense = few(h.rows() * dim);
        bias = ties ? std::vector<float>(h.rows()) : random.vector<float>(h.rows());
        labels = random.indices<std::int64_t>(n, h.classes());
        W = sparse_rows(h, dense, dim, bias);
        for (std::int32_t d = 0; d < h.depth; ++d) W.temperature.push_back(d % 2 == 0 ? 2.0f : 0.5f);
        for (std::size_t v = 0; v < h.nodes(); ++v) {
            const float t = W.temperature[static_cast<std::size_t>(h.level[v])];
            for (std::size_t row = h.row(v); row < h.row(v + 1); ++row) {
                bias[row] *= t;
                for (std::size_t f = 0; f < dim; ++f) dense[row * dim + f] *= t;
            }
        }
        require_sparse_rows(W.view(), h);
        x = Csr<std::int32_t>(X, dim);
        wide = Csr<std::int64_t>(X, dim);
    }
    HSoftmaxInput<float> input() const { return {.X = x.view(), .W = W.view()}; }
    Example<float> example(std::size_t i) const { return {X.data() + i * dim, {dense.data(), bias.size(), dim}, bias}; }
};

// All that the five operators say of an input.
struct Answers {
    std::vector<float> nll, log_proba, of, nodes, log_probs, bound;
    std::vector<std::int64_t> classes, samples;

    bool operator==(const Answers& o) const {
        return same_bytes(nll, o.nll) && same_bytes(log_proba, o.log_proba) && same_bytes(of, o.of) && same_bytes(nodes, o.nodes) &&
               same_bytes(log_probs, o.log_probs) && same_bytes(bound, o.bound) && classes == o.classes && samples == o.samples;
    }
};

Answers answer(const HierarchyView& h, const HSoftmaxInput<float>& in, const Labels& labels, int num_threads = 1) {
    const std::size_t n = labels.size(), k = std::min<std::size_t>(4, h.classes());
    Answers a;
    a.nll.resize(n);
    hsoftmax<float>(HSoftmaxPlan(h, labels), in, a.nll, {}, num_threads);
    a.log_proba = log_proba(h, in, num_threads);
    a.of.resize(n);
    hsoftmax_log_proba_of<float>(h, in, {labels.data(), n, 1}, {a.of.data(), n, 1}, num_threads);
    a.nodes.resize(n * h.nodes());
    hsoftmax_node_log_proba<float>(h, in, {a.nodes.data(), n, h.nodes()}, num_threads);
    SearchOptions exact, beam, some;
    exact.k = beam.k = some.k = k;
    beam.beam = 3;
    some.beam = 2;
    some.nodes = true;
    some.edge_beam = 2.5;
    some.min_prob = 0.05;
    for (const SearchOptions& options : {exact, beam, some}) {
        std::vector<std::int64_t> classes(n * k);
        std::vector<float> log_probs(n * k), bound(n);
        hsoftmax_search<float>(h, in, options, {classes.data(), n, k}, {log_probs.data(), n, k}, bound, num_threads);
        a.classes.insert(a.classes.end(), classes.begin(), classes.end());
        a.log_probs.insert(a.log_probs.end(), log_probs.begin(), log_probs.end());
        a.bound.insert(a.bound.end(), bound.begin(), bound.end());
    }
    if (h.independent) return a;
    a.samples.resize(2 * n);
    hsoftmax_sample<float>(h, in, 7, {a.samples.data(), n, 2}, num_threads);
    return a;
}

std::vector<NamedTree> all_trees() {
    std::vector<NamedTree> list = trees();
    for (std::size_t i = 0, n = list.size(); i < n; ++i) {
        const HierarchyIndex index(list[i].tree);
        list.push_back({list[i].name + ", independent", independent(index.view())});
    }
    return list;
}

// ---- agrees with the reference, mathematics

void test_values(const std::string& name, const HierarchyView& h) {
    const Task task(h, 40, 12, 51);
    const Answers a = answer(h, task.input(), task.labels);
    for (std::size_t i = 0; i < task.n; ++i) {
        const auto label = static_cast<std::size_t>(task.labels[i]);
        const Reference nll = task.example(i).nll(h, label);
        check(std::fabs(static_cast<double>(a.nll[i]) - nll.value) <= nll.bound, name, ": nll of row ", i, " is ", a.nll[i], ", not ",
              nll.value);
        for (std::size_t c = 0; c < h.classes(); ++c) {
            const Reference r = task.example(i).nll(h, c);
            const double value = static_cast<double>(a.log_proba[i * h.classes() + c]);
            check(std::fabs(value + r.value) <= r.bound, name, ": log P of class ", c, " in row ", i, " is ", value, ", not ", -r.value);
        }
        check(a.nll[i] == -a.log_proba[i * h.classes() + label] && a.of[i] == -a.nll[i], name, ": loss and log_proba of row ", i);
    }
    if (h.independent || h.nodes() == 0) return;
    for (std::size_t i = 0; i < task.n; ++i) {
        double sum = 0;
        for (std::size_t c = 0; c < h.classes(); ++c) sum += std::exp(static_cast<double>(a.log_proba[i * h.classes() + c]));
        check(std::fabs(sum - 1) < 1e-5, name, ": probabilities of row ", i, " sum to ", sum);
    }
}

void test_search(const std::string& name, const HierarchyView& h, bool ties) {
    const Task task(h, 66, 9, 52, ties);
    const auto all = log_proba(h, task.input());
    const std::size_t n = task.n;
    for (const std::size_t k : {std::size_t{1}, std::size_t{3}, h.classes() + 2}) {
        for (const bool wide_beam : {false, true}) {
            SearchOptions options;
            options.k = k;
            if (wide_beam) options.beam = std::numeric_limits<std::int64_t>::max();
            std::vector<std::int64_t> classes(n * k), sorted(h.classes());
            std::vector<float> log_p(n * k), bound(n);
            hsoftmax_search<float>(h, task.input(), options, {classes.data(), n, k}, {log_p.data(), n, k}, bound);
            for (std::size_t i = 0; i < n; ++i) {
                const float* row = all.data() + i * h.classes();
                std::iota(sorted.begin(), sorted.end(), 0);
                std::stable_sort(sorted.begin(), sorted.end(), [&](std::int64_t a, std::int64_t b) { return row[a] > row[b]; });
                bool same = true;
                for (std::size_t j = 0; j < k; ++j) {
                    const bool filled = j < sorted.size();
                    same = same && classes[i * k + j] == (filled ? sorted[j] : -1) &&
                           log_p[i * k + j] == (filled ? row[sorted[j]] : -std::numeric_limits<float>::infinity());
                }
                check(same, name, ": the search for ", k, " of row ", i, " should equal sorting log_proba, ties and bits included");
            }
        }
    }
}

// A beam on sparse rows finds what it finds on the same dense ones, where rounding does not decide.
void test_beam() {
    const Hierarchy tree = huffman(zipf(200), 4);
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Task task(h, 100, 30, 53, true);  // whole numbers: products are exact
    const auto search = [&](const HSoftmaxInput<float>& in, std::int64_t beam) {
        SearchOptions options;
        options.k = 5;
        options.beam = beam;
        std::vector<std::int64_t> classes(task.n * 5);
        std::vector<float> log_p(task.n * 5), bound(task.n);
        hsoftmax_search<float>(h, in, options, {classes.data(), task.n, 5}, {log_p.data(), task.n, 5}, bound);
        for (const std::int64_t c : classes) log_p.push_back(static_cast<float>(c));
        return log_p;
    };
    const HSoftmaxInput<float> dense{.X = MatrixView<const float>{task.X.data(), task.n, task.dim},
                                     .W = MatrixView<const float>{task.dense.data(), h.rows(), task.dim},
                                     .b = task.bias};
    for (const std::int64_t beam : {1, 2, 7}) {
        check(same_bytes(search(task.input(), beam), search(dense, beam)), "beam ", beam,
              " of sparse rows should equal that of dense ones");
    }
}

// ---- edges and promises

void test_same_bytes() {
    for (const auto& [name, tree] : all_trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Task task(h, 300, 20, 54);  // many rows a node: its features are spread over a table
        const Answers whole = answer(h, task.input(), task.labels);
        for (const int threads : {2, 3}) check(answer(h, task.input(), task.labels, threads) == whole, name, ": ", threads, " threads");
        HSoftmaxInput<float> wide = task.input();
        wide.X = task.wide.view();
        check(answer(h, wide, task.labels) == whole, name, ": indices of 64 bits");
        bool alone = true;
        for (std::size_t i = 0; i < task.n; i += 37) {  // one row: by galloping
            const std::vector<std::int32_t> indptr{0, task.x.indptr[i + 1] - task.x.indptr[i]};
            const auto from = static_cast<std::size_t>(task.x.indptr[i]), size = static_cast<std::size_t>(indptr[1]);
            HSoftmaxInput<float> one = task.input();
            one.X = CsrView<const float, std::int32_t>{indptr, std::span(task.x.indices).subspan(from, size),
                                                       std::span(task.x.data).subspan(from, size), task.dim};
            const Answers a = answer(h, one, {task.labels[i]});
            alone = alone && a.nll[0] == whole.nll[i] && a.of[0] == whole.of[i];
            for (std::size_t c = 0; c < h.classes(); ++c) alone = alone && a.log_proba[c] == whole.log_proba[i * h.classes() + c];
            const std::size_t k = a.classes.size() / 3;
            for (std::size_t s = 0; s < 3; ++s) {
                alone = alone && a.bound[s] == whole.bound[s * task.n + i];
                for (std::size_t j = 0; j < k; ++j)
                    alone = alone && a.classes[s * k + j] == whole.classes[(s * task.n + i) * k + j] &&
                            a.log_probs[s * k + j] == whole.log_probs[(s * task.n + i) * k + j];
            }
        }
        check(alone, name, ": a row should have the same bytes alone as in a batch");
    }
}

void test_order() {
    const Hierarchy tree = huffman(zipf(40), 5);
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Task task(h, 30, 12, 55);
    Task mixed = task;
    for (std::size_t i = 0; i < task.n; ++i) {
        const auto from = task.x.indptr[i], end = task.x.indptr[i + 1];
        std::reverse(mixed.x.indices.begin() + from, mixed.x.indices.begin() + end);
        std::reverse(mixed.x.data.begin() + from, mixed.x.data.begin() + end);
    }
    check(answer(h, mixed.input(), task.labels) == answer(h, task.input(), task.labels), "the order of indices should not matter");

    // 0.5 twice at one feature is 1; halves are exact. An empty row has the biases alone.
    const std::vector<std::int32_t> twice_ptr{0, 3, 3}, once_ptr{0, 2, 2}, twice{5, 2, 5}, once{2, 5};
    const std::vector<float> halves{0.5f, 1, 0.5f}, whole{1, 1};
    HSoftmaxInput<float> a = task.input(), b = a;
    a.X = CsrView<const float, std::int32_t>{twice_ptr, twice, halves, task.dim};
    b.X = CsrView<const float, std::int32_t>{once_ptr, once, whole, task.dim};
    const auto p = log_proba(h, a), q = log_proba(h, b);
    for (std::size_t c = 0; c < p.size(); ++c) check(std::fabs(p[c] - q[c]) < 1e-5f, "indices that come twice are added");

    HSoftmaxInput<float> none = task.input();
    const std::vector<std::int32_t> start{0};
    none.X = CsrView<const float, std::int32_t>{start, {}, {}, task.dim};
    check(answer(h, none, {}).nll.empty(), "no rows");
}

// Keys that are NaN beside others that are numbers: the beam must still have an order.
void test_not_finite() {
    const Hierarchy tree = two_level(400, {}, 80, false);
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    Task task(h, 100, 300, 59);
    Random random(60);
    for (float& x : task.x.data) {
        if (random.below(100) == 0) x = random.below(2) ? std::numeric_limits<float>::quiet_NaN() : 1e38f;
    }
    HSoftmaxInput<float> in = task.input();
    in.check_finite = false;
    const Answers a = answer(h, in, task.labels);
    check(answer(h, in, task.labels, 2) == a, "numbers that are not finite should not depend on threads");
    for (const std::int64_t c : a.classes) check(c >= -1 && c < 400 + 81, "a class or a node, got ", c);
}

// ---- rejections

void test_refusals() {
    const Hierarchy tree = huffman(zipf(11), 4);
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Task task(h, 4, 6, 56);
    std::vector<float> out(task.n * h.classes());
    const auto refuse = [&](const std::string& text, const HSoftmaxInput<float>& in) {
        check_refused(text, [&] { hsoftmax_log_proba<float>(h, in, {out.data(), task.n, h.classes()}); });
    };
    HSoftmaxInput<float> in = task.input();
    in.X = MatrixView<const float>{task.X.data(), task.n, task.dim};
    refuse("X must be compressed sparse rows, as W has sparse weights, got a dense matrix", in);
    in = task.input();
    in.W = MatrixView<const float>{task.dense.data(), h.rows(), task.dim};
    refuse("X must be dense with rows of W that are, got compressed sparse rows", in);
    in = task.input();
    in.b = task.bias;
    refuse("b must be empty with sparse weights, whose biases are part of them, got " + std::to_string(h.rows()) + " entries", in);
    for (const std::int32_t bad : {6, -1}) {
        Csr<std::int32_t> x = task.x;
        x.indices[1] = bad;
        in = task.input();
        in.X = x.view();
        refuse("X.indices must be in [0, 6), got " + std::to_string(bad) + " at index 1", in);
        check_refused("X.indices must be in [0, 6), got " + std::to_string(bad) + " at index 1", [&] { answer(h, in, task.labels); });
    }
    Csr<std::int32_t> x = task.x;
    x.data[2] = std::numeric_limits<float>::quiet_NaN();
    in = task.input();
    in.X = x.view();
    refuse("X must be finite, got nan at stored value 2", in);
    check_refused("X must be finite, got nan at stored value 2", [&] { answer(h, in, task.labels); });
    in.check_finite = false;
    answer(h, in, task.labels);  // whatever it says, it ends
    x = task.x;
    x.indptr[1] = 1000;
    in = task.input();
    in.X = x.view();
    refuse("X.indptr must not decrease, got " + std::to_string(x.indptr[2]) + " after 1000 at index 2", in);

    const Hierarchy other_tree = huffman(zipf(11), 3);
    const HierarchyIndex other(other_tree);
    const Task of_other(other.view(), 4, 6, 56);
    const std::string another = "W must have the rows of the tree's nodes, got rows of another tree";
    check_refused(another, [&] { require_sparse_rows(of_other.W.view(), h); });
    check_refused(another, [&] {  // as many rows, but in other nodes
        SparseRows W;
        W.row_ptr.assign(h.row_ptr.begin(), h.row_ptr.end());
        --W.row_ptr[1];
        W.feature_ptr.assign(h.nodes() + 1, 0);
        W.entry_ptr = {0};
        W.bias.resize(h.rows());
        W.features = task.dim;
        HSoftmaxInput<float> mixed = task.input();
        mixed.W = W.view();
        hsoftmax_log_proba<float>(h, mixed, {out.data(), task.n, h.classes()});
    });
    check_refused("temperature must have one entry a depth, " + std::to_string(h.depth) + ", got 1", [&] {
        SparseRows W = task.W;
        W.temperature = {1.0f};
        require_sparse_rows(W.view(), h);
    });

    const HSoftmaxPlan plan(h, task.labels);
    std::vector<float> nll(task.n), dX(task.n * task.dim), dW(plan.touched_rows() * task.dim), db(plan.touched_rows());
    check_refused("W must be a float array for a gradient, got sparse weights", [&] {
        hsoftmax_gradient<float>(plan, task.input(), nll, {dX.data(), task.n, task.dim}, {dW.data(), plan.touched_rows(), task.dim}, db);
    });
}

void test_independent_refusals() {
    const Hierarchy tree = huffman(zipf(11));
    const HierarchyIndex binary(tree);
    const Hierarchy marginal = independent(binary.view());
    const HierarchyIndex index(marginal);
    const HierarchyView& h = index.view();
    check(h.independent && !h.logistic && h.rows() == 20, "an independent node has a row for each child");
    const Problem<float> p(h, 4, 6, 57);
    const HSoftmaxPlan plan(h, p.labels);
    std::vector<float> nll(p.n), dX(p.X.size()), dW(plan.touched_rows() * p.dim), db(plan.touched_rows());
    check_refused("h must have logistic or softmax nodes for a gradient, got independent nodes", [&] {
        hsoftmax_gradient<float>(plan, p.input(), nll, {dX.data(), p.n, p.dim}, {dW.data(), plan.touched_rows(), p.dim}, db);
    });
    std::vector<std::int64_t> draws(p.n);
    check_refused("h must have logistic or softmax nodes for samples, got independent nodes, which make no one distribution",
                  [&] { hsoftmax_sample<float>(h, p.input(), 1, {draws.data(), p.n, 1}); });
    HSoftmaxInput<float> in = p.input();
    in.label_smoothing = 0.1;
    check_refused("label_smoothing must be 0 on a tree of independent nodes, got 0.1", [&] { hsoftmax<float>(plan, in, nll, {}); });

    Hierarchy wrong = tree;
    wrong.independent = true;
    check_refused("row_ptr must give node 0 one row a child, as nodes are independent, got 1", [&] { HierarchyIndex refused(wrong); });
    const auto counts = zipf(11);
    check(optimal_codes(h, counts).independent && prune(h, counts, PruneBy::max_depth, 2).independent, "edits keep the kind of nodes");
    HierarchyIndex pruned(prune(h, counts, PruneBy::max_depth, 2));
}

// Dense weights on a tree of independent nodes.
template <class T>
void test_independent_dense(const std::string& name, const HierarchyView& h) {
    const Problem<T> p(h, 30, 9, 58);
    const auto all = log_proba(h, p.input());
    std::vector<T> nll(p.n);
    hsoftmax<T>(HSoftmaxPlan(h, p.labels), p.input(), nll, {});
    for (std::size_t i = 0; i < p.n; ++i) {
        for (std::size_t c = 0; c < h.classes(); ++c) {
            const Reference r = p.example(i).nll(h, c);
            check(std::fabs(static_cast<double>(all[i * h.classes() + c]) + r.value) <= r.bound, name, ": log P of class ", c);
        }
        check(nll[i] == -all[i * h.classes() + static_cast<std::size_t>(p.labels[i])], name, ": loss of row ", i);
    }
}

}  // namespace

int main() {
    for (const auto& [name, tree] : all_trees()) {
        const HierarchyIndex index(tree);
        test_values(name, index.view());
        test_search(name, index.view(), false);
        test_search(name, index.view(), true);
        if (!tree.independent) continue;
        test_independent_dense<float>(name, index.view());
        test_independent_dense<double>(name, index.view());
    }
    test_beam();
    test_same_bytes();
    test_order();
    test_not_finite();
    test_refusals();
    test_independent_refusals();
    return finish("sparse rows");
}
