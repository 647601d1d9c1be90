// SPDX-License-Identifier: BSD-3-Clause
// Quantised rows: the promise on threads, and views that do not fit. tests/operators/test_quantize.py has the mathematics.
#include <sparseops/detail/parallel.hpp>
#include <sparseops/quantize.hpp>
#include <sparseops/search.hpp>

#include "check.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

constexpr QuantizedKind kinds[] = {QuantizedKind::int8, QuantizedKind::bfloat16, QuantizedKind::float16};

struct Rounded {
    QuantizedKind kind;
    std::size_t rows, cols;
    std::vector<std::uint16_t> data;  // int8: two to an entry
    std::vector<float> scale;

    Rounded(MatrixView<const float> W, QuantizedKind of, int threads) : kind(of), rows(W.rows), cols(W.cols), data(W.size()) {
        if (kind == QuantizedKind::int8) scale.resize(rows);
        quantize(W, kind, data.data(), scale, threads);
    }
    QuantizedView view() const { return {kind, data.data(), scale, rows, cols}; }
};

void test_threads() {
    const Hierarchy tree = huffman(zipf(700));
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Problem<float> p(h, 600, 400, 31);
    check(detail::team_size(3, static_cast<double>(p.W.size())) == 3, "the rows should be work for three threads");
    for (const QuantizedKind kind : kinds) {
        const Rounded first(p.w_view(), kind, 1);
        std::vector<std::int64_t> first_classes;
        std::vector<float> first_log_p, first_wide;
        for (const int threads : {1, 2, 3}) {
            const Rounded again(p.w_view(), kind, threads);
            check(same_bytes(again.data, first.data) && same_bytes(again.scale, first.scale), threads, " threads should round as one does");
            std::vector<float> wide(p.W.size());
            dequantize(again.view(), {wide.data(), again.rows, again.cols}, threads);
            auto in = p.input();
            in.W = again.view();
            std::vector<std::int64_t> classes(p.n * 3);
            std::vector<float> log_p(p.n * 3), bound(p.n);
            SearchOptions options;
            options.k = 3;
            hsoftmax_search<float>(h, in, options, {classes.data(), p.n, 3}, {log_p.data(), p.n, 3}, bound, threads);
            if (threads == 1) first_classes = classes, first_log_p = log_p, first_wide = wide;
            check(same_bytes(wide, first_wide), threads, " threads should widen as one does");
            check(classes == first_classes && same_bytes(log_p, first_log_p), threads, " threads should find what one does");
        }
    }
}

// Found by fuzzing: 127 times the scale of the largest floats was infinite.
void test_extremes() {
    const float most = std::numeric_limits<float>::max();
    const std::vector<float> W{most, -most / 3, 0};
    const Rounded q({W.data(), 1, 3}, QuantizedKind::int8, 1);
    std::vector<float> wide(3);
    dequantize(q.view(), {wide.data(), 1, 3}, 1);
    check(wide[0] >= most * (1 - 0x1p-22f) && wide[0] <= most && wide[2] == 0, "the largest float should stay, is ", wide[0]);
}

// Found by fuzzing: the shape of W was checked, that of the rows in its place was not.
void test_refusals() {
    const Hierarchy tree = huffman(zipf(5));
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const Problem<float> p(h, 2, 6, 32);
    const Rounded int8(p.w_view(), QuantizedKind::int8, 1);
    std::vector<float> out(p.n * h.classes());
    const auto refuse = [&](const std::string& text, const QuantizedView& view) {
        auto in = p.input();
        in.W = view;
        check_refused(text, [&] { hsoftmax_log_proba<float>(h, in, {out.data(), p.n, h.classes()}); });
    };
    QuantizedView view = int8.view();
    view.rows = 3;
    refuse("W must have shape (4, 6), got (3, 6)", view);
    view = int8.view();
    view.cols = 5;
    refuse("W must have shape (4, 6), got (4, 5)", view);
    view = int8.view();
    view.scale = view.scale.first(3);
    refuse("scale must have 4 entries, got 3", view);
    auto in = p.input();
    in.W = int8.view();
    const HSoftmaxPlan plan(h, p.labels);
    std::vector<float> nll(p.n), dX(p.n * p.dim), dW(h.rows() * p.dim), db(h.rows());
    check_refused("W must be a float array for a gradient, got int8 weights",
                  [&] { hsoftmax_gradient_dense<float>(plan, in, nll, {dX.data(), p.n, p.dim}, {dW.data(), h.rows(), p.dim}, db); });
}

}  // namespace

int main() {
    test_threads();
    test_extremes();
    test_refusals();
    return finish("quantize");
}
