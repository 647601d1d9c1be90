// SPDX-License-Identifier: BSD-3-Clause
// Optimizer steps row by row, as a fused backward pass and the training of embeddings take them.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "../update.hpp"

namespace sparseops {

// Throws std::invalid_argument unless the settings are in range and the state fits (rows, cols), with a bias or without.
template <Real T>
void require_optimizer(const Optimizer<T>& optimizer, std::size_t rows, std::size_t cols, bool bias);

// Whether steps by gradients of at most `largest` an entry, `cols` a row, keep row and state finite, a million times.
template <Real T>
bool has_room_for(const Optimizer<T>& optimizer, double largest, std::size_t cols);

// The largest magnitude of n numbers; infinity or NaN if one is not finite.
template <Real T>
T largest_magnitude(const T* x, std::size_t n);

// At least the largest magnitude of n numbers, by their norm, which the kernels take in a tenth of the time; infinity or NaN if
// the sum of squares leaves T.
template <Real T>
double norm_bound(const T* x, std::size_t n);

// As hsoftmax_update of update.hpp; `ready` is called once nll and dX are written, before anything else is: it may throw.
template <Real T>
void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, MatrixView<T> W, std::span<T> b, const Optimizer<T>& optimizer,
                     std::span<T> nll, MatrixView<T> dX, const std::function<void()>& ready, int num_threads);

// Asks for what the step of this row reads.
template <Real T>
void prefetch_row(const Optimizer<T>& optimizer, std::size_t row, MatrixView<T> W);

// One row's step. grad (cols) is used up. Not checked.
template <Real T>
void step_row(const Optimizer<T>& optimizer, std::size_t row, T* grad, T* w, std::size_t cols);
template <Real T>
void step_bias(const Optimizer<T>& optimizer, std::size_t row, T grad, T* b);

}  // namespace sparseops
