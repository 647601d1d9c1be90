// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "quantized.hpp"
#include "simd.hpp"
#include "simd_half.hpp"
#include "simd_products.hpp"

namespace {

#if defined(__AVX512F__)
constexpr std::size_t most_x = 2;  // rows of x that share a widened row of W, as far as the registers go
#else
constexpr std::size_t most_x = 1;
#endif

template <std::size_t A, std::size_t B>
struct Shape {};

// tile(i, j, Shape<a, b>): the products of rows i … i+a-1 of x with rows j … j+b-1 of W, of the shapes most_x × 4, 1 × 4, 4 × 1, 1 × 1.
template <class Tile>
SPARSEOPS_INLINE void each_tile(std::size_t nx, std::size_t nw, const Tile& tile) {
    constexpr Shape<most_x, 4> wide{};
    constexpr Shape<1, 4> row{};
    constexpr Shape<4, 1> column{};
    constexpr Shape<1, 1> one{};
    std::size_t j = 0;
    for (; j + 4 <= nw; j += 4) {
        std::size_t i = 0;
        for (; i + most_x <= nx; i += most_x) tile(i, j, wide);
        for (; i < nx; ++i) tile(i, j, row);
    }
    for (; j < nw; ++j) {
        std::size_t i = 0;
        for (; i + 4 <= nx; i += 4) tile(i, j, column);
        for (; i < nx; ++i) tile(i, j, one);
    }
}

constexpr std::size_t widened_row = 512;

// Four rows of W of at most widened_row elements, widened once, against all of x; the same sums.
template <class Kind>
void widened_dots(const Rows<float>& x, std::size_t nx, const std::uint16_t* const* w, std::size_t n, float* out, std::size_t out_stride) {
    alignas(64) float rows[4][widened_row];
    const float* const four[4] = {rows[0], rows[1], rows[2], rows[3]};
    for (std::size_t j = 0; j < 4; ++j) {
        std::size_t i = 0;
        for (; i + L <= n; i += L) store(rows[j] + i, Kind::of(w[j] + i));
        if (i < n) store(rows[j] + i, last_of<Kind>(w[j] + i, n - i, i));
    }
    dots_of_all<float, 4>(x, nx, four, n, out, out_stride);
}

template <class Kind>
void half_dots(const Rows<float>& x, std::size_t nx, const Rows<std::uint16_t>& w, std::size_t nw, std::size_t n, float* out,
               std::size_t out_stride) {
    std::size_t done = 0;
    for (; nx >= 4 && n <= widened_row && done + 4 <= nw; done += 4) {
        const std::uint16_t* const four[4] = {w[done], w[done + 1], w[done + 2], w[done + 3]};
        widened_dots<Kind>(x, nx, four, n, out + done, out_stride);
    }
    each_tile(nx, nw - done, [&]<std::size_t A, std::size_t B>(std::size_t i, std::size_t j, Shape<A, B>) {
        const float* a[A];
        const std::uint16_t* b[B];
        for (std::size_t s = 0; s < A; ++s) a[s] = x[i + s];
        for (std::size_t s = 0; s < B; ++s) b[s] = w[done + j + s];
        half_tile<Kind, A, B>(a, b, n, out + i * out_stride + done + j, out_stride);
    });
}

// ---- int8 rows ----------------------------------------------------------------------------------------------
// 16-bit inputs times 8-bit weights into 32-bit sums: no rounding and, as the caller sees to it, no overflow.

#if defined(__AVX512BW__)
typedef __m512i Ints;
constexpr std::size_t int_step = 32;
SPARSEOPS_INLINE Ints load_x(const std::int16_t* p) { return _mm512_loadu_si512(p); }
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p, std::size_t n, std::size_t) {
    return _mm512_cvtepi8_epi16(_mm256_maskz_loadu_epi8(static_cast<__mmask32>((1u << n) - 1u), p));
}
SPARSEOPS_INLINE Ints add_products(Ints a, Ints b, Ints sum) {
#if defined(__AVX512VNNI__)
    return _mm512_dpwssd_epi32(sum, a, b);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}
SPARSEOPS_INLINE __m128i quarter(Ints v) {
    const i32x16 all = (i32x16)v;
    const i32x8 half =
        __builtin_shufflevector(all, all, 0, 1, 2, 3, 4, 5, 6, 7) + __builtin_shufflevector(all, all, 8, 9, 10, 11, 12, 13, 14, 15);
    return (__m128i)(__builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7));
}
#elif defined(__AVX2__)
typedef __m256i Ints;
constexpr std::size_t int_step = 16;
SPARSEOPS_INLINE Ints load_x(const std::int16_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p, std::size_t n, std::size_t before) {
    return _mm256_cvtepi8_epi16(load_last(p, n, before));
}
SPARSEOPS_INLINE Ints add_products(Ints a, Ints b, Ints sum) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
SPARSEOPS_INLINE __m128i quarter(Ints v) { return _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1)); }
#elif defined(__SSE4_1__)
typedef __m128i Ints;
constexpr std::size_t int_step = 8;
SPARSEOPS_INLINE Ints load_x(const std::int16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p) { return _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
SPARSEOPS_INLINE Ints add_products(Ints a, Ints b, Ints sum) { return _mm_add_epi32(sum, _mm_madd_epi16(a, b)); }
SPARSEOPS_INLINE __m128i quarter(Ints v) { return v; }
#else
typedef i32x4 Ints;
constexpr std::size_t int_step = 4;
SPARSEOPS_INLINE Ints load_x(const std::int16_t* p) { return Ints{p[0], p[1], p[2], p[3]}; }
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p) { return Ints{p[0], p[1], p[2], p[3]}; }
SPARSEOPS_INLINE Ints add_products(Ints a, Ints b, Ints sum) { return sum + a * b; }
#endif

#if !defined(__AVX2__)
SPARSEOPS_INLINE Ints load_w(const std::int8_t* p, std::size_t n, std::size_t) {
    std::int8_t buffer[int_step] = {};
    std::memcpy(buffer, p, n);
    return load_w(buffer);
}
#endif

// The sums of four vectors, as floats times `scale`.
#if defined(__SSE4_1__)
SPARSEOPS_INLINE void scaled_sums(Ints a, Ints b, Ints c, Ints d, f32x4 scale, float* out) {
    const __m128i sums = _mm_hadd_epi32(_mm_hadd_epi32(quarter(a), quarter(b)), _mm_hadd_epi32(quarter(c), quarter(d)));
    store(out, (f32x4)_mm_cvtepi32_ps(sums) * scale);
}
#else
SPARSEOPS_INLINE float sum_ints(Ints v) { return static_cast<float>((v[0] + v[1]) + (v[2] + v[3])); }
SPARSEOPS_INLINE void scaled_sums(Ints a, Ints b, Ints c, Ints d, f32x4 scale, float* out) {
    store(out, f32x4{sum_ints(a), sum_ints(b), sum_ints(c), sum_ints(d)} * scale);
}
#endif

template <std::size_t A, std::size_t B>
SPARSEOPS_INLINE void int8_tile(const std::int16_t* const* x, const float* x_scale, const std::int8_t* const* w, const float* w_scale,
                                std::size_t n, float* out, std::size_t out_stride) {
    Ints sums[A][B];
    clear(sums);
    std::size_t i = 0;
    const auto add = [&](auto row) __attribute__((always_inline)) {
        Ints a[A];
#pragma GCC unroll 4
        for (std::size_t s = 0; s < A; ++s) a[s] = load_x(x[s] + i);
#pragma GCC unroll 4
        for (std::size_t j = 0; j < B; ++j) {
            const Ints b = row(w[j] + i);
#pragma GCC unroll 4
            for (std::size_t s = 0; s < A; ++s) sums[s][j] = add_products(a[s], b, sums[s][j]);
        }
    };
    for (; i + int_step <= n; i += int_step) add([](const std::int8_t* p) __attribute__((always_inline)) { return load_w(p); });
    if (i < n) add([&](const std::int8_t* p) __attribute__((always_inline)) { return load_w(p, n - i, i); });
    float total[4];
    if constexpr (B == 4) {
        const f32x4 scale = {w_scale[0], w_scale[1], w_scale[2], w_scale[3]};
#pragma GCC unroll 4
        for (std::size_t s = 0; s < A; ++s) {
            scaled_sums(sums[s][0], sums[s][1], sums[s][2], sums[s][3], scale * splat<f32x4>(x_scale[s]), out + s * out_stride);
        }
    } else if constexpr (A == 4) {
        const f32x4 scale = {x_scale[0], x_scale[1], x_scale[2], x_scale[3]};
        scaled_sums(sums[0][0], sums[1][0], sums[2][0], sums[3][0], scale * splat<f32x4>(w_scale[0]), total);
        for (std::size_t s = 0; s < 4; ++s) out[s * out_stride] = total[s];
    } else {
        static_assert(A == 1 && B == 1);
        const Ints none{};
        scaled_sums(sums[0][0], none, none, none, splat<f32x4>(x_scale[0] * w_scale[0]), total);
        out[0] = total[0];
    }
}

void int8_dots(const Rows<std::int16_t>& x, const float* x_scale, std::size_t nx, const Rows<std::int8_t>& w, const float* w_scale,
               std::size_t nw, std::size_t n, float* out, std::size_t out_stride) {
    each_tile(nx, nw, [&]<std::size_t A, std::size_t B>(std::size_t i, std::size_t j, Shape<A, B>) {
        const std::int16_t* a[A];
        const std::int8_t* b[B];
        float a_scale[A], b_scale[B];
        for (std::size_t s = 0; s < A; ++s) {
            a[s] = x[i + s];
            a_scale[s] = x_scale[x.index ? static_cast<std::size_t>(x.index[i + s]) : i + s];
        }
        for (std::size_t s = 0; s < B; ++s) {
            b[s] = w[j + s];
            b_scale[s] = w_scale[w.index ? static_cast<std::size_t>(w.index[j + s]) : j + s];
        }
        int8_tile<A, B>(a, a_scale, b, b_scale, n, out + i * out_stride + j, out_stride);
    });
}

// ---- rows as integers ---------------------------------------------------------------------------------------

template <class I>
SPARSEOPS_INLINE float quantize_row(const float* x, std::size_t n, std::int32_t levels, I* out) {
    std::int32_t top = 0;  // the bits of |x| are in the order of |x|
    for (std::size_t i = 0; i < n; ++i) {
        const std::int32_t bits = __builtin_bit_cast(std::int32_t, x[i]) & 0x7fffffff;
        top = bits > top ? bits : top;
    }
    if (top >= 0x7f800000) {
        for (std::size_t i = 0; i < n; ++i) out[i] = I(0);
        return __builtin_nanf("");
    }
    const float found = __builtin_bit_cast(float, top), largest = found > 1e-30f ? found : 1e-30f;
    const float inverse = static_cast<float>(levels) / largest;
    constexpr float magic = 12582912;  // adding it leaves no digit behind the point, rounded to even
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<I>(static_cast<std::int32_t>((x[i] * inverse + magic) - magic));
    const float scale = largest / static_cast<float>(levels);
    return __builtin_isinf(scale * static_cast<float>(levels)) ? __builtin_nextafterf(scale, 0) : scale;
}

float int16_row(const float* x, std::size_t n, std::int32_t levels, std::int16_t* out) { return quantize_row(x, n, levels, out); }
float int8_row(const float* x, std::size_t n, std::int8_t* out) { return quantize_row(x, n, 127, out); }

#define SPARSEOPS_JOIN_(a, b) a##b
#define SPARSEOPS_JOIN(a, b) SPARSEOPS_JOIN_(a, b)

}  // namespace

namespace sparseops::detail {
extern const QuantizedKernels SPARSEOPS_JOIN(quantized_, SPARSEOPS_ISA_NAME);
const QuantizedKernels SPARSEOPS_JOIN(quantized_, SPARSEOPS_ISA_NAME) = {half_dots<Bfloat16>, half_dots<Float16>, int8_dots, int16_row,
                                                                         int8_row};
}  // namespace sparseops::detail
