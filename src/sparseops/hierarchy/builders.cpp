// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "../detail/index.hpp"
#include "../hierarchy.hpp"
#include "shape.hpp"

namespace sparseops {

using detail::complete;
using detail::ix;
using detail::require;
using detail::Shape;

namespace {

struct Weighted {
    std::uint64_t key;  // rises where the weight falls: the bits of numbers that are not negative are ordered as they are
    std::int32_t item;

    double weight() const { return std::bit_cast<double>(~key); }
};

// Stable, by radix: with ten million items, a third of the time of comparisons.
void sort_by_key(std::vector<Weighted>& items) {
    constexpr std::size_t bits = 11, digits = 6, size = std::size_t{1} << bits;
    const auto digit = [](std::uint64_t key, std::size_t d) { return (key >> (d * bits)) & (size - 1); };
    std::vector<std::size_t> start(digits * size, 0);
    for (const Weighted& w : items) {
        for (std::size_t d = 0; d < digits; ++d) ++start[d * size + digit(w.key, d)];
    }
    std::vector<Weighted> other(items.size());
    for (std::size_t d = 0; d < digits; ++d) {
        std::size_t* const to = start.data() + d * size;
        if (to[digit(items.front().key, d)] == items.size()) continue;  // all the same
        std::exclusive_scan(to, to + size, to, std::size_t{0});
        for (const Weighted& w : items) other[to[digit(w.key, d)]++] = w;
        items.swap(other);
    }
}

// Classes by falling weight, ties by rising class: the order in which leaves deserve short codes.
std::vector<Weighted> by_weight(std::span<const double> weights) {
    std::vector<Weighted> items(weights.size());
    for (std::size_t i = 0; i < items.size(); ++i)  // -0 becomes 0
        items[i] = {~std::bit_cast<std::uint64_t>(weights[i] + 0.0), static_cast<std::int32_t>(i)};
    const auto before = [](const Weighted& a, const Weighted& b) { return a.key < b.key; };
    constexpr std::size_t worth_tables = 4096;
    if (std::is_sorted(items.begin(), items.end(), before)) return items;
    if (items.size() < worth_tables)
        std::stable_sort(items.begin(), items.end(), before);
    else
        sort_by_key(items);
    return items;
}

}  // namespace

namespace detail {

Shape huffman_shape(std::span<const double> weights, int arity) {
    Shape shape;
    const std::size_t n = weights.size(), k = ix(arity);
    if (n == 1) return shape;
    const auto order = by_weight(weights);  // of falling weight
    std::vector<double> merged;
    merged.reserve(n);
    std::size_t leaf = n, node = 0, take = 2 + (n - 2) % (k - 1);  // the first merge takes what makes all others full
    shape.child.reserve(n + n / (k - 1) + 1);
    std::vector<std::int32_t> picked;
    for (std::size_t open = n; open > 1; open -= take - 1, take = k) {
        if (!merged.empty()) take = k;
        double sum = 0;
        picked.clear();
        for (std::size_t i = 0; i < take; ++i) {  // a leaf before a node of the same weight: the shallowest optimal tree
            const bool use_leaf = leaf > 0 && (node == merged.size() || order[leaf - 1].weight() <= merged[node]);
            if (use_leaf) {
                --leaf;
                sum += order[leaf].weight();
                picked.push_back(~order[leaf].item);
            } else {
                sum += merged[node];
                picked.push_back(static_cast<std::int32_t>(node++));
            }
        }
        shape.child.insert(shape.child.end(), picked.rbegin(), picked.rend());  // the heaviest child first
        shape.root = shape.close_node();
        merged.push_back(sum);
    }
    return shape;
}

}  // namespace detail

namespace {

// Lengths of optimal codes of at most `limit` symbols, for weights in rising order (dummies included), by package-merge:
// of each level's merged list only "leaf or package" is kept, a bit an item.
std::vector<int> limited_lengths(const std::vector<double>& rising, std::size_t k, int limit) {
    const std::size_t n = rising.size();
    std::vector<std::vector<bool>> is_leaf(ix(limit));
    std::vector<double> packages, list;
    for (int level = limit - 1; level >= 0; --level) {
        auto& kind = is_leaf[ix(level)];
        list.clear();
        std::size_t p = 0;
        for (std::size_t i = 0; i < n || p < packages.size();) {
            const bool leaf = i < n && (p == packages.size() || rising[i] <= packages[p]);
            kind.push_back(leaf);
            list.push_back(leaf ? rising[i++] : packages[p++]);
        }
        packages.clear();
        for (std::size_t i = 0; i + k <= list.size(); i += k) {
            packages.push_back(
                std::accumulate(list.begin() + static_cast<std::ptrdiff_t>(i), list.begin() + static_cast<std::ptrdiff_t>(i + k), 0.0));
        }
    }
    std::vector<int> lengths(n, 0);
    std::size_t chosen = k * (n - 1) / (k - 1);
    for (const auto& kind : is_leaf) {
        const auto leaves = ix(std::count(kind.begin(), kind.begin() + static_cast<std::ptrdiff_t>(chosen), true));
        for (std::size_t i = 0; i < leaves; ++i) ++lengths[i];
        chosen = k * (chosen - leaves);
    }
    return lengths;
}

Shape limited_huffman(std::span<const double> counts, int arity, int limit) {
    const std::size_t k = ix(arity), n = counts.size();
    const std::size_t dummies = (k - 1 - (n - 1) % (k - 1)) % (k - 1);
    const auto order = by_weight(counts);
    std::vector<double> rising(dummies, 0.0);
    for (std::size_t i = n; i-- > 0;) rising.push_back(order[i].weight());
    const auto lengths = limited_lengths(rising, k, limit);  // [dummies, then classes from the rarest]
    Shape shape;
    std::vector<std::int32_t> below;  // nodes made of the level below, left to right
    std::size_t next = n;             // classes order[.. next) are not yet placed
    for (int level = *std::max_element(lengths.begin(), lengths.end()); level >= 1; --level) {
        std::vector<std::int32_t> items;
        std::size_t from = next;
        while (from > 0 && lengths[dummies + n - from] == level) --from;
        for (std::size_t i = from; i < next; ++i) items.push_back(~order[i].item);
        next = from;
        items.insert(items.end(), below.begin(), below.end());
        below.clear();
        for (std::size_t i = 0; i < items.size(); i += k) {  // the dummies are what the deepest level's last group lacks
            shape.child.insert(shape.child.end(), items.begin() + static_cast<std::ptrdiff_t>(i),
                               items.begin() + static_cast<std::ptrdiff_t>(std::min(i + k, items.size())));
            below.push_back(shape.close_node());
        }
    }
    shape.root = below.front();
    return shape;
}

}  // namespace

Hierarchy huffman(std::span<const double> counts, int arity, std::optional<int> max_depth, bool logistic) {
    detail::require_counts(counts);
    detail::require_arity(arity);
    if (max_depth) {
        int least = 0;
        for (double reach = 1; reach < static_cast<double>(counts.size()); reach *= arity) ++least;
        require(*max_depth >= least, "max_depth must be at least ", least, " for ", counts.size(), " classes of arity ", arity, ", got ",
                *max_depth);
    }
    Shape shape = detail::huffman_shape(counts, arity);
    if (max_depth) {
        std::vector<int> depth(shape.nodes(), 0);  // a node comes after the nodes below it
        int deepest = 0;
        for (std::size_t v = shape.nodes(); v-- > 0;) {
            for (const std::int32_t c : shape.children(v)) {
                if (c >= 0)
                    depth[ix(c)] = depth[v] + 1;
                else
                    deepest = std::max(deepest, depth[v] + 1);
            }
        }
        if (deepest > *max_depth) shape = limited_huffman(counts, arity, *max_depth);
    }
    return complete(shape, counts.size(), logistic);
}

Hierarchy balanced(std::int64_t n_classes, int arity, bool logistic) {
    require(n_classes >= 1 && n_classes <= detail::max_classes, "n_classes must be in [1, ", detail::max_classes, "], got ", n_classes);
    detail::require_arity(arity);
    Shape shape;
    const std::int64_t k = arity, nodes = (n_classes - 1 + k - 2) / (k - 1), all = nodes + n_classes;
    for (std::int64_t v = 0; v < nodes; ++v) {  // the numbering of a heap: children of v are k v + 1 … k v + k
        for (std::int64_t c = k * v + 1; c <= k * v + k && c < all; ++c) {
            shape.child.push_back(static_cast<std::int32_t>(c < nodes ? c : ~(c - nodes)));
        }
        shape.close_node();
    }
    if (nodes > 0) shape.root = 0;
    detail::relabel_leaves_in_order(shape);
    return complete(shape, ix(n_classes), logistic);
}

Hierarchy two_level(std::int64_t n_classes, std::span<const double> counts, std::int64_t n_groups, bool logistic) {
    require(n_classes >= 1 && n_classes <= detail::max_classes, "n_classes must be in [1, ", detail::max_classes, "], got ", n_classes);
    require(n_groups >= 1 && n_groups <= n_classes, "n_groups must be in [1, ", n_classes, "], got ", n_groups);
    if (!counts.empty()) {
        detail::require_counts(counts);
        require(counts.size() == ix(n_classes), "counts must have ", n_classes, " entries, got ", counts.size());
    }
    const auto n = ix(n_classes), groups = ix(n_groups);
    const auto order = by_weight(counts.empty() ? std::vector<double>(n) : std::vector<double>(counts.begin(), counts.end()));
    double left = std::accumulate(counts.begin(), counts.end(), 0.0);
    // Classes that do not occur have no share: they are dealt evenly, one at least to a group that has no other.
    const auto seen = counts.empty() ? n : ix(std::count_if(counts.begin(), counts.end(), [](double c) { return c > 0; }));
    const std::size_t with_seen = std::min(groups, seen), spare = n - seen - (groups - with_seen);
    Shape shape;
    std::vector<std::int32_t> top;
    std::size_t at = 0, unseen = seen;
    for (std::size_t g = 0; g < groups; ++g) {
        const std::size_t from = at;
        if (counts.empty()) {
            at = n * (g + 1) / groups;
        } else if (g < with_seen) {                               // until the group holds its share of what is left
            const std::size_t most = seen - (with_seen - 1 - g);  // one class at least for every later group
            const double share = left / static_cast<double>(with_seen - g);
            double sum = 0;
            do sum += order[at++].weight();
            while (at < most && (sum + order[at].weight() / 2 < share || g + 1 == with_seen));
            left -= sum;
        }
        std::vector<std::int32_t> members;
        for (std::size_t i = from; i < at; ++i) members.push_back(order[i].item);
        const std::size_t dealt = spare * (g + 1) / groups - spare * g / groups + (g < with_seen ? 0 : 1);
        for (std::size_t i = 0; i < dealt; ++i) members.push_back(order[unseen++].item);
        if (members.size() == 1) {
            top.push_back(~members.front());
        } else {
            for (const std::int32_t c : members) shape.child.push_back(~c);
            top.push_back(shape.close_node());
        }
    }
    if (top.size() == 1) {
        shape.root = top.front();
    } else {
        shape.child.insert(shape.child.end(), top.begin(), top.end());
        shape.root = shape.close_node();
    }
    return complete(shape, n, logistic);
}

}  // namespace sparseops
