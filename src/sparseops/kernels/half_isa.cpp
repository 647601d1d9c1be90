// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "half.hpp"
#include "simd.hpp"
#include "simd_half.hpp"
#include "simd_products.hpp"
#include "simd_steps.hpp"
#include "simd_words.hpp"

namespace {

using sparseops::detail::RoundingKey;

template <class Kind>
void widen(const std::uint16_t* w, std::size_t n, float* out) {
    each_vector<float>(n, [&](std::size_t i, std::size_t m) { store_m(out + i, m, m == L ? Kind::of(w + i) : Kind::some(w + i, m, i)); });
}

template <class Kind>
void path_dots(const float* x, const std::uint16_t* rows, const std::int32_t* index, std::size_t count, std::size_t n, float* out) {
    const std::size_t last = count - 1;
    for (std::size_t j = 0; j < count; j += 4) {
        const std::uint16_t* four[4];
        for (std::size_t s = 0; s < 4; ++s) four[s] = rows + static_cast<std::size_t>(index[j + s < last ? j + s : last]) * n;
        half_tile<Kind, 1, 4>(&x, four, n, out + j, 4);
    }
}

// ---- steps --------------------------------------------------------------------------------------------------

template <class Kind>
struct Widened {
    const std::uint16_t* w;
    float* out;
    SPARSEOPS_INLINE V load(const Widened& row, std::size_t i, std::size_t m) {
        return m == L ? Kind::of(row.w + i) : Kind::some(row.w + i, m, i);
    }
    SPARSEOPS_INLINE void store(const Widened& row, std::size_t i, std::size_t m, V v) { store_m(row.out + i, m, v); }
};

template <class Kind>
void sgd(float* grad, float lr, float decay, const std::uint16_t* w, std::size_t n) {
    const Widened<Kind> row{w, grad};
    each_vector<float>(n, [&](std::size_t i, std::size_t m) {
        const V weight = Widened<Kind>::load(row, i, m);
        V g = load_m(grad + i, m, 0.0f);
        if (decay != 0) g = fma(splat<V>(decay), weight, g);
        Widened<Kind>::store(row, i, m, fma(splat<V>(-lr), g, weight));
    });
}
template <class Kind>
void adagrad(float* grad, float lr, float eps, float decay, float* s, const std::uint16_t* w, std::size_t n) {
    adagrad_row(grad, lr, eps, decay, s, Widened<Kind>{w, grad}, n);
}
template <class Kind>
void rowwise_adagrad(float* grad, float lr, float eps, float decay, float* s, const std::uint16_t* w, std::size_t n) {
    rowwise_adagrad_row(grad, lr, eps, decay, s, Widened<Kind>{w, grad}, n);
}
template <class Kind>
void adam(float* grad, float step, float root, float beta1, float rest1, float beta2, float rest2, float eps, float decay, float* m,
          float* v, const std::uint16_t* w, std::size_t n) {
    adam_row(grad, step, root, beta1, rest1, beta2, rest2, eps, decay, m, v, Widened<Kind>{w, grad}, n);
}

// ---- random words -------------------------------------------------------------------------------------------

template <class F>
struct WordsOf;
template <class H>
struct WordsOf<Pair<H>> {
    typedef Pair<typename WordsOf<H>::type> type;
};
#if defined(__AVX512F__)
template <>
struct WordsOf<f32x16> {
    typedef std::uint32_t type __attribute__((vector_size(64)));
};
#elif defined(__AVX2__)
template <>
struct WordsOf<f32x8> {
    typedef std::uint32_t type __attribute__((vector_size(32)));
};
#else
template <>
struct WordsOf<f32x4> {
    typedef std::uint32_t type __attribute__((vector_size(16)));
};
#endif
typedef typename WordsOf<V>::type Ints;  // 16 lanes of 32 bits

typedef std::uint64_t Long __attribute__((vector_size(sizeof(Words))));

// Words a and b of each block side by side.
SPARSEOPS_INLINE Long together(Words a, Words b) { return ((Long)a.v & 0xffffffffu) | ((Long)b.v << 32); }

// The 16 words of the four Philox4x32-10 blocks from number `block` on, a multiple of four: first words 0 and 1 of each block, then
// words 2 and 3. The blocks differ in the low word of the counter alone: half of the first two rounds is done once for all.
SPARSEOPS_INLINE Ints draw_words(const RoundingKey& key, std::uint64_t block) {
    constexpr std::uint64_t m0 = 0xD2511F53u, m1 = 0xCD9E8D57u, low = 0xffffffffu;
    constexpr int parts = word_lanes < 4 ? 4 / word_lanes : 1;
    const std::uint64_t q0 = m1 * (key.high & low), p1 = m0 * (((q0 >> 32) ^ (block >> 32) ^ key.k0[0]) & low);
    const Words w0 = words(m0), w1 = words(m1);
    Words c0[parts], c1[parts], c2[parts], c3[parts];
#pragma GCC unroll 4
    for (int u = 0; u < parts; ++u) {
        const Words p = multiply_low(count_up((block & low) + static_cast<std::uint64_t>(u * word_lanes)), w0),
                    q = multiply_low(exclusive_or(high_half(p), words((key.high >> 32) ^ key.k1[0])), w1);
        c0[u] = exclusive_or(high_half(q), words(q0 ^ key.k0[1]));
        c1[u] = q;
        c2[u] = exclusive_or(p, words((p1 >> 32) ^ key.k1[1]));
        c3[u] = words(p1);
    }
#pragma GCC unroll 8
    for (int r = 2; r < 10; ++r) {
        const Words k0 = words(key.k0[r]), k1 = words(key.k1[r]);
#pragma GCC unroll 4
        for (int u = 0; u < parts; ++u) {
            const Words p = multiply_low(c0[u], w0), q = multiply_low(c2[u], w1);
            c0[u] = exclusive_or(high_half(q), c1[u], k0);
            c2[u] = exclusive_or(high_half(p), c3[u], k1);
            c1[u] = q;
            c3[u] = p;
        }
    }
    Ints found;
#if defined(__AVX512F__)  // of eight blocks, four are used
    found = (Ints)__builtin_shufflevector(together(c0[0], c1[0]), together(c2[0], c3[0]), 0, 1, 2, 3, 8, 9, 10, 11);
#else
    Long all[2 * parts];
#pragma GCC unroll 4
    for (int u = 0; u < parts; ++u) {
        all[u] = together(c0[u], c1[u]);
        all[parts + u] = together(c2[u], c3[u]);
    }
    static_assert(sizeof all == sizeof found);
    std::memcpy(&found, all, sizeof found);
#endif
    return found;
}

SPARSEOPS_INLINE Ints ints(std::uint32_t x) { return splat<Ints>(x); }

template <int n, class H>
SPARSEOPS_INLINE H rotated(H x) {
    return (x >> n) | (x << (32 - n));
}
#if defined(__AVX2__) && !defined(__AVX512F__)
template <>
inline __attribute__((always_inline)) Ints rotated<8, Ints>(Ints x) {
    const __m256i by =
        _mm256_set_epi8(12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1, 12, 15, 14, 13, 8, 11, 10, 9, 4, 7, 6, 5, 0, 3, 2, 1);
    typedef decltype(x.lo) H;
    return {(H)_mm256_shuffle_epi8((__m256i)x.lo, by), (H)_mm256_shuffle_epi8((__m256i)x.hi, by)};
}
#endif

// f(v, u) for the eight vectors of a unit: u holds 16 bits for each of 16 elements. One word serves eight elements, each of which
// compares with four bits of its own first.
template <class F>
SPARSEOPS_INLINE void each_draw(Ints r, F f) {
    const Ints low = ints(0xffff), r8 = rotated<8>(r), r4 = rotated<4>(r), r12 = rotated<8>(r4);
    f(0, r & low);
    f(1, r >> 16);
    f(2, r8 & low);
    f(3, r8 >> 16);
    f(4, r4 & low);
    f(5, r4 >> 16);
    f(6, r12 & low);
    f(7, r12 >> 16);
}

// ---- rounding -----------------------------------------------------------------------------------------------
// In sign and magnitude a carry out of what is cut off leads away from zero.

typedef Bits<V> Signed;

// The bits of u where x is a number, 0 where it is NaN.
template <class F>
SPARSEOPS_INLINE Bits<F> unless_nan(F x, Bits<F> u) {
    return u & (x == x);
}
template <class H>
SPARSEOPS_INLINE Pair<Bits<H>> unless_nan(Pair<H> x, Pair<Bits<H>> u) {
    return {unless_nan(x.lo, u.lo), unless_nan(x.hi, u.hi)};
}

template <class F>
struct ToInt {
    static inline __attribute__((always_inline)) Bits<F> of(F x) { return __builtin_convertvector(x, Bits<F>); }
    static inline __attribute__((always_inline)) F back(Bits<F> x) { return __builtin_convertvector(x, F); }
};
template <class H>
struct ToInt<Pair<H>> {
    static inline __attribute__((always_inline)) Pair<Bits<H>> of(Pair<H> x) { return {ToInt<H>::of(x.lo), ToInt<H>::of(x.hi)}; }
    static inline __attribute__((always_inline)) Pair<H> back(Pair<Bits<H>> x) { return {ToInt<H>::back(x.lo), ToInt<H>::back(x.hi)}; }
};

// Of |x| < 2^127, the others noted: the bits of x rounded by u, 16 a lane.
struct FastBfloat16 {
    V over{};  // finite, unless there was such an x
    SPARSEOPS_INLINE Ints rounded(FastBfloat16& self, V x, Ints u) {
        self.over = fma(x, splat<V>(0x1p20f), self.over);
        return (bit_cast_to<Ints>(x) + u) >> 16;
    }
    SPARSEOPS_INLINE bool did_all(const FastBfloat16& self) { return sum_lanes(self.over - self.over) == 0; }
};
// Of any x.
struct AnyBfloat16 {
    SPARSEOPS_INLINE Ints rounded(AnyBfloat16&, V x, Ints u) {
        const V most = splat<V>(0x1.fep127f), within = min_of(max_of(x, -most), most);  // in this order NaN stays
        return (bit_cast_to<Ints>(within) + bit_cast_to<Ints>(unless_nan(x, bit_cast_to<Signed>(u)))) >> 16;
    }
};
struct AnyFloat16 {
    SPARSEOPS_INLINE Ints rounded(AnyFloat16&, V x, Ints u) {
        const Ints bits = bit_cast_to<Ints>(x), by = u >> 3;
        const V most = splat<V>(65504.0f), size = min_of(bit_cast_to<V>(bits & ints(0x7fffffff)), most);  // in this order NaN stays
        const Ints normal = (bit_cast_to<Ints>(size) - ints(112u << 23) + by) >> 13;
        // below 2^-14 in steps of 2^-24, of which `by` are 2^-13
        const V steps = size * splat<V>(0x1p24f) + ToInt<V>::back(bit_cast_to<Signed>(by)) * splat<V>(0x1p-13f);
        const V small = bit_cast_to<V>(ToInt<V>::of(steps)), nan = bit_cast_to<V>(ints(0x7e00)), top = bit_cast_to<V>(ints(0x7bff));
        const V found = select_less(size, splat<V>(0x1p-14f), small, bit_cast_to<V>(normal));
        return ((bits >> 16) & ints(0x8000)) | bit_cast_to<Ints>(select_less(size, most, found, select_less(most, size + size, top, nan)));
    }
};

// The low 16 bits of the first m lanes.
SPARSEOPS_INLINE void store_halves(std::uint16_t* to, std::size_t m, Ints v) {
#if defined(__AVX512F__)
    const __m256i narrow = _mm512_cvtepi32_epi16((__m512i)v);
    if (m == L)
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow);
    else
        _mm256_mask_storeu_epi16(to, static_cast<__mmask16>((1u << m) - 1u), narrow);
#else
    std::uint16_t narrow[L];
#if defined(__AVX2__)
    const __m256i packed = _mm256_packus_epi32((__m256i)v.lo, (__m256i)v.hi);
    store(narrow, _mm256_permute4x64_epi64(packed, 0xd8));
#else
    std::uint32_t wide[L];
    store(wide, v);
    for (std::size_t l = 0; l < L; ++l) narrow[l] = static_cast<std::uint16_t>(wide[l]);
#endif
    if (m == L)
        std::memcpy(to, narrow, sizeof narrow);
    else
        std::memcpy(to, narrow, m * sizeof *to);
#endif
}

template <class How>
SPARSEOPS_INLINE How round_by(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w) {
    constexpr std::size_t each = sparseops::detail::rounding_unit;
    How how{};
    std::size_t at = 0;
    for (; at + each <= n; at += each, ++unit) {
        each_draw(draw_words(key, unit * sparseops::detail::blocks_of_unit), [&](std::size_t v, Ints u) __attribute__((always_inline)) {
            store_halves(w + at + v * L, L, How::rounded(how, load<V>(x + at + v * L), u));
        });
    }
    if (at == n) return how;
    each_draw(draw_words(key, unit * sparseops::detail::blocks_of_unit), [&](std::size_t v, Ints u) __attribute__((always_inline)) {
        const std::size_t i = at + v * L, m = i + L <= n ? L : n - i;
        if (i < n) store_halves(w + i, m, How::rounded(how, load_m(x + i, m, 0.0f), u));
    });
    return how;
}

void round_bfloat16(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w) {
    if (!FastBfloat16::did_all(round_by<FastBfloat16>(x, n, key, unit, w))) round_by<AnyBfloat16>(x, n, key, unit, w);
}
void round_float16(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w) {
    round_by<AnyFloat16>(x, n, key, unit, w);
}

template <class Kind, auto round>
constexpr sparseops::detail::HalfKernels table = {
    widen<Kind>, path_dots<Kind>, weighted_sum<float, Kind>, weighted_sums<float, Kind>, sgd<Kind>, adagrad<Kind>, rowwise_adagrad<Kind>,
    adam<Kind>,  round,
};

#define SPARSEOPS_JOIN_(a, b) a##b
#define SPARSEOPS_JOIN(a, b) SPARSEOPS_JOIN_(a, b)

}  // namespace

namespace sparseops::detail {
extern const HalfTable SPARSEOPS_JOIN(half_, SPARSEOPS_ISA_NAME);
const HalfTable SPARSEOPS_JOIN(half_, SPARSEOPS_ISA_NAME) = {table<Bfloat16, round_bfloat16>, table<Float16, round_float16>};
}  // namespace sparseops::detail
