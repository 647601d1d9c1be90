// SPDX-License-Identifier: BSD-3-Clause
// The trees that the tests run over, and hierarchical softmax as the textbook writes it.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <sparseops/hierarchy.hpp>
#include <sparseops/hsoftmax.hpp>

#include "check.hpp"

namespace sparseops_test {

using sparseops::Hierarchy;
using sparseops::HierarchyIndex;
using sparseops::HierarchyView;
using sparseops::HSoftmaxInput;
using sparseops::HSoftmaxPlan;
using sparseops::MatrixView;

using Labels = std::vector<std::int64_t>;

inline std::vector<double> zipf(std::size_t n) {
    std::vector<double> counts(n);
    for (std::size_t c = 0; c < n; ++c) counts[c] = std::floor(1e6 / static_cast<double>(1 + c * 7 % n));
    return counts;
}

// As deep as it has classes.
inline std::vector<double> skewed(std::size_t n) {
    std::vector<double> counts(n);
    for (std::size_t c = 0; c < n; ++c) counts[c] = std::exp2(static_cast<double>(c));
    return counts;
}

struct NamedTree {
    std::string name;
    Hierarchy tree;
};

// The same tree with its nodes numbered backwards, so that they are not in depth-first order.
inline Hierarchy renumbered(const Hierarchy& h) {
    const auto last = static_cast<std::int64_t>(h.row_ptr.size()) - 2;
    Labels node(h.path_node.size()), child(h.path_child.begin(), h.path_child.end());
    for (std::size_t i = 0; i < node.size(); ++i) node[i] = last - h.path_node[i];
    std::vector<std::uint8_t> logistic(h.row_ptr.size() - 1);
    for (std::size_t v = 0; v < logistic.size(); ++v) {
        const std::size_t old = logistic.size() - 1 - v;
        logistic[v] = h.row_ptr[old + 1] - h.row_ptr[old] == 1;
    }
    return sparseops::from_paths(h.path_ptr, node, child, logistic);
}

inline std::vector<NamedTree> trees() {
    using namespace sparseops;
    const Labels parents = {-1, 0, 0, 1, 1, 1, 2, 2, 7, 7, 8, 8, 8, 8, 0};
    std::vector<NamedTree> list = {
        {"one class", balanced(1)},
        {"two classes", huffman(zipf(2))},
        {"two classes, softmax", balanced(2, 2, false)},
        {"huffman", huffman(zipf(23))},
        {"huffman, softmax", huffman(zipf(11), 2, {}, false)},
        {"huffman of arity 5", huffman(zipf(40), 5)},
        {"huffman of limited depth", huffman(skewed(19), 2, 6)},
        {"skewed", huffman(skewed(30))},
        {"balanced of arity 3", balanced(14, 3)},
        {"two levels", two_level(20, zipf(20), 4)},
        {"flat", two_level(37, {}, 1)},
        {"parents", from_parents(parents, {}, {})},
    };
    list.push_back({"huffman backwards", renumbered(list[3].tree)});
    list.push_back({"mixed backwards", renumbered(list[11].tree)});
    return list;
}

// Values with a bound on what arithmetic in T may add to them: log P(class | x).
struct Reference {
    double value = 0, bound = 0;
};

// One example's data.
template <class T>
struct Example {
    const T* x;
    MatrixView<const T> W;
    std::span<const T> b;

    // Logits of the rows of node v, with the bound of a dot product and the bias.
    std::vector<Reference> logits(const HierarchyView& h, std::size_t v) const {
        std::vector<Reference> z(h.row_count(v));
        for (std::size_t j = 0; j < z.size(); ++j) {
            const std::size_t row = h.row(v) + j;
            long double sum = b.empty() ? 0 : static_cast<long double>(b[row]), size = std::fabs(sum);
            for (std::size_t d = 0; d < W.cols; ++d) {
                const long double term = static_cast<long double>(x[d]) * static_cast<long double>(W.row(row)[d]);
                sum += term;
                size += std::fabs(term);
            }
            const double roundings = static_cast<double>(W.cols + 8);
            z[j] = {static_cast<double>(sum),
                    roundings * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 * static_cast<double>(size)};
        }
        return z;
    }

    // log P(child | x) at node v: the error of a logit passes to it with a factor of at most 1, the largest of a softmax too.
    std::vector<Reference> children(const HierarchyView& h, std::size_t v) const {
        const auto z = logits(h, v);
        const double eps = static_cast<double>(std::numeric_limits<T>::epsilon());
        std::vector<Reference> p;
        const auto sigmoid = [&](double s, double bound) {
            const double value = std::min(s, 0.0) - std::log1p(std::exp(-std::fabs(s)));
            p.push_back({value, bound + 4 * eps * std::fabs(value)});
        };
        if (h.independent) {
            for (const Reference& r : z) sigmoid(r.value, r.bound);
            return p;
        }
        if (z.size() == 1) {
            for (const double sign : {-1.0, 1.0}) sigmoid(sign * z[0].value, z[0].bound);
            return p;
        }
        double top = z[0].value, worst = 0, sum = 0;
        for (const Reference& r : z) top = std::max(top, r.value), worst = std::max(worst, r.bound);
        for (const Reference& r : z) sum += std::exp(r.value - top);
        for (const Reference& r : z) {
            const double value = r.value - top - std::log(sum);
            p.push_back({value, 2 * worst + eps * (static_cast<double>(z.size()) / 16 + 12 + std::fabs(value))});
        }
        return p;
    }

    // -Σ over the path of the smoothed cross-entropy.
    Reference nll(const HierarchyView& h, std::size_t c, double smoothing = 0) const {
        Reference sum;
        const auto nodes = h.path_nodes(c), steps = h.path_children(c);
        for (std::size_t d = 0; d < nodes.size(); ++d) {
            const auto p = children(h, static_cast<std::size_t>(nodes[d]));
            for (std::size_t j = 0; j < p.size(); ++j) {
                const bool taken = j == static_cast<std::size_t>(steps[d]);
                const double target = (taken ? 1 - smoothing : 0) + smoothing / static_cast<double>(p.size());
                sum.value -= target * p[j].value;
                // smoothing in T: the target is rounded, and so is its product with the logit
                sum.bound += target * p[j].bound +
                             (smoothing > 0 ? 2 * static_cast<double>(std::numeric_limits<T>::epsilon()) * std::fabs(p[j].value) : 0.0);
            }
        }
        sum.bound += static_cast<double>(std::numeric_limits<T>::epsilon()) * std::fabs(sum.value);
        return sum;
    }
};

// Random X, W, b, labels for a tree.
template <class T>
struct Problem {
    std::size_t n, dim;
    std::vector<T> X, W, b, weight;
    Labels labels;

    Problem(const HierarchyView& h, std::size_t examples, std::size_t width, std::uint64_t seed) : n(examples), dim(width) {
        Random random(seed);
        X = random.vector<T>(n * dim);
        W = random.vector<T>(h.rows() * dim);
        b = random.vector<T>(h.rows());
        weight = random.vector<T>(n, 0.25, 2);
        labels = random.indices<std::int64_t>(n, h.classes());
    }
    MatrixView<const T> x_view() const { return {X.data(), n, dim}; }
    MatrixView<const T> w_view() const { return {W.data(), W.size() / dim, dim}; }
    MatrixView<T> w_view() { return {W.data(), W.size() / dim, dim}; }
    Example<T> example(std::size_t i) const { return {X.data() + i * dim, w_view(), b}; }
    HSoftmaxInput<T> input() const { return {.X = x_view(), .W = w_view(), .b = b}; }
};

template <class T>
std::vector<T> log_proba(const HierarchyView& h, const HSoftmaxInput<T>& in, int num_threads = 1) {
    std::vector<T> out(in.X.rows() * h.classes());
    hsoftmax_log_proba(h, in, {out.data(), in.X.rows(), h.classes()}, num_threads);
    return out;
}

}  // namespace sparseops_test
