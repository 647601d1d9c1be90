// SPDX-License-Identifier: BSD-3-Clause
// Optimizer steps row by row, as a fused backward pass and the training of embeddings take them.
#pragma once

#include <cstddef>

#include "../update.hpp"

namespace sparseops {

// Throws std::invalid_argument unless the settings are in range and the state fits (rows, cols), with a bias or without.
template <Real T>
void require_optimizer(const Optimizer<T>& optimizer, std::size_t rows, std::size_t cols, bool bias);

// Asks for what the step of this row reads.
template <Real T>
void prefetch_row(const Optimizer<T>& optimizer, std::size_t row, MatrixView<T> W);

// One row's step. grad (cols) is used up. Not checked.
template <Real T>
void step_row(const Optimizer<T>& optimizer, std::size_t row, T* grad, T* w, std::size_t cols);
template <Real T>
void step_bias(const Optimizer<T>& optimizer, std::size_t row, T grad, T* b);

}  // namespace sparseops
