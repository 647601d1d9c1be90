// SPDX-License-Identifier: BSD-3-Clause
// A classifier over bags of features: embedding bag, then hierarchical softmax, trained by minibatches in a fixed order of sums.
#pragma once

#include <cstdint>
#include <span>

#include "hierarchy.hpp"
#include "types.hpp"
#include "update.hpp"
#include "weights.hpp"

namespace sparseops {

enum class BagMode { mean, sum };

// out (N, H), row i = Σ_j x_ij E_j, over Σ_j |x_ij| for the mean; an empty row gives zeros.
// Throws std::invalid_argument on shapes that do not fit and on indices out of range.
template <Real T, Index I>
void embedding_bag(CsrView<const T, I> X, MatrixView<const T> E, BagMode mode, MatrixView<T> out, int num_threads = 0);

// The same with E in bfloat16 or float16, summed in float32.
template <Index I>
void embedding_bag(CsrView<const float, I> X, const QuantizedView& E, BagMode mode, MatrixView<float> out, int num_threads = 0);

// How to run over some examples. The learning rate of a step is that of the optimizers times
// 1 - decay · (done / total), done counting the examples before it.
struct BagSchedule {
    std::size_t batch_size = 256;
    double decay = 0;  // 0 constant, 1 linear to zero
    std::int64_t done = 0, total = 1;
    bool check_input = true;  // false: the caller had these very X, labels and weights checked by a call before
    // Each stored value of X is dropped from its bag with probability `dropout`, or its feature replaced by `replacement` if that
    // is not negative; by the seed, the epoch and the place in X alone (dropout.hpp).
    double dropout = 0;
    std::int64_t replacement = -1;
    std::uint64_t seed = 0, epoch = 0;
    // For dense_train of a piece of a tree (`split` in hierarchy.hpp): the place of the class of each row of X in the walk of the whole
    // tree, < 0 for rows that do not pass the piece. Its steps are those of the minibatches of all rows. Empty: the tree is whole.
    std::span<const std::int64_t> place = {};
    double label_smoothing = 0;  // as of HSoftmaxInput
};

// Minibatch steps over the examples order[..], in that order: loss, gradient and optimizer step for W, b and E.
// Returns the sum of the weighted nll; adds the number of steps to the optimizers' `step`.
// labels and sample_weight (empty: 1) are of all rows of X. Throws before the first step on input that does not fit, and with nothing
// of that step written if a step meets a loss that is not finite.
template <Real T, Index I>
double bag_train(const HierarchyView& h, CsrView<const T, I> X, std::span<const std::int64_t> labels, std::span<const T> sample_weight,
                 std::span<const std::int64_t> order, BagMode mode, MatrixView<T> E, MatrixView<T> W, std::span<T> b,
                 Optimizer<T>& E_optimizer, Optimizer<T>& W_optimizer, const BagSchedule& schedule, int num_threads = 0);

// The same with E and W in bfloat16 or float16: sums, state, b and the step itself are float32, and a row that was stepped is rounded to
// one of its two neighbors at random, by the schedule's seed, the optimizer's step and the place in E or W alone.
template <Index I>
double bag_train(const HierarchyView& h, CsrView<const float, I> X, std::span<const std::int64_t> labels,
                 std::span<const float> sample_weight, std::span<const std::int64_t> order, BagMode mode, const HalfView& E,
                 const HalfView& W, std::span<float> b, Optimizer<float>& E_optimizer, Optimizer<float>& W_optimizer,
                 const BagSchedule& schedule, int num_threads = 0);

// The same without an embedding: X (N, D) feeds the tree.
template <Real T>
double dense_train(const HierarchyView& h, MatrixView<const T> X, std::span<const std::int64_t> labels, std::span<const T> sample_weight,
                   std::span<const std::int64_t> order, MatrixView<T> W, std::span<T> b, Optimizer<T>& W_optimizer,
                   const BagSchedule& schedule, int num_threads = 0);

double dense_train(const HierarchyView& h, MatrixView<const float> X, std::span<const std::int64_t> labels,
                   std::span<const float> sample_weight, std::span<const std::int64_t> order, const HalfView& W, std::span<float> b,
                   Optimizer<float>& W_optimizer, const BagSchedule& schedule, int num_threads = 0);

}  // namespace sparseops
