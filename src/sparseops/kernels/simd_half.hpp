// SPDX-License-Identifier: BSD-3-Clause
// Rows of 16-bit floats: widened exactly, and their products with rows of float.
//
// Included by quantized_isa.cpp and half_isa.cpp, under the rules of simd.hpp.
#pragma once

#include "simd.hpp"
#include "simd_products.hpp"

#if defined(__SSE4_1__)
#include <immintrin.h>
#endif

namespace {

typedef Vec<float> V;
constexpr std::size_t L = lanes<float>;

// ---- half precision to float, exactly -----------------------------------------------------------------------

template <class T>
struct Widen;
template <class H>
struct Widen<Pair<H>> {
    static constexpr std::size_t half = sizeof(H) / sizeof(float);
    static inline __attribute__((always_inline)) Pair<H> bfloat16(const std::uint16_t* p) {
        return {Widen<H>::bfloat16(p), Widen<H>::bfloat16(p + half)};
    }
    static inline __attribute__((always_inline)) Pair<H> float16(const std::uint16_t* p) {
        return {Widen<H>::float16(p), Widen<H>::float16(p + half)};
    }
};
#if defined(__AVX512F__)
template <>
struct Widen<f32x16> {
    static inline __attribute__((always_inline)) __m256i load(const std::uint16_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static inline __attribute__((always_inline)) f32x16 bfloat16(const std::uint16_t* p) {
        return (f32x16)_mm512_slli_epi32(_mm512_cvtepu16_epi32(load(p)), 16);
    }
    static inline __attribute__((always_inline)) f32x16 float16(const std::uint16_t* p) { return (f32x16)_mm512_cvtph_ps(load(p)); }
};
#elif defined(__AVX2__)
template <>
struct Widen<f32x8> {
    static inline __attribute__((always_inline)) __m128i load(const std::uint16_t* p) {
        return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    }
    static inline __attribute__((always_inline)) f32x8 bfloat16(const std::uint16_t* p) {
        return (f32x8)_mm256_slli_epi32(_mm256_cvtepu16_epi32(load(p)), 16);
    }
    static inline __attribute__((always_inline)) f32x8 float16(const std::uint16_t* p) { return (f32x8)_mm256_cvtph_ps(load(p)); }
};
#else
template <>
struct Widen<f32x4> {
    static inline __attribute__((always_inline)) i32x4 bits(const std::uint16_t* p) { return i32x4{p[0], p[1], p[2], p[3]}; }
    static inline __attribute__((always_inline)) f32x4 bfloat16(const std::uint16_t* p) { return (f32x4)(bits(p) << 16); }
    // The exponent is put right by a product with 2^112, exact for subnormal numbers too; infinity and NaN get the one they need.
    static inline __attribute__((always_inline)) f32x4 float16(const std::uint16_t* p) {
        const i32x4 b = bits(p);
        const i32x4 size = (b & 0x7fff) << 13, sign = (b & 0x8000) << 16, not_finite = (size >= 0x0f800000) & 0x7f800000;
        const f32x4 value = (f32x4)size * 0x1p112f;
        return (f32x4)((i32x4)value | sign | not_finite);
    }
};
#endif

#if defined(__AVX2__)
// The n < 16 bytes at p, then zeros, where p - before may be read: by way of the 16 bytes that end with them, if there are so many.
alignas(32) constexpr std::int8_t last_bytes[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                                    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
SPARSEOPS_INLINE __m128i load_last(const void* p, std::size_t n, std::size_t before) {
    if (before >= 16 || before + n >= 16) {
        const auto* end = static_cast<const char*>(p) + n;
        return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(end - 16)),
                                _mm_loadu_si128(reinterpret_cast<const __m128i*>(last_bytes + 16 - n)));
    }
    __m128i all{};
    std::memcpy(&all, p, n);
    return all;
}
#endif

// The n < L elements at p, then zeros; `before` elements of the row come before them.
template <class Kind>
SPARSEOPS_INLINE V last_of(const std::uint16_t* p, std::size_t n, [[maybe_unused]] std::size_t before) {
    alignas(64) std::uint16_t buffer[L] = {};
#if defined(__AVX2__)  // whole stores: loads wait for those of many bytes
    auto* to = reinterpret_cast<__m128i*>(buffer);
    if (n < 8) {
        _mm_store_si128(to, load_last(p, 2 * n, 2 * before));
    } else {
        _mm_store_si128(to, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        _mm_store_si128(to + 1, load_last(p + 8, 2 * n - 16, 16));
    }
#else
    std::memcpy(buffer, p, n * sizeof *p);
#endif
    return Kind::of(buffer);
}

// How rows of 16 bits are read, as Plain of simd_products.hpp says.
struct Bfloat16 {
    typedef std::uint16_t Element;
    static inline __attribute__((always_inline)) V of(const std::uint16_t* p) { return Widen<V>::bfloat16(p); }
    static inline __attribute__((always_inline)) V some(const std::uint16_t* p, std::size_t n, std::size_t before) {
        return last_of<Bfloat16>(p, n, before);
    }
};
struct Float16 {
    typedef std::uint16_t Element;
    static inline __attribute__((always_inline)) V of(const std::uint16_t* p) { return Widen<V>::float16(p); }
    static inline __attribute__((always_inline)) V some(const std::uint16_t* p, std::size_t n, std::size_t before) {
        return last_of<Float16>(p, n, before);
    }
};

// ---- products with half precision rows ----------------------------------------------------------------------
// The accumulators of kernels_isa.cpp's dots: even and odd vectors, their sum, its lanes by halves.

template <class X, std::size_t A, std::size_t B>
SPARSEOPS_INLINE void clear(X (&sums)[A][B]) {  // = {} is a loop over memory
#pragma GCC unroll 4
    for (std::size_t s = 0; s < A; ++s) {
#pragma GCC unroll 4
        for (std::size_t j = 0; j < B; ++j) sums[s][j] = X{};
    }
}

template <class Kind, std::size_t A, std::size_t B>
SPARSEOPS_INLINE void step(const float* const* x, const std::uint16_t* const* w, std::size_t i, V (&sums)[A][B]) {
    V a[A];
#pragma GCC unroll 4
    for (std::size_t s = 0; s < A; ++s) a[s] = load<V>(x[s] + i);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < B; ++j) {
        const V b = Kind::of(w[j] + i);
#pragma GCC unroll 4
        for (std::size_t s = 0; s < A; ++s) sums[s][j] = fma(a[s], b, sums[s][j]);
    }
}

template <class Kind, std::size_t A, std::size_t B>
SPARSEOPS_INLINE void last_step(const float* const* x, const std::uint16_t* const* w, std::size_t i, std::size_t n, V (&sums)[A][B]) {
    V a[A];
#pragma GCC unroll 4
    for (std::size_t s = 0; s < A; ++s) a[s] = load_n(x[s] + i, n, 0.0f);
#pragma GCC unroll 4
    for (std::size_t j = 0; j < B; ++j) {
        const V b = last_of<Kind>(w[j] + i, n, i);
#pragma GCC unroll 4
        for (std::size_t s = 0; s < A; ++s) sums[s][j] = fma(a[s], b, sums[s][j]);
    }
}

// out[s * out_stride + j] = x[s] · w[j]
template <class Kind, std::size_t A, std::size_t B>
SPARSEOPS_INLINE void half_tile(const float* const* x, const std::uint16_t* const* w, std::size_t n, float* out, std::size_t out_stride) {
    V even[A][B], odd[A][B];
    clear(even);
    clear(odd);
    std::size_t i = 0;
    for (; i + 2 * L <= n; i += 2 * L) {
        step<Kind>(x, w, i, even);
        step<Kind>(x, w, i + L, odd);
    }
    if (i + L <= n) {
        step<Kind>(x, w, i, even);
        i += L;
        if (i < n) last_step<Kind>(x, w, i, n - i, odd);
    } else if (i < n) {
        last_step<Kind>(x, w, i, n - i, even);
    }
    float total[4];
    if constexpr (B == 4) {
#pragma GCC unroll 4
        for (std::size_t s = 0; s < A; ++s) {
            sum_lanes4(even[s][0] + odd[s][0], even[s][1] + odd[s][1], even[s][2] + odd[s][2], even[s][3] + odd[s][3], total);
            for (std::size_t j = 0; j < 4; ++j) out[s * out_stride + j] = total[j];
        }
    } else if constexpr (A == 4) {
        sum_lanes4(even[0][0] + odd[0][0], even[1][0] + odd[1][0], even[2][0] + odd[2][0], even[3][0] + odd[3][0], total);
        for (std::size_t s = 0; s < 4; ++s) out[s * out_stride] = total[s];
    } else {
        static_assert(B == 1);
        for (std::size_t s = 0; s < A; ++s) out[s * out_stride] = sum_lanes(even[s][0] + odd[s][0]);
    }
}

}  // namespace
