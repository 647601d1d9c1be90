// SPDX-License-Identifier: BSD-3-Clause
// The problem of one node: the examples that reach it, with the features that they use numbered anew.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "../kernels/linear.hpp"
#include "../types.hpp"

namespace sparseops::detail {

// Which examples reach which node. An example is listed once for each of its labels, by the place of the label's leaf in the tree:
// the examples of a node are one stretch of the list.
class Reach {
public:
    // The examples of cost 0 are left out. labels must have been checked.
    Reach(const HierarchyView& h, const LabelsView& labels, std::span<const float> cost);

    // Examples that reach v, once for each label below it: an upper bound of their number.
    std::size_t listed(std::size_t v) const noexcept {
        return begin_[last_[v]] - begin_[first_[v]] + (v == root_ ? unlabelled_.size() : 0);
    }
    // The same per child of the node: f(child, examples) for every child.
    template <class F>
    void each_child(const HierarchyView& h, std::size_t v, F f) const {
        std::size_t child = 0;
        for (const std::int32_t c : h.children(v)) {
            const std::size_t first = c < 0 ? leaf(h, c) : first_[static_cast<std::size_t>(c)];
            const std::size_t last = c < 0 ? first + 1 : last_[static_cast<std::size_t>(c)];
            f(child++, std::span(listed_).subspan(begin_[first], begin_[last] - begin_[first]));
        }
    }
    // Examples without a label: they reach the root alone.
    std::span<const std::uint32_t> unlabelled(std::size_t v) const noexcept {
        return v == root_ ? std::span<const std::uint32_t>(unlabelled_) : std::span<const std::uint32_t>();
    }

private:
    static std::size_t leaf(const HierarchyView& h, std::int32_t child) noexcept {
        return static_cast<std::size_t>(h.leaf_rank[static_cast<std::size_t>(~child)]);
    }

    std::vector<std::size_t> first_, last_;  // of each node: its leaves, by their places
    std::vector<std::size_t> begin_;         // of each leaf's place: its examples in the list; one more at the end
    std::vector<std::uint32_t> listed_, unlabelled_;
    std::size_t root_ = 0;
};

// The examples of one node, in a shuffled order; reused from node to node.
class NodeProblem {
public:
    explicit NodeProblem(std::size_t features) : place_(features, -1) {}

    // cost and held_out (1 or 0): of every row of X. The examples that are held out come last.
    template <Index I>
    void build(const HierarchyView& h, const CsrView<const float, I>& X, const Reach& reach, std::span<const float> cost,
               std::span<const std::uint8_t> held_out, std::size_t v, std::uint64_t seed);

    std::size_t examples() const noexcept { return squares_.size(); }
    std::size_t training_examples() const noexcept { return training_; }
    std::size_t features() const noexcept { return feature_.size(); }
    std::int32_t feature(std::size_t f) const noexcept { return feature_[f]; }
    std::size_t row(std::size_t i) const noexcept { return row_[i]; }  // of X
    LinearExamples view() const noexcept { return {ptr_.data(), entries_.data(), squares_.data(), cost_.data()}; }
    // The rows of W of which example i is a positive one.
    std::span<const std::uint16_t> positives(std::size_t i) const noexcept {
        return std::span(positive_).subspan(positive_ptr_[i], positive_ptr_[i + 1] - positive_ptr_[i]);
    }

private:
    void collect(const HierarchyView& h, const Reach& reach, std::span<const std::uint8_t> held_out, std::size_t v, std::uint64_t seed);

    std::vector<std::int32_t> place_;  // of every feature: its number here, or -1
    std::vector<std::int32_t> feature_;
    std::vector<std::size_t> ptr_;
    std::vector<LinearEntry> entries_;
    std::vector<float> squares_, cost_;
    std::vector<std::size_t> positive_ptr_;
    std::vector<std::uint16_t> positive_;
    std::vector<std::uint64_t> pairs_;  // example and child
    std::vector<std::size_t> order_;    // where in pairs_ each example begins
    std::size_t training_ = 0;
    std::vector<std::uint32_t> row_;  // of X
};

}  // namespace sparseops::detail
