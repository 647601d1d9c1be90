// SPDX-License-Identifier: BSD-3-Clause
// The optimiser steps of every table against long double, as in test_kernels.cpp.
#include <cmath>
#include <string>

#include "check.hpp"
#include "exact.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;

template <class T>
void test_adagrad(Random& random) {
    const T lr = T(0.1), eps = T(1e-3), decay = T(0.01);
    const Long u = unit<T>;
    for (const std::size_t n : sizes()) {
        const auto grad = random.vector<T>(n), s = random.vector<T>(n, 0.01, 1), w = random.vector<T>(n);
        Exact exact, weights;
        for (std::size_t i = 0; i < n; ++i) {
            const Long wi = static_cast<Long>(w[i]), pull = static_cast<Long>(decay) * wi, g = static_cast<Long>(grad[i]) + pull;
            const Long g_error = u * (std::fabs(pull) + std::fabs(g)), total = static_cast<Long>(s[i]) + g * g;
            const Long total_error = 2 * std::fabs(g) * g_error + u * (g * g + total);
            const Long step = static_cast<Long>(lr) * g / (std::sqrt(total) + static_cast<Long>(eps));
            const Long below = std::sqrt(total) + static_cast<Long>(eps);
            const Long step_error = static_cast<Long>(lr) * g_error / below + std::fabs(step) * (total_error / (2 * total) + 5 * u);
            exact.add(total, total_error);
            weights.add(wi - step, step_error + u * std::fabs(wi - step));
        }
        exact.value.insert(exact.value.end(), weights.value.begin(), weights.value.end());
        exact.bound.insert(exact.bound.end(), weights.bound.begin(), weights.bound.end());
        compare<T>("adagrad of " + std::to_string(n), exact, [&](const Kernels<T>& k) {
            std::vector<T> out = s;
            out.insert(out.end(), w.begin(), w.end());
            k.adagrad(grad.data(), lr, eps, decay, out.data(), out.data() + n, n);
            return out;
        });
    }
}

template <class T>
void test_rowwise_adagrad(Random& random) {
    const T lr = T(0.1), eps = T(1e-3);
    const Long u = unit<T>;
    for (const std::size_t n : sizes()) {
        if (n == 0) continue;
        const auto grad = random.vector<T>(n), w = random.vector<T>(n);
        for (const T decay : {T(0), T(0.01)}) {
            const T s = random.vector<T>(1, 0.01, 1)[0];
            std::vector<Long> g, g_error;
            Long square = 0, square_error = 0;
            for (std::size_t i = 0; i < n; ++i) {
                const Long pull = static_cast<Long>(decay) * static_cast<Long>(w[i]);
                g.push_back(static_cast<Long>(grad[i]) + pull);
                g_error.push_back(u * (std::fabs(pull) + std::fabs(g[i])));
                square += g[i] * g[i];
                square_error += 2 * std::fabs(g[i]) * g_error[i];
            }
            const Long mean = square / static_cast<Long>(n), total = static_cast<Long>(s) + mean;
            const Long total_error = square_error / static_cast<Long>(n) + (dot_roundings<T>(n) + 1) * u * mean + u * total;
            const Long below = std::sqrt(total) + static_cast<Long>(eps), step = static_cast<Long>(lr) / below;
            const Long relative = total_error / (2 * total) + 4 * u;
            Exact exact;
            exact.add(total, total_error);
            for (std::size_t i = 0; i < n; ++i) {
                const Long by = step * g[i], left = static_cast<Long>(w[i]) - by;
                exact.add(left, step * g_error[i] + std::fabs(by) * (relative + u) + u * std::fabs(left));
            }
            compare<T>("rowwise_adagrad of " + std::to_string(n), exact, [&](const Kernels<T>& k) {
                std::vector<T> out{s};
                out.insert(out.end(), w.begin(), w.end());
                k.rowwise_adagrad(grad.data(), lr, eps, decay, out.data(), out.data() + 1, n);
                return out;
            });
        }
    }
}

template <class T>
void test_adam(Random& random) {
    const T step = T(0.02), root = T(1.7), beta1 = T(0.9), beta2 = T(0.99), eps = T(1e-3), decay = T(0.01);
    const Long u = unit<T>, b1 = static_cast<Long>(beta1), b2 = static_cast<Long>(beta2);
    for (const std::size_t n : sizes()) {
        const auto grad = random.vector<T>(n), m = random.vector<T>(n), v = random.vector<T>(n, 0.01, 1), w = random.vector<T>(n);
        Exact parts[3];
        for (std::size_t i = 0; i < n; ++i) {
            const Long wi = static_cast<Long>(w[i]), pull = static_cast<Long>(decay) * wi, g = static_cast<Long>(grad[i]) + pull;
            const Long g_error = u * (std::fabs(pull) + std::fabs(g));
            const Long m_old = b1 * static_cast<Long>(m[i]), m_new = (1 - b1) * g, first = m_old + m_new;
            const Long first_error = u * (std::fabs(m_old) + 2 * std::fabs(m_new) + std::fabs(first)) + (1 - b1) * g_error;
            const Long v_old = b2 * static_cast<Long>(v[i]), v_new = (1 - b2) * g * g, second = v_old + v_new;
            const Long second_error = u * (v_old + 3 * v_new + second) + (1 - b2) * 2 * std::fabs(g) * g_error;
            const Long below = std::sqrt(second) * static_cast<Long>(root) + static_cast<Long>(eps),
                       by = static_cast<Long>(step) * first / below;
            const Long by_error = static_cast<Long>(step) * first_error / below + std::fabs(by) * (second_error / (2 * second) + 5 * u);
            parts[0].add(first, first_error);
            parts[1].add(second, second_error);
            parts[2].add(wi - by, by_error + u * std::fabs(wi - by));
        }
        Exact exact;
        for (const Exact& part : parts) {
            for (std::size_t i = 0; i < n; ++i) exact.add(part.value[i], part.bound[i]);
        }
        compare<T>("adam of " + std::to_string(n), exact, [&](const Kernels<T>& k) {
            std::vector<T> out = m;
            out.insert(out.end(), v.begin(), v.end());
            out.insert(out.end(), w.begin(), w.end());
            T* const m_out = out.data();
            k.adam(grad.data(), step, root, beta1, T(1) - beta1, beta2, T(1) - beta2, eps, decay, m_out, m_out + n, m_out + 2 * n, n);
            return out;
        });
    }
}

template <class T>
void test_all() {
    Random random(20240607);
    test_adagrad<T>(random);
    test_rowwise_adagrad<T>(random);
    test_adam<T>(random);
}

}  // namespace

int main() {
    check(!tables().empty(), "there should be at least one kernel table");
    test_all<float>();
    test_all<double>();
    return finish("kernels of optimiser steps");
}
