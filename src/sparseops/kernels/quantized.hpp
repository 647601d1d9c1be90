// SPDX-License-Identifier: BSD-3-Clause
// Products with quantized rows, one table per instruction set beside that of kernels.hpp.
//
// Half precision rows are widened exactly and summed in the order of Kernels<float>::dots: the bytes of the float product
// with the widened row. Products of int8 rows are integers, so that their order is free and all sets agree, baseline too.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

namespace sparseops::detail {

constexpr std::size_t int8_padding = 32;  // rows of quantized inputs are filled with zeros to a multiple of this

struct QuantizedKernels {
    // out[i * out_stride + j] = x[i] · w[j], n elements a row.
    void (*bfloat16_dots)(const Rows<float>& x, std::size_t nx, const Rows<std::uint16_t>& w, std::size_t nw, std::size_t n, float* out,
                          std::size_t out_stride);
    void (*float16_dots)(const Rows<float>& x, std::size_t nx, const Rows<std::uint16_t>& w, std::size_t nw, std::size_t n, float* out,
                         std::size_t out_stride);
    // The same times the scales of both rows, which are picked like the rows. Rows of x are padded (int8_padding); the sum
    // of |x[i]| |w[j]| must fit in 31 bits.
    void (*int8_dots)(const Rows<std::int16_t>& x, const float* x_scale, std::size_t nx, const Rows<std::int8_t>& w, const float* w_scale,
                      std::size_t nw, std::size_t n, float* out, std::size_t out_stride);
    // n numbers as integers of at most ±levels (127 for int8) times the scale that is returned: NaN, and all zero, if one is not finite.
    float (*int16_row)(const float* x, std::size_t n, std::int32_t levels, std::int16_t* out);
    float (*int8_row)(const float* x, std::size_t n, std::int8_t* out);
};

extern const QuantizedKernels quantized_baseline;
extern const QuantizedKernels quantized_avx2;
extern const QuantizedKernels quantized_avx512;
extern const QuantizedKernels quantized_avx512vnni;
extern const QuantizedKernels quantized_neon;

// The table that goes with active_kernels().
const QuantizedKernels& quantized_kernels();

}  // namespace sparseops::detail
