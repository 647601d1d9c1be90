// SPDX-License-Identifier: BSD-3-Clause
// The class term: how much an example resembles those below each child of a node. Its cosine with their sum is linear in the example,
// so that a trained row takes it in as weights (the classifier of Rocchio, 1971, beside a trained one).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "../types.hpp"
#include "assemble.hpp"
#include "problem.hpp"

namespace sparseops::detail {

// Centroids of the children of a node: sums of cost · x over the examples below them, at unit length. One thread's.
template <Index I>
class Centroids {
public:
    // Everything must outlive it.
    Centroids(const HierarchyView& h, const CsrView<const float, I>& X, const Reach& reach, std::span<const float> cost)
        : h_(h), X_(X), reach_(reach), cost_(cost), sum_(X.cols, 0.0) {}

    // The cosines of the first n held-out examples of node v with centroids without any held-out example (1, not 0), [n][rows]. The
    // one row of a logistic node gets the difference, child 1 minus child 0.
    std::vector<float> cosines(std::size_t v, const NodeProblem& problem, std::span<const std::uint8_t> held_out, std::size_t n);

    // The rows of node v and `scale` times the centroids of all examples, without weights of |w| <= threshold.
    NodeRows add_to(const NodeRows& rows, std::size_t v, float scale, float threshold);

private:
    void build(std::span<const std::uint32_t> examples, std::span<const std::uint8_t> held_out);
    double dot(std::size_t row) const noexcept;
    // f(row of the node, sign, examples) for every child.
    template <class F>
    void each_row(std::size_t v, F f) const;

    const HierarchyView& h_;
    const CsrView<const float, I>& X_;
    const Reach& reach_;
    std::span<const float> cost_;
    std::vector<double> sum_;            // of all features: the centroid at hand
    std::vector<std::int32_t> touched_;  // where it is not 0, rising
};

}  // namespace sparseops::detail
