// SPDX-License-Identifier: BSD-3-Clause
#include "../hierarchy.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "../detail/index.hpp"
#include "../detail/require.hpp"

namespace sparseops {
namespace {

using detail::ix;
using detail::require;

void require_pointers(std::span<const std::int64_t> ptr, std::size_t end, const char* name) {
    require(!ptr.empty() && ptr.front() == 0, name, " must start with 0, got ", ptr.empty() ? -1 : ptr.front());
    for (std::size_t i = 1; i < ptr.size(); ++i) {
        require(ptr[i] >= ptr[i - 1], name, " must not decrease, got ", ptr[i], " after ", ptr[i - 1], " at index ", i);
    }
    require(ix(ptr.back()) == end, name, " must end with ", end, ", got ", ptr.back());
}

// Sizes and ranges, so that the walk below may follow any entry.
void require_arrays(const HierarchyView& h) {
    require(h.path_ptr.size() >= 2, "path_ptr must hold at least 2 entries, got ", h.path_ptr.size());
    require_pointers(h.path_ptr, h.path_node.size(), "path_ptr");
    require(h.path_child.size() == h.path_node.size(), "path_child must have ", h.path_node.size(), " entries, got ", h.path_child.size());
    require(h.child_ptr.size() == h.row_ptr.size(), "row_ptr must have ", h.child_ptr.size(), " entries, got ", h.row_ptr.size());
    require_pointers(h.child_ptr, h.child.size(), "child_ptr");
    const auto classes = static_cast<std::int64_t>(h.classes()), nodes = static_cast<std::int64_t>(h.nodes());
    require(static_cast<std::int64_t>(h.child.size()) == (nodes > 0 ? classes + nodes - 1 : 0) && (nodes > 0 || classes == 1),
            "child must have one entry a class and inner node but the root, got ", h.child.size());
    for (std::size_t i = 0; i < h.child.size(); ++i) {
        const std::int64_t c = h.child[i];
        require(c < nodes && ~c < classes, "child must hold nodes below ", nodes, " or classes ~c with c below ", classes, ", got ", c,
                " at index ", i);
    }
    require_pointers(h.row_ptr, ix(h.row_ptr.back()), "row_ptr");
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        const std::int64_t k = h.child_ptr[v + 1] - h.child_ptr[v], rows = h.row_ptr[v + 1] - h.row_ptr[v];
        require(k >= 2, "child_ptr must give every node at least 2 children, got ", k, " at node ", v);
        require(rows == k || (rows == 1 && k == 2), "row_ptr must give node ", v, " one row a child, or one row if it has two, got ", rows);
        require(rows == k || !h.independent, "row_ptr must give node ", v, " one row a child, as nodes are independent, got ", rows);
    }
    require(h.row_ptr.back() <= std::numeric_limits<std::int32_t>::max(), "row_ptr must stay below 2**31, got ", h.row_ptr.back());
}

}  // namespace

HierarchyIndex::HierarchyIndex(const HierarchyView& arrays) : view_(arrays) { check(); }

HierarchyIndex::HierarchyIndex(Hierarchy h) : owned_(std::move(h)) {
    view_.path_ptr = owned_.path_ptr;
    view_.path_node = owned_.path_node;
    view_.path_child = owned_.path_child;
    view_.child_ptr = owned_.child_ptr;
    view_.child = owned_.child;
    view_.row_ptr = owned_.row_ptr;
    view_.independent = owned_.independent;
    check();
}

// The walk depth first: every node and class once, every path as it is stored.
void HierarchyIndex::check() {
    HierarchyView& h = view_;
    require_arrays(h);
    const std::size_t nodes = h.nodes(), classes = h.classes();
    preorder_.reserve(nodes);
    leaf_rank_.assign(classes, -1);
    level_.assign(nodes, 0);
    h.ordered = true;
    h.logistic = h.rows() == nodes && !h.independent;
    h.depth = 0;
    h.widest = 0;
    for (std::size_t v = 0; v < nodes; ++v) h.widest = std::max(h.widest, h.row_count(v));
    std::int32_t rank = 0;
    std::vector<std::int32_t> path_node, path_child;  // the way to the node at hand
    std::vector<std::uint8_t> seen(nodes, 0);

    const auto enter = [&](std::int32_t v) {
        require(!seen[ix(v)], "child must hold every node once, got node ", v, " twice");
        seen[ix(v)] = 1;
        h.ordered = h.ordered && v == static_cast<std::int32_t>(preorder_.size());
        preorder_.push_back(v);
        level_[ix(v)] = static_cast<std::int32_t>(path_node.size());
        path_node.push_back(v);
        path_child.push_back(-1);
    };
    const auto leaf = [&](std::int32_t c) {
        auto& place = leaf_rank_[ix(c)];
        require(place < 0, "child must hold every class once, got class ", c, " twice");
        place = rank++;
        const auto nodes_of = h.path_nodes(ix(c));
        const auto children_of = h.path_children(ix(c));
        require(std::equal(nodes_of.begin(), nodes_of.end(), path_node.begin(), path_node.end()) &&
                    std::equal(children_of.begin(), children_of.end(), path_child.begin(), path_child.end()),
                "path_node and path_child must be the way from the root to each class, got another at class ", c);
        h.depth = std::max(h.depth, static_cast<std::int32_t>(path_node.size()));
    };
    if (nodes == 0) {
        leaf(0);
    } else {
        std::vector<std::uint8_t> has_parent(nodes, 0);
        for (const std::int32_t c : h.child) {
            if (c >= 0) has_parent[ix(c)] = 1;
        }
        const auto root = std::find(has_parent.begin(), has_parent.end(), 0);
        require(root != has_parent.end(), "child must leave one node without a parent, the root");
        enter(static_cast<std::int32_t>(root - has_parent.begin()));
    }
    while (!path_node.empty()) {
        const auto siblings = h.children(ix(path_node.back()));
        const auto next = ix(++path_child.back());
        if (next == siblings.size()) {
            path_node.pop_back();
            path_child.pop_back();
        } else if (siblings[next] < 0) {
            leaf(~siblings[next]);
        } else {
            enter(siblings[next]);
        }
    }
    require(preorder_.size() == nodes && ix(rank) == classes, "child must be one tree, got ", nodes - preorder_.size(),
            " nodes that the root does not reach");
    h.preorder = preorder_;
    h.leaf_rank = leaf_rank_;
    h.level = level_;
}

}  // namespace sparseops
