// SPDX-License-Identifier: BSD-3-Clause
// Compiled once per instruction set with -DSPARSEOPS_ISA_NAME=…; exports its table and nothing else.
#include "kernels.hpp"
#include "simd.hpp"
#include "simd_convert.hpp"
#include "simd_math.hpp"
#include "simd_products.hpp"
#include "simd_steps.hpp"

namespace {

template <class T>
void axpy(T a, const T* x, T* y, std::size_t n) {
    const Vec<T> va = splat<Vec<T>>(a);
    each_vector<T>(n, [&](std::size_t i, std::size_t m) { store_m(y + i, m, fma(va, load_m(x + i, m, T(0)), load_m(y + i, m, T(0)))); });
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

// The first of the largest z; a NaN is larger than none, and nothing is larger than a NaN in front.
template <class T>
SPARSEOPS_INLINE std::size_t first_largest(const T* z, std::size_t k) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>;
    std::size_t top = 0;
    if (k > L) {
        V most = load<V>(z), odd = most - most;
        for (std::size_t j = L; j < k; j += L) {
            const V x = load<V>(z + (j + L <= k ? j : k - L));
            most = max_of(most, x);
            odd = odd + (x - x);
        }
        T lane[L], largest;
        store(lane, most);
        largest = lane[0];
        for (const T x : lane) largest = x > largest ? x : largest;
        if (sum_lanes(odd) == T(0)) {
            for (; top + L <= k; top += L) {
                std::uint32_t any = 0;
                for (std::size_t j = 0; j < L; ++j) any |= z[top + j] == largest;
                if (any) break;
            }
            while (!(z[top] == largest)) ++top;
            return top;
        }
    }
    for (std::size_t j = 1; j < k; ++j) {
        if (z[j] > z[top]) top = j;
    }
    return top;
}

template <class T>
void softmax_nll(const T* z, std::size_t k, T* nll, T* probability) {
    typedef Vec<T> V;
    const std::size_t top = first_largest(z, k);
    const T largest = z[top];
    const V vmax = splat<V>(largest);
    Vec<double> sum{};                         // a million terms in float would be off by 1e-3 of their sum
    T* const terms = nll ? nll : probability;  // where e^(z - largest) waits for its sum, not over z if z is still needed
    // The largest term is left out of the sum and put back by log1p: a probability near 1 keeps its digits.
    each_vector<T>(k, [&](std::size_t i, std::size_t m) {
        T e[lanes<T>];
        store(e, exp_nonpositive<T>(load_m(z + i, m, T(-__builtin_inf())) - vmax));
        if (probability) std::memcpy(terms + i, e, m * sizeof(T));
        if (top >= i && top < i + m) e[top - i] = T(0);
        for (std::size_t j = 0; j < lanes<T>; j += lanes<double>) sum = sum + load_doubles(e + j, lanes<double>);
    });
    const double rest = sum_lanes(sum);
    // log(1 + rest) as two Ts: one is a float's rounding off, the same way for all children, so their probabilities would not sum to 1.
    T log_high = log1p_unit<T, T>(static_cast<T>(rest)), log_low = T(0), share = T(1) / (T(1) + static_cast<T>(rest));
    if (rest > 1) {  // never of two children, which pair_loss does the same way
        const double log = log1p_any(rest);
        log_high = static_cast<T>(log);
        log_low = static_cast<T>(log - static_cast<double>(log_high));
        share = static_cast<T>(1 / (1 + rest));
    }
    const V high = splat<V>(log_high), low = splat<V>(log_low), inverse = splat<V>(share);
    each_vector<T>(k, [&](std::size_t i, std::size_t m) {
        const V x = load_m(z + i, m, T(0)), e = probability ? load_m(terms + i, m, T(0)) : V{};
        if (nll) store_m(nll + i, m, ((vmax - x) + low) + high);
        if (probability) store_m(probability + i, m, e * inverse);
    });
}

template <class T>
std::size_t first_not_finite(const T* x, std::size_t n) {
    typedef Vec<T> V;
    constexpr std::size_t L = lanes<T>, step = 16 * L;
    std::size_t at = 0;
    for (; at + step <= n; at += step) {  // x - x is 0 for a finite x and NaN for the others
        V a{}, b{};
        for (std::size_t i = 0; i < step; i += 2 * L) {
            const V u = load<V>(x + at + i), v = load<V>(x + at + i + L);
            a = a + (u - u);
            b = b + (v - v);
        }
        const T sum = sum_lanes(a + b);
        if (sum != T(0)) break;
    }
    if (n >= L && n - at < step) {  // the rest, some of it twice
        V a{};
        for (std::size_t i = at; i < n; i += L) {
            const V v = load<V>(x + (i + L <= n ? i : n - L));
            a = a + (v - v);
        }
        if (sum_lanes(a) == T(0)) return n;
    }
    for (; at < n; ++at) {
        if (!(x[at] - x[at] == T(0))) return at;
    }
    return n;
}

// ---- optimizer steps ----------------------------------------------------------------------------------------

template <class T>
void adagrad(const T* grad, T lr, T eps, T decay, T* s, T* w, std::size_t n) {
    if (n == 1) {  // a bias
        const T g = fma(decay, *w, *grad);
        *s = fma(g, g, *s);
        *w = adagrad_step(*w, *s, g, lr, eps);
        return;
    }
    adagrad_row(grad, lr, eps, decay, InPlace<T>{s}, InPlace<T>{w}, n);
}

template <class T>
void rowwise_adagrad(const T* grad, T lr, T eps, T decay, T* s, T* w, std::size_t n) {
    rowwise_adagrad_row(grad, lr, eps, decay, s, InPlace<T>{w}, n);
}

template <class T>
void adam(const T* grad, T step, T root, T beta1, T rest1, T beta2, T rest2, T eps, T decay, T* m1, T* m2, T* w, std::size_t n) {
    adam_row(grad, step, root, beta1, rest1, beta2, rest2, eps, decay, m1, m2, InPlace<T>{w}, n);
}

template <class T>
constexpr sparseops::detail::Kernels<T> table = {
    dots<T>,      path_dots<T>,   weighted_sum<T>,     weighted_sums<T>, outer<T>,           axpy<T>, logistic_loss<T>, log_sigmoid<T>,
    pair_loss<T>, softmax_nll<T>, first_not_finite<T>, adagrad<T>,       rowwise_adagrad<T>, adam<T>,
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
