// SPDX-License-Identifier: BSD-3-Clause
#include "shape.hpp"

#include <limits>

#include "../detail/index.hpp"

namespace sparseops::detail {
namespace {

// Walks the shape depth first: enter(v), leaf(class), both with `trail`, the (node, next child) pairs above.
struct Step {
    std::int32_t node, child;
};
template <class Enter, class Leaf>
void walk(const Shape& shape, Enter enter, Leaf leaf) {
    std::vector<Step> trail;
    if (shape.root < 0) {
        leaf(~shape.root, trail);
        return;
    }
    enter(shape.root, trail);
    trail.push_back({shape.root, -1});
    while (!trail.empty()) {
        const auto children = shape.children(ix(trail.back().node));
        const auto next = ix(++trail.back().child);
        if (next == children.size()) {
            trail.pop_back();
        } else if (const std::int32_t c = children[next]; c < 0) {
            leaf(~c, trail);
        } else {
            enter(c, trail);
            trail.push_back({c, -1});
        }
    }
}

Hierarchy write(const Shape& shape, const std::vector<std::int32_t>& number, std::size_t classes, bool logistic) {
    const std::size_t nodes = shape.nodes();
    Hierarchy h;
    h.child_ptr.assign(nodes + 1, 0);
    h.row_ptr.assign(nodes + 1, 0);
    for (std::size_t v = 0; v < nodes; ++v) {
        const auto to = ix(number[v]) + 1, k = shape.children(v).size();
        h.child_ptr[to] = static_cast<std::int64_t>(k);
        const bool one_row = logistic && k == 2 && (shape.flat.empty() || !shape.flat[v]);
        h.row_ptr[to] = one_row ? 1 : static_cast<std::int64_t>(k);
    }
    for (std::size_t v = 0; v < nodes; ++v) {
        h.child_ptr[v + 1] += h.child_ptr[v];
        h.row_ptr[v + 1] += h.row_ptr[v];
    }
    h.child.resize(shape.child.size());
    for (std::size_t v = 0; v < nodes; ++v) {
        auto at = ix(h.child_ptr[ix(number[v])]);
        for (const std::int32_t c : shape.children(v)) h.child[at++] = c < 0 ? c : number[ix(c)];
    }
    h.path_ptr.assign(classes + 1, 0);
    const auto no_node = [](std::int32_t, const auto&) {};
    walk(shape, no_node, [&](std::int32_t c, const auto& trail) { h.path_ptr[ix(c) + 1] = static_cast<std::int64_t>(trail.size()); });
    for (std::size_t c = 0; c < classes; ++c) h.path_ptr[c + 1] += h.path_ptr[c];
    h.path_node.resize(ix(h.path_ptr.back()));
    h.path_child.resize(h.path_node.size());
    walk(shape, no_node, [&](std::int32_t c, const auto& trail) {
        auto at = ix(h.path_ptr[ix(c)]);
        for (const Step& step : trail) {
            h.path_node[at] = number[ix(step.node)];
            h.path_child[at++] = step.child;
        }
    });
    return h;
}

}  // namespace

Hierarchy complete(const Shape& shape, std::size_t classes, bool logistic) {
    std::vector<std::int32_t> number(shape.nodes(), 0);
    std::int32_t next = 0;
    walk(shape, [&](std::int32_t v, const auto&) { number[ix(v)] = next++; }, [](std::int32_t, const auto&) {});
    return write(shape, number, classes, logistic);
}

Hierarchy complete_as_numbered(const Shape& shape, std::size_t classes, bool logistic) {
    std::vector<std::int32_t> number(shape.nodes());
    for (std::size_t v = 0; v < number.size(); ++v) number[v] = static_cast<std::int32_t>(v);
    return write(shape, number, classes, logistic);
}

void relabel_leaves_in_order(Shape& shape) {
    std::vector<std::int32_t> order;
    walk(shape, [](std::int32_t, const auto&) {}, [&](std::int32_t c, const auto&) { order.push_back(c); });
    std::vector<std::int32_t> place(order.size());
    for (std::size_t i = 0; i < order.size(); ++i) place[ix(order[i])] = static_cast<std::int32_t>(i);
    for (std::int32_t& c : shape.child) {
        if (c < 0) c = ~place[ix(~c)];
    }
}

}  // namespace sparseops::detail
