// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "half.hpp"
#include "simd.hpp"
#include "simd_half.hpp"
#include "simd_products.hpp"
#include "simd_steps.hpp"

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

SPARSEOPS_INLINE Ints ints(std::uint32_t x) { return splat<Ints>(x); }

template <int n, class H>
SPARSEOPS_INLINE H mixed(H x) {
    return x ^ (x >> n);
}
template <int n, class H>
SPARSEOPS_INLINE Pair<H> mixed(Pair<H> x) {
    return {mixed<n>(x.lo), mixed<n>(x.hi)};
}

SPARSEOPS_INLINE Ints draw_words(const RoundingKey& key, std::uint64_t unit) {
    const auto of_unit = static_cast<std::uint32_t>(unit) + static_cast<std::uint32_t>(unit >> 32) * 0x9E3779B9u;
    const Ints x = mixed<16>(load<Ints>(key.add) + load<Ints>(key.multiply) * ints(of_unit));
    return mixed<16>(mixed<15>(x * ints(0x7feb352d)) * ints(0x846ca68b));
}

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

// 16 bits for each of 16 elements, and for what is kept beside them.
struct Draw {
    Ints own, beside;
};

// f(i, m, Draw) for the vectors of a row. One word serves eight elements, each of which compares with four bits of its own first.
template <class F>
SPARSEOPS_INLINE void each_draw(const RoundingKey& key, std::uint64_t unit, std::size_t n, F f) {
    Draw last{};
    const Ints low = ints(0xffff);
    for (std::size_t at = 0; at < n; at += sparseops::detail::rounding_unit, ++unit) {
        const auto two = [&](std::size_t i, Ints x) __attribute__((always_inline)) {
            const Ints first = x & low, second = x >> 16;
            if (i + L <= n)
                f(i, L, Draw{first, second});
            else if (i < n)
                last = {first, second};
            if (i + 2 * L <= n)
                f(i + L, L, Draw{second, first});
            else if (i + L < n)
                last = {second, first};
        };
        const Ints r = draw_words(key, unit), r4 = rotated<4>(r);
        two(at, r);
        two(at + 2 * L, rotated<8>(r));
        two(at + 4 * L, r4);
        two(at + 6 * L, rotated<8>(r4));
    }
    if (n % L) f(n - n % L, n % L, last);
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
#elif defined(__AVX2__)
    const __m256i narrow = _mm256_permute4x64_epi64(_mm256_packus_epi32((__m256i)v.lo, (__m256i)v.hi), 0xd8);
    if (m == L)
        store(to, narrow);
    else
        std::memcpy(to, &narrow, m * sizeof *to);
#else
    std::uint32_t wide[L];
    store(wide, v);
    for (std::size_t l = 0; l < m; ++l) to[l] = static_cast<std::uint16_t>(wide[l]);
#endif
}

template <class How>
SPARSEOPS_INLINE How round_by(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w) {
    How how{};
    each_draw(key, unit, n, [&](std::size_t i, std::size_t m, const Draw& u) __attribute__((always_inline)) {
        store_halves(w + i, m, How::rounded(how, load_m(x + i, m, 0.0f), u.own));
    });
    return how;
}

void round_bfloat16(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w) {
    if (!FastBfloat16::did_all(round_by<FastBfloat16>(x, n, key, unit, w))) round_by<AnyBfloat16>(x, n, key, unit, w);
}
void round_float16(const float* x, std::size_t n, const RoundingKey& key, std::uint64_t unit, std::uint16_t* w) {
    round_by<AnyFloat16>(x, n, key, unit, w);
}

// ---- steps --------------------------------------------------------------------------------------------------
// Apart from the rounding: in one loop it took a third longer.

template <class Kind>
struct Widened {
    const std::uint16_t* w;
    float* out;
    SPARSEOPS_INLINE V load(const Widened& row, std::size_t i, std::size_t m) {
        return m == L ? Kind::of(row.w + i) : Kind::some(row.w + i, m, i);
    }
    SPARSEOPS_INLINE void store(const Widened& row, std::size_t i, std::size_t m, V v) { store_m(row.out + i, m, v); }
};

// Sums of squares in bfloat16: never negative, so rounded as the bits they are.
struct HalfState {
    std::uint16_t* s;
    const RoundingKey& key;
    std::uint64_t unit;

    template <class F>
    SPARSEOPS_INLINE void each(const HalfState& state, std::size_t n, F f) {
        each_draw(state.key, state.unit, n, f);
    }
    SPARSEOPS_INLINE V load(const HalfState& state, std::size_t i, std::size_t m) {
        return m == L ? Bfloat16::of(state.s + i) : Bfloat16::some(state.s + i, m, i);
    }
    SPARSEOPS_INLINE void store(const HalfState& state, std::size_t i, std::size_t m, V v, const Draw& u) {
        store_halves(state.s + i, m, (bit_cast_to<Ints>(min_of(v, splat<V>(0x1.fep127f))) + u.beside) >> 16);
    }
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
    adagrad_row(grad, lr, eps, decay, InPlace<float>{s}, Widened<Kind>{w, grad}, n);
}
template <class Kind>
void adagrad_half(float* grad, float lr, float eps, float decay, std::uint16_t* s, const RoundingKey& key, std::uint64_t unit,
                  const std::uint16_t* w, std::size_t n) {
    adagrad_row(grad, lr, eps, decay, HalfState{s, key, unit}, Widened<Kind>{w, grad}, n);
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

template <class Kind, auto round>
constexpr sparseops::detail::HalfKernels table = {
    widen<Kind>, path_dots<Kind>, weighted_sum<float, Kind>, weighted_sums<float, Kind>,
    sgd<Kind>,   adagrad<Kind>,   adagrad_half<Kind>,        rowwise_adagrad<Kind>,
    adam<Kind>,  round,
};

#define SPARSEOPS_JOIN_(a, b) a##b
#define SPARSEOPS_JOIN(a, b) SPARSEOPS_JOIN_(a, b)

}  // namespace

namespace sparseops::detail {
extern const HalfTable SPARSEOPS_JOIN(half_, SPARSEOPS_ISA_NAME);
const HalfTable SPARSEOPS_JOIN(half_, SPARSEOPS_ISA_NAME) = {table<Bfloat16, round_bfloat16>, table<Float16, round_float16>};
}  // namespace sparseops::detail
