// SPDX-License-Identifier: BSD-3-Clause
// Top-k classes of a hierarchical softmax.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "bag.hpp"
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

// Search of the embedding bags of X (N, F) in E (F, H), H = D: block by block, so that no array of all bags lies between. Equal to
// embedding_bag and hsoftmax_search, to the last bit. in.X is not looked at, and W is not sparse. Throws as both.
template <Real T, Index I>
void bag_search(CsrView<const T, I> X, MatrixView<const T> E, BagMode mode, const HierarchyView& h, const HSoftmaxInput<T>& in,
                const SearchOptions& options, MatrixView<std::int64_t> classes, MatrixView<T> log_probs, std::span<T> bound,
                int num_threads = 0);

// One of several trees over the same classes, with its sparse W and the X that all share.
struct SearchTree {
    const HierarchyView* h = nullptr;
    HSoftmaxInput<float> in = {};
};

// The k classes of every row of X whose probability, the mean over the trees, is largest, best first, ties to the lower id: classes
// and log_probs (N, k), unfilled places -1 and -inf. Equal to sorting the log_mean_exp of every tree's hsoftmax_log_proba, ties and
// bits included. With a beam: the best among the max(2k, 8) best of each tree's own search with it, their means exact.
void hsoftmax_search_mean(std::span<const SearchTree> trees, std::size_t k, std::optional<std::int64_t> beam,
                          MatrixView<std::int64_t> classes, MatrixView<float> log_probs, int num_threads = 0);

// out[i] = log of the mean over the rows of exp(log_p[row][i]).
void log_mean_exp(MatrixView<const float> log_p, std::span<float> out, int num_threads = 0);

}  // namespace sparseops
