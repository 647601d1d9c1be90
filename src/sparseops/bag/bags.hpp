// SPDX-License-Identifier: BSD-3-Clause
// The entries of a minibatch, by example and by feature.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "../bag.hpp"
#include "../detail/index.hpp"
#include "../dropout/bits.hpp"
#include "../kernels/prefetch.hpp"

namespace sparseops::detail {

// The features of some examples with their weights in the bag: x_ij, divided by Σ|x_ij| for the mean.
template <Real T>
struct Bags {
    std::vector<std::size_t> start;
    std::vector<std::int32_t> feature;
    std::vector<T> weight;

    // drops.rate 0: every feature stays. Otherwise those whose draw, at their place in X, drops are left out, or become
    // `replacement` if that is not negative.
    template <Index I, class ExampleOf>
    void fill(CsrView<const T, I> X, std::size_t n, BagMode mode, ExampleOf example_of, Drops drops = {}, std::int64_t replacement = -1) {
        start.assign(n + 1, 0);
        for (std::size_t i = 0; i < n; ++i) {
            const auto row = example_of(i);
            start[i + 1] = start[i] + ix(X.indptr[row + 1] - X.indptr[row]);
        }
        feature.resize(start[n]);
        weight.resize(start[n]);
        std::size_t to = 0;
        for (std::size_t i = 0; i < n; ++i) {
            const auto from = ix(X.indptr[example_of(i)]), count = start[i + 1] - start[i];
            const std::size_t first = to;
            if (i + rows_ahead_ < n) {
                const auto later = ix(X.indptr[example_of(i + rows_ahead_)]), length = start[i + rows_ahead_ + 1] - start[i + rows_ahead_];
                prefetch(X.indices.data() + later, length);
                prefetch(X.data.data() + later, length);
            }
            if (drops.rate > 0) {
                dropped_.resize((count + 63) / 64);
                drops.first = from;
                draw_drops(drops, count, dropped_);
            }
            T sum = 0;
            for (std::size_t j = 0; j < count; ++j) {
                const bool drop = drops.rate > 0 && ((dropped_[j / 64] >> (j % 64)) & 1);
                if (drop && replacement < 0) continue;
                feature[to] = drop ? static_cast<std::int32_t>(replacement) : static_cast<std::int32_t>(X.indices[from + j]);
                weight[to] = X.data[from + j];
                sum += std::abs(X.data[from + j]);
                ++to;
            }
            start[i] = first;
            if (mode == BagMode::sum || !(sum > 0)) continue;
            if (!std::isnormal(T(1) / sum)) sum = bring_into_range(std::span(weight).subspan(first, to - first));
            const T inverse = T(1) / sum;
            for (std::size_t j = first; j < to; ++j) weight[j] *= inverse;
        }
        start[n] = to;
        feature.resize(to);
        weight.resize(to);
    }

private:
    static constexpr std::size_t rows_ahead_ = 4;  // rows of X that are prefetched

    // Scales weights so that the largest is in [1, 2), and returns their sum.
    static T bring_into_range(std::span<T> w) {
        T largest = 0, sum = 0;
        for (const T v : w) largest = std::max(largest, std::abs(v));
        const int exponent = std::ilogb(largest);
        for (T& v : w) sum += std::abs(v = std::scalbn(v, -exponent));
        return sum;
    }

    std::vector<std::uint64_t> dropped_;
};

// The entries of a minibatch by feature: stable, so that each feature's gradient is summed in example order.
template <Real T>
struct ByFeature {
    struct Entry {
        std::int32_t feature, example;
        T weight;
    };
    std::vector<Entry> entries, other;
    std::vector<std::size_t> first;  // of each feature that occurs, + the end
    std::vector<std::int32_t> example;
    std::vector<T> weight;

    void invert(const Bags<T>& bags, std::size_t features) {
        const std::size_t n = bags.start.size() - 1;
        entries.clear();
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = bags.start[i]; j < bags.start[i + 1]; ++j)
                entries.push_back({bags.feature[j], static_cast<std::int32_t>(i), bags.weight[j]});
        }
        other.resize(entries.size());
        constexpr unsigned bits = 10, mask = (1u << bits) - 1;
        for (unsigned shift = 0; shift < 31 && (features - 1) >> shift; shift += bits) {
            std::array<std::size_t, mask + 2> start{};
            for (const Entry& e : entries) ++start[((static_cast<std::uint32_t>(e.feature) >> shift) & mask) + 1];
            std::partial_sum(start.begin(), start.end(), start.begin());
            for (const Entry& e : entries) other[start[(static_cast<std::uint32_t>(e.feature) >> shift) & mask]++] = e;
            entries.swap(other);
        }
        first.clear();
        example.resize(entries.size());
        weight.resize(entries.size());
        for (std::size_t i = 0; i < entries.size(); ++i) {
            if (i == 0 || entries[i].feature != entries[i - 1].feature) first.push_back(i);
            example[i] = entries[i].example;
            weight[i] = entries[i].weight;
        }
        first.push_back(entries.size());
    }
};

}  // namespace sparseops::detail
