// SPDX-License-Identifier: BSD-3-Clause
// Sums over the columns of a matrix stored by rows, in fixed blocks: the same bytes for any number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "../detail/parallel.hpp"
#include "../kernels/prefetch.hpp"
#include "sizes.hpp"

namespace sparseops::detail {

// The blocks of a pass over n entries, a function of n and cols: what a block costs in cols is a sixteenth of its entries, or a
// quarter, if threads had nothing to share otherwise.
inline std::size_t column_blocks(std::size_t n, std::size_t cols) noexcept {
    const std::size_t few = std::clamp<std::size_t>(n / (4 * cols + 65536), 1, 4);
    return std::clamp<std::size_t>(n / (16 * cols + 65536), few, 64);
}

// f(e) for the entries [from, to), until it says false. Each entry has a cell in a table of `cols`, prefetched where the
// table would fill a second-level cache.
template <Index I, class Cell, class F>
std::size_t each_entry(const I* index, std::size_t from, std::size_t to, const Cell* table, std::size_t cols, F f) {
    constexpr std::size_t prefetch_distance = 96;  // in entries: twice as far as a processor sees by itself
    const bool far = cols * sizeof(Cell) > 131072;
    std::size_t e = from;
    for (const std::size_t last = far && to - from > prefetch_distance ? to - prefetch_distance : from; e < last; ++e) {
        prefetch_entry(table, index[e + prefetch_distance]);
        if (!f(e)) [[unlikely]]
            return e;
    }
    for (; e < to; ++e) {
        if (!f(e)) [[unlikely]]
            return e;
    }
    return to;
}

// f(from, to, which range) for ranges of columns.
constexpr std::size_t column_range = 4096;
inline std::size_t column_ranges(std::size_t cols) noexcept { return (cols + column_range - 1) / column_range; }
template <class F>
void parallel_ranges(std::size_t cols, int threads, F f) {
    parallel_for(column_ranges(cols), threads,
                 [&](std::size_t i, std::size_t) { f(i * column_range, std::min(cols, (i + 1) * column_range), i); });
}

// Sums of `blocks` blocks, each by measure_block(block, sums of its own), combined in block order.
template <class MeasureBlock>
void sum_blocks(std::size_t blocks, Norm ord, int threads, std::span<double> sum, MeasureBlock measure_block) {
    const std::size_t cols = sum.size(), stride = padded_stride<double>(cols);
    const auto own = std::make_unique_for_overwrite<double[]>(blocks * stride);
    const auto of = [&](std::size_t b) { return b == 0 ? sum.data() : own.get() + b * stride; };
    parallel_for(blocks, threads, [&](std::size_t b, std::size_t) {
        std::fill_n(of(b), cols, 0.0);
        measure_block(b, of(b));
    });
    parallel_ranges(cols, threads, [&](std::size_t from, std::size_t to, std::size_t) {
        for (std::size_t b = 1; b < blocks; ++b) {
            for (std::size_t c = from; c < to; ++c) sum[c] = combine(ord, sum[c], of(b)[c]);
        }
    });
}

// Whether the square of an entry underflows: then a sum of 0 does not say that all entries are 0.
template <Real T>
bool has_tiny(std::span<const T> x) noexcept {
    bool found = false;
    if constexpr (std::is_same_v<T, double>) {
        for (const double v : x) found |= std::abs(v) < 1e-140 && v != 0;
    }
    return found;
}

struct ColumnSizes {
    std::span<const double> value;
    std::vector<double> scale;  // empty: all 1
    Size operator[](std::size_t c) const noexcept { return {value[c], scale.empty() ? 1 : scale[c]}; }
};

// Turns the measures of columns into sizes, in place; each_entry(f) calls f(column, x) for every entry, to measure again what
// left the range of double.
template <Real T, class EachEntry>
ColumnSizes column_sizes(std::span<const T> x, std::span<double> measure, Norm ord, T threshold, int threads, EachEntry each_entry) {
    ColumnSizes out{measure, {}};
    const bool lost = std::any_of(measure.begin(), measure.end(), [](double m) { return m != 0 && doubtful_measure<T>(m); });
    const auto has_zero = [&] { return ord == Norm::l2 && std::find(measure.begin(), measure.end(), 0.0) != measure.end(); };
    if (lost || (std::is_same_v<T, double> && has_zero() && has_tiny(x))) {
        std::vector<double> largest(measure.size(), 0.0);
        each_entry([&](std::size_t c, T v) { largest[c] = join(Norm::max, largest[c], static_cast<double>(drop_small(v, threshold))); });
        out.scale.assign(measure.size(), 1.0);
        for (std::size_t c = 0; c < measure.size(); ++c) {
            if (!doubtful_measure<T>(measure[c])) continue;
            out.scale[c] = rescale_by(largest[c]);
            measure[c] = std::isfinite(largest[c]) ? 0 : largest[c];
        }
        each_entry([&](std::size_t c, T v) {
            if (out.scale[c] != 1) measure[c] = join(ord, measure[c], static_cast<double>(drop_small(v, threshold)) * out.scale[c]);
        });
    }
    if (ord == Norm::l2) {
        parallel_ranges(measure.size(), threads, [&](std::size_t from, std::size_t to, std::size_t) {
            for (std::size_t c = from; c < to; ++c) measure[c] = std::sqrt(measure[c]);
        });
    }
    return out;
}

}  // namespace sparseops::detail
