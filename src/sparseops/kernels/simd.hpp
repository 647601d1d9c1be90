// SPDX-License-Identifier: BSD-3-Clause
// The virtual vector: 64 bytes (16 floats, 8 doubles) on every instruction set, as one native vector
// or as nested pairs of narrower ones, so that one source has one lane order and one summation tree.
//
// Included by kernel units alone. Everything has internal linkage and no standard header is used:
// a template instantiated here with wide instructions must never be the copy the linker keeps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#if defined(__GNUC__) || defined(__clang__)
#define SPARSEOPS_INLINE static inline __attribute__((always_inline))
#else
#error "the kernels need GCC or Clang vector extensions"
#endif

namespace {

template <class H>
struct Pair {
    H lo, hi;
};

typedef float f32x4 __attribute__((vector_size(16)));
typedef double f64x2 __attribute__((vector_size(16)));
typedef std::int32_t i32x4 __attribute__((vector_size(16)));
typedef std::int64_t i64x2 __attribute__((vector_size(16)));
#if defined(__AVX2__)
typedef float f32x8 __attribute__((vector_size(32)));
typedef double f64x4 __attribute__((vector_size(32)));
typedef std::int32_t i32x8 __attribute__((vector_size(32)));
typedef std::int64_t i64x4 __attribute__((vector_size(32)));
#endif
#if defined(__AVX512F__)
typedef float f32x16 __attribute__((vector_size(64)));
typedef double f64x8 __attribute__((vector_size(64)));
typedef std::int32_t i32x16 __attribute__((vector_size(64)));
typedef std::int64_t i64x8 __attribute__((vector_size(64)));
#endif

// Vec<T>: the 64-byte vector of T. Bits<V>: the integer vector of the same lanes, also what comparisons give.
template <class T>
struct VecOf;
template <class V>
struct BitsOf;
#if defined(__AVX512F__)
template <>
struct VecOf<float> {
    typedef f32x16 type;
};
template <>
struct VecOf<double> {
    typedef f64x8 type;
};
template <>
struct BitsOf<f32x16> {
    typedef i32x16 type;
};
template <>
struct BitsOf<f64x8> {
    typedef i64x8 type;
};
#elif defined(__AVX2__)
template <>
struct VecOf<float> {
    typedef Pair<f32x8> type;
};
template <>
struct VecOf<double> {
    typedef Pair<f64x4> type;
};
#else
template <>
struct VecOf<float> {
    typedef Pair<Pair<f32x4>> type;
};
template <>
struct VecOf<double> {
    typedef Pair<Pair<f64x2>> type;
};
#endif
#if defined(__AVX2__)
template <>
struct BitsOf<f32x8> {
    typedef i32x8 type;
};
template <>
struct BitsOf<f64x4> {
    typedef i64x4 type;
};
#endif
template <>
struct BitsOf<f32x4> {
    typedef i32x4 type;
};
template <>
struct BitsOf<f64x2> {
    typedef i64x2 type;
};
template <class H>
struct BitsOf<Pair<H>> {
    typedef Pair<typename BitsOf<H>::type> type;
};
template <>
struct BitsOf<float> {
    typedef std::int32_t type;
};
template <>
struct BitsOf<double> {
    typedef std::int64_t type;
};

template <class T>
using Vec = typename VecOf<T>::type;
template <class V>
using Bits = typename BitsOf<V>::type;
template <class T>
constexpr std::size_t lanes = 64 / sizeof(T);

// Arithmetic: native vectors have the operators, a pair applies them to its halves.
template <class H>
SPARSEOPS_INLINE Pair<H> operator+(Pair<H> a, Pair<H> b) {
    return {a.lo + b.lo, a.hi + b.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator-(Pair<H> a, Pair<H> b) {
    return {a.lo - b.lo, a.hi - b.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator*(Pair<H> a, Pair<H> b) {
    return {a.lo * b.lo, a.hi * b.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator/(Pair<H> a, Pair<H> b) {
    return {a.lo / b.lo, a.hi / b.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator-(Pair<H> a) {
    return {-a.lo, -a.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator&(Pair<H> a, Pair<H> b) {
    return {a.lo & b.lo, a.hi & b.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator|(Pair<H> a, Pair<H> b) {
    return {a.lo | b.lo, a.hi | b.hi};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator<<(Pair<H> a, int n) {
    return {a.lo << n, a.hi << n};
}
template <class H>
SPARSEOPS_INLINE Pair<H> operator>>(Pair<H> a, int n) {
    return {a.lo >> n, a.hi >> n};
}

// splat<V>(x): x in every lane.
template <class V, class T>
struct Splat {
    static inline __attribute__((always_inline)) V of(T x) { return x - V{}; }
};
template <class H, class T>
struct Splat<Pair<H>, T> {
    static inline __attribute__((always_inline)) Pair<H> of(T x) { return {Splat<H, T>::of(x), Splat<H, T>::of(x)}; }
};
template <class T>
struct Splat<T, T> {
    static inline __attribute__((always_inline)) T of(T x) { return x; }
};
template <class V, class T>
SPARSEOPS_INLINE V splat(T x) {
    return Splat<V, T>::of(x);
}

// Unaligned load and store.
template <class V>
struct Memory {
    template <class T>
    static inline __attribute__((always_inline)) V load(const T* p) {
        V v;
        std::memcpy(&v, p, sizeof v);
        return v;
    }
    template <class T>
    static inline __attribute__((always_inline)) void store(T* p, V v) {
        std::memcpy(p, &v, sizeof v);
    }
};
template <class H>
struct Memory<Pair<H>> {
    template <class T>
    static inline __attribute__((always_inline)) Pair<H> load(const T* p) {
        return {Memory<H>::load(p), Memory<H>::load(p + sizeof(H) / sizeof(T))};
    }
    template <class T>
    static inline __attribute__((always_inline)) void store(T* p, Pair<H> v) {
        Memory<H>::store(p, v.lo);
        Memory<H>::store(p + sizeof(H) / sizeof(T), v.hi);
    }
};
template <class V, class T>
SPARSEOPS_INLINE V load(const T* p) {
    return Memory<V>::load(p);
}
template <class V, class T>
SPARSEOPS_INLINE void store(T* p, V v) {
    Memory<V>::store(p, v);
}

// The first n < lanes elements, the other lanes `fill`; and the store of the first n lanes.
template <class T>
SPARSEOPS_INLINE Vec<T> load_n(const T* p, std::size_t n, T fill) {
    T buffer[lanes<T>];
    store(buffer, splat<Vec<T>>(fill));
    std::memcpy(buffer, p, n * sizeof(T));
    return load<Vec<T>>(buffer);
}
template <class T>
SPARSEOPS_INLINE void store_n(T* p, std::size_t n, Vec<T> v) {
    T buffer[lanes<T>];
    store(buffer, v);
    std::memcpy(p, buffer, n * sizeof(T));
}
#if defined(__AVX512F__)
SPARSEOPS_INLINE f32x16 load_n(const float* p, std::size_t n, float fill) {
    return (f32x16)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), static_cast<__mmask16>((1u << n) - 1u), p);
}
SPARSEOPS_INLINE f64x8 load_n(const double* p, std::size_t n, double fill) {
    return (f64x8)_mm512_mask_loadu_pd(_mm512_set1_pd(fill), static_cast<__mmask8>((1u << n) - 1u), p);
}
SPARSEOPS_INLINE void store_n(float* p, std::size_t n, f32x16 v) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), (__m512)v);
}
SPARSEOPS_INLINE void store_n(double* p, std::size_t n, f64x8 v) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), (__m512d)v);
}
#elif defined(__AVX2__)
alignas(64) constexpr std::int32_t mask32[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
alignas(64) constexpr std::int64_t mask64[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
SPARSEOPS_INLINE f32x8 load_8(const float* p, std::size_t n, float fill) {
    const __m256i mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask32 + 8 - n));
    if (__builtin_constant_p(fill) && fill == 0) return (f32x8)_mm256_maskload_ps(p, mask);
    return (f32x8)_mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}
SPARSEOPS_INLINE f64x4 load_4(const double* p, std::size_t n, double fill) {
    const __m256i mask = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(mask64 + 4 - n));
    if (__builtin_constant_p(fill) && fill == 0) return (f64x4)_mm256_maskload_pd(p, mask);
    return (f64x4)_mm256_blendv_pd(_mm256_set1_pd(fill), _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask));
}
// By powers of two: a store through a mask takes AMD's cores a dozen cycles, and memcpy of n bytes is a call.
SPARSEOPS_INLINE void store_8(float* p, std::size_t n, f32x8 v) {
    f32x4 rest = __builtin_shufflevector(v, v, 0, 1, 2, 3);
    if (n & 4) {
        store(p, rest);
        rest = __builtin_shufflevector(v, v, 4, 5, 6, 7);
        p += 4;
    }
    if (n & 2) {
        _mm_storel_pi(reinterpret_cast<__m64*>(p), (__m128)rest);
        rest = __builtin_shufflevector(rest, rest, 2, 3, 2, 3);
        p += 2;
    }
    if (n & 1) *p = rest[0];
}
SPARSEOPS_INLINE void store_4(double* p, std::size_t n, f64x4 v) {
    if (n & 2) store(p, __builtin_shufflevector(v, v, 0, 1));
    if (n & 1) p[n & 2] = n & 2 ? v[2] : v[0];
}
SPARSEOPS_INLINE void store_n(float* p, std::size_t n, Pair<f32x8> v) {
    if (n >= 8) store(p, v.lo);
    store_8(p + (n & 8), n & 7, n >= 8 ? v.hi : v.lo);
}
SPARSEOPS_INLINE void store_n(double* p, std::size_t n, Pair<f64x4> v) {
    if (n >= 4) store(p, v.lo);
    store_4(p + (n & 4), n & 3, n >= 4 ? v.hi : v.lo);
}
SPARSEOPS_INLINE Pair<f32x8> load_n(const float* p, std::size_t n, float fill) {
    if (n >= 8) return {load<f32x8>(p), load_8(p + 8, n - 8, fill)};
    return {load_8(p, n, fill), splat<f32x8>(fill)};
}
SPARSEOPS_INLINE Pair<f64x4> load_n(const double* p, std::size_t n, double fill) {
    if (n >= 4) return {load<f64x4>(p), load_4(p + 4, n - 4, fill)};
    return {load_4(p, n, fill), splat<f64x4>(fill)};
}
#endif

// a * b + c, in one rounding where the instruction set has it (every set but the baseline).
#if defined(__AVX512F__)
SPARSEOPS_INLINE f32x16 fma(f32x16 a, f32x16 b, f32x16 c) { return (f32x16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
SPARSEOPS_INLINE f64x8 fma(f64x8 a, f64x8 b, f64x8 c) { return (f64x8)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#endif
#if defined(__FMA__)
SPARSEOPS_INLINE f32x8 fma(f32x8 a, f32x8 b, f32x8 c) { return (f32x8)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
SPARSEOPS_INLINE f64x4 fma(f64x4 a, f64x4 b, f64x4 c) { return (f64x4)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
SPARSEOPS_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SPARSEOPS_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#elif defined(__aarch64__)
SPARSEOPS_INLINE f32x4 fma(f32x4 a, f32x4 b, f32x4 c) { return (f32x4)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
SPARSEOPS_INLINE f64x2 fma(f64x2 a, f64x2 b, f64x2 c) { return (f64x2)vfmaq_f64((float64x2_t)c, (float64x2_t)a, (float64x2_t)b); }
SPARSEOPS_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
SPARSEOPS_INLINE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
#else
template <class V>
SPARSEOPS_INLINE V fma(V a, V b, V c) {
    return a * b + c;
}
#endif
template <class H>
SPARSEOPS_INLINE Pair<H> fma(Pair<H> a, Pair<H> b, Pair<H> c) {
    return {fma(a.lo, b.lo, c.lo), fma(a.hi, b.hi, c.hi)};
}

// less(a, b) ? x : y, lane by lane.
template <class V>
SPARSEOPS_INLINE V select_less(V a, V b, V x, V y) {
    return a < b ? x : y;
}
template <class H>
SPARSEOPS_INLINE Pair<H> select_less(Pair<H> a, Pair<H> b, Pair<H> x, Pair<H> y) {
    return {select_less(a.lo, b.lo, x.lo, y.lo), select_less(a.hi, b.hi, x.hi, y.hi)};
}
template <class V>
SPARSEOPS_INLINE V max_of(V a, V b) {
    return select_less(a, b, b, a);
}
template <class V>
SPARSEOPS_INLINE V min_of(V a, V b) {
    return select_less(b, a, b, a);
}

// The same bits as another type.
template <class To, class From>
struct Cast {
    static inline __attribute__((always_inline)) To of(From v) {
        To r;
        static_assert(sizeof r == sizeof v);
        std::memcpy(&r, &v, sizeof r);
        return r;
    }
};
template <class To, class From>
struct Cast<Pair<To>, Pair<From>> {
    static inline __attribute__((always_inline)) Pair<To> of(Pair<From> v) { return {Cast<To, From>::of(v.lo), Cast<To, From>::of(v.hi)}; }
};
template <class To, class From>
SPARSEOPS_INLINE To bit_cast_to(From v) {
    return Cast<To, From>::of(v);
}

// Sum of the lanes, always by halves: lane l + lane (l + width/2), down to one.
SPARSEOPS_INLINE float sum_lanes(f32x4 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
SPARSEOPS_INLINE double sum_lanes(f64x2 v) { return v[0] + v[1]; }
#if defined(__AVX2__)
SPARSEOPS_INLINE float sum_lanes(f32x8 v) {
    return sum_lanes(__builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7));
}
SPARSEOPS_INLINE double sum_lanes(f64x4 v) { return sum_lanes(__builtin_shufflevector(v, v, 0, 1) + __builtin_shufflevector(v, v, 2, 3)); }
#endif
#if defined(__AVX512F__)
SPARSEOPS_INLINE f32x8 halve(f32x16 v) {
    return __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
}
SPARSEOPS_INLINE f64x4 halve(f64x8 v) { return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7); }
SPARSEOPS_INLINE float sum_lanes(f32x16 v) { return sum_lanes(halve(v)); }
SPARSEOPS_INLINE double sum_lanes(f64x8 v) { return sum_lanes(halve(v)); }
#endif
template <class H>
SPARSEOPS_INLINE auto sum_lanes(Pair<H> v) {
    return sum_lanes(v.lo + v.hi);
}

// The lane sums of four vectors at once, in the same tree, sharing the shuffles.
SPARSEOPS_INLINE void sum_lanes4(f32x4 a, f32x4 b, f32x4 c, f32x4 d, float* out) {
    const f32x4 s = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    const f32x4 t = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
    store(out, __builtin_shufflevector(s, t, 0, 2, 4, 6) + __builtin_shufflevector(s, t, 1, 3, 5, 7));
}
SPARSEOPS_INLINE void sum_lanes4(f64x2 a, f64x2 b, f64x2 c, f64x2 d, double* out) {
    store(out, __builtin_shufflevector(a, b, 0, 2) + __builtin_shufflevector(a, b, 1, 3));
    store(out + 2, __builtin_shufflevector(c, d, 0, 2) + __builtin_shufflevector(c, d, 1, 3));
}
#if defined(__AVX2__)
SPARSEOPS_INLINE void sum_lanes4(f32x8 a, f32x8 b, f32x8 c, f32x8 d, float* out) {
    const f32x8 s = __builtin_shufflevector(a, b, 0, 1, 2, 3, 8, 9, 10, 11) + __builtin_shufflevector(a, b, 4, 5, 6, 7, 12, 13, 14, 15);
    const f32x8 t = __builtin_shufflevector(c, d, 0, 1, 2, 3, 8, 9, 10, 11) + __builtin_shufflevector(c, d, 4, 5, 6, 7, 12, 13, 14, 15);
    const f32x8 u = __builtin_shufflevector(s, t, 0, 1, 8, 9, 4, 5, 12, 13) + __builtin_shufflevector(s, t, 2, 3, 10, 11, 6, 7, 14, 15);
    const f32x8 r = __builtin_shufflevector(u, u, 0, 4, 2, 6, 0, 4, 2, 6) + __builtin_shufflevector(u, u, 1, 5, 3, 7, 1, 5, 3, 7);
    store(out, __builtin_shufflevector(r, r, 0, 1, 2, 3));  // a, b, c, d
}
SPARSEOPS_INLINE void sum_lanes4(f64x4 a, f64x4 b, f64x4 c, f64x4 d, double* out) {
    const f64x4 s = __builtin_shufflevector(a, b, 0, 1, 4, 5) + __builtin_shufflevector(a, b, 2, 3, 6, 7);
    const f64x4 t = __builtin_shufflevector(c, d, 0, 1, 4, 5) + __builtin_shufflevector(c, d, 2, 3, 6, 7);
    store(out, __builtin_shufflevector(s, t, 0, 2, 4, 6) + __builtin_shufflevector(s, t, 1, 3, 5, 7));
}
#endif
#if defined(__AVX512F__)
SPARSEOPS_INLINE void sum_lanes4(f32x16 a, f32x16 b, f32x16 c, f32x16 d, float* out) {
    sum_lanes4(halve(a), halve(b), halve(c), halve(d), out);
}
SPARSEOPS_INLINE void sum_lanes4(f64x8 a, f64x8 b, f64x8 c, f64x8 d, double* out) {
    sum_lanes4(halve(a), halve(b), halve(c), halve(d), out);
}
#endif
template <class H, class T>
SPARSEOPS_INLINE void sum_lanes4(Pair<H> a, Pair<H> b, Pair<H> c, Pair<H> d, T* out) {
    sum_lanes4(a.lo + a.hi, b.lo + b.hi, c.lo + c.hi, d.lo + d.hi, out);
}

// f(i, m) over whole vectors (m == lanes) and one partial; the partial loads and stores touch m elements only.
template <class T>
SPARSEOPS_INLINE Vec<T> load_m(const T* p, std::size_t m, T fill) {
    return m == lanes<T> ? load<Vec<T>>(p) : load_n(p, m, fill);
}
template <class T>
SPARSEOPS_INLINE void store_m(T* p, std::size_t m, Vec<T> v) {
    if (m == lanes<T>)
        store(p, v);
    else
        store_n(p, m, v);
}
template <class T, class F>
SPARSEOPS_INLINE void each_vector(std::size_t n, F f) {
    std::size_t i = 0;
    for (; i + lanes<T> <= n; i += lanes<T>) f(i, lanes<T>);
    if (i < n) f(i, n - i);
}

}  // namespace
