// SPDX-License-Identifier: BSD-3-Clause
// The k classes of the largest mean probability over several trees.
//
// Every tree is searched a little, and its best classes become candidates. The k-th best mean of the candidates is a floor: a class
// that is less likely in every tree cannot reach it (Fagin, Lotem and Naor, "Optimal aggregation algorithms for middleware", 2001).
// So nodes above the floor are opened, and of the classes there those are scored in all trees whose mean may still reach it.
#include <algorithm>
#include <limits>
#include <optional>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax/backward.hpp"
#include "../hsoftmax/score.hpp"
#include "../search.hpp"
#include "mean.hpp"
#include "pairs.hpp"
#include "results.hpp"
#include "steps.hpp"

namespace sparseops {
namespace {

using detail::ix;
using detail::Open;
using detail::Pair;
using detail::require;

constexpr float lowest = -std::numeric_limits<float>::infinity();
constexpr std::size_t exact_width = 4;  // nodes that a row opens on a level before there is a floor

// A node whose children's log-probabilities are known, at `at` of the tree's memory.
struct Opened {
    std::int32_t node;
    std::size_t at;
    double log_p;
};

// What is known of one tree for one row.
struct Known {
    std::vector<Opened> opened;     // by node
    std::vector<Open<float>> open;  // inner nodes below those
    const Opened* find(std::int32_t node) const noexcept {
        const auto at = std::lower_bound(opened.begin(), opened.end(), node, [](const Opened& o, std::int32_t v) { return o.node < v; });
        return at != opened.end() && at->node == node ? &*at : nullptr;
    }
};

// One tree and what is known of it for a block of rows.
class TreeOfBlock {
public:
    TreeOfBlock(const SearchTree& tree, const detail::Scorer<float>& score, std::size_t block, std::size_t k, detail::FirstPlace& bad)
        : h_(*tree.h),
          check_finite_(tree.in.check_finite),
          score_(*score.sparse()),
          options_{.k = k},
          bad_(bad),
          known_(block),
          best_(block, detail::Results<float>(h_, options_)),
          sort_by_node_(h_.nodes()),
          steps_(h_) {}

    // The likeliest nodes of each level, `width` of them, and the best classes below.
    void begin(std::size_t first, std::size_t rows, std::size_t width) {
        first_ = first;
        score_.gather(rows, [&](std::size_t q) { return first + q; });
        memory_.clear();
        pairs_.clear();
        for (std::size_t q = 0; q < rows; ++q) {
            known_[q].opened.clear();
            known_[q].open.clear();
            best_[q].clear();
            if (h_.nodes() > 0) want({0.0, 0.0f, h_.preorder[0]}, q);
        }
        std::vector<std::size_t> before(rows, 0);  // of open nodes: what is behind them is of this level
        while (!pairs_.empty()) {
            open_wanted(true);
            for (std::size_t q = 0; q < rows; ++q) {
                auto& open = known_[q].open;
                const auto level = open.begin() + static_cast<std::ptrdiff_t>(before[q]);
                const auto n = std::min(static_cast<std::ptrdiff_t>(width), open.end() - level);
                if (n < open.end() - level) std::nth_element(level, level + n, open.end(), detail::Likelier<float>());
                for (auto at = level; at < level + n; ++at) {
                    if (!(at->key < best_[q].worst())) want(*at, q);
                }
                before[q] = open.size();
            }
        }
    }

    std::span<const detail::Found<float>> best(std::size_t q) const noexcept { return best_[q].found(); }

    // log P(c), or a bound of it where a node on the path is not open: then that is wanted, if `want_it`.
    struct Path {
        float log_p;
        bool known;
    };
    Path path(std::size_t q, std::size_t c, bool want_it) {
        const auto nodes = h_.path_nodes(c), steps = h_.path_children(c);
        double sum = 0;
        for (std::size_t d = 0; d < nodes.size(); ++d) {
            const Opened* const at = known_[q].find(nodes[d]);
            if (!at) {
                if (want_it) want({sum, static_cast<float>(sum), nodes[d]}, q);
                return {static_cast<float>(sum), false};
            }
            sum += static_cast<double>(memory_[at->at + ix(steps[d])]);
        }
        return {static_cast<float>(sum), true};
    }

    // Opens every node of row q that is at least as likely as `floor`: wants those that are known.
    void want_above(std::size_t q, float floor) {
        auto& open = known_[q].open;
        std::erase_if(open, [&](const Open<float>& node) {
            if (node.key < floor) return false;
            if (!known_[q].find(node.node)) want(node, q);
            return true;
        });
    }

    // The classes of row q in open nodes that are at least as likely as `floor`.
    void classes_above(std::size_t q, float floor, std::vector<std::int64_t>& out) const {
        for (const Opened& at : known_[q].opened) {
            if (static_cast<float>(at.log_p) < floor) continue;
            const auto children = h_.children(ix(at.node));
            const float* const steps = memory_.data() + at.at;
            const float least = detail::least_step<float>(floor, at.log_p);
            detail::each_not_below(steps, children.size(), least, [&](std::size_t j) {
                if (children[j] < 0 && !(static_cast<float>(at.log_p + static_cast<double>(steps[j])) < floor)) out.push_back(~children[j]);
                return least;
            });
        }
    }

    bool wants() const noexcept { return !pairs_.empty(); }

    // Opens the nodes that are wanted, once each; `collect`: their classes compete for the best.
    void open_wanted(bool collect) {
        sort_by_node_(pairs_);
        for (std::size_t from = 0, to = 0; from < pairs_.size(); from = to) {
            const std::int32_t node = pairs_[from].open.node;
            while (to < pairs_.size() && pairs_[to].open.node == node) ++to;
            const std::size_t v = ix(node);
            const auto children = h_.children(v);
            const bool leaves = detail::all_classes(children);
            score_.open(v, to - from);
            for (std::size_t i = from; i < to; ++i) {
                if (i > from && pairs_[i].row == pairs_[i - 1].row) continue;
                const auto q = ix(pairs_[i].row);
                const Open<float>& open = pairs_[i].open;
                const float* const steps =
                    steps_.log_p(v, score_.temperature(v), score_.scores(q), collect && leaves ? best_[q].least(open) : lowest);
                if (check_finite_ && !steps_.finite()) bad_.report(first_ + q);
                const std::size_t at = memory_.size();
                memory_.insert(memory_.end(), steps, steps + children.size());
                take(open, q, at, children, steps, collect, leaves);
            }
            score_.close();
        }
        pairs_.clear();
    }

private:
    void want(const Open<float>& node, std::size_t q) { pairs_.push_back({node, static_cast<std::int32_t>(q)}); }

    void take(const Open<float>& node, std::size_t q, std::size_t at, std::span<const std::int32_t> children, const float* steps,
              bool collect, bool leaves) {
        Known& known = known_[q];
        const auto place = std::lower_bound(known.opened.begin(), known.opened.end(), node.node,
                                            [](const Opened& o, std::int32_t v) { return o.node < v; });
        known.opened.insert(place, {node.node, at, node.log_p});
        for (std::size_t j = 0; j < children.size() && !leaves; ++j) {
            if (children[j] < 0) continue;
            const double total = node.log_p + static_cast<double>(steps[j]);
            known.open.push_back({total, static_cast<float>(total), children[j]});
        }
        if (!collect) return;
        steps_.each_not_below(children.size(), [&](std::size_t j) {
            if (children[j] < 0) best_[q].take_child(node, children[j], steps[j], [](const Open<float>&) {});
        });
    }

    const HierarchyView& h_;
    bool check_finite_;
    detail::SparseScorer score_;
    SearchOptions options_;
    detail::FirstPlace& bad_;
    std::size_t first_ = 0;
    std::vector<float> memory_;  // log P(child | node, x) of all that was opened
    std::vector<Known> known_;   // of each row of the block
    std::vector<detail::Results<float>> best_;
    std::vector<Pair> pairs_;  // what is wanted
    detail::SortByNode sort_by_node_;
    detail::ChildSteps steps_;
};

// One worker's search of a block of rows.
class alignas(detail::cache_gap) ForestSearch {
public:
    ForestSearch(std::span<const SearchTree> trees, std::span<const detail::Scorer<float>> scorers, std::size_t block, std::size_t k,
                 std::optional<std::int64_t> beam, detail::FirstPlace& bad)
        : k_(k), beam_(beam), rows_(block) {
        trees_.reserve(trees.size());
        for (std::size_t t = 0; t < trees.size(); ++t)
            trees_.emplace_back(trees[t], scorers[t], block, beam ? std::max<std::size_t>(2 * k, 8) : k, bad);
        classes_ = trees[0].h->classes();
    }

    void run(std::size_t first, std::size_t rows, MatrixView<std::int64_t> classes, MatrixView<float> log_probs) {
        n_ = rows;
        for (TreeOfBlock& tree : trees_) tree.begin(first, rows, beam_ ? ix(std::min(*beam_, std::int64_t{1} << 31)) : exact_width);
        for (std::size_t q = 0; q < n_; ++q) {
            Row& row = rows_[q];
            row.scored.clear();
            row.found.clear();
            row.pending.clear();
            if (classes_ == 1) row.pending.push_back(0);
            for (const TreeOfBlock& tree : trees_) {
                for (const auto& found : tree.best(q)) row.pending.push_back(found.id);
            }
            keep_new(row);
        }
        score_pending();
        if (!beam_) look_above_the_floor();
        for (std::size_t q = 0; q < n_; ++q) write(rows_[q], classes.row(first + q), log_probs.row(first + q));
    }

private:
    struct Row {
        std::vector<std::int64_t> pending, scored;  // classes; the second sorted
        std::vector<detail::Found<float>> found;    // the best k means, best first
        float floor = lowest;
    };

    // Leaves the pending classes that have no score yet, once each.
    void keep_new(Row& row) {
        std::sort(row.pending.begin(), row.pending.end());
        row.pending.erase(std::unique(row.pending.begin(), row.pending.end()), row.pending.end());
        std::erase_if(row.pending, [&](std::int64_t c) { return std::binary_search(row.scored.begin(), row.scored.end(), c); });
    }

    bool open_wanted() {
        bool any = false;
        for (TreeOfBlock& tree : trees_) {
            if (!tree.wants()) continue;
            any = true;
            tree.open_wanted(false);
        }
        return any;
    }

    // Opens the paths of the pending classes in all trees, a level a round, and takes their means.
    void score_pending() {
        do {
            for (std::size_t q = 0; q < n_; ++q) {
                const std::size_t m = rows_[q].pending.size();
                bool known = true;
                log_p_.resize(m * trees_.size());
                for (std::size_t t = 0; t < trees_.size(); ++t) {
                    for (std::size_t i = 0; i < m; ++i) {
                        const auto path = trees_[t].path(q, ix(rows_[q].pending[i]), true);
                        log_p_[t * m + i] = path.log_p;
                        known = known && path.known;
                    }
                }
                if (known && m > 0) take_means(rows_[q]);
            }
        } while (open_wanted());
    }

    void take_means(Row& row) {
        const std::size_t m = row.pending.size();
        mean_.resize(m);
        detail::log_mean_exp(log_p_.data(), trees_.size(), m, m, mean_.data());
        for (std::size_t i = 0; i < m; ++i) row.found.push_back({mean_[i], row.pending[i], 0.0});
        const auto keep = static_cast<std::ptrdiff_t>(std::min(k_, row.found.size()));
        std::partial_sort(row.found.begin(), row.found.begin() + keep, row.found.end(), detail::Better<float>());
        row.found.resize(ix(keep));
        row.scored.insert(row.scored.end(), row.pending.begin(), row.pending.end());
        std::sort(row.scored.begin(), row.scored.end());
        row.pending.clear();
        // a little lower, so that rounding hides no class that is as likely
        if (row.found.size() == k_) row.floor = row.found.back().key - 4e-7f * (1 + std::abs(row.found.back().key));
    }

    void look_above_the_floor() {
        for (std::size_t q = 0; q < n_; ++q) {
            if (rows_[q].found.size() < k_) rows_[q].floor = lowest;
        }
        do {
            for (std::size_t q = 0; q < n_; ++q) {
                for (TreeOfBlock& tree : trees_) tree.want_above(q, rows_[q].floor);
            }
        } while (open_wanted());
        for (std::size_t q = 0; q < n_; ++q) {
            Row& row = rows_[q];
            for (const TreeOfBlock& tree : trees_) tree.classes_above(q, row.floor, row.pending);
            keep_new(row);
            drop_hopeless(q);
        }
        score_pending();
    }

    // Of what is pending, the classes whose mean cannot reach the floor: a class is no likelier than a node above it.
    void drop_hopeless(std::size_t q) {
        Row& row = rows_[q];
        const std::size_t m = row.pending.size();
        log_p_.resize(m * trees_.size());
        mean_.resize(m);
        for (std::size_t t = 0; t < trees_.size(); ++t) {
            for (std::size_t i = 0; i < m; ++i) log_p_[t * m + i] = trees_[t].path(q, ix(row.pending[i]), false).log_p;
        }
        detail::log_mean_exp(log_p_.data(), trees_.size(), m, m, mean_.data());
        std::size_t kept = 0;
        for (std::size_t i = 0; i < m; ++i) {
            if (!(mean_[i] < row.floor)) row.pending[kept++] = row.pending[i];
        }
        row.pending.resize(kept);
    }

    void write(const Row& row, std::int64_t* classes, float* log_probs) const {
        for (std::size_t j = 0; j < k_; ++j) {
            classes[j] = j < row.found.size() ? row.found[j].id : -1;
            log_probs[j] = j < row.found.size() ? row.found[j].key : lowest;
        }
    }

    std::size_t k_, n_ = 0, classes_ = 0;
    std::optional<std::int64_t> beam_;
    std::vector<TreeOfBlock> trees_;
    std::vector<Row> rows_;
    std::vector<float> log_p_, mean_;
};

// Rows that are searched together: many, so that they share nodes, but what is kept of them should stay below some 64 MiB.
std::size_t rows_together(std::span<const SearchTree> trees, std::size_t rows, int threads) {
    std::size_t kept = 0;
    for (const SearchTree& tree : trees) kept += 128 * std::max<std::size_t>(2, tree.h->widest);
    const std::size_t share = (rows + ix(threads) - 1) / ix(threads);
    return std::min(std::clamp<std::size_t>((std::size_t{1} << 27) / kept, 16, 2048), std::max<std::size_t>(share, 64));
}

}  // namespace

void hsoftmax_search_mean(std::span<const SearchTree> trees, std::size_t k, std::optional<std::int64_t> beam,
                          MatrixView<std::int64_t> classes, MatrixView<float> log_probs, int num_threads) {
    require(!trees.empty(), "trees must not be empty");
    require(k >= 1, "k must be at least 1, got ", k);
    require(!beam || *beam >= 1, "beam must be at least 1, got ", beam.value_or(0));
    const std::size_t n = trees[0].in.X.rows();
    detail::require_matrix("classes", classes, n, k);
    detail::require_matrix("log_probs", log_probs, n, k);
    double work = 0;
    for (const SearchTree& tree : trees) {
        require(tree.h->classes() == trees[0].h->classes() && tree.in.X.rows() == n, "trees must have the same classes and rows of X");
        require(tree.in.W.sparse() != nullptr, "W must be sparse in every tree");
        require_input(*tree.h, tree.in);
        work += static_cast<double>(n) * 32 * static_cast<double>(tree.h->depth) * (detail::entries_per_row(tree.in.X) + 16) * 8;
    }
    const int threads = std::max(1, detail::team_size(num_threads, work));
    std::vector<detail::Scorer<float>> scorers;
    scorers.reserve(trees.size());
    for (const SearchTree& tree : trees) scorers.emplace_back(*tree.h, tree.in.X, tree.in.W, threads);
    const std::size_t block = rows_together(trees, n, threads);
    detail::FirstPlace bad;
    std::vector<ForestSearch> searches;
    searches.reserve(ix(threads));
    for (int t = 0; t < threads; ++t) searches.emplace_back(trees, scorers, std::min(block, n), k, beam, bad);
    detail::parallel_for((n + block - 1) / block, threads, [&](std::size_t item, std::size_t worker) {
        const std::size_t first = item * block;
        searches[worker].run(first, std::min(block, n - first), classes, log_probs);
    });
    detail::require_finite_logits(bad);
}

void log_mean_exp(MatrixView<const float> log_p, std::span<float> out, int num_threads) {
    require(log_p.rows >= 1, "log_p must have at least 1 row, got 0");
    require(out.size() == log_p.cols, "out must have ", log_p.cols, " entries, got ", out.size());
    detail::require_data("log_p", log_p.data, log_p.size());
    detail::require_data("out", out);
    constexpr std::size_t part = 1 << 14;
    const int threads = detail::team_size(num_threads, 20 * static_cast<double>(log_p.size()));
    detail::parallel_for((log_p.cols + part - 1) / part, threads, [&](std::size_t item, std::size_t) {
        const std::size_t from = item * part;
        detail::log_mean_exp(log_p.data + from, log_p.rows, log_p.cols, std::min(part, log_p.cols - from), out.data() + from);
    });
}

}  // namespace sparseops
