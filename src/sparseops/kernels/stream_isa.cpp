// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "prefetch.hpp"
#include "simd.hpp"
#include "simd_convert.hpp"
#include "simd_items.hpp"
#include "simd_math.hpp"
#include "simd_philox.hpp"
#include "stream.hpp"

namespace {

// ---- norms --------------------------------------------------------------------------------------------------
// A measure is the sum or the largest of terms in double: two accumulators of 8 lanes, then their join, then its
// lanes by halves. Squares of floats are exact in double, so there the fused multiply-add changes nothing.

struct AbsoluteSum {
    template <class V>
    SPARSEOPS_INLINE V join(V sum, V x) {
        return sum + absolute(x);
    }
    template <class V>
    SPARSEOPS_INLINE V combine(V a, V b) {
        return a + b;
    }
    SPARSEOPS_INLINE void join_lanes(const Vec<double>* v, double* out) { sum_lanes4(v[0], v[1], v[2], v[3], out); }
};
struct SquareSum {
    template <class V>
    SPARSEOPS_INLINE V join(V sum, V x) {
        return fma(x, x, sum);
    }
    template <class V>
    SPARSEOPS_INLINE V combine(V a, V b) {
        return a + b;
    }
    SPARSEOPS_INLINE void join_lanes(const Vec<double>* v, double* out) { sum_lanes4(v[0], v[1], v[2], v[3], out); }
};
struct Largest {  // a NaN or an infinity stays: x - x is then NaN, and NaN is kept
    template <class V>
    SPARSEOPS_INLINE V combine(V a, V b) {
        return select_at_most(b, a, a, b + (a - a));
    }
    template <class V>
    SPARSEOPS_INLINE V join(V sum, V x) {
        return combine(sum, absolute(x) + (x - x));
    }
    SPARSEOPS_INLINE void join_lanes(const Vec<double>* v, double* out) {
        for (int r = 0; r < 4; ++r) {
            double lane[8];
            store(lane, v[r]);
            for (int l = 1; l < 8; ++l) lane[0] = combine(lane[0], lane[l]);
            out[r] = lane[0];
        }
    }
};

template <class V>
SPARSEOPS_INLINE V drop_small(V x, V threshold) {
    return select_at_most(absolute(x), threshold, V{}, x);
}

// The same, where Drop says whether there is a threshold at all.
template <bool Drop, class V>
SPARSEOPS_INLINE V dropped(V x, V threshold) {
    return Drop ? drop_small(x, threshold) : x;
}

// The hardware's own prefetching ends with each page of memory. Far says whether what lies behind will be wanted, too.
template <bool Far = true, class T>
SPARSEOPS_INLINE void look_ahead(const T* p) {
    if constexpr (Far) sparseops::detail::prefetch_line(reinterpret_cast<const char*>(p) + 3072);
}
template <bool Far, class T>
SPARSEOPS_INLINE void look_ahead(const T* from, T* to) {
    look_ahead<Far>(from);
    if constexpr (Far) {
        if (from != to) sparseops::detail::prefetch_line_to_write(reinterpret_cast<char*>(to) + 3072);
    }
}

template <bool Is>
struct Case {
    static constexpr bool value = Is;
};

// f(Case, Case): whether to drop what is small, and to look ahead: beyond a single short segment may lie anything.
template <class T, class F>
SPARSEOPS_INLINE void each_case(const std::size_t* offset, std::size_t count, T threshold, F f) {
    const bool far = count > 1 || offset[count] - offset[0] > 4096;
    if (threshold < T(0))
        far ? f(Case<false>{}, Case<true>{}) : f(Case<false>{}, Case<false>{});
    else
        far ? f(Case<true>{}, Case<true>{}) : f(Case<true>{}, Case<false>{});
}

// f(Case, i, m) for n elements by eights: whether it is an odd eight, where it starts, and how many it has.
template <class F>
SPARSEOPS_INLINE void each_eight(std::size_t n, F f) {
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        f(Case<false>{}, i, 8);
        f(Case<true>{}, i + 8, 8);
    }
    if (i + 8 <= n) {
        f(Case<false>{}, i, 8);
        i += 8;
        if (i < n) f(Case<true>{}, i, n - i);
    } else if (i < n) {
        f(Case<false>{}, i, n - i);
    }
}

// Whether eight elements of T may be the first on a cache line.
template <class T, class Odd>
constexpr bool new_line(Odd) {
    return sizeof(T) == 8 || !Odd::value;
}

template <class Term, bool Drop, bool Far, class T>
SPARSEOPS_INLINE Vec<double> measure_one(const T* x, std::size_t n, Vec<double> threshold) {
    Vec<double> even{}, odd{};
    each_eight(n, [&](auto is_odd, std::size_t i, std::size_t m) __attribute__((always_inline)) {
        if constexpr (new_line<T>(is_odd)) look_ahead<Far>(x + i);
        Vec<double>& sum = is_odd.value ? odd : even;
        sum = Term::join(sum, dropped<Drop>(load_doubles(x + i, m), threshold));
    });
    return Term::combine(even, odd);
}

// Four segments at a time, whose lanes are joined together.
template <class Term, bool Drop, bool Far, class T>
SPARSEOPS_INLINE void measure_segments(const T* x, const std::size_t* offset, std::size_t count, Vec<double> limit, double* out) {
    const auto four = [&](std::size_t i, std::size_t n, double* to) __attribute__((always_inline)) {
        Vec<double> v[4];
#pragma GCC unroll 4
        for (std::size_t r = 0; r < 4; ++r) {  // beyond the last: an empty segment
            const std::size_t from = offset[i + (r < n ? r : 0)];
            v[r] = measure_one<Term, Drop, Far>(x + from, r < n ? offset[i + r + 1] - from : 0, limit);
        }
        Term::join_lanes(v, to);
    };
    std::size_t i = 0;
    for (; i + 4 <= count; i += 4) four(i, 4, out + i);
    if (i == count) return;
    double joined[4];
    four(i, count - i, joined);
    for (std::size_t r = 0; i + r < count; ++r) out[i + r] = joined[r];
}
template <class Term, class T>
void measure(const T* x, const std::size_t* offset, std::size_t count, T threshold, double* out) {
    const Vec<double> limit = splat<Vec<double>>(static_cast<double>(threshold));
    each_case(offset, count, threshold,
              [&](auto drop, auto far) { measure_segments<Term, drop.value, far.value>(x, offset, count, limit, out); });
}

// A segment of eight at least is whole eights, the last of which ends with it and is read before anything is written.
template <bool Drop, bool Far, class T>
SPARSEOPS_INLINE void scale_one(const T* x, std::size_t n, Vec<double> threshold, Vec<double> factor, T* out) {
    const auto scaled = [&](std::size_t i, std::size_t m)
                            __attribute__((always_inline)) { return dropped<Drop>(load_doubles(x + i, m), threshold) * factor; };
    if (n < 8) {
        look_ahead<Far>(x, out);
        if (n > 0) store_rounded(out, n, scaled(0, n));
        return;
    }
    const Vec<double> last = scaled(n - 8, 8);
    std::size_t i = 0;
    for (; i + 16 < n; i += 16) {
        look_ahead<Far>(x + i, out + i);
        if constexpr (sizeof(T) == 8) look_ahead<Far>(x + i + 8, out + i + 8);
        store_rounded(out + i, 8, scaled(i, 8));
        store_rounded(out + i + 8, 8, scaled(i + 8, 8));
    }
    look_ahead<Far>(x + i, out + i);
    if (i + 8 < n) store_rounded(out + i, 8, scaled(i, 8));
    store_rounded(out + n - 8, 8, last);
}
template <class T>
void scale(const T* x, const std::size_t* offset, std::size_t count, T threshold, const double* factor, T* out) {
    const Vec<double> limit = splat<Vec<double>>(static_cast<double>(threshold));
    each_case(offset, count, threshold, [&](auto drop, auto far) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = offset[i];
            scale_one<drop.value, far.value>(x + at, offset[i + 1] - at, limit, splat<Vec<double>>(factor[i]), out + at);
        }
    });
}

template <bool Far, class T>
SPARSEOPS_INLINE void project_one(const T* x, const T* g, std::size_t n, double toward, double factor, T* out) {
    if (toward == 0) {
        if (out != g && n > 0) std::memcpy(out, g, n * sizeof(T));
        return;
    }
    const Vec<double> t = splat<Vec<double>>(toward), f = splat<Vec<double>>(factor);
    Vec<double> even{}, odd{};
    each_eight(n, [&](auto is_odd, std::size_t i, std::size_t m) __attribute__((always_inline)) {
        if constexpr (new_line<T>(is_odd)) {
            look_ahead<Far>(x + i);
            look_ahead<Far>(g + i, out + i);
        }
        Vec<double>& sum = is_odd.value ? odd : even;
        sum = sum + load_doubles(x + i, m) * t * load_doubles(g + i, m);
    });
    const Vec<double> along = splat<Vec<double>>(toward * sum_lanes(even + odd));
    each_eight(n, [&](auto, std::size_t i, std::size_t m) __attribute__((always_inline)) {
        store_rounded(out + i, m, f * (load_doubles(g + i, m) - load_doubles(x + i, m) * along));
    });
}
template <class T>
void project(const T* x, const T* g, const std::size_t* offset, std::size_t count, const double* toward, const double* factor, T* out) {
    each_case(offset, count, T(-1), [&](auto, auto far) {
        for (std::size_t i = 0; i < count; ++i) {
            const std::size_t at = offset[i];
            project_one<far.value>(x + at, g + at, offset[i + 1] - at, toward[i], factor[i], out + at);
        }
    });
}

void settle(const double* measure, std::size_t n, bool root, double norm, bool max_norm, double* size, double* factor) {
    typedef Vec<double> V;
    const V least = splat<V>(max_norm ? norm : 0.0), most = splat<V>(0x1.fffffffffffffp1023), one = splat<V>(1.0), to = splat<V>(norm);
    each_vector<double>(n, [&](std::size_t i, std::size_t m) {
        const V in = load_m(measure + i, m, 0.0), s = root ? square_root(in) : in, f = to / s;
        if (root || size != measure) store_m(size + i, m, s);
        // 0 · factor is 0 unless s is not finite
        store_m(factor + i, m, select_at_most(s, least, one, select_less(f, most, f, most) + (s - s)));
    });
}

template <class Term, class T>
void measure_columns(const T* x, std::size_t rows, std::size_t cols, T threshold, double* sum) {
    const Vec<double> limit = splat<Vec<double>>(static_cast<double>(threshold));
    for (std::size_t i = 0; i < rows; ++i, x += cols) {
        each_vector<double>(cols, [&](std::size_t j, std::size_t m) {
            store_m(sum + j, m, Term::join(load_m(sum + j, m, 0.0), drop_small(load_doubles(x + j, m), limit)));
        });
    }
}
template <class T>
void scale_columns(const T* x, std::size_t rows, std::size_t cols, T threshold, const double* factor, T* out) {
    const Vec<double> limit = splat<Vec<double>>(static_cast<double>(threshold));
    for (std::size_t i = 0; i < rows; ++i, x += cols, out += cols) {
        each_vector<double>(cols, [&](std::size_t j, std::size_t m) {
            store_rounded(out + j, m, drop_small(load_doubles(x + j, m), limit) * load_m(factor + j, m, 0.0));
        });
    }
}

// ---- selects ------------------------------------------------------------------------------------------------

template <class U>
SPARSEOPS_INLINE bool select_some(const U* x, std::uint64_t bits, const U* r, std::size_t stride, std::size_t n, U exponent, U* y) {
    bool bad = false;
    for (std::size_t i = 0; i < n; ++i) {
        const U v = x[i];
        bad |= (v & exponent) == exponent;
        y[i] = (bits >> i) & 1 ? r[i * stride] : v;
    }
    return bad;
}

#if defined(__AVX2__)
template <bool Each, class U>
SPARSEOPS_INLINE bool select_groups(const U* x, const std::uint64_t* bits, const U* r, std::size_t groups, U exponent, U* y) {
    constexpr std::size_t L = sizeof(Items) / sizeof(U);
    const Items e = items(exponent), constant = items(*r);
    std::uint64_t bad = 0;
    for (std::size_t g = 0; g < groups; ++g) {
        for (std::size_t i = 64 * g; i < 64 * (g + 1); i += L) {
            const Items v = load_items(x + i);
            bad |= equal_items(and_items(v, e), e, U());
            store_items(y + i, select_items(bits[g] >> (i % 64), v, Each ? load_items(r + i) : constant, U()));
        }
    }
    return bad != 0;
}
#endif

template <class U>
bool any_with(const U* x, std::size_t n, U exponent) {
    std::size_t i = 0;
#if defined(__AVX2__)
    constexpr std::size_t L = sizeof(Items) / sizeof(U);
    const Items e = items(exponent);
    std::uint64_t bad = 0;
    for (; i + L <= n; i += L) {
        look_ahead(x + i);
        bad |= equal_items(and_items(load_items(x + i), e), e, U());
    }
    if (bad) return true;
#endif
    for (; i < n; ++i) {
        if ((x[i] & exponent) == exponent) return true;
    }
    return false;
}

template <class U>
bool select(const U* x, const std::uint64_t* bits, const U* r, std::size_t stride, std::size_t n, U exponent, U* y) {
    const std::size_t groups = n / 64, rest = n % 64, at = 64 * groups;
    bool bad = false;
#if defined(__AVX2__)
    bad = stride ? select_groups<true>(x, bits, r, groups, exponent, y) : select_groups<false>(x, bits, r, groups, exponent, y);
#else
    for (std::size_t g = 0; g < groups; ++g) bad |= select_some(x + 64 * g, bits[g], r + 64 * g * stride, stride, 64, exponent, y + 64 * g);
#endif
    return (rest && select_some(x + at, bits[groups], r + at * stride, stride, rest, exponent, y + at)) || bad;
}

// ---- 16-bit floats ------------------------------------------------------------------------------------------

void floats_from_float16(const std::uint16_t* x, std::size_t n, float* out) {
    std::size_t i = 0;
#if defined(__AVX2__)
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i))));
#endif
    for (; i < n; ++i) out[i] = from_float16(x[i]);
}
void floats_to_float16(const float* x, std::size_t n, std::uint16_t* out) {
    std::size_t i = 0;
#if defined(__AVX2__)
    for (; i + 8 <= n; i += 8) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(x + i), 0));
#endif
    for (; i < n; ++i) out[i] = to_float16(x[i]);
}
void floats_from_bfloat16(const std::uint16_t* x, std::size_t n, float* out) {
    for (std::size_t i = 0; i < n; ++i) out[i] = from_bfloat16(x[i]);
}
void floats_to_bfloat16(const float* x, std::size_t n, std::uint16_t* out) {
    for (std::size_t i = 0; i < n; ++i) out[i] = to_bfloat16(x[i]);
}

template <class T>
constexpr sparseops::detail::NormKernels<T> norm_table = {
    {measure<AbsoluteSum, T>, measure<SquareSum, T>, measure<Largest, T>},
    scale<T>,
    settle,
    {measure_columns<AbsoluteSum, T>, measure_columns<SquareSum, T>, measure_columns<Largest, T>},
    scale_columns<T>,
    project<T>,
};

#define SPARSEOPS_JOIN_(a, b) a##b
#define SPARSEOPS_JOIN(a, b) SPARSEOPS_JOIN_(a, b)

}  // namespace

namespace sparseops::detail {
extern const StreamTable SPARSEOPS_JOIN(stream_, SPARSEOPS_ISA_NAME);
const StreamTable SPARSEOPS_JOIN(stream_, SPARSEOPS_ISA_NAME) = {
    norm_table<float>,
    norm_table<double>,
    {any_with<std::uint16_t>, select<std::uint16_t>},
    {any_with<std::uint32_t>, select<std::uint32_t>},
    {any_with<std::uint64_t>, select<std::uint64_t>},
    draw_bits,
    floats_from_float16,
    floats_to_float16,
    floats_from_bfloat16,
    floats_to_bfloat16,
};
}  // namespace sparseops::detail
