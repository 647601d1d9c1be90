// SPDX-License-Identifier: BSD-3-Clause
// Every streaming kernel of every table: sums against long double within bounds that follow from their roundings, what rounds
// once against the same operation on one number, bits against Philox one block at a time; all tables with fused multiply-add
// give the same bytes.
#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include <sparseops/detail/random.hpp>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace {

using namespace sparseops_test;
using Long = long double;

const char* const measure_name[3] = {"sum of sizes", "sum of squares", "largest size"};

template <class T>
T drop(T x, T threshold) {
    return std::abs(x) <= threshold ? T(0) : x;
}

template <class T>
std::vector<T> values(Random& random, std::size_t n) {
    std::vector<T> x = random.vector<T>(n, -2, 2);
    for (T& v : x) {
        const std::size_t kind = random.below(12);
        if (kind == 0) v = T(0);
        if (kind == 1) v = T(0.5);  // the threshold
        if (kind == 2) v = std::numeric_limits<T>::denorm_min() * static_cast<T>(random.below(100));
        if (kind == 3) v *= T(1e30);
    }
    return x;
}

// Segments of 0 .. 70 entries, then some long ones; the first does not start at 0.
std::vector<std::size_t> segments(Random& random) {
    std::vector<std::size_t> offset{3};
    for (std::size_t n = 0; n <= 70; ++n) offset.push_back(offset.back() + n);
    for (std::size_t i = 0; i < 40; ++i) offset.push_back(offset.back() + random.below(3));
    for (const std::size_t n : {511u, 512u, 513u, 0u, 1u, 1030u, 5u}) offset.push_back(offset.back() + n);
    return offset;
}

template <class T>
void test_measure(Random& random) {
    const auto offset = segments(random);
    const auto x = values<T>(random, offset.back());
    const std::size_t count = offset.size() - 1;
    for (const T threshold : {T(-1), T(0), T(0.5)}) {
        for (std::size_t m = 0; m < 3; ++m) {
            std::optional<std::vector<double>> first;
            for (const auto& [name, table, fma] : streams()) {
                std::vector<double> out(count, -7.0);
                norms_of<T>(*table).measure[m](x.data(), offset.data(), count, threshold, out.data());
                for (std::size_t i = 0; i < count; ++i) {
                    Long exact = 0;
                    for (std::size_t e = offset[i]; e < offset[i + 1]; ++e) {
                        const Long v = std::fabs(static_cast<Long>(drop(x[e], threshold)));
                        exact = m == 2 ? std::max(exact, v) : exact + (m == 1 ? v * v : v);
                    }
                    // Passes of one of two accumulators, their sum, three halvings, and without FMA the product.
                    const Long passes = static_cast<Long>((offset[i + 1] - offset[i] + 15) / 16);
                    const Long bound = m == 2 ? 0 : (passes + 5) * unit<double> * exact + smallest<double> * unit<double> * 2 * passes;
                    const Long error = std::fabs(static_cast<Long>(out[i]) - exact);
                    check(error <= bound * 1.001L, name, " ", type_name<T>, " ", measure_name[m], " of ", offset[i + 1] - offset[i],
                          " entries above ", threshold, " is ", out[i], ", exact ", exact, ", error ", error, " over the bound ", bound);
                }
                if (!fma && m == 1 && sizeof(T) == 8) continue;  // elsewhere a fused multiply-add changes nothing
                if (first)
                    check(same_bytes(*first, out), name, " ", type_name<T>, " ", measure_name[m],
                          " should give the bytes of the other tables");
                else
                    first = out;
            }
        }
    }
}

// A NaN or an infinity shows in its own segment, wherever it is, and nowhere else.
template <class T>
void test_not_finite() {
    for (const auto& [name, table, fma] : streams()) {
        const NormKernels<T>& k = norms_of<T>(*table);
        for (const T odd : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity()}) {
            for (const std::size_t n : {1u, 7u, 16u, 35u}) {
                for (std::size_t at = 0; at < n; ++at) {
                    std::vector<T> x(n + 2, T(1));
                    x[at + 1] = odd;
                    const std::size_t offset[] = {0, 1, n + 1, n + 2};
                    for (std::size_t m = 0; m < 3; ++m) {
                        double out[3];
                        for (const T threshold : {T(-1), T(0.5)}) {
                            k.measure[m](x.data(), offset, 3, threshold, out);
                            check(out[0] == 1 && !std::isfinite(out[1]) && out[2] == 1, name, " ", measure_name[m], ": ", odd, " at ", at,
                                  " of ", n, " should show in its segment alone");
                        }
                        std::vector<double> sum(n + 2, 0.0);
                        k.measure_columns[m](x.data(), 1, n + 2, T(-1), sum.data());
                        const std::vector<T> ones(n + 2, T(1));
                        k.measure_columns[m](ones.data(), 1, n + 2, T(-1), sum.data());
                        for (std::size_t j = 0; j < n + 2; ++j) {
                            check(std::isfinite(sum[j]) == (j != at + 1), name, " ", measure_name[m], ": ", odd, " in column ", at + 1,
                                  " should show and stay there, column ", j, " has ", sum[j]);
                        }
                    }
                }
            }
        }
    }
}

template <class T>
void test_scale(Random& random) {
    const auto offset = segments(random);
    const auto x = values<T>(random, offset.back() + 5);
    const std::size_t count = offset.size() - 1;
    const auto factor = random.vector<double>(count, 0, 3);
    for (const T threshold : {T(-1), T(0), T(0.5)}) {
        auto exact = std::vector<T>(x.size(), T(7));
        for (std::size_t i = 0; i < count; ++i) {
            for (std::size_t e = offset[i]; e < offset[i + 1]; ++e)
                exact[e] = static_cast<T>(static_cast<double>(drop(x[e], threshold)) * factor[i]);
        }
        for (const auto& [name, table, fma] : streams()) {
            const NormKernels<T>& k = norms_of<T>(*table);
            std::vector<T> out(x.size(), T(7)), in_place = x;
            k.scale(x.data(), offset.data(), count, threshold, factor.data(), out.data());
            check(same_bytes(out, exact), name, " ", type_name<T>, " scale above ", threshold, " should round the product in double once");
            k.scale(in_place.data(), offset.data(), count, threshold, factor.data(), in_place.data());
            bool same = true;
            for (std::size_t e = 0; e < x.size(); ++e) {
                const bool inside = e >= offset[0] && e < offset[count];
                same = same && std::memcmp(&in_place[e], inside ? &exact[e] : &x[e], sizeof(T)) == 0;
            }
            check(same, name, " ", type_name<T>, " scale in place should give the same bytes and leave the rest");
        }
    }
}

template <class T>
void test_project(Random& random) {
    const auto offset = segments(random);
    const std::size_t count = offset.size() - 1, n = offset.back() + 5;
    const auto x = random.vector<T>(n, -2, 2), g = random.vector<T>(n, -2, 2);
    const auto factor = random.vector<double>(count, 0, 3);
    auto toward = random.vector<double>(count, 0.01, 1);
    for (std::size_t i = 0; i < count; i += 5) toward[i] = 0;
    std::optional<std::vector<T>> first;
    for (const auto& [name, table, fma] : streams()) {
        std::vector<T> out(n, T(7)), over_g = g;
        norms_of<T>(*table).project(x.data(), g.data(), offset.data(), count, toward.data(), factor.data(), out.data());
        for (std::size_t i = 0; i < count; ++i) {
            const Long t = static_cast<Long>(toward[i]), f = static_cast<Long>(factor[i]), u = unit<double>;
            Long along = 0, spread = 0;
            for (std::size_t e = offset[i]; e < offset[i + 1]; ++e) {
                const Long term = t * static_cast<Long>(x[e]) * static_cast<Long>(g[e]);
                along += term;
                spread += std::fabs(term);
            }
            const Long passes = static_cast<Long>((offset[i + 1] - offset[i] + 7) / 8);
            for (std::size_t e = offset[i]; e < offset[i + 1]; ++e) {
                const Long own = static_cast<Long>(g[e]), pull = t * static_cast<Long>(x[e]), exact = f * (own - pull * along);
                // Two products a term, its sum, then two more products, the difference and the factor; and the result.
                const Long bound = f * u * (std::fabs(pull) * spread * (passes + 10) + 2 * (std::fabs(own) + std::fabs(pull * along))) +
                                   unit<T> * std::fabs(exact);
                const bool right =
                    t == 0 ? std::memcmp(&out[e], &g[e], sizeof(T)) == 0 : std::fabs(static_cast<Long>(out[e]) - exact) <= bound * 1.001L;
                check(right, name, " ", type_name<T>, " project of ", offset[i + 1] - offset[i], " entries toward ", toward[i], ": ",
                      out[e], ", exact ", exact, ", bound ", bound);
            }
        }
        const bool rest = std::all_of(out.begin(), out.begin() + 3, [](T v) { return v == T(7); }) &&
                          std::all_of(out.end() - 5, out.end(), [](T v) { return v == T(7); });
        norms_of<T>(*table).project(x.data(), over_g.data(), offset.data(), count, toward.data(), factor.data(), over_g.data());
        check(rest && std::equal(out.begin() + 3, out.end() - 5, over_g.begin() + 3), name, " ", type_name<T>,
              " project should leave the rest, and give the same over g");
        if (!first) first = out;
        check(same_bytes(*first, out), name, " ", type_name<T>, " project should give the bytes of the other tables");
    }
}

void test_settle() {
    const std::vector<double> measure{0, 1, 4, 9, 2, 1e-300, 1e300, 0.25, 100, 5e-324, std::numeric_limits<double>::infinity()};
    for (const auto& [name, table, fma] : streams()) {
        for (const NormKernels<double>& k : {table->norm_f64, NormKernels<double>{{}, {}, table->norm_f32.settle, {}, {}, {}}}) {
            for (const bool root : {false, true}) {
                for (const bool max_norm : {false, true}) {
                    for (const double norm : {0.0, 1.0, 2.5, 1e300}) {
                        std::vector<double> size(measure.size()), factor(measure.size());
                        k.settle(measure.data(), measure.size(), root, norm, max_norm, size.data(), factor.data());
                        for (std::size_t i = 0; i < measure.size(); ++i) {
                            const double s = root ? std::sqrt(measure[i]) : measure[i];
                            const double f = s == 0 || (max_norm && s <= norm) ? 1 : std::min(norm / s, std::numeric_limits<double>::max());
                            check(size[i] == s && (std::isfinite(s) ? factor[i] == f : std::isnan(factor[i])), name, " settle of ",
                                  measure[i], " to ", norm, " should be ", s, " and ", f, ", it is ", size[i], " and ", factor[i]);
                        }
                    }
                }
            }
        }
    }
}

template <class T>
void test_columns(Random& random) {
    for (const std::size_t cols : {0u, 1u, 2u, 7u, 8u, 9u, 15u, 16u, 17u, 24u, 31u, 33u, 70u, 200u}) {
        const std::size_t rows = 1 + cols % 6;
        const auto x = values<T>(random, rows * cols);
        const auto factor = random.vector<double>(cols, 0, 3);
        for (const T threshold : {T(-1), T(0), T(0.5)}) {
            std::vector<T> scaled(x.size());
            for (std::size_t e = 0; e < x.size(); ++e)
                scaled[e] = static_cast<T>(static_cast<double>(drop(x[e], threshold)) * factor[e % cols]);
            for (const auto& [name, table, fma] : streams()) {
                const NormKernels<T>& k = norms_of<T>(*table);
                for (std::size_t m = 0; m < 3; ++m) {
                    std::vector<double> sum(cols, 0.25), exact = sum;
                    for (std::size_t e = 0; e < x.size(); ++e) {
                        const double v = std::abs(static_cast<double>(drop(x[e], threshold)));
                        double& own = exact[e % cols];
                        own = m == 0 ? own + v : m == 2 ? std::max(own, v) : fma ? std::fma(v, v, own) : own + v * v;
                    }
                    k.measure_columns[m](x.data(), rows, cols, threshold, sum.data());
                    check(same_bytes(sum, exact), name, " ", type_name<T>, " ", measure_name[m], " of ", cols, " columns of ", rows,
                          " should be that of the rows in order");
                }
                std::vector<T> out(x.size(), T(7)), in_place = x;
                k.scale_columns(x.data(), rows, cols, threshold, factor.data(), out.data());
                k.scale_columns(in_place.data(), rows, cols, threshold, factor.data(), in_place.data());
                check(same_bytes(out, scaled) && same_bytes(in_place, scaled), name, " ", type_name<T>, " scale of ", cols,
                      " columns should round the product in double once, in place too");
            }
        }
    }
}

void test_draw_bits(Random& random) {
    const std::uint64_t firsts[] = {0, 1, (std::uint64_t{1} << 28) - 2, (std::uint64_t{1} << 58) - 3, random.bits() >> 8};
    for (const std::uint64_t first : firsts) {
        for (const std::size_t groups : {0u, 1u, 2u, 5u}) {
            const std::uint64_t key = random.bits(), high = random.bits();
            std::vector<std::uint32_t> word;
            for (std::uint64_t block = first * 16; block < (first + groups) * 16; ++block) {
                for (const std::uint32_t w : sparseops::detail::philox(key, block, high)) word.push_back(w);
            }
            std::vector<std::uint32_t> thresholds{0, 1, 0x7fffffffu, 0x80000000u, 0x80000001u, 0xffffffffu};
            for (std::size_t i = 0; i < word.size(); i += 7) {  // where a word is just below, at or above
                for (const std::uint32_t d : {0u, 1u}) thresholds.push_back(word[i] + d);
            }
            for (const std::uint32_t threshold : thresholds) {
                std::vector<std::uint64_t> exact(groups, 0);
                for (std::size_t d = 0; d < word.size(); ++d) exact[d / 64] |= std::uint64_t{word[d] < threshold} << (d % 64);
                for (const auto& [name, table, fma] : streams()) {
                    std::vector<std::uint64_t> bits(groups, 0xa5a5a5a5a5a5a5a5u);
                    table->draw_bits(key, high, first, groups, threshold, bits.data(), {});
                    check(same_bytes(bits, exact), name, " draw_bits of ", groups, " groups from ", first, " below ", threshold,
                          " should compare the words of Philox");
                }
            }
        }
    }
}

template <class U>
void test_select(Random& random, U exponent) {
    std::vector<std::size_t> sizes{127, 128, 129, 191, 257, 512, 601};
    for (std::size_t n = 0; n <= 70; ++n) sizes.push_back(n);
    for (const std::size_t n : sizes) {
        std::vector<U> x(n), r(n + 1);
        std::vector<std::uint64_t> bits((n + 63) / 64);
        for (U& v : x) v = static_cast<U>(random.bits() & static_cast<U>(~(exponent & (~exponent + 1u))));
        for (U& v : r) v = static_cast<U>(random.bits());
        for (std::uint64_t& b : bits) b = random.bits();  // those beyond n too
        for (const std::size_t stride : {std::size_t{0}, std::size_t{1}}) {
            std::vector<U> exact(n);
            for (std::size_t i = 0; i < n; ++i) exact[i] = (bits[i / 64] >> (i % 64)) & 1 ? r[i * stride] : x[i];
            for (const auto& [name, table, fma] : streams()) {
                const SelectKernels<U>& k = select_of<U>(*table);
                std::vector<U> y(n), in_place = x;
                const bool found = k.select(x.data(), bits.data(), r.data(), stride, n, exponent, y.data()) ||
                                   k.select(in_place.data(), bits.data(), r.data(), stride, n, exponent, in_place.data()) ||
                                   k.any_with(x.data(), n, exponent);
                check(y == exact && in_place == exact && !found, name, " select of ", n, " of ", sizeof(U),
                      " bytes should take the replacement where a bit is set, in place too");
            }
        }
        for (std::size_t at = 0; at < n; at += n < 140 ? 1 : 13) {
            auto odd = x;
            odd[at] = exponent;
            for (const auto& [name, table, fma] : streams()) {
                const SelectKernels<U>& k = select_of<U>(*table);
                std::vector<U> y(n);
                check(k.any_with(odd.data(), n, exponent) && k.select(odd.data(), bits.data(), r.data(), at % 2, n, exponent, y.data()),
                      name, " should find the exponent at ", at, " of ", n, " of ", sizeof(U), " bytes, dropped or not");
            }
        }
    }
}

// 16-bit floats: `digits` stored digits of the significand, the rest but the sign the exponent.
struct Format {
    const char* name;
    int digits, least;  // least: exponent of the smallest normal number
    decltype(StreamTable::from_float16) StreamTable::* from;
    decltype(StreamTable::to_float16) StreamTable::* to;

    std::uint32_t infinity() const { return 0x7fffu & ~((1u << digits) - 1u); }
    double value(std::uint32_t bits) const {
        const std::uint32_t rest = bits & 0x7fffu, fraction = rest & ((1u << digits) - 1u), exponent = rest >> digits;
        const double size = rest == infinity() ? std::numeric_limits<double>::infinity()
                            : exponent == 0    ? std::ldexp(fraction, least - digits)
                                               : std::ldexp(fraction + (1u << digits), least - digits + static_cast<int>(exponent) - 1);
        return bits & 0x8000u ? -size : size;
    }
    // To the nearest, ties to even.
    std::uint32_t rounded(float f) const {
        const std::uint32_t sign = std::signbit(f) ? 0x8000u : 0u;
        const double size = std::fabs(static_cast<double>(f));
        if (!std::isfinite(size)) return sign | infinity();
        const int exponent = size == 0 ? least : std::max(std::ilogb(size), least);
        const auto units = static_cast<std::uint32_t>(std::nearbyint(std::ldexp(size, digits - exponent)));
        return sign | std::min(infinity(), (static_cast<std::uint32_t>(exponent - least) << digits) + units);
    }
};

void test_format(Random& random, const Format& format) {
    std::vector<std::uint16_t> all(65536);
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
    std::vector<float> floats;
    const auto limits = std::numeric_limits<float>();
    for (const float f : {0.0f, 65519.99f, 65520.0f, 1e30f, limits.denorm_min(), limits.min(), limits.max(), limits.infinity()}) {
        for (const float s : {f, -f}) floats.push_back(s);
    }
    for (std::uint32_t i = 0; i < format.infinity(); ++i) {  // each number, the middle to the next, and their neighbours
        const double next = i + 1 < format.infinity() ? format.value(i + 1) : 2 * format.value(i) - format.value(i - 1);
        for (const double v : {format.value(i), (format.value(i) + next) / 2}) {
            const float f = static_cast<float>(v);
            for (const float g : {f, std::nextafter(f, 0.0f), std::nextafter(f, limits.infinity())}) floats.push_back(i % 2 ? g : -g);
        }
    }
    for (std::size_t i = 0; i < 20003; ++i) {
        const auto bits = static_cast<std::uint32_t>(random.bits());
        float f;
        std::memcpy(&f, &bits, sizeof f);
        if (!std::isnan(f)) floats.push_back(f);
    }
    std::vector<float> odd(37, limits.quiet_NaN());
    std::optional<std::vector<float>> first;
    for (const auto& [name, table, fma] : streams()) {
        std::vector<float> out(all.size());
        (table->*format.from)(all.data(), all.size(), out.data());
        for (std::size_t i = 0; i < all.size(); ++i) {
            const bool nan = (i & 0x7fff) > format.infinity();
            const auto exact = static_cast<float>(nan ? 0 : format.value(static_cast<std::uint32_t>(i)));
            check(nan ? std::isnan(out[i]) : std::memcmp(&out[i], &exact, sizeof exact) == 0, name, " from ", format.name, " of the bits ",
                  i, " should be ", exact, ", it is ", out[i]);
        }
        if (fma && first)
            check(same_bytes(*first, out), name, " from ", format.name, " should give the bytes of the other tables with FMA");
        if (fma) first = out;
        std::vector<std::uint16_t> bits(floats.size()), odd_bits(odd.size());
        (table->*format.to)(floats.data(), floats.size(), bits.data());
        for (std::size_t i = 0; i < floats.size(); ++i)
            check(bits[i] == format.rounded(floats[i]), name, " ", floats[i], " to ", format.name, " should be the bits ",
                  format.rounded(floats[i]), ", it is ", bits[i]);
        (table->*format.to)(odd.data(), odd.size(), odd_bits.data());
        for (const std::uint16_t b : odd_bits) check((b & 0x7fffu) > format.infinity(), name, " to ", format.name, " should keep a NaN");
    }
}

template <class T>
void test_norms(Random& random) {
    test_measure<T>(random);
    test_not_finite<T>();
    test_scale<T>(random);
    test_project<T>(random);
    test_columns<T>(random);
}

}  // namespace

int main() {
    check(streams().size() == tables().size() && !streams().empty(), "each kernel table should have one of streaming kernels");
    Random random(20240611);
    test_norms<float>(random);
    test_norms<double>(random);
    test_settle();
    test_draw_bits(random);
    test_select<std::uint16_t>(random, 0x7c00);
    test_select<std::uint16_t>(random, 0x7f80);
    test_select<std::uint32_t>(random, 0x7f800000);
    test_select<std::uint64_t>(random, 0x7ff0000000000000);
    test_format(random, {"float16", 10, -14, &StreamTable::from_float16, &StreamTable::to_float16});
    test_format(random, {"bfloat16", 7, -126, &StreamTable::from_bfloat16, &StreamTable::to_bfloat16});
    return finish("streaming kernels");
}
