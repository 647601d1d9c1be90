// SPDX-License-Identifier: BSD-3-Clause
#include "start.hpp"

#include <algorithm>

#include "../detail/index.hpp"

namespace sparseops::detail {
namespace {

// The features of node v lie at the places [first, last).
struct Places {
    std::size_t first, last;
};
Places places(const SparseRowsView& W, std::size_t v) { return {ix(W.feature_ptr[v]), ix(W.feature_ptr[v + 1])}; }

void append_stored(const SparseRowsView& W, std::size_t place, NodeRows& out) {
    const auto first = static_cast<std::ptrdiff_t>(W.entry_ptr[place]), last = static_cast<std::ptrdiff_t>(W.entry_ptr[place + 1]);
    out.feature.push_back(W.feature[place]);
    out.size.push_back(static_cast<std::int32_t>(last - first));
    out.slot.insert(out.slot.end(), W.slot.begin() + first, W.slot.begin() + last);
    out.weight.insert(out.weight.end(), W.weight.begin() + first, W.weight.begin() + last);
}

}  // namespace

NodeStart::NodeStart(const SparseRowsView& W, std::size_t v, const NodeProblem& problem) : W_(W), v_(v), place_(problem.features(), -1) {
    const auto [first, last] = places(W, v);
    const auto begin = W.feature.begin() + static_cast<std::ptrdiff_t>(first), end = W.feature.begin() + static_cast<std::ptrdiff_t>(last);
    for (std::size_t f = 0; f < place_.size(); ++f) {
        const auto at = std::lower_bound(begin, end, problem.feature(f));
        if (at != end && *at == problem.feature(f)) place_[f] = at - W.feature.begin();
    }
}

void NodeStart::fill(std::size_t first, std::size_t rows, std::size_t width, float offset, float* weights, float* bias) const {
    for (std::size_t f = 0; f < place_.size(); ++f) {
        if (place_[f] < 0) continue;
        const auto place = ix(place_[f]);
        for (auto e = ix(W_.entry_ptr[place]); e < ix(W_.entry_ptr[place + 1]); ++e) {
            const std::size_t slot = W_.slot[e];
            if (slot >= first && slot < first + rows) weights[f * width + slot - first] = W_.weight[e];
        }
    }
    const std::size_t row = ix(W_.row_ptr[v_]) + first;
    for (std::size_t k = 0; k < rows; ++k) bias[k] = W_.bias[row + k] - offset;
}

NodeRows NodeStart::with_rest(const NodeRows& trained) const {
    const auto [first, last] = places(W_, v_);
    std::vector<std::uint8_t> replaced(last - first, 0);
    for (const std::int64_t place : place_) {
        if (place >= 0) replaced[ix(place) - first] = 1;
    }
    NodeRows out;
    out.bias = trained.bias;
    std::size_t entry = 0, stored = first;
    const auto append_stored_below = [&](std::int64_t feature) {
        for (; stored < last && W_.feature[stored] < feature; ++stored) {
            if (!replaced[stored - first]) append_stored(W_, stored, out);
        }
    };
    for (std::size_t f = 0; f < trained.feature.size(); ++f) {
        append_stored_below(trained.feature[f]);
        const auto begin = static_cast<std::ptrdiff_t>(entry);
        entry += ix(trained.size[f]);
        const auto end = static_cast<std::ptrdiff_t>(entry);
        out.feature.push_back(trained.feature[f]);
        out.size.push_back(trained.size[f]);
        out.slot.insert(out.slot.end(), trained.slot.begin() + begin, trained.slot.begin() + end);
        out.weight.insert(out.weight.end(), trained.weight.begin() + begin, trained.weight.begin() + end);
    }
    append_stored_below(std::int64_t{1} << 32);
    return out;
}

NodeRows stored_rows(const SparseRowsView& W, std::size_t v) {
    NodeRows out;
    const auto [first, last] = places(W, v);
    for (std::size_t place = first; place < last; ++place) append_stored(W, place, out);
    out.bias.assign(W.bias.begin() + static_cast<std::ptrdiff_t>(W.row_ptr[v]),
                    W.bias.begin() + static_cast<std::ptrdiff_t>(W.row_ptr[v + 1]));
    return out;
}

}  // namespace sparseops::detail
