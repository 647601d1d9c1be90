// SPDX-License-Identifier: BSD-3-Clause
#include "bag.hpp"

#include <algorithm>
#include <functional>
#include <iterator>
#include <limits>
#include <optional>
#include <type_traits>
#include <vector>

#include "bag/bags.hpp"
#include "bag/rows.hpp"
#include "detail/csr.hpp"
#include "detail/index.hpp"
#include "detail/parallel.hpp"
#include "detail/random.hpp"
#include "detail/require.hpp"
#include "kernels/kernels.hpp"
#include "update/steps.hpp"

namespace sparseops {
namespace {

using detail::Bags;
using detail::ByFeature;
using detail::ix;
using detail::require;

template <class Table>
constexpr bool in_halves = std::is_same_v<Table, HalfView>;

constexpr std::size_t example_block = 32;
constexpr std::size_t feature_block = 32;
constexpr std::size_t prefetch_distance = 4;  // in rows of E

template <Real T, Index I>
void require_bags(CsrView<const T, I> X, std::size_t features) {
    detail::require_csr(X, "X");
    require(X.cols == features, "X must have ", features, " columns, got ", X.cols);
    require(features < (std::size_t{1} << 31), "X must have fewer than 2**31 columns, got ", features);
    for (std::size_t j = 0; j < ix(X.indptr.back()); ++j) {
        require(X.indices[j] >= 0 && ix(X.indices[j]) < features, "X.indices must be in [0, ", features, "), got ", X.indices[j],
                " at index ", j);
    }
    const std::size_t bad = detail::kernels<T>().first_not_finite(X.data.data(), X.data.size());
    require(bad == X.data.size(), "X must be finite, got ", bad < X.data.size() ? X.data[bad] : T(0), " at stored value ", bad);
}

// `E`: RowSums or HalfSums.
template <Real T, class Sums>
void sum_bags(const Bags<T>& bags, const Sums& E, T* out, int num_threads) {
    const std::size_t n = bags.start.size() - 1, dim = E.cols();
    const int threads = detail::team_size(num_threads, static_cast<double>(bags.feature.size()) * static_cast<double>(dim + 32));
    detail::parallel_for((n + example_block - 1) / example_block, threads, [&](std::size_t block, std::size_t) {
        for (std::size_t i = block * example_block; i < std::min(n, (block + 1) * example_block); ++i) {
            const std::size_t from = bags.start[i];
            for (std::size_t j = bags.start[i + 1]; i + 1 < n && j < bags.start[i + 2]; ++j) E.prefetch(ix(bags.feature[j]));
            E.sum(bags.weight.data() + from, bags.feature.data() + from, bags.start[i + 1] - from, out + i * dim);
        }
    });
}

// Of no row of E is the gradient larger than what all bags weigh, each times its own.
template <Real T>
void require_room(const Bags<T>& bags, const std::vector<T>& d_hidden, const Optimizer<T>& optimizer, std::size_t dim) {
    const auto bound = [&](const auto& largest) {
        double gradient = 0;
        for (std::size_t i = 0; i + 1 < bags.start.size(); ++i) {
            double weights = 0;
            for (std::size_t j = bags.start[i]; j < bags.start[i + 1]; ++j) weights += std::abs(static_cast<double>(bags.weight[j]));
            if (weights > 0) gradient += weights * static_cast<double>(largest(d_hidden.data() + i * dim, dim));
        }
        return gradient;
    };
    if (has_room_for(optimizer, bound(norm_bound<T>), dim)) return;
    const double gradient = bound(largest_magnitude<T>);
    require(has_room_for(optimizer, gradient, dim), "X, W and sample_weight must keep gradients of E and their squares within float",
            8 * sizeof(T), ", got gradients of up to ", gradient);
}

// Steps every row of E that the minibatch uses, by the gradient Σ weight · d_hidden[example]. `E`: RowSteps or HalfSteps.
template <Real T, class Steps>
void step_embedding(const ByFeature<T>& by, const std::vector<T>& d_hidden, std::size_t dim, const Steps& E, int num_threads,
                    detail::PerWorker<T>& gradient) {
    const std::size_t used = by.first.size() - 1;
    const auto& k = detail::kernels<T>();
    const int threads = detail::team_size(num_threads, static_cast<double>(by.entries.size() + 3 * used) * static_cast<double>(dim));
    detail::parallel_for((used + feature_block - 1) / feature_block, threads, [&](std::size_t block, std::size_t worker) {
        T* grad = gradient[worker];
        for (std::size_t u = block * feature_block; u < std::min(used, (block + 1) * feature_block); ++u) {
            const std::size_t from = by.first[u];
            if (u + prefetch_distance < used) E.prefetch(ix(by.entries[by.first[u + prefetch_distance]].feature));
            k.weighted_sum(by.weight.data() + from, 1, {d_hidden.data(), dim, by.example.data() + from}, by.first[u + 1] - from, dim, false,
                           grad);
            E.step(ix(by.entries[from].feature), grad);
        }
    });
}

template <Real T>
void require_training(const HierarchyView& h, std::size_t examples, std::span<const std::int64_t> labels, std::span<const T> weight,
                      std::span<const std::int64_t> order, const BagSchedule& s) {
    require(labels.size() == examples, "labels must have one entry a row of X, ", examples, ", got ", labels.size());
    require(weight.empty() || weight.size() == examples, "sample_weight must have ", examples, " entries, got ", weight.size());
    detail::require_data("labels", labels);
    detail::require_data("sample_weight", weight);
    detail::require_data("order", order);
    for (std::size_t i = 0; s.check_input && i < labels.size(); ++i) {
        require(labels[i] >= 0 && ix(labels[i]) < h.classes(), "labels must be in [0, ", h.classes(), "), got ", labels[i], " at index ",
                i);
    }
    for (std::size_t i = 0; i < order.size(); ++i) {
        require(order[i] >= 0 && ix(order[i]) < examples, "order must be in [0, ", examples, "), got ", order[i], " at index ", i);
    }
    require(s.batch_size >= 1, "batch_size must be at least 1, got ", s.batch_size);
    require(s.total >= 1, "total must be at least 1, got ", s.total);
    require(s.place.empty() || s.place.size() == examples, "place must have one entry a row of X, ", examples, ", got ", s.place.size());
    detail::require_data("place", s.place);
}

// The part of a step that does not depend on E, W and b: it may be computed before the steps before it.
template <Real T>
struct Prepared {
    std::span<const std::int64_t> examples;
    std::vector<std::int64_t> label;
    std::vector<T> weight;
    std::optional<HSoftmaxPlan> plan;
    Bags<T> bags;
    ByFeature<T> by;

    // Leaves the examples that pass a piece, in the order in which the whole tree sums.
    void select(std::span<const std::int64_t> place) {
        passing_.clear();
        std::copy_if(examples.begin(), examples.end(), std::back_inserter(passing_), [&](std::int64_t i) { return place[ix(i)] >= 0; });
        std::stable_sort(passing_.begin(), passing_.end(), [&](std::int64_t i, std::int64_t j) { return place[ix(i)] < place[ix(j)]; });
        examples = passing_;
    }

    void plan_for(const HierarchyView& h, std::span<const std::int64_t> labels, std::span<const T> weights) {
        label.resize(examples.size());
        weight.resize(weights.empty() ? 0 : examples.size());
        for (std::size_t i = 0; i < examples.size(); ++i) {
            label[i] = labels[ix(examples[i])];
            if (!weights.empty()) weight[i] = weights[ix(examples[i])];
        }
        plan.emplace(h, label);
    }

private:
    std::vector<std::int64_t> passing_;
};

// The step that both models share: hidden rows in, their gradient and the loss out, W and b stepped.
template <Real T, class Table>
class TreeStep {
public:
    TreeStep(const Table& W, std::span<T> b, Optimizer<T>& optimizer, const BagSchedule& schedule, int num_threads)
        : W_(W),
          b_(b),
          optimizer_(optimizer),
          lr_(optimizer.lr),
          label_smoothing_(schedule.label_smoothing),
          seed_(schedule.seed),
          num_threads_(num_threads) {}
    ~TreeStep() { optimizer_.lr = lr_; }
    TreeStep(const TreeStep&) = delete;
    TreeStep& operator=(const TreeStep&) = delete;

    std::vector<T> hidden, d_hidden;

    void resize(std::size_t n) {
        hidden.resize(n * W_.cols);
        d_hidden.resize(n * W_.cols);
        nll_.resize(n);
    }

    // `ready`: a check that may throw, once d_hidden is there and before anything is written.
    double run(const Prepared<T>& batch, double factor, const std::function<void()>& ready = {}) {
        const std::size_t n = batch.examples.size();
        const HSoftmaxInput<T> in{.X = {hidden.data(), n, W_.cols},
                                  .W = detail::weights_of(W_),
                                  .b = b_,
                                  .sample_weight = batch.weight,
                                  .label_smoothing = label_smoothing_};
        optimizer_.lr = lr_ * factor;
        detail::update_tree(*batch.plan, in, W_, b_, optimizer_, seed_, std::span<T>(nll_), {d_hidden.data(), n, W_.cols}, ready,
                            num_threads_);
        ++optimizer_.step;
        double sum = 0;
        for (const T v : nll_) sum += static_cast<double>(v);
        return sum;
    }

private:
    Table W_;
    std::span<T> b_;
    Optimizer<T>& optimizer_;
    double lr_, label_smoothing_;
    std::uint64_t seed_;
    int num_threads_;
    std::vector<T> nll_;
};

// For every minibatch: prepare(Prepared), several at a time on several threads; then, in their order, step(Prepared, learning rate
// factor). Returns the sum of what step returns. `work`: of preparing one example.
template <Real T, class Prepare, class Step>
double each_batch(std::span<const std::int64_t> order, const BagSchedule& s, int num_threads, double work, Prepare prepare, Step step) {
    constexpr std::size_t cached_examples = 2048;  // prepared at once: they stay in the caches
    constexpr std::size_t max_examples = 65536;    // the same where many threads prepare large minibatches: bounds memory
    const auto size = std::max<std::size_t>(1, std::min(s.batch_size, order.size())), all = (order.size() + size - 1) / size;
    const int threads = detail::team_size(num_threads, work * static_cast<double>(order.size()));
    const std::size_t wanted = std::max(cached_examples / size, ix(threads));
    std::vector<Prepared<T>> batches(threads > 1 ? std::clamp<std::size_t>(wanted, 1, std::max<std::size_t>(1, max_examples / size)) : 1);
    double sum = 0;
    for (std::size_t from = 0; from < all; from += batches.size()) {
        const std::size_t n = std::min(batches.size(), all - from);
        detail::parallel_for(n, threads, [&](std::size_t i, std::size_t) {
            const std::size_t at = (from + i) * size;
            batches[i].examples = order.subspan(at, std::min(size, order.size() - at));
            prepare(batches[i]);
        });
        for (std::size_t i = 0; i < n; ++i) {
            const double progress =
                static_cast<double>(s.done + static_cast<std::int64_t>((from + i) * size)) / static_cast<double>(s.total);
            sum += step(batches[i], 1 - s.decay * std::min(1.0, progress));
        }
    }
    return sum;
}

template <Real T, Index I, class Sums>
void embed(CsrView<const T, I> X, const Sums& E, BagMode mode, MatrixView<T> out, int num_threads) {
    constexpr std::size_t row_block = 4096;  // bags laid out at once
    Bags<T> bags;
    for (std::size_t from = 0; from < X.rows(); from += row_block) {
        bags.fill(X, std::min(row_block, X.rows() - from), mode, [&](std::size_t i) { return from + i; });
        sum_bags(bags, E, out.row(from), num_threads);
    }
}

// Table: MatrixView<T> or HalfView.
template <Real T, Index I, class Table>
double train_bags(const HierarchyView& h, CsrView<const T, I> X, std::span<const std::int64_t> labels, std::span<const T> sample_weight,
                  std::span<const std::int64_t> order, BagMode mode, const Table& E, const Table& W, std::span<T> b,
                  Optimizer<T>& E_optimizer, Optimizer<T>& W_optimizer, const BagSchedule& schedule, int num_threads) {
    if (schedule.check_input) require_bags(X, E.rows);
    require_training(h, X.rows(), labels, sample_weight, order, schedule);
    detail::require_rows("E", E, E.rows, E.cols);
    detail::require_rows("W", W, h.rows(), E.cols);
    require_optimizer(E_optimizer, E.rows, E.cols, false, in_halves<Table>);
    require_optimizer(W_optimizer, W.rows, W.cols, !b.empty(), in_halves<Table>);
    num_threads = detail::team_size(num_threads, std::numeric_limits<double>::infinity());  // settled once: what is set may change
    TreeStep<T, Table> tree(W, b, W_optimizer, schedule, num_threads);
    require(schedule.dropout >= 0 && schedule.dropout <= 1, "dropout must be in [0, 1], got ", schedule.dropout);
    require(schedule.replacement < static_cast<std::int64_t>(E.rows), "replacement must be below ", E.rows, ", got ", schedule.replacement);
    const Drops drops{schedule.seed, 0, schedule.dropout, DropPurpose::ids, schedule.epoch};
    detail::PerWorker<T> gradient(E.cols, num_threads);
    const double lr = E_optimizer.lr;
    const auto prepare = [&](Prepared<T>& batch) {
        const auto row = [&](std::size_t i) { return ix(batch.examples[i]); };
        batch.bags.fill(X, batch.examples.size(), mode, row, drops, schedule.replacement);
        batch.by.invert(batch.bags, E.rows);
        batch.plan_for(h, labels, sample_weight);
    };
    const auto step = [&](const Prepared<T>& batch, double factor) {
        tree.resize(batch.examples.size());
        sum_bags(batch.bags, detail::sums_of(E), tree.hidden.data(), num_threads);
        E_optimizer.lr = lr * factor;
        const double nll = tree.run(batch, factor, [&] { require_room(batch.bags, tree.d_hidden, E_optimizer, E.cols); });
        step_embedding(batch.by, tree.d_hidden, E.cols, detail::steps_of(E, E_optimizer, schedule.seed), num_threads, gradient);
        ++E_optimizer.step;
        return nll;
    };
    const double entries = static_cast<double>(X.indptr.back()) / static_cast<double>(std::max<std::size_t>(1, X.rows()));
    const double sum = each_batch<T>(order, schedule, num_threads, 64 * (entries + 4), prepare, step);
    E_optimizer.lr = lr;
    return sum;
}

template <Real T, class Table>
double train_dense(const HierarchyView& h, MatrixView<const T> X, std::span<const std::int64_t> labels, std::span<const T> sample_weight,
                   std::span<const std::int64_t> order, const Table& W, std::span<T> b, Optimizer<T>& W_optimizer,
                   const BagSchedule& schedule, int num_threads) {
    require_training(h, X.rows, labels, sample_weight, order, schedule);
    require(X.cols == W.cols, "X must have ", W.cols, " columns, got ", X.cols);
    detail::require_data("X", X.data, X.size());
    detail::require_rows("W", W, h.rows(), X.cols);
    require_optimizer(W_optimizer, W.rows, W.cols, !b.empty(), in_halves<Table>);
    TreeStep<T, Table> tree(W, b, W_optimizer, schedule, num_threads);
    const auto prepare = [&](Prepared<T>& batch) {
        if (!schedule.place.empty()) batch.select(schedule.place);
        batch.plan_for(h, labels, sample_weight);
    };
    const auto step = [&](const Prepared<T>& batch, double factor) {
        tree.resize(batch.examples.size());
        for (std::size_t i = 0; i < batch.examples.size(); ++i) {
            std::copy_n(X.row(ix(batch.examples[i])), X.cols, tree.hidden.data() + i * X.cols);
        }
        return tree.run(batch, factor);
    };
    return each_batch<T>(order, schedule, num_threads, 256, prepare, step);
}

}  // namespace

template <Real T, Index I>
void embedding_bag(CsrView<const T, I> X, MatrixView<const T> E, BagMode mode, MatrixView<T> out, int num_threads) {
    require_bags(X, E.rows);
    detail::require_data("E", E.data, E.size());
    detail::require_matrix("out", out, X.rows(), E.cols);
    embed(X, detail::RowSums<T>(E), mode, out, num_threads);
}

template <Index I>
void embedding_bag(CsrView<const float, I> X, const QuantizedView& E, BagMode mode, MatrixView<float> out, int num_threads) {
    detail::require_rows("E", E, E.rows, E.cols);
    require_bags(X, E.rows);
    detail::require_matrix("out", out, X.rows(), E.cols);
    embed(X, detail::HalfSums(E), mode, out, num_threads);
}

template <Real T, Index I>
double bag_train(const HierarchyView& h, CsrView<const T, I> X, std::span<const std::int64_t> labels, std::span<const T> sample_weight,
                 std::span<const std::int64_t> order, BagMode mode, MatrixView<T> E, MatrixView<T> W, std::span<T> b,
                 Optimizer<T>& E_optimizer, Optimizer<T>& W_optimizer, const BagSchedule& schedule, int num_threads) {
    return train_bags(h, X, labels, sample_weight, order, mode, E, W, b, E_optimizer, W_optimizer, schedule, num_threads);
}

template <Index I>
double bag_train(const HierarchyView& h, CsrView<const float, I> X, std::span<const std::int64_t> labels,
                 std::span<const float> sample_weight, std::span<const std::int64_t> order, BagMode mode, const HalfView& E,
                 const HalfView& W, std::span<float> b, Optimizer<float>& E_optimizer, Optimizer<float>& W_optimizer,
                 const BagSchedule& schedule, int num_threads) {
    return train_bags(h, X, labels, sample_weight, order, mode, E, W, b, E_optimizer, W_optimizer, schedule, num_threads);
}

template <Real T>
double dense_train(const HierarchyView& h, MatrixView<const T> X, std::span<const std::int64_t> labels, std::span<const T> sample_weight,
                   std::span<const std::int64_t> order, MatrixView<T> W, std::span<T> b, Optimizer<T>& W_optimizer,
                   const BagSchedule& schedule, int num_threads) {
    return train_dense(h, X, labels, sample_weight, order, W, b, W_optimizer, schedule, num_threads);
}

double dense_train(const HierarchyView& h, MatrixView<const float> X, std::span<const std::int64_t> labels,
                   std::span<const float> sample_weight, std::span<const std::int64_t> order, const HalfView& W, std::span<float> b,
                   Optimizer<float>& W_optimizer, const BagSchedule& schedule, int num_threads) {
    return train_dense(h, X, labels, sample_weight, order, W, b, W_optimizer, schedule, num_threads);
}

template void embedding_bag(CsrView<const float, std::int32_t>, MatrixView<const float>, BagMode, MatrixView<float>, int);
template void embedding_bag(CsrView<const float, std::int64_t>, MatrixView<const float>, BagMode, MatrixView<float>, int);
template void embedding_bag(CsrView<const double, std::int32_t>, MatrixView<const double>, BagMode, MatrixView<double>, int);
template void embedding_bag(CsrView<const double, std::int64_t>, MatrixView<const double>, BagMode, MatrixView<double>, int);
template double bag_train(const HierarchyView&, CsrView<const float, std::int32_t>, std::span<const std::int64_t>, std::span<const float>,
                          std::span<const std::int64_t>, BagMode, MatrixView<float>, MatrixView<float>, std::span<float>, Optimizer<float>&,
                          Optimizer<float>&, const BagSchedule&, int);
template double bag_train(const HierarchyView&, CsrView<const float, std::int64_t>, std::span<const std::int64_t>, std::span<const float>,
                          std::span<const std::int64_t>, BagMode, MatrixView<float>, MatrixView<float>, std::span<float>, Optimizer<float>&,
                          Optimizer<float>&, const BagSchedule&, int);
template double bag_train(const HierarchyView&, CsrView<const double, std::int32_t>, std::span<const std::int64_t>, std::span<const double>,
                          std::span<const std::int64_t>, BagMode, MatrixView<double>, MatrixView<double>, std::span<double>,
                          Optimizer<double>&, Optimizer<double>&, const BagSchedule&, int);
template double bag_train(const HierarchyView&, CsrView<const double, std::int64_t>, std::span<const std::int64_t>, std::span<const double>,
                          std::span<const std::int64_t>, BagMode, MatrixView<double>, MatrixView<double>, std::span<double>,
                          Optimizer<double>&, Optimizer<double>&, const BagSchedule&, int);
template double dense_train(const HierarchyView&, MatrixView<const float>, std::span<const std::int64_t>, std::span<const float>,
                            std::span<const std::int64_t>, MatrixView<float>, std::span<float>, Optimizer<float>&, const BagSchedule&, int);
template double dense_train(const HierarchyView&, MatrixView<const double>, std::span<const std::int64_t>, std::span<const double>,
                            std::span<const std::int64_t>, MatrixView<double>, std::span<double>, Optimizer<double>&, const BagSchedule&,
                            int);

template void embedding_bag(CsrView<const float, std::int32_t>, const QuantizedView&, BagMode, MatrixView<float>, int);
template void embedding_bag(CsrView<const float, std::int64_t>, const QuantizedView&, BagMode, MatrixView<float>, int);
template double bag_train(const HierarchyView&, CsrView<const float, std::int32_t>, std::span<const std::int64_t>, std::span<const float>,
                          std::span<const std::int64_t>, BagMode, const HalfView&, const HalfView&, std::span<float>, Optimizer<float>&,
                          Optimizer<float>&, const BagSchedule&, int);
template double bag_train(const HierarchyView&, CsrView<const float, std::int64_t>, std::span<const std::int64_t>, std::span<const float>,
                          std::span<const std::int64_t>, BagMode, const HalfView&, const HalfView&, std::span<float>, Optimizer<float>&,
                          Optimizer<float>&, const BagSchedule&, int);

}  // namespace sparseops
