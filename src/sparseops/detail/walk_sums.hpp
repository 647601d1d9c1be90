// Gradients of the rows of a tree of logistic nodes, by one walk through the sorted examples.
//
// The examples that pass a node are neighbours. So the sums of the nodes on the way to the example at hand form a stack, each x is
// read once for its whole path, and a node's sum is done when the walk leaves it. The examples are cut into chunks, for
// threads to take; a node that examples of several chunks pass has one part from each, added in their order by `join`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "../types.hpp"
#include "kernels.hpp"
#include "parallel.hpp"

namespace sparseops::detail {

// Plan: HSoftmaxPlan. Sink: GradientSink.
template <Real T, class Plan, class Sink>
class WalkSums {
public:
    // Without effect (see `fits`) if the parts would take more room than X, or the stack too much.
    WalkSums(const Plan& plan, std::size_t chunk, std::size_t dim, int workers)
        : plan_(plan), k_(kernels<T>()), chunk_(chunk), dim_(dim), depth_(static_cast<std::size_t>(plan.hierarchy().depth)) {
        constexpr std::size_t deepest = 256;
        if (!plan.hierarchy().logistic || depth_ > deepest) return;
        const auto shared = plan.shared();
        const std::size_t n = shared.size();
        std::size_t opened = 0, parts = 0;
        chunks_.reserve((n + chunk - 1) / chunk);
        for (std::size_t from = 0; from < n; from += chunk) {
            const std::size_t to = std::min(n, from + chunk);
            std::int32_t all = shared[from];
            std::int64_t common = 0;
            for (std::size_t s = from; s < to; ++s) {
                all = std::min(all, shared[s]);
                common += shared[s];
            }
            const std::int32_t before = shared[from], after = to < n ? shared[to] : 0;
            chunks_.push_back({opened, parts, before, all, after});
            opened += static_cast<std::size_t>(plan.logits()[to] - plan.logits()[from] - common);
            parts += static_cast<std::size_t>(before + std::max(0, after - all));
        }
        if (parts > n) return;
        fits_ = true;
        if (parts > 0) parts_ = std::make_unique_for_overwrite<T[]>(parts * dim);
        part_bias_.resize(parts);
        stacks_.resize(static_cast<std::size_t>(std::max(1, workers)));
        for (Stack& s : stacks_) {
            s.out.resize(depth_);
            s.bias.resize(depth_);
            s.level.resize(depth_);
        }
    }

    bool fits() const noexcept { return fits_; }

    // Chunk c: begin, its examples in order, end; then join. `delta`: the logit gradients of the example, by step.
    void begin(std::size_t c, std::size_t worker) noexcept {
        Stack& stack = stacks_[worker];
        const Chunk& chunk = chunks_[c];
        stack.open = stack.entered = static_cast<std::size_t>(chunk.before);
        stack.slot = chunk.opened;
        stack.fresh = true;
        for (std::size_t d = 0; d < stack.open; ++d) stack.out[d] = parts_.get() + (chunk.part + d) * dim_;
    }

    void add(std::size_t c, std::size_t s, const std::int32_t* nodes, std::size_t steps, const T* delta, const T* x, const Sink& sink,
             std::size_t worker) {
        Stack& stack = stacks_[worker];
        const auto common = static_cast<std::size_t>(plan_.shared()[s]);
        if (stack.open > common) close(c, common, sink, stack);
        for (std::size_t d = common; d < steps; ++d, ++stack.slot) {
            const auto row = static_cast<std::size_t>(nodes[d]);
            const std::size_t slot = plan_.opened().empty() ? stack.slot : static_cast<std::size_t>(plan_.opened()[stack.slot]);
            T* const target = sink.target(sink.self, slot, row);
            stack.out[d] = target ? target : own_row(stack, d);
            stack.level[d] = {slot, row};
        }
        stack.open = steps;
        k_.outer(delta, x, dim_, stack.out.data(), stack.fresh ? 0 : common, steps, stack.bias.data());
        stack.fresh = false;
    }

    void end(std::size_t c, const Sink& sink, std::size_t worker) {
        Stack& stack = stacks_[worker];
        const Chunk& chunk = chunks_[c];
        close(c, static_cast<std::size_t>(chunk.after), sink, stack);
        for (std::size_t d = 0; d < stack.open; ++d) {  // what the next chunk goes on with
            if (d >= stack.entered) std::memcpy(parts_.get() + left(chunk, d) * dim_, stack.out[d], dim_ * sizeof(T));
            part_bias_[d < stack.entered ? chunk.part + d : left(chunk, d)] = stack.bias[d];
        }
    }

    void join(const Sink& sink) {
        if (chunks_.size() <= 1) return;
        const auto segments = plan_.segments();
        constexpr std::size_t block = 128;
        const T one = 1;
        parallel_for((segments.size() + block - 1) / block, static_cast<int>(stacks_.size()), [&](std::size_t item, std::size_t worker) {
            Stack& stack = stacks_[worker];
            for (std::size_t u = item * block; u < std::min(segments.size(), (item + 1) * block); ++u) {
                const auto& segment = segments[u];
                const std::size_t first = static_cast<std::size_t>(segment.first) / chunk_,
                                  last = static_cast<std::size_t>(segment.last - 1) / chunk_, level = static_cast<std::size_t>(segment.z),
                                  row = static_cast<std::size_t>(segment.node);
                if (first == last) continue;
                stack.parts.resize(last - first + 1);
                double bias = 0;
                for (std::size_t c = first; c <= last; ++c) {
                    const std::size_t part = c == first ? left(chunks_[c], level) : chunks_[c].part + level;
                    stack.parts[c - first] = static_cast<std::int32_t>(part);
                    bias += part_bias_[part];
                }
                T* out = sink.target(sink.self, u, row);
                if (!out) out = own_row(stack, 0);
                k_.weighted_sum(&one, 0, {parts_.get(), dim_, stack.parts.data()}, stack.parts.size(), dim_, false, out);
                sink.done(sink.self, u, row, out, static_cast<T>(bias));
            }
        });
    }

private:
    struct Chunk {
        std::size_t opened, part;         // nodes opened before it; its first part
        std::int32_t before, all, after;  // steps in common: with the chunk before, of all its examples, with the one after
    };
    struct Level {
        std::size_t slot, row;
    };
    struct alignas(apart) Stack {
        std::unique_ptr<T[]> rows;
        std::vector<T*> out;
        std::vector<double> bias;
        std::vector<Level> level;
        std::vector<std::int32_t> parts;  // of one node
        std::size_t open, entered, slot;  // levels open, and how many of them were so when the chunk began; the next slot
        bool fresh;                       // nothing has been added yet
    };

    // Where a sum is taken that the sink has no place for.
    T* own_row(Stack& stack, std::size_t d) const {
        if (!stack.rows) stack.rows = std::make_unique_for_overwrite<T[]>(depth_ * dim_);
        return stack.rows.get() + d * dim_;
    }

    // Part of a node on level d that chunk opens and leaves open.
    static std::size_t left(const Chunk& chunk, std::size_t d) noexcept {
        return chunk.part + static_cast<std::size_t>(chunk.before - chunk.all) + d;
    }

    void close(std::size_t c, std::size_t keep, const Sink& sink, Stack& stack) {
        for (std::size_t d = stack.open; d-- > keep;) {
            if (d >= stack.entered)
                sink.done(sink.self, stack.level[d].slot, stack.level[d].row, stack.out[d], static_cast<T>(stack.bias[d]));
            else
                part_bias_[chunks_[c].part + d] = stack.bias[d];
        }
        stack.open = std::min(stack.open, keep);
        stack.entered = std::min(stack.entered, keep);
    }

    const Plan& plan_;
    const Kernels<T>& k_;
    const std::size_t chunk_, dim_, depth_;
    bool fits_ = false;
    std::vector<Chunk> chunks_;
    std::vector<Stack> stacks_;
    std::unique_ptr<T[]> parts_;  // of nodes that several chunks pass, a row each
    std::vector<double> part_bias_;
};

}  // namespace sparseops::detail
