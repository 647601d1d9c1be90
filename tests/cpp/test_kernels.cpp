// SPDX-License-Identifier: BSD-3-Clause
// Every kernel of every table against long double, within bounds that follow from its roundings; all tables with
// fused multiply-add give the same bytes. Optimiser steps: test_kernels_steps.cpp.
#include <cmath>
#include <string>

#include "check.hpp"
#include "exact.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;
template <class T>
void test_dots(Random& random) {
    struct Shape {
        std::size_t na, nb;
        bool gather_a, gather_b;
    };
    for (const std::size_t n : sizes()) {
        for (const Shape s : {Shape{1, 1, false, false}, Shape{1, 4, false, true}, Shape{1, 19, false, true}, Shape{3, 7, true, false},
                              Shape{2, 8, true, true}, Shape{5, 13, false, false}}) {
            const std::size_t stride = n + 3, out_stride = s.nb + 2;
            const auto a = random.vector<T>(stride * 6), b = random.vector<T>(stride * 24);
            const auto ia = random.indices<std::int32_t>(s.na, 6), ib = random.indices<std::int32_t>(s.nb, 24);
            const Rows<T> rows_a{a.data(), stride, s.gather_a ? ia.data() : nullptr},
                rows_b{b.data(), stride, s.gather_b ? ib.data() : nullptr};
            Exact exact;
            for (std::size_t i = 0; i < s.na; ++i) {
                for (std::size_t j = 0; j < out_stride; ++j) {
                    Long sum = 0, size = 0;
                    for (std::size_t d = 0; d < n && j < s.nb; ++d) {
                        const Long term = static_cast<Long>(rows_a[i][d]) * static_cast<Long>(rows_b[j][d]);
                        sum += term;
                        size += std::fabs(term);
                    }
                    if (j < s.nb)
                        exact.add(sum, dot_roundings<T>(n) * unit<T> * size);
                    else
                        exact.add(7, 0);  // between the rows of the output nothing is written
                }
            }
            compare<T>("dots of " + std::to_string(n), exact, [&](const Kernels<T>& k) {
                std::vector<T> out(s.na * out_stride, T(7));
                k.dots(rows_a, s.na, rows_b, s.nb, n, out.data(), out_stride);
                return out;
            });
            for (const KernelTable* table : tables()) {  // a block of products has the bytes of its products one by one
                const Kernels<T>& k = of<T>(*table);
                std::vector<T> out(s.na * out_stride, T(7)), alone = out;
                k.dots(rows_a, s.na, rows_b, s.nb, n, out.data(), out_stride);
                for (std::size_t i = 0; i < s.na; ++i) {
                    for (std::size_t j = 0; j < s.nb; ++j)
                        k.dots({rows_a[i], stride, nullptr}, 1, {rows_b[j], stride, nullptr}, 1, n, &alone[i * out_stride + j], 1);
                }
                check(same_bytes(alone, out), table->name, " dots of ", n, " should not depend on the shape of the block");
            }
        }
    }
}

template <class T>
void test_weighted_sum(Random& random) {
    for (const std::size_t n : sizes()) {
        for (const std::size_t count : {0u, 1u, 2u, 9u}) {
            const bool gather = (n + count) % 2 == 0, accumulate = (n / 2 + count) % 3 != 0;
            const std::size_t stride = n + 1, weight_stride = n % 3 == 0 ? 3 : 1;
            const auto rows_data = random.vector<T>(stride * 12), weight = random.vector<T>(count * weight_stride + 1),
                       before = random.vector<T>(n);
            const auto index = random.indices<std::int32_t>(count, 12);
            const Rows<T> rows{rows_data.data(), stride, gather ? index.data() : nullptr};
            Exact exact;
            std::vector<T> in_order(n);  // the promise on the order of the sum: what fused multiply-adds one by one give
            for (std::size_t d = 0; d < n; ++d) {
                Long sum = accumulate ? static_cast<Long>(before[d]) : 0, size = std::fabs(sum);
                T chain = accumulate ? before[d] : T(0);
                for (std::size_t j = 0; j < count; ++j) {
                    const Long term = static_cast<Long>(weight[j * weight_stride]) * static_cast<Long>(rows[j][d]);
                    sum += term;
                    size += std::fabs(term);
                    chain = std::fma(weight[j * weight_stride], rows[j][d], chain);
                }
                exact.add(sum, static_cast<Long>(count + 1) * unit<T> * size);
                in_order[d] = chain;
            }
            const auto run = [&](const Kernels<T>& k) {
                std::vector<T> out = before;
                k.weighted_sum(weight.data(), weight_stride, rows, count, n, accumulate, out.data());
                return out;
            };
            compare<T>("weighted_sum of " + std::to_string(count) + " rows of " + std::to_string(n), exact, run);
            for (const KernelTable* table : tables()) {
                if (has_fma(*table)) {
                    check(same_bytes(in_order, run(of<T>(*table))), table->name, " weighted_sum should add in the order of the rows");
                }
            }
        }
    }
}

template <class T>
void test_weighted_sums(Random& random) {
    for (const std::size_t n : sizes()) {
        for (const std::size_t count : {0u, 1u, 9u}) {
            for (const std::size_t n_out : {1u, 4u, 6u, 8u}) {
                const bool gather = (n + count) % 2 == 0, accumulate = (n / 2 + count) % 3 != 0;
                const std::size_t stride = n + 1;
                const auto rows_data = random.vector<T>(stride * 12), weights = random.vector<T>(count * n_out + 1),
                           before = random.vector<T>(n * n_out);
                const auto index = random.indices<std::int32_t>(count, 12);
                const Rows<T> rows{rows_data.data(), stride, gather ? index.data() : nullptr};
                for (const KernelTable* table : tables()) {
                    const Kernels<T>& k = of<T>(*table);
                    std::vector<T> together = before, alone = before;
                    std::vector<const T*> weight(n_out);
                    std::vector<T*> out(n_out);
                    for (std::size_t o = 0; o < n_out; ++o) {
                        weight[o] = weights.data() + o * count;
                        out[o] = together.data() + o * n;
                        k.weighted_sum(weight[o], 1, rows, count, n, accumulate, alone.data() + o * n);
                    }
                    k.weighted_sums(weight.data(), rows, count, n, accumulate, out.data(), n_out);
                    check(same_bytes(alone, together), table->name, " weighted_sums of ", n, " should have the bytes of weighted_sum");
                }
            }
        }
    }
}

template <class T>
void test_axpy(Random& random) {
    for (const std::size_t n : sizes()) {
        const auto x = random.vector<T>(n), y = random.vector<T>(n);
        const T a = static_cast<T>(random.uniform(-2, 2));
        Exact exact;
        for (std::size_t i = 0; i < n; ++i) {
            const Long term = static_cast<Long>(a) * static_cast<Long>(x[i]), sum = term + static_cast<Long>(y[i]);
            exact.add(sum, unit<T> * (std::fabs(term) + std::fabs(sum)));
        }
        compare<T>("axpy of " + std::to_string(n), exact, [&](const Kernels<T>& k) {
            std::vector<T> out = y;
            k.axpy(a, x.data(), out.data(), n);
            return out;
        });
    }
}

// log1p(e^-|z|) and the smaller sigmoid are good to 4 ulp = 8 units (test_kernel_ulps.cpp checks the tighter truth).
constexpr Long composite = 8;

template <class T>
void test_logistic(Random& random) {
    for (const std::size_t n : sizes()) {
        const auto z = random.vector<T>(n, -30, 30);
        auto target = random.vector<T>(n, 0, 1);
        for (std::size_t i = 0; i < n; ++i) {
            if (i % 3 < 2) target[i] = static_cast<T>(i % 3);
        }
        Exact exact, sides;
        for (std::size_t i = 0; i < n; ++i) {
            const Long x = static_cast<Long>(z[i]), t = static_cast<Long>(target[i]), l = std::log1p(std::exp(-std::fabs(x)));
            const Long linear = std::max(x, 0.0L) - t * x;
            exact.add(linear + l, unit<T> * (std::fabs(t * x) + std::fabs(linear) + composite * l + linear + l));
        }
        for (std::size_t i = 0; i < n; ++i) {
            const Long x = static_cast<Long>(z[i]), t = static_cast<Long>(target[i]), u = std::exp(-std::fabs(x)), s = u / (1 + u);
            const Long delta = x < 0 ? s - t : (1 - t) - s;
            exact.add(delta, unit<T> * (1 - t + composite * s + std::fabs(delta)));
        }
        const auto run = [&](const Kernels<T>& k) {
            std::vector<T> out(2 * n), in_place = z, only(n);
            k.logistic_loss(z.data(), target.data(), n, out.data(), out.data() + n);
            k.logistic_loss(in_place.data(), target.data(), n, only.data(), in_place.data());
            check(std::equal(only.begin(), only.end(), out.begin()) &&
                      std::equal(in_place.begin(), in_place.end(), out.begin() + static_cast<std::ptrdiff_t>(n)),
                  "logistic_loss of ", n, " in place should be the same");
            std::vector<T> alone(n, T(-1));
            k.logistic_loss(z.data(), target.data(), n, alone.data(), nullptr);
            check(same_bytes(alone, only), "logistic_loss of ", n, " without delta should be the same");
            return out;
        };
        compare<T>("logistic_loss of " + std::to_string(n), exact, run);
        for (std::size_t i = 0; i < 2 * n; ++i) {
            const Long x = i < n ? static_cast<Long>(z[i]) : -static_cast<Long>(z[i - n]);  // log P(child 0), then log P(child 1)
            const Long value = -(std::max(x, 0.0L) + std::log1p(std::exp(-std::fabs(x))));
            sides.add(value, unit<T> * (composite * std::log1p(std::exp(-std::fabs(x))) + std::fabs(value)));
        }
        compare<T>("log_sigmoid of " + std::to_string(n), sides, [&](const Kernels<T>& k) {
            std::vector<T> out(2 * n), loss(n);
            k.log_sigmoid(z.data(), n, out.data(), out.data() + n);
            for (int child = 0; child < 2; ++child) {
                const std::vector<T> all(n, static_cast<T>(child));
                k.logistic_loss(z.data(), all.data(), n, loss.data(), nullptr);
                for (std::size_t i = 0; i < n; ++i) {
                    check(loss[i] == -out[static_cast<std::size_t>(child) * n + i], "log_sigmoid should be exactly minus logistic_loss at ",
                          z[i]);
                }
            }
            return out;
        });
    }
}

// e_j carries the rounding of z_j - max, 4 units of exp; their sum one rounding a vector and the lanes; then log1p or 1 / (1 + ·).
template <class T>
Exact softmax_reference(const std::vector<T>& z) {
    const std::size_t k = z.size();
    const std::size_t top = static_cast<std::size_t>(std::max_element(z.begin(), z.end()) - z.begin());
    std::vector<Long> d(k), e(k);
    Long rest = 0, rest_error = 0;
    for (std::size_t j = 0; j < k; ++j) {
        d[j] = static_cast<Long>(z[j]) - static_cast<Long>(z[top]);
        e[j] = std::exp(d[j]);
        if (j == top) continue;
        rest += e[j];
        rest_error += unit<T> * e[j] * (std::fabs(d[j]) + 4) + 2 * smallest<T>;
    }
    rest_error += unit<T> * rest * static_cast<Long>(k / lanes<T> + 5);
    const Long log_sum = std::log1p(rest), log_error = rest_error / (1 + rest) + 4 * unit<T> * log_sum;
    Exact exact;
    for (std::size_t j = 0; j < k; ++j) exact.add(log_sum - d[j], log_error + unit<T> * (std::fabs(d[j]) + log_sum - d[j]));
    for (std::size_t j = 0; j < k; ++j) {
        const Long p = e[j] / (1 + rest);
        exact.add(p, p * (rest_error / (1 + rest) + unit<T> * (std::fabs(d[j]) + 4 + 3)) + 2 * smallest<T>);
    }
    return exact;
}

template <class T>
void test_softmax_of(const std::vector<T>& z) {
    const std::size_t k = z.size();
    compare<T>("softmax_nll of " + std::to_string(k), softmax_reference(z), [&](const Kernels<T>& kernels) {
        std::vector<T> out(2 * k), nll(k), p(k), in_place = z, over = z, both(k);
        kernels.softmax_nll(z.data(), k, out.data(), out.data() + k);
        kernels.softmax_nll(z.data(), k, nll.data(), nullptr);
        kernels.softmax_nll(z.data(), k, nullptr, p.data());
        const std::span<const T> all(out);
        check(same_bytes(std::span<const T>(nll), all.first(k)), "softmax_nll of ", k, " without probability should give the same nll");
        check(same_bytes(std::span<const T>(p), all.last(k)), "softmax_nll of ", k, " without nll should give the same probability");
        kernels.softmax_nll(in_place.data(), k, both.data(), in_place.data());
        check(same_bytes(std::span<const T>(both), all.first(k)) && same_bytes(std::span<const T>(in_place), all.last(k)),
              "softmax_nll of ", k, " with the probability over z should be the same");
        in_place = z;
        kernels.softmax_nll(in_place.data(), k, nullptr, in_place.data());
        check(same_bytes(std::span<const T>(in_place), all.last(k)), "softmax_nll of ", k,
              " with only the probability, over z, should be the same");
        kernels.softmax_nll(over.data(), k, over.data(), nullptr);
        check(same_bytes(std::span<const T>(over), all.first(k)), "softmax_nll of ", k, " with the nll over z should be the same");
        return out;
    });
}

template <class T>
void test_softmax(Random& random) {
    std::vector<std::size_t> widths{300};
    for (std::size_t k = 2; k <= 40; ++k) widths.push_back(k);
    for (const std::size_t k : widths) {
        for (const double spread : {0.0, 0.01, 3.0, 60.0, 900.0}) test_softmax_of(random.vector<T>(k, -spread, spread));
        std::vector<T> one_hot(k, T(-50));
        one_hot[k / 2] = T(50);
        test_softmax_of(one_hot);
    }
}

template <class T>
void test_first_not_finite(Random& random) {
    const T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
    const T most = std::numeric_limits<T>::max(), least = std::numeric_limits<T>::denorm_min();
    for (const std::size_t n : sizes()) {
        auto x = random.vector<T>(n);
        for (std::size_t i = 0; i < n; ++i) {
            if (i % 5 == 0) x[i] = i % 2 ? most : -most;
            if (i % 5 == 1) x[i] = least;
        }
        for (const KernelTable* table : tables()) {
            const auto& k = of<T>(*table);
            check(k.first_not_finite(x.data(), n) == n, table->name, " first_not_finite should pass ", n,
                  " finite numbers, the largest too");
            for (std::size_t at = 0; at < n; at += n < 80 ? 1 : 7) {
                for (const T bad : {inf, -inf, nan}) {
                    auto y = x;
                    y[at] = bad;
                    if (at + 3 < n) y[at + 3] = -bad;
                    check(k.first_not_finite(y.data(), n) == at, table->name, " first_not_finite should find ", bad, " at ", at, " of ", n);
                }
            }
        }
    }
}

template <class T>
void test_all() {
    Random random(20240607);
    test_dots<T>(random);
    test_weighted_sum<T>(random);
    test_weighted_sums<T>(random);
    test_axpy<T>(random);
    test_logistic<T>(random);
    test_softmax<T>(random);
    test_first_not_finite<T>(random);
}

}  // namespace

int main() {
    check(!tables().empty(), "there should be at least one kernel table");
    test_all<float>();
    test_all<double>();
    return finish("kernels");
}
