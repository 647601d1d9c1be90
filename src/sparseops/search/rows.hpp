// SPDX-License-Identifier: BSD-3-Clause
// Search of rows of X one by one, for sparse W: where rows are too few to share nodes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../hsoftmax/child_log_p.hpp"
#include "../hsoftmax/sparse_score.hpp"
#include "../kernels/kernels.hpp"
#include "results.hpp"

namespace sparseops::detail {

// One worker's search, best first; its memory is kept from row to row.
class alignas(cache_gap) RowSearch {
public:
    RowSearch(const HierarchyView& h, const SparseScorer& score, const SearchOptions& options)
        : h_(h), score_(score), results_(h, options), z_(std::max<std::size_t>(2, h.widest)), log_p_(z_.size()) {}

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
        const float* const steps = log_p(ix(node.node));
        const bool leaves = std::all_of(children.begin(), children.end(), [](std::int32_t c) { return c < 0; });
        if (leaves && results_.take_leaves(node, children, steps)) return;
        for (std::size_t j = 0; j < children.size(); ++j) {
            results_.take_child(node, children[j], steps[j], [&](const Open<float>& inner) {
                open_.push_back(inner);
                std::push_heap(open_.begin(), open_.end(), less_likely);
            });
        }
    }

    const float* log_p(std::size_t v) {
        const std::size_t rows = h_.row_count(v);
        score_.node(x_, v, z_.data());
        finite_ = finite_ && k_.first_not_finite(z_.data(), rows) == rows;
        child_log_p(k_, h_, rows, z_.data(), log_p_.data());
        return log_p_.data();
    }

    const HierarchyView& h_;
    const Kernels<float>& k_ = kernels<float>();
    const SparseScorer& score_;
    Results<float> results_;
    std::vector<Open<float>> open_;  // a heap, the likeliest on top
    std::vector<float> z_, log_p_;
    std::size_t x_ = 0;
    bool finite_ = true;
};

}  // namespace sparseops::detail
