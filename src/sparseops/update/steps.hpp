// SPDX-License-Identifier: BSD-3-Clause
// Optimizer steps row by row, as a fused backward pass and the training of embeddings take them.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "../detail/random.hpp"
#include "../kernels/half.hpp"
#include "../update.hpp"

namespace sparseops {

// Throws std::invalid_argument unless the settings are in range and the state fits (rows, cols), with a bias or without, in
// T or of 16 bits.
template <Real T>
void require_optimizer(const Optimizer<T>& optimizer, std::size_t rows, std::size_t cols, bool bias, bool half_rows = false);

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

void hsoftmax_update(const HSoftmaxPlan& plan, const HSoftmaxInput<float>& in, const HalfView& W, std::span<float> b,
                     const Optimizer<float>& optimizer, std::uint64_t seed, std::span<float> nll, MatrixView<float> dX,
                     const std::function<void()>& ready, int num_threads);

// Asks for what the step of this row reads.
template <Real T>
void prefetch_row(const Optimizer<T>& optimizer, std::size_t row, MatrixView<T> W);

// One row's step. grad (cols) is used up. Not checked.
template <Real T>
void step_row(const Optimizer<T>& optimizer, std::size_t row, T* grad, T* w, std::size_t cols);
template <Real T>
void step_bias(const Optimizer<T>& optimizer, std::size_t row, T grad, T* b);

// How the rows that one call steps are rounded to 16 bits: what element (row, col) draws is a function of (seed, stream, step, row,
// col) alone, so that no two tables trained with one seed share numbers if their streams differ.
detail::RoundingKey rounding_key(std::uint64_t seed, detail::Stream stream, std::int64_t step);

// The same of a row of 16 bits: the step, and max_norm, in float32 on the widened row, which is rounded once (kernels/half.hpp says
// how). State and biases are float32.
void prefetch_row(const Optimizer<float>& optimizer, std::size_t row, const HalfView& W);
void step_row(const Optimizer<float>& optimizer, std::size_t row, float* grad, const HalfView& W, const detail::RoundingKey& key);

}  // namespace sparseops
