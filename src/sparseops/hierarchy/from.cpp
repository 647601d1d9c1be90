// SPDX-License-Identifier: BSD-3-Clause
// Hierarchies from a parent array and from paths.
#include <algorithm>
#include <numeric>

#include "../detail/index.hpp"
#include "../hierarchy.hpp"
#include "shape.hpp"

namespace sparseops {

using detail::ix;
using detail::require;
using detail::Shape;

namespace {

// Child lists of a parent array, the nodes from the root down, and which class each leaf is.
struct ParentTree {
    std::vector<std::size_t> child_ptr, child, order;
    std::vector<std::int32_t> class_of;
    std::size_t classes = 0;

    std::span<const std::size_t> children(std::size_t v) const { return {child.data() + child_ptr[v], child_ptr[v + 1] - child_ptr[v]}; }
};

void list_children(std::span<const std::int64_t> parents, ParentTree& t) {
    const std::size_t n = parents.size();
    require(n >= 1, "parents must not be empty");
    detail::require_data("parents", parents);
    require(n <= ix(detail::max_classes), "parents must have at most ", detail::max_classes, " entries, got ", n);
    t.child_ptr.assign(n + 1, 0);
    std::size_t root = n;
    for (std::size_t i = 0; i < n; ++i) {
        const std::int64_t p = parents[i];
        require(p >= -1 && p < static_cast<std::int64_t>(n), "parents must be in [-1, ", n, "), got ", p, " at index ", i);
        if (p >= 0) {
            ++t.child_ptr[ix(p) + 1];
        } else {
            require(root == n, "parents must have one root (-1), got a second one at index ", i);
            root = i;
        }
    }
    require(root < n, "parents must have one root (-1), got none");
    std::partial_sum(t.child_ptr.begin(), t.child_ptr.end(), t.child_ptr.begin());
    t.child.resize(n - 1);
    std::vector<std::size_t> at(t.child_ptr.begin(), t.child_ptr.end() - 1);
    for (std::size_t i = 0; i < n; ++i) {
        if (parents[i] >= 0) t.child[at[ix(parents[i])]++] = i;
    }
    t.order.reserve(n);
    t.order.push_back(root);
    for (std::size_t i = 0; i < t.order.size(); ++i) {
        const auto below = t.children(t.order[i]);
        t.order.insert(t.order.end(), below.begin(), below.end());
    }
    if (t.order.size() < n) {
        std::vector<std::uint8_t> reached(n, 0);
        for (const std::size_t v : t.order) reached[v] = 1;
        const auto lost = std::find(reached.begin(), reached.end(), 0) - reached.begin();
        detail::refuse("parents must have no cycle, got one at index ", lost);
    }
}

void assign_classes(std::span<const std::int64_t> classes, ParentTree& t) {
    const std::size_t n = t.child_ptr.size() - 1;
    std::size_t leaves = 0;
    for (std::size_t v = 0; v < n; ++v) leaves += t.children(v).empty();
    t.classes = leaves;
    t.class_of.assign(n, -1);
    if (classes.empty()) {
        std::int32_t c = 0;
        for (std::size_t v = 0; v < n; ++v) {
            if (t.children(v).empty()) t.class_of[v] = c++;
        }
        return;
    }
    detail::require_data("classes", classes);
    for (std::size_t c = 0; c < classes.size(); ++c) {
        const std::int64_t v = classes[c];
        require(v >= 0 && v < static_cast<std::int64_t>(n), "classes must be in [0, ", n, "), got ", v, " at index ", c);
        require(t.children(ix(v)).empty(), "classes must be leaves, got node ", v, ", which has children, at index ", c);
        auto& place = t.class_of[ix(v)];
        require(place < 0, "classes must not repeat, got node ", v, " again at index ", c);
        place = static_cast<std::int32_t>(c);
    }
    require(classes.size() == leaves, "classes must list all ", leaves, " leaves, got ", classes.size());
}

// Appends the Huffman tree of these items to `shape`; returns its root.
std::int32_t append_split(Shape& shape, const std::vector<std::int32_t>& items, const std::vector<double>& weights, int arity) {
    const Shape part = detail::huffman_shape(weights, arity);
    const auto base = static_cast<std::int32_t>(shape.nodes());
    for (std::size_t v = 0; v < part.nodes(); ++v) {
        for (const std::int32_t c : part.children(v)) shape.child.push_back(c < 0 ? items[ix(~c)] : base + c);
        shape.close_node();
    }
    return base + part.root;
}

}  // namespace

Hierarchy from_parents(std::span<const std::int64_t> parents, std::span<const std::int64_t> classes, std::span<const double> counts,
                       int max_children, bool logistic) {
    ParentTree t;
    list_children(parents, t);
    assign_classes(classes, t);
    if (!counts.empty()) {
        detail::require_counts(counts);
        require(counts.size() == t.classes, "counts must have one entry a class, ", t.classes, ", got ", counts.size());
    }
    require(max_children == 0 || max_children >= 2, "max_children must be at least 2, got ", max_children);
    const std::size_t n = parents.size();
    std::vector<double> weight(n, 0);
    std::vector<std::int32_t> made(n, 0);  // what stands for this node in the shape
    Shape shape;
    std::vector<std::int32_t> items;
    std::vector<double> weights;
    for (std::size_t i = n; i-- > 0;) {  // children before parents
        const std::size_t v = t.order[i];
        const auto below = t.children(v);
        if (below.empty()) {
            weight[v] = counts.empty() ? 1.0 : counts[ix(t.class_of[v])];
            made[v] = ~t.class_of[v];
            continue;
        }
        items.clear();
        weights.clear();
        for (const std::size_t c : below) {
            items.push_back(made[c]);
            weights.push_back(weight[c]);
        }
        weight[v] = std::accumulate(weights.begin(), weights.end(), 0.0);
        if (items.size() == 1) {
            made[v] = items.front();
        } else if (max_children > 0 && items.size() > ix(max_children)) {
            made[v] = append_split(shape, items, weights, max_children);
        } else {
            shape.child.insert(shape.child.end(), items.begin(), items.end());
            made[v] = shape.close_node();
        }
    }
    shape.root = made[t.order.front()];
    return detail::complete(shape, t.classes, logistic);
}

Hierarchy from_paths(std::span<const std::int64_t> path_ptr, std::span<const std::int64_t> path_node,
                     std::span<const std::int64_t> path_child, std::span<const std::uint8_t> logistic) {
    require(path_ptr.size() >= 2, "path_ptr must hold at least 2 entries, got ", path_ptr.size());
    require(path_ptr.size() - 1 <= ix(detail::max_classes), "path_ptr must describe at most ", detail::max_classes, " classes");
    require(path_node.size() == path_child.size(), "path_child must have ", path_node.size(), " entries, got ", path_child.size());
    detail::require_data("path_ptr", path_ptr);
    detail::require_data("path_node", path_node);
    detail::require_data("path_child", path_child);
    detail::require_data("logistic", logistic);
    const std::size_t classes = path_ptr.size() - 1, steps = path_node.size();
    require(path_ptr[0] == 0, "path_ptr must start with 0, got ", path_ptr[0]);
    for (std::size_t c = 0; c < classes; ++c) {
        require(path_ptr[c + 1] >= path_ptr[c] && path_ptr[c + 1] <= static_cast<std::int64_t>(steps), "path_ptr must rise to ", steps,
                ", got ", path_ptr[c + 1], " at index ", c + 1);
        require(path_ptr[c + 1] > path_ptr[c] || classes == 1, "path_ptr must give every class a step, got none for class ", c);
    }
    require(path_ptr[classes] == static_cast<std::int64_t>(steps), "path_ptr must end with ", steps, ", got ", path_ptr[classes]);
    // A tree of C classes has fewer than C inner nodes: larger ids cannot be one, and must not size an array.
    std::int64_t nodes = 0;
    for (std::size_t i = 0; i < steps; ++i) {
        require(path_node[i] >= 0 && path_node[i] < static_cast<std::int64_t>(classes), "path_node must be in [0, ", classes, "), got ",
                path_node[i], " at index ", i);
        require(path_child[i] >= 0 && path_child[i] < static_cast<std::int64_t>(classes), "path_child must be in [0, ", classes, "), got ",
                path_child[i], " at index ", i);
        nodes = std::max(nodes, path_node[i] + 1);
    }
    Shape shape;
    if (nodes == 0) return detail::complete(shape, 1, true);
    const auto V = ix(nodes);
    shape.child_ptr.assign(V + 1, 0);
    for (std::size_t i = 0; i < steps; ++i) {
        auto& k = shape.child_ptr[ix(path_node[i]) + 1];
        k = std::max(k, path_child[i] + 1);
    }
    std::partial_sum(shape.child_ptr.begin(), shape.child_ptr.end(), shape.child_ptr.begin());
    const std::int64_t slots = shape.child_ptr.back();
    require(slots == static_cast<std::int64_t>(classes) + nodes - 1, "path_node and path_child must be one tree: ", nodes, " nodes and ",
            classes, " classes have ", static_cast<std::int64_t>(classes) + nodes - 1, " children, got ", slots);
    constexpr std::int32_t unset = INT32_MAX;
    shape.child.assign(ix(slots), unset);
    for (std::size_t c = 0; c < classes; ++c) {
        for (auto i = ix(path_ptr[c]); i < ix(path_ptr[c + 1]); ++i) {
            const bool last = i + 1 == ix(path_ptr[c + 1]);
            const auto target = last ? ~static_cast<std::int32_t>(c) : static_cast<std::int32_t>(path_node[i + 1]);
            auto& slot = shape.child[ix(shape.child_ptr[ix(path_node[i])] + path_child[i])];
            require(slot == unset || slot == target, "path_node and path_child must lead to one place from each child, got two from child ",
                    path_child[i], " of node ", path_node[i]);
            slot = target;
        }
    }
    std::vector<std::uint8_t> is_child(V, 0);
    for (std::size_t v = 0; v < V; ++v) {
        require(shape.children(v).size() >= 2, "path_child must give every node at least 2 children, got ", shape.children(v).size(),
                " at node ", v);
        for (const std::int32_t c : shape.children(v)) {
            require(c != unset, "path_child must use every child below the largest, got a gap at node ", v);
            if (c < 0) continue;
            auto& parent = is_child[ix(c)];
            require(!parent, "path_node must have one parent a node, got two for node ", c);
            parent = 1;
        }
    }
    const auto root = ix(path_node[0]);
    require(!is_child[root], "path_node must start at the root, got node ", root, ", which has a parent");
    for (std::size_t c = 0; c < classes; ++c) {
        const std::int64_t first = path_node[ix(path_ptr[c])];
        require(first == path_node[0], "path_node must start every path at the root ", path_node[0], ", got ", first, " for class ", c);
    }
    shape.root = static_cast<std::int32_t>(root);
    if (!logistic.empty()) {
        require(logistic.size() == V, "logistic must have one entry a node, ", V, ", got ", logistic.size());
        shape.flat.resize(V);
        for (std::size_t v = 0; v < V; ++v) {
            require(!logistic[v] || shape.children(v).size() == 2,
                    "logistic must be false for nodes without exactly 2 children, got true at node ", v);
            shape.flat[v] = !logistic[v];
        }
    }
    return detail::complete_as_numbered(std::move(shape), classes, true);
}

}  // namespace sparseops
