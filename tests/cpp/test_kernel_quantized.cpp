// SPDX-License-Identifier: BSD-3-Clause
// Products with quantised rows: half precision has the bytes of the float kernel on the widened row, int8 is exact.
#include <string>

#include <sparseops/kernels/quantized.hpp>
#include <sparseops/quantize.hpp>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;
using sparseops::QuantizedKind;
using sparseops::detail::QuantizedKernels;

const QuantizedKernels* quantized_of(const std::string& isa) {
#if defined(SPARSEOPS_HAS_BASELINE)
    if (isa == "baseline") return &sparseops::detail::quantized_baseline;
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    if (isa == "avx2") return &sparseops::detail::quantized_avx2;
#endif
#if defined(SPARSEOPS_HAS_AVX512)
    if (isa == "avx512") return &sparseops::detail::quantized_avx512;
#endif
#if defined(SPARSEOPS_HAS_NEON)
    if (isa == "neon") return &sparseops::detail::quantized_neon;
#endif
    return nullptr;
}

struct Shape {
    std::size_t nx, nw;
};
constexpr Shape shapes[] = {{1, 1}, {1, 4}, {1, 7}, {3, 9}, {5, 1}, {4, 2}, {9, 10}};
const std::vector<std::size_t> lengths = [] {
    std::vector<std::size_t> all{63, 64, 100, 127, 128, 129, 300, 512, 513};
    for (std::size_t n = 0; n <= 48; ++n) all.push_back(n);
    return all;
}();

void test_half(Random& random, QuantizedKind kind) {
    for (const std::size_t n : lengths) {
        for (const Shape s : shapes) {
            const auto x = random.vector<float>(s.nx * n), w = random.vector<float>(s.nw * n, -3, 3);
            std::vector<std::uint16_t> stored(s.nw * n);
            std::vector<float> widened(s.nw * n);
            sparseops::quantize({w.data(), s.nw, n}, kind, stored.data(), {}, 1);
            sparseops::dequantize({kind, stored.data(), {}, s.nw, n}, {widened.data(), s.nw, n}, 1);
            const auto picks = random.indices<std::int32_t>(s.nw, s.nw);
            for (const std::int32_t* index : {static_cast<const std::int32_t*>(nullptr), picks.data()}) {
                for (const KernelTable* table : tables()) {
                    const QuantizedKernels* q = quantized_of(table->name);
                    std::vector<float> expected(s.nx * s.nw), got(expected);
                    table->f32.dots({x.data(), n, nullptr}, s.nx, {widened.data(), n, index}, s.nw, n, expected.data(), s.nw);
                    (kind == QuantizedKind::bfloat16 ? q->bfloat16_dots : q->float16_dots)(
                        {x.data(), n, nullptr}, s.nx, {stored.data(), n, index}, s.nw, n, got.data(), s.nw);
                    check(same_bytes(expected, got), table->name, " half precision dots of ", n, " should have the bytes of float dots");
                }
            }
        }
    }
}

void check_int8(const std::string& name, const QuantizedKernels& q, Random& random) {
    for (const std::size_t n : lengths) {
        for (const Shape s : shapes) {
            const std::size_t stride = (n + 31) / 32 * 32;
            std::vector<std::int16_t> x(s.nx * stride);
            for (std::size_t i = 0; i < x.size(); ++i) x[i] = i % stride < n ? static_cast<std::int16_t>(random.uniform(-32767, 32767)) : 0;
            std::vector<std::int8_t> w(s.nw * n);  // without a byte behind: the sanitizers see a load too far
            for (auto& e : w) e = static_cast<std::int8_t>(random.uniform(-127.9, 127.9));
            const auto x_scale = random.vector<float>(s.nx), w_scale = random.vector<float>(s.nw);
            std::vector<float> got(s.nx * s.nw);
            q.int8_dots({x.data(), stride, nullptr}, x_scale.data(), s.nx, {w.data(), n, nullptr}, w_scale.data(), s.nw, n, got.data(),
                        s.nw);
            for (std::size_t i = 0; i < s.nx; ++i) {
                for (std::size_t j = 0; j < s.nw; ++j) {
                    std::int32_t sum = 0;
                    for (std::size_t d = 0; d < n; ++d) sum += x[i * stride + d] * w[j * n + d];
                    const float scale = x_scale[i] * w_scale[j];
                    check(got[i * s.nw + j] == static_cast<float>(sum) * scale, name, " int8 dots of ", n, " should be exact");
                }
            }
        }
    }
}

}  // namespace

int main() {
    Random random(7);
    test_half(random, QuantizedKind::bfloat16);
    test_half(random, QuantizedKind::float16);
    for (const KernelTable* table : tables()) check_int8(table->name, *quantized_of(table->name), random);
    check_int8("active", sparseops::detail::quantized_kernels(), random);  // VNNI where there is
    return finish("test_kernel_quantized");
}
