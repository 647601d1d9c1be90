// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "kernels_stream.hpp"
#include "prefetch.hpp"
#include "simd.hpp"
#include "simd_convert.hpp"
#include "simd_items.hpp"
#include "simd_math.hpp"
#include "simd_philox.hpp"

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

template <class Term, bool Drop, bool Far>
SPARSEOPS_INLINE Vec<double> measure_one(const float* x, std::size_t n, Vec<float> threshold) {
    Vec<double> p{}, q{};
    each_vector<float>(n, [&](std::size_t i, std::size_t m) {
        look_ahead<Far>(x + i);
        const Doubles d = widen(dropped<Drop>(load_m(x + i, m, 0.0f), threshold));
        p = Term::join(p, d.low);
        q = Term::join(q, d.high);
    });
    return Term::combine(p, q);
}
template <class Term, bool Drop, bool Far>
SPARSEOPS_INLINE Vec<double> measure_one(const double* x, std::size_t n, Vec<double> threshold) {
    Vec<double> p{}, q{};
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        look_ahead<Far>(x + i);
        look_ahead<Far>(x + i + 8);
        p = Term::join(p, dropped<Drop>(load<Vec<double>>(x + i), threshold));
        q = Term::join(q, dropped<Drop>(load<Vec<double>>(x + i + 8), threshold));
    }
    if (i < n) p = Term::join(p, dropped<Drop>(load_m(x + i, n - i < 8 ? n - i : 8, 0.0), threshold));
    if (i + 8 < n) q = Term::join(q, dropped<Drop>(load_m(x + i + 8, n - i - 8, 0.0), threshold));
    return Term::combine(p, q);
}

// Four segments at a time, whose lanes are joined together.
template <class Term, bool Drop, bool Far, class T>
SPARSEOPS_INLINE void measure_segments(const T* x, const std::size_t* offset, std::size_t count, Vec<T> limit, double* out) {
    for (std::size_t i = 0; i < count; i += 4) {
        Vec<double> v[4];
        for (std::size_t r = 0; r < 4; ++r) {  // beyond the last: an empty segment
            const std::size_t at = i + r < count ? i + r : count - 1, from = offset[at];
            v[r] = measure_one<Term, Drop, Far>(x + from, i + r < count ? offset[at + 1] - from : 0, limit);
        }
        double joined[4];
        Term::join_lanes(v, joined);
        std::memcpy(out + i, joined, (count - i < 4 ? count - i : 4) * sizeof(double));
    }
}
template <class Term, class T>
void measure(const T* x, const std::size_t* offset, std::size_t count, T threshold, double* out) {
    const Vec<T> limit = splat<Vec<T>>(threshold);
    each_case(offset, count, threshold,
              [&](auto drop, auto far) { measure_segments<Term, drop.value, far.value>(x, offset, count, limit, out); });
}

SPARSEOPS_INLINE Vec<float> times(Vec<float> x, Vec<double> low, Vec<double> high) {
    const Doubles d = widen(x);
    return narrow({d.low * low, d.high * high});
}

// out = x times the factors f, entry by entry.
template <bool Drop, bool Far>
SPARSEOPS_INLINE void scale_run(const float* x, std::size_t n, Vec<float> threshold, const double* f, float* out) {
    each_vector<float>(n, [&](std::size_t i, std::size_t m) {
        look_ahead<Far>(x + i, out + i);
        store_m(out + i, m,
                times(dropped<Drop>(load_m(x + i, m, 0.0f), threshold), load<Vec<double>>(f + i), load<Vec<double>>(f + i + 8)));
    });
}
template <bool Drop, bool Far>
SPARSEOPS_INLINE void scale_run(const double* x, std::size_t n, Vec<double> threshold, const double* f, double* out) {
    each_vector<double>(n, [&](std::size_t i, std::size_t m) {
        look_ahead<Far>(x + i, out + i);
        store_m(out + i, m, dropped<Drop>(load_m(x + i, m, 0.0), threshold) * load<Vec<double>>(f + i));
    });
}

// One vector of x times f.
template <bool Drop>
SPARSEOPS_INLINE Vec<float> scaled(Vec<float> x, Vec<float> threshold, Vec<double> f) {
    return times(dropped<Drop>(x, threshold), f, f);
}
template <bool Drop>
SPARSEOPS_INLINE Vec<double> scaled(Vec<double> x, Vec<double> threshold, Vec<double> f) {
    return dropped<Drop>(x, threshold) * f;
}

// A segment of a vector at least is whole vectors, the last of which ends with it and is read before anything is written. Shorter
// ones wait for each other, and their factors are laid out as one run: a masked store would hold up the next segment's loads.
template <class T, bool Drop, bool Far>
SPARSEOPS_INLINE void scale_segments(const T* x, const std::size_t* offset, std::size_t count, Vec<T> limit, const double* factor, T* out) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>, run = 512;
    double f[run + L + 8];
    std::size_t from = offset[0], at = from;
    const auto flush = [&] {
        for (std::size_t j = at - from; j % 16; ++j) f[j] = 1;  // what a last partial vector reads beyond
        scale_run<Drop, Far>(x + from, at - from, limit, f, out + from);
    };
    for (std::size_t i = 0; i < count; ++i) {
        const Vec<double> own = splat<Vec<double>>(factor[i]);
        const std::size_t end = offset[i + 1], n = end - at;
        if (n < L) {
            for (std::size_t j = 0; j < n; j += 8) store(f + (at - from) + j, own);
            at = end;
            if (at - from < run) continue;
        }
        if (at > from) flush();
        if (at < end) {
            const V last = load<V>(x + end - L);
            for (; at + L < end; at += L) {
                look_ahead<Far>(x + at, out + at);
                store(out + at, scaled<Drop>(load<V>(x + at), limit, own));
            }
            look_ahead<Far>(x + at, out + at);
            store(out + end - L, scaled<Drop>(last, limit, own));
        }
        from = at = end;
    }
    if (at > from) flush();
}
template <class T>
void scale(const T* x, const std::size_t* offset, std::size_t count, T threshold, const double* factor, T* out) {
    const Vec<T> limit = splat<Vec<T>>(threshold);
    each_case(offset, count, threshold,
              [&](auto drop, auto far) { scale_segments<T, drop.value, far.value>(x, offset, count, limit, factor, out); });
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

SPARSEOPS_INLINE Vec<double> widened(const double* p, std::size_t m) { return load_m(p, m, 0.0); }
SPARSEOPS_INLINE Doubles widened(const float* p, std::size_t m) { return widen(load_m(p, m, 0.0f)); }
// toward · x · g, and factor · (g - along · x)
SPARSEOPS_INLINE Vec<double> add_along(Vec<double> sum, Vec<double> x, Vec<double> g, Vec<double> toward) { return sum + x * toward * g; }
SPARSEOPS_INLINE Doubles add_along(Doubles sum, Doubles x, Doubles g, Vec<double> toward) {
    return {add_along(sum.low, x.low, g.low, toward), add_along(sum.high, x.high, g.high, toward)};
}
SPARSEOPS_INLINE Vec<double> projected(Vec<double> x, Vec<double> g, Vec<double> along, Vec<double> factor) {
    return factor * (g - x * along);
}
SPARSEOPS_INLINE Vec<float> projected(Doubles x, Doubles g, Vec<double> along, Vec<double> factor) {
    return narrow({projected(x.low, g.low, along, factor), projected(x.high, g.high, along, factor)});
}
SPARSEOPS_INLINE double sum_all(Vec<double> v) { return sum_lanes(v); }
SPARSEOPS_INLINE double sum_all(Doubles v) { return sum_lanes(v.low + v.high); }

template <bool Far, class T>
SPARSEOPS_INLINE void project_segments(const T* x, const T* g, const std::size_t* offset, std::size_t count, const double* toward,
                                       const double* factor, T* out) {
    for (std::size_t i = 0; i < count; ++i) {
        const std::size_t at = offset[i], n = offset[i + 1] - at;
        if (toward[i] == 0) {
            if (out != g) std::memcpy(out + at, g + at, n * sizeof(T));
            continue;
        }
        const Vec<double> t = splat<Vec<double>>(toward[i]), f = splat<Vec<double>>(factor[i]);
        decltype(widened(x, n)) sum{};
        each_vector<T>(n, [&](std::size_t j, std::size_t m) {
            look_ahead<Far>(x + at + j);
            look_ahead<Far>(g + at + j, out + at + j);
            sum = add_along(sum, widened(x + at + j, m), widened(g + at + j, m), t);
        });
        const Vec<double> along = splat<Vec<double>>(toward[i] * sum_all(sum));
        each_vector<T>(n, [&](std::size_t j, std::size_t m) {
            store_m(out + at + j, m, projected(widened(x + at + j, m), widened(g + at + j, m), along, f));
        });
    }
}
template <class T>
void project(const T* x, const T* g, const std::size_t* offset, std::size_t count, const double* toward, const double* factor, T* out) {
    if (count > 1)
        project_segments<true>(x, g, offset, count, toward, factor, out);
    else
        project_segments<false>(x, g, offset, count, toward, factor, out);
}

// m elements of a vector of doubles that starts at p, and its store.
SPARSEOPS_INLINE Vec<double> load_d(const double* p, std::size_t m) { return m >= 8 ? load<Vec<double>>(p) : load_n(p, m, 0.0); }
SPARSEOPS_INLINE void store_d(double* p, std::size_t m, Vec<double> v) {
    if (m >= 8)
        store(p, v);
    else
        store_n(p, m, v);
}

template <class Term>
SPARSEOPS_INLINE void measure_row(const float* x, std::size_t cols, Vec<float> threshold, double* sum) {
    each_vector<float>(cols, [&](std::size_t j, std::size_t m) {
        const Doubles d = widen(drop_small(load_m(x + j, m, 0.0f), threshold));
        store_d(sum + j, m, Term::join(load_d(sum + j, m), d.low));
        if (m > 8) store_d(sum + j + 8, m - 8, Term::join(load_d(sum + j + 8, m - 8), d.high));
    });
}
template <class Term>
SPARSEOPS_INLINE void measure_row(const double* x, std::size_t cols, Vec<double> threshold, double* sum) {
    each_vector<double>(cols, [&](std::size_t j, std::size_t m) {
        store_m(sum + j, m, Term::join(load_m(sum + j, m, 0.0), drop_small(load_m(x + j, m, 0.0), threshold)));
    });
}

template <class Term, class T>
void measure_columns(const T* x, std::size_t rows, std::size_t cols, T threshold, double* sum) {
    const Vec<T> limit = splat<Vec<T>>(threshold);
    for (std::size_t i = 0; i < rows; ++i) measure_row<Term>(x + i * cols, cols, limit, sum);
}

SPARSEOPS_INLINE void scale_row(const float* x, std::size_t cols, Vec<float> threshold, const double* factor, float* out) {
    each_vector<float>(cols, [&](std::size_t j, std::size_t m) {
        const Vec<double> low = load_d(factor + j, m), high = m > 8 ? load_d(factor + j + 8, m - 8) : Vec<double>{};
        store_m(out + j, m, times(drop_small(load_m(x + j, m, 0.0f), threshold), low, high));
    });
}
SPARSEOPS_INLINE void scale_row(const double* x, std::size_t cols, Vec<double> threshold, const double* factor, double* out) {
    each_vector<double>(cols, [&](std::size_t j, std::size_t m) {
        store_m(out + j, m, drop_small(load_m(x + j, m, 0.0), threshold) * load_m(factor + j, m, 0.0));
    });
}

template <class T>
void scale_columns(const T* x, std::size_t rows, std::size_t cols, T threshold, const double* factor, T* out) {
    const Vec<T> limit = splat<Vec<T>>(threshold);
    for (std::size_t i = 0; i < rows; ++i) scale_row(x + i * cols, cols, limit, factor, out + i * cols);
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
