// SPDX-License-Identifier: BSD-3-Clause
// Search of rows of X one by one, for sparse W: where rows are too few to share nodes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../hsoftmax/sparse_score.hpp"
#include "results.hpp"
#include "steps.hpp"

namespace sparseops::detail {

// One worker's search, best first; its memory is kept from row to row.
class alignas(cache_gap) RowSearch {
public:
    RowSearch(const HierarchyView& h, const SparseScorer& score, const SearchOptions& options)
        : h_(h), score_(score), results_(h, options), steps_(h) {}

    // False if a logit was not finite.
    bool run(std::size_t x, std::int64_t* classes, float* log_probs, float* bound) {
        x_ = x;
        finite_ = true;
        results_.clear();
        open_.clear();
        open_.push_back({0.0, 0.0f, h_.preorder[0]});
        while (!open_.empty()) {
            std::pop_heap(open_.begin(), open_.end(), less_likely);
            const Open<float> node = open_.back();
            open_.pop_back();
            if (node.key < results_.worst()) {
                results_.leave(node.key);
                if (!finite_) continue;  // NaN is likelier than nothing: it comes last
                break;
            }
            expand(node);
        }
        results_.write(classes, log_probs, bound, [&](std::size_t v) { return log_p(v); });
        return finite_;
    }

private:
    static bool less_likely(const Open<float>& a, const Open<float>& b) noexcept { return Likelier<float>()(b, a); }

    void expand(const Open<float>& node) {
        const auto children = h_.children(ix(node.node));
        const float least = all_classes(children) ? results_.least(node) : -std::numeric_limits<float>::infinity();
        const float* const steps = log_p(ix(node.node), least);
        steps_.each_not_below(children.size(), [&](std::size_t j) {
            results_.take_child(node, children[j], steps[j], [&](const Open<float>& inner) {
                open_.push_back(inner);
                std::push_heap(open_.begin(), open_.end(), less_likely);
            });
        });
    }

    const float* log_p(std::size_t v, float least = -std::numeric_limits<float>::infinity()) {
        score_.node_alone(x_, v, steps_.room());
        const float* const log_p = steps_.log_p(v, score_.temperature(v), steps_.room(), least);
        finite_ = finite_ && steps_.finite();
        return log_p;
    }

    const HierarchyView& h_;
    const SparseScorer& score_;
    Results<float> results_;
    std::vector<Open<float>> open_;  // a heap, the likeliest on top
    ChildSteps steps_;
    std::size_t x_ = 0;
    bool finite_ = true;
};

}  // namespace sparseops::detail
