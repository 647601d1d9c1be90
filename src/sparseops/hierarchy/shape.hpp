// SPDX-License-Identifier: BSD-3-Clause
// A tree as child lists, and its completion to a Hierarchy: the part that all builders share.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../detail/require.hpp"
#include "../types.hpp"

namespace sparseops::detail {

// Node v's children are child[child_ptr[v] .. child_ptr[v+1]): >= 0 a node of this list, < 0 the class ~child.
// `root` follows the same rule, so that a tree of one class is root = ~0.
struct Shape {
    std::vector<std::int64_t> child_ptr{0};
    std::vector<std::int32_t> child;
    std::int32_t root = ~0;
    std::vector<std::uint8_t> flat;  // empty, or 1 where a two-child node is to be softmax all the same

    std::int32_t close_node() {  // the children pushed since the last call are one node
        child_ptr.push_back(static_cast<std::int64_t>(child.size()));
        return static_cast<std::int32_t>(child_ptr.size() - 2);
    }
    std::size_t nodes() const { return child_ptr.size() - 1; }
    std::span<const std::int32_t> children(std::size_t v) const {
        const auto from = static_cast<std::size_t>(child_ptr[v]);
        return {child.data() + from, static_cast<std::size_t>(child_ptr[v + 1]) - from};
    }
};

constexpr std::int64_t max_classes = std::int64_t{1} << 30;  // classes, nodes and children are 32-bit

inline void require_counts(std::span<const double> counts) {
    require(!counts.empty(), "counts must not be empty");
    require_data("counts", counts);
    require(counts.size() <= static_cast<std::size_t>(max_classes), "counts must have at most ", max_classes, " entries, got ",
            counts.size());
    double total = 0;
    for (std::size_t i = 0; i < counts.size(); ++i) {
        require(std::isfinite(counts[i]) && counts[i] >= 0, "counts must be finite and non-negative, got ", counts[i], " at index ", i);
        total += counts[i];
    }
    require(std::isfinite(total), "counts must have a finite sum, got ", total);
}

inline void require_arity(int arity) { require(arity >= 2, "arity must be at least 2, got ", arity); }

// Optimal prefix code over checked weights; item i is leaf ~i.
Shape huffman_shape(std::span<const double> weights, int arity);

// Numbers the nodes depth first and writes paths and rows. The leaves must be ~0 … ~(classes-1), each once.
Hierarchy complete(const Shape& shape, std::size_t classes, bool logistic);

// The same with the shape's own node numbers.
Hierarchy complete_as_numbered(Shape shape, std::size_t classes, bool logistic);

// Renames the leaves 0, 1, 2, … from left to right.
void relabel_leaves_in_order(Shape& shape);

}  // namespace sparseops::detail
