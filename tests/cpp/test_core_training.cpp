// SPDX-License-Identifier: BSD-3-Clause
// Optimiser steps and training.
#include <cmath>
#include <functional>
#include <limits>

#include <sparseops/bag.hpp>
#include <sparseops/detail/random.hpp>
#include <sparseops/update.hpp>
#include <sparseops/update/steps.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

constexpr Method methods[] = {Method::sgd, Method::adagrad, Method::rowwise_adagrad, Method::adam};

// Parameters of R rows with their optimiser's state.
template <class T>
struct Trained {
    std::vector<T> W, b, first, second, b_first, b_second;
    std::size_t rows, cols;
    Optimizer<T> optimizer;

    Trained(std::size_t r, std::size_t c, Method method, std::uint64_t seed) : rows(r), cols(c) {
        Random random(seed);
        W = random.vector<T>(r * c);
        b = random.vector<T>(r);
        first = random.vector<T>(method == Method::rowwise_adagrad ? r : r * c, 0.1, 1);
        second = random.vector<T>(r * c, 0.1, 1);
        b_first = random.vector<T>(r, 0.1, 1);
        b_second = random.vector<T>(r, 0.1, 1);
        optimizer.method = method;
        optimizer.lr = 0.05, optimizer.weight_decay = 0.01, optimizer.eps = 1e-4, optimizer.beta1 = 0.9, optimizer.beta2 = 0.99,
        optimizer.step = 3;
        bind();
    }
    Trained(const Trained& o)
        : W(o.W),
          b(o.b),
          first(o.first),
          second(o.second),
          b_first(o.b_first),
          b_second(o.b_second),
          rows(o.rows),
          cols(o.cols),
          optimizer(o.optimizer) {
        bind();
    }
    Trained& operator=(const Trained&) = delete;

    void bind() {
        optimizer.first = {first.data(), rows, first.size() / rows};
        optimizer.second = {second.data(), rows, cols};
        optimizer.b_first = b_first;
        optimizer.b_second = b_second;
    }
    MatrixView<T> view() { return {W.data(), rows, cols}; }
    bool operator==(const Trained& o) const {
        return same_bytes(W, o.W) && same_bytes(b, o.b) && same_bytes(first, o.first) && same_bytes(second, o.second) &&
               same_bytes(b_first, o.b_first) && same_bytes(b_second, o.b_second) && optimizer.step == o.optimizer.step;
    }
};

// The formulas of update.hpp in double, one row; 64 eps covers their dozen roundings on numbers of size 1.
void test_formulas() {
    Random random(14);
    const std::size_t n = 21;
    for (const Method method : methods) {
        Trained<double> t(3, n, method, 15);
        const Trained<double> before = t;
        const auto grad = random.vector<double>(n);
        auto used = grad;
        step_row(t.optimizer, 1, used.data(), t.W.data() + n, n);
        step_bias(t.optimizer, 1, 0.3, t.b.data());
        const Optimizer<double>& o = before.optimizer;
        double mean_square = 0;
        for (std::size_t i = 0; i < n; ++i) mean_square += std::pow(grad[i] + o.weight_decay * before.W[n + i], 2) / static_cast<double>(n);
        const auto stepped = [&](double g, double w, double s, double v) {
            const double m_new = o.beta1 * s + (1 - o.beta1) * g, v_new = o.beta2 * v + (1 - o.beta2) * g * g;
            switch (method) {
            case Method::sgd:
                return w - o.lr * g;
            case Method::adagrad:
                return w - o.lr * g / (std::sqrt(s + g * g) + o.eps);
            case Method::rowwise_adagrad:
                return w - o.lr * g / (std::sqrt(s + mean_square) + o.eps);
            case Method::adam:
                break;
            }
            const double m_hat = m_new / (1 - std::pow(o.beta1, 3)), v_hat = v_new / (1 - std::pow(o.beta2, 3));
            return w - o.lr * m_hat / (std::sqrt(v_hat) + o.eps);
        };
        for (std::size_t i = 0; i < n; ++i) {
            const double w = before.W[n + i], s = method == Method::rowwise_adagrad ? before.first[1] : before.first[n + i];
            const double exact = stepped(grad[i] + o.weight_decay * w, w, s, before.second[n + i]);
            check(std::fabs(t.W[n + i] - exact) <= 64 * 0x1p-52, "method ", static_cast<int>(method), " should follow its formula, ", exact,
                  " got ", t.W[n + i]);
        }
        mean_square = 0.09;
        check(std::fabs(t.b[1] - stepped(0.3, before.b[1], before.b_first[1], before.b_second[1])) <= 64 * 0x1p-52,
              "biases should follow the formula, without decay");
        auto others = t;
        for (std::size_t i = 0; i < n; ++i) others.W[n + i] = before.W[n + i], others.second[n + i] = before.second[n + i];
        others.first = before.first, others.b[1] = before.b[1], others.b_first[1] = before.b_first[1],
        others.b_second[1] = before.b_second[1];
        check(others == before, "a step should leave the other rows alone");
    }
}

template <class T>
void test_update_is_gradient_and_step() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        if (h.rows() == 0) continue;
        const Problem<T> p(h, 40, 17, 16);
        const HSoftmaxPlan plan(h, p.labels);
        std::vector<std::int64_t> rows(plan.touched_rows());
        plan.write_rows(rows);
        for (const Method method : methods) {
            Trained<T> fused(h.rows(), p.dim, method, 17), apart = fused, listed = fused;
            std::vector<T> nll(p.n), dX(p.n * p.dim), nll2(p.n), dX2(p.n * p.dim), dW(rows.size() * p.dim), db(rows.size());
            const auto input = [&](Trained<T>& t) {
                auto in = p.input();
                in.W = t.view(), in.b = t.b, in.sample_weight = p.weight;
                return in;
            };
            hsoftmax_update<T>(plan, input(fused), fused.view(), fused.b, fused.optimizer, nll, {dX.data(), p.n, p.dim});
            hsoftmax_gradient<T>(plan, input(apart), nll2, {dX2.data(), p.n, p.dim}, {dW.data(), rows.size(), p.dim}, db);
            step_rows<T>(rows, {dW.data(), rows.size(), p.dim}, db, listed.view(), listed.b, listed.optimizer);
            for (std::size_t slot = 0; slot < rows.size(); ++slot) {
                const auto row = static_cast<std::size_t>(rows[slot]);
                step_row(apart.optimizer, row, dW.data() + slot * p.dim, apart.W.data() + row * p.dim, p.dim);
                step_bias(apart.optimizer, row, db[slot], apart.b.data());
            }
            check(fused == apart && same_bytes(nll, nll2) && same_bytes(dX, dX2), name,
                  ": the update should be the gradient and a step, method ", static_cast<int>(method));
            check(fused == listed, name, ": the step on rows should be that of each, method ", static_cast<int>(method));
        }
    }
}

// Rows in any order, and named more than once: as the sums of their entries. Without names: all of them.
template <class T>
void test_step_on_rows_in_any_order() {
    const std::size_t rows = 70, n = 19, entries = 200;
    Random random(31);
    const auto dW = random.vector<T>(entries * n);
    const auto db = random.vector<T>(entries);
    std::vector<std::int64_t> named(entries), all(rows);
    for (auto& row : named) row = static_cast<std::int64_t>(random.below(rows));
    std::vector<T> sums(rows * n, T(0)), b_sums(rows, T(0));
    std::vector<std::uint8_t> met(rows, 0);
    for (std::size_t i = 0; i < entries; ++i) {
        const auto row = static_cast<std::size_t>(named[i]);
        for (std::size_t j = 0; j < n; ++j) sums[row * n + j] = met[row] ? sums[row * n + j] + dW[i * n + j] : dW[i * n + j];
        b_sums[row] += db[i];
        met[row] = 1;
    }
    for (const Method method : methods) {
        const Trained<T> start(rows, n, method, 32);
        Trained<T> listed = start, each = start, whole = start, same = start;
        step_rows<T>(named, {dW.data(), entries, n}, db, listed.view(), listed.b, listed.optimizer, 2);
        for (std::size_t r = 0; r < rows; ++r) {
            all[r] = static_cast<std::int64_t>(r);
            if (!met[r]) continue;
            auto grad = sums;
            step_row<T>(each.optimizer, r, grad.data() + r * n, each.W.data() + r * n, n);
            step_bias<T>(each.optimizer, r, b_sums[r], each.b.data());
        }
        check(listed == each, "entries of a row should be summed, method ", static_cast<int>(method));
        step_rows<T>({}, {dW.data(), rows, n}, std::span(db).first(rows), whole.view(), whole.b, whole.optimizer);
        step_rows<T>(all, {dW.data(), rows, n}, std::span(db).first(rows), same.view(), same.b, same.optimizer);
        check(whole == same, "no rows should be all rows, method ", static_cast<int>(method));
    }
    Trained<T> t(rows, n, Method::adam, 33);
    const Trained<T> before = t;
    const auto refused = [&](const std::string& text, std::vector<std::int64_t> at, T first, T bias) {
        auto grad = dW;
        auto b_grad = db;
        grad[0] = first, b_grad[1] = bias;
        const std::size_t count = at.size();
        check_refused(
            text, [&] { step_rows<T>(at, {grad.data(), count, n}, std::span<const T>(b_grad).first(count), t.view(), t.b, t.optimizer); });
        check(t == before, "after '", text, "' the parameters and their state should be as they were");
    };
    const T inf = std::numeric_limits<T>::infinity(), huge = std::numeric_limits<T>::max();
    refused("rows must be in [0, 70), got 70 at index 1", {3, 70}, 1, 1);
    refused("rows must be in [0, 70), got -1 at index 0", {-1, 3}, 1, 1);
    refused("grad must be finite, got inf at row 0, column 0", {5, 3}, inf, 1);
    refused("grad of b must be finite, got -inf at index 1", {5, 3}, 1, -inf);
    refused(sizeof(T) == 4 ? "grad must keep its sums and their squares within float32, got entries of up to 3.40282347e+38"
                           : "grad must keep its sums and their squares within float64, got entries of up to 1.79769313e+308",
            {5, 3}, huge, 1);
}

// A bound that is too low would let a batch through that has no room.
template <class T>
void test_norm_bound() {
    const T tiny = std::numeric_limits<T>::denorm_min(), root = std::sqrt(std::numeric_limits<T>::min()),
            huge = std::numeric_limits<T>::max(), inf = std::numeric_limits<T>::infinity();
    for (const T entry : {T(0), tiny, root / 2, root, T(1e-3), T(1), T(1e10), huge, inf}) {
        std::vector<T> x(37, entry / 2);
        x[30] = -entry;
        check(norm_bound(x.data(), x.size()) >= static_cast<double>(largest_magnitude(x.data(), x.size())), "the norm of entries of ",
              entry, " should bound them");
    }
    const T none[] = {1, std::numeric_limits<T>::quiet_NaN(), 1};
    check(std::isnan(norm_bound(none, 3)), "NaN should stay NaN");
}

void test_update_refusals() {
    const Hierarchy tree = huffman(zipf(9));
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    Problem<double> p(h, 4, 3, 18);
    const HSoftmaxPlan plan(h, p.labels);
    std::vector<double> nll(4), dX(12);
    const auto refused = [&](const std::string& text, const std::function<void(Optimizer<double>&)>& change) {
        Trained<double> t(h.rows(), 3, Method::adam, 19);
        const Trained<double> before = t;
        Optimizer<double> o = t.optimizer;
        change(o);
        auto in = p.input();
        in.W = t.view(), in.b = t.b;
        check_refused(text, [&] { hsoftmax_update<double>(plan, in, t.view(), t.b, o, nll, {dX.data(), 4, 3}); });
        check(t == before, "after '", text, "' the parameters and their state should be as they were");
    };
    refused("lr must be finite in W's type and non-negative, got -1", [](auto& o) { o.lr = -1; });
    refused("weight_decay must be finite in W's type and non-negative, got nan", [](auto& o) { o.weight_decay = std::nan(""); });
    refused("eps must be finite in W's type and non-negative, got inf", [](auto& o) { o.eps = std::numeric_limits<double>::infinity(); });
    refused("betas must be in [0, 1), got 1 and 0.99", [](auto& o) { o.beta1 = 1; });
    refused("step must be at least 1, got 0", [](auto& o) { o.step = 0; });
    refused("optimizer must have state of shape (8, 3), got (8, 1)", [](auto& o) { o.first.cols = 1; });
    refused("optimizer must have bias state of 8 entries, got 2", [](auto& o) { o.b_second = o.b_second.first(2); });
    Trained<double> t(h.rows(), 3, Method::adagrad, 20);
    std::fill(t.W.begin(), t.W.end(), std::numeric_limits<double>::infinity());
    const Trained<double> before = t;
    auto in = p.input();
    in.W = t.view(), in.b = t.b;
    bool thrown = false;
    try {
        hsoftmax_update<double>(plan, in, t.view(), t.b, t.optimizer, nll, {dX.data(), 4, 3});
    } catch (const std::invalid_argument&) {
        thrown = true;
    }
    check(thrown && t == before, "with a logit that is not finite nothing should be written");
}

// A bag model and its data.
template <class T, class I>
struct Bag {
    Hierarchy tree = huffman(zipf(60), 3);
    std::size_t n = 1500, features = 400, dim = 48;
    std::vector<I> indptr{0}, indices;
    std::vector<T> data, weight;
    Labels labels, order;

    Bag() {
        Random random(21);
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t count = i % 10 == 9 ? 0 : 5 + random.below(30);
            for (std::size_t j = 0; j < count; ++j) indices.push_back(static_cast<I>(random.below(features)));
            indptr.push_back(static_cast<I>(indices.size()));
        }
        data = random.vector<T>(indices.size(), -1, 2);
        weight = random.vector<T>(n, 0.5, 1.5);
        labels = random.indices<std::int64_t>(n, 60);
        order.resize(n);
        detail::shuffled_order(3, 0, order);
    }
    CsrView<const T, I> X() const { return {indptr, indices, data, features}; }
};

template <class T, class I>
void test_embedding_bag(const Bag<T, I>& bag) {
    Trained<T> E(bag.features, bag.dim, Method::sgd, 22);
    for (const BagMode mode : {BagMode::mean, BagMode::sum}) {
        std::vector<T> out(bag.n * bag.dim);
        embedding_bag<T, I>(bag.X(), E.view(), mode, {out.data(), bag.n, bag.dim}, 2);
        for (std::size_t i = 0; i < bag.n; i += 7) {
            const auto from = static_cast<std::size_t>(bag.indptr[i]), to = static_cast<std::size_t>(bag.indptr[i + 1]);
            double total = 0;
            for (std::size_t j = from; j < to; ++j) total += std::fabs(static_cast<double>(bag.data[j]));
            for (std::size_t d = 0; d < bag.dim; ++d) {
                double sum = 0, size = 0;
                for (std::size_t j = from; j < to; ++j) {
                    const double term =
                        static_cast<double>(bag.data[j]) * static_cast<double>(E.W[static_cast<std::size_t>(bag.indices[j]) * bag.dim + d]);
                    sum += term, size += std::fabs(term);
                }
                if (mode == BagMode::mean && total > 0) sum /= total, size /= total;
                const double bound =
                    static_cast<double>(2 * (to - from) + 4) * static_cast<double>(std::numeric_limits<T>::epsilon()) / 2 * size;
                check(std::fabs(static_cast<double>(out[i * bag.dim + d]) - sum) <= bound, "embedding_bag of row ", i, " should be ", sum,
                      ", is ", out[i * bag.dim + d]);
            }
        }
    }
}

// Found by fuzzing: Σ|x| or its inverse left the range, and the mean was infinite or 0.
template <class T>
void test_extreme_bags() {
    using Limits = std::numeric_limits<T>;
    const std::vector<std::int32_t> indptr{0, 3, 5}, indices{0, 1, 1, 0, 1};
    const std::vector<T> x{Limits::denorm_min(), Limits::denorm_min(), 2 * Limits::denorm_min(), Limits::max(), Limits::max()};
    const std::vector<T> E{8, 4};
    std::vector<T> out(2);
    embedding_bag<T, std::int32_t>({indptr, indices, x, 2}, {E.data(), 2, 1}, BagMode::mean, {out.data(), 2, 1}, 1);
    check(out[0] == 5 && out[1] == 6, "the means of extreme weights should be 5 and 6, are ", out[0], " and ", out[1]);
}

template <class T, class I>
void test_bag_train() {
    const Bag<T, I> bag;
    test_embedding_bag(bag);
    test_extreme_bags<T>();
    const HierarchyIndex index(bag.tree);
    const HierarchyView& h = index.view();
    for (const Method method : methods) {
        const Trained<T> E0(bag.features, bag.dim, method, 23), W0(h.rows(), bag.dim, method, 24);
        // Trains over the order cut at these batches, with so many threads.
        const auto train = [&](Trained<T>& E, Trained<T>& W, const std::vector<std::size_t>& cuts, int threads) {
            BagSchedule schedule;
            schedule.batch_size = 500, schedule.decay = 0.7, schedule.total = static_cast<std::int64_t>(bag.n);
            double sum = 0;
            for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
                schedule.done = static_cast<std::int64_t>(cuts[c]);
                const auto part = std::span<const std::int64_t>(bag.order).subspan(cuts[c], cuts[c + 1] - cuts[c]);
                sum += bag_train<T, I>(h, bag.X(), bag.labels, std::span<const T>(bag.weight), part, BagMode::mean, E.view(), W.view(), W.b,
                                       E.optimizer, W.optimizer, schedule, threads);
            }
            return sum;
        };
        Trained<T> E = E0, W = W0;
        const double loss = train(E, W, {0, bag.n}, 1);
        check(!(E == E0) && !(W == W0) && E.optimizer.step == 6 && E.optimizer.lr == E0.optimizer.lr && W.optimizer.lr == W0.optimizer.lr,
              "training should step, and give lr back");
        struct Way {
            std::vector<std::size_t> cuts;
            int threads;
        };
        for (const Way& way : {Way{{0, bag.n}, 2}, Way{{0, bag.n}, 3}, Way{{0, 500, bag.n}, 1}, Way{{0, 500, 500, 1000, bag.n}, 3}}) {
            Trained<T> E2 = E0, W2 = W0;
            const double loss2 = train(E2, W2, way.cuts, way.threads);
            check(E2 == E && W2 == W, "method ", static_cast<int>(method), ": ", way.threads, " threads and ", way.cuts.size() - 1,
                  " calls should give the bytes of one");
            check(std::fabs(loss2 - loss) <= 8 * 0x1p-52 * std::fabs(loss), "the losses should agree, ", loss, " and ", loss2);
        }
    }
}

// dense_train is a loop of hsoftmax_update.
template <class T>
void test_dense_train() {
    const Hierarchy tree = huffman(zipf(30));
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Problem<T> p(h, 70, 13, 25);
    Trained<T> trained(h.rows(), p.dim, Method::adam, 26), by_hand = trained;
    Labels order(p.n);
    detail::shuffled_order(1, 1, order);
    BagSchedule schedule;
    schedule.batch_size = 32;
    const double loss = dense_train<T>(h, p.x_view(), p.labels, {}, order, trained.view(), trained.b, trained.optimizer, schedule);
    double sum = 0;
    for (std::size_t at = 0; at < p.n; at += 32) {
        const std::size_t n = std::min<std::size_t>(32, p.n - at);
        std::vector<T> X, nll(n), dX(n * p.dim);
        Labels labels;
        for (std::size_t i = at; i < at + n; ++i) {
            const auto row = static_cast<std::size_t>(order[i]);
            X.insert(X.end(), p.X.begin() + static_cast<std::ptrdiff_t>(row * p.dim),
                     p.X.begin() + static_cast<std::ptrdiff_t>((row + 1) * p.dim));
            labels.push_back(p.labels[row]);
        }
        HSoftmaxInput<T> in;
        in.X = {X.data(), n, p.dim}, in.W = by_hand.view(), in.b = by_hand.b;
        hsoftmax_update<T>(HSoftmaxPlan(h, labels), in, by_hand.view(), by_hand.b, by_hand.optimizer, nll, {dX.data(), n, p.dim});
        ++by_hand.optimizer.step;
        for (const T v : nll) sum += static_cast<double>(v);
    }
    check(trained == by_hand, "dense_train should be a loop of updates");
    check(std::fabs(loss - sum) <= 8 * 0x1p-52 * sum, "dense_train should return the sum of the losses");
    const Trained<T> before = trained;
    order[1] = 70;
    check_refused("order must be in [0, 70), got 70 at index 1",
                  [&] { dense_train<T>(h, p.x_view(), p.labels, {}, order, trained.view(), trained.b, trained.optimizer, schedule); });
    check(trained == before, "after the refusal everything should be as it was");
}

}  // namespace

int main() {
    test_formulas();
    test_update_is_gradient_and_step<float>();
    test_update_is_gradient_and_step<double>();
    test_step_on_rows_in_any_order<float>();
    test_step_on_rows_in_any_order<double>();
    test_norm_bound<float>();
    test_norm_bound<double>();
    test_update_refusals();
    test_bag_train<float, std::int32_t>();
    test_bag_train<double, std::int64_t>();
    test_dense_train<float>();
    test_dense_train<double>();
    return finish("training");
}
