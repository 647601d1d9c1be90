// SPDX-License-Identifier: BSD-3-Clause
// Rounding of rows to int8, bfloat16 and float16, and scores of them: refused, or as the rounded numbers say.
#include <sparseops/quantize.hpp>
#include <sparseops/search.hpp>

#include "tree_oracle.hpp"

namespace {

using namespace sparseops_fuzz;
using sparseops::MatrixView;
using sparseops::QuantizedKind;
using sparseops::QuantizedView;

// The largest number that rounds to a finite one.
float limit_of(QuantizedKind kind) {
    if (kind == QuantizedKind::float16) return 65504;
    return kind == QuantizedKind::bfloat16 ? std::bit_cast<float>(0x7f7f7fffu) : std::numeric_limits<float>::max();
}

// Half the distance of the numbers near w that `kind` can hold.
double half_step(QuantizedKind kind, float w, float scale) {
    if (kind == QuantizedKind::int8) return static_cast<double>(scale) * 0.50002;  // 127 roundings of 2^-23
    const int digits = kind == QuantizedKind::float16 ? 10 : 7, least = kind == QuantizedKind::float16 ? -14 : -126;
    return std::ldexp(0.5, std::max(w == 0 ? least : std::ilogb(w), least) - digits);
}

struct Rows {
    QuantizedKind kind;
    std::vector<std::uint8_t> data;
    std::vector<float> scale, value;
    std::size_t rows, cols;

    QuantizedView view() const { return {kind, data.data(), scale, rows, cols}; }
};

// W rounded, checked against W; false if it was refused.
bool round_rows(Input& in, MatrixView<const float> W, Rows& q) {
    const std::size_t n = W.size();
    q.kind = in.pick({QuantizedKind::int8, QuantizedKind::bfloat16, QuantizedKind::float16});
    q.rows = W.rows, q.cols = W.cols;
    const std::size_t scales = q.kind == QuantizedKind::int8 ? W.rows : 0;
    q.data.assign(n * (q.kind == QuantizedKind::int8 ? 1 : 2), 0xa5);
    q.scale.assign(in.size_near(scales), 0);
    bool valid = q.scale.size() == scales;
    for (std::size_t i = 0; i < n; ++i) valid = valid && std::abs(W.data[i]) <= limit_of(q.kind);
    must(refused([&] { quantize(W, q.kind, q.data.data(), q.scale, 1); }) == !valid, "quantize refuses what is not valid");
    if (!valid) return false;
    q.value.assign(n, -1);
    dequantize(q.view(), {q.value.data(), W.rows, W.cols}, 1);
    for (std::size_t i = 0; i < n; ++i) {
        const float scale = q.scale.empty() ? 0 : q.scale[i / W.cols];
        must(std::abs(static_cast<double>(q.value[i]) - static_cast<double>(W.data[i])) <= half_step(q.kind, W.data[i], scale), W.data[i],
             " is rounded to the nearest, got ", q.value[i]);
        must(q.kind == QuantizedKind::int8 || std::signbit(q.value[i]) == std::signbit(W.data[i]), "half precision keeps the sign");
    }
    if (q.kind == QuantizedKind::int8) return true;
    std::vector<std::uint8_t> again(q.data.size());  // what fits is not changed
    quantize({q.value.data(), W.rows, W.cols}, q.kind, again.data(), {}, 1);
    must(same_bytes(again, q.data), "rounding twice is rounding once");
    return true;
}

void score(Input& in) {
    const Hierarchy tree = some_tree(in);
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    const std::size_t dim = in.upto(40), n = in.upto(3);
    const bool wild = in.flag();
    const auto W = in.reals<float>(h.rows() * dim, wild), X = in.reals<float>(n * dim, wild), b = in.reals<float>(h.rows(), wild);
    Rows q;
    if (!round_rows(in, {W.data(), h.rows(), dim}, q)) return;
    sparseops::HSoftmaxInput<float> input;
    input.X = {X.data(), n, dim};
    input.W = {q.value.data(), h.rows(), dim};
    if (in.flag()) input.b = b;
    input.check_finite = !in.rarely();
    std::vector<float> plain(n * h.classes()), quantized(plain.size());
    const bool no = refused([&] { hsoftmax_log_proba(h, input, MatrixView<float>{plain.data(), n, h.classes()}); });
    QuantizedView view = q.view();
    view.rows = in.size_near(h.rows());
    view.cols = in.size_near(dim);
    view.scale = view.scale.first(std::min(q.scale.size(), in.size_near(q.scale.size())));
    input.W = view;
    const bool fits = view.rows == h.rows() && view.cols == dim && view.scale.size() == q.scale.size();
    const bool no_quantized = refused([&] { hsoftmax_log_proba(h, input, MatrixView<float>{quantized.data(), n, h.classes()}); });
    must(fits || no_quantized, "quantised rows of another shape are refused");
    if (fits && q.kind != QuantizedKind::int8) {
        must(no == no_quantized, "half precision is refused as its numbers are");
        must(no || !input.check_finite || same_bytes(plain, quantized), "half precision gives the bytes of its numbers");
    }
    if (!no_quantized && input.check_finite) {
        for (const float p : quantized) must(p <= 0, "log-probabilities are at most 0, got ", p);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input in(data, size);
    if (in.flag()) {
        score(in);
        return 0;
    }
    const std::size_t rows = in.upto(5), cols = in.upto(70);
    const auto W = in.reals<float>(rows * cols, true);
    Rows q;
    round_rows(in, {W.data(), rows, cols}, q);
    return 0;
}
