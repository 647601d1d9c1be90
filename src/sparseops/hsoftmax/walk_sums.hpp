// SPDX-License-Identifier: BSD-3-Clause
// Gradients of the rows of a tree with narrow nodes, by one walk through the sorted examples.
//
// The examples that pass a node are neighbors. So the sums of the rows on the way to the example at hand form a stack, each x is
// read once for its whole path, and a row's sum is done when the walk leaves its node. The examples are cut into chunks, for
// threads to take; a row that examples of several chunks pass has one part from each, added in their order by `join`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../kernels/kernels.hpp"
#include "../types.hpp"
#include "backward.hpp"

namespace sparseops::detail {

template <Real T>
class WalkSums {
public:
    // Without effect (see `fits`) if the parts would take more room than X, or the stack too much. `deepest`: most rows on a path.
    // `own_rows`: the sink has no places. All memory is had here: a sink that steps W must not be left halfway.
    WalkSums(const HSoftmaxPlan& plan, std::size_t chunk, std::size_t dim, std::size_t deepest, int workers, bool own_rows)
        : plan_(plan), shared_(plan.shared_rows()), k_(kernels<T>()), chunk_(chunk), dim_(dim), depth_(deepest) {
        constexpr std::size_t max_depth = 256;  // in rows: a stack of more leaves the caches
        if (depth_ > max_depth) return;
        const std::size_t n = shared_.size();
        std::size_t opened = 0, parts = 0;
        chunks_.reserve((n + chunk - 1) / chunk);
        for (std::size_t from = 0; from < n; from += chunk) {
            const std::size_t to = std::min(n, from + chunk);
            std::int32_t all = shared_[from];
            std::int64_t common = 0;
            for (std::size_t s = from; s < to; ++s) {
                all = std::min(all, shared_[s]);
                common += shared_[s];
            }
            const std::int32_t before = shared_[from], after = to < n ? shared_[to] : 0;
            chunks_.push_back({opened, parts, before, all, after});
            opened += ix(plan.logits()[to] - plan.logits()[from] - common);
            parts += ix(before + std::max(0, after - all));
        }
        if (parts > n) return;
        fits_ = true;
        if (parts > 0) parts_ = std::make_unique_for_overwrite<T[]>(parts * dim);
        part_bias_.resize(parts);
        stacks_.resize(ix(std::max(1, workers)));
        for (Stack& s : stacks_) {
            s.out.resize(depth_);
            s.bias.resize(depth_);
            s.level.resize(depth_);
            s.parts.reserve(chunks_.size());
            if (own_rows) s.rows = std::make_unique_for_overwrite<T[]>(std::max<std::size_t>(1, depth_) * dim_);
        }
    }

    bool fits() const noexcept { return fits_; }

    // Chunk c: begin, its examples in order, end; then join.
    void begin(std::size_t c, std::size_t worker) noexcept {
        Stack& stack = stacks_[worker];
        const Chunk& chunk = chunks_[c];
        stack.open = stack.entered = ix(chunk.before);
        stack.slot = chunk.opened;
        stack.fresh = true;
        for (std::size_t d = 0; d < stack.open; ++d) stack.out[d] = parts_.get() + (chunk.part + d) * dim_;
    }

    // `rows`: those on the way of example s; `delta`: their logit gradients.
    void add(std::size_t c, std::size_t s, std::span<const std::int32_t> rows, const T* delta, const T* x, const GradientSink<T>& sink,
             std::size_t worker) {
        Stack& stack = stacks_[worker];
        const auto common = ix(shared_[s]);
        if (stack.open > common) close(c, common, sink, stack);
        for (std::size_t d = common; d < rows.size(); ++d, ++stack.slot) {
            const auto row = ix(rows[d]);
            const std::size_t slot = plan_.opened().empty() ? stack.slot : ix(plan_.opened()[stack.slot]);
            T* const target = sink.target(sink.self, slot, row);
            stack.out[d] = target ? target : own_row(stack, d);
            stack.level[d] = {slot, row};
        }
        stack.open = rows.size();
        k_.outer(delta, x, dim_, stack.out.data(), stack.fresh ? 0 : common, rows.size(), stack.bias.data());
        stack.fresh = false;
    }

    void end(std::size_t c, const GradientSink<T>& sink, std::size_t worker) {
        Stack& stack = stacks_[worker];
        const Chunk& chunk = chunks_[c];
        close(c, ix(chunk.after), sink, stack);
        for (std::size_t d = 0; d < stack.open; ++d) {  // the next chunk continues these sums
            if (d >= stack.entered) std::memcpy(parts_.get() + left(chunk, d) * dim_, stack.out[d], dim_ * sizeof(T));
            part_bias_[d < stack.entered ? chunk.part + d : left(chunk, d)] = stack.bias[d];
        }
    }

    void join(const GradientSink<T>& sink) {
        if (chunks_.size() <= 1) return;
        const auto segments = plan_.segments();
        constexpr std::size_t segments_per_item = 128;
        parallel_for((segments.size() + segments_per_item - 1) / segments_per_item, static_cast<int>(stacks_.size()),
                     [&](std::size_t item, std::size_t worker) {
                         for (std::size_t u = item * segments_per_item; u < std::min(segments.size(), (item + 1) * segments_per_item);
                              ++u) {
                             const auto& segment = segments[u];
                             const std::size_t first = ix(segment.first) / chunk_, last = ix(segment.last - 1) / chunk_;
                             if (first == last) continue;
                             const auto slot = ix(plan_.slots()[u]), rows = ix(plan_.slots()[u + 1]) - slot,
                                        row = plan_.hierarchy().row(ix(segment.node));
                             for (std::size_t j = 0; j < rows; ++j)
                                 join_row(first, last, ix(segment.z) + j, slot + j, row + j, sink, stacks_[worker]);
                         }
                     });
    }

private:
    struct Chunk {
        std::size_t opened, part;         // rows opened before it; its first part
        std::int32_t before, all, after;  // rows in common: with the chunk before, of all its examples, with the one after
    };
    struct Level {
        std::size_t slot, row;
    };
    struct alignas(cache_gap) Stack {
        std::unique_ptr<T[]> rows;
        std::vector<T*> out;
        std::vector<double> bias;
        std::vector<Level> level;
        std::vector<std::int32_t> parts;  // of one row
        std::size_t open, entered, slot;  // levels open, and how many of them were so when the chunk began; the next slot
        bool fresh;                       // nothing has been added yet
    };

    // Memory for a sum that the sink has no place for.
    T* own_row(Stack& stack, std::size_t d) const { return stack.rows.get() + d * dim_; }

    // Part of a row on level d that chunk opens and leaves open.
    static std::size_t left(const Chunk& chunk, std::size_t d) noexcept { return chunk.part + ix(chunk.before - chunk.all) + d; }

    void join_row(std::size_t first, std::size_t last, std::size_t level, std::size_t slot, std::size_t row, const GradientSink<T>& sink,
                  Stack& stack) {
        const T one = 1;
        double bias = 0;
        stack.parts.resize(last - first + 1);
        for (std::size_t c = first; c <= last; ++c) {
            const std::size_t part = c == first ? left(chunks_[c], level) : chunks_[c].part + level;
            stack.parts[c - first] = static_cast<std::int32_t>(part);
            bias += part_bias_[part];
        }
        T* out = sink.target(sink.self, slot, row);
        if (!out) out = own_row(stack, 0);
        k_.weighted_sum(&one, 0, {parts_.get(), dim_, stack.parts.data()}, stack.parts.size(), dim_, false, out);
        sink.done(sink.self, slot, row, out, static_cast<T>(bias));
    }

    void close(std::size_t c, std::size_t keep, const GradientSink<T>& sink, Stack& stack) {
        for (std::size_t d = stack.open; d-- > keep;) {
            if (d >= stack.entered)
                sink.done(sink.self, stack.level[d].slot, stack.level[d].row, stack.out[d], static_cast<T>(stack.bias[d]));
            else
                part_bias_[chunks_[c].part + d] = stack.bias[d];
        }
        stack.open = std::min(stack.open, keep);
        stack.entered = std::min(stack.entered, keep);
    }

    const HSoftmaxPlan& plan_;
    const std::span<const std::int32_t> shared_;  // rows in common with the example before
    const Kernels<T>& k_;
    const std::size_t chunk_, dim_, depth_;
    bool fits_ = false;
    std::vector<Chunk> chunks_;
    std::vector<Stack> stacks_;
    std::unique_ptr<T[]> parts_;  // of nodes that several chunks pass, a row each
    std::vector<double> part_bias_;
};

}  // namespace sparseops::detail
