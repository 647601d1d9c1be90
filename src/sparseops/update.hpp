// SPDX-License-Identifier: BSD-3-Clause
// Optimizer steps on the rows that a batch touches, and hierarchical softmax fused with them.
#pragma once

#include <cstdint>
#include <span>

#include "hsoftmax.hpp"
#include "weights.hpp"

namespace sparseops {

// With g = gradient + weight_decay · w (no decay on biases), as in torch.optim:
//   sgd               w -= lr g
//   adagrad           s += g², w -= lr g / (√s + eps)                        (Duchi, Hazan, Singer 2011)
//   rowwise_adagrad   s_row += mean(g²), w -= lr g / (√s_row + eps); biases as in adagrad
//   adam (lazy)       m, v moving means of g, g² over the steps that touch the row, bias-corrected by the number of calls:
//                     w -= lr m̂ / (√v̂ + eps)                                (Kingma & Ba 2015)
// eps below the root of T's smallest normal number counts as that, so that a gradient of 0 moves nothing.
enum class Method { sgd, adagrad, rowwise_adagrad, adam };

template <Real T>
struct Optimizer {
    Method method = Method::sgd;
    double lr = 0, weight_decay = 0, eps = 0, beta1 = 0, beta2 = 0;
    double max_norm = 0;                       // above 0: a row that a step leaves longer (l2) is scaled down to it
    std::int64_t step = 1;                     // adam: this is the step-th call, from 1
    MatrixView<T> first = {}, second = {};     // (R, D): adagrad s; adam m, v. rowwise_adagrad: first is (R, 1)
    std::span<T> b_first = {}, b_second = {};  // R: the same for biases
    HalfView half_first = {};                  // (R, D): s of adagrad in bfloat16 instead, on rows of 16 bits alone
};

// nll, dX at the old W, and the step on the touched rows of W and b (empty if there is none); in.W and in.b are W and b.
// Throws std::invalid_argument, with nothing written to W, b or the state, if the batch is so large that gradients or their squares
// would leave T, and with in.check_finite if a logit is not finite.
template <Real T>
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, MatrixView<T> W, std::span<T> b, const Optimizer<T>& optimizer,
                     std::span<T> nll, MatrixView<T> dX, int num_threads = 0);

// The same on rows of 16 bits; X, b, the state, sums, steps and dX are float32. in.W is W. Each row's step, max_norm with it, is
// computed in float32 and rounded once to one of the two neighbors of 16 bits, by chance, so that the mean of the rounded row is the row:
// steps far below an ulp add up. Element (i, j) draws by (seed, optimizer.step, i, j), whatever the method: `step` has to count calls.
// A number that 16 bits hold stays as it is; beyond the largest finite one, 65,504 or 3.39e38, comes that one.
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<float>& in, const HalfView& W, std::span<float> b,
                     const Optimizer<float>& optimizer, std::uint64_t seed, std::span<float> nll, MatrixView<float> dX,
                     int num_threads = 0);

// The step on rows[i] of W and b by row i of dW and db; entries of the same row are summed first, in their order. With no rows, and
// gradients of all rows of W, a step on all of them.
//   rows in [0, W.rows), in any order · dW (rows, W.cols) · db and b empty, or one entry a row · O(rows log rows + rows · cols).
//   Throws std::invalid_argument, with nothing written, unless these fit and gradients are finite and have room for their squares.
//   Gradients overlap nothing that is written.
template <Real T>
void step_rows(std::span<const std::int64_t> rows, MatrixView<const T> dW, std::span<const T> db, MatrixView<T> W, std::span<T> b,
               const Optimizer<T>& optimizer, int num_threads = 0);

}  // namespace sparseops
