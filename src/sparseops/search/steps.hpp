// SPDX-License-Identifier: BSD-3-Clause
// From the scores of a node's rows to the log-probabilities of its children, for sparse W.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

#include "../hsoftmax/child_log_p.hpp"
#include "../hsoftmax/sparse_score.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/linear.hpp"

namespace sparseops::detail {

class ChildSteps {
public:
    explicit ChildSteps(const HierarchyView& h)
        : h_(h), scores_(h.widest / linear_lanes + 1), above_(scores_.size()), log_p_(std::max<std::size_t>(2, h.widest)) {}

    float* room() noexcept { return scores_.front().values; }  // for the scores of one node

    // log P(child | v, x) of the children of v, from scores as SparseScorer gives them, which are lost. Where it matters which of them are
    // `least` or more, each_not_below knows; all are if a step is not a number.
    const float* log_p(std::size_t v, float temperature, float* z, float least = -std::numeric_limits<float>::infinity()) {
        const std::size_t rows = h_.row_count(v);
        finite_ = true;
        if (!h_.independent && rows > 1) {
            if (linear_.log_softmax(z, rows, temperature, least, above_.data())) return z;
            finite_ = false;
        } else {
            for (std::size_t j = 0; j < rows; ++j) z[j] *= temperature;
            finite_ = k_.first_not_finite(z, rows) == rows;
        }
        std::fill(above_.begin(), above_.end(), std::uint16_t{0xffff});
        child_log_p(k_, h_, rows, z, log_p_.data());
        return log_p_.data();
    }
    bool finite() const noexcept { return finite_; }  // whether all logits of the last node were

    // f(j) for the children j < n of the last node that were not below `least`, and perhaps others.
    template <class F>
    void each_not_below(std::size_t n, F f) const {
        for (std::size_t from = 0; from < n; from += linear_lanes) {
            for (std::uint32_t bits = above_[from / linear_lanes]; bits != 0; bits &= bits - 1) {
                const std::size_t j = from + static_cast<std::size_t>(std::countr_zero(bits));
                if (j < n) f(j);
            }
        }
    }

private:
    const HierarchyView& h_;
    const Kernels<float>& k_ = kernels<float>();
    const LinearKernels& linear_ = linear_kernels();
    std::vector<Line> scores_;
    std::vector<std::uint16_t> above_;
    std::vector<float> log_p_;
    bool finite_ = true;
};

}  // namespace sparseops::detail
