#include "hsoftmax.hpp"

#include <algorithm>
#include <atomic>
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
constexpr std::size_t node_block = 16;  // touched nodes a work item

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
    require_input(plan.hierarchy(), in);
}

// One worker's scratch: grown before the team starts, never inside it.
template <Real T>
struct Scratch {
    std::vector<T> products, loss, target, row;
    struct Open {
        std::int32_t node, first, z;
    };
    std::vector<Open> open;
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
        std::size_t longest = 0;
        for (std::size_t c = 0; c < chunks_; ++c) {
            longest = std::max(longest, static_cast<std::size_t>(plan.logits()[last(c)] - plan.logits()[c * chunk_size]));
        }
        for (auto& s : scratch_) {
            s.products.resize(std::max({chunk_size, piece, h_.widest}));
            s.loss.resize(longest);
            s.target.resize(longest);
            s.row.resize(dim_);
            s.open.reserve(static_cast<std::size_t>(h_.depth) + 1);
        }
    }

    void score(std::span<T> nll, std::span<T> residuals, T* dX) {
        if (plan_.order().size() < plan_.examples()) {  // ignored examples
            std::fill(nll.begin(), nll.end(), T(0));
            if (dX) std::fill(dX, dX + plan_.examples() * dim_, T(0));
        }
        if (!in_.residuals.empty()) copy_residuals(std::span<const T>(in_.residuals), std::span<T>(z_));
        std::atomic<std::size_t> bad{plan_.n_logits()};
        detail::parallel_for(chunks_, threads_, [&](std::size_t c, std::size_t worker) {
            const std::size_t from = at(c * chunk_size), n = at(last(c)) - from;
            if (in_.residuals.empty()) logits(c, scratch_[worker]);
            if (const std::size_t i = k_.first_not_finite(z_.data() + from, n); in_.check_finite && i < n) {
                std::size_t seen = bad.load();
                while (from + i < seen && !bad.compare_exchange_weak(seen, from + i)) {}
                return;
            }
            if (!residuals.empty()) return;  // loss comes from the copy below
            losses(c, scratch_[worker], nll, dX != nullptr);
            if (dX) inputs(c, dX);
        });
        if (bad < plan_.n_logits()) refuse_logit(bad);
        if (residuals.empty()) return;
        copy_residuals(std::span<const T>(z_), residuals, true);
        detail::parallel_for(chunks_, threads_, [&](std::size_t c, std::size_t worker) { losses(c, scratch_[worker], nll, false); });
    }

    void rows(const GradientSink<T>& sink) {
        const auto segments = plan_.segments();
        const std::size_t blocks = (segments.size() + node_block - 1) / node_block;
        detail::parallel_for(blocks, threads_, [&](std::size_t block, std::size_t worker) {
            const std::size_t end = std::min(segments.size(), (block + 1) * node_block);
            for (std::size_t u = block * node_block; u < end; ++u) node_rows(u, sink, scratch_[worker]);
        });
    }

private:
    std::size_t at(std::size_t s) const { return static_cast<std::size_t>(plan_.logits()[s]); }
    std::size_t last(std::size_t c) const { return std::min(plan_.order().size(), (c + 1) * chunk_size); }
    Rows<T> x_rows(std::size_t s) const { return {in_.X.data, dim_, plan_.order().data() + s}; }

    // Logits of one chunk: nodes that several of its examples pass, node by node; the rest of each path row by row.
    void logits(std::size_t c, Scratch<T>& scratch) {
        const std::size_t from = c * chunk_size, to = last(c);
        scratch.open.clear();
        const auto close = [&](std::size_t keep, std::size_t s) {
            for (; scratch.open.size() > keep; scratch.open.pop_back()) {
                const auto& o = scratch.open.back();
                if (s - static_cast<std::size_t>(o.first) > 1)
                    node_logits(o.node, static_cast<std::size_t>(o.first), s, static_cast<std::size_t>(o.z), scratch);
            }
        };
        for (std::size_t s = from; s < std::min(to, from + ahead); ++s) prefetch_alone(s, to);
        for (std::size_t s = from; s < to; ++s) {
            if (s + ahead < to) prefetch_alone(s + ahead, to);
            const auto path = h_.path_nodes(static_cast<std::size_t>(plan_.labels()[s]));
            const std::size_t common = s == from ? 0 : static_cast<std::size_t>(plan_.shared()[s]);
            const std::size_t next = s + 1 == to ? 0 : static_cast<std::size_t>(plan_.shared()[s + 1]);
            close(common, s);
            std::size_t z = common == 0 ? 0
                                        : static_cast<std::size_t>(scratch.open.back().z) +
                                              h_.row_count(static_cast<std::size_t>(scratch.open.back().node));
            const std::size_t alone = std::max(common, next);  // from this depth on no other example of the chunk follows
            for (std::size_t d = common; d < next; ++d) {
                scratch.open.push_back({path[d], static_cast<std::int32_t>(s), static_cast<std::int32_t>(z)});
                z += h_.row_count(static_cast<std::size_t>(path[d]));
            }
            path_logits(s, path.subspan(alone), at(s) + z);
        }
        close(0, to);
    }

    // The rows of W that no other example of the chunk needs: no earlier dot product brought them near.
    void prefetch_alone(std::size_t s, std::size_t to) const {
        const auto path = h_.path_nodes(static_cast<std::size_t>(plan_.labels()[s]));
        const auto next = s + 1 < to ? static_cast<std::size_t>(plan_.shared()[s + 1]) : 0;
        for (std::size_t d = std::max(static_cast<std::size_t>(plan_.shared()[s]), next); d < path.size(); ++d) {
            score_.prefetch(h_.row(static_cast<std::size_t>(path[d])));
        }
    }

    void node_logits(std::int32_t node, std::size_t first, std::size_t end, std::size_t z, Scratch<T>& scratch) {
        const std::size_t row = h_.row(static_cast<std::size_t>(node)), k = h_.row_count(static_cast<std::size_t>(node));
        T* products = scratch.products.data();
        if (k == 1) {
            score_.column(row, {0, plan_.order().data() + first}, end - first, products);
            const T bias = in_.b.empty() ? T(0) : in_.b[row];
            for (std::size_t s = first; s < end; ++s) z_[at(s) + z] = products[s - first] + bias;
            return;
        }
        for (std::size_t s = first; s < end; ++s) softmax_logits(s, row, k, at(s) + z);
    }

    void softmax_logits(std::size_t s, std::size_t row, std::size_t k, std::size_t to) {
        score_({0, plan_.order().data() + s}, 1, {row}, k, z_.data() + to, k);
        if (!in_.b.empty()) {
            for (std::size_t j = 0; j < k; ++j) z_[to + j] += in_.b[row + j];
        }
    }

    void path_logits(std::size_t s, std::span<const std::int32_t> nodes, std::size_t to) {
        if (h_.logistic) {
            score_({0, plan_.order().data() + s}, 1, {0, nodes.data()}, nodes.size(), z_.data() + to, 0);
            if (in_.b.empty()) return;
            for (std::size_t d = 0; d < nodes.size(); ++d) z_[to + d] += in_.b[static_cast<std::size_t>(nodes[d])];
            return;
        }
        for (const std::int32_t v : nodes) {
            const std::size_t k = h_.row_count(static_cast<std::size_t>(v));
            softmax_logits(s, h_.row(static_cast<std::size_t>(v)), k, to);
            to += k;
        }
    }

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

    void inputs(std::size_t c, T* dX) {
        for (std::size_t s = c * chunk_size; s < last(c); ++s) {
            const auto path = h_.path_nodes(static_cast<std::size_t>(plan_.labels()[s]));
            T* out = dX + static_cast<std::size_t>(plan_.order()[s]) * dim_;
            const T* delta = z_.data() + at(s);
            if (h_.logistic) {
                k_.weighted_sum(delta, 1, {in_.W.data, dim_, path.data()}, path.size(), dim_, false, out);
                continue;
            }
            if (path.empty()) std::fill(out, out + dim_, T(0));
            bool more = false;
            for (const std::int32_t v : path) {
                const std::size_t k = h_.row_count(static_cast<std::size_t>(v));
                k_.weighted_sum(delta, 1, {in_.W.row(h_.row(static_cast<std::size_t>(v))), dim_, nullptr}, k, dim_, more, out);
                delta += k;
                more = true;
            }
        }
    }

    // The gradient of every row of one node: its examples' deltas times their x, in sorted order.
    void node_rows(std::size_t u, const GradientSink<T>& sink, Scratch<T>& scratch) {
        const auto& segment = plan_.segments()[u];
        const auto v = static_cast<std::size_t>(segment.node), first = static_cast<std::size_t>(segment.first),
                   end = static_cast<std::size_t>(segment.last);
        T* weight = scratch.products.data();
        for (std::size_t j = 0; j < h_.row_count(v); ++j) {
            const std::size_t slot = static_cast<std::size_t>(plan_.slots()[u]) + j, row = h_.row(v) + j;
            T* to = sink.target(sink.self, slot, row);
            if (!to) to = scratch.row.data();
            double bias = 0;
            for (std::size_t s = first; s < end; s += piece) {
                const std::size_t n = std::min(piece, end - s);
                for (std::size_t i = 0; i < n; ++i) {
                    weight[i] = z_[at(s + i) + static_cast<std::size_t>(segment.z) + j];
                    bias += static_cast<double>(weight[i]);
                }
                k_.weighted_sum(weight, 1, x_rows(s), n, dim_, s > first, to);
            }
            sink.done(sink.self, slot, row, to, static_cast<T>(bias));
        }
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
void require_gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, MatrixView<T> dX) {
    require(dX.rows == plan.examples() && dX.cols == in.X.cols, "dX must have shape (", plan.examples(), ", ", in.X.cols, "), got (",
            dX.rows, ", ", dX.cols, ")");
}

// Sink that writes straight to dW and db, by slot (sparse) or by row (dense).
template <Real T>
struct Writer {
    MatrixView<T> dW;
    std::span<T> db;
    bool dense;

    static T* target(void* self, std::size_t slot, std::size_t row) {
        auto& w = *static_cast<Writer*>(self);
        return w.dW.row(w.dense ? row : slot);
    }
    static void done(void* self, std::size_t slot, std::size_t row, T*, T bias) {
        auto& w = *static_cast<Writer*>(self);
        w.db[w.dense ? row : slot] = bias;
    }
};

template <Real T>
void write_gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                    std::span<T> db, bool dense) {
    const std::size_t rows = dense ? plan.hierarchy().rows() : plan.touched_rows();
    require(dW.rows == rows && dW.cols == in.X.cols, "dW must have shape (", rows, ", ", in.X.cols, "), got (", dW.rows, ", ", dW.cols,
            ")");
    require(db.size() == rows, "db must have ", rows, " entries, got ", db.size());
    Writer<T> writer{dW, db, dense};
    hsoftmax_backward(plan, in, nll, dX, GradientSink<T>{&writer, Writer<T>::target, Writer<T>::done});
}

}  // namespace

template <Real T>
void require_input(const HierarchyView& h, const HSoftmaxInput<T>& in) {
    require(in.W.rows == h.rows() && in.W.cols == in.X.cols, "W must have shape (", h.rows(), ", ", in.X.cols, "), got (", in.W.rows, ", ",
            in.W.cols, ")");
    require(in.b.empty() || in.b.size() == h.rows(), "b must have ", h.rows(), " entries, got ", in.b.size());
    if (!in.check_finite) return;
    const std::size_t bad = detail::kernels<T>().first_not_finite(in.X.data, in.X.size());
    if (bad < in.X.size())
        detail::refuse("X must be finite, got ", in.X.data[bad], " at row ", bad / in.X.cols, ", column ", bad % in.X.cols);
}

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
    require_gradient(plan, in, dX);
    Batch<T> batch(plan, in);
    batch.score(nll, {}, dX.data);
    batch.rows(sink);
}

template <Real T>
void hsoftmax_gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                       std::span<T> db) {
    write_gradient(plan, in, nll, dX, dW, db, false);
}

template <Real T>
void hsoftmax_gradient_dense(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                             std::span<T> db) {
    write_gradient(plan, in, nll, dX, dW, db, true);
}

template void require_input(const HierarchyView&, const HSoftmaxInput<float>&);
template void require_input(const HierarchyView&, const HSoftmaxInput<double>&);
template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, std::span<float>);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>,
                                const GradientSink<float>&);
template void hsoftmax_gradient(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>, MatrixView<float>,
                                std::span<float>);
template void hsoftmax_gradient_dense(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>,
                                      MatrixView<float>, std::span<float>);
template void hsoftmax(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, std::span<double>);
template void hsoftmax_backward(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                const GradientSink<double>&);
template void hsoftmax_gradient(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                MatrixView<double>, std::span<double>);
template void hsoftmax_gradient_dense(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                      MatrixView<double>, std::span<double>);

}  // namespace sparseops
