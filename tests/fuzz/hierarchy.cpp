// SPDX-License-Identifier: BSD-3-Clause
// Builders of class trees: refused for a reason, or one tree with what the builder promises.
#include <map>
#include <numeric>
#include <optional>
#include <set>
#include <tuple>

#include "tree_oracle.hpp"

namespace {

using namespace sparseops_fuzz;

bool valid_counts(const std::vector<double>& counts) {
    double total = 0;
    for (const double c : counts) {
        if (!(c >= 0)) return false;
        total += c;
    }
    return !counts.empty() && std::isfinite(total);
}

std::vector<double> some_counts(Input& in, std::size_t n) {
    std::vector<double> counts = in.reals<double>(n, in.flag());
    if (!in.rarely()) {
        for (double& c : counts) c = std::isnan(c) ? 0 : std::min(std::abs(c), 1e300);
    }
    return counts;
}

double cost_of(const HierarchyView& h, const std::vector<double>& counts) {
    double cost = 0;
    for (std::size_t c = 0; c < counts.size(); ++c) cost += counts[c] * static_cast<double>(h.path_nodes(c).size());
    return cost;
}

bool nearly(double a, double b) { return std::abs(a - b) <= 1e-12 * std::max(std::abs(a), std::abs(b)); }

// The least Σ count · length over prefix codes of at most `limit` symbols, by trying how many leaves every level has.
class BestCode {
public:
    BestCode(std::vector<double> counts, std::size_t arity, std::size_t limit) : n_(counts.size()), arity_(arity), limit_(limit) {
        std::sort(counts.begin(), counts.end(), std::greater<>());
        rest_.assign(n_ + 1, 0);
        for (std::size_t i = n_; i-- > 0;) rest_[i] = rest_[i + 1] + counts[i];
    }
    double cost() { return below(0, 1, 0); }

private:
    double below(std::size_t depth, std::size_t slots, std::size_t placed) {
        const std::size_t left = n_ - placed;
        if (left == 0) return 0;
        slots = std::min(slots, left);
        if (slots == left) return 0;  // all of them here
        if (depth == limit_) return std::numeric_limits<double>::infinity();
        const auto key = std::tuple(depth, slots, placed);
        if (const auto found = known_.find(key); found != known_.end()) return found->second;
        double best = std::numeric_limits<double>::infinity();
        for (std::size_t here = 0; here < slots; ++here) {
            best = std::min(best, rest_[placed + here] + below(depth + 1, (slots - here) * std::min(arity_, n_), placed + here));
        }
        return known_[key] = best;
    }

    std::size_t n_, arity_, limit_;
    std::vector<double> rest_;
    std::map<std::tuple<std::size_t, std::size_t, std::size_t>, double> known_;
};

void huffman(Input& in) {
    const std::size_t n = in.upto(in.rarely() ? 200 : 12);
    const auto counts = some_counts(in, n);
    const int arity = in.integer<int>(1, 6);
    const bool logistic = in.flag();
    std::optional<int> limit;
    if (in.flag()) limit = in.integer<int>(0, 12);
    const auto reach = [&](int depth) { return std::pow(static_cast<double>(arity), depth) >= static_cast<double>(n); };
    const bool valid = valid_counts(counts) && arity >= 2 && (!limit || (*limit >= 0 && reach(*limit)));
    Hierarchy built;
    must(refused([&] { built = sparseops::huffman(counts, arity, limit, logistic); }) == !valid, "huffman refuses what is not valid");
    if (!valid) return;
    const auto index = index_of(built, n);
    const HierarchyView& h = index.view();
    must(h.ordered && (!limit || h.depth <= *limit), "nodes come depth first, within max_depth");
    std::size_t not_full = 0;
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        const std::size_t k = h.children(v).size();
        must(k <= static_cast<std::size_t>(arity) && h.is_logistic(v) == (logistic && k == 2), "nodes are of the arity and kind");
        not_full += k < static_cast<std::size_t>(arity);
    }
    must(not_full <= 1, "only one node is not full, got ", not_full);
    for (std::size_t a = 0; a < n; ++a) {
        for (std::size_t b = 0; b < n; ++b) {
            must(!(counts[a] > counts[b]) || h.path_nodes(a).size() <= h.path_nodes(b).size(), "frequent classes are no deeper");
        }
    }
    if (n > 12) return;
    const double best = BestCode(counts, static_cast<std::size_t>(arity), limit ? static_cast<std::size_t>(*limit) : n).cost();
    must(nearly(cost_of(h, counts), best), "the code is optimal: ", cost_of(h, counts), " against ", best);
}

void balanced(Input& in) {
    const auto n =
        in.flag() ? static_cast<std::int64_t>(in.below(500)) : in.pick({std::int64_t{-1}, INT64_MIN, INT64_MAX, std::int64_t{1} << 31});
    const int arity = in.integer<int>(1, 9);
    const bool valid = n >= 1 && n <= 500 && arity >= 2;
    Hierarchy built;
    must(refused([&] { built = sparseops::balanced(n, arity, in.flag()); }) == !valid, "balanced refuses what is not valid");
    if (!valid) return;
    const auto index = index_of(built, static_cast<std::size_t>(n));
    const HierarchyView& h = index.view();
    int least = 0;
    for (double reach = 1; reach < static_cast<double>(n); reach *= arity) ++least;
    must(h.ordered && h.depth == least, "a complete tree has the least depth");
    for (std::size_t c = 0; c < h.classes(); ++c) must(h.leaf_rank[c] == static_cast<std::int32_t>(c), "classes are in order");
}

void two_level(Input& in) {
    const std::size_t n = in.upto(40);
    const auto counts = some_counts(in, in.flag() ? 0 : in.size_near(n));
    const auto groups = in.integer<std::int64_t>(0, static_cast<std::int64_t>(n) + 1);
    const bool valid =
        n >= 1 && groups >= 1 && groups <= static_cast<std::int64_t>(n) && (counts.empty() || (counts.size() == n && valid_counts(counts)));
    Hierarchy built;
    must(refused([&] { built = sparseops::two_level(static_cast<std::int64_t>(n), counts, groups, in.flag()); }) == !valid,
         "two_level refuses what is not valid");
    if (!valid) return;
    const auto index = index_of(built, n);
    const HierarchyView& h = index.view();
    must(h.depth <= 2 && (n == 1 || groups == 1 || h.children(0).size() == static_cast<std::size_t>(groups)), "a root over the groups");
    const auto leaves = leaves_in_order(h);
    for (std::size_t i = 1; i < n; ++i) {
        if (counts.empty())
            must(leaves[i] == static_cast<std::int32_t>(i), "classes are in order");
        else
            must(counts[static_cast<std::size_t>(leaves[i - 1])] >= counts[static_cast<std::size_t>(leaves[i])], "the frequent come first");
    }
}

// Sets of classes below the nodes, as bits; only those of two classes or more.
std::set<std::uint64_t> clades(const HierarchyView& h) {
    std::vector<std::uint64_t> of(h.nodes(), 0);
    for (std::size_t c = 0; c < h.classes(); ++c) {
        for (const std::int32_t v : h.path_nodes(c)) of[static_cast<std::size_t>(v)] |= std::uint64_t{1} << c;
    }
    return {of.begin(), of.end()};
}

void from_parents(Input& in) {
    const std::size_t n = in.upto(40);
    Ids parents(n);
    const bool below = !in.rarely();  // a node's parent comes before it
    for (std::size_t i = 0; i < n; ++i) {
        parents[i] = below && i > 0 ? static_cast<std::int64_t>(in.below(i)) : in.integer<std::int64_t>(-1, static_cast<std::int64_t>(n));
    }
    if (below && n > 0) parents[0] = -1;
    // what these parents are
    bool valid = n >= 1 && std::count(parents.begin(), parents.end(), -1) == 1;
    for (const std::int64_t p : parents) valid = valid && p >= -1 && p < static_cast<std::int64_t>(n);
    for (std::size_t i = 0; valid && i < n; ++i) {
        std::size_t steps = 0;
        for (std::int64_t at = static_cast<std::int64_t>(i); at >= 0 && steps <= n; ++steps) at = parents[static_cast<std::size_t>(at)];
        valid = steps <= n;
    }
    Ids leaves;
    for (std::size_t i = 0; i < n; ++i) {
        if (std::count(parents.begin(), parents.end(), static_cast<std::int64_t>(i)) == 0) leaves.push_back(static_cast<std::int64_t>(i));
    }
    Ids classes;
    if (in.flag()) {
        classes = leaves;
        for (std::size_t i = 1; i < classes.size(); ++i) std::swap(classes[i], classes[in.below(i + 1)]);
        if (in.rarely() && !classes.empty()) classes[in.below(classes.size())] = in.integer<std::int64_t>(-1, static_cast<std::int64_t>(n));
        if (in.rarely()) classes.resize(in.size_near(classes.size()));
    }
    Ids sorted = classes;
    std::sort(sorted.begin(), sorted.end());
    valid = valid && (classes.empty() || sorted == leaves);
    if (classes.empty()) classes = leaves;
    const auto counts = in.flag() ? std::vector<double>() : some_counts(in, in.size_near(leaves.size()));
    valid = valid && (counts.empty() || (counts.size() == leaves.size() && valid_counts(counts)));
    const int most = in.pick({0, 0, 2, 3, 5, INT32_MAX, 1, -1, INT32_MIN});
    valid = valid && (most == 0 || most >= 2);
    Hierarchy built;
    const bool by_id = classes == leaves;
    must(refused([&] { built = sparseops::from_parents(parents, by_id ? Ids() : classes, counts, most, in.flag()); }) == !valid,
         "from_parents refuses what is not valid");
    if (!valid) return;
    const auto index = index_of(built, leaves.size());
    const HierarchyView& h = index.view();
    must(h.ordered, "nodes come depth first");
    std::vector<std::uint64_t> of(n, 0);
    for (std::size_t c = 0; c < classes.size(); ++c) {
        for (std::int64_t at = classes[c]; at >= 0; at = parents[static_cast<std::size_t>(at)])
            of[static_cast<std::size_t>(at)] |= std::uint64_t{1} << c;
    }
    std::set<std::uint64_t> given;
    for (const std::uint64_t clade : of) {
        if ((clade & (clade - 1)) != 0) given.insert(clade);
    }
    const auto made = clades(h);
    must(std::includes(made.begin(), made.end(), given.begin(), given.end()), "every inner node of the parents is in the tree");
    must(most > 0 || made == given, "and no other");
    for (std::size_t v = 0; v < h.nodes(); ++v)
        must(most == 0 || h.children(v).size() <= static_cast<std::size_t>(most), "within max_children");
}

template <class T>
void disturb(Input& in, std::vector<T>& v) {
    if (v.empty()) return;
    if (in.rarely()) v.resize(in.size_near(v.size()));
    for (std::size_t i = in.below(3); i > 0 && !v.empty(); --i) {
        T& x = v[in.below(v.size())];
        x = in.flag() ? v[in.below(v.size())] : in.integer<T>(-3, static_cast<std::int64_t>(v.size()));
    }
}

// A tree's own arrays with a few numbers changed: refused, or a tree all the same.
void from_arrays(Input& in) {
    Hierarchy h = some_tree(in);
    if (in.flag()) {
        disturb(in, h.path_ptr), disturb(in, h.path_node), disturb(in, h.path_child);
        disturb(in, h.child_ptr), disturb(in, h.child), disturb(in, h.row_ptr);
        HierarchyIndex index;
        if (!refused([&] { index = HierarchyIndex(h); })) must_be_tree(index.view());
        return;
    }
    const std::size_t nodes = h.row_ptr.size() - 1, classes = h.path_ptr.size() - 1;
    Ids ptr = h.path_ptr, node(h.path_node.begin(), h.path_node.end()), child(h.path_child.begin(), h.path_child.end());
    std::vector<std::uint8_t> logistic(nodes);
    for (std::size_t v = 0; v < nodes; ++v) logistic[v] = h.row_ptr[v + 1] - h.row_ptr[v] == 1;
    const bool same = in.flag();
    if (!same) disturb(in, ptr), disturb(in, node), disturb(in, child), disturb(in, logistic);
    Hierarchy built;
    const bool no = refused([&] { built = sparseops::from_paths(ptr, node, child, logistic); });
    must(!(same && no), "from_paths takes a tree's own paths");
    if (no) return;
    index_of(built, ptr.size() - 1);
    must(built.path_ptr == ptr && std::equal(node.begin(), node.end(), built.path_node.begin(), built.path_node.end()) &&
             std::equal(child.begin(), child.end(), built.path_child.begin(), built.path_child.end()),
         "from_paths gives the paths back");
    if (same) must(built.child == h.child && built.row_ptr == h.row_ptr && classes == built.path_ptr.size() - 1, "and the same tree");
}

void edit(Input& in) {
    const Hierarchy tree = some_tree(in);
    const auto index = index_of(tree, tree.path_ptr.size() - 1);
    const HierarchyView& h = index.view();
    const auto counts = some_counts(in, in.size_near(h.classes()));
    const bool fits = counts.size() == h.classes() && valid_counts(counts);
    Hierarchy built;
    if (in.flag()) {
        must(refused([&] { built = sparseops::optimal_codes(h, counts); }) == !fits, "optimal_codes refuses what is not valid");
        if (!fits) return;
        const auto dealt = index_of(built, h.classes());
        must(built.child_ptr == tree.child_ptr && built.row_ptr == tree.row_ptr, "optimal codes keep the shape");
        for (std::size_t a = 0; a < counts.size(); ++a) {
            for (std::size_t b = 0; b < counts.size(); ++b) {
                must(!(counts[a] > counts[b]) || dealt.view().path_nodes(a).size() <= dealt.view().path_nodes(b).size(),
                     "frequent classes are no deeper");
            }
        }
        return;
    }
    using sparseops::PruneBy;
    const auto by = in.pick({PruneBy::min_count, PruneBy::max_nodes, PruneBy::max_depth});
    const double limit = in.flag() ? static_cast<double>(in.below(30)) : in.real<double>(true);
    const bool valid = fits && limit >= (by == PruneBy::min_count ? 0 : 1);
    must(refused([&] { built = sparseops::prune(h, counts, by, limit); }) == !valid, "prune refuses what is not valid");
    if (!valid) return;
    const auto pruned = index_of(built, h.classes());
    const HierarchyView& p = pruned.view();
    must(leaves_in_order(p) == leaves_in_order(h), "pruning keeps the order of the leaves");
    const auto before = clades(h), after = clades(p);
    must(std::includes(before.begin(), before.end(), after.begin(), after.end()), "pruning makes no new node");
    if (by == PruneBy::max_nodes) must(static_cast<double>(p.nodes()) <= limit, "pruning leaves at most max_nodes");
    if (by == PruneBy::max_depth) {
        must(static_cast<double>(p.depth) <= limit, "pruning leaves at most max_depth");
        must(static_cast<double>(h.depth) > limit || before == after, "and nothing is lost that is not too deep");
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    constexpr void (*runs[])(Input&) = {huffman, balanced, two_level, from_parents, from_arrays, from_arrays, edit};
    runs[in.below(std::size(runs))](in);
    return 0;
}
