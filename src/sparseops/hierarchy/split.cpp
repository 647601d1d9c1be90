// SPDX-License-Identifier: BSD-3-Clause
// Cutting a tree into connected pieces of bounded work.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "../detail/index.hpp"
#include "../hierarchy.hpp"
#include "shape.hpp"

namespace sparseops {

using detail::ix;
using detail::require;

namespace {

// The mass of the classes below each node times its rows.
std::vector<double> work_of_nodes(const HierarchyView& h, std::span<const double> counts) {
    std::vector<double> work(h.nodes(), 0);
    for (std::size_t i = h.nodes(); i-- > 0;) {
        const auto v = ix(h.preorder[i]);
        for (const std::int32_t c : h.children(v)) work[v] += c >= 0 ? work[ix(c)] : counts.empty() ? 1 : counts[ix(~c)];
    }
    for (std::size_t v = 0; v < h.nodes(); ++v) work[v] *= static_cast<double>(h.row_count(v));
    return work;
}

// Bottom up, what a node keeps of its children's work; 1 for nodes that are cut off.
std::vector<std::uint8_t> cut(const HierarchyView& h, double limit, std::vector<double>& work) {
    std::vector<std::uint8_t> top(h.nodes(), 0);
    top[ix(h.preorder[0])] = 1;
    std::vector<std::int32_t> below;
    for (std::size_t i = h.nodes(); i-- > 0;) {
        const auto v = ix(h.preorder[i]);
        below.clear();
        for (const std::int32_t c : h.children(v)) {
            if (c >= 0) below.push_back(c);
        }
        std::stable_sort(below.begin(), below.end(), [&](std::int32_t a, std::int32_t b) { return work[ix(a)] < work[ix(b)]; });
        std::size_t kept = 0;
        while (kept < below.size() && work[v] + work[ix(below[kept])] <= limit) work[v] += work[ix(below[kept++])];
        for (; kept < below.size(); ++kept) top[ix(below[kept])] = 1;
    }
    return top;
}

// The places of the classes below something: first up to end.
struct Places {
    std::int64_t first, end;
};

// Of each node.
std::vector<Places> places_below(const HierarchyView& h) {
    std::vector<Places> below(h.nodes());
    const auto of = [&](std::int32_t c) {
        return c >= 0 ? below[ix(c)] : Places{h.leaf_rank[ix(~c)], std::int64_t{h.leaf_rank[ix(~c)]} + 1};
    };
    for (std::size_t i = h.nodes(); i-- > 0;) {
        const auto children = h.children(ix(h.preorder[i]));
        below[ix(h.preorder[i])] = {of(children.front()).first, of(children.back()).end};
    }
    return below;
}

// What a cut has made so far.
struct Cut {
    std::vector<std::int32_t> piece_of_node, local;  // each node's piece, and its number there
    std::vector<Places> below;
};

// Tree, rows and exits of a piece whose nodes are known; the exits in the order of their places.
void complete_piece(const HierarchyView& h, const Cut& cut, std::size_t top, Piece& piece) {
    const auto leaves = [&](std::size_t v, std::int32_t c) { return c < 0 || cut.piece_of_node[ix(c)] != cut.piece_of_node[v]; };
    const auto place_of = [&](std::int32_t c) { return c < 0 ? std::int64_t{h.leaf_rank[ix(~c)]} : cut.below[ix(c)].first; };
    std::vector<std::pair<std::int64_t, std::int64_t>> exits;  // place, exit
    for (const std::int64_t node : piece.nodes) {
        const auto v = ix(node);
        for (std::size_t r = h.row(v); r < h.row(v) + h.row_count(v); ++r) piece.rows.push_back(static_cast<std::int64_t>(r));
        for (const std::int32_t c : h.children(v)) {
            if (leaves(v, c)) exits.emplace_back(place_of(c), ~std::int64_t{c});
        }
    }
    std::sort(exits.begin(), exits.end());
    for (const auto& [place, exit] : exits) {
        piece.places.push_back(place);
        piece.exits.push_back(exit);
    }
    detail::Shape shape;
    for (const std::int64_t node : piece.nodes) {
        const auto v = ix(node);
        for (const std::int32_t c : h.children(v)) {
            if (leaves(v, c)) {
                const auto at = std::lower_bound(piece.places.begin(), piece.places.end(), place_of(c)) - piece.places.begin();
                shape.child.push_back(~static_cast<std::int32_t>(at));
            } else {
                shape.child.push_back(cut.local[ix(c)]);
            }
        }
        shape.close_node();
        shape.flat.push_back(!h.is_logistic(v));
    }
    shape.root = cut.local[top];
    piece.tree = detail::complete_as_numbered(std::move(shape), piece.exits.size(), true);
    piece.tree.independent = h.independent;
    piece.places.push_back(cut.below[top].end);
}

}  // namespace

Pieces split(const HierarchyView& h, std::span<const double> counts, std::int64_t n_parts) {
    require(n_parts >= 1, "n_parts must be at least 1, got ", n_parts);
    if (!counts.empty()) {
        detail::require_counts(counts);
        require(counts.size() == h.classes(), "counts must have one entry a class, ", h.classes(), ", got ", counts.size());
    }
    Pieces made;
    made.class_place.assign(h.leaf_rank.begin(), h.leaf_rank.end());
    if (h.nodes() == 0) return made;
    std::vector<double> work = work_of_nodes(h, counts);
    const double total = std::accumulate(work.begin(), work.end(), 0.0);
    // sums in another order still fit
    const std::vector<std::uint8_t> top = cut(h, total / static_cast<double>(n_parts) * (1 + 1e-9), work);

    std::vector<std::int32_t> order;  // of the tops
    for (const std::int32_t v : h.preorder) {
        if (top[ix(v)]) order.push_back(v);
    }
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return work[ix(a)] > work[ix(b)]; });
    Cut pieces{std::vector<std::int32_t>(h.nodes(), 0), std::vector<std::int32_t>(h.nodes(), 0), places_below(h)};
    made.pieces.resize(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
        pieces.piece_of_node[ix(order[i])] = static_cast<std::int32_t>(i);
        made.pieces[i].work = work[ix(order[i])];
    }
    for (const std::int32_t v : h.preorder) {
        for (const std::int32_t c : h.children(ix(v))) {
            if (c >= 0 && !top[ix(c)]) pieces.piece_of_node[ix(c)] = pieces.piece_of_node[ix(v)];
        }
    }
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        auto& nodes = made.pieces[ix(pieces.piece_of_node[v])].nodes;
        pieces.local[v] = static_cast<std::int32_t>(nodes.size());
        nodes.push_back(static_cast<std::int64_t>(v));
    }
    for (std::size_t i = 0; i < order.size(); ++i) complete_piece(h, pieces, ix(order[i]), made.pieces[i]);
    return made;
}

}  // namespace sparseops
