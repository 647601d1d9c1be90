// SPDX-License-Identifier: BSD-3-Clause
// Square roots, exp, log1p and log of virtual vectors and of single numbers.
//
// Included by kernel units alone; internal linkage, as in simd.hpp.
#pragma once

#include "simd.hpp"

namespace {

// Correctly rounded in every instruction set.
SPARSEOPS_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
SPARSEOPS_INLINE double square_root(double x) { return __builtin_sqrt(x); }
#if defined(__AVX512F__)
SPARSEOPS_INLINE f32x16 square_root(f32x16 x) { return (f32x16)_mm512_sqrt_ps((__m512)x); }
SPARSEOPS_INLINE f64x8 square_root(f64x8 x) { return (f64x8)_mm512_sqrt_pd((__m512d)x); }
#elif defined(__AVX2__)
SPARSEOPS_INLINE f32x8 square_root(f32x8 x) { return (f32x8)_mm256_sqrt_ps((__m256)x); }
SPARSEOPS_INLINE f64x4 square_root(f64x4 x) { return (f64x4)_mm256_sqrt_pd((__m256d)x); }
#else
SPARSEOPS_INLINE f32x4 square_root(f32x4 x) {
    for (int l = 0; l < 4; ++l) x[l] = square_root(static_cast<float>(x[l]));
    return x;
}
SPARSEOPS_INLINE f64x2 square_root(f64x2 x) {
    for (int l = 0; l < 2; ++l) x[l] = square_root(static_cast<double>(x[l]));
    return x;
}
#endif
template <class H>
SPARSEOPS_INLINE Pair<H> square_root(Pair<H> x) {
    return {square_root(x.lo), square_root(x.hi)};
}

// Minimax polynomials (Remez, weighted for relative error): e^r = 1 + r + r² P(r) on |r| <= ln2/2, and
// log((1+s)/(1-s)) = 2s + s³ Q(s²) on s² <= 1/9. Measured: exp within 1.05 ulp, log1p within 1.97, a log-sigmoid
// within 2.8 (float32 over every argument, float64 by a dense sweep; tests/cpp/test_kernel_ulps.cpp holds 2, 2 and 3).

template <class T>
struct Constants;
template <>
struct Constants<float> {
    static constexpr float log2e = 1.44269504088896341f, magic = 12582912.0f, lowest = -87.3f;
    static constexpr float ln2_hi = 0.693145751953125f, ln2_lo = 1.42860682030941723e-6f, sqrt2 = 1.41421356f;
    static constexpr int mantissa = 23;
    static constexpr std::int32_t one = 0x3f800000, mantissa_mask = 0x007fffff;
};
template <>
struct Constants<double> {
    static constexpr double log2e = 1.44269504088896341, magic = 6755399441055744.0, lowest = -708.0;
    static constexpr double ln2_hi = 0.693147180369123816490, ln2_lo = 1.90821492927058770002e-10, sqrt2 = 1.41421356237309505;
    static constexpr int mantissa = 52;
    static constexpr std::int64_t one = 0x3ff0000000000000, mantissa_mask = 0x000fffffffffffff;
};

template <class V>
SPARSEOPS_INLINE V exp_tail(V r, float) {
    V p = splat<V>(0.00139506965105112499f);
    p = fma(p, r, splat<V>(0.00836902475591245102f));
    p = fma(p, r, splat<V>(0.0416662028221926356f));
    p = fma(p, r, splat<V>(0.166665177134020076f));
    return fma(p, r, splat<V>(0.500000009605648738f));
}
template <class V>
SPARSEOPS_INLINE V exp_tail(V r, double) {
    V p = splat<V>(2.5118152088045884e-8);
    p = fma(p, r, splat<V>(2.76315579914872378e-7));
    p = fma(p, r, splat<V>(2.75572153934778836e-6));
    p = fma(p, r, splat<V>(0.0000248014892109843167));
    p = fma(p, r, splat<V>(0.000198412699183846921));
    p = fma(p, r, splat<V>(0.00138888889476710388));
    p = fma(p, r, splat<V>(0.00833333333330674928));
    p = fma(p, r, splat<V>(0.0416666666665131453));
    p = fma(p, r, splat<V>(0.166666666666666998));
    return fma(p, r, splat<V>(0.500000000000001298));
}
template <class V>
SPARSEOPS_INLINE V log_tail(V t, float) {
    V p = splat<V>(0.243084048066626782f);
    p = fma(p, t, splat<V>(0.214258283837522565f));
    p = fma(p, t, splat<V>(0.286170375467365338f));
    p = fma(p, t, splat<V>(0.399988727842174396f));
    return fma(p, t, splat<V>(0.666666756712082065f));
}
template <class V>
SPARSEOPS_INLINE V log_tail(V t, double) {
    V p = splat<V>(0.164787128644028962);
    p = fma(p, t, splat<V>(0.0698780270334651337));
    p = fma(p, t, splat<V>(0.109741805249112411));
    p = fma(p, t, splat<V>(0.117157231616660826));
    p = fma(p, t, splat<V>(0.133368256459758414));
    p = fma(p, t, splat<V>(0.153844508284359121));
    p = fma(p, t, splat<V>(0.181818232420833271));
    p = fma(p, t, splat<V>(0.222222221246137214));
    p = fma(p, t, splat<V>(0.285714285725207671));
    p = fma(p, t, splat<V>(0.399999999999939112));
    return fma(p, t, splat<V>(0.666666666666666785));
}

// e^x for x <= 0; 0 below e^-87.3 and e^-708, about the smallest normal numbers.
template <class T, class V>
SPARSEOPS_INLINE V exp_nonpositive(V x) {
    typedef Constants<T> K;
    const V y = max_of(x, splat<V>(K::lowest));
    const V shifted = fma(y, splat<V>(K::log2e), splat<V>(K::magic));
    const V k = shifted - splat<V>(K::magic);
    const V r = fma(k, splat<V>(-K::ln2_lo), fma(k, splat<V>(-K::ln2_hi), y));
    const V e = fma(r * r, exp_tail(r, T()), r) + splat<V>(T(1));
    typedef Bits<V> B;
    const B scale = (bit_cast_to<B>(shifted) << K::mantissa) + splat<B>(K::one);
    return select_less(x, splat<V>(K::lowest), V{}, e * bit_cast_to<V>(scale));
}

// log(1 + u) for u in [0, 1].
template <class T, class V>
SPARSEOPS_INLINE V log1p_unit(V u) {
    const V s = u / (splat<V>(T(2)) + u);
    const V t = s * s;
    return fma(s * t, log_tail(t, T()), s + s);
}

// log(1 + x) for x >= 0, any size.
template <class T>
SPARSEOPS_INLINE T log1p_any(T x) {
    typedef Constants<T> K;
    if (x <= T(1)) return log1p_unit<T, T>(x);
    const T y = x + T(1);
    typedef Bits<T> B;
    const B bits = bit_cast_to<B>(y);
    B exponent = (bits >> K::mantissa) - (K::one >> K::mantissa);
    T m = bit_cast_to<T>(static_cast<B>((bits & K::mantissa_mask) | K::one));
    if (m > K::sqrt2) {
        m *= T(0.5);
        exponent += 1;
    }
    const T s = (m - T(1)) / (m + T(1));
    const T t = s * s;
    const T e = static_cast<T>(exponent);
    const T low = fma(e, T(K::ln2_lo), (x - (y - T(1))) / y);  // what rounding y lost
    return fma(e, T(K::ln2_hi), fma(s * t, log_tail(t, T()), s + s) + low);
}

}  // namespace
