// SPDX-License-Identifier: BSD-3-Clause
// Scores of the rows of one node for one sparse example.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../detail/index.hpp"
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

// z[j] = Σ_f x_f w_fj + bias of the rows j of node v; the temperature is the caller's. By galloping through the features of
// the node: O(entries of x · log), for one example at a node. The indices must be below W.features.
template <Index I>
void node_scores(const SparseRowsView& W, std::size_t v, const SparseExample<I>& x, float* z) noexcept {
    start_scores(W, v, z);
    const std::int32_t* const all = W.feature.data();
    const std::int32_t* const first = all + W.feature_ptr[v];
    const std::int32_t* const last = all + W.feature_ptr[v + 1];
    const std::int32_t* at = first;
    for (std::size_t j = 0; j < x.size; ++j) {
        const auto f = static_cast<std::int32_t>(x.index[j]);
        if (at == last || *at > f) {
            if (at == first || at[-1] < f) continue;
            at = first;  // the indices do not rise
        }
        std::ptrdiff_t step = 1;
        while (last - at > step && at[step] < f) {
            at += step;
            step *= 2;
        }
        at = std::lower_bound(at, std::min(at + step + 1, last), f);
        if (at < last && *at == f) add_feature(W, ix(at - all), x.value[j], z);
    }
}

// The same scores, to the last bit, for many examples at one node: its features are spread over a table first.
class OpenNode {
public:
    explicit OpenNode(std::size_t features) : place_(features, -1) {}

    void open(const SparseRowsView& W, std::size_t v) {
        v_ = v;
        first_ = ix(W.feature_ptr[v]);
        last_ = ix(W.feature_ptr[v + 1]);
        for (std::size_t f = first_; f < last_; ++f) place_[ix(W.feature[f])] = static_cast<std::int32_t>(f - first_);
    }
    void close(const SparseRowsView& W) {
        for (std::size_t f = first_; f < last_; ++f) place_[ix(W.feature[f])] = -1;
    }
    template <Index I>
    void scores(const SparseRowsView& W, const SparseExample<I>& x, float* z) const noexcept {
        start_scores(W, v_, z);
        for (std::size_t j = 0; j < x.size; ++j) {
            const std::int32_t place = place_[ix(x.index[j])];
            if (place >= 0) add_feature(W, first_ + ix(place), x.value[j], z);
        }
    }

private:
    std::vector<std::int32_t> place_;
    std::size_t v_ = 0, first_ = 0, last_ = 0;
};

}  // namespace sparseops::detail
