// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "kernels.hpp"
#include "simd.hpp"
#include "simd_products.hpp"

namespace {

template <class T>
void axpy(T a, const T* x, T* y, std::size_t n) {
    const Vec<T> va = splat<Vec<T>>(a);
    each_vector<T>(n, [&](std::size_t i, std::size_t m) { store_m(y + i, m, fma(va, load_m(x + i, m, T(0)), load_m(y + i, m, T(0)))); });
}

// ---- exp, log1p, log ----------------------------------------------------------------------------------------
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

// ---- node distributions -------------------------------------------------------------------------------------

template <class T>
void logistic_loss(const T* z, const T* target, std::size_t n, T* loss, T* delta) {
    typedef Vec<T> V;
    each_vector<T>(n, [&](std::size_t i, std::size_t m) {
        const V x = load_m(z + i, m, T(0)), t = load_m(target + i, m, T(0)), zero{}, one = splat<V>(T(1));
        const V u = exp_nonpositive<T>(min_of(x, zero - x));
        store_m(loss + i, m, (max_of(x, zero) - t * x) + log1p_unit<T>(u));
        if (delta) {
            const V s = u / (one + u);  // the smaller of σ(z), σ(-z)
            store_m(delta + i, m, select_less(x, zero, s - t, (one - t) - s));
        }
    });
}

template <class T>
void log_sigmoid(const T* z, std::size_t n, T* log_p0, T* log_p1) {
    typedef Vec<T> V;
    each_vector<T>(n, [&](std::size_t i, std::size_t m) {
        const V x = load_m(z + i, m, T(0)), zero{};
        const V l = log1p_unit<T>(exp_nonpositive<T>(min_of(x, zero - x)));
        store_m(log_p1 + i, m, min_of(x, zero) - l);
        store_m(log_p0 + i, m, min_of(zero - x, zero) - l);
    });
}

// Pair by pair what softmax_nll does with two logits, and path_loss.hpp with its probabilities: the same bytes.
template <class T>
void pair_loss(const T* z, const T* target, std::size_t n, T* loss, T* delta) {
    typedef Vec<T> V;
    each_vector<T>(n, [&](std::size_t i, std::size_t m) {
        T first[lanes<T>] = {}, second[lanes<T>] = {};
        for (std::size_t j = 0; j < m; ++j) {
            first[j] = z[2 * (i + j)];
            second[j] = z[2 * (i + j) + 1];
        }
        const V a = load<V>(first), b = load<V>(second), t = load_m(target + i, m, T(0)), one = splat<V>(T(1)), half = splat<V>(T(0.5));
        const V most = select_less(a, b, b, a), e = exp_nonpositive<T>(select_less(a, b, a, b) - most), inverse = one / (one + e);
        store_m(loss + i, m, (most - select_less(t, half, a, b)) + log1p_unit<T>(e));
        if (!delta) return;
        const V high = ((most - most) + one) * inverse, low = e * inverse;
        const V p = select_less(a, b, low, high), q = select_less(a, b, high, low);
        const V own = select_less(t, half, p, q), other = select_less(t, half, q, p);
        const V change = select_less(own, half, own - one, -other);  // 1 - p from the other where p is near 1
        store(first, select_less(t, half, change, other));
        store(second, select_less(t, half, other, change));
        for (std::size_t j = 0; j < m; ++j) {
            delta[2 * (i + j)] = first[j];
            delta[2 * (i + j) + 1] = second[j];
        }
    });
}

template <class T>
void softmax_nll(const T* z, std::size_t k, T* nll, T* probability) {
    typedef Vec<T> V;
    std::size_t top = 0;
    for (std::size_t j = 1; j < k; ++j) {
        if (z[j] > z[top]) top = j;
    }
    const T largest = z[top];
    const V vmax = splat<V>(largest);
    V sum{};
    T* const terms = nll ? nll : probability;  // where e^(z - largest) waits for its sum, not over z if z is still needed
    // The largest term is left out of the sum and put back by log1p: a probability near 1 keeps its digits.
    each_vector<T>(k, [&](std::size_t i, std::size_t m) {
        T e[lanes<T>];
        store(e, exp_nonpositive<T>(load_m(z + i, m, T(-__builtin_inf())) - vmax));
        if (probability) std::memcpy(terms + i, e, m * sizeof(T));
        if (top >= i && top < i + m) e[top - i] = T(0);
        sum = sum + load<V>(e);
    });
    const T rest = sum_lanes(sum);
    const V vlog = splat<V>(log1p_any(rest)), inverse = splat<V>(T(1) / (T(1) + rest));
    each_vector<T>(k, [&](std::size_t i, std::size_t m) {
        const V x = load_m(z + i, m, T(0)), e = probability ? load_m(terms + i, m, T(0)) : V{};
        if (nll) store_m(nll + i, m, (vmax - x) + vlog);
        if (probability) store_m(probability + i, m, e * inverse);
    });
}

template <class T>
std::size_t first_not_finite(const T* x, std::size_t n) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>, stretch = 16 * L;
    std::size_t at = 0;
    for (; at + stretch <= n; at += stretch) {  // x - x is 0 for a finite x and NaN for the others
        V a{}, b{};
        for (std::size_t i = 0; i < stretch; i += 2 * L) {
            const V u = load<V>(x + at + i), v = load<V>(x + at + i + L);
            a = a + (u - u);
            b = b + (v - v);
        }
        const T sum = sum_lanes(a + b);
        if (sum != T(0)) break;
    }
    for (; at + L <= n; at += L) {
        const V v = load<V>(x + at);
        if (sum_lanes(v - v) != T(0)) break;
    }
    for (; at < n; ++at) {
        if (!(x[at] - x[at] == T(0))) return at;
    }
    return n;
}

// ---- optimiser steps ----------------------------------------------------------------------------------------

#if defined(__AVX512F__)
SPARSEOPS_INLINE f32x16 square_root(f32x16 x) { return (f32x16)_mm512_sqrt_ps((__m512)x); }
SPARSEOPS_INLINE f64x8 square_root(f64x8 x) { return (f64x8)_mm512_sqrt_pd((__m512d)x); }
#elif defined(__AVX2__)
SPARSEOPS_INLINE f32x8 square_root(f32x8 x) { return (f32x8)_mm256_sqrt_ps((__m256)x); }
SPARSEOPS_INLINE f64x4 square_root(f64x4 x) { return (f64x4)_mm256_sqrt_pd((__m256d)x); }
#else
SPARSEOPS_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
SPARSEOPS_INLINE double square_root(double x) { return __builtin_sqrt(x); }
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

template <class T>
void adagrad(const T* grad, T lr, T eps, T decay, T* s, T* w, std::size_t n) {
    typedef Vec<T> V;
    each_vector<T>(n, [&](std::size_t i, std::size_t m) {
        const V weight = load_m(w + i, m, T(0));
        const V g = fma(splat<V>(decay), weight, load_m(grad + i, m, T(0)));
        const V total = fma(g, g, load_m(s + i, m, T(0)));
        store_m(s + i, m, total);
        store_m(w + i, m, weight - splat<V>(lr) * g / (square_root(total) + splat<V>(eps)));
    });
}

template <class T>
void adam(const T* grad, T step, T root, T beta1, T rest1, T beta2, T rest2, T eps, T decay, T* m1, T* m2, T* w, std::size_t n) {
    typedef Vec<T> V;
    each_vector<T>(n, [&](std::size_t i, std::size_t m) {
        const V weight = load_m(w + i, m, T(0));
        const V g = fma(splat<V>(decay), weight, load_m(grad + i, m, T(0)));
        const V first = fma(splat<V>(beta1), load_m(m1 + i, m, T(0)), splat<V>(rest1) * g);
        const V second = fma(splat<V>(beta2), load_m(m2 + i, m, T(0)), splat<V>(rest2) * (g * g));
        store_m(m1 + i, m, first);
        store_m(m2 + i, m, second);
        store_m(w + i, m, weight - splat<V>(step) * first / fma(square_root(second), splat<V>(root), splat<V>(eps)));
    });
}

template <class T>
constexpr sparseops::detail::Kernels<T> table = {
    dots<T>,        path_dots<T>, weighted_sum<T>, weighted_sums<T>,    outer<T>,   axpy<T>, logistic_loss<T>,
    log_sigmoid<T>, pair_loss<T>, softmax_nll<T>,  first_not_finite<T>, adagrad<T>, adam<T>,
};

#define SPARSEOPS_TEXT_(x) #x
#define SPARSEOPS_TEXT(x) SPARSEOPS_TEXT_(x)
#define SPARSEOPS_JOIN_(a, b) a##b
#define SPARSEOPS_JOIN(a, b) SPARSEOPS_JOIN_(a, b)

}  // namespace

namespace sparseops::detail {
extern const KernelTable SPARSEOPS_JOIN(kernels_, SPARSEOPS_ISA_NAME);
const KernelTable SPARSEOPS_JOIN(kernels_, SPARSEOPS_ISA_NAME) = {SPARSEOPS_TEXT(SPARSEOPS_ISA_NAME), table<float>, table<double>};
}  // namespace sparseops::detail
