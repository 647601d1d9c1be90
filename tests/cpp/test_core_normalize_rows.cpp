// SPDX-License-Identifier: BSD-3-Clause
// Named rows scaled in place, as 16-bit floats too, and the distinct values of a list of rows.
#include <algorithm>
#include <cmath>
#include <limits>

#include <sparseops/normalize.hpp>
#include <sparseops/normalize/named_rows.hpp>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;
using Long = long double;

// The numbers of a storage type; the conversions of 16-bit floats have tests of their own (streaming kernels).
template <class T>
struct Storage {
    using Real = T;
    static constexpr const char* name = type_name<T>;
    static T from(T x) { return x; }
    static T to(T x) { return x; }
};
template <>
struct Storage<float16> {
    using Real = float;
    static constexpr const char* name = "float16";
    static float from(float16 x) {
        float f;
        detail::stream_kernels().from_float16(&x.bits, 1, &f);
        return f;
    }
    static float16 to(float f) {
        float16 x;
        detail::stream_kernels().to_float16(&f, 1, &x.bits);
        return x;
    }
};
template <>
struct Storage<bfloat16> {
    using Real = float;
    static constexpr const char* name = "bfloat16";
    static float from(bfloat16 x) {
        float f;
        detail::stream_kernels().from_bfloat16(&x.bits, 1, &f);
        return f;
    }
    static bfloat16 to(float f) {
        bfloat16 x;
        detail::stream_kernels().to_bfloat16(&f, 1, &x.bits);
        return x;
    }
};

// Rows of all sizes; every seventh is zero, of both signs, every eleventh very small.
template <class T>
std::vector<T> make(Random& random, std::size_t rows, std::size_t cols) {
    using R = typename Storage<T>::Real;
    std::vector<T> param(rows * cols);
    for (std::size_t e = 0; e < param.size(); ++e) {
        const std::size_t row = e / cols;
        R x = static_cast<R>(random.uniform(-1, 1));
        if (row % 7 == 3) x = e % 2 ? R(0) : -R(0);
        if (row % 11 == 5) x *= static_cast<R>(sizeof(T) == 2 ? 1e-6 : 1e-30);
        param[e] = Storage<T>::to(x);
    }
    return param;
}

template <class T>
void test_indexed(Random& random, std::size_t rows, std::size_t cols) {
    using S = Storage<T>;
    using R = typename S::Real;
    const auto before = make<T>(random, rows, cols);
    std::vector<std::int64_t> named;
    for (std::size_t r = 0; r < rows; ++r) {
        if (random.below(3) > 0 || r + 1 == rows) named.push_back(static_cast<std::int64_t>(r));
    }
    for (const bool max_norm : {false, true}) {
        for (const double norm : {0.75, 3.0, 0.0}) {
            auto after = before;
            std::vector<double> norms(named.size());
            normalize_indexed_rows<T>({after.data(), rows, cols}, named, norms, norm, max_norm, true, 1);
            std::vector<T> expected = before;
            for (std::size_t i = 0; i < named.size(); ++i) {
                const std::size_t first = static_cast<std::size_t>(named[i]) * cols;
                Long sum = 0;
                for (std::size_t e = first; e < first + cols; ++e) {
                    const Long x = static_cast<Long>(S::from(before[e]));
                    sum += x * x;
                }
                const Long size = std::sqrt(sum), relative = static_cast<Long>(cols / 16 + 8) * unit<double>;
                check(std::fabs(static_cast<Long>(norms[i]) - size) <= relative * size, S::name, " norm of row ", named[i], " is ",
                      norms[i], ", exact ", size);
                if (size == 0 || (max_norm && norms[i] <= norm)) continue;  // as it was, to the bit
                for (std::size_t e = first; e < first + cols; ++e) {
                    const Long exact = static_cast<Long>(S::from(before[e])) * static_cast<Long>(norm) / size;
                    const R x = S::from(after[e]);
                    if constexpr (sizeof(T) == 2) {  // between what the ends of the float's error round to
                        const Long error = (unit<float> + relative) * 1.001L * std::fabs(exact);
                        const float low = S::from(S::to(static_cast<float>(exact - error))),
                                    high = S::from(S::to(static_cast<float>(exact + error)));
                        check(low <= x && x <= high, S::name, " entry ", e, " is ", x, ", exact ", exact);
                    } else {
                        const Long error =
                            (unit<R> + relative) * 1.001L * std::fabs(exact) + static_cast<Long>(std::numeric_limits<R>::denorm_min());
                        check(std::fabs(static_cast<Long>(x) - exact) <= error, S::name, " entry ", e, " is ", x, ", exact ", exact);
                    }
                    expected[e] = after[e];
                }
            }
            check(same_bytes(expected, after), S::name, " rows that are not named, zero or short enough should keep their bits");
            for (const bool check_finite : {true, false}) {
                for (const int threads : {1, 2, 3}) {
                    auto again = before;
                    std::vector<double> again_norms(named.size());
                    normalize_indexed_rows<T>({again.data(), rows, cols}, named, again_norms, norm, max_norm, check_finite, threads);
                    check(same_bytes(again, after) && same_bytes(again_norms, norms), S::name, " rows on ", threads,
                          " threads should get the bytes of one");
                }
            }
            if constexpr (sizeof(T) > 2) {
                if (!max_norm) continue;
                auto again = before;
                for (const std::int64_t r : named) limit_row(again.data() + static_cast<std::size_t>(r) * cols, cols, norm);
                check(same_bytes(again, after), S::name, " limit_row should do what is done to a named row");
            }
        }
    }
}

// Rows so large or small that squares leave the range.
void test_range() {
    for (const double size : {1e200, 1e308, 1e-200, 5e-324, 1e-310}) {
        std::vector<double> w{0.75 * size, 0, size}, norms(1);  // 1e308 · 5/4 is still a double
        const double ratio = w[0] / w[2], length = std::hypot(1.0, ratio);
        const std::vector<std::int64_t> rows{0};
        normalize_indexed_rows<double>({w.data(), 1, 3}, rows, norms, 2, false, true, 1);
        check(std::abs(norms[0] - length * size) <= 1e-15 * length * size + 5e-324, "the norm of a row of ", size, " should be ",
              length * size, ", it is ", norms[0]);
        check(std::abs(w[2] - 2 / length) < 1e-15 * 4 && std::abs(w[0] - 2 * ratio / length) < 1e-15 * 4 && w[1] == 0, "a row of ", size,
              " should become 2 long, it is ", w[0], " ", w[1], " ", w[2]);
    }
    for (const double norm : {1e300, 1.5e308}) {  // norm / size is no double
        std::vector<double> w{5e-324, 0, -5e-324}, length(1);
        const std::vector<std::int64_t> rows{0};
        normalize_indexed_rows<double>({w.data(), 1, 3}, rows, length, norm, false, true, 1);
        check(std::abs(w[0] / (norm * std::sqrt(0.5)) - 1) < 1e-15 && w[1] == 0 && w[2] == -w[0], "a subnormal row should become ", norm,
              " long, it is ", w[0], " ", w[1], " ", w[2]);
        std::vector<float> f{1e-45f, 0, -1e-45f};
        normalize_indexed_rows<float>({f.data(), 1, 3}, rows, length, norm, false, true, 1);
        check(f[0] == std::numeric_limits<float>::infinity() && f[1] == 0, "floats as long as no float should be infinite, zeros zero");
    }
    std::vector<float> small{1e-45f, 0, 0}, length_of_small{1e38f, 0, 0};
    std::vector<double> small_norm(1);
    normalize_indexed_rows<float>({small.data(), 1, 3}, std::vector<std::int64_t>{0}, small_norm, 1e38f, false, true, 1);
    check(small == length_of_small, "a subnormal row of floats should become 1e38 long, it begins with ", small[0]);
    std::vector<double> huge{1e308, 1e308, 1e308, 1e308};
    limit_row(huge.data(), huge.size(), 1);
    check(huge == std::vector<double>(4, 0.5), "a row whose norm is no double should become as long as wanted, it begins with ", huge[0]);
    std::vector<float> floats{1e30f, -1e30f, 1e30f, 1e30f}, tiny(4, std::numeric_limits<float>::denorm_min());
    limit_row(floats.data(), floats.size(), 1);
    check(floats == std::vector<float>{0.5f, -0.5f, 0.5f, 0.5f}, "a row of 1e30 should become 1 long");
    const std::vector<std::int64_t> rows{0};
    std::vector<double> norms(1);
    normalize_indexed_rows<float>({tiny.data(), 1, 4}, rows, norms, 1, false, true, 1);
    check(tiny == std::vector<float>(4, 0.5f), "a row of subnormal numbers should become 1 long");
}

void test_distinct_rows(Random& random) {
    for (const std::size_t size : {1u, 63u, 64u, 65u, 1000u, 1000000u}) {  // the last is sorted, the others are marked
        for (const std::size_t n : {0u, 1u, 2u, 50u, 200u}) {
            const auto rows = random.indices<std::int64_t>(n, size);
            auto exact = rows;
            std::sort(exact.begin(), exact.end());
            exact.erase(std::unique(exact.begin(), exact.end()), exact.end());
            std::vector<std::int64_t> out(n, -7);
            out.resize(distinct_rows(rows, size, out));
            check(out == exact, n, " rows of ", size, " should be distinct and ascend");
        }
    }
    std::vector<std::int64_t> out{7, 7};
    const std::vector<std::int64_t> negative{3, -1}, beyond{3, 5};
    check_refused("rows must be in [0, 5), got -1 at index 1", [&] { distinct_rows(negative, 5, out); });
    check_refused("rows must be in [0, 5), got 5 at index 1", [&] { distinct_rows(beyond, 5, out); });
    check_refused("out must have 2 entries, got 1", [&] { distinct_rows(beyond, 9, std::span(out).first(1)); });
    check(out == std::vector<std::int64_t>{7, 7}, "a refusal should leave out");
}

template <class T>
void test_refusals() {
    using S = Storage<T>;
    using R = typename S::Real;
    std::vector<T> param;
    for (const R x : {R(3), R(4), R(0), R(0), R(1), std::numeric_limits<R>::infinity()}) param.push_back(S::to(x));
    const auto before = param;
    std::vector<double> norms(2);
    using Rows = std::vector<std::int64_t>;
    const auto refused = [&](const std::string& text, const Rows& rows, std::span<double> n, double norm) {
        check_refused(text, [&] { normalize_indexed_rows<T>({param.data(), 3, 2}, rows, n, norm, false, true, 1); });
        check(same_bytes(param, before), S::name, " a refusal should leave the rows: ", text);
    };
    refused("norm must be finite and non-negative, got -1", {0, 1}, norms, -1);
    refused("norms must have 1 entries, got 2", {0}, norms, 1);
    refused("rows must be in [0, 3), got 3 at index 1", {0, 3}, norms, 1);
    refused("rows must be in [0, 3), got -1 at index 0", {-1, 2}, norms, 1);
    refused("rows must ascend, got 1 at index 1", {1, 1}, norms, 1);
    refused("rows must ascend, got 0 at index 1", {1, 0}, norms, 1);
    refused("param must be finite, got nan or inf in row 2", {0, 2}, norms, 1);
    const Rows rows{0, 2};
    normalize_indexed_rows<T>({param.data(), 3, 2}, rows, norms, 5, false, false, 1);
    check(norms[0] == 5 && std::isnan(norms[1]) && std::memcmp(param.data(), before.data(), 4 * sizeof(T)) == 0, S::name,
          " an infinity that may be should leave the other rows alone");
    check(std::isnan(S::from(param[4])) && std::isnan(S::from(param[5])), S::name, " a row with an infinity should become NaN, it is ",
          S::from(param[4]), " ", S::from(param[5]));
}

template <class T>
void test_all(Random& random) {
    for (const std::size_t cols : {1u, 3u, 16u, 37u, 300u}) test_indexed<T>(random, 40, cols);
    test_indexed<T>(random, 40, 0);      // found by UBSan: 16-bit rows of no entries took the address of a member of nothing
    test_indexed<T>(random, 3000, 128);  // several threads
    test_refusals<T>();
}

}  // namespace

int main() {
    Random random(20240613);
    test_all<float>(random);
    test_all<double>(random);
    test_all<float16>(random);
    test_all<bfloat16>(random);
    test_range();
    test_distinct_rows(random);
    return finish("normalize rows");
}
