// SPDX-License-Identifier: BSD-3-Clause
// Top-k classes of a hierarchical softmax.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "hsoftmax.hpp"

namespace sparseops {

struct SearchOptions {
    std::size_t k = 1;
    std::optional<std::int64_t> beam = {};  // at most this many open nodes per level; otherwise best first, exact
    std::optional<double> edge_beam = {};   // follow a child only if -log P(child | parent) is less
    bool nodes = false;                     // inner nodes but the root compete: node v is the result C + v
    std::optional<double> min_prob = {};    // a result of smaller probability climbs to the first node above that has it
};

// The k likeliest classes of every row of X, best first, ties to the lower id: classes and log_probs (N, k), unfilled places
// -1 and -inf. bound (N): no class that was not looked at has a larger log-probability; -inf if all were.
// Best first search with the bound "a child is never likelier than its parent": equal to sorting hsoftmax_log_proba, ties
// and bits included. Throws std::invalid_argument; then the outputs are unspecified.
template <Real T>
void hsoftmax_search(const HierarchyView& h, const HSoftmaxInput<T>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                     MatrixView<T> log_probs, std::span<T> bound, int num_threads = 0);

}  // namespace sparseops
