// SPDX-License-Identifier: BSD-3-Clause
#include "../hsoftmax.hpp"

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/prefetch.hpp"
#include "backward.hpp"
#include "node_sums.hpp"
#include "path_loss.hpp"
#include "score.hpp"
#include "walk_sums.hpp"

namespace sparseops {
namespace {

using detail::Kernels;
using detail::require;

constexpr std::size_t narrow = 8;          // rows of the widest node up to which examples are scored path by path; 12 measure alike
constexpr std::size_t wide_chunk = 32;     // examples scored together where nodes are wider
constexpr std::size_t sparse_chunk = 512;  // the same where W is sparse: a node's features are spread over a table for them
constexpr std::size_t block = 16;          // a part of a chunk that goes through all steps while what it reads is near
constexpr std::size_t ahead = 4;           // examples whose rows are prefetched, twice that for their paths
constexpr std::size_t stretch = 64;        // rows of a wide node that all examples of a chunk meet before the next ones

// One worker's scratch: grown before the team starts, never inside it.
template <Real T>
struct alignas(detail::apart) Scratch {
    std::vector<T> products, loss, target;
    std::vector<std::int32_t> rows;  // on the paths of a block
    struct Node {
        std::int32_t node, first, last, z;  // the chunk's examples [first, last) pass it; its logits start at place z of theirs
    };
    std::vector<Node> open, nodes;
    std::optional<detail::SparseScorer> sparse;
};

// What a batch writes. Residuals may be empty; then there may be a gradient, dX, and a sink for the rows' if it takes them chunk
// by chunk.
template <Real T>
struct Outputs {
    std::span<T> nll, residuals;
    bool gradient = false;
    T* dX = nullptr;
    const GradientSink<T>* sink = nullptr;
};

// The batch: phase one scores chunks of examples (logits, loss, logit gradients, dX), phase two sums rows of dW; or the second
// follows the first chunk by chunk.
template <Real T>
class Batch {
public:
    Batch(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, const Outputs<T>& out)
        : plan_(plan),
          h_(plan.hierarchy()),
          in_(in),
          out_(out),
          k_(detail::kernels<T>()),
          X_(in.X.dense() ? *in.X.dense() : MatrixView<const T>{}),
          W_(out.gradient ? detail::require_float_rows(in.W) : MatrixView<const T>{}),
          score_(h_, in.X, in.W, detail::team_size(in.num_threads, static_cast<double>(X_.size()))),
          dim_(in.X.cols()),
          z_(std::make_unique_for_overwrite<T[]>(plan.n_logits())),
          narrow_(h_.widest <= narrow && !in.W.sparse()),
          chunk_(narrow_         ? std::clamp<std::size_t>(plan.order().size() / (16 * block) * block, 32, 128)
                 : in.W.sparse() ? sparse_chunk
                                 : wide_chunk),
          chunks_((plan.order().size() + chunk_ - 1) / chunk_),
          at_once_(h_.logistic || (h_.rows() == 2 * h_.nodes() && h_.widest == 2 && !h_.independent && in.label_smoothing == 0)),
          threads_(detail::team_size(in.num_threads, static_cast<double>(plan.n_logits()) * (detail::entries_per_row(in.X) + 16) * 3)),
          scratch_(static_cast<std::size_t>(std::max(1, threads_))) {
        const std::size_t n = plan.order().size(), part = narrow_ && out.residuals.empty() ? block : chunk_;
        std::size_t longest = 0, deepest = 0, most_nodes = 0;
        for (std::size_t s = 0; s < n; s += part) longest = std::max(longest, at(std::min(n, s + part)) - at(s));
        for (std::size_t s = 0; s < n; ++s) deepest = std::max(deepest, at(s + 1) - at(s));
        for (std::size_t c = 0; c < chunks_ && !narrow_; ++c) {
            std::size_t nodes = 0;
            for (std::size_t s = c * chunk_; s < last(c); ++s) nodes += path(s).size() - common(s, c);
            most_nodes = std::max(most_nodes, nodes);
        }
        if (out.gradient && narrow_) sums_.emplace(plan, chunk_, dim_, deepest, threads_);
        walks_ = sums_ && sums_->fits();
        if (!walks_) out_.sink = nullptr;
        for (auto& s : scratch_) {
            s.products.resize(std::max(narrow_ ? deepest + 3 : in.W.sparse() ? 2 : chunk_ * stretch, h_.widest));
            s.loss.resize(longest);
            s.target.resize(longest);
            s.rows.resize(narrow_ && !h_.logistic ? longest : 0);
            s.sparse = score_.sparse();
            s.open.reserve(narrow_ ? 0 : static_cast<std::size_t>(h_.depth) + 1);
            s.nodes.reserve(most_nodes);
        }
    }

    void score() {
        if (plan_.order().size() < plan_.examples()) {  // ignored examples
            std::fill(out_.nll.begin(), out_.nll.end(), T(0));
            if (out_.gradient) std::fill(out_.dX, out_.dX + plan_.examples() * dim_, T(0));
        }
        // What is not finite in a row of dense X makes all its logits so: X itself is looked at only where a row has none of its own.
        if (!in_.residuals.empty() || plan_.order().size() < plan_.examples() || h_.nodes() == 0 || in_.W.sparse()) require_finite(in_);
        if (!in_.residuals.empty()) copy_residuals(in_.residuals.data(), z_.get());
        detail::FirstPlace bad;
        detail::parallel_for(chunks_, threads_, [&](std::size_t c, std::size_t worker) {
            narrow_ ? score_paths(c, worker, bad) : score_nodes(c, scratch_[worker], bad);
        });
        if (bad.any()) {
            require_finite(in_);
            refuse_logit(bad.place());
        }
        if (out_.residuals.empty()) return;
        copy_residuals(z_.get(), out_.residuals.data(), true);
        detail::parallel_for(chunks_, threads_, [&](std::size_t c, std::size_t worker) { losses(c * chunk_, last(c), scratch_[worker]); });
    }

    void rows(const GradientSink<T>& sink) {
        if (!walks_) return detail::NodeSums<T>(plan_, X_, z_.get(), threads_).run(sink);
        detail::parallel_for(out_.sink ? 0 : chunks_, threads_, [&](std::size_t c, std::size_t worker) {  // unless `score` did
            sums_->begin(c, worker);
            for (std::size_t first = c * chunk_; first < last(c); first += block) {
                const std::size_t end = std::min(last(c), first + block);
                lay_out(first, end, scratch_[worker]);
                for (std::size_t s = first; s < end; ++s) {
                    prefetch_step(s + ahead, sink);
                    add(c, s, first, sink, worker);
                }
            }
            sums_->end(c, sink, worker);
        });
        sums_->join(sink);
    }

private:
    using Node = typename Scratch<T>::Node;

    std::size_t at(std::size_t s) const { return static_cast<std::size_t>(plan_.logits()[s]); }
    std::size_t last(std::size_t c) const { return std::min(plan_.order().size(), (c + 1) * chunk_); }
    std::size_t example(std::size_t s) const { return static_cast<std::size_t>(plan_.order()[s]); }
    std::span<const std::int32_t> path(std::size_t s) const { return h_.path_nodes(static_cast<std::size_t>(plan_.labels()[s])); }
    // Steps that example s has in common with the one before it in chunk c.
    std::size_t common(std::size_t s, std::size_t c) const { return s == c * chunk_ ? 0 : static_cast<std::size_t>(plan_.shared()[s]); }

    bool finite(std::size_t first, std::size_t end, detail::FirstPlace& bad) const {
        if (!in_.check_finite) return true;
        const std::size_t i = k_.first_not_finite(z_.get() + at(first), at(end) - at(first));
        if (i == at(end) - at(first)) return true;
        bad.report(at(first) + i);
        return false;
    }

    // ---- trees with narrow nodes: the rows on an example's path, one after the other

    void score_paths(std::size_t c, std::size_t worker, detail::FirstPlace& bad) {
        Scratch<T>& scratch = scratch_[worker];
        if (out_.sink) sums_->begin(c, worker);
        for (std::size_t first = c * chunk_; first < last(c); first += block) {
            const std::size_t end = std::min(last(c), first + block);
            lay_out(first, end, scratch);
            if (in_.residuals.empty()) path_logits(first, end, scratch);
            if (!finite(first, end, bad)) return;
            if (!out_.residuals.empty()) continue;  // loss comes from the copy
            losses(first, end, scratch);
            for (std::size_t s = first; s < end && out_.gradient; ++s) {
                const auto rows = path_rows(s, first, scratch);
                k_.weighted_sum(z_.get() + at(s), 1, {W_.data, dim_, rows.data()}, rows.size(), dim_, false, out_.dX + example(s) * dim_);
            }
            for (std::size_t s = first; s < end && out_.sink; ++s) add(c, s, first, *out_.sink, worker);
        }
        if (out_.sink) sums_->end(c, *out_.sink, worker);
    }

    // The rows on the paths of a block's examples. Where all nodes are logistic, row v belongs to node v.
    void lay_out(std::size_t first, std::size_t end, Scratch<T>& scratch) const {
        if (h_.logistic) return;
        std::int32_t* to = scratch.rows.data();
        for (std::size_t s = first; s < end; ++s) {
            for (const std::int32_t v : path(s)) {
                const auto node = static_cast<std::size_t>(v);
                for (std::size_t j = 0; j < h_.row_count(node); ++j) *to++ = static_cast<std::int32_t>(h_.row(node) + j);
            }
        }
    }
    std::span<const std::int32_t> path_rows(std::size_t s, std::size_t first, const Scratch<T>& scratch) const {
        if (h_.logistic) return path(s);
        return {scratch.rows.data() + (at(s) - at(first)), at(s + 1) - at(s)};
    }

    void path_logits(std::size_t first, std::size_t end, Scratch<T>& scratch) {
        T* products = scratch.products.data();
        for (std::size_t s = first; s < end; ++s) {
            prefetch_path(s + ahead);
            const auto rows = path_rows(s, first, scratch);
            T* z = z_.get() + at(s);
            score_.path(example(s), rows.data(), rows.size(), products);
            if (in_.b.empty())
                std::memcpy(z, products, rows.size() * sizeof(T));
            else
                for (std::size_t d = 0; d < rows.size(); ++d) z[d] = products[d] + in_.b[static_cast<std::size_t>(rows[d])];
        }
    }

    // What example s needs that the one before it does not.
    void prefetch_path(std::size_t s) const {
        const std::size_t n = plan_.order().size();
        if (s >= n) return;
        const auto later = static_cast<std::size_t>(plan_.labels()[std::min(n - 1, s + ahead)]);
        detail::prefetch(h_.path_nodes(later).data(), h_.path_nodes(later).size());
        detail::prefetch(h_.path_children(later).data(), h_.path_children(later).size());
        score_.prefetch_input(example(s));
        if (out_.gradient) detail::prefetch_to_write(out_.dX + example(s) * dim_, dim_);
        each_new_row(s, [&](std::size_t row) {
            score_.prefetch(row);
            if (!in_.b.empty()) detail::prefetch_line(in_.b.data() + row);
        });
    }

    void prefetch_step(std::size_t s, const GradientSink<T>& sink) const {
        if (s >= plan_.order().size()) return;
        detail::prefetch(X_.row(example(s)), dim_);
        if (sink.soon) each_new_row(s, [&](std::size_t row) { sink.soon(sink.self, row); });
    }

    template <class F>
    void each_new_row(std::size_t s, F f) const {
        const auto nodes = path(s).subspan(static_cast<std::size_t>(plan_.shared()[s]));
        if (h_.logistic) {
            for (const std::int32_t row : nodes) f(static_cast<std::size_t>(row));
            return;
        }
        for (const std::int32_t node : nodes) {
            const auto v = static_cast<std::size_t>(node);
            for (std::size_t row = h_.row(v); row < h_.row(v + 1); ++row) f(row);
        }
    }

    void add(std::size_t c, std::size_t s, std::size_t first, const GradientSink<T>& sink, std::size_t worker) {
        sums_->add(c, s, path_rows(s, first, scratch_[worker]), z_.get() + at(s), X_.row(example(s)), sink, worker);
    }

    // ---- trees with wider nodes: products of blocks of examples with blocks of rows

    void score_nodes(std::size_t c, Scratch<T>& scratch, detail::FirstPlace& bad) {
        find_nodes(c, scratch);
        if (in_.residuals.empty()) wide_logits(scratch);
        if (!finite(c * chunk_, last(c), bad) || !out_.residuals.empty()) return;  // loss comes from the copy
        losses(c * chunk_, last(c), scratch);
        if (out_.gradient) wide_inputs(scratch);
    }

    // The nodes that the examples of a chunk pass, parents first.
    void find_nodes(std::size_t c, Scratch<T>& scratch) {
        scratch.nodes.clear();
        scratch.open.clear();  // `last`: place among the nodes
        const auto close = [&](std::size_t keep, std::size_t s) {
            for (; scratch.open.size() > keep; scratch.open.pop_back())
                scratch.nodes[static_cast<std::size_t>(scratch.open.back().last)].last = static_cast<std::int32_t>(s);
        };
        for (std::size_t s = c * chunk_; s < last(c); ++s) {
            const auto nodes = path(s);
            const std::size_t before = common(s, c);
            close(before, s);
            std::int32_t z = 0;
            if (before > 0) z = scratch.open.back().z + rows_of(scratch.open.back().node);
            for (std::size_t d = before; d < nodes.size(); ++d) {
                const auto first = static_cast<std::int32_t>(s);
                scratch.open.push_back({nodes[d], first, static_cast<std::int32_t>(scratch.nodes.size()), z});
                scratch.nodes.push_back({nodes[d], first, 0, z});
                z += rows_of(nodes[d]);
            }
        }
        close(0, last(c));
    }

    std::int32_t rows_of(std::int32_t node) const { return static_cast<std::int32_t>(h_.row_count(static_cast<std::size_t>(node))); }

    void sparse_logits(Scratch<T>& scratch) {
        if constexpr (std::is_same_v<T, float>) {
            for (const Node& node : scratch.nodes) {
                const auto first = static_cast<std::size_t>(node.first), end = static_cast<std::size_t>(node.last);
                scratch.sparse->open(static_cast<std::size_t>(node.node), end - first);
                for (std::size_t s = first; s < end; ++s)
                    scratch.sparse->logits(example(s), z_.get() + at(s) + static_cast<std::size_t>(node.z));
                scratch.sparse->close();
            }
        }
    }

    void wide_logits(Scratch<T>& scratch) {
        if (scratch.sparse) return sparse_logits(scratch);
        T* products = scratch.products.data();
        for (std::size_t i = 0; i < scratch.nodes.size(); ++i) {
            if (i + ahead < scratch.nodes.size()) prefetch_node(static_cast<std::size_t>(scratch.nodes[i + ahead].node));
            const Node& node = scratch.nodes[i];
            const auto v = static_cast<std::size_t>(node.node), first = static_cast<std::size_t>(node.first),
                       m = static_cast<std::size_t>(node.last) - first;
            const std::size_t k = h_.row_count(v);
            for (std::size_t j = 0; j < k; j += stretch) {
                const std::size_t n = std::min(stretch, k - j), row = h_.row(v) + j;
                score_({0, plan_.order().data() + first}, m, {row}, n, products, n);
                for (std::size_t s = 0; s < m; ++s) {
                    T* z = z_.get() + at(first + s) + static_cast<std::size_t>(node.z) + j;
                    for (std::size_t r = 0; r < n; ++r) z[r] = products[s * n + r] + (in_.b.empty() ? T(0) : in_.b[row + r]);
                }
            }
        }
    }

    void prefetch_node(std::size_t v) const {
        const std::size_t first = h_.row(v), end = first + std::min<std::size_t>(4, h_.row_count(v));
        for (std::size_t row = first; row < end; ++row) score_.prefetch(row);
    }

    void wide_inputs(const Scratch<T>& scratch) {
        const T* delta[wide_chunk];
        T* out[wide_chunk];
        for (const Node& node : scratch.nodes) {
            const auto v = static_cast<std::size_t>(node.node), first = static_cast<std::size_t>(node.first),
                       m = static_cast<std::size_t>(node.last) - first;
            const std::size_t k = h_.row_count(v);
            for (std::size_t s = 0; s < m; ++s) {
                delta[s] = z_.get() + at(first + s) + static_cast<std::size_t>(node.z);
                out[s] = out_.dX + example(first + s) * dim_;
            }
            for (std::size_t j = 0; j < k; j += stretch) {
                const std::size_t n = std::min(stretch, k - j);
                k_.weighted_sums(delta, {W_.row(h_.row(v) + j), dim_, nullptr}, n, dim_, node.z > 0 || j > 0, out, m);
                for (std::size_t s = 0; s < m; ++s) delta[s] += n;
            }
        }
    }

    // ---- losses

    // Losses of the examples [from, to), and with a gradient, their logits become the scaled gradients of themselves.
    void losses(std::size_t from, std::size_t to, Scratch<T>& scratch) {
        if (at_once_) step_losses(from, to, scratch);
        const T* loss = scratch.loss.data();
        for (std::size_t s = from; s < to; ++s) {
            const T scale = in_.scale.empty() ? T(1) : in_.scale[example(s)];
            double sum = 0;
            for (std::size_t d = at_once_ ? path(s).size() : 0; d > 0; --d) sum += static_cast<double>(*loss++);
            if (!at_once_)
                sum = detail::path_loss(k_, h_, static_cast<std::size_t>(plan_.labels()[s]), in_.label_smoothing, out_.gradient,
                                        z_.get() + at(s), scratch.products.data());
            out_.nll[example(s)] = static_cast<T>(in_.scale_loss ? sum * static_cast<double>(scale) : sum);
            if (!out_.gradient || in_.scale.empty()) continue;
            for (std::size_t i = at(s); i < at(s + 1); ++i) z_[i] *= scale;
        }
    }

    void step_losses(std::size_t from, std::size_t to, Scratch<T>& scratch) {
        const T targets[2] = {detail::soft_target<T>(0, in_.label_smoothing), detail::soft_target<T>(1, in_.label_smoothing)};
        T* target = scratch.target.data();
        for (std::size_t s = from; s < to; ++s)
            for (const std::int32_t child : h_.path_children(static_cast<std::size_t>(plan_.labels()[s]))) *target++ = targets[child];
        T* const z = z_.get() + at(from);
        (h_.logistic ? k_.logistic_loss : k_.pair_loss)(z, scratch.target.data(), static_cast<std::size_t>(target - scratch.target.data()),
                                                        scratch.loss.data(), out_.gradient ? z : nullptr);
    }

    // Between example order (outside) and sorted order (z_).
    void copy_residuals(const T* from, T* to, bool outwards = false) const {
        std::vector<std::size_t> start(plan_.examples() + 1, 0);
        for (std::size_t s = 0; s < plan_.order().size(); ++s) start[example(s) + 1] = at(s + 1) - at(s);
        for (std::size_t i = 0; i < plan_.examples(); ++i) start[i + 1] += start[i];
        for (std::size_t s = 0; s < plan_.order().size(); ++s) {
            const std::size_t outside = start[example(s)], n = at(s + 1) - at(s);
            if (n > 0) std::memcpy(to + (outwards ? outside : at(s)), from + (outwards ? at(s) : outside), n * sizeof(T));
        }
    }

    [[noreturn]] void refuse_logit(std::size_t place) const {
        std::size_t s = 0;
        while (at(s + 1) <= place) ++s;
        detail::refuse("W and b must be finite, with finite logits, got ", z_[place], " for row ", plan_.order()[s],
                       " of X on the path to class ", plan_.labels()[s]);
    }

    const HSoftmaxPlan& plan_;
    const HierarchyView& h_;
    const HSoftmaxInput<T>& in_;
    Outputs<T> out_;
    const Kernels<T>& k_;
    const MatrixView<const T> X_, W_;  // W of a gradient
    const detail::Scorer<T> score_;
    const std::size_t dim_;
    const std::unique_ptr<T[]> z_;  // logits, then their gradients, in sorted order
    const bool narrow_;
    const std::size_t chunk_, chunks_;
    const bool at_once_;  // all losses of a block: its nodes are logistic, or have two rows each and no soft target
    const int threads_;
    std::vector<Scratch<T>> scratch_;
    std::optional<detail::WalkSums<T>> sums_;  // of a gradient, if nodes are narrow
    bool walks_ = false;                       // and fit
};

template <Real T>
void require_batch(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<const T> nll) {
    const std::size_t n = plan.examples();
    require(in.X.rows() == n, "X must have one row a label, ", n, ", got ", in.X.rows());
    require(in.scale.empty() || in.scale.size() == n, in.scale_loss ? "sample_weight" : "grad_output", " must have ", n, " entries, got ",
            in.scale.size());
    require(in.label_smoothing == 0 || !plan.hierarchy().independent, "label_smoothing must be 0 on a tree of independent nodes, got ",
            in.label_smoothing);
    require(in.label_smoothing >= 0 && in.label_smoothing < 1, "label_smoothing must be in [0, 1), got ", in.label_smoothing);
    require(in.residuals.empty() || in.residuals.size() == plan.n_logits(), "residuals must have ", plan.n_logits(), " entries, got ",
            in.residuals.size());
    require(nll.size() == n, "nll must have ", n, " entries, got ", nll.size());
    require_shapes(plan.hierarchy(), in);
}

}  // namespace

template <Real T>
void hsoftmax(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, std::span<T> residuals) {
    require_batch(plan, in, std::span<const T>(nll));
    require(residuals.empty() || residuals.size() == plan.n_logits(), "residuals must have ", plan.n_logits(), " entries, got ",
            residuals.size());
    Batch<T>(plan, in, {nll, residuals}).score();
}

template <Real T>
void hsoftmax_backward(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX,
                       const GradientSink<T>& sink) {
    require(!plan.hierarchy().independent, "h must have logistic or softmax nodes for a gradient, got independent nodes");
    require_batch(plan, in, std::span<const T>(nll));
    detail::require_matrix("dX", dX, plan.examples(), in.X.cols());
    Batch<T> batch(plan, in, {nll, {}, true, dX.data, sink.at_once ? &sink : nullptr});
    batch.score();
    batch.rows(sink);
}

template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, std::span<float>);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>,
                                const GradientSink<float>&);
template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, std::span<double>);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                const GradientSink<double>&);

}  // namespace sparseops
