// SPDX-License-Identifier: BSD-3-Clause
// Rows of 16-bit floats that training reads and changes, one table per instruction set beside that of kernels.hpp.
//
// Rows are widened exactly and computed in float32, in the order of Kernels<float>: the bytes of the float kernel on the widened row.
// Only `round` goes back to 16 bits, and what `adagrad_half` keeps.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels.hpp"

namespace sparseops::detail {

// What the rows that one call steps are rounded by: 32 words of Philox, drawn once a call (update/steps.hpp).
struct RoundingKey {
    std::uint32_t add[16], multiply[16];  // the latter odd
};

// Elements that share a unit of 16 words. Word l of unit u is mix(add[l] + multiply[l] u), in 32 bits, with u's high half added to its low
// one times 0x9E3779B9; mix(x) is x ^= x >> 16, x *= 0x7feb352d, x ^= x >> 15, x *= 0x846ca68b, x ^= x >> 16: one to one, so over the
// steps each word is as random as Philox is. Element j takes the low 16 bits of word j % 16 of unit j / 128, rotated right by the v-th
// of 0, 16, 8, 24, 4, 20, 12, 28 with v = j % 128 / 16: the high four of those that share a word are independent. A number that is kept
// beside element j, a state, takes the bits of element j ^ 16: the other half of the same word.
constexpr std::size_t rounding_unit = 128;

struct HalfKernels {
    // out = the n numbers of a row, exactly.
    void (*widen)(const std::uint16_t* w, std::size_t n, float* out);
    // As in Kernels<float>.
    void (*path_dots)(const float* x, const std::uint16_t* rows, const std::int32_t* index, std::size_t count, std::size_t n, float* out);
    void (*weighted_sum)(const float* weight, std::size_t weight_stride, const Rows<std::uint16_t>& rows, std::size_t count, std::size_t n,
                         bool accumulate, float* out);
    void (*weighted_sums)(const float* const* weight, const Rows<std::uint16_t>& rows, std::size_t count, std::size_t n, bool accumulate,
                          float* const* out, std::size_t n_out);
    // Steps as in Kernels<float>, but w stays: the row after the step goes to `grad`, in float32. SGD: w - lr (grad + decay w).
    void (*sgd)(float* grad, float lr, float decay, const std::uint16_t* w, std::size_t n);
    void (*adagrad)(float* grad, float lr, float eps, float decay, float* s, const std::uint16_t* w, std::size_t n);
    // s in bfloat16: the step takes the sum in float32, which is then rounded as by `round`.
    void (*adagrad_half)(float* grad, float lr, float eps, float decay, std::uint16_t* s, const RoundingKey& key, std::uint64_t unit,
                         const std::uint16_t* w, std::size_t n);
    void (*rowwise_adagrad)(float* grad, float lr, float eps, float decay, float* s, const std::uint16_t* w, std::size_t n);
    void (*adam)(float* grad, float step, float root, float beta1, float rest1, float beta2, float rest2, float eps, float decay, float* m,
                 float* v, const std::uint16_t* w, std::size_t n);
    // w = x rounded to one of its two neighbors, with the probability that makes the mean x; numbers that 16 bits hold stay as they
    // are. The mean is exact, but for float16 below 2^-14, where it is off by less than 2^-14 of a step of 2^-24. Beyond the largest
    // finite number of the kind comes that number, never infinity; NaN stays NaN. Units are numbered from `unit`.
    void (*round)(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w);
};

struct HalfTable {
    HalfKernels bfloat16, float16;
};

extern const HalfTable half_baseline;
extern const HalfTable half_avx2;
extern const HalfTable half_avx512;
extern const HalfTable half_neon;

// The table that goes with active_kernels().
const HalfTable& half_table();

// Its kernels for a kind, QuantizedKind::bfloat16 or float16.
template <class Kind>
const HalfKernels& half_kernels(Kind kind) {
    return kind == Kind::bfloat16 ? half_table().bfloat16 : half_table().float16;
}

}  // namespace sparseops::detail
