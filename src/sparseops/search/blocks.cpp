// SPDX-License-Identifier: BSD-3-Clause
#include "blocks.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../hsoftmax/score.hpp"
#include "pairs.hpp"
#include "results.hpp"
#include "rows.hpp"
#include "steps.hpp"

namespace sparseops::detail {
namespace {

constexpr std::size_t exact_width = 16;  // nodes that a row expands in a round without a beam, where
constexpr std::size_t shared_rows = 64;  // so many rows are searched together

// One worker's search of a block of rows, round by round. The pairs (node, row) of a round are sorted by node: then a node's weights
// are read for all its rows while they are near. With a beam a round is a level of the tree; without, each row expands the likeliest
// of its open nodes, few enough that most would be expanded anyway. A row's results do not depend on the other rows of its block,
// nor on how many nodes it expands in a round.
class alignas(cache_gap) BlockSearch {
public:
    BlockSearch(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, const Scorer<float>& score,
                std::size_t block, std::size_t width, FirstPlace& bad)
        : h_(h),
          in_(in),
          score_(*score.sparse()),
          exact_(!options.beam),
          width_(width),
          bad_(bad),
          results_(block, Results<float>(h, options)),
          open_(block),
          cut_(block, 0),
          expanded_(exact_ ? block : 0),
          sort_by_node_(h.nodes()),
          steps_(h) {}

    void run(std::size_t first, std::size_t rows, MatrixView<std::int64_t> classes, MatrixView<float> log_probs, std::span<float> bound) {
        first_ = first;
        score_.gather(rows, [&](std::size_t q) { return first + q; });
        pairs_.clear();
        for (std::size_t q = 0; q < rows; ++q) {
            results_[q].clear();
            if (exact_) expanded_[q].clear();
            pairs_.push_back({{0.0, 0.0f, h_.preorder[0]}, static_cast<std::int32_t>(q)});
        }
        while (!pairs_.empty()) {
            expand();
            pairs_.clear();
            for (std::size_t q = 0; q < rows; ++q) exact_ ? choose(q) : keep_likeliest(q);
            sort_by_node_(pairs_);
        }
        for (std::size_t q = 0; q < rows; ++q) {
            const std::size_t x = first + q;
            if (exact_) leave_needless(q);
            results_[q].write(classes.row(x), log_probs.row(x), &bound[x], [&](std::size_t v) {
                score_.node_alone(x, v, steps_.room());
                const float* const log_p = steps_.log_p(v, score_.temperature(v), steps_.room());
                check_finite(q);
                return log_p;
            });
        }
    }

private:
    void expand() {
        for (std::size_t from = 0, to = 0; from < pairs_.size(); from = to) {
            const std::int32_t node = pairs_[from].open.node;
            while (to < pairs_.size() && pairs_[to].open.node == node) ++to;
            const auto v = ix(node);
            const auto children = h_.children(v);
            const bool leaves = all_classes(children);
            score_.open(v, to - from);
            for (std::size_t i = from; i < to; ++i) {
                const Open<float>& open = pairs_[i].open;
                const auto q = ix(pairs_[i].row);
                const float* const log_p = steps_.log_p(v, score_.temperature(v), score_.scores(q),
                                                        leaves ? results_[q].least(open) : -std::numeric_limits<float>::infinity());
                check_finite(q);
                steps_.each_not_below(children.size(), [&](std::size_t j) {
                    results_[q].take_child(open, children[j], log_p[j], [&](const Open<float>& inner) { push(q, inner); });
                });
            }
            score_.close();
        }
    }

    void check_finite(std::size_t q) {
        if (in_.check_finite && !steps_.finite()) bad_.report(first_ + q);
    }

    // A node of the next level, or of what is open without a beam. With a beam those that are too many go as soon as they are twice as
    // many as stay, and what is no likelier than all that stayed then does not come.
    void push(std::size_t q, const Open<float>& node) {
        std::vector<Open<float>>& next = open_[q];
        if (!exact_ && next.size() >= width_) {
            if (cut_[q] && !Likelier<float>()(node, next[width_ - 1])) return results_[q].leave(node.key);
            if (next.size() >= 2 * width_) cut(q);
        }
        next.push_back(node);
    }

    // Leaves all but the likeliest nodes of the next level, the least likely of which is put last.
    void cut(std::size_t q) {
        std::vector<Open<float>>& next = open_[q];
        if (next.size() <= width_) return;
        std::nth_element(next.begin(), next.begin() + static_cast<std::ptrdiff_t>(width_ - 1), next.end(), Likelier<float>());
        for (std::size_t i = width_; i < next.size(); ++i) results_[q].leave(next[i].key);
        next.resize(width_);
        cut_[q] = 1;
    }

    // Keeps the likeliest nodes that row q met, if they may hold a result, for the next level.
    void keep_likeliest(std::size_t q) {
        std::vector<Open<float>>& next = open_[q];
        cut(q);
        cut_[q] = 0;
        for (const Open<float>& open : next) {
            if (open.key < results_[q].worst())
                results_[q].leave(open.key);
            else
                pairs_.push_back({open, static_cast<std::int32_t>(q)});
        }
        next.clear();
    }

    // What row q expands next: the likeliest that may hold a result, the others stay open.
    void choose(std::size_t q) {
        std::vector<Open<float>>& open = open_[q];
        std::erase_if(open, [&](const Open<float>& node) {
            const bool below = node.key < results_[q].worst();
            if (below) results_[q].leave(node.key);
            return below;
        });
        const std::size_t n = std::min(width_, open.size());
        const auto first = open.end() - static_cast<std::ptrdiff_t>(n);
        if (n < open.size())
            std::nth_element(open.begin(), first, open.end(), [](const auto& a, const auto& b) { return Likelier<float>()(b, a); });
        for (auto at = first; at < open.end(); ++at) {
            pairs_.push_back({*at, static_cast<std::int32_t>(q)});
            expanded_[q].push_back(at->key);
        }
        open.erase(first, open.end());
    }

    // Nodes that a later result made needless count as left: the bound says nothing of the width of a round.
    void leave_needless(std::size_t q) {
        for (const float key : expanded_[q]) {
            if (key < results_[q].worst()) results_[q].leave(key);
        }
    }

    const HierarchyView& h_;
    const HSoftmaxInput<float>& in_;
    SparseScorer score_;
    bool exact_;
    std::size_t width_, first_ = 0;  // nodes a row and round
    FirstPlace& bad_;
    std::vector<Results<float>> results_;         // of each row of the block
    std::vector<std::vector<Open<float>>> open_;  // of each row, inner nodes; with a beam of this level
    std::vector<std::uint8_t> cut_;               // with a beam: whether open_ has been cut, its least likely put at width_ - 1
    std::vector<std::vector<float>> expanded_;    // keys of the nodes that were; without a beam
    std::vector<Pair> pairs_;
    SortByNode sort_by_node_;
    ChildSteps steps_;
};

// Rows that are searched together: many, so that they share nodes, but few enough for what is kept of each to stay near.
std::size_t rows_together(std::size_t rows, std::size_t kept, int threads) {
    const std::size_t share = (rows + ix(threads) - 1) / ix(threads);
    return std::min(std::clamp<std::size_t>((std::size_t{1} << 20) / kept, 16, 4096), std::max<std::size_t>(share, 64));
}

}  // namespace

void search_blocks(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                   MatrixView<float> log_probs, std::span<float> bound, int num_threads) {
    const std::size_t n = in.X.rows(), results = std::min(options.k, h.classes() + h.nodes());
    std::size_t width = exact_width;
    if (options.beam) width = ix(std::min(*options.beam, static_cast<std::int64_t>(h.nodes())));
    const double scored = static_cast<double>(width + results) * static_cast<double>(h.depth);
    const int threads = std::max(1, team_size(num_threads, static_cast<double>(n) * scored * (entries_per_row(in.X) + 16) * 8));
    const Scorer<float> scorer(h, in.X, in.W, threads);
    const std::size_t block = rows_together(n, 8 * (results + width) + (options.beam ? 0 : h.nodes()), threads);
    FirstPlace bad;
    if (!options.beam && std::min(block, n) < shared_rows) {
        std::vector<RowSearch> searches(ix(threads), RowSearch(h, *scorer.sparse(), options));
        parallel_for(n, threads, [&](std::size_t x, std::size_t worker) {
            if (!searches[worker].run(x, classes.row(x), log_probs.row(x), &bound[x]) && in.check_finite) bad.report(x);
        });
        return require_finite_logits(bad);
    }
    std::vector<BlockSearch> searches;
    searches.reserve(ix(threads));
    for (int t = 0; t < threads; ++t) searches.emplace_back(h, in, options, scorer, std::min(block, n), width, bad);
    parallel_for((n + block - 1) / block, threads, [&](std::size_t item, std::size_t worker) {
        const std::size_t first = item * block;
        searches[worker].run(first, std::min(block, n - first), classes, log_probs, bound);
    });
    require_finite_logits(bad);
}

}  // namespace sparseops::detail
