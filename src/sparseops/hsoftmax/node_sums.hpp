// SPDX-License-Identifier: BSD-3-Clause
// Gradients of the rows of any tree, node by node: each node's rows from all its examples, in sorted order.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../kernels/kernels.hpp"
#include "../types.hpp"
#include "backward.hpp"

namespace sparseops::detail {

template <Real T>
class NodeSums {
public:
    // z: the logit gradients of all examples.
    NodeSums(const HSoftmaxPlan& plan, const MatrixView<const T>& X, const T* z, int workers)
        : plan_(plan), X_(X), z_(z), k_(kernels<T>()), scratch_(ix(std::max(1, workers))) {
        for (Scratch& s : scratch_) {
            s.weight.resize(4 * gather_block);
            s.row.resize(4 * X.cols);
        }
    }

    void run(const GradientSink<T>& sink) {
        constexpr std::size_t rows_per_item = 16;
        const auto slots = plan_.slots();
        const std::size_t touched = plan_.touched_rows();
        parallel_for((touched + rows_per_item - 1) / rows_per_item, static_cast<int>(scratch_.size()),
                     [&](std::size_t item, std::size_t worker) {
                         std::size_t slot = item * rows_per_item;
                         const std::size_t end = std::min(touched, slot + rows_per_item);
                         const auto after = std::upper_bound(slots.begin(), slots.end(), static_cast<std::int64_t>(slot));
                         for (auto u = ix(after - slots.begin()) - 1; slot < end; ++u) {
                             const std::size_t to = std::min(end, ix(slots[u + 1]));
                             for (; slot + 4 <= to; slot += 4) sum_rows<4>(u, slot, sink, scratch_[worker]);
                             for (; slot < to; ++slot) sum_rows<1>(u, slot, sink, scratch_[worker]);
                         }
                     });
    }

private:
    static constexpr std::size_t gather_block = 256;  // examples whose coefficients are gathered into one array
    struct alignas(cache_gap) Scratch {
        std::vector<T> weight, row;
    };

    // Count rows of one node: its examples' deltas times their x.
    template <int Count>
    void sum_rows(std::size_t u, std::size_t slot, const GradientSink<T>& sink, Scratch& scratch) const {
        const auto& segment = plan_.segments()[u];
        const auto first = ix(segment.first), end = ix(segment.last);
        const std::size_t j = slot - ix(plan_.slots()[u]), row = plan_.hierarchy().row(ix(segment.node)) + j;
        const T* weight[Count];
        T* out[Count];
        double bias[Count] = {};
        for (std::size_t q = 0; q < Count; ++q) {
            weight[q] = scratch.weight.data() + q * gather_block;
            out[q] = sink.target(sink.self, slot + q, row + q);
            if (!out[q]) out[q] = scratch.row.data() + q * X_.cols;
        }
        for (std::size_t s = first; s < end; s += gather_block) {
            const std::size_t n = std::min(gather_block, end - s);
            for (std::size_t i = 0; i < n; ++i) {
                const T* delta = z_ + plan_.logits()[s + i] + segment.z + j;
                for (std::size_t q = 0; q < Count; ++q) {
                    scratch.weight[q * gather_block + i] = delta[q];
                    bias[q] += static_cast<double>(delta[q]);
                }
            }
            const Rows<T> x{X_.data, X_.cols, plan_.order().data() + s};
            if constexpr (Count == 1)
                k_.weighted_sum(weight[0], 1, x, n, X_.cols, s > first, out[0]);
            else
                k_.weighted_sums(weight, x, n, X_.cols, s > first, out, Count);
        }
        for (std::size_t q = 0; q < Count; ++q) sink.done(sink.self, slot + q, row + q, out[q], static_cast<T>(bias[q]));
    }

    const HSoftmaxPlan& plan_;
    const MatrixView<const T> X_;
    const T* z_;
    const Kernels<T>& k_;
    std::vector<Scratch> scratch_;
};

}  // namespace sparseops::detail
