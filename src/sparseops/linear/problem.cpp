// SPDX-License-Identifier: BSD-3-Clause
#include "problem.hpp"

#include <algorithm>
#include <numeric>

#include "../detail/index.hpp"
#include "../detail/random.hpp"

namespace sparseops::detail {

Reach::Reach(const HierarchyView& h, const LabelsView& labels, std::span<const float> cost)
    : first_(h.nodes()), last_(h.nodes()), begin_(h.classes() + 1, 0) {
    const auto place = [&](std::int64_t c) { return ix(h.leaf_rank[ix(c)]); };
    for (std::size_t i = h.nodes(); i-- > 0;) {  // a node comes before those below it
        const auto v = ix(h.preorder[i]);
        const auto children = h.children(v);
        const std::int32_t a = children.front(), b = children.back();
        first_[v] = a < 0 ? leaf(h, a) : first_[ix(a)];
        last_[v] = b < 0 ? leaf(h, b) + 1 : last_[ix(b)];
        root_ = v;
    }
    for (std::size_t i = 0; i < labels.rows(); ++i) {
        if (!(cost[i] > 0)) continue;
        for (const std::int64_t c : labels.of(i)) ++begin_[place(c) + 1];
        if (labels.of(i).empty()) unlabelled_.push_back(static_cast<std::uint32_t>(i));
    }
    std::partial_sum(begin_.begin(), begin_.end(), begin_.begin());
    listed_.resize(begin_.back());
    std::vector<std::size_t> at(begin_.begin(), begin_.end() - 1);
    for (std::size_t i = 0; i < labels.rows(); ++i) {
        if (!(cost[i] > 0)) continue;
        for (const std::int64_t c : labels.of(i)) listed_[at[place(c)]++] = static_cast<std::uint32_t>(i);
    }
}

// The examples in an order shuffled by the seed and the node, and the rows of W that each is for.
void NodeProblem::collect(const HierarchyView& h, const Reach& reach, std::span<const std::uint8_t> held_out, std::size_t v,
                          std::uint64_t seed) {
    constexpr std::uint64_t none = 0xffffffff;
    pairs_.clear();
    reach.each_child(h, v, [&](std::size_t child, std::span<const std::uint32_t> examples) {
        for (const std::uint32_t i : examples) pairs_.push_back((std::uint64_t{i} << 32) | child);
    });
    for (const std::uint32_t i : reach.unlabelled(v)) pairs_.push_back((std::uint64_t{i} << 32) | none);
    std::sort(pairs_.begin(), pairs_.end());
    pairs_.erase(std::unique(pairs_.begin(), pairs_.end()), pairs_.end());
    order_.clear();
    for (std::size_t p = 0; p < pairs_.size(); ++p) {
        if (p == 0 || pairs_[p] >> 32 != pairs_[p - 1] >> 32) order_.push_back(p);
    }
    Draws draws(seed, Stream::linear, std::uint64_t{v} << 16 | 0xffff);
    for (std::size_t n = order_.size(); n > 1; --n) std::swap(order_[n - 1], order_[draws.below(n)]);
    const auto held = std::stable_partition(order_.begin(), order_.end(), [&](std::size_t p) { return !held_out[pairs_[p] >> 32]; });
    training_ = ix(held - order_.begin());
    row_.clear();
    positive_ptr_.assign(1, 0);
    positive_.clear();
    const bool one_row = h.row_count(v) == 1;
    for (const std::size_t from : order_) {
        const std::uint64_t row = pairs_[from] >> 32;
        row_.push_back(static_cast<std::uint32_t>(row));
        for (std::size_t p = from; p < pairs_.size() && pairs_[p] >> 32 == row; ++p) {
            const std::uint64_t child = pairs_[p] & none;
            if (child == none || (one_row && child == 0)) continue;  // the one row of a logistic node is for child 1
            positive_.push_back(static_cast<std::uint16_t>(one_row ? 0 : child));
        }
        positive_ptr_.push_back(positive_.size());
    }
}

template <Index I>
void NodeProblem::build(const HierarchyView& h, const CsrView<const float, I>& X, const Reach& reach, std::span<const float> cost,
                        std::span<const std::uint8_t> held_out, std::size_t v, std::uint64_t seed) {
    collect(h, reach, held_out, v, seed);
    std::size_t entries = 0;
    for (const std::uint32_t row : row_) entries += ix(X.indptr[row + 1] - X.indptr[row]);
    feature_.clear();
    ptr_.assign(1, 0);
    entries_.clear();
    entries_.reserve(entries);
    squares_.clear();
    cost_.clear();
    for (const std::uint32_t row : row_) {
        float squares = 1;
        for (auto j = ix(X.indptr[row]); j < ix(X.indptr[row + 1]); ++j) {
            std::int32_t& place = place_[ix(X.indices[j])];
            if (place < 0) {
                place = static_cast<std::int32_t>(feature_.size());
                feature_.push_back(static_cast<std::int32_t>(X.indices[j]));
            }
            entries_.push_back({place, X.data[j]});
            squares += X.data[j] * X.data[j];
        }
        ptr_.push_back(entries_.size());
        squares_.push_back(squares);
        cost_.push_back(cost[row]);
    }
    for (const std::int32_t f : feature_) place_[ix(f)] = -1;
}

template void NodeProblem::build(const HierarchyView&, const CsrView<const float, std::int32_t>&, const Reach&, std::span<const float>,
                                 std::span<const std::uint8_t>, std::size_t, std::uint64_t);
template void NodeProblem::build(const HierarchyView&, const CsrView<const float, std::int64_t>&, const Reach&, std::span<const float>,
                                 std::span<const std::uint8_t>, std::size_t, std::uint64_t);

}  // namespace sparseops::detail
