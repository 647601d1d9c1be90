// SPDX-License-Identifier: BSD-3-Clause
// Distributions: all classes, given classes, inner nodes, and samples.
#include <algorithm>
#include <cmath>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../detail/random.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax.hpp"
#include "../kernels/kernels.hpp"
#include "backward.hpp"
#include "child_log_p.hpp"
#include "score.hpp"

namespace sparseops {
namespace {

using detail::ix;
using detail::require;

constexpr std::size_t example_block = 8;  // rows of X that share one pass over W
constexpr std::size_t tile_rows = 256;    // rows of W scored before their nodes are walked
constexpr std::size_t node_range = 4096;  // nodes of one work item

// Walks nodes depth first for a few rows of X at once, carrying their log-probabilities on a stack.
template <Real T>
class alignas(detail::cache_gap) TreeWalk {
public:
    TreeWalk(const HierarchyView& h, const HSoftmaxInput<T>& in, const detail::Scorer<T>& score, MatrixView<T> leaves, MatrixView<T> nodes,
             detail::FirstPlace& bad)
        : h_(h),
          in_(in),
          score_(score),
          sparse_(score.sparse()),
          leaves_(leaves),
          nodes_(nodes),
          bad_(bad),
          k_(detail::kernels<T>()),
          width_(std::max(tile_rows, h.widest)) {
        z_.resize(example_block * width_);
        log_p_.resize(2 * example_block * width_);
        index_.resize(h.ordered ? 0 : width_);
    }

    // Nodes of the preorder places [from, to) for the rows [x, x + n) of X.
    void run(std::size_t x, std::size_t n, std::size_t from, std::size_t to) {
        x_ = x;
        n_ = n;
        if (sparse_) sparse_->gather(n, [&](std::size_t i) { return x + i; });
        start(from);
        for (std::size_t at = from; at < to;) {
            std::size_t end = at, rows = 0;
            do rows += h_.row_count(node(end++));
            while (end < to && rows + h_.row_count(node(end)) <= width_);
            score(at, end, rows);
            for (std::size_t r = 0; at < end; ++at) {
                const std::size_t v = node(at);
                visit(v, r);
                r += h_.row_count(v);
            }
        }
    }

private:
    std::size_t node(std::size_t place) const { return ix(h_.preorder[place]); }

    // Log-probabilities of the nodes that are open when the walk comes to this place.
    void start(std::size_t place) {
        stack_.assign(n_, 0.0);
        if (place == 0) return;
        std::int32_t c = static_cast<std::int32_t>(node(place));
        while (c >= 0) c = h_.children(ix(c)).front();
        const auto path = h_.path_nodes(ix(~c)), steps = h_.path_children(ix(~c));
        for (std::size_t d = 0; ix(path[d]) != node(place); ++d) {
            const auto v = ix(path[d]);
            score_node(v);
            open_children(v, 0, ix(steps[d]), false);
        }
    }

    void score(std::size_t at, std::size_t end, std::size_t rows) {
        const std::int32_t* index = nullptr;
        std::size_t first = h_.row(node(at));
        if (!h_.ordered) {
            std::size_t r = 0;
            for (std::size_t i = at; i < end; ++i) {
                for (std::size_t j = 0; j < h_.row_count(node(i)); ++j) index_[r++] = static_cast<std::int32_t>(h_.row(node(i)) + j);
            }
            index = index_.data();
            first = 0;
        }
        if (sparse_) {
            for (std::size_t r = 0; at < end; r += h_.row_count(node(at)), ++at) score_sparse(node(at), z_.data() + r);
        } else {
            score_({x_}, n_, {first, index}, rows, z_.data(), width_);
        }
        finish_scores(rows, index, first);
    }

    void score_node(std::size_t v) {
        if (sparse_)
            score_sparse(v, z_.data());
        else
            score_({x_}, n_, {h_.row(v)}, h_.row_count(v), z_.data(), width_);
        finish_scores(h_.row_count(v), nullptr, h_.row(v));
    }

    void score_sparse(std::size_t v, T* z) {
        if constexpr (std::is_same_v<T, float>) {
            sparse_->open(v, n_);
            for (std::size_t i = 0; i < n_; ++i) sparse_->logits(i, z + i * width_);
            sparse_->close();
        }
    }

    void finish_scores(std::size_t rows, const std::int32_t* index, std::size_t first) {
        for (std::size_t i = 0; i < n_; ++i) {
            T* z = z_.data() + i * width_;
            if (!in_.b.empty()) {
                for (std::size_t r = 0; r < rows; ++r) z[r] += in_.b[index ? ix(index[r]) : first + r];
            }
            if (in_.check_finite && k_.first_not_finite(z, rows) < rows) bad_.report(x_ + i);
            if (h_.logistic) k_.log_sigmoid(z, rows, log_p_.data() + 2 * i * width_, log_p_.data() + (2 * i + 1) * width_);
        }
    }

    void visit(std::size_t v, std::size_t r) {
        if (nodes_.data) {
            const double* top = stack_.data() + stack_.size() - n_;
            for (std::size_t i = 0; i < n_; ++i) nodes_.row(x_ + i)[v] = static_cast<T>(top[i]);
        }
        open_children(v, r, 0, true);
    }

    // Takes the node at the top off the stack, puts its inner children on it, and writes its leaves. Children before
    // `from` are passed over; with `write` false the child `from` is put on top whatever it is, and no leaf is written.
    void open_children(std::size_t v, std::size_t r, std::size_t from, bool write) {
        const auto children = h_.children(v);
        const std::size_t k = children.size();
        double above[example_block];
        std::copy(stack_.end() - static_cast<std::ptrdiff_t>(n_), stack_.end(), above);
        stack_.resize(stack_.size() - n_);
        if (!h_.logistic) {
            for (std::size_t i = 0; i < n_; ++i)
                detail::child_log_p(k_, h_, h_.row_count(v), z_.data() + i * width_ + r, log_p_.data() + 2 * i * width_);
        }
        for (std::size_t j = k; j-- > from;) {
            const std::int32_t c = children[j];
            for (std::size_t i = 0; i < n_; ++i) {
                const T* log_p = log_p_.data() + 2 * i * width_;
                const double value = above[i] + static_cast<double>(h_.logistic ? log_p[j * width_ + r] : log_p[j]);
                if (c >= 0)
                    stack_.push_back(value);
                else if (write && leaves_.data)
                    leaves_.row(x_ + i)[ix(~c)] = static_cast<T>(value);
            }
        }
    }

    const HierarchyView& h_;
    const HSoftmaxInput<T>& in_;
    const detail::Scorer<T>& score_;
    std::optional<detail::SparseScorer> sparse_;
    MatrixView<T> leaves_, nodes_;
    detail::FirstPlace& bad_;
    const detail::Kernels<T>& k_;
    std::size_t width_, x_ = 0, n_ = 0;
    std::vector<T> z_, log_p_;
    std::vector<double> stack_;
    std::vector<std::int32_t> index_;
};

template <Real T>
void walk_all(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<T> leaves, MatrixView<T> nodes, int num_threads) {
    require_input(h, in);
    if (h.nodes() == 0) {
        if (leaves.data) std::fill(leaves.data, leaves.data + leaves.size(), T(0));
        return;
    }
    const std::size_t ranges = (h.nodes() + node_range - 1) / node_range, blocks = (in.X.rows() + example_block - 1) / example_block;
    const int threads = detail::team_size(
        num_threads, static_cast<double>(in.X.rows()) * static_cast<double>(h.rows()) * (detail::entries_per_row(in.X) + 16));
    detail::FirstPlace bad;
    const detail::Scorer<T> scorer(h, in.X, in.W, threads);
    std::vector<TreeWalk<T>> walks(ix(std::max(1, threads)), TreeWalk<T>(h, in, scorer, leaves, nodes, bad));
    detail::parallel_for(ranges * blocks, threads, [&](std::size_t item, std::size_t worker) {
        const std::size_t x = item / ranges * example_block, from = item % ranges * node_range;
        walks[worker].run(x, std::min(example_block, in.X.rows() - x), from, std::min(h.nodes(), from + node_range));
    });
    detail::require_finite_logits(bad);
}

// log P(child | x) of all children of v, into log_p; false if a logit is not finite.
template <Real T>
bool child_log_proba(const HierarchyView& h, const HSoftmaxInput<T>& in, const detail::Scorer<T>& score, std::size_t x, std::size_t v, T* z,
                     T* log_p) {
    const auto& kernels = detail::kernels<T>();
    const std::size_t k = h.row_count(v), row = h.row(v);
    score.node(x, v, z);
    for (std::size_t j = 0; j < k && !in.b.empty(); ++j) z[j] += in.b[row + j];
    const bool finite = kernels.first_not_finite(z, k) == k;
    detail::child_log_p(kernels, h, k, z, log_p);
    return finite;
}

// The child at u in [0, 1) of the probabilities laid end to end: of their sum, which rounding keeps from 1, so that what is left
// over falls to nobody. A child of probability 0 is never drawn.
template <Real T>
std::size_t draw_child(std::span<const T> log_p, double u) {
    double total = 0;
    for (const T l : log_p) total += std::exp(static_cast<double>(l));
    const double at = u * total;
    std::size_t child = 0;
    double sum = 0;
    for (std::size_t j = 0; j < log_p.size() && (sum == 0 || at >= sum); ++j) {
        const double p = std::exp(static_cast<double>(log_p[j]));
        sum += p;
        if (p > 0) child = j;
    }
    return child;
}

}  // namespace

template <Real T>
void hsoftmax_log_proba(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<T> out, int num_threads) {
    detail::require_matrix("out", out, in.X.rows(), h.classes());
    walk_all(h, in, out, {}, num_threads);
}

template <Real T>
void hsoftmax_node_log_proba(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<T> out, int num_threads) {
    detail::require_matrix("out", out, in.X.rows(), h.nodes());
    walk_all(h, in, {}, out, num_threads);
}

template <Real T>
void hsoftmax_log_proba_of(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<const std::int64_t> classes, MatrixView<T> out,
                           int num_threads) {
    require_input(h, in);
    require(classes.rows == in.X.rows(), "classes must have one row a row of X, ", in.X.rows(), ", got ", classes.rows);
    detail::require_data("classes", classes.data, classes.size());
    detail::require_matrix("out", out, classes.rows, classes.cols);
    for (std::size_t i = 0; i < classes.size(); ++i) {
        const std::int64_t c = classes.data[i];
        require(c >= 0 && ix(c) < h.classes(), "classes must be in [0, ", h.classes(), "), got ", c, " at index ", i);
    }
    const int threads =
        detail::team_size(num_threads, static_cast<double>(classes.size()) * static_cast<double>(h.depth) * detail::entries_per_row(in.X));
    const std::size_t width = std::max<std::size_t>(h.widest, 2);
    detail::PerWorker<T> scratch(2 * width, threads);
    detail::FirstPlace bad;
    const detail::Scorer<T> scorer(h, in.X, in.W, threads);
    detail::parallel_for(classes.rows, threads, [&](std::size_t i, std::size_t worker) {
        T* z = scratch[worker];
        for (std::size_t j = 0; j < classes.cols; ++j) {
            const auto c = ix(classes.row(i)[j]);
            const auto nodes = h.path_nodes(c), steps = h.path_children(c);
            double sum = 0;
            for (std::size_t d = 0; d < nodes.size(); ++d) {
                if (!child_log_proba(h, in, scorer, i, ix(nodes[d]), z, z + width) && in.check_finite) bad.report(i);
                sum += static_cast<double>(z[width + ix(steps[d])]);
            }
            out.row(i)[j] = static_cast<T>(sum);
        }
    });
    detail::require_finite_logits(bad);
}

template <Real T>
void hsoftmax_sample(const HierarchyView& h, const HSoftmaxInput<T>& in, std::uint64_t seed, MatrixView<std::int64_t> out,
                     int num_threads) {
    require(!h.independent, "h must have logistic or softmax nodes for samples, got independent nodes, which make no one distribution");
    require_input(h, in);
    require(out.rows == in.X.rows(), "out must have one row a row of X, ", in.X.rows(), ", got ", out.rows);
    detail::require_data("out", out.data, out.size());
    const int threads =
        detail::team_size(num_threads, static_cast<double>(out.size()) * static_cast<double>(h.depth) * detail::entries_per_row(in.X));
    const std::size_t width = std::max<std::size_t>(h.widest, 2);
    detail::PerWorker<T> scratch(2 * width, threads);
    detail::FirstPlace bad;
    const detail::Scorer<T> scorer(h, in.X, in.W, threads);
    detail::parallel_for(out.rows, threads, [&](std::size_t i, std::size_t worker) {
        T* z = scratch[worker];
        const T* log_p = z + width;
        for (std::size_t m = 0; m < out.cols; ++m) {
            std::int32_t at = h.nodes() ? h.preorder[0] : ~0;
            detail::PhiloxBlock words{};
            for (std::uint64_t depth = 0; at >= 0; ++depth) {  // two words per step, two steps per block
                if (depth % 2 == 0)
                    words =
                        detail::philox(seed, i * out.cols + m, (static_cast<std::uint64_t>(detail::Stream::sample) << 56) | (depth / 2));
                const double u = detail::unit_double(words[2 * (depth % 2)], words[2 * (depth % 2) + 1]);
                const auto children = h.children(ix(at));
                if (!child_log_proba(h, in, scorer, i, ix(at), z, z + width) && in.check_finite) bad.report(i);
                at = children[draw_child(std::span<const T>(log_p, children.size()), u)];
            }
            out.row(i)[m] = ~at;
        }
    });
    detail::require_finite_logits(bad);
}

template void hsoftmax_log_proba(const HierarchyView&, const HSoftmaxInput<float>&, MatrixView<float>, int);
template void hsoftmax_log_proba(const HierarchyView&, const HSoftmaxInput<double>&, MatrixView<double>, int);
template void hsoftmax_log_proba_of(const HierarchyView&, const HSoftmaxInput<float>&, MatrixView<const std::int64_t>, MatrixView<float>,
                                    int);
template void hsoftmax_log_proba_of(const HierarchyView&, const HSoftmaxInput<double>&, MatrixView<const std::int64_t>, MatrixView<double>,
                                    int);
template void hsoftmax_node_log_proba(const HierarchyView&, const HSoftmaxInput<float>&, MatrixView<float>, int);
template void hsoftmax_node_log_proba(const HierarchyView&, const HSoftmaxInput<double>&, MatrixView<double>, int);
template void hsoftmax_sample(const HierarchyView&, const HSoftmaxInput<float>&, std::uint64_t, MatrixView<std::int64_t>, int);
template void hsoftmax_sample(const HierarchyView&, const HSoftmaxInput<double>&, std::uint64_t, MatrixView<std::int64_t>, int);

}  // namespace sparseops
