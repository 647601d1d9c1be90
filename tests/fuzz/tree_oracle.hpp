// SPDX-License-Identifier: BSD-3-Clause
// What every class tree is, checked without the library's own check.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <sparseops/hierarchy.hpp>

#include "input.hpp"

namespace sparseops_fuzz {

using sparseops::Hierarchy;
using sparseops::HierarchyIndex;
using sparseops::HierarchyView;
using Ids = std::vector<std::int64_t>;

// One tree: pointers in order, every node with children of its own and the rows of its kind, every class at the end of the
// path that leads to it, Kraft's equality Σ_c Π 1/k = 1 (so no leaf is missing), and the derived arrays.
inline void must_be_tree(const HierarchyView& h) {
    const std::size_t classes = h.classes(), nodes = h.nodes();
    must(classes >= 1 && h.child_ptr.size() == nodes + 1 && h.row_ptr[0] == 0 && h.child_ptr[0] == 0, "the arrays have their sizes");
    must(h.child.size() == (nodes ? classes + nodes - 1 : 0), "a tree has a child for every class and every node but the root");
    std::vector<std::int32_t> parent(nodes, -1), seen(classes, 0);
    std::size_t root = nodes, widest = 0, depth = 0;
    bool logistic = true;
    for (std::size_t v = 0; v < nodes; ++v) {
        must(h.child_ptr[v + 1] - h.child_ptr[v] >= 2, "node ", v, " has two children");
        const std::size_t k = h.children(v).size(), rows = h.row_count(v);
        must(rows == k || (rows == 1 && k == 2), "node ", v, " has its rows");
        widest = std::max(widest, rows);
        logistic = logistic && rows == 1;
        for (const std::int32_t c : h.children(v)) {
            if (c < 0) {
                must(static_cast<std::size_t>(~c) < classes && !seen[static_cast<std::size_t>(~c)]++, "each class is one leaf");
            } else {
                must(static_cast<std::size_t>(c) < nodes && parent[static_cast<std::size_t>(c)] < 0, "each node has one parent");
                parent[static_cast<std::size_t>(c)] = static_cast<std::int32_t>(v);
            }
        }
    }
    for (std::size_t v = 0; v < nodes; ++v) {
        if (parent[v] < 0) root = v;
    }
    double kraft = 0;
    for (std::size_t c = 0; c < classes; ++c) {
        const auto path = h.path_nodes(c), steps = h.path_children(c);
        std::int32_t at = nodes ? static_cast<std::int32_t>(root) : ~std::int32_t{0};
        double share = 1;
        for (std::size_t d = 0; d < path.size(); ++d) {
            must(at >= 0 && path[d] == at, "the path to class ", c, " passes node ", at);
            const auto children = h.children(static_cast<std::size_t>(at));
            must(steps[d] >= 0 && static_cast<std::size_t>(steps[d]) < children.size(), "the path to class ", c, " takes a child");
            share /= static_cast<double>(children.size());
            at = children[static_cast<std::size_t>(steps[d])];
        }
        must(at == ~static_cast<std::int32_t>(c), "the path to class ", c, " ends there");
        depth = std::max(depth, path.size());
        kraft += share;
    }
    must(std::abs(kraft - 1) < 1e-9, "Kraft's sum is 1, got ", kraft);
    must(h.depth == static_cast<std::int32_t>(depth) && h.widest == widest && h.logistic == logistic, "depth, width and kind agree");
    must(h.preorder.size() == nodes && h.leaf_rank.size() == classes, "the walk has every node and class");
    bool ordered = true;
    for (std::size_t i = 0; i < nodes; ++i) ordered = ordered && h.preorder[i] == static_cast<std::int32_t>(i);
    must(h.ordered == ordered, "ordered says whether nodes are numbered depth first");
}

// The index of a tree that a builder made: it must be accepted.
inline HierarchyIndex index_of(const Hierarchy& built, std::size_t classes) {
    HierarchyIndex index(built);
    must(index.view().classes() == classes, "the tree has ", classes, " classes, got ", index.view().classes());
    must_be_tree(index.view());
    return index;
}

inline std::vector<std::int32_t> leaves_in_order(const HierarchyView& h) {
    std::vector<std::int32_t> leaves(h.classes());
    for (std::size_t c = 0; c < leaves.size(); ++c) leaves[static_cast<std::size_t>(h.leaf_rank[c])] = static_cast<std::int32_t>(c);
    return leaves;
}

// A tree of at most 24 classes, of every kind and numbering.
inline Hierarchy some_tree(Input& in) {
    const std::size_t classes = 1 + in.below(24);
    const bool logistic = in.flag();
    switch (in.below(4)) {
    case 0: {
        const auto counts = in.integers<std::uint8_t>(classes, 0, 200);
        return sparseops::huffman(std::vector<double>(counts.begin(), counts.end()), 2 + static_cast<int>(in.below(4)), {}, logistic);
    }
    case 1:
        return sparseops::balanced(static_cast<std::int64_t>(classes), 2 + static_cast<int>(in.below(4)), logistic);
    case 2:
        return sparseops::two_level(static_cast<std::int64_t>(classes), {}, 1 + static_cast<std::int64_t>(in.below(classes)), logistic);
    default: {  // each node below an earlier one, then with its nodes numbered backwards
        Ids parents(2 * classes, -1);
        for (std::size_t i = 1; i < parents.size(); ++i) parents[i] = static_cast<std::int64_t>(in.below(i));
        const Hierarchy h = sparseops::from_parents(parents, {}, {}, 0, logistic);
        const auto nodes = h.row_ptr.size() - 1;
        if (nodes == 0 || in.flag()) return h;
        Ids node(h.path_node.size()), child(h.path_child.begin(), h.path_child.end());
        for (std::size_t i = 0; i < node.size(); ++i) node[i] = static_cast<std::int64_t>(nodes) - 1 - h.path_node[i];
        std::vector<std::uint8_t> one_row(nodes);
        for (std::size_t v = 0; v < nodes; ++v) one_row[v] = h.row_ptr[nodes - v] - h.row_ptr[nodes - 1 - v] == 1;
        return sparseops::from_paths(h.path_ptr, node, child, one_row);
    }
    }
}

}  // namespace sparseops_fuzz
