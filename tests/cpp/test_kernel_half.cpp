// SPDX-License-Identifier: BSD-3-Clause
// Rows of 16-bit floats: products and steps have the bytes of the float kernels on the widened row, and rounding is that of Philox,
// element by element.
#include <algorithm>
#include <bit>
#include <cmath>
#include <string>

#include <sparseops/detail/random.hpp>
#include <sparseops/kernels/half.hpp>
#include <sparseops/quantize.hpp>
#include <sparseops/update/steps.hpp>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;
using sparseops::QuantizedKind;
using sparseops::detail::HalfKernels;
using sparseops::detail::RoundingKey;
using sparseops::detail::Stream;

constexpr QuantizedKind kinds[] = {QuantizedKind::bfloat16, QuantizedKind::float16};

const HalfKernels& half_of(const std::string& isa, QuantizedKind kind) {
    const sparseops::detail::HalfTable* table = nullptr;
#if defined(SPARSEOPS_HAS_BASELINE)
    if (isa == "baseline") table = &sparseops::detail::half_baseline;
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    if (isa == "avx2") table = &sparseops::detail::half_avx2;
#endif
#if defined(SPARSEOPS_HAS_AVX512)
    if (isa == "avx512") table = &sparseops::detail::half_avx512;
#endif
#if defined(SPARSEOPS_HAS_NEON)
    if (isa == "neon") table = &sparseops::detail::half_neon;
#endif
    return kind == QuantizedKind::bfloat16 ? table->bfloat16 : table->float16;
}

const std::vector<std::size_t> lengths = [] {
    std::vector<std::size_t> all{100, 127, 128, 129, 300, 513};
    for (std::size_t n = 1; n <= 70; ++n) all.push_back(n);
    return all;
}();

struct Half {
    std::vector<std::uint16_t> stored;
    std::vector<float> widened;
    Half(Random& random, QuantizedKind kind, std::size_t rows, std::size_t cols) : stored(rows * cols), widened(rows * cols) {
        const auto w = random.vector<float>(rows * cols, -3, 3);
        sparseops::quantize({w.data(), rows, cols}, kind, stored.data(), {}, 1);
        sparseops::dequantize({kind, stored.data(), {}, rows, cols}, {widened.data(), rows, cols}, 1);
    }
};

void test_products(Random& random, QuantizedKind kind) {
    constexpr std::size_t rows = 7, outputs = 6;
    for (const std::size_t n : lengths) {
        const Half w(random, kind, rows, n);
        const auto x = random.vector<float>(n), start = random.vector<float>(outputs * n), weights = random.vector<float>(outputs * rows);
        const auto picks = random.indices<std::int32_t>(rows, rows);
        for (const KernelTable* table : tables()) {
            const HalfKernels& k = half_of(table->name, kind);
            for (const std::size_t count : {std::size_t{1}, std::size_t{4}, rows}) {
                std::vector<float> expected(count + 3), got(expected);
                table->f32.path_dots(x.data(), w.widened.data(), picks.data(), count, n, expected.data());
                k.path_dots(x.data(), w.stored.data(), picks.data(), count, n, got.data());
                expected.resize(count);
                got.resize(count);
                check(same_bytes(expected, got), table->name, " half path_dots of ", n, " should have the bytes of float's");
            }
            for (const std::int32_t* index : {static_cast<const std::int32_t*>(nullptr), picks.data()}) {
                for (const bool accumulate : {false, true}) {
                    std::vector<float> expected = start, got = start;
                    table->f32.weighted_sum(weights.data(), 1, {w.widened.data(), n, index}, rows, n, accumulate, expected.data());
                    k.weighted_sum(weights.data(), 1, {w.stored.data(), n, index}, rows, n, accumulate, got.data());
                    check(same_bytes(expected, got), table->name, " half weighted_sum of ", n, " should have the bytes of float's");
                    const float* weight[outputs];
                    float *to_expected[outputs], *to_got[outputs];
                    for (std::size_t o = 0; o < outputs; ++o) {
                        weight[o] = weights.data() + o * rows;
                        to_expected[o] = expected.data() + o * n;
                        to_got[o] = got.data() + o * n;
                    }
                    table->f32.weighted_sums(weight, {w.widened.data(), n, index}, rows, n, accumulate, to_expected, outputs);
                    k.weighted_sums(weight, {w.stored.data(), n, index}, rows, n, accumulate, to_got, outputs);
                    check(same_bytes(expected, got), table->name, " half weighted_sums of ", n, " should have the bytes of float's");
                }
            }
        }
    }
}

// What half.hpp says of element `at` of a row whose units start with `unit`.
std::uint32_t draw(std::uint64_t seed, std::uint64_t high, std::uint64_t unit, std::size_t at) {
    constexpr int rotations[] = {0, 16, 8, 24, 4, 20, 12, 28};
    const std::size_t v = at % 128 / 16, l = at % 16;
    const std::uint64_t u = unit + at / 128;
    const auto add = sparseops::detail::philox(seed, l / 4 * 2, high)[l % 4],
               by = sparseops::detail::philox(seed, l / 4 * 2 + 1, high)[l % 4];
    std::uint32_t x = add + (by | 1) * (static_cast<std::uint32_t>(u) + static_cast<std::uint32_t>(u >> 32) * 0x9E3779B9u);
    x = (x ^ (x >> 16)) * 0x7feb352d;
    x = (x ^ (x >> 15)) * 0x846ca68b;
    return std::rotr(x ^ (x >> 16), rotations[v]) & 0xffff;
}

std::uint16_t rounded(QuantizedKind kind, float x, std::uint32_t u) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000);
    const float size = std::fabs(x);
    if (kind == QuantizedKind::bfloat16) {
        if (std::isnan(x)) return static_cast<std::uint16_t>(bits >> 16);
        if (size >= 0x1.fep127f) return sign | 0x7f7f;
        return static_cast<std::uint16_t>((bits + u) >> 16);
    }
    if (std::isnan(x)) return sign | 0x7e00;
    if (size >= 65504) return sign | 0x7bff;
    if (size < 0x1p-14f)
        return static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(size * 0x1p24f + static_cast<float>(u >> 3) * 0x1p-13f));
    return static_cast<std::uint16_t>(sign | (((bits & 0x7fffffff) - (112u << 23) + (u >> 3)) >> 13));
}

// Adagrad whose sums are bfloat16: that of float32 on the widened sums, which are then rounded by what element j ^ 16 draws.
void test_half_state(const KernelTable& table, QuantizedKind kind, const Half& w, const std::vector<float>& grad,
                     const std::vector<float>& state, float decay) {
    const std::size_t n = grad.size();
    if (n < 2) return;
    std::vector<std::uint16_t> s(n);
    for (std::size_t i = 0; i < n; ++i) s[i] = static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(state[i]) >> 16);
    std::vector<float> sums(n), expected = w.widened, got = grad;
    sparseops::dequantize({QuantizedKind::bfloat16, s.data(), {}, 1, n}, {sums.data(), 1, n}, 1);
    table.f32.adagrad(grad.data(), 0.1f, 1e-3f, decay, sums.data(), expected.data(), n);
    constexpr std::uint64_t seed = 7, unit = 5;
    half_of(table.name, kind)
        .adagrad_half(got.data(), 0.1f, 1e-3f, decay, s.data(), sparseops::rounding_key(seed, Stream::round_rows, 2), unit, w.stored.data(),
                      n);
    check(same_bytes(expected, got), table.name, " half adagrad_half of ", n, " should have the bytes of float's");
    for (std::size_t i = 0; i < n; ++i) {
        const std::uint32_t u = draw(seed, (std::uint64_t{10} << 56) | 2, unit, i ^ 16);
        check(s[i] == rounded(QuantizedKind::bfloat16, sums[i], u), table.name, " sum ", i, " of ", n, " should be rounded by its draw");
    }
}

void test_steps(Random& random, QuantizedKind kind) {
    for (const std::size_t n : lengths) {
        const Half w(random, kind, 1, n);
        const auto grad = random.vector<float>(n), state = random.vector<float>(n, 0.01, 1), mean = random.vector<float>(n);
        for (const KernelTable* table : tables()) {
            const Kernels<float>& f = table->f32;
            const HalfKernels& k = half_of(table->name, kind);
            for (const float decay : {0.0f, 0.01f}) {
                // each: the row after the step, then the state
                std::vector<float> expected, got;
                const auto begin = [&] {
                    expected = w.widened;
                    got = grad;
                    for (const auto* s : {&state, &mean}) {
                        expected.insert(expected.end(), s->begin(), s->end());
                        got.insert(got.end(), s->begin(), s->end());
                    }
                };
                const auto compare_steps = [&](const char* name) {
                    check(same_bytes(expected, got), table->name, " half ", name, " of ", n, " should have the bytes of float's");
                };
                const float* old = w.widened.data();
                begin();
                std::vector<float> g = grad;
                if (decay != 0) f.axpy(decay, old, g.data(), n);
                f.axpy(-0.1f, g.data(), expected.data(), n);
                k.sgd(got.data(), 0.1f, decay, w.stored.data(), n);
                compare_steps("sgd");
                begin();
                if (n > 1) f.adagrad(grad.data(), 0.1f, 1e-3f, decay, expected.data() + n, expected.data(), n);
                if (n > 1) k.adagrad(got.data(), 0.1f, 1e-3f, decay, got.data() + n, w.stored.data(), n);
                if (n > 1) compare_steps("adagrad");
                test_half_state(*table, kind, w, grad, state, decay);
                begin();
                f.rowwise_adagrad(grad.data(), 0.1f, 1e-3f, decay, expected.data() + n, expected.data(), n);
                k.rowwise_adagrad(got.data(), 0.1f, 1e-3f, decay, got.data() + n, w.stored.data(), n);
                compare_steps("rowwise_adagrad");
                begin();
                f.adam(grad.data(), 0.02f, 1.7f, 0.9f, 0.1f, 0.99f, 0.01f, 1e-3f, decay, expected.data() + 2 * n, expected.data() + n,
                       expected.data(), n);
                k.adam(got.data(), 0.02f, 1.7f, 0.9f, 0.1f, 0.99f, 0.01f, 1e-3f, decay, got.data() + 2 * n, got.data() + n, w.stored.data(),
                       n);
                compare_steps("adam");
            }
        }
    }
}

void test_rounding(Random& random, QuantizedKind kind) {
    constexpr float inf = std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::max();
    const std::vector<float> special{0.0f,
                                     -0.0f,
                                     inf,
                                     -inf,
                                     most,
                                     -most,
                                     0x1.fep127f,
                                     0x1.ffp127f,
                                     65504.0f,
                                     65519.0f,
                                     65520.0f,
                                     -7e4f,
                                     1e-40f,
                                     -1e-40f,
                                     1e-7f,
                                     5.9e-8f,
                                     6e-8f,
                                     0x1p-14f,
                                     6.1e-5f,
                                     0x1p-24f,
                                     0x3p-25f,
                                     1.0f,
                                     -1.0f,
                                     1.001f,
                                     std::nanf(""),
                                     -std::nanf(""),
                                     std::bit_cast<float>(0x7fffffffu),
                                     std::bit_cast<float>(0xffffffffu)};
    for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{0xfedcba9876543210u}}) {
        for (const std::int64_t step : {std::int64_t{1}, std::int64_t{1} << 40}) {
            const RoundingKey key = sparseops::rounding_key(seed, Stream::round_rows, step);
            const std::uint64_t high = (std::uint64_t{10} << 56) | static_cast<std::uint64_t>(step);
            for (const std::size_t n : lengths) {
                auto x = random.vector<float>(n, -3, 3);
                for (std::size_t i = 0; i < n; i += 3) x[i] = special[(n + i) % special.size()];
                for (const std::uint64_t unit : {std::uint64_t{0}, std::uint64_t{0x3fffffff}, std::uint64_t{0x123456789a}}) {
                    std::vector<std::uint16_t> expected(n), got(n);
                    for (std::size_t i = 0; i < n; ++i) expected[i] = rounded(kind, x[i], draw(seed, high, unit, i));
                    for (const KernelTable* table : tables()) {
                        std::fill(got.begin(), got.end(), std::uint16_t{1});
                        half_of(table->name, kind).round(x.data(), n, key, unit, got.data());
                        check(expected == got, table->name, " rounding of ", n, " should be that of Philox");
                    }
                }
            }
        }
    }
}

void test_numbers_that_fit_stay(QuantizedKind kind) {
    std::vector<std::uint16_t> all;
    for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
        const bool finite = kind == QuantizedKind::bfloat16 ? (bits & 0x7f80) != 0x7f80 : (bits & 0x7c00) != 0x7c00;
        if (finite) all.push_back(static_cast<std::uint16_t>(bits));
    }
    std::vector<float> x(all.size());
    sparseops::dequantize({kind, all.data(), {}, 1, all.size()}, {x.data(), 1, x.size()}, 1);
    for (const KernelTable* table : tables()) {
        for (const std::int64_t step : {1, 2, 3}) {
            std::vector<std::uint16_t> got(all.size());
            half_of(table->name, kind).round(x.data(), x.size(), sparseops::rounding_key(5, Stream::round_rows, step), 0, got.data());
            check(got == all, table->name, " rounding should leave what 16 bits hold");
        }
    }
}

// The mean of many roundings is the number, to five standard errors.
void test_rounding_is_unbiased(QuantizedKind kind) {
    const std::vector<float> x{0.3f, -0.3f, 1.0001f, -1e-3f, 1.9999f, 1e-6f, 3e-8f, -5e-5f, 100.3f, 1e-30f};
    constexpr int steps = 20000;
    std::vector<double> sum(x.size());
    std::vector<std::uint16_t> row(x.size());
    std::vector<float> back(x.size());
    for (int step = 1; step <= steps; ++step) {
        sparseops::detail::half_kernels(kind).round(x.data(), x.size(), sparseops::rounding_key(1, Stream::round_rows, step), 3,
                                                    row.data());
        sparseops::dequantize({kind, row.data(), {}, 1, x.size()}, {back.data(), 1, x.size()}, 1);
        for (std::size_t i = 0; i < x.size(); ++i) sum[i] += static_cast<double>(back[i]);
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
        const auto exact = static_cast<double>(x[i]);
        const bool bfloat = kind == QuantizedKind::bfloat16;
        const double least = bfloat ? 0x1p-133 : 0x1p-24, ulp = std::max(least, std::ldexp(1.0, std::ilogb(exact) - (bfloat ? 7 : 10)));
        const double error = sum[i] / steps - exact;
        // a rounding is off by less than an ulp, with a variance of a quarter of its square at most
        check(std::fabs(error) <= 5 * ulp / 2 / std::sqrt(steps) + 0x1p-14 * least, "rounding of ", exact,
              " should be unbiased, it is off by ", error);
    }
}

}  // namespace

int main() {
    Random random(9);
    for (const QuantizedKind kind : kinds) {
        test_products(random, kind);
        test_steps(random, kind);
        test_rounding(random, kind);
        test_numbers_that_fit_stay(kind);
        test_rounding_is_unbiased(kind);
    }
    return finish("test_kernel_half");
}
