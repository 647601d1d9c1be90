// SPDX-License-Identifier: BSD-3-Clause
// Class hierarchies: rooted trees whose leaves are the classes 0 … C-1, as flat arrays.
//
// An inner node v owns the decision rows row_ptr[v] .. row_ptr[v+1]) of the weight matrix: one row if it is
// logistic (two children, P(child 1) = σ(w·x + b)), otherwise one row a child (softmax). In a tree of independent nodes each child has
// a row and a probability of its own, P = σ(w·x + b): a probabilistic label tree, for several labels (Jasinska et al. 2016). The
// probability of a class is then the product over its path, and does not sum to 1 over the classes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "types.hpp"

namespace sparseops {

// The view that every operator takes. C classes, V inner nodes, R rows, P path steps in all.
struct HierarchyView {
    std::span<const std::int64_t> path_ptr = {};    // C + 1: class c's steps, root first, are path_ptr[c] .. path_ptr[c+1]
    std::span<const std::int32_t> path_node = {};   // P
    std::span<const std::int32_t> path_child = {};  // P: which child of the node
    std::span<const std::int64_t> child_ptr = {};   // V + 1
    std::span<const std::int32_t> child = {};       // C + V - 1: >= 0 an inner node, < 0 the class ~child
    std::span<const std::int64_t> row_ptr = {};     // V + 1
    std::span<const std::int32_t> preorder = {};    // V: the nodes depth first, children in their order
    std::span<const std::int32_t> leaf_rank = {};   // C: place of each class in the same walk
    bool ordered = true;                            // preorder is 0, 1, 2, …
    bool logistic = true;                           // every node is logistic: row v belongs to node v
    std::int32_t depth = 0;                         // longest path
    std::size_t widest = 0;                         // most rows that a node owns
    bool independent = false;                       // every child is its own yes or no, P = σ(its row); no node is logistic then
    std::span<const std::int32_t> level = {};       // V: depth of each node, the root's is 0

    std::size_t classes() const noexcept { return path_ptr.empty() ? 0 : path_ptr.size() - 1; }
    std::size_t nodes() const noexcept { return row_ptr.empty() ? 0 : row_ptr.size() - 1; }
    std::size_t rows() const noexcept { return row_ptr.empty() ? 0 : static_cast<std::size_t>(row_ptr.back()); }
    std::span<const std::int32_t> path_nodes(std::size_t c) const noexcept { return path_node.subspan(first(c), steps(c)); }
    std::span<const std::int32_t> path_children(std::size_t c) const noexcept { return path_child.subspan(first(c), steps(c)); }
    std::span<const std::int32_t> children(std::size_t v) const noexcept {
        const auto from = static_cast<std::size_t>(child_ptr[v]);
        return child.subspan(from, static_cast<std::size_t>(child_ptr[v + 1]) - from);
    }
    std::size_t row(std::size_t v) const noexcept { return static_cast<std::size_t>(row_ptr[v]); }
    std::size_t row_count(std::size_t v) const noexcept { return static_cast<std::size_t>(row_ptr[v + 1] - row_ptr[v]); }
    bool is_logistic(std::size_t v) const noexcept { return row_ptr[v + 1] - row_ptr[v] == 1; }

private:
    std::size_t first(std::size_t c) const noexcept { return static_cast<std::size_t>(path_ptr[c]); }
    std::size_t steps(std::size_t c) const noexcept { return static_cast<std::size_t>(path_ptr[c + 1] - path_ptr[c]); }
};

// A checked tree with the derived arrays that operators need. Movable. Made of a Hierarchy it owns the six arrays (which are moved
// out of a temporary); made of a view it points to them, and they must outlive it.
// The constructors throw std::invalid_argument unless the arrays are one tree and its paths. O(P + V + C).
class HierarchyIndex {
public:
    HierarchyIndex() = default;
    HierarchyIndex(HierarchyIndex&&) noexcept = default;  // moved vectors keep their elements, so the view stays right
    HierarchyIndex& operator=(HierarchyIndex&&) noexcept = default;
    explicit HierarchyIndex(const HierarchyView& arrays);
    explicit HierarchyIndex(Hierarchy h);
    const HierarchyView& view() const noexcept { return view_; }

private:
    void check();

    Hierarchy owned_;
    HierarchyView view_;
    std::vector<std::int32_t> preorder_, leaf_rank_, level_;
};

// ---- builders: deterministic; nodes come out depth first, the root is node 0; nodes with two children are
// ---- logistic unless `logistic` is false. All throw std::invalid_argument on bad input.

// Optimal prefix code (Huffman 1952; k-ary with dummy padding, so that only one node is not full), by the two-queue
// construction on sorted counts: the smallest depth among the optimal trees. Ties: the lower class is the shallower.
// `max_depth` limits the length of codes (package-merge, Larmore & Hirschberg 1990). O(C log C), O(C max_depth) if limited.
Hierarchy huffman(std::span<const double> counts, int arity = 2, std::optional<int> max_depth = {}, bool logistic = true);

// Complete tree, classes in order from left to right.
Hierarchy balanced(std::int64_t n_classes, int arity = 2, bool logistic = true);

// A root over n_groups groups of classes. Empty counts: groups of equal size in class order; otherwise groups of about equal
// count, from the most frequent class down.
Hierarchy two_level(std::int64_t n_classes, std::span<const double> counts, std::int64_t n_groups, bool logistic = true);

// Any tree. parents[i] is the parent of node i, -1 for the root; classes lists the leaves in class order (empty: by id).
// Chains of single-child nodes are collapsed. max_children >= 2 splits wider nodes by Huffman over the counts below.
Hierarchy from_parents(std::span<const std::int64_t> parents, std::span<const std::int64_t> classes, std::span<const double> counts,
                       int max_children = 0, bool logistic = true);

// The tree that has these paths, with the caller's node numbers. logistic: empty (all two-child nodes) or one flag a node.
Hierarchy from_paths(std::span<const std::int64_t> path_ptr, std::span<const std::int64_t> path_node,
                     std::span<const std::int64_t> path_child, std::span<const std::uint8_t> logistic);

// ---- on a tree

// The same tree with independent nodes, one row a child. O(P + V + C).
Hierarchy independent(const HierarchyView& h);

// The same shape with the classes dealt anew to the leaves, so that the expected path length is the least for that shape.
Hierarchy optimal_codes(const HierarchyView& h, std::span<const double> counts);

enum class PruneBy { min_count, max_nodes, max_depth };
// Subtrees below the limit become one flat softmax node, or independent one in a tree of such; no class is lost.
Hierarchy prune(const HierarchyView& h, std::span<const double> counts, PruneBy by, double limit);

// A connected part of a tree, as a tree of its own: nodes and the children of each in their order. Its classes are its exits.
struct Piece {
    Hierarchy tree;
    std::vector<std::int64_t> nodes;   // their numbers in the whole tree, rising
    std::vector<std::int64_t> rows;    // the rows of W that it owns, rising
    std::vector<std::int64_t> exits;   // per class: >= 0 a class of the whole tree, < 0 its node ~exit, at which another piece begins
    std::vector<std::int64_t> places;  // exits + 1: the classes below exit i have these places up to those of the next, see Pieces
    double work = 0;                   // expected: the mass of the classes below each node times its rows
};

struct Pieces {
    std::vector<Piece> pieces;              // the heaviest first
    std::vector<std::int64_t> class_place;  // C: place of each class in the walk depth first, the order in which operators sum
};

// Cuts the tree so that no piece of several nodes has more than 1 / n_parts of the work. Empty counts: all 1. Bottom up, a node cuts off
// the heaviest of what hangs on it until the rest fits. A piece of a single node may be heavier. O(C + V log V).
Pieces split(const HierarchyView& h, std::span<const double> counts, std::int64_t n_parts);

}  // namespace sparseops
