// SPDX-License-Identifier: BSD-3-Clause
// The steps of optimizers on one row, however it is stored.
//
// Included by kernels_isa.cpp and half_isa.cpp, under the rules of simd.hpp.
#pragma once

#include "simd.hpp"
#include "simd_math.hpp"

namespace {

// A row, or its state, that a step changes where it lies. Others have the same functions; what rows store may lie over grad. A state
// says how its vectors are gone through, and what each is stored by.
template <class T>
struct InPlace {
    struct Nothing {};
    T* w;

    template <class F>
    SPARSEOPS_INLINE void each(const InPlace&, std::size_t n, F f) {
        each_vector<T>(n, [&](std::size_t i, std::size_t m) __attribute__((always_inline)) { f(i, m, Nothing{}); });
    }
    SPARSEOPS_INLINE Vec<T> load(const InPlace& row, std::size_t i, std::size_t m) { return load_m(row.w + i, m, T(0)); }
    SPARSEOPS_INLINE void store(const InPlace& row, std::size_t i, std::size_t m, Vec<T> v, Nothing = {}) { store_m(row.w + i, m, v); }
};

template <class V, class T>
SPARSEOPS_INLINE V adagrad_step(V weight, V total, V g, T lr, T eps) {
    return weight - splat<V>(lr) * g / (square_root(total) + splat<V>(eps));
}
template <class T, class State, class Row>
SPARSEOPS_INLINE void adagrad_row(const T* grad, T lr, T eps, T decay, State s, Row row, std::size_t n) {
    typedef Vec<T> V;
    State::each(s, n, [&](std::size_t i, std::size_t m, const auto& by) __attribute__((always_inline)) {
        const V weight = Row::load(row, i, m);
        const V g = fma(splat<V>(decay), weight, load_m(grad + i, m, T(0)));
        const V total = fma(g, g, State::load(s, i, m));
        State::store(s, i, m, total, by);
        Row::store(row, i, m, adagrad_step(weight, total, g, lr, eps));
    });
}

template <class T, class Row>
SPARSEOPS_INLINE void rowwise_adagrad_row(const T* grad, T lr, T eps, T decay, T* s, Row row, std::size_t n) {
    typedef Vec<T> V;
    const auto gradient = [&](std::size_t i, std::size_t m) __attribute__((always_inline)) {
        return fma(splat<V>(decay), Row::load(row, i, m), load_m(grad + i, m, T(0)));
    };
    constexpr std::size_t L = lanes<T>;
    const auto add = [&](V sum, std::size_t i) __attribute__((always_inline)) {
        const V g = gradient(i, n - i < L ? n - i : L);
        return fma(g, g, sum);
    };
    V even{}, odd{};
    std::size_t i = 0;
    for (; i + L < n; i += 2 * L) {
        even = add(even, i);
        odd = add(odd, i + L);
    }
    if (i < n) even = add(even, i);
    *s += sum_lanes(even + odd) / static_cast<T>(n);
    constexpr T most = static_cast<T>(sizeof(T) == 4 ? 0x1.fffffep127 : 0x1.fffffffffffffp1023);
    const T size = lr / (square_root(*s) + eps);
    const V step = splat<V>(size < most ? -size : -most);  // infinity times a gradient of 0 would be NaN
    each_vector<T>(n, [&](std::size_t i, std::size_t m) { Row::store(row, i, m, fma(step, gradient(i, m), Row::load(row, i, m))); });
}

template <class T, class Row>
SPARSEOPS_INLINE void adam_row(const T* grad, T step, T root, T beta1, T rest1, T beta2, T rest2, T eps, T decay, T* m1, T* m2, Row row,
                               std::size_t n) {
    typedef Vec<T> V;
    each_vector<T>(n, [&](std::size_t i, std::size_t m) {
        const V weight = Row::load(row, i, m);
        const V g = fma(splat<V>(decay), weight, load_m(grad + i, m, T(0)));
        const V first = fma(splat<V>(beta1), load_m(m1 + i, m, T(0)), splat<V>(rest1) * g);
        const V second = fma(splat<V>(beta2), load_m(m2 + i, m, T(0)), splat<V>(rest2) * (g * g));
        store_m(m1 + i, m, first);
        store_m(m2 + i, m, second);
        Row::store(row, i, m, weight - splat<V>(step) * first / fma(square_root(second), splat<V>(root), splat<V>(eps)));
    });
}

}  // namespace
