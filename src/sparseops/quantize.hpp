// SPDX-License-Identifier: BSD-3-Clause
// Decision rows in a quarter or half of the memory: int8 with a scale a row, bfloat16, float16.
//
// HSoftmaxInput::W takes them for the loss, distributions and search; products are summed in int32 (int8, x in 16 bits) or in
// float32 (half precision, the bytes of the widened rows).
#pragma once

#include <span>

#include "types.hpp"
#include "weights.hpp"

namespace sparseops {

// Rounds W to the nearest value of `kind`, ties to even: data[rows · cols] as QuantizedView says, and scale[rows] for int8
// (largest |w| of the row / 127; of a row below 1e-30, 1e-30 / 127, whose inverse is still a float), otherwise empty. O(rows · cols).
// Throws std::invalid_argument if a number is not finite, or too large for half precision; then data is unspecified. The result does
// not depend on num_threads.
void quantize(MatrixView<const float> W, QuantizedKind kind, void* data, std::span<float> scale = {}, int num_threads = 0);

// The numbers that W stands for, exactly, to out (rows, cols).
void dequantize(const QuantizedView& W, MatrixView<float> out, int num_threads = 0);

}  // namespace sparseops
