#include "hsoftmax.hpp"

#include <algorithm>
#include <cstring>

#include "detail/kernels.hpp"
#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "detail/score.hpp"

namespace sparseops {
namespace {

using detail::Kernels;
using detail::require;
using detail::Rows;

constexpr std::size_t chunk_size = 32;  // examples scored together: 32 to 128 measure the same, 16 is slower
constexpr std::size_t ahead = 4;        // examples whose rows of W are prefetched
constexpr std::size_t piece = 256;      // examples whose coefficients are gathered at once
constexpr std::size_t row_block = 16;   // touched rows a work item
constexpr std::size_t stretch = 64;     // rows of a wide node that all examples of a chunk meet before the next ones

// One worker's scratch: grown before the team starts, never inside it.
template <Real T>
struct alignas(detail::apart) Scratch {
    std::vector<T> products, loss, target, row;
    struct Node {
        std::int32_t node, first, last, z;  // the chunk's examples [first, last) pass it; its logits start at place z of theirs
    };
    std::vector<Node> open, nodes;
};

// The batch: phase one scores chunks of examples (logits, loss, logit gradients, dX), phase two sums rows of dW by node.
template <Real T>
class Batch {
public:
    Batch(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in)
        : plan_(plan),
          h_(plan.hierarchy()),
          in_(in),
          k_(detail::kernels<T>()),
          score_(in.X, in.W, in.quantized, detail::team_size(in.num_threads, static_cast<double>(in.X.size()))),
          dim_(in.X.cols),
          z_(plan.n_logits()),
          chunks_((plan.order().size() + chunk_size - 1) / chunk_size) {
        const double work = static_cast<double>(plan.n_logits()) * static_cast<double>(dim_ + 16) * 3;
        threads_ = detail::team_size(in.num_threads, work);
        scratch_.resize(static_cast<std::size_t>(std::max(1, threads_)));
        std::size_t longest = 0, most_nodes = 0;
        for (std::size_t c = 0; c < chunks_; ++c) {
            longest = std::max(longest, static_cast<std::size_t>(plan.logits()[last(c)] - plan.logits()[c * chunk_size]));
            if (h_.logistic) continue;
            std::size_t nodes = 0;
            for (std::size_t s = c * chunk_size; s < last(c); ++s) nodes += path(s).size() - common(s, c);
            most_nodes = std::max(most_nodes, nodes);
        }
        for (auto& s : scratch_) {
            s.products.resize(h_.logistic ? std::max(chunk_size, piece) : std::max({chunk_size * stretch, 4 * piece, h_.widest}));
            s.loss.resize(longest);
            s.target.resize(longest);
            s.row.resize(h_.logistic ? dim_ : 4 * dim_);
            s.open.reserve(static_cast<std::size_t>(h_.depth) + 1);
            s.nodes.reserve(most_nodes);
        }
    }

    void score(std::span<T> nll, std::span<T> residuals, T* dX) {
        if (plan_.order().size() < plan_.examples()) {  // ignored examples
            std::fill(nll.begin(), nll.end(), T(0));
            if (dX) std::fill(dX, dX + plan_.examples() * dim_, T(0));
        }
        // What is not finite in a row of X makes all its logits so: X itself is looked at only where a row has none of its own.
        if (!in_.residuals.empty() || plan_.order().size() < plan_.examples() || h_.nodes() == 0) require_finite(in_);
        if (!in_.residuals.empty()) copy_residuals(std::span<const T>(in_.residuals), std::span<T>(z_));
        detail::FirstPlace bad;
        detail::parallel_for(chunks_, threads_, [&](std::size_t c, std::size_t worker) {
            const std::size_t from = at(c * chunk_size), n = at(last(c)) - from;
            Scratch<T>& scratch = scratch_[worker];
            if (!h_.logistic) find_nodes(c, scratch);
            if (in_.residuals.empty()) h_.logistic ? path_logits(c, scratch) : wide_logits(scratch);
            if (const std::size_t i = k_.first_not_finite(z_.data() + from, n); in_.check_finite && i < n) return bad.report(from + i);
            if (!residuals.empty()) return;  // loss comes from the copy below
            losses(c, scratch, nll, dX != nullptr);
            if (dX) h_.logistic ? inputs(c, dX) : wide_inputs(scratch, dX);
        });
        if (bad.any()) {
            require_finite(in_);
            refuse_logit(bad.place());
        }
        if (residuals.empty()) return;
        copy_residuals(std::span<const T>(z_), residuals, true);
        detail::parallel_for(chunks_, threads_, [&](std::size_t c, std::size_t worker) { losses(c, scratch_[worker], nll, false); });
    }

    void rows(const GradientSink<T>& sink) {
        const auto slots = plan_.slots();
        const std::size_t touched = plan_.touched_rows();
        detail::parallel_for((touched + row_block - 1) / row_block, threads_, [&](std::size_t block, std::size_t worker) {
            std::size_t slot = block * row_block, u = slot;
            const std::size_t end = std::min(touched, slot + row_block);
            if (!h_.logistic)
                u = static_cast<std::size_t>(std::upper_bound(slots.begin(), slots.end(), static_cast<std::int64_t>(slot)) -
                                             slots.begin()) -
                    1;
            const auto soon = [&](std::size_t later) {
                if (sink.soon && later < end) sink.soon(sink.self, h_.row(static_cast<std::size_t>(plan_.segments()[later].node)));
            };
            for (std::size_t i = 0; h_.logistic && i < ahead; ++i) soon(slot + i);
            for (; slot < end; ++u) {
                if (h_.logistic) soon(slot + ahead);
                const std::size_t to = std::min(end, static_cast<std::size_t>(slots[u + 1]));
                for (; slot + 4 <= to; slot += 4) sum_rows<4>(u, slot, sink, scratch_[worker]);
                for (; slot < to; ++slot) sum_rows<1>(u, slot, sink, scratch_[worker]);
            }
        });
    }

private:
    using Node = typename Scratch<T>::Node;

    std::size_t at(std::size_t s) const { return static_cast<std::size_t>(plan_.logits()[s]); }
    std::size_t last(std::size_t c) const { return std::min(plan_.order().size(), (c + 1) * chunk_size); }
    std::span<const std::int32_t> path(std::size_t s) const { return h_.path_nodes(static_cast<std::size_t>(plan_.labels()[s])); }
    Rows<T> x_rows(std::size_t s) const { return {in_.X.data, dim_, plan_.order().data() + s}; }
    // Steps that example s has in common with the one before it in chunk c.
    std::size_t common(std::size_t s, std::size_t c) const { return s == c * chunk_size ? 0 : static_cast<std::size_t>(plan_.shared()[s]); }

    // ---- trees of logistic nodes: row v belongs to node v

    // Logits of one chunk: nodes that several of its examples pass, node by node; the rest of each path in one go.
    void path_logits(std::size_t c, Scratch<T>& scratch) {
        const std::size_t from = c * chunk_size, to = last(c);
        scratch.open.clear();
        const auto close = [&](std::size_t keep, std::size_t s) {
            for (; scratch.open.size() > keep; scratch.open.pop_back()) {
                const auto& o = scratch.open.back();
                const auto first = static_cast<std::size_t>(o.first);
                if (s - first > 1) node_logits(static_cast<std::size_t>(o.node), first, s, static_cast<std::size_t>(o.z), scratch);
            }
        };
        for (std::size_t s = from; s < std::min(to, from + ahead); ++s) prefetch_alone(s, c);
        for (std::size_t s = from; s < to; ++s) {
            if (s + ahead < to) prefetch_alone(s + ahead, c);
            const auto nodes = path(s);
            const std::size_t before = common(s, c), next = s + 1 == to ? 0 : static_cast<std::size_t>(plan_.shared()[s + 1]);
            close(before, s);
            for (std::size_t d = before; d < next; ++d) {
                score_.prefetch(static_cast<std::size_t>(nodes[d]));
                scratch.open.push_back({nodes[d], static_cast<std::int32_t>(s), 0, static_cast<std::int32_t>(d)});
            }
            const std::size_t alone = std::max(before, next);  // from this depth on no other example of the chunk follows
            T* z = z_.data() + at(s) + alone;
            score_({0, plan_.order().data() + s}, 1, {0, nodes.data() + alone}, nodes.size() - alone, z, 0);
            if (in_.b.empty()) continue;
            for (std::size_t d = alone; d < nodes.size(); ++d) *z++ += in_.b[static_cast<std::size_t>(nodes[d])];
        }
        close(0, to);
    }

    // The row of X, and the rows of W that no other example of the chunk needs: no earlier dot product brought them near.
    void prefetch_alone(std::size_t s, std::size_t c) const {
        if (in_.quantized.kind == QuantizedKind::none) detail::prefetch(in_.X.row(static_cast<std::size_t>(plan_.order()[s])), dim_);
        const auto nodes = path(s);
        const auto next = s + 1 < last(c) ? static_cast<std::size_t>(plan_.shared()[s + 1]) : 0;
        for (std::size_t d = std::max(static_cast<std::size_t>(plan_.shared()[s]), next); d < nodes.size(); ++d)
            score_.prefetch(static_cast<std::size_t>(nodes[d]));
    }

    void node_logits(std::size_t row, std::size_t first, std::size_t end, std::size_t z, Scratch<T>& scratch) {
        T* products = scratch.products.data();
        score_.column(row, {0, plan_.order().data() + first}, end - first, products);
        const T bias = in_.b.empty() ? T(0) : in_.b[row];
        for (std::size_t s = first; s < end; ++s) z_[at(s) + z] = products[s - first] + bias;
    }

    void inputs(std::size_t c, T* dX) {
        for (std::size_t s = c * chunk_size; s < last(c); ++s) {
            const auto nodes = path(s);
            k_.weighted_sum(z_.data() + at(s), 1, {in_.W.data, dim_, nodes.data()}, nodes.size(), dim_, false,
                            dX + static_cast<std::size_t>(plan_.order()[s]) * dim_);
        }
    }

    // ---- trees with softmax nodes: products of blocks of examples with blocks of rows

    // The nodes that the examples of a chunk pass, parents first.
    void find_nodes(std::size_t c, Scratch<T>& scratch) {
        scratch.nodes.clear();
        scratch.open.clear();  // `last`: place among the nodes
        const auto close = [&](std::size_t keep, std::size_t s) {
            for (; scratch.open.size() > keep; scratch.open.pop_back())
                scratch.nodes[static_cast<std::size_t>(scratch.open.back().last)].last = static_cast<std::int32_t>(s);
        };
        for (std::size_t s = c * chunk_size; s < last(c); ++s) {
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

    void wide_logits(Scratch<T>& scratch) {
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
                    T* z = z_.data() + at(first + s) + static_cast<std::size_t>(node.z) + j;
                    for (std::size_t r = 0; r < n; ++r) z[r] = products[s * n + r] + (in_.b.empty() ? T(0) : in_.b[row + r]);
                }
            }
        }
    }

    void prefetch_node(std::size_t v) const {
        const std::size_t first = h_.row(v), end = first + std::min<std::size_t>(4, h_.row_count(v));
        for (std::size_t row = first; row < end; ++row) score_.prefetch(row);
    }

    void wide_inputs(const Scratch<T>& scratch, T* dX) {
        const T* delta[chunk_size];
        T* out[chunk_size];
        for (const Node& node : scratch.nodes) {
            const auto v = static_cast<std::size_t>(node.node), first = static_cast<std::size_t>(node.first),
                       m = static_cast<std::size_t>(node.last) - first;
            const std::size_t k = h_.row_count(v);
            for (std::size_t s = 0; s < m; ++s) {
                delta[s] = z_.data() + at(first + s) + static_cast<std::size_t>(node.z);
                out[s] = dX + static_cast<std::size_t>(plan_.order()[first + s]) * dim_;
            }
            for (std::size_t j = 0; j < k; j += stretch) {
                const std::size_t n = std::min(stretch, k - j);
                k_.weighted_sums(delta, {in_.W.row(h_.row(v) + j), dim_, nullptr}, n, dim_, node.z > 0 || j > 0, out, m);
                for (std::size_t s = 0; s < m; ++s) delta[s] += n;
            }
        }
    }

    // ---- losses

    // Loss of each example of the chunk; with `gradient`, z becomes the scaled gradient of the logits.
    void losses(std::size_t c, Scratch<T>& scratch, std::span<T> nll, bool gradient) {
        const std::size_t from = c * chunk_size, to = last(c), base = at(from);
        if (h_.logistic) logistic_losses(from, to, scratch, gradient);
        for (std::size_t s = from; s < to; ++s) {
            const auto example = static_cast<std::size_t>(plan_.order()[s]);
            const T scale = in_.scale.empty() ? T(1) : in_.scale[example];
            double sum = 0;
            if (h_.logistic) {
                for (std::size_t i = at(s); i < at(s + 1); ++i) sum += static_cast<double>(scratch.loss[i - base]);
            } else {
                sum = path_loss(s, scratch, gradient);
            }
            nll[example] = static_cast<T>(in_.scale_loss ? sum * static_cast<double>(scale) : sum);
            if (!gradient || in_.scale.empty()) continue;
            for (std::size_t i = at(s); i < at(s + 1); ++i) z_[i] *= scale;
        }
    }

    T soft_target(std::int32_t child) const {
        return static_cast<T>(static_cast<double>(child) * (1 - in_.label_smoothing) + in_.label_smoothing / 2);
    }

    void logistic_losses(std::size_t from, std::size_t to, Scratch<T>& scratch, bool gradient) {
        const std::size_t base = at(from), n = at(to) - base;
        const T targets[2] = {soft_target(0), soft_target(1)};
        T* target = scratch.target.data();
        for (std::size_t s = from; s < to; ++s) {
            for (const std::int32_t child : h_.path_children(static_cast<std::size_t>(plan_.labels()[s]))) *target++ = targets[child];
        }
        k_.logistic_loss(z_.data() + base, scratch.target.data(), n, scratch.loss.data(), gradient ? z_.data() + base : nullptr);
    }

    double path_loss(std::size_t s, Scratch<T>& scratch, bool gradient) {
        const auto label = static_cast<std::size_t>(plan_.labels()[s]);
        const auto nodes = h_.path_nodes(label), children = h_.path_children(label);
        const double smooth = in_.label_smoothing;
        double sum = 0;
        T* z = z_.data() + at(s);
        T* nll = scratch.products.data();
        for (std::size_t d = 0; d < nodes.size(); ++d) {
            const std::size_t k = h_.row_count(static_cast<std::size_t>(nodes[d])), j = static_cast<std::size_t>(children[d]);
            if (k == 1) {
                const T target = soft_target(children[d]);
                k_.logistic_loss(z, &target, 1, nll, gradient ? z : nullptr);
                sum += static_cast<double>(nll[0]);
            } else {
                k_.softmax_nll(z, k, nll, gradient ? z : nullptr);
                double mean = 0;
                if (smooth > 0) {
                    for (std::size_t i = 0; i < k; ++i) mean += static_cast<double>(nll[i]);
                    mean /= static_cast<double>(k);
                }
                sum += (1 - smooth) * static_cast<double>(nll[j]) + smooth * mean;
                if (gradient) softmax_delta(z, k, j);
            }
            z += k;
        }
        return sum;
    }

    // Probabilities to probabilities minus target; 1 - p from its logarithm where p is near 1 would lose digits.
    void softmax_delta(T* p, std::size_t k, std::size_t j) const {
        if (in_.label_smoothing > 0) {
            const auto share = static_cast<T>(in_.label_smoothing / static_cast<double>(k));
            for (std::size_t i = 0; i < k; ++i) p[i] -= share;
            p[j] -= static_cast<T>(1 - in_.label_smoothing);
            return;
        }
        if (p[j] < T(0.5)) {
            p[j] -= T(1);
            return;
        }
        T others = 0;
        for (std::size_t i = 0; i < k; ++i) others += i == j ? T(0) : p[i];
        p[j] = -others;
    }

    // The gradient of Count rows of one node: its examples' deltas times their x, in sorted order.
    template <int Count>
    void sum_rows(std::size_t u, std::size_t slot, const GradientSink<T>& sink, Scratch<T>& scratch) {
        const auto& segment = plan_.segments()[u];
        const auto first = static_cast<std::size_t>(segment.first), end = static_cast<std::size_t>(segment.last);
        const std::size_t j = slot - static_cast<std::size_t>(plan_.slots()[u]), row = h_.row(static_cast<std::size_t>(segment.node)) + j;
        const T* weight[Count];
        T* out[Count];
        double bias[Count] = {};
        for (std::size_t q = 0; q < Count; ++q) {
            weight[q] = scratch.products.data() + q * piece;
            out[q] = sink.target(sink.self, slot + q, row + q);
            if (!out[q]) out[q] = scratch.row.data() + q * dim_;
        }
        for (std::size_t s = first; s < end; s += piece) {
            const std::size_t n = std::min(piece, end - s);
            for (std::size_t i = 0; i < n; ++i) {
                const T* delta = z_.data() + at(s + i) + static_cast<std::size_t>(segment.z) + j;
                for (std::size_t q = 0; q < Count; ++q) {
                    scratch.products[q * piece + i] = delta[q];
                    bias[q] += static_cast<double>(delta[q]);
                }
            }
            if constexpr (Count == 1)
                k_.weighted_sum(weight[0], 1, x_rows(s), n, dim_, s > first, out[0]);
            else
                k_.weighted_sums(weight, x_rows(s), n, dim_, s > first, out, Count);
        }
        for (std::size_t q = 0; q < Count; ++q) sink.done(sink.self, slot + q, row + q, out[q], static_cast<T>(bias[q]));
    }

    // Between example order (outside) and sorted order (z_).
    void copy_residuals(std::span<const T> from, std::span<T> to, bool outwards = false) const {
        std::vector<std::size_t> start(plan_.examples() + 1, 0);
        for (std::size_t s = 0; s < plan_.order().size(); ++s) start[static_cast<std::size_t>(plan_.order()[s]) + 1] = at(s + 1) - at(s);
        for (std::size_t i = 0; i < plan_.examples(); ++i) start[i + 1] += start[i];
        for (std::size_t s = 0; s < plan_.order().size(); ++s) {
            const std::size_t outside = start[static_cast<std::size_t>(plan_.order()[s])], n = at(s + 1) - at(s);
            if (n > 0) std::memcpy(to.data() + (outwards ? outside : at(s)), from.data() + (outwards ? at(s) : outside), n * sizeof(T));
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
    const Kernels<T>& k_;
    const detail::Scorer<T> score_;
    std::size_t dim_;
    std::vector<T> z_;  // logits, then their gradients, in sorted order
    std::size_t chunks_;
    int threads_ = 1;
    std::vector<Scratch<T>> scratch_;
};

template <Real T>
void require_batch(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<const T> nll) {
    const std::size_t n = plan.examples();
    require(in.X.rows == n, "X must have one row a label, ", n, ", got ", in.X.rows);
    require(in.scale.empty() || in.scale.size() == n, in.scale_loss ? "sample_weight" : "grad_output", " must have ", n, " entries, got ",
            in.scale.size());
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
    Batch<T>(plan, in).score(nll, residuals, nullptr);
}

template <Real T>
void hsoftmax_backward(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX,
                       const GradientSink<T>& sink) {
    require_batch(plan, in, std::span<const T>(nll));
    require(in.quantized.kind == QuantizedKind::none, "W must be a float array for a gradient, got ", detail::name_of(in.quantized.kind),
            " weights");
    require(dX.rows == plan.examples() && dX.cols == in.X.cols, "dX must have shape (", plan.examples(), ", ", in.X.cols, "), got (",
            dX.rows, ", ", dX.cols, ")");
    Batch<T> batch(plan, in);
    batch.score(nll, {}, dX.data);
    batch.rows(sink);
}

template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, std::span<float>);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>,
                                const GradientSink<float>&);
template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, std::span<double>);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                const GradientSink<double>&);

}  // namespace sparseops
