// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax.hpp"
#include "backward.hpp"
#include "batch.hpp"
#include "node_batch.hpp"
#include "path_batch.hpp"

namespace sparseops {
namespace {

using detail::Batch;
using detail::require;

template <Real T, class Chunks>
void require_finite_logits(const Batch<T>& batch, Chunks& chunks) {
    const detail::Scratch<T>* first = &chunks.scratch(0);
    for (std::size_t w = 1; w < chunks.workers(); ++w) {
        if (chunks.scratch(w).bad_place < first->bad_place) first = &chunks.scratch(w);
    }
    if (first->bad_place == ~std::size_t{0}) return;
    require_finite(batch.in);
    std::size_t s = 0;
    while (batch.at(s + 1) <= first->bad_place) ++s;
    detail::refuse("W and b must be finite, with finite logits, got ", first->bad_logit, " for row ", batch.example(s),
                   " of X on the path to class ", batch.label(s));
}

// Scores chunks of examples: logits, losses, and with a gradient, those of logits and X. `Chunks` is PathBatch or NodeBatch.
template <Real T, class Chunks>
void score(Batch<T>& batch, Chunks& chunks) {
    const bool ignores = batch.size < batch.plan.examples();
    if (ignores) {
        std::fill(batch.out.nll.begin(), batch.out.nll.end(), T(0));
        if (batch.out.gradient) std::fill(batch.out.dX, batch.out.dX + batch.plan.examples() * batch.dim, T(0));
    }
    // A number in dense X that is not finite makes all logits of its row so: X itself is looked at only where a row has no logits.
    if (!batch.in.residuals.empty() || ignores || batch.h.nodes() == 0 || batch.in.W.sparse()) require_finite(batch.in);
    if (!batch.in.residuals.empty()) batch.read_residuals();
    detail::parallel_for(chunks.chunks(), batch.threads, [&](std::size_t c, std::size_t w) { chunks.score(c, w); });
    require_finite_logits(batch, chunks);
    if (batch.out.residuals.empty()) return;
    batch.write_residuals();
    detail::parallel_for(chunks.chunks(), batch.threads, [&](std::size_t c, std::size_t w) { chunks.losses(c, w); });
}

template <class Chunks, Real T>
void run(Batch<T>& batch, const GradientSink<T>* sink) {
    Chunks chunks(batch);
    score(batch, chunks);
    if (!sink) return;
    if (sink->ready) sink->ready(sink->self);
    chunks.sum_rows(*sink);
}

// `sink`: where the gradients of rows go, or null.
template <Real T>
void run(Batch<T>&& batch, const GradientSink<T>* sink) {
    if (batch.h.widest <= detail::max_path_rows && !batch.in.W.sparse())
        run<detail::PathBatch<T>>(batch, sink);
    else
        run<detail::NodeBatch<T>>(batch, sink);
}

template <Real T>
void require_batch(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<const T> nll) {
    const std::size_t n = plan.examples();
    require(in.X.rows() == n, "X must have one row a label, ", n, ", got ", in.X.rows());
    require(in.sample_weight.empty() || in.sample_weight.size() == n, in.scale_loss ? "sample_weight" : "grad_output", " must have ", n,
            " entries, got ", in.sample_weight.size());
    require(in.label_smoothing == 0 || !plan.hierarchy().independent, "label_smoothing must be 0 on a tree of independent nodes, got ",
            in.label_smoothing);
    require(in.label_smoothing >= 0 && in.label_smoothing < 1, "label_smoothing must be in [0, 1), got ", in.label_smoothing);
    require(in.residuals.empty() || in.residuals.size() == plan.n_logits(), "residuals must have ", plan.n_logits(), " entries, got ",
            in.residuals.size());
    require(nll.size() == n, "nll must have ", n, " entries, got ", nll.size());
    detail::require_data(in.scale_loss ? "sample_weight" : "grad_output", in.sample_weight);
    detail::require_data("residuals", in.residuals);
    detail::require_data("nll", nll);
    require_shapes(plan.hierarchy(), in);
}

}  // namespace

template <Real T>
void hsoftmax(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, std::span<T> residuals, int num_threads) {
    require_batch(plan, in, std::span<const T>(nll));
    require(residuals.empty() || residuals.size() == plan.n_logits(), "residuals must have ", plan.n_logits(), " entries, got ",
            residuals.size());
    detail::require_data("residuals", residuals);
    run<T>(Batch<T>(plan, in, {nll, residuals}, num_threads), nullptr);
}

template <Real T>
void hsoftmax_backward(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX,
                       const GradientSink<T>& sink, int num_threads) {
    require(!plan.hierarchy().independent, "h must have logistic or softmax nodes for a gradient, got independent nodes");
    require_batch(plan, in, std::span<const T>(nll));
    detail::require_matrix("dX", dX, plan.examples(), in.X.cols());
    detail::require_float_rows(in.W);
    run<T>(Batch<T>(plan, in, {nll, {}, true, dX.data, sink.at_once ? &sink : nullptr}, num_threads), &sink);
}

template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, std::span<float>, int);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>,
                                const GradientSink<float>&, int);
template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, std::span<double>, int);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                const GradientSink<double>&, int);

}  // namespace sparseops
