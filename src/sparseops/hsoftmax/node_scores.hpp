// SPDX-License-Identifier: BSD-3-Clause
// Scores of the rows of one node for one sparse example.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "../detail/index.hpp"
#include "../kernels/prefetch.hpp"
#include "../types.hpp"
#include "../weights.hpp"

namespace sparseops::detail {

// One example: value[j] at column index[j], in any order.
template <Index I>
struct SparseExample {
    const I* index;
    const float* value;
    std::size_t size;
};

template <Index I>
SparseExample<I> example(const CsrView<const float, I>& x, std::size_t i) noexcept {
    const auto begin = ix(x.indptr[i]);
    return {x.indices.data() + begin, x.data.data() + begin, ix(x.indptr[i + 1]) - begin};
}

inline void start_scores(const SparseRowsView& W, std::size_t v, float* z) noexcept {
    const auto row = static_cast<std::ptrdiff_t>(W.row_ptr[v]);
    std::copy(W.bias.begin() + row, W.bias.begin() + static_cast<std::ptrdiff_t>(W.row_ptr[v + 1]), z);
}

// z += x · the weights of the feature at this place of W.feature.
inline void add_feature(const SparseRowsView& W, std::size_t place, float x, float* z) noexcept {
    const auto end = ix(W.entry_ptr[place + 1]);
    for (auto e = ix(W.entry_ptr[place]); e < end; ++e) z[W.slot[e]] += x * W.weight[e];
}

// Searches of one rising list for several values go step by step together, without branches, so that their loads do not wait for each
// other: at[j] is the place of find[j], if it is in the list. The list is not empty.
template <Index I>
void find_together(const std::int32_t* list, std::size_t size, const I* find, std::size_t n, std::uint32_t* at) noexcept {
    std::fill_n(at, n, 0u);
    for (std::size_t left = size; left > 1;) {
        const std::size_t half = left / 2;
        const std::int32_t* const middle = list + half - 1;
        for (std::size_t j = 0; j < n; ++j) {
            const auto below = static_cast<std::uint32_t>(middle[at[j]] < static_cast<std::int32_t>(find[j]));
            at[j] += static_cast<std::uint32_t>(half) & (0u - below);
        }
        left -= half;
    }
}

// z[j] = Σ_f x_f w_fj + bias of the rows j of node v; the temperature is the caller's. By search of the features of the node, for one
// example at a node: O(entries of x · log). The indices must be below W.features.
template <Index I>
void node_scores(const SparseRowsView& W, std::size_t v, const SparseExample<I>& x, float* z) noexcept {
    start_scores(W, v, z);
    const std::size_t first = ix(W.feature_ptr[v]), size = ix(W.feature_ptr[v + 1]) - first;
    if (size == 0) return;
    constexpr std::size_t some = 32;
    const std::int32_t* const list = W.feature.data() + first;
    std::uint32_t at[some];
    float value[some];
    std::size_t begin[some], end[some];
    for (std::size_t from = 0; from < x.size; from += some) {
        const std::size_t n = std::min(some, x.size - from);
        find_together(list, size, x.index + from, n, at);
        std::size_t found = 0;
        for (std::size_t j = 0; j < n; ++j) {
            const bool is_there = list[at[j]] == static_cast<std::int32_t>(x.index[from + j]);
            at[found] = at[j];
            value[found] = x.value[from + j];
            found += is_there;
        }
        for (std::size_t j = 0; j < found; ++j) prefetch_line(W.entry_ptr.data() + first + at[j]);
        for (std::size_t j = 0; j < found; ++j) {
            begin[j] = ix(W.entry_ptr[first + at[j]]);
            end[j] = ix(W.entry_ptr[first + at[j] + 1]);
            prefetch_line(W.slot.data() + begin[j]);
            prefetch_line(W.weight.data() + begin[j]);
        }
        for (std::size_t j = 0; j < found; ++j) {
            for (std::size_t e = begin[j]; e < end[j]; ++e) z[W.slot[e]] += value[j] * W.weight[e];
        }
    }
}

}  // namespace sparseops::detail
