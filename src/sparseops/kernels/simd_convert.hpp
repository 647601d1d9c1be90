// SPDX-License-Identifier: BSD-3-Clause
// Vectors between widths: float and double, and the 16-bit floats of storage; and selects by size.
//
// Included by kernel units alone, under the rules of simd.hpp.
#pragma once

#include "simd.hpp"

namespace {

// By name: gcc 12 converts the halves of a vector one by one.
#if defined(__AVX2__) && !defined(__AVX512F__)
SPARSEOPS_INLINE Pair<f64x4> widen8(f32x8 v) {
    return {(f64x4)_mm256_cvtps_pd(_mm256_castps256_ps128((__m256)v)), (f64x4)_mm256_cvtps_pd(_mm256_extractf128_ps((__m256)v, 1))};
}
SPARSEOPS_INLINE f32x8 narrow8(Pair<f64x4> d) {
    const __m128 low = _mm256_cvtpd_ps((__m256d)d.lo), high = _mm256_cvtpd_ps((__m256d)d.hi);
    return (f32x8)_mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}
#elif !defined(__AVX2__)
SPARSEOPS_INLINE Pair<f64x2> widen4(f32x4 v) {
    return {f64x2{static_cast<double>(v[0]), static_cast<double>(v[1])}, f64x2{static_cast<double>(v[2]), static_cast<double>(v[3])}};
}
SPARSEOPS_INLINE f32x4 narrow4(Pair<f64x2> d) {
    return f32x4{static_cast<float>(d.lo[0]), static_cast<float>(d.lo[1]), static_cast<float>(d.hi[0]), static_cast<float>(d.hi[1])};
}
#endif

// 8 numbers as doubles, or m < 8 of them and zeros; and back, rounded once.
SPARSEOPS_INLINE Vec<double> load_doubles(const double* p, std::size_t m) { return load_m(p, m, 0.0); }
SPARSEOPS_INLINE void store_rounded(double* p, std::size_t m, Vec<double> v) { store_m(p, m, v); }
#if defined(__AVX512F__)
SPARSEOPS_INLINE f64x8 load_doubles(const float* p, std::size_t m) {
    return (f64x8)_mm512_cvtps_pd(m == 8 ? _mm256_loadu_ps(p) : _mm256_maskz_loadu_ps(static_cast<__mmask8>((1u << m) - 1u), p));
}
SPARSEOPS_INLINE void store_rounded(float* p, std::size_t m, f64x8 v) {
    const __m256 rounded = _mm512_cvtpd_ps((__m512d)v);
    if (m == 8)
        _mm256_storeu_ps(p, rounded);
    else
        _mm256_mask_storeu_ps(p, static_cast<__mmask8>((1u << m) - 1u), rounded);
}
#elif defined(__AVX2__)
SPARSEOPS_INLINE Pair<f64x4> load_doubles(const float* p, std::size_t m) {
    if (m < 8) return widen8(load_8(p, m, 0.0f));
    return {(f64x4)_mm256_cvtps_pd(_mm_loadu_ps(p)), (f64x4)_mm256_cvtps_pd(_mm_loadu_ps(p + 4))};
}
SPARSEOPS_INLINE void store_rounded(float* p, std::size_t m, Pair<f64x4> v) {
    if (m < 8) return store_8(p, m, narrow8(v));
    _mm_storeu_ps(p, _mm256_cvtpd_ps((__m256d)v.lo));
    _mm_storeu_ps(p + 4, _mm256_cvtpd_ps((__m256d)v.hi));
}
#else
SPARSEOPS_INLINE Pair<Pair<f64x2>> load_doubles(const float* p, std::size_t m) {
    float some[8] = {};
    if (m < 8) {
        std::memcpy(some, p, m * sizeof *p);
        p = some;
    }
    return {widen4(load<f32x4>(p)), widen4(load<f32x4>(p + 4))};
}
SPARSEOPS_INLINE void store_rounded(float* p, std::size_t m, Pair<Pair<f64x2>> v) {
    float all[8];
    float* const to = m < 8 ? all : p;
    store(to, narrow4(v.lo));
    store(to + 4, narrow4(v.hi));
    if (m < 8) std::memcpy(p, all, m * sizeof *p);
}
#endif

// a <= b ? x : y, lane by lane; y where a is NaN.
template <class V>
SPARSEOPS_INLINE V select_at_most(V a, V b, V x, V y) {
    return a <= b ? x : y;
}
template <class H>
SPARSEOPS_INLINE Pair<H> select_at_most(Pair<H> a, Pair<H> b, Pair<H> x, Pair<H> y) {
    return {select_at_most(a.lo, b.lo, x.lo, y.lo), select_at_most(a.hi, b.hi, x.hi, y.hi)};
}
template <class V>
SPARSEOPS_INLINE V absolute(V x) {
    return max_of(x, -x);
}

// ---- float16 and bfloat16 as bits ---------------------------------------------------------------------------

SPARSEOPS_INLINE float from_float16(std::uint16_t h) {
#if defined(__F16C__)
    return _cvtsh_ss(h);
#else
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000u) << 16, rest = h & 0x7fffu;
    std::uint32_t bits = sign | (rest >= 0x7c00u ? 0x7f800000u | (rest << 13) : (rest << 13) + 0x38000000u);
    if (rest < 0x0400u) {  // subnormal: rest · 2⁻²⁴
        const float tiny = static_cast<float>(rest) * 0x1p-24f;
        std::memcpy(&bits, &tiny, sizeof bits);
        bits |= sign;
    }
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
#endif
}

// To the nearest, ties to even; NaN stays a quiet NaN.
SPARSEOPS_INLINE std::uint16_t to_float16(float f) {
#if defined(__F16C__)
    return static_cast<std::uint16_t>(_mm_cvtsi128_si32(_mm_cvtps_ph(_mm_set_ss(f), 0)));  // _cvtss_sh is not C++ in clang 14
#else
    std::uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    const std::uint32_t sign = (bits >> 16) & 0x8000u, rest = bits & 0x7fffffffu;
    if (rest > 0x7f800000u) return static_cast<std::uint16_t>(sign | 0x7e00u | ((rest >> 13) & 0x3ffu));
    if (rest >= 0x477ff000u) return static_cast<std::uint16_t>(sign | 0x7c00u);  // rounds to infinity
    if (rest < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded multiple of 2⁻²⁴ in the low bits
        float magnitude;
        std::memcpy(&magnitude, &rest, sizeof magnitude);
        magnitude += 0.5f;
        std::uint32_t low;
        std::memcpy(&low, &magnitude, sizeof low);
        return static_cast<std::uint16_t>(sign | (low - 0x3f000000u));
    }
    return static_cast<std::uint16_t>(sign | ((rest - 0x38000000u + 0x0fffu + ((rest >> 13) & 1u)) >> 13));
#endif
}

SPARSEOPS_INLINE float from_bfloat16(std::uint16_t h) {
    const std::uint32_t bits = static_cast<std::uint32_t>(h) << 16;
    float f;
    std::memcpy(&f, &bits, sizeof f);
    return f;
}
SPARSEOPS_INLINE std::uint16_t to_bfloat16(float f) {
    std::uint32_t bits;
    std::memcpy(&bits, &f, sizeof bits);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return static_cast<std::uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

}  // namespace
