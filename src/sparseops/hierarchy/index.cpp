// SPDX-License-Identifier: BSD-3-Clause
#include "../hierarchy.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <utility>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../detail/random.hpp"
#include "../detail/require.hpp"
#include "../kernels/prefetch.hpp"

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
    detail::require_data("path_ptr", h.path_ptr);
    detail::require_data("path_node", h.path_node);
    detail::require_data("path_child", h.path_child);
    detail::require_data("child_ptr", h.child_ptr);
    detail::require_data("child", h.child);
    detail::require_data("row_ptr", h.row_ptr);
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

// Of all paths one number: a sum over classes and steps of products with random keys, modulo the prime 2^61 - 1 (Carter & Wegman 1979).
// The walk down the tree and the paths as they lie in memory give the same one. Other paths give it with a chance below 2^-54, whoever
// made them, for the keys are drawn when the process starts.
class PathSum {
public:
    // What a way is worth with its next step, the d-th. The first to come to a depth draws its key.
    std::uint64_t step(std::uint64_t before, std::size_t d, std::int32_t node, std::int32_t child) {
        if (d == step_key_.size()) step_key_.push_back(key(d, 0));
        return reduced(Wide{before} + product(d, node, child));
    }

    // Of a path no longer than ways that step() has gone.
    std::uint64_t path(std::span<const std::int32_t> nodes, std::span<const std::int32_t> children) const noexcept {
        constexpr std::size_t room = 128;  // products, each below 2^120
        std::uint64_t sum = 0;
        for (std::size_t from = 0; from < nodes.size(); from += room) {
            Wide wide = sum;
            for (std::size_t d = from; d < std::min(nodes.size(), from + room); ++d) wide += product(d, nodes[d], children[d]);
            sum = reduced(wide);
        }
        return sum;
    }

    // Of class c, whose path of `steps` steps is worth `path`.
    std::uint64_t leaf(std::size_t c, std::size_t steps, std::uint64_t path) const noexcept {
        return reduced(Wide{key(c, 1)} * path + Wide{key(c, 2)} * (steps + 1));
    }

    static std::uint64_t sum(std::uint64_t a, std::uint64_t b) noexcept { return reduced(Wide{a} + b); }

private:
    __extension__ typedef unsigned __int128 Wide;
    static constexpr std::uint64_t prime = (std::uint64_t{1} << 61) - 1;

    static std::uint64_t reduced(Wide n) noexcept {
        n = (n & prime) + (n >> 61);
        const auto once = static_cast<std::uint64_t>(n & prime) + static_cast<std::uint64_t>(n >> 61);
        return once >= prime ? once - prime : once;
    }
    Wide product(std::size_t d, std::int32_t node, std::int32_t child) const noexcept {
        return Wide{step_key_[d]} * (std::uint64_t{static_cast<std::uint32_t>(node)} << 32 | static_cast<std::uint32_t>(child));
    }
    std::uint64_t key(std::uint64_t i, std::uint64_t use) const noexcept {
        std::uint64_t n = secret_ + (3 * i + use) * 0x9E3779B97F4A7C15u;
        n = (n ^ (n >> 30)) * 0xBF58476D1CE4E5B9u;
        n = (n ^ (n >> 27)) * 0x94D049BB133111EBu;
        return (n ^ (n >> 31)) >> 8;
    }

    std::uint64_t secret_ = detail::secret_number();
    std::vector<std::uint64_t> step_key_;
};

// Whether the paths as they are stored are worth `expected`. They are read from front to back, which memory does fastest.
bool paths_are_worth(const HierarchyView& h, const PathSum& worth, std::uint64_t expected) {
    constexpr std::size_t block = 16384;
    std::vector<std::uint64_t> sums((h.classes() + block - 1) / block, 0);
    std::atomic<bool> too_long{false};
    detail::parallel_for(sums.size(), detail::team_size(0, 4.0 * static_cast<double>(h.path_node.size())), [&](std::size_t i, std::size_t) {
        for (std::size_t c = i * block; c < std::min(h.classes(), (i + 1) * block); ++c) {
            const auto nodes = h.path_nodes(c);
            if (nodes.size() > ix(h.depth)) {
                too_long = true;
                return;
            }
            sums[i] = PathSum::sum(sums[i], worth.leaf(c, nodes.size(), worth.path(nodes, h.path_children(c))));
        }
    });
    std::uint64_t sum = 0;
    for (const std::uint64_t part : sums) sum = PathSum::sum(sum, part);
    return !too_long && sum == expected;
}

// Names the first class whose path is not its own, in a tree that is one. Each path from its end up: what stands above a node is one
// number to compare.
void require_paths(const HierarchyView& h, std::int32_t root) {
    const std::size_t classes = h.classes();
    const auto place = [](std::int32_t node, std::int32_t child) {
        return static_cast<std::uint64_t>(node) << 32 | static_cast<std::uint32_t>(child);
    };
    std::vector<std::uint64_t> above(h.nodes()), above_class(classes);
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        const auto children = h.children(v);
        for (std::size_t j = 0; j < children.size(); ++j) {
            const auto at = place(static_cast<std::int32_t>(v), static_cast<std::int32_t>(j));
            (children[j] < 0 ? above_class[ix(~children[j])] : above[ix(children[j])]) = at;
        }
    }
    for (std::size_t c = 0; c < classes; ++c) {
        const auto nodes = h.path_nodes(c), children = h.path_children(c);
        std::size_t d = nodes.size();
        std::uint64_t expected = above_class[c];
        // Until a step differs no node is out of range: each is the parent of one that is not.
        while (d > 0 && place(nodes[d - 1], children[d - 1]) == expected && nodes[d - 1] != root) expected = above[ix(nodes[--d])];
        const bool ends = h.nodes() == 0 ? d == 0 : d == 1 && place(nodes[0], children[0]) == expected;
        require(ends, "path_node and path_child must be the way from the root to each class, got another at class ", c);
    }
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

// The walk depth first: every node and class once. Then every path as it is stored.
void HierarchyIndex::check() {
    HierarchyView& h = view_;
    require_arrays(h);
    const std::size_t nodes = h.nodes(), classes = h.classes();
    preorder_.reserve(nodes);
    leaf_rank_.assign(classes, -1);
    level_.assign(nodes, -1);
    h.ordered = true;
    h.logistic = h.rows() == nodes && !h.independent;
    h.depth = 0;
    h.widest = 0;
    for (std::size_t v = 0; v < nodes; ++v) h.widest = std::max(h.widest, h.row_count(v));
    struct Step {
        std::size_t first, next, end;  // its children in h.child, and which is at hand
        std::uint64_t worth;           // of the way to it
        std::int32_t node;
        std::int32_t child() const { return static_cast<std::int32_t>(next - first); }
    };
    std::vector<Step> way;  // to the node at hand
    PathSum paths;
    std::uint64_t all_paths = 0;
    std::int32_t rank = 0, root = 0;

    const auto worth = [&] { return way.empty() ? 0 : paths.step(way.back().worth, way.size() - 1, way.back().node, way.back().child()); };
    const auto enter = [&](std::int32_t v) {
        require(level_[ix(v)] < 0, "child must hold every node once, got node ", v, " twice");
        level_[ix(v)] = static_cast<std::int32_t>(way.size());
        h.ordered = h.ordered && v == static_cast<std::int32_t>(preorder_.size());
        preorder_.push_back(v);
        const auto first = ix(h.child_ptr[ix(v)]);
        way.push_back({first, first, ix(h.child_ptr[ix(v) + 1]), worth(), v});
    };
    const auto leaf = [&](std::int32_t c) {
        auto& place = leaf_rank_[ix(c)];
        require(place < 0, "child must hold every class once, got class ", c, " twice");
        place = rank++;
        h.depth = std::max(h.depth, static_cast<std::int32_t>(way.size()));
        all_paths = PathSum::sum(all_paths, paths.leaf(ix(c), way.size(), worth()));
    };
    if (nodes == 0) {
        leaf(0);
    } else {
        std::vector<std::uint8_t> has_parent(nodes, 0);
        for (const std::int32_t c : h.child) {
            if (c >= 0) has_parent[ix(c)] = 1;
        }
        const auto top = std::find(has_parent.begin(), has_parent.end(), 0);
        require(top != has_parent.end(), "child must leave one node without a parent, the root");
        root = static_cast<std::int32_t>(top - has_parent.begin());
        enter(root);
    }
    constexpr std::size_t ahead = 32;  // in children: about as many as the walk meets while memory answers
    while (!way.empty()) {
        const Step& at = way.back();
        if (at.next == at.end) {
            way.pop_back();
            if (!way.empty()) ++way.back().next;
            continue;
        }
        if (at.next + ahead < h.child.size()) detail::prefetch_entry(leaf_rank_.data(), ~h.child[at.next + ahead]);
        if (const std::int32_t child = h.child[at.next]; child >= 0) {
            enter(child);
        } else {
            leaf(~child);
            ++way.back().next;
        }
    }
    require(preorder_.size() == nodes && ix(rank) == classes, "child must be one tree, got ", nodes - preorder_.size(),
            " nodes that the root does not reach");
    if (!paths_are_worth(h, paths, all_paths)) require_paths(h, root);
    h.preorder = preorder_;
    h.leaf_rank = leaf_rank_;
    h.level = level_;
}

}  // namespace sparseops
