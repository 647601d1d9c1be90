// SPDX-License-Identifier: BSD-3-Clause
// Scores of the rows of one node for one sparse example.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../detail/index.hpp"
#include "../kernels/linear.hpp"
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

// The same scores, to the last bit, for many examples at one node: its features are spread over a table first, and its weights laid out
// anew, as a dense matrix if that is not much larger.
class OpenNode {
public:
    explicit OpenNode(std::size_t features) : place_(features) {}

    void open(const SparseRowsView& W, std::size_t v) {
        v_ = v;
        first_ = ix(W.feature_ptr[v]);
        last_ = ix(W.feature_ptr[v + 1]);
        rows_ = ix(W.row_ptr[v + 1] - W.row_ptr[v]);
        width_ = (rows_ + linear_lanes - 1) / linear_lanes * linear_lanes;
        const std::size_t used = last_ - first_, entries = ix(W.entry_ptr[last_] - W.entry_ptr[first_]);
        dense_ = used * width_ <= std::min(most_dense, least_fill * entries);
        dense_ ? open_dense(W, used) : open_sparse(W, entries);
    }
    void close(const SparseRowsView& W) {
        for (std::size_t f = first_; f < last_; ++f) place_[ix(W.feature[f])] = {};
    }
    template <Index I>
    void scores(const SparseRowsView& W, const SparseExample<I>& x, float* z) {
        const std::size_t n = find(x);
        const float* const value = value_.data();
        if (dense_ && finite_) {
            start_scores(W, v_, sums_.data());
            linear_kernels().add_rows(matrix_.data(), width_, row_.data(), value, n, sums_.data());
            std::copy_n(sums_.data(), rows_, z);
            return;
        }
        start_scores(W, v_, z);
        for (std::size_t j = 0; j < n; ++j) {
            if (dense_) {
                add_feature(W, first_ + ix(row_[j]), value[j], z);
                continue;
            }
            const Place at = found_[j];
            for (std::size_t e = at.begin; e < at.end; ++e) z[entries_[e].slot] += value[j] * entries_[e].weight;
        }
    }

private:
    static constexpr std::size_t most_dense = std::size_t{1} << 18;  // 1 MiB
    static constexpr std::size_t least_fill = 4;                     // dense if one of so many numbers is a weight

    struct Place {
        std::uint32_t begin = 0, end = 0;  // of entries_; or the row of matrix_ and the next
    };
    struct Entry {
        std::uint32_t slot;
        float weight;
    };

    void open_sparse(const SparseRowsView& W, std::size_t entries) {
        entries_.resize(entries);
        const auto base = ix(W.entry_ptr[first_]);
        for (std::size_t e = 0; e < entries; ++e) entries_[e] = {W.slot[base + e], W.weight[base + e]};
        for (std::size_t f = first_; f < last_; ++f) {
            place_[ix(W.feature[f])] = {static_cast<std::uint32_t>(ix(W.entry_ptr[f]) - base),
                                        static_cast<std::uint32_t>(ix(W.entry_ptr[f + 1]) - base)};
        }
    }
    void open_dense(const SparseRowsView& W, std::size_t used) {
        matrix_.assign(used * width_, 0.0f);
        sums_.resize(width_);
        for (std::size_t f = first_; f < last_; ++f) {
            const std::size_t row = f - first_;
            place_[ix(W.feature[f])] = {static_cast<std::uint32_t>(row), static_cast<std::uint32_t>(row + 1)};
            for (auto e = ix(W.entry_ptr[f]); e < ix(W.entry_ptr[f + 1]); ++e) matrix_[row * width_ + W.slot[e]] = W.weight[e];
        }
    }
    // How many features of x the node has; which, and their values. Without branches, so that the loads do not wait for each other.
    template <Index I>
    std::size_t find(const SparseExample<I>& x) {
        if (value_.size() < x.size + 1) {
            row_.resize(x.size + 1);
            value_.resize(x.size + 1);
            found_.resize(x.size + 1);
        }
        std::size_t n = 0;
        if (!dense_) {
            for (std::size_t j = 0; j < x.size; ++j) {
                const Place at = place_[ix(x.index[j])];
                found_[n] = at;
                value_[n] = x.value[j];
                n += at.end > at.begin;
            }
            return n;
        }
        float odd = 0;
        for (std::size_t j = 0; j < x.size; ++j) {
            const Place at = place_[ix(x.index[j])];
            row_[n] = static_cast<std::int32_t>(at.begin);
            value_[n] = x.value[j];
            odd += x.value[j] - x.value[j];
            n += at.end > at.begin;
        }
        finite_ = odd == 0;  // otherwise a product with a zero of the matrix may be NaN
        return n;
    }

    std::vector<Place> place_;  // of every feature
    std::vector<Place> found_;
    std::vector<Entry> entries_;
    std::vector<float> matrix_, sums_, value_;
    std::vector<std::int32_t> row_;
    std::size_t v_ = 0, first_ = 0, last_ = 0, rows_ = 0, width_ = 0;
    bool dense_ = false, finite_ = true;
};

}  // namespace sparseops::detail
