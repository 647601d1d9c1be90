// SPDX-License-Identifier: BSD-3-Clause
// Class trees: what the builders promise, and the refusal of damaged arrays.
#include <limits>
#include <queue>
#include <set>

#include <sparseops/hierarchy.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

std::vector<std::size_t> lengths(const Hierarchy& h) {
    std::vector<std::size_t> list;
    for (std::size_t c = 0; c + 1 < h.path_ptr.size(); ++c) list.push_back(static_cast<std::size_t>(h.path_ptr[c + 1] - h.path_ptr[c]));
    return list;
}

double cost(const Hierarchy& h, const std::vector<double>& counts) {
    double sum = 0;
    for (std::size_t c = 0; c < counts.size(); ++c) sum += counts[c] * static_cast<double>(lengths(h)[c]);
    return sum;
}

std::size_t depth(const Hierarchy& h) {
    const auto all = lengths(h);
    return *std::max_element(all.begin(), all.end());
}

bool equal(const Hierarchy& a, const Hierarchy& b) {
    return a.path_ptr == b.path_ptr && a.path_node == b.path_node && a.path_child == b.path_child && a.child_ptr == b.child_ptr &&
           a.child == b.child && a.row_ptr == b.row_ptr;
}

// The cost of an optimal code: dummies to fill, then always the k smallest (Huffman).
double optimal_cost(const std::vector<double>& counts, std::size_t k) {
    std::priority_queue<double, std::vector<double>, std::greater<>> queue(counts.begin(), counts.end());
    while ((queue.size() - 1) % (k - 1)) queue.push(0);
    double total = 0;
    while (queue.size() > 1) {
        double sum = 0;
        for (std::size_t i = 0; i < k; ++i) sum += queue.top(), queue.pop();
        total += sum;
        queue.push(sum);
    }
    return total;
}

// The least cost of codes of at most `limit` bits: over all ways to spend Kraft's sum, rarest classes last.
double limited_cost(std::vector<double> counts, std::size_t limit) {
    std::sort(counts.begin(), counts.end(), std::greater<>());
    const std::size_t whole = std::size_t{1} << limit;
    std::vector<double> best(whole + 1, std::numeric_limits<double>::infinity());
    best[0] = 0;
    for (const double count : counts) {
        std::vector<double> next(whole + 1, std::numeric_limits<double>::infinity());
        for (std::size_t used = 0; used <= whole; ++used) {
            for (std::size_t l = 1; l <= limit; ++l) {
                const std::size_t after = used + (whole >> l);
                if (after <= whole) next[after] = std::min(next[after], best[used] + count * static_cast<double>(l));
            }
        }
        best = next;
    }
    return *std::min_element(best.begin(), best.end());
}

void test_every_tree_is_one() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        std::set<std::int32_t> ranks(h.leaf_rank.begin(), h.leaf_rank.end()), nodes(h.preorder.begin(), h.preorder.end());
        check(ranks.size() == h.classes() && nodes.size() == h.nodes(), name, ": ranks and preorder should be permutations");
        std::vector<int> reached(h.classes(), 0);
        std::size_t widest = 0, rows = 0;
        for (std::size_t c = 0; c < h.classes(); ++c) {
            const auto path = h.path_nodes(c), steps = h.path_children(c);
            std::int32_t at = path.empty() ? ~static_cast<std::int32_t>(c) : path[0];
            for (std::size_t d = 0; d < path.size(); ++d) {
                check(at == path[d], name, ": the path of class ", c, " should follow the children");
                at = h.children(static_cast<std::size_t>(at))[static_cast<std::size_t>(steps[d])];
            }
            check(at < 0, name, ": the path of class ", c, " should end in a leaf");
            ++reached[static_cast<std::size_t>(~at)];
        }
        check(std::all_of(reached.begin(), reached.end(), [](int n) { return n == 1; }), name, ": every class should be reached once");
        for (std::size_t v = 0; v < h.nodes(); ++v) widest = std::max(widest, h.row_count(v)), rows += h.row_count(v);
        check(widest == h.widest && rows == h.rows() && static_cast<std::size_t>(h.depth) == depth(tree), name,
              ": depth, width and rows should be right");
        check(h.logistic == (rows == h.nodes()), name, ": `logistic` should say that every node is");
        const bool ordered = std::is_sorted(h.preorder.begin(), h.preorder.end());
        check(h.ordered == ordered && (name.find("backwards") != std::string::npos) != ordered, name,
              ": builders should number nodes depth first");
        const Labels nodes64(tree.path_node.begin(), tree.path_node.end()), steps64(tree.path_child.begin(), tree.path_child.end());
        std::vector<std::uint8_t> logistic;
        for (std::size_t v = 0; v < h.nodes(); ++v) logistic.push_back(h.is_logistic(v));
        check(equal(from_paths(tree.path_ptr, nodes64, steps64, logistic), tree), name, ": from_paths should give the same tree back");
    }
}

void test_huffman() {
    Random random(3);
    for (int round = 0; round < 60; ++round) {
        const std::size_t n = 2 + random.below(60), k = 2 + random.below(4);
        std::vector<double> counts(n);
        for (double& c : counts) c = static_cast<double>(random.below(round % 3 ? 1000 : 4));
        const Hierarchy h = huffman(counts, static_cast<int>(k));
        check(cost(h, counts) == optimal_cost(counts, k), "huffman of ", n, " classes and arity ", k, " should be optimal");
        const auto length = lengths(h);
        for (std::size_t a = 0; a < n; ++a) {
            for (std::size_t b = 0; b < n; ++b) {
                if (counts[a] > counts[b] || (counts[a] == counts[b] && a < b)) {
                    check(length[a] <= length[b], "the more frequent class should not be deeper, nor the lower");
                }
            }
        }
        std::size_t partial = 0;
        for (std::size_t v = 0; v + 1 < h.child_ptr.size(); ++v) {
            partial += static_cast<std::size_t>(h.child_ptr[v + 1] - h.child_ptr[v]) < k;
        }
        check(partial <= 1, "at most one node should not be full");
    }
    check(depth(huffman(std::vector<double>(100000, 0.0))) == 17, "zero counts should make the shallowest tree");
    check(depth(huffman(skewed(60))) == 59, "powers of two should make a chain");
    for (const std::size_t n : {5u, 13u, 20u}) {
        const auto counts = skewed(n);
        for (std::size_t limit = 5; limit <= 9; ++limit) {
            const Hierarchy h = huffman(counts, 2, static_cast<int>(limit));
            check(depth(h) <= limit && cost(h, counts) == limited_cost(counts, limit), "huffman of ", n, " classes within ", limit,
                  " steps should be the best such");
        }
    }
    check(depth(huffman(skewed(27), 3, 3)) == 3, "the tightest limit should be met");
}

void test_shapes() {
    for (const int k : {2, 3, 7}) {
        for (std::int64_t n = 1; n <= 50; ++n) {
            const Hierarchy h = balanced(n, k);
            const auto length = lengths(h);
            const auto [least, most] = std::minmax_element(length.begin(), length.end());
            check(*most - *least <= 1, "leaves of a balanced tree should differ by one level at most");
            const HierarchyIndex index(h);
            check(std::is_sorted(index.view().leaf_rank.begin(), index.view().leaf_rank.end()), "balanced should keep classes in order");
        }
    }
    const Hierarchy groups = two_level(10, {}, 3);
    check(groups.child_ptr == std::vector<std::int64_t>({0, 3, 6, 9, 13}) && depth(groups) == 2,
          "two_level without counts should make groups of equal size");
    check(two_level(10, {}, 10).child_ptr.size() == 2 && two_level(10, {}, 1).child_ptr.size() == 2,
          "as many groups as classes, or one, should be one node");
    const std::vector<double> heavy = {1, 100, 1, 1, 1, 1};
    const Hierarchy by_count = two_level(6, heavy, 2);
    check(lengths(by_count)[1] == 1 && lengths(by_count)[0] == 2, "the frequent class should be a group of its own");
    const Labels parents = {4, 4, -1, 2, 2, 3, 3, 3};  // leaves 0, 1, 5, 6, 7
    const Hierarchy tree = from_parents(parents, {}, {});
    check(lengths(tree) == std::vector<std::size_t>({2, 2, 2, 2, 2}) && tree.row_ptr.back() == 5, "from_parents should keep the tree");
    check(equal(from_parents(Labels{-1, 0, 1, 2, 2}, {}, {}), balanced(2)), "a chain of single children should collapse");
    check(equal(from_parents(Labels{-1}, {}, {}), balanced(1)), "a root alone should be one class");
    Labels star(101, 0);
    star[0] = -1;
    const Hierarchy split = from_parents(star, {}, {}, 4);
    check(HierarchyIndex(split).view().widest <= 4 && depth(split) == 4, "a wide node should be split");
    check(HierarchyIndex(from_parents(Labels{-1, 0, 0}, {}, {}, 0, false)).view().rows() == 2,
          "`logistic` false should give softmax nodes");
    const Labels reversed = {7, 6, 5, 1, 0};
    check(from_parents(parents, reversed, {}).child != tree.child, "classes should name the leaves");
}

void test_edits() {
    Random random(4);
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const auto counts = random.vector<double>(index.view().classes(), 0, 100);
        const Hierarchy dealt = optimal_codes(index.view(), counts);
        auto before = lengths(tree), after = lengths(dealt), sorted = after;
        std::sort(before.begin(), before.end());
        std::sort(sorted.begin(), sorted.end());
        check(before == sorted && dealt.row_ptr == tree.row_ptr, name, ": optimal_codes should keep the shape");
        for (std::size_t a = 0; a < counts.size(); ++a) {
            for (std::size_t b = 0; b < counts.size(); ++b) {
                check(counts[a] <= counts[b] || after[a] <= after[b], name, ": the more frequent class should not be deeper");
            }
        }
        for (const double limit : {1.0, 2.0, 3.0, 1000.0}) {
            const Hierarchy shallow = prune(index.view(), counts, PruneBy::max_depth, limit),
                            few = prune(index.view(), counts, PruneBy::max_nodes, limit);
            check(HierarchyIndex(shallow).view().classes() == counts.size() && static_cast<double>(depth(shallow)) <= limit, name,
                  ": prune to depth ", limit);
            check(HierarchyIndex(few).view().classes() == counts.size() && static_cast<double>(few.row_ptr.size() - 1) <= limit, name,
                  ": prune to ", limit, " nodes");
        }
        if (index.view().ordered) {
            check(equal(prune(index.view(), counts, PruneBy::min_count, 0), tree), name, ": pruning nothing should change nothing");
        }
        const Hierarchy flat = prune(index.view(), counts, PruneBy::min_count, 1e9);
        check(flat.row_ptr.size() <= 2, name, ": pruning everything should leave one node");
    }
    // Found by fuzzing: a limit between whole numbers left a level too many.
    check(HierarchyIndex(prune(HierarchyIndex(balanced(8)).view(), zipf(8), PruneBy::max_depth, 1.5)).view().depth == 1,
          "prune to depth 1.5 should leave 1");
    const Hierarchy chain = huffman(skewed(10)), cut = prune(HierarchyIndex(chain).view(), skewed(10), PruneBy::min_count, 63);
    check(cut.row_ptr.size() - 1 == 6 && lengths(cut)[0] == 6 && cut.row_ptr.back() == 5 + 5,
          "the subtree of count 31 should become one node of five classes");
}

void test_refusals() {
    check_refused("counts must not be empty", [] { huffman({}); });
    check_refused("counts must be finite and non-negative, got -1 at index 1", [] { huffman(std::vector<double>{1, -1}); });
    check_refused("counts must be finite and non-negative, got nan at index 0", [] { huffman(std::vector<double>{std::nan(""), 1}); });
    check_refused("arity must be at least 2, got 1", [] { huffman(zipf(3), 1); });
    check_refused("max_depth must be at least 3 for 5 classes of arity 2, got 2", [] { huffman(zipf(5), 2, 2); });
    check_refused("n_classes must be in [1, 1073741824], got 0", [] { balanced(0); });
    check_refused("n_groups must be in [1, 4], got 5", [] { two_level(4, {}, 5); });
    check_refused("counts must have 4 entries, got 3", [] { two_level(4, zipf(3), 2); });
    check_refused("parents must not be empty", [] { from_parents({}, {}, {}); });
    check_refused("parents must be in [-1, 2), got 7 at index 1", [] { from_parents(Labels{-1, 7}, {}, {}); });
    check_refused("parents must have one root (-1), got a second one at index 1", [] { from_parents(Labels{-1, -1}, {}, {}); });
    check_refused("parents must have one root (-1), got none", [] { from_parents(Labels{1, 0}, {}, {}); });
    check_refused("parents must have no cycle, got one at index 1", [] { from_parents(Labels{-1, 2, 1}, {}, {}); });
    check_refused("classes must be leaves, got node 0, which has children, at index 0",
                  [] { from_parents(Labels{-1, 0, 0}, Labels{0, 1}, {}); });
    check_refused("classes must not repeat, got node 1 again at index 1", [] { from_parents(Labels{-1, 0, 0}, Labels{1, 1}, {}); });
    check_refused("classes must list all 2 leaves, got 1", [] { from_parents(Labels{-1, 0, 0}, Labels{1}, {}); });
    check_refused("max_children must be at least 2, got 1", [] { from_parents(Labels{-1, 0, 0}, {}, {}, 1); });
    check_refused("path_ptr must hold at least 2 entries, got 0", [] { from_paths({}, {}, {}, {}); });
    check_refused("path_node must be in [0, 2), got 9 at index 0", [] { from_paths(Labels{0, 1, 2}, Labels{9, 0}, Labels{0, 1}, {}); });
    check_refused("logistic must be false for nodes without exactly 2 children, got true at node 0",
                  [] { from_paths(Labels{0, 1, 2, 3}, Labels{0, 0, 0}, Labels{0, 1, 2}, std::vector<std::uint8_t>{1}); });
    const Hierarchy h = balanced(4);
    const HierarchyIndex four(h);
    check_refused("counts must have one entry a class, 4, got 2", [&] { optimal_codes(four.view(), zipf(2)); });
    check_refused("max_nodes must be at least 1, got 0", [&] { prune(four.view(), zipf(4), PruneBy::max_nodes, 0); });
    check_refused("max_depth must be at least 1, got 0.5", [&] { prune(four.view(), zipf(4), PruneBy::max_depth, 0.5); });
    check_refused("min_count must be at least 0, got -1", [&] { prune(four.view(), zipf(4), PruneBy::min_count, -1); });
}

// Any one entry changed to any of these values: a refusal, or a tree that really is one (the change may be harmless, as
// one row for a node of two).
template <class I>
void damage(const Hierarchy& whole, std::vector<I> Hierarchy::* array, const char* name) {
    const I values[] = {std::numeric_limits<I>::min(), -7, -3, -2, -1, 0, 1, 2, 3, 4, 5, 100, std::numeric_limits<I>::max()};
    for (std::size_t i = 0; i < (whole.*array).size(); ++i) {
        for (const I value : values) {
            Hierarchy h = whole;
            if ((h.*array)[i] == value) continue;
            (h.*array)[i] = value;
            bool refused = false;
            try {
                const HierarchyIndex index(h);
            } catch (const std::invalid_argument&) {
                refused = true;
            }
            check(refused, name, "[", i, "] = ", value, " should be refused");
        }
    }
    for (const int change : {-1, 1}) {
        Hierarchy h = whole;
        if (change < 0 && !(h.*array).empty()) (h.*array).pop_back();
        if (change > 0) (h.*array).push_back((h.*array).empty() ? I{0} : (h.*array).back());
        if ((h.*array).size() == (whole.*array).size()) continue;
        bool refused = false;
        try {
            const HierarchyIndex index(h);
        } catch (const std::invalid_argument&) {
            refused = true;
        }
        check(refused, name, " of another length should be refused");
    }
    Hierarchy h = whole;
    (h.*array).clear();
    if ((whole.*array).empty()) return;
    bool refused = false;
    try {
        const HierarchyIndex index(h);
    } catch (const std::invalid_argument&) {
        refused = true;
    }
    check(refused, name, " without entries should be refused");
}

void test_damage() {
    for (const Hierarchy& h :
         {balanced(1), balanced(5, 3), huffman(skewed(6)), from_parents(Labels{-1, 0, 0, 1, 1, 1, 2, 2, 7, 7}, {}, {})}) {
        damage(h, &Hierarchy::path_ptr, "path_ptr");
        damage(h, &Hierarchy::path_node, "path_node");
        damage(h, &Hierarchy::path_child, "path_child");
        damage(h, &Hierarchy::child_ptr, "child_ptr");
        damage(h, &Hierarchy::child, "child");
        damage(h, &Hierarchy::row_ptr, "row_ptr");
    }
    Hierarchy loop = balanced(4);  // two nodes that are each other's children, off the root
    loop.child = {~0, ~1, 2, ~2, 1, ~3};
    loop.path_ptr = {0, 1, 2, 3, 4};
    loop.path_node = {0, 0, 0, 0};
    loop.path_child = {0, 1, 0, 0};
    check_refused("child must be one tree, got 2 nodes that the root does not reach", [&] { const HierarchyIndex index(loop); });
    const Hierarchy tree = huffman(zipf(9));
    HierarchyIndex index(tree);
    const HierarchyIndex moved = std::move(index);
    check(moved.view().preorder.size() == moved.view().nodes() && moved.view().preorder[0] == 0, "an index should survive a move");
}

}  // namespace

int main() {
    test_every_tree_is_one();
    test_huffman();
    test_shapes();
    test_edits();
    test_refusals();
    test_damage();
    return finish("hierarchies");
}
