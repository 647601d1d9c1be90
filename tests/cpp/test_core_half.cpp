// SPDX-License-Identifier: BSD-3-Clause
// Training rows of 16 bits: the gradient of the widened rows, a step of them in float32, and one rounding.
#include <bit>
#include <functional>
#include <limits>

#include <sparseops/normalize/named_rows.hpp>
#include <sparseops/quantize.hpp>
#include <sparseops/update.hpp>
#include <sparseops/update/steps.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

constexpr Method methods[] = {Method::sgd, Method::adagrad, Method::rowwise_adagrad, Method::adam};
constexpr QuantizedKind kinds[] = {QuantizedKind::bfloat16, QuantizedKind::float16};
constexpr std::uint64_t seed = 0x123456789abcdef;

struct Trained {
    QuantizedKind kind;
    std::size_t rows, cols;
    std::vector<std::uint16_t> W, half_first;  // the latter, if any, instead of `first`
    std::vector<float> b, first, second, b_first, b_second;
    Method method;
    double max_norm;

    Trained(QuantizedKind k, std::size_t r, std::size_t c, Method m, double norm)
        : kind(k), rows(r), cols(c), W(r * c), method(m), max_norm(norm) {
        Random random(3);
        const auto floats = random.vector<float>(r * c);
        quantize({floats.data(), r, c}, kind, W.data());
        b = random.vector<float>(r);
        first = random.vector<float>(method == Method::rowwise_adagrad ? r : r * c, 0.1, 1);
        second = random.vector<float>(r * c, 0.1, 1);
        b_first = random.vector<float>(r, 0.1, 1);
        b_second = random.vector<float>(r, 0.1, 1);
    }
    void keep_sums_in_halves() {
        for (const float v : first) half_first.push_back(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(v) >> 16));
    }
    HalfView view() { return {kind, W.data(), rows, cols}; }
    std::vector<float> widened() const {
        std::vector<float> out(W.size());
        dequantize({kind, W.data(), {}, rows, cols}, {out.data(), rows, cols});
        return out;
    }
    Optimizer<float> optimizer() {
        return {.method = method,
                .lr = 0.05,
                .weight_decay = 0.01,
                .eps = 1e-4,
                .beta1 = 0.9,
                .beta2 = 0.99,
                .max_norm = max_norm,
                .step = 3,
                .first = {first.data(), rows, first.size() / rows},
                .second = {second.data(), rows, cols},
                .b_first = b_first,
                .b_second = b_second,
                .half_first = {QuantizedKind::bfloat16, half_first.empty() ? nullptr : half_first.data(), rows, cols}};
    }
    bool operator==(const Trained& o) const {
        return W == o.W && half_first == o.half_first && same_bytes(b, o.b) && same_bytes(first, o.first) && same_bytes(second, o.second) &&
               same_bytes(b_first, o.b_first) && same_bytes(b_second, o.b_second);
    }
};

HSoftmaxInput<float> input(const Problem<float>& p, const Weights<float>& W, std::span<const float> b) {
    auto in = p.input();
    in.W = W, in.b = b, in.sample_weight = p.weight;
    return in;
}

// By hand: the float step of every touched row, widened, and its rounding.
void step_by_hand(Trained& t, const Problem<float>& p, const HSoftmaxPlan& plan, std::vector<float>& nll, std::vector<float>& dX) {
    std::vector<std::int64_t> rows(plan.touched_rows());
    plan.write_rows(rows);
    std::vector<float> dW(rows.size() * p.dim), db(rows.size()), W = t.widened();
    hsoftmax_gradient<float>(plan, input(p, {W.data(), t.rows, t.cols}, t.b), nll, {dX.data(), p.n, p.dim}, {dW.data(), rows.size(), p.dim},
                             db);
    if (!t.half_first.empty())
        dequantize({QuantizedKind::bfloat16, t.half_first.data(), {}, t.rows, t.cols}, {t.first.data(), t.rows, t.cols});
    Optimizer<float> o = t.optimizer();
    o.half_first = {};
    const auto key = rounding_key(seed, detail::Stream::round_rows, o.step);
    for (std::size_t slot = 0; slot < rows.size(); ++slot) {
        const auto row = static_cast<std::size_t>(rows[slot]);
        float* const w = W.data() + row * p.dim;
        step_row(o, row, dW.data() + slot * p.dim, w, p.dim);
        step_bias(o, row, db[slot], t.b.data());
        const std::size_t unit = row * ((p.dim + 127) / 128);
        detail::half_kernels(t.kind).round(w, p.dim, key, unit, t.view().row(row));
        if (t.half_first.empty()) continue;
        std::vector<float> sums((p.dim + 31) / 32 * 32);  // sum j draws what element j ^ 16 does
        std::vector<std::uint16_t> bits(sums.size());
        for (std::size_t j = 0; j < p.dim; ++j) sums[j ^ 16] = o.first.row(row)[j];
        detail::half_kernels(QuantizedKind::bfloat16).round(sums.data(), sums.size(), key, unit, bits.data());
        for (std::size_t j = 0; j < p.dim; ++j) t.half_first[row * p.dim + j] = bits[j ^ 16];
    }
}

void test_update() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        if (h.rows() == 0) continue;
        const Problem<float> p(h, 40, 140, 16);
        const HSoftmaxPlan plan(h, p.labels);
        for (const QuantizedKind kind : kinds) {
            for (const Method method : methods) {
                for (const double max_norm : {0.0, 1.5, -1.0}) {  // the last: none, but sums in halves
                    Trained apart(kind, h.rows(), p.dim, method, std::max(0.0, max_norm));
                    if (max_norm < 0 && method != Method::adagrad) continue;
                    if (max_norm < 0) apart.keep_sums_in_halves();
                    const Trained before = apart;
                    std::vector<float> nll(p.n), dX(p.n * p.dim);
                    step_by_hand(apart, p, plan, nll, dX);
                    for (const int threads : {1, 3}) {
                        Trained fused = before;
                        std::vector<float> nll2(p.n), dX2(p.n * p.dim);
                        hsoftmax_update(plan, input(p, QuantizedView(fused.view()), fused.b), fused.view(), fused.b, fused.optimizer(),
                                        seed, nll2, {dX2.data(), p.n, p.dim}, threads);
                        if (!fused.half_first.empty()) fused.first = apart.first;  // which it did not use
                        check(fused == apart && same_bytes(nll, nll2) && same_bytes(dX, dX2), name,
                              ": the update should be a float step, rounded, method ", static_cast<int>(method));
                    }
                }
            }
        }
    }
}

void test_gradients() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        const Problem<float> p(h, 40, 37, 16);
        const HSoftmaxPlan plan(h, p.labels);
        for (const QuantizedKind kind : kinds) {
            if (h.rows() == 0) continue;
            Trained t(kind, h.rows(), p.dim, Method::sgd, 0);
            const std::vector<float> W = t.widened();
            std::vector<float> nll(p.n), dX(p.n * p.dim), dW(W.size()), db(h.rows()), nll2 = nll, dX2 = dX, dW2 = dW, db2 = db;
            hsoftmax_gradient_dense<float>(plan, input(p, {W.data(), t.rows, t.cols}, t.b), nll, {dX.data(), p.n, p.dim},
                                           {dW.data(), t.rows, t.cols}, db);
            hsoftmax_gradient_dense<float>(plan, input(p, QuantizedView(t.view()), t.b), nll2, {dX2.data(), p.n, p.dim},
                                           {dW2.data(), t.rows, t.cols}, db2, 2);
            check(same_bytes(nll, nll2) && same_bytes(dX, dX2) && same_bytes(dW, dW2) && same_bytes(db, db2), name,
                  ": the gradient should be that of the widened rows");
        }
    }
}

void test_refusals() {
    const Hierarchy tree = huffman(zipf(9));
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Problem<float> p(h, 4, 3, 18);
    const HSoftmaxPlan plan(h, p.labels);
    std::vector<float> nll(4), dX(12);
    const auto refused = [&](const std::string& text, const std::function<void(HalfView&, Optimizer<float>&)>& change) {
        Trained t(QuantizedKind::bfloat16, h.rows(), 3, Method::adagrad, 0);
        const Trained before = t;
        Optimizer<float> o = t.optimizer();
        HalfView W = t.view();
        change(W, o);
        check_refused(text,
                      [&] { hsoftmax_update(plan, input(p, QuantizedView(t.view()), t.b), W, t.b, o, seed, nll, {dX.data(), 4, 3}); });
        check(t == before, "after '", text, "' the parameters and their state should be as they were");
    };
    refused("lr must be finite in W's type and non-negative, got -1", [](HalfView&, auto& o) { o.lr = -1; });
    refused("step must be at least 1, got 0", [](HalfView&, auto& o) { o.step = 0; });
    refused("W must be bfloat16 or float16 to be stepped, got int8", [](HalfView& W, auto&) { W.kind = QuantizedKind::int8; });
    refused("W must have shape (8, 3), got (8, 2)", [](HalfView& W, auto&) { W.cols = 2; });
    refused("W must point to 24 values, got a null pointer", [](HalfView& W, auto&) { W.data = nullptr; });
    refused("optimizer must have state of shape (8, 3), got (8, 1)", [](HalfView&, auto& o) { o.first.cols = 1; });
    std::vector<std::uint16_t> sums(24);
    const HalfView half{QuantizedKind::bfloat16, sums.data(), 8, 3}, narrow{QuantizedKind::bfloat16, sums.data(), 8, 2},
        other{QuantizedKind::float16, sums.data(), 8, 3};
    const std::string rule = "optimizer must have state of 16 bits in bfloat16, of adagrad on rows of 16 bits alone";
    refused("optimizer must have state of shape (8, 3), got (8, 2)", [&](HalfView&, auto& o) { o.half_first = narrow; });
    refused(rule, [&](HalfView&, auto& o) { o.half_first = other; });
    refused(rule, [&](HalfView&, auto& o) { o.half_first = half, o.method = Method::rowwise_adagrad, o.first.cols = 1; });
    {
        Trained t(QuantizedKind::bfloat16, h.rows(), 3, Method::adagrad, 0);
        std::vector<float> W = t.widened();
        Optimizer<float> o = t.optimizer();
        o.half_first = half;
        const MatrixView<float> rows{W.data(), 8, 3};
        check_refused(rule, [&] { hsoftmax_update<float>(plan, input(p, rows, t.b), rows, t.b, o, nll, {dX.data(), 4, 3}); });
    }
    Trained t(QuantizedKind::bfloat16, h.rows(), 3, Method::adagrad, 0);
    std::fill(t.W.begin(), t.W.end(), std::uint16_t{0x7f80});  // infinity
    const Trained before = t;
    bool thrown = false;
    try {
        hsoftmax_update(plan, input(p, QuantizedView(t.view()), t.b), t.view(), t.b, t.optimizer(), seed, nll, {dX.data(), 4, 3});
    } catch (const std::invalid_argument&) {
        thrown = true;
    }
    check(thrown && t == before, "with a logit that is not finite nothing should be written");
}

}  // namespace

int main() {
    test_update();
    test_gradients();
    test_refusals();
    return finish("test_core_half");
}
