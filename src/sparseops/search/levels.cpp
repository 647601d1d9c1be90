// SPDX-License-Identifier: BSD-3-Clause
#include "levels.hpp"

#include <algorithm>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../hsoftmax/child_log_p.hpp"
#include "../hsoftmax/score.hpp"
#include "../kernels/kernels.hpp"
#include "results.hpp"

namespace sparseops::detail {
namespace {

// One worker's search of a block of rows, level by level. The pairs (node, row) of a level are sorted by node: then a node's weights
// are read for all its rows while they are near. A row's results do not depend on the other rows of its block.
class alignas(cache_gap) LevelSearch {
public:
    LevelSearch(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, const Scorer<float>& score,
                std::size_t block, FirstPlace& bad)
        : h_(h),
          in_(in),
          score_(*score.sparse()),
          width_(ix(std::min(*options.beam, static_cast<std::int64_t>(h.nodes())))),
          bad_(bad),
          results_(block, Results<float>(h, options)),
          next_(block),
          z_(std::max<std::size_t>(2, h.widest)),
          log_p_(z_.size()) {}

    void run(std::size_t first, std::size_t rows, MatrixView<std::int64_t> classes, MatrixView<float> log_probs, std::span<float> bound) {
        first_ = first;
        pairs_.clear();
        for (std::size_t q = 0; q < rows; ++q) {
            results_[q].clear();
            pairs_.push_back({{0.0, 0.0f, h_.preorder[0]}, static_cast<std::int32_t>(q)});
        }
        while (!pairs_.empty()) {
            expand();
            pairs_.clear();
            for (std::size_t q = 0; q < rows; ++q) keep_likeliest(q);
            std::sort(pairs_.begin(), pairs_.end(),
                      [](const Pair& a, const Pair& b) { return a.open.node != b.open.node ? a.open.node < b.open.node : a.row < b.row; });
        }
        for (std::size_t q = 0; q < rows; ++q) {
            const std::size_t x = first + q;
            results_[q].write(classes.row(x), log_probs.row(x), &bound[x], [&](std::size_t v) {
                score_.node(x, v, z_.data());
                return log_p(v, x);
            });
        }
    }

private:
    struct Pair {
        Open<float> open;
        std::int32_t row;  // of the block
    };

    void expand() {
        for (std::size_t from = 0, to = 0; from < pairs_.size(); from = to) {
            const std::int32_t node = pairs_[from].open.node;
            while (to < pairs_.size() && pairs_[to].open.node == node) ++to;
            const auto v = ix(node);
            const auto children = h_.children(v);
            score_.open(v, to - from);
            for (std::size_t i = from; i < to; ++i) {
                const auto q = ix(pairs_[i].row);
                score_.logits(first_ + q, z_.data());
                const float* const steps = log_p(v, first_ + q);
                for (std::size_t j = 0; j < children.size(); ++j)
                    results_[q].take_child(pairs_[i].open, children[j], steps[j],
                                           [&](const Open<float>& inner) { next_[q].push_back(inner); });
            }
            score_.close();
        }
    }

    // From the logits of v in z_.
    const float* log_p(std::size_t v, std::size_t x) {
        const std::size_t rows = h_.row_count(v);
        if (in_.check_finite && k_.first_not_finite(z_.data(), rows) < rows) bad_.report(x);
        child_log_p(k_, h_, rows, z_.data(), log_p_.data());
        return log_p_.data();
    }

    // Keeps the likeliest nodes that row q met, if they may hold a result, for the next level.
    void keep_likeliest(std::size_t q) {
        std::vector<Open<float>>& next = next_[q];
        if (next.size() > width_) {
            std::nth_element(next.begin(), next.begin() + static_cast<std::ptrdiff_t>(width_), next.end(), likelier<float>);
            for (std::size_t i = width_; i < next.size(); ++i) results_[q].leave(next[i].key);
            next.resize(width_);
        }
        for (const Open<float>& open : next) {
            if (open.key < results_[q].worst())
                results_[q].leave(open.key);
            else
                pairs_.push_back({open, static_cast<std::int32_t>(q)});
        }
        next.clear();
    }

    const HierarchyView& h_;
    const HSoftmaxInput<float>& in_;
    const Kernels<float>& k_ = kernels<float>();
    SparseScorer score_;
    std::size_t width_, first_ = 0;
    FirstPlace& bad_;
    std::vector<Results<float>> results_;         // of each row of the block
    std::vector<std::vector<Open<float>>> next_;  // inner nodes met on this level
    std::vector<Pair> pairs_;
    std::vector<float> z_, log_p_;
};

// Rows that are searched together: many, so that they share nodes, but few enough for their results to stay near.
std::size_t rows_together(std::size_t rows, std::size_t kept, int threads) {
    const std::size_t share = (rows + ix(threads) - 1) / ix(threads);
    return std::min(std::clamp<std::size_t>((std::size_t{1} << 15) / kept, 16, 512), std::max<std::size_t>(share, 64));
}

}  // namespace

void search_levels(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                   MatrixView<float> log_probs, std::span<float> bound) {
    const std::size_t n = in.X.rows(), width = ix(std::min(*options.beam, static_cast<std::int64_t>(h.nodes())));
    const double scored = static_cast<double>(width) * static_cast<double>(h.depth);
    const int threads = std::max(1, team_size(in.num_threads, static_cast<double>(n) * scored * (entries_per_row(in.X) + 16) * 8));
    const Scorer<float> scorer(h, in.X, in.W, threads);
    const std::size_t row_block = rows_together(n, std::min(options.k, h.classes() + h.nodes()) + width, threads);
    FirstPlace bad;
    std::vector<LevelSearch> searches;
    searches.reserve(ix(threads));
    for (int t = 0; t < threads; ++t) searches.emplace_back(h, in, options, scorer, std::min(row_block, n), bad);
    parallel_for((n + row_block - 1) / row_block, threads, [&](std::size_t item, std::size_t worker) {
        const std::size_t first = item * row_block;
        searches[worker].run(first, std::min(row_block, n - first), classes, log_probs, bound);
    });
    require_finite_logits(bad);
}

}  // namespace sparseops::detail
