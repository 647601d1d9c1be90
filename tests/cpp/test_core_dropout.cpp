// SPDX-License-Identifier: BSD-3-Clause
// Sparse dropout: which draws drop, what takes their place, the gradient, centers and segments.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include <sparseops/detail/random.hpp>
#include <sparseops/dropout.hpp>
#include <sparseops/dropout/bits.hpp>

#include "check.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;
using Long = long double;
using Bytes = std::vector<std::uint8_t>;

// Whether draw d drops, from the words of one block of Philox.
bool drops_at(const Drops& drops, std::uint64_t d) {
    const std::uint64_t high = (static_cast<std::uint64_t>(drops.purpose) << 56) + drops.part;
    const std::uint64_t word = detail::philox(drops.seed, d / 4, high)[d % 4];
    if (drops.rate == 0 || drops.rate == 1) return drops.rate == 1;
    const double limit = std::clamp(std::nearbyint(drops.rate * 0x1p32), 1.0, 0x1p32 - 1);
    return word < static_cast<std::uint64_t>(limit);
}
std::vector<bool> mask_of(const Drops& drops, std::size_t n) {
    std::vector<bool> mask(n);
    for (std::size_t i = 0; i < n; ++i) mask[i] = drops_at(drops, drops.first + i);
    return mask;
}

void test_draws(Random& random) {
    const std::uint64_t part = (std::uint64_t{1} << 56) - 1,
                        wrap = std::uint64_t{1} << 34;  // draws where the low word of blocks is 0 again
    for (const double rate : {0.0, 1e-300, 1e-9, 0.25, 0.3, 0.5, 0.999, 1 - 0x1p-53, 1.0}) {
        for (const std::uint64_t first :
             {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{63}, std::uint64_t{64}, std::uint64_t{1000003}, wrap - 70}) {
            for (const DropPurpose purpose : {DropPurpose::entries, DropPurpose::segments, DropPurpose::ids}) {
                for (const std::size_t n : {0u, 1u, 2u, 63u, 64u, 65u, 127u, 128u, 129u, 200u, 515u}) {
                    const Drops drops{random.bits(), first, rate, purpose, n % 2 ? part : n};
                    std::vector<std::uint64_t> bits((n + 63) / 64 + 1, 0xa5a5a5a5a5a5a5a5u), exact((n + 63) / 64, 0);
                    const auto mask = mask_of(drops, n);
                    for (std::size_t i = 0; i < n; ++i) exact[i / 64] |= std::uint64_t{mask[i]} << (i % 64);
                    draw_drops(drops, n, std::span(bits).first(exact.size()));
                    check(bits.back() == 0xa5a5a5a5a5a5a5a5u, "draw_drops should write its words alone");
                    bits.pop_back();
                    check(same_bytes(bits, exact), n, " draws from ", first, " at rate ", rate, " should be those of Philox, and 0 beyond");
                }
            }
        }
    }
}

template <class U>
std::vector<U> items(Random& random, std::size_t n, U exponent) {
    std::vector<U> x(n);
    for (U& v : x) v = static_cast<U>(random.bits() & static_cast<U>(~(exponent & (~exponent + 1u))));
    return x;
}

template <class U>
void test_dropout(Random& random, U exponent) {
    for (const std::size_t n : {0u, 1u, 7u, 8u, 9u, 64u, 511u, 512u, 513u, 1500u, 70000u}) {
        const auto x = items<U>(random, n, exponent);
        for (const auto& [cells, repeat] :
             {std::pair<std::size_t, std::size_t>{1, 1}, {1, 9}, {7, 1}, {600, 1}, {3, 5}, {4, 700}, {n + 1, 1}}) {
            const auto r = items<U>(random, cells, 0);
            const Drops drops{random.bits(), n % 3 ? n : 0, 0.4, DropPurpose::entries, 2};
            const auto mask = mask_of(drops, n);
            std::vector<U> exact = x, y(n), in_place = x, plain(n);
            Bytes packed((n + 7) / 8, 0xa5), bools(n, 0xa5), exact_packed(packed.size(), 0), exact_bools(n);
            for (std::size_t i = 0; i < n; ++i) {
                if (mask[i]) exact[i] = r[i / repeat % cells];
                exact_bools[i] = mask[i];
                exact_packed[i / 8] = static_cast<std::uint8_t>(exact_packed[i / 8] | (mask[i] ? 1u << (i % 8) : 0u));
            }
            const Replacement<U> replacement{r, repeat};
            dropout_bits<U>(x, drops, replacement, exponent, y, packed, bools, 1);
            dropout_bits<U>(in_place, drops, replacement, exponent, in_place, {}, {}, 1);
            dropout_bits<U>(x, drops, replacement, 0, plain, {}, {}, 1);
            check(y == exact && in_place == exact && plain == exact, n, " entries of ", sizeof(U), " bytes, ", cells, " cells of ", repeat,
                  ": y should be the replacement where a draw drops");
            check(packed == exact_packed && bools == exact_bools, n, " entries of ", sizeof(U), " bytes: the masks should tell the draws");
        }
    }
}

// Values are dropped as the bits that they are.
template <class T, class U>
void test_values(Random& random, U exponent) {
    const std::size_t n = 700;
    const auto bits = items<U>(random, n, exponent);
    std::vector<T> x(n), y(n), r(1);
    std::memcpy(x.data(), bits.data(), n * sizeof(T));
    const std::vector<U> cell{1};
    std::memcpy(r.data(), cell.data(), sizeof(T));
    std::vector<U> exact(n), got(n);
    const Drops drops{.seed = 9, .rate = 0.3};
    dropout_bits<U>(bits, drops, {cell, 1}, exponent, exact, {}, {}, 1);
    dropout<T>(x, drops, {r}, y);
    std::memcpy(got.data(), y.data(), n * sizeof(T));
    check(got == exact, "values of ", sizeof(T), " bytes should be dropped as their bits");
    if constexpr (std::is_floating_point_v<T>) {
        x[3] = std::numeric_limits<T>::infinity();
        check_refused("x must be finite, got nan or inf at stored value 3", [&] { dropout<T>(x, drops, {r}, y); });
        dropout<T>(x, {.rate = 0}, {r}, y, {}, {}, false);
        check(y[3] == x[3], "without the check what is not finite should be let through");
    }
}

// The same bytes on any number of threads, and in any pieces.
template <class U>
void test_threads_and_splits(Random& random, U exponent) {
    const std::size_t n = 500009;
    const auto x = items<U>(random, n, exponent), r = items<U>(random, 1001, 0);
    const Drops drops{77, 12345, 0.3, DropPurpose::entries, 1};
    std::vector<U> first(n);
    Bytes first_packed((n + 7) / 8), first_bools(n);
    dropout_bits<U>(x, drops, {r, 3}, exponent, first, first_packed, first_bools, 1);
    for (const int threads : {2, 3}) {
        std::vector<U> y(n), in_place = x;
        Bytes packed((n + 7) / 8), bools(n);
        dropout_bits<U>(x, drops, {r, 3}, exponent, y, packed, bools, threads);
        dropout_bits<U>(in_place, drops, {r, 3}, exponent, in_place, {}, {}, threads);
        check(y == first && in_place == first && packed == first_packed && bools == first_bools, threads,
              " threads should give the bytes of one");
    }
    const std::span<const U> all(x);
    const auto one = std::span(r).first(1);
    dropout_bits<U>(x, drops, {one, 1}, exponent, first, {}, first_bools, 3);
    for (int round = 0; round < 5; ++round) {
        std::vector<U> y(n);
        Bytes bools(n);
        for (std::size_t from = 0; from < n;) {
            const std::size_t count = std::min(n - from, round == 0 ? std::size_t{400000} : 1 + random.below(100000));
            Drops here = drops;
            here.first += from;
            dropout_bits<U>(all.subspan(from, count), here, {one, 1}, exponent, std::span(y).subspan(from, count), {},
                            std::span(bools).subspan(from, count), 2);
            from += count;
        }
        check(y == first && bools == first_bools, "pieces should give the bytes of the whole");
    }
    const auto dropped = std::count(first_bools.begin(), first_bools.end(), 1);
    check(std::abs(static_cast<double>(dropped) - 0.3 * static_cast<double>(n)) < 6 * std::sqrt(0.21 * static_cast<double>(n)), dropped,
          " of ", n, " entries drop at rate 0.3");
}

template <class U>
void test_refusals(Random& random, U exponent) {
    const std::size_t n = 1100;
    const auto x = items<U>(random, n, exponent);
    const std::vector<U> r{1};
    const std::vector<U> sevens(n, U(7));
    std::vector<U> y = sevens;
    Bytes packed((n + 7) / 8, 7), bools(n, 7);
    const auto refused = [&](const std::string& text, double rate, std::span<const U> values, std::size_t repeat, std::size_t y_size,
                             std::size_t packed_size, std::size_t bools_size) {
        check_refused(text, [&] {
            dropout_bits<U>(x, {.rate = rate}, {values, repeat}, exponent, std::span(y).first(y_size), std::span(packed).first(packed_size),
                            std::span(bools).first(bools_size), 1);
        });
    };
    refused("rate must be in [0, 1], got -0.1", -0.1, r, 1, n, 0, 0);
    refused("rate must be in [0, 1], got 1.5", 1.5, r, 1, n, 0, 0);
    refused("rate must be in [0, 1], got nan", std::numeric_limits<double>::quiet_NaN(), r, 1, n, 0, 0);
    refused("y must have 1100 entries, got 1099", 0.5, r, 1, n - 1, 0, 0);
    check_refused("start must leave 1100 draws below 2**64, got 18446744073709550516", [&] {  // found by fuzzing
        dropout_bits<U>(x, {.first = ~std::uint64_t{0} - n + 1, .rate = 0.5}, {r, 1}, exponent, y, {}, {}, 1);
    });
    refused("packed must have 138 entries, got 137", 0.5, r, 1, n, 137, 0);
    refused("bools must have 1100 entries, got 1", 0.5, r, 1, n, 138, 1);
    refused("replacement must have a value, got none", 0.5, {}, 1, n, 138, n);
    refused("replacement must have a value, got none", 0.5, r, 0, n, 138, n);
    check(y == sevens && packed == Bytes(packed.size(), 7) && bools == Bytes(n, 7), "a refusal should leave the outputs");
    for (const std::size_t at : {std::size_t{0}, std::size_t{63}, std::size_t{512}, n - 1}) {
        for (const double rate : {0.0, 0.5, 1.0}) {  // kept or dropped
            auto odd = x;
            odd[at] = exponent;
            odd[n - 1] = exponent;
            const auto before = odd;
            const std::string text = "x must be finite, got nan or inf at stored value " + std::to_string(at);
            check_refused(text, [&] { dropout_bits<U>(odd, {.rate = rate}, {r, 1}, exponent, y, {}, {}, 1); });
            packed.assign(packed.size(), 7);
            check_refused(text, [&] { dropout_bits<U>(odd, {.rate = rate}, {r, 1}, exponent, odd, packed, {}, 1); });
            check(odd == before && packed == Bytes(packed.size(), 7), "a refusal in place should leave everything");
            dropout_bits<U>(odd, {.rate = rate}, {r, 1}, 0, odd, {}, {}, 1);
            check(odd[at] == (drops_at({.rate = rate}, at) ? U(1) : exponent),
                  "without the check what is not finite should be let through");
        }
    }
}

template <class T>
void test_gradient(Random& random) {
    for (const std::size_t n : {std::size_t{0}, std::size_t{1}, std::size_t{9}, std::size_t{1000}, std::size_t{400003}}) {
        const auto grad = random.vector<T>(n);
        Bytes packed((n + 7) / 8);
        for (auto& b : packed) b = static_cast<std::uint8_t>(random.bits());
        for (const auto& [cells, repeat] :
             {std::pair<std::size_t, std::size_t>{1, 1}, {7, 1}, {3, 100}, {std::max<std::size_t>(n, 1), 1}}) {
            std::vector<Long> sum(cells, 0), size(cells, 0), terms(cells, 0);
            std::vector<T> exact = grad;
            for (std::size_t i = 0; i < n; ++i) {
                if (!((packed[i / 8] >> (i % 8)) & 1)) continue;
                const std::size_t c = i / repeat % cells;
                exact[i] = 0;
                sum[c] += static_cast<Long>(grad[i]);
                size[c] += std::fabs(static_cast<Long>(grad[i]));
                ++terms[c];
            }
            std::vector<T> first;
            for (const int threads : {1, 2, 3}) {
                std::vector<T> dx(n), in_place = grad, cell(cells, T(7)), cell_in_place(cells);
                dropout_gradient<T>(grad, packed, dx, repeat, cell, threads);
                dropout_gradient<T>(in_place, packed, in_place, repeat, cell_in_place, threads);
                if (threads == 1) first = cell;
                check(same_bytes(dx, exact) && same_bytes(in_place, exact), "dx should be 0 where an entry dropped");
                check(same_bytes(cell, first) && same_bytes(cell_in_place, first), threads, " threads should give the sums of one");
            }
            for (std::size_t c = 0; c < cells; ++c) {
                const Long unit = static_cast<Long>(std::numeric_limits<T>::epsilon()) / 2;
                const Long bound = (terms[c] + 64) * 0x1p-53L * size[c] + unit * 1.001L * std::fabs(sum[c]);
                check(std::fabs(static_cast<Long>(first[c]) - sum[c]) <= bound, "cell ", c, " of ", cells, " is ", first[c], ", exact ",
                      sum[c]);
            }
        }
    }
    std::vector<T> grad(9, T(1)), dx(9, T(7)), cell(2, T(7));
    const Bytes packed(2, 0);
    const auto refused = [&](const std::string& text, std::size_t bytes, std::size_t entries, std::size_t repeat, std::size_t cells) {
        check_refused(text, [&] {
            dropout_gradient<T>(grad, std::span(packed).first(bytes), std::span(dx).first(entries), repeat, std::span(cell).first(cells),
                                1);
        });
    };
    refused("mask must have 2 bytes for 9 bits, got 1", 1, 9, 1, 2);
    refused("dx must have 9 entries, got 8", 2, 8, 1, 2);
    refused("replacement must have a value, got none", 2, 9, 1, 0);
    refused("replacement must have a value, got none", 2, 9, 0, 2);
    check(dx == std::vector<T>(9, T(7)) && cell == std::vector<T>(2, T(7)), "a refusal should leave the outputs");
}

template <class T>
void test_centers(Random& random) {
    for (const bool one : {true, false}) {
        std::vector<std::int64_t> offsets{0};
        for (const std::size_t n : one ? std::vector<std::size_t>{450001} : std::vector<std::size_t>{0, 1, 2, 3, 8, 301, 0, 65537, 400000})
            offsets.push_back(offsets.back() + static_cast<std::int64_t>(n));
        auto x = random.vector<T>(static_cast<std::size_t>(offsets.back()));
        for (T& v : x) v = random.below(3) ? v : random.below(2) ? T(0) : -T(0);
        for (const Center center : {Center::mean, Center::median}) {
            std::vector<T> first;
            for (const int threads : {1, 2, 3}) {
                std::vector<T> out(offsets.size() - 1, T(7));
                nonzero_centers<T>(x, offsets, center, out, threads);
                if (threads == 1) first = out;
                check(same_bytes(out, first), threads, " threads should give the centers of one");
            }
            for (std::size_t s = 0; s < first.size(); ++s) {
                std::vector<T> own;
                Long sum = 0, size = 0;
                for (auto e = static_cast<std::size_t>(offsets[s]); e < static_cast<std::size_t>(offsets[s + 1]); ++e) {
                    if (x[e] != 0) own.push_back(x[e]);
                    sum += static_cast<Long>(x[e]);
                    size += std::fabs(static_cast<Long>(x[e]));
                }
                std::sort(own.begin(), own.end());
                const std::size_t n = own.size();
                const Long unit = static_cast<Long>(std::numeric_limits<T>::epsilon()) / 2, count = static_cast<Long>(n);
                Long exact = 0, bound = 0;
                if (n && center == Center::mean) {
                    exact = sum / count;
                    bound = 8210 * 0x1p-53L * size / count + unit * 1.001L * std::fabs(exact);  // 65536 / 8 and the joins
                } else if (n) {
                    exact = (static_cast<Long>(own[(n - 1) / 2]) + static_cast<Long>(own[n / 2])) / 2;
                    bound = 2 * unit * std::fabs(exact);
                }
                check(std::fabs(static_cast<Long>(first[s]) - exact) <= bound, "center of segment ", s, " is ", first[s], ", exact ",
                      exact);
            }
        }
    }
    const std::vector<T> x{1, 2, 3};
    std::vector<T> out(2, T(7));
    using Offsets = std::vector<std::int64_t>;
    const auto refused = [&](const std::string& text, const Offsets& offsets) {
        check_refused(text, [&] { nonzero_centers<T>(x, offsets, Center::median, out, 1); });
    };
    refused("offsets must have 3 entries, got 2", {0, 3});
    refused("offsets must go from 0 to 3, got 1 and 3", {1, 2, 3});
    refused("offsets must go from 0 to 3, got 0 and 2", {0, 1, 2});
    refused("offsets must not decrease, got 3 at index 2", {0, 4, 3});
    check(out == std::vector<T>(2, T(7)), "a refusal should leave the centers");
    const T most = std::numeric_limits<T>::max();  // found by reading: the sum of large doubles is infinite
    nonzero_centers<T>(std::vector<T>{most, most / 2, most}, Offsets{0, 2, 3}, Center::mean, out, 1);
    check(out[0] == most * T(0.75) && out[1] == most, "the mean of large numbers should be finite, is ", out[0]);
    const T least = std::numeric_limits<T>::denorm_min();  // found by fuzzing: the halves of the middle two underflow
    nonzero_centers<T>(std::vector<T>{-least, -least, most, most}, Offsets{0, 2, 4}, Center::median, out, 1);
    check(out[0] == -least && out[1] == most, "the median of two alike should be that number, is ", out[0], " and ", out[1]);
}

template <class I>
void test_segments(Random& random) {
    for (const double rate : {0.0, 0.3, 1.0}) {
        for (const std::size_t n : {0u, 1u, 64u, 1001u}) {
            const auto lengths = random.indices<std::int64_t>(n, 5);
            std::size_t total = 0, last = 0;  // the last that is not empty
            for (std::size_t s = 0; s < n; ++s) {
                total += static_cast<std::size_t>(lengths[s]);
                if (lengths[s]) last = s;
            }
            const auto ids = random.indices<I>(total, 1000);
            const Drops drops{random.bits(), 0, rate, DropPurpose::segments, 3};
            std::vector<std::int64_t> exact_lengths, new_lengths(n);
            std::vector<I> exact;
            for (std::size_t s = 0, from = 0; s < n; from += static_cast<std::size_t>(lengths[s]), ++s) {
                const bool dropped = drops_at(drops, s);
                exact_lengths.push_back(dropped ? 1 : lengths[s]);
                if (dropped) exact.push_back(-5);
                for (std::size_t i = from; !dropped && i < from + static_cast<std::size_t>(lengths[s]); ++i) exact.push_back(ids[i]);
            }
            std::vector<I> new_ids(dropout_lengths(lengths, total, drops, new_lengths));
            dropout_ids<I>(ids, lengths, drops, I(-5), new_ids);
            check(new_lengths == exact_lengths && new_ids == exact, n, " segments at rate ", rate,
                  " should give way where their draw drops");
            if (new_ids.empty()) continue;
            new_ids.assign(new_ids.size(), I(-7));
            check_refused("new_ids must have room for all, got " + std::to_string(new_ids.size() - 1),
                          [&] { dropout_ids<I>(ids, lengths, drops, I(-5), std::span(new_ids).first(new_ids.size() - 1)); });
            if (total) {
                check_refused("lengths must add up to " + std::to_string(total - 1) + ", got more by index " + std::to_string(last),
                              [&] { dropout_ids<I>(std::span(ids).first(total - 1), lengths, drops, I(-5), new_ids); });
            }
            check(new_ids == std::vector<I>(new_ids.size(), I(-7)), "a refusal should leave the new ids");
        }
    }
    std::vector<std::int64_t> out{7, 7};
    using Lengths = std::vector<std::int64_t>;
    const auto refused = [&](const std::string& text, const Lengths& lengths, std::size_t ids, double rate) {
        check_refused(text, [&] { dropout_lengths(lengths, ids, {.rate = rate}, out); });
    };
    refused("rate must be in [0, 1], got 2", {1, 2}, 3, 2);
    refused("new_lengths must have 1 entries, got 2", {1}, 1, 0.5);
    check_refused("start must leave 2 draws below 2**64, got 18446744073709551614",
                  [&] { dropout_lengths(Lengths{1, 2}, 3, {.first = ~std::uint64_t{0} - 1, .rate = 0.5}, out); });
    refused("lengths must be non-negative, got -1 at index 1", {1, -1}, 1, 0.5);
    refused("lengths must add up to 3, got more by index 1", {1, 3}, 3, 0.5);
    refused("lengths must add up to 3, got 2", {1, 1}, 3, 0.5);
    refused("lengths must add up to 3, got more by index 1", {1, std::numeric_limits<std::int64_t>::max()}, 3, 0.5);
    check(out == Lengths{7, 7}, "a refusal should leave the lengths");
}

template <class U>
void test_items(Random& random, U exponent) {
    test_dropout<U>(random, exponent);
    test_threads_and_splits<U>(random, exponent);
    test_refusals<U>(random, exponent);
}

}  // namespace

int main() {
    Random random(20240614);
    test_draws(random);
    test_items<std::uint16_t>(random, 0x7c00);
    test_items<std::uint32_t>(random, 0x7f800000);
    test_items<std::uint64_t>(random, 0x7ff0000000000000);
    test_gradient<float>(random);
    test_gradient<double>(random);
    test_centers<float>(random);
    test_centers<double>(random);
    test_segments<std::int32_t>(random);
    test_segments<std::int64_t>(random);
    test_values<float>(random, 0x7f800000u);
    test_values<double>(random, std::uint64_t{0x7ff} << 52);
    test_values<std::int32_t>(random, std::uint32_t{0});
    test_values<std::int64_t>(random, std::uint64_t{0});
    return finish("dropout");
}
