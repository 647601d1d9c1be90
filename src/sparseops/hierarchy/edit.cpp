// SPDX-License-Identifier: BSD-3-Clause
// New trees out of a tree: optimal codes for its shape, and pruning.
#include <algorithm>
#include <numeric>
#include <queue>

#include "../detail/index.hpp"
#include "../hierarchy.hpp"
#include "shape.hpp"

namespace sparseops {

using detail::ix;
using detail::require;
using detail::Shape;

namespace {

void require_counts_for(const HierarchyView& h, std::span<const double> counts) {
    detail::require_counts(counts);
    require(counts.size() == h.classes(), "counts must have one entry a class, ", h.classes(), ", got ", counts.size());
}

std::vector<std::int32_t> leaves_in_order(const HierarchyView& h) {
    std::vector<std::int32_t> leaves(h.classes());
    for (std::size_t c = 0; c < leaves.size(); ++c) leaves[ix(h.leaf_rank[c])] = static_cast<std::int32_t>(c);
    return leaves;
}

// A tree made out of h has its kind of nodes. `made` has one row a child if h has, as the shape's flat nodes say.
Hierarchy of_kind(const HierarchyView& h, Hierarchy made) {
    made.independent = h.independent;
    return made;
}

// Copies the tree, keeping its node numbers and softmax nodes; leaf ~c becomes ~rename[c].
Hierarchy renamed(const HierarchyView& h, const std::vector<std::int32_t>& rename) {
    Shape shape;
    shape.child_ptr.assign(h.child_ptr.begin(), h.child_ptr.end());
    shape.child.reserve(h.child.size());
    for (const std::int32_t c : h.child) shape.child.push_back(c < 0 ? ~rename[ix(~c)] : c);
    shape.root = h.nodes() ? h.preorder[0] : ~rename[0];
    shape.flat.resize(h.nodes());
    for (std::size_t v = 0; v < h.nodes(); ++v) shape.flat[v] = !h.is_logistic(v);
    return of_kind(h, detail::complete_as_numbered(std::move(shape), h.classes(), true));
}

// Per node, in preorder positions: the sum of counts below, the depth, and the end of its subtree.
struct Subtrees {
    std::vector<double> count;
    std::vector<std::int32_t> depth, position;
};
Subtrees measure(const HierarchyView& h, std::span<const double> counts) {
    Subtrees s{std::vector<double>(h.nodes(), 0), std::vector<std::int32_t>(h.nodes(), 0), std::vector<std::int32_t>(h.nodes(), 0)};
    for (const std::int32_t v : h.preorder) {
        for (const std::int32_t c : h.children(ix(v))) {
            if (c >= 0) s.depth[ix(c)] = s.depth[ix(v)] + 1;
        }
    }
    for (std::size_t i = h.nodes(); i-- > 0;) {
        const auto v = ix(h.preorder[i]);
        s.position[v] = static_cast<std::int32_t>(i);
        for (const std::int32_t c : h.children(v)) s.count[v] += c < 0 ? counts[ix(~c)] : s.count[ix(c)];
    }
    return s;
}

// 1 for nodes that stay as they are; a child of such a node that is not one becomes a flat node.
std::vector<std::uint8_t> open_nodes(const HierarchyView& h, const Subtrees& s, PruneBy by, double limit) {
    std::vector<std::uint8_t> open(h.nodes(), 0);
    if (by != PruneBy::max_nodes) {
        for (std::size_t v = 0; v < h.nodes(); ++v) open[v] = by == PruneBy::min_count ? s.count[v] >= limit : s.depth[v] + 2 <= limit;
        return open;
    }
    // From a single flat node, open the node with the largest count whose inner children still fit.
    const auto later = [&](std::int32_t a, std::int32_t b) {
        const auto i = ix(a), j = ix(b);
        return s.count[i] != s.count[j] ? s.count[i] < s.count[j] : s.position[i] > s.position[j];
    };
    std::priority_queue<std::int32_t, std::vector<std::int32_t>, decltype(later)> queue(later);
    queue.push(h.preorder[0]);
    double total = 1;
    while (!queue.empty()) {
        const auto v = ix(queue.top());
        queue.pop();
        const auto below = h.children(v);
        const auto inner = static_cast<double>(std::count_if(below.begin(), below.end(), [](std::int32_t c) { return c >= 0; }));
        if (total + inner > limit) continue;
        total += inner;
        open[v] = 1;
        for (const std::int32_t c : below) {
            if (c >= 0) queue.push(c);
        }
    }
    return open;
}

}  // namespace

Hierarchy independent(const HierarchyView& h) {
    const auto copy = [](const auto& from, auto& to) { to.assign(from.begin(), from.end()); };
    Hierarchy made;
    copy(h.path_ptr, made.path_ptr);
    copy(h.path_node, made.path_node);
    copy(h.path_child, made.path_child);
    copy(h.child_ptr, made.child_ptr);
    copy(h.child, made.child);
    copy(h.child_ptr, made.row_ptr);
    made.independent = true;
    return made;
}

Hierarchy optimal_codes(const HierarchyView& h, std::span<const double> counts) {
    require_counts_for(h, counts);
    const auto leaves = leaves_in_order(h);
    std::vector<std::int32_t> shallow(leaves), frequent(h.classes()), rename(h.classes());
    std::stable_sort(shallow.begin(), shallow.end(),
                     [&](std::int32_t a, std::int32_t b) { return h.path_nodes(ix(a)).size() < h.path_nodes(ix(b)).size(); });
    std::iota(frequent.begin(), frequent.end(), 0);
    std::stable_sort(frequent.begin(), frequent.end(), [&](std::int32_t a, std::int32_t b) { return counts[ix(a)] > counts[ix(b)]; });
    for (std::size_t i = 0; i < shallow.size(); ++i) rename[ix(shallow[i])] = frequent[i];
    return renamed(h, rename);
}

Hierarchy prune(const HierarchyView& h, std::span<const double> counts, PruneBy by, double limit) {
    require_counts_for(h, counts);
    if (by == PruneBy::min_count) require(limit >= 0, "min_count must be at least 0, got ", limit);
    if (by == PruneBy::max_nodes) require(limit >= 1, "max_nodes must be at least 1, got ", limit);
    if (by == PruneBy::max_depth) require(limit >= 1, "max_depth must be at least 1, got ", limit);
    Shape shape;
    if (h.nodes() == 0) return of_kind(h, detail::complete(shape, 1, true));
    const Subtrees s = measure(h, counts);
    const auto open = open_nodes(h, s, by, limit);
    const auto leaves = leaves_in_order(h);
    // Bottom up over preorder: what stands for each node, and the first and last leaf place below it.
    std::vector<std::int32_t> made(h.nodes(), 0), first(h.nodes(), 0), last(h.nodes(), 0);
    for (std::size_t i = h.nodes(); i-- > 0;) {
        const auto v = ix(h.preorder[i]);
        const auto below = h.children(v);
        const std::int32_t a = below.front(), z = below.back();
        first[v] = a < 0 ? h.leaf_rank[ix(~a)] : first[ix(a)];
        last[v] = z < 0 ? h.leaf_rank[ix(~z)] : last[ix(z)];
    }
    std::vector<std::uint8_t> kept(h.nodes(), 0);  // open, and so are all nodes above
    std::vector<std::uint8_t> flat(h.nodes(), 0);  // the top of a subtree that becomes one node
    (open[ix(h.preorder[0])] ? kept : flat)[ix(h.preorder[0])] = 1;
    for (const std::int32_t v : h.preorder) {
        if (!kept[ix(v)]) continue;
        for (const std::int32_t c : h.children(ix(v))) {
            if (c >= 0) (open[ix(c)] ? kept : flat)[ix(c)] = 1;
        }
    }
    for (std::size_t i = h.nodes(); i-- > 0;) {
        const auto v = ix(h.preorder[i]);
        if (flat[v]) {
            for (std::int32_t at = first[v]; at <= last[v]; ++at) shape.child.push_back(~leaves[ix(at)]);
        } else if (kept[v]) {
            for (const std::int32_t c : h.children(v)) shape.child.push_back(c < 0 ? c : made[ix(c)]);
        } else {
            continue;
        }
        made[v] = shape.close_node();
        shape.flat.push_back(!(kept[v] ? h.is_logistic(v) : last[v] - first[v] == 1 && h.is_logistic(v)));
    }
    shape.root = made[ix(h.preorder[0])];
    return of_kind(h, detail::complete(shape, h.classes(), true));
}

}  // namespace sparseops
