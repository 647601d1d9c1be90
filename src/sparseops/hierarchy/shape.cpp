// SPDX-License-Identifier: BSD-3-Clause
#include "shape.hpp"

#include <algorithm>
#include <utility>

#include "../detail/index.hpp"
#include "../kernels/prefetch.hpp"

namespace sparseops::detail {
namespace {

// The way from the root to where a walk is: nodes, and which child of each comes next.
struct Trail {
    std::vector<std::int32_t> node, child;
};

// Walks the shape depth first: enter(v, trail) before the children of v, leaf(class, trail).
template <class Enter, class Leaf>
void walk(const Shape& shape, Enter enter, Leaf leaf) {
    Trail trail;
    if (shape.root < 0) {
        leaf(~shape.root, trail);
        return;
    }
    const auto go_down = [&](std::int32_t v) {
        enter(v, trail);
        trail.node.push_back(v);
        trail.child.push_back(-1);
    };
    go_down(shape.root);
    while (!trail.node.empty()) {
        const auto children = shape.children(ix(trail.node.back()));
        const auto next = ix(++trail.child.back());
        if (next == children.size()) {
            trail.node.pop_back();
            trail.child.pop_back();
        } else if (const std::int32_t c = children[next]; c < 0) {
            leaf(~c, trail);
        } else {
            go_down(c);
        }
    }
}

// The same tree with its nodes numbered depth first.
Shape numbered(const Shape& shape) {
    Shape out;
    out.child_ptr.reserve(shape.child_ptr.size());
    out.child.reserve(shape.child.size());
    out.flat.reserve(shape.flat.size());
    std::vector<std::int32_t> number;  // of the nodes of the trail
    out.root = shape.root < 0 ? shape.root : 0;
    walk(
        shape,
        [&](std::int32_t v, const Trail& trail) {
            const auto children = shape.children(ix(v));
            number.resize(trail.node.size());
            out.child.insert(out.child.end(), children.begin(), children.end());
            const std::int32_t to = out.close_node();
            if (!number.empty()) out.child[ix(out.child_ptr[ix(number.back())]) + ix(trail.child.back())] = to;
            number.push_back(to);
            if (!shape.flat.empty()) out.flat.push_back(shape.flat[ix(v)]);
            for (const std::int32_t c : children) {
                if (c >= 0) prefetch_line(shape.child.data() + shape.child_ptr[ix(c)]);
            }
        },
        [](std::int32_t, const Trail&) {});
    return out;
}

// Rows and paths; the nodes keep their numbers.
Hierarchy write(Shape&& shape, std::size_t classes, bool logistic) {
    const std::size_t nodes = shape.nodes();
    Hierarchy h;
    h.row_ptr.assign(nodes + 1, 0);
    for (std::size_t v = 0; v < nodes; ++v) {
        const std::size_t k = shape.children(v).size();
        const bool one_row = logistic && k == 2 && (shape.flat.empty() || !shape.flat[v]);
        h.row_ptr[v + 1] = h.row_ptr[v] + (one_row ? 1 : static_cast<std::int64_t>(k));
    }
    h.path_ptr.assign(classes + 1, 0);
    const auto no_node = [](std::int32_t, const Trail&) {};
    walk(shape, no_node, [&](std::int32_t c, const Trail& trail) { h.path_ptr[ix(c) + 1] = static_cast<std::int64_t>(trail.node.size()); });
    for (std::size_t c = 0; c < classes; ++c) h.path_ptr[c + 1] += h.path_ptr[c];
    h.path_node.resize(ix(h.path_ptr.back()));
    h.path_child.resize(h.path_node.size());
    // Paths are written as the walk meets their classes, here and there in memory that is asked for some children ahead.
    constexpr std::size_t ahead = 32;
    const auto ask = [&](std::int32_t v, const Trail&) {
        for (std::size_t i = ix(shape.child_ptr[ix(v)]) + ahead, end = std::min(shape.child.size(), ix(shape.child_ptr[ix(v) + 1]) + ahead);
             i < end; ++i) {
            if (i + ahead < shape.child.size() && shape.child[i + ahead] < 0) prefetch_line(&h.path_ptr[ix(~shape.child[i + ahead])]);
            if (shape.child[i] >= 0) continue;
            const auto at = ix(h.path_ptr[ix(~shape.child[i])]), n = ix(h.path_ptr[ix(~shape.child[i]) + 1]) - at;
            prefetch_to_write(h.path_node.data() + at, n);
            prefetch_to_write(h.path_child.data() + at, n);
        }
    };
    walk(shape, ask, [&](std::int32_t c, const Trail& trail) {
        std::copy(trail.node.begin(), trail.node.end(), h.path_node.begin() + h.path_ptr[ix(c)]);
        std::copy(trail.child.begin(), trail.child.end(), h.path_child.begin() + h.path_ptr[ix(c)]);
    });
    h.child_ptr = std::move(shape.child_ptr);
    h.child = std::move(shape.child);
    return h;
}

}  // namespace

Hierarchy complete(const Shape& shape, std::size_t classes, bool logistic) { return write(numbered(shape), classes, logistic); }

Hierarchy complete_as_numbered(Shape shape, std::size_t classes, bool logistic) { return write(std::move(shape), classes, logistic); }

void relabel_leaves_in_order(Shape& shape) {
    std::vector<std::int32_t> order;
    walk(shape, [](std::int32_t, const Trail&) {}, [&](std::int32_t c, const Trail&) { order.push_back(c); });
    std::vector<std::int32_t> place(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) place[ix(order[i])] = static_cast<std::int32_t>(i);
    for (std::int32_t& c : shape.child) {
        if (c < 0) c = ~place[ix(~c)];
    }
}

}  // namespace sparseops::detail
