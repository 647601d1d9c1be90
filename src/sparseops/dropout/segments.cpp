// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../dropout.hpp"
#include "bits.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t sum_block = 65536;

std::vector<std::uint64_t> drawn(const Drops& drops, std::size_t n) {
    std::vector<std::uint64_t> bits((n + 63) / 64);
    draw_drops(drops, n, bits);
    return bits;
}
bool bit(const std::vector<std::uint64_t>& bits, std::size_t i) noexcept { return (bits[i / 64] >> (i % 64)) & 1; }

void require_lengths(std::span<const std::int64_t> lengths, std::size_t ids) {
    detail::require_data("lengths", lengths);
    std::size_t sum = 0;
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        require(lengths[s] >= 0, "lengths must be non-negative, got ", lengths[s], " at index ", s);
        require(static_cast<std::size_t>(lengths[s]) <= ids - sum, "lengths must add up to ", ids, ", got more by index ", s);
        sum += static_cast<std::size_t>(lengths[s]);
    }
    require(sum == ids, "lengths must add up to ", ids, ", got ", sum);
}

struct Sum {
    double total = 0;
    std::size_t count = 0;
};

template <Real T>
T nonzero_mean(std::span<const T> x, int threads) {
    std::vector<Sum> sums((x.size() + sum_block - 1) / sum_block);
    detail::parallel_for(sums.size(), threads, [&](std::size_t b, std::size_t) {
        double lane[8] = {};
        std::size_t count = 0;
        const auto part = x.subspan(b * sum_block, std::min(sum_block, x.size() - b * sum_block));
        for (std::size_t i = 0; i < part.size(); ++i) {
            lane[i % 8] += static_cast<double>(part[i]);
            count += part[i] != T(0);
        }
        sums[b] = {((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7])), count};
    });
    Sum sum;
    for (const Sum& s : sums) sum = {sum.total + s.total, sum.count + s.count};
    if (!std::isfinite(sum.total)) {  // doubles alone: again, with room for 2⁶⁴ of them
        sum.total = 0;
        for (const T v : x) sum.total += static_cast<double>(v) * 0x1p-64;
        return static_cast<T>(sum.total / static_cast<double>(sum.count) * 0x1p64);
    }
    return sum.count ? static_cast<T>(sum.total / static_cast<double>(sum.count)) : T(0);
}

template <Real T>
T nonzero_median(std::span<const T> x) {
    std::vector<T> values;
    values.reserve(x.size());
    for (const T v : x) {
        if (v != T(0)) values.push_back(v);
    }
    if (values.empty()) return T(0);
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    if (values.size() % 2) return *middle;
    const double below = static_cast<double>(*std::max_element(values.begin(), middle)), above = static_cast<double>(*middle);
    return static_cast<T>(std::midpoint(below, above));
}

}  // namespace

template <Real T>
void nonzero_centers(std::span<const T> x, std::span<const std::int64_t> offsets, Center center, std::span<T> out, int num_threads) {
    require(offsets.size() == out.size() + 1, "offsets must have ", out.size() + 1, " entries, got ", offsets.size());
    detail::require_data("x", x);
    detail::require_data("offsets", offsets);
    detail::require_data("out", out);
    require(offsets[0] == 0 && static_cast<std::size_t>(offsets.back()) == x.size(), "offsets must go from 0 to ", x.size(), ", got ",
            offsets[0], " and ", offsets.back());
    for (std::size_t s = 0; s < out.size(); ++s)
        require(offsets[s + 1] >= offsets[s], "offsets must not decrease, got ", offsets[s + 1], " at index ", s + 1);
    const int threads = detail::team_size(num_threads, 4 * static_cast<double>(x.size()));
    const bool few = out.size() == 1;  // then its blocks are shared out, else the segments
    detail::parallel_for(out.size(), few ? 1 : threads, [&](std::size_t s, std::size_t) {
        const auto from = static_cast<std::size_t>(offsets[s]);
        const auto part = x.subspan(from, static_cast<std::size_t>(offsets[s + 1]) - from);
        out[s] = center == Center::mean ? nonzero_mean(part, few ? threads : 1) : nonzero_median(part);
    });
}

std::size_t dropout_lengths(std::span<const std::int64_t> lengths, std::size_t ids, const Drops& drops,
                            std::span<std::int64_t> new_lengths) {
    require(drops.rate >= 0 && drops.rate <= 1, "rate must be in [0, 1], got ", drops.rate);
    require(drops.first <= ~std::uint64_t{0} - lengths.size(), "start must leave ", lengths.size(), " draws below 2**64, got ",
            drops.first);
    require(new_lengths.size() == lengths.size(), "new_lengths must have ", lengths.size(), " entries, got ", new_lengths.size());
    detail::require_data("new_lengths", new_lengths);
    require_lengths(lengths, ids);
    const auto bits = drawn(drops, lengths.size());
    for (std::size_t s = 0; s < lengths.size(); ++s) new_lengths[s] = bit(bits, s) ? 1 : lengths[s];
    return static_cast<std::size_t>(std::accumulate(new_lengths.begin(), new_lengths.end(), std::int64_t{0}));
}

template <Index I>
void dropout_ids(std::span<const I> ids, std::span<const std::int64_t> lengths, const Drops& drops, I replacement, std::span<I> new_ids) {
    detail::require_data("ids", ids);
    detail::require_data("new_ids", new_ids);
    require_lengths(lengths, ids.size());
    const auto bits = drawn(drops, lengths.size());
    std::size_t room = new_ids.size();
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        const std::size_t length = bit(bits, s) ? 1 : static_cast<std::size_t>(lengths[s]);
        require(length <= room, "new_ids must have room for all, got ", new_ids.size());
        room -= length;
    }
    const I* from = ids.data();
    I* to = new_ids.data();
    for (std::size_t s = 0; s < lengths.size(); ++s) {
        to = bit(bits, s) ? std::fill_n(to, 1, replacement) : std::copy_n(from, lengths[s], to);
        from += lengths[s];
    }
}

template void nonzero_centers(std::span<const float>, std::span<const std::int64_t>, Center, std::span<float>, int);
template void nonzero_centers(std::span<const double>, std::span<const std::int64_t>, Center, std::span<double>, int);
template void dropout_ids(std::span<const std::int32_t>, std::span<const std::int64_t>, const Drops&, std::int32_t,
                          std::span<std::int32_t>);
template void dropout_ids(std::span<const std::int64_t>, std::span<const std::int64_t>, const Drops&, std::int64_t,
                          std::span<std::int64_t>);

}  // namespace sparseops
