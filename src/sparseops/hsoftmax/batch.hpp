// SPDX-License-Identifier: BSD-3-Clause
// The part of a batch that does not depend on how its logits are computed: input, output, where logits lie, and losses.
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
#include "../detail/require.hpp"
#include "../kernels/kernels.hpp"
#include "backward.hpp"
#include "path_loss.hpp"
#include "score.hpp"

namespace sparseops::detail {

// Residuals may be empty; then there may be a gradient: dX, and a sink if it takes the gradients of rows chunk by chunk.
template <Real T>
struct Outputs {
    std::span<T> nll, residuals = {};
    bool gradient = false;
    T* dX = nullptr;
    const GradientSink<T>* sink = nullptr;
};

// One worker's scratch: grown before the team starts, never inside it.
template <Real T>
struct alignas(cache_gap) Scratch {
    std::vector<T> products, loss, target;
    std::unique_ptr<T[]> own_logits;  // of one part of a chunk, unless the batch keeps all logits
    T* z = nullptr;                   // logits from place `first_logit` of the batch on
    std::size_t first_logit = 0;
    std::size_t bad_place = ~std::size_t{0};  // the first logit that is not finite, and its value
    T bad_logit = 0;
};

// Examples are numbered s in the plan's sorted order; `at(s)` is the place of the first logit of s among those of the batch.
template <Real T>
struct Batch {
    Batch(const HSoftmaxPlan& plan_, const HSoftmaxInput<T>& in_, const Outputs<T>& out_, int num_threads)
        : plan(plan_),
          h(plan_.hierarchy()),
          in(in_),
          out(out_),
          k(kernels<T>()),
          X(in.X.dense() ? *in.X.dense() : MatrixView<const T>{}),
          score(h, in.X, in.W, team_size(num_threads, static_cast<double>(X.size()))),
          size(plan.order().size()),
          dim(in.X.cols()),
          losses_in_one_call(h.logistic || (h.rows() == 2 * h.nodes() && h.widest == 2 && !h.independent && in.label_smoothing == 0)),
          threads(team_size(num_threads, static_cast<double>(plan.n_logits()) * (entries_per_row(in.X) + 16) * 3)) {}

    std::size_t at(std::size_t s) const { return ix(plan.logits()[s]); }
    std::size_t example(std::size_t s) const { return ix(plan.order()[s]); }
    std::size_t label(std::size_t s) const { return ix(plan.labels()[s]); }
    std::span<const std::int32_t> path(std::size_t s) const { return h.path_nodes(label(s)); }
    std::size_t longest_path() const {  // in logits
        std::size_t most = 0;
        for (std::size_t s = 0; s < size; ++s) most = std::max(most, at(s + 1) - at(s));
        return most;
    }

    // Memory for the logits: of the whole batch if someone needs them after their part of `part` examples is done.
    template <class Workers>
    void allocate(bool needed_afterwards, std::size_t part, Workers& workers) {
        std::size_t most = 0;
        for (std::size_t s = 0; s < size; s += part) most = std::max(most, at(std::min(size, s + part)) - at(s));
        const bool keep = needed_afterwards || !in.residuals.empty() || !out.residuals.empty();
        if (keep) kept_logits = std::make_unique_for_overwrite<T[]>(plan.n_logits());
        for (Scratch<T>& worker : workers) {
            if (!keep) worker.own_logits = std::make_unique_for_overwrite<T[]>(most);
            worker.loss.resize(losses_in_one_call ? most : 0);
            worker.target.resize(losses_in_one_call ? most : 0);
        }
    }

    // A worker turns to the part that begins with example s.
    void begin_part(std::size_t s, Scratch<T>& worker) const {
        worker.z = kept_logits ? kept_logits.get() : worker.own_logits.get();
        worker.first_logit = kept_logits ? 0 : at(s);
    }
    T* logits(std::size_t s, const Scratch<T>& worker) const { return worker.z + (at(s) - worker.first_logit); }

    // Whether the logits of the examples [first, end) may be used; notes the first that is not finite.
    bool check(std::size_t first, std::size_t end, Scratch<T>& worker) const {
        if (!in.check_finite) return true;
        const T* z = logits(first, worker);
        const std::size_t n = at(end) - at(first), i = k.first_not_finite(z, n);
        if (i == n) return true;
        if (at(first) + i < worker.bad_place) {
            worker.bad_place = at(first) + i;
            worker.bad_logit = z[i];
        }
        return false;
    }

    // Losses of the examples [from, to), and with a gradient, their logits become the scaled gradients of themselves.
    void losses(std::size_t from, std::size_t to, Scratch<T>& worker) const {
        if (losses_in_one_call) step_losses(from, to, worker);
        const T* loss = worker.loss.data();
        for (std::size_t s = from; s < to; ++s) {
            const T scale = in.sample_weight.empty() ? T(1) : in.sample_weight[example(s)];
            double sum = 0;
            for (std::size_t d = losses_in_one_call ? path(s).size() : 0; d > 0; --d) sum += static_cast<double>(*loss++);
            if (!losses_in_one_call)
                sum = path_loss(k, h, label(s), in.label_smoothing, out.gradient, logits(s, worker), worker.products.data());
            out.nll[example(s)] = static_cast<T>(in.scale_loss ? sum * static_cast<double>(scale) : sum);
            if (!out.gradient || in.sample_weight.empty()) continue;
            T* const z = logits(s, worker);
            for (std::size_t i = 0; i < at(s + 1) - at(s); ++i) z[i] *= scale;
        }
    }

    // Residuals lie in the order of the examples, logits in sorted order.
    void read_residuals() {
        each_example([&](std::size_t s, std::size_t outside, std::size_t n) {
            std::memcpy(kept_logits.get() + at(s), in.residuals.data() + outside, n * sizeof(T));
        });
    }
    void write_residuals() const {
        each_example([&](std::size_t s, std::size_t outside, std::size_t n) {
            std::memcpy(out.residuals.data() + outside, kept_logits.get() + at(s), n * sizeof(T));
        });
    }

    const HSoftmaxPlan& plan;
    const HierarchyView& h;
    const HSoftmaxInput<T>& in;
    const Outputs<T> out;
    const Kernels<T>& k;
    const MatrixView<const T> X;
    const Scorer<T> score;
    const std::size_t size, dim;    // examples that are not ignored; columns of X
    const bool losses_in_one_call;  // all nodes are logistic, or have two rows each and no soft target: one kernel takes many
    const int threads;
    std::unique_ptr<T[]> kept_logits;  // then their gradients; null if each worker has those of its part alone

private:
    void step_losses(std::size_t from, std::size_t to, Scratch<T>& worker) const {
        const T targets[2] = {soft_target<T>(0, in.label_smoothing), soft_target<T>(1, in.label_smoothing)};
        T* target = worker.target.data();
        for (std::size_t s = from; s < to; ++s)
            for (const std::int32_t child : h.path_children(label(s))) *target++ = targets[child];
        T* const z = logits(from, worker);
        (h.logistic ? k.logistic_loss : k.pair_loss)(z, worker.target.data(), ix(target - worker.target.data()), worker.loss.data(),
                                                     out.gradient ? z : nullptr);
    }

    // f(s, first logit of s in the order of the examples, logits)
    template <class F>
    void each_example(F f) const {
        std::vector<std::size_t> start(plan.examples() + 1, 0);
        for (std::size_t s = 0; s < size; ++s) start[example(s) + 1] = at(s + 1) - at(s);
        for (std::size_t i = 0; i < plan.examples(); ++i) start[i + 1] += start[i];
        for (std::size_t s = 0; s < size; ++s) {
            if (at(s + 1) > at(s)) f(s, start[example(s)], at(s + 1) - at(s));
        }
    }
};

}  // namespace sparseops::detail
