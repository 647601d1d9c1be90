// SPDX-License-Identifier: BSD-3-Clause
// The kernels that stream over stored values: norms and scaling, random masks and selects, 16-bit floats.
// The rules are those of kernels.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sparseops::detail {

// Sums are taken in double; an entry with |x| <= threshold counts as zero (threshold < 0: none does). In the order of
// `sparseops::Norm` the measures are Σ|x|, Σx² and max|x|; one that is not finite says that an entry is not, or that a
// sum of doubles overflowed.
template <class T>
struct NormKernels {
    // out[i] = measure of x[offset[i] .. offset[i + 1]).
    void (*measure[3])(const T* x, const std::size_t* offset, std::size_t count, T threshold, double* out);
    // out = x · factor[i] in double, rounded once, zero where |x| <= threshold, for the same segments; out may be x.
    void (*scale)(const T* x, const std::size_t* offset, std::size_t count, T threshold, const double* factor, T* out);
    // size[i] = measure[i] or its root; factor[i] = norm / size[i], at most the largest double, 1 where size[i] is 0 or not
    // above norm with `max_norm`, NaN where it is not finite.
    void (*settle)(const double* measure, std::size_t n, bool root, double norm, bool max_norm, double* size, double* factor);
    // sum[j] = its measure joined with that of the rows x[i · cols + j], in the order of i.
    void (*measure_columns[3])(const T* x, std::size_t rows, std::size_t cols, T threshold, double* sum);
    // out[i · cols + j] = x[i · cols + j] · factor[j], as in scale.
    void (*scale_columns)(const T* x, std::size_t rows, std::size_t cols, T threshold, const double* factor, T* out);
    // out = factor[i] · (g - u (u · g)), u = toward[i] · x, for the same segments, in double, rounded once; g where toward[i] is 0.
    // out may be g.
    void (*project)(const T* x, const T* g, const std::size_t* offset, std::size_t count, const double* toward, const double* factor,
                    T* out);
};

// Items of 2, 4 or 8 bytes, whatever they mean.
template <class U>
struct SelectKernels {
    // Whether an x has all the bits of `exponent`.
    bool (*any_with)(const U* x, std::size_t n, U exponent);
    // y[i] = bit i of `bits` ? r[i · stride] : x[i], stride 0 or 1, y may be x. Returns whether an x has all the bits of
    // `exponent` (a float that is not finite).
    bool (*select)(const U* x, const std::uint64_t* bits, const U* r, std::size_t stride, std::size_t n, U exponent, U* y);
};

// Memory that draw_bits prefetches, so that it comes while the arithmetic goes on: `bytes` per group, to be read and to be written.
struct Ahead {
    const char* read = nullptr;
    char* write = nullptr;
    std::size_t bytes = 0;
};

struct StreamTable {
    NormKernels<float> norm_f32;
    NormKernels<double> norm_f64;
    SelectKernels<std::uint16_t> select_16;
    SelectKernels<std::uint32_t> select_32;
    SelectKernels<std::uint64_t> select_64;
    // Bit l of bits[g] = (word of draw 64 · (first + g) + l) < threshold; the word of draw d is word d % 4 of the
    // Philox4x32-10 block with counter (d / 4, high).
    void (*draw_bits)(std::uint64_t key, std::uint64_t high, std::uint64_t first, std::size_t groups, std::uint32_t threshold,
                      std::uint64_t* bits, Ahead ahead);
    void (*from_float16)(const std::uint16_t* x, std::size_t n, float* out);
    void (*to_float16)(const float* x, std::size_t n, std::uint16_t* out);
    void (*from_bfloat16)(const std::uint16_t* x, std::size_t n, float* out);
    void (*to_bfloat16)(const float* x, std::size_t n, std::uint16_t* out);
};

extern const StreamTable stream_baseline;
extern const StreamTable stream_avx2;
extern const StreamTable stream_avx512;
extern const StreamTable stream_neon;

// The table of the instruction set in use.
const StreamTable& stream_kernels();

template <class T>
const NormKernels<T>& norm_kernels();
template <>
inline const NormKernels<float>& norm_kernels<float>() {
    return stream_kernels().norm_f32;
}
template <>
inline const NormKernels<double>& norm_kernels<double>() {
    return stream_kernels().norm_f64;
}

template <class U>
const SelectKernels<U>& select_kernels();
template <>
inline const SelectKernels<std::uint16_t>& select_kernels<std::uint16_t>() {
    return stream_kernels().select_16;
}
template <>
inline const SelectKernels<std::uint32_t>& select_kernels<std::uint32_t>() {
    return stream_kernels().select_32;
}
template <>
inline const SelectKernels<std::uint64_t>& select_kernels<std::uint64_t>() {
    return stream_kernels().select_64;
}

}  // namespace sparseops::detail
