// SPDX-License-Identifier: BSD-3-Clause
// A view that has a size and no data is refused by name, at every public entry point that test_core does not try.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <sparseops/sparseops.hpp>

#include "check.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

// A span of n values that points nowhere.
template <class T>
std::span<T> lost(std::size_t n) {
    return {static_cast<T*>(nullptr), n};
}

template <class F>
void refused(const std::string& name, std::size_t n, F call) {
    check_refused(name + " must point to " + std::to_string(n) + " values, got a null pointer", call);
}

using Ids = std::vector<std::int64_t>;

void test_trees() {
    const auto none = lost<const std::int64_t>(3);
    refused("parents", 3, [&] { from_parents(none, {}, {}); });
    refused("classes", 3, [&] { from_parents(Ids{-1, 0, 0}, none, {}); });
    refused("counts", 2, [&] { from_parents(Ids{-1, 0, 0}, {}, lost<const double>(2)); });
    refused("path_ptr", 3, [&] { from_paths(none, Ids{0, 0}, Ids{0, 1}, {}); });
    refused("path_node", 2, [&] { from_paths(Ids{0, 1, 2}, none.first(2), Ids{0, 1}, {}); });
    refused("path_child", 2, [&] { from_paths(Ids{0, 1, 2}, Ids{0, 0}, none.first(2), {}); });
    refused("logistic", 1, [&] { from_paths(Ids{0, 1, 2}, Ids{0, 0}, Ids{0, 1}, lost<const std::uint8_t>(1)); });
    refused("counts", 4, [&] { two_level(4, lost<const double>(4), 2); });
    const HierarchyIndex four(balanced(4));
    refused("counts", 4, [&] { optimal_codes(four.view(), lost<const double>(4)); });
    refused("counts", 4, [&] { prune(four.view(), lost<const double>(4), PruneBy::max_depth, 1); });
    refused("counts", 4, [&] { split(four.view(), lost<const double>(4), 2); });
    const std::vector<float> x{1, 2};
    std::vector<float> mean(2, 7);
    const Ids label{0};
    refused("X", 2, [&] { class_centroids<float>({nullptr, 1, 2}, {{}, label}, true, {mean.data(), 1, 2}); });
    refused("out", 2, [&] { class_centroids<float>({x.data(), 1, 2}, {{}, label}, true, {nullptr, 1, 2}); });
    refused("vectors", 6, [&] { cluster(MatrixView<const float>{nullptr, 2, 3}, {}); });
}

void test_dropout() {
    const Drops drops{.rate = 0.5};
    const std::vector<float> x{1, 2}, one{1};
    std::vector<float> y{7, 7}, d{7};
    std::vector<std::uint8_t> bits{3};
    const auto floats = lost<const float>(2);
    const auto out = lost<float>(2);
    const auto call = [&](std::span<const float> from, std::span<const float> values, std::span<float> to, std::span<std::uint8_t> packed,
                          std::span<std::uint8_t> bools) { dropout<float>(from, drops, {values, 1}, to, packed, bools); };
    refused("x", 2, [&] { call(floats, one, y, {}, {}); });
    refused("y", 2, [&] { call(x, one, out, {}, {}); });
    refused("replacement", 2, [&] { call(x, floats, y, {}, {}); });
    refused("packed", 1, [&] { call(x, one, y, lost<std::uint8_t>(1), {}); });
    refused("bools", 2, [&] { call(x, one, y, {}, lost<std::uint8_t>(2)); });
    refused("grad", 2, [&] { dropout_gradient<float>(floats, bits, y, 1, d); });
    refused("mask", 1, [&] { dropout_gradient<float>(x, lost<const std::uint8_t>(1), y, 1, d); });
    refused("dx", 2, [&] { dropout_gradient<float>(x, bits, out, 1, d); });
    refused("d_replacement", 2, [&] { dropout_gradient<float>(x, bits, y, 1, out); });
    refused("x", 2, [&] { nonzero_centers<float>(floats, Ids{0, 2}, Center::mean, d); });
    refused("offsets", 2, [&] { nonzero_centers<float>(x, lost<const std::int64_t>(2), Center::mean, d); });
    refused("out", 2, [&] { nonzero_centers<float>(x, Ids{0, 1, 2}, Center::mean, out); });
    Ids lengths{1, 1}, ids{4, 5}, new_ids{7, 7};
    const auto none = lost<std::int64_t>(2);
    refused("lengths", 2, [&] { dropout_lengths(none, 2, drops, lengths); });
    refused("new_lengths", 2, [&] { dropout_lengths(lengths, 2, drops, none); });
    refused("ids", 2, [&] { dropout_ids<std::int64_t>(none, lengths, drops, 9, new_ids); });
    refused("lengths", 2, [&] { dropout_ids<std::int64_t>(ids, none, drops, 9, new_ids); });
    refused("new_ids", 2, [&] { dropout_ids<std::int64_t>(ids, lengths, drops, 9, none); });
    check(y == std::vector<float>{7, 7} && d == std::vector<float>{7} && new_ids == Ids{7, 7}, "a refusal should leave the outputs");
}

void test_normalize() {
    const Ids indptr{0, 2}, indices{0, 1};
    std::vector<float> data{3, 4};
    std::vector<double> norms{7, 7};
    using Csr = CsrView<const float, std::int64_t>;
    const Csr W{indptr, indices, data, 2};
    const MatrixView<const float> dense{data.data(), 1, 2};
    const auto o = std::span(data);
    const auto one = std::span(norms).first(1), two = std::span(norms);
    const auto nowhere = lost<float>(2);
    const auto nothing = lost<double>(2);
    const auto ids = lost<const std::int64_t>(2);
    refused("W.indptr", 2, [&] { normalize_rows(Csr{ids, indices, data, 2}, o, one); });
    refused("W.indices", 2, [&] { normalize_rows(Csr{indptr, ids, data, 2}, o, one); });
    refused("W.data", 2, [&] { normalize_rows(Csr{indptr, indices, nowhere, 2}, o, one); });
    refused("out", 2, [&] { normalize_rows(W, nowhere, one); });
    refused("out", 2, [&] { normalize_columns(W, nowhere, two); });
    refused("norms", 1, [&] { normalize_rows(W, o, nothing.first(1)); });
    refused("norms", 2, [&] { normalize_columns(W, o, nothing); });
    refused("norms", 1, [&] { normalize_rows(dense, {data.data(), 1, 2}, nothing.first(1)); });
    refused("norms", 2, [&] { normalize_columns(dense, {data.data(), 1, 2}, nothing); });
    const std::span<const float> g = data;
    const std::span<const float> no_g = nowhere;
    refused("grad", 2, [&] { normalize_rows_gradient(W, no_g, o); });
    refused("grad", 2, [&] { normalize_columns_gradient(W, no_g, o); });
    refused("dx", 2, [&] { normalize_rows_gradient(dense, g, nowhere); });
    refused("dx", 2, [&] { normalize_columns_gradient(dense, g, nowhere); });
    const MatrixView<float> param{data.data(), 2, 1};
    refused("rows", 2, [&] { normalize_indexed_rows(param, ids, two); });
    refused("norms", 2, [&] { normalize_indexed_rows(param, Ids{0, 1}, nothing); });
    check(data == std::vector<float>{3, 4} && norms == std::vector<double>{7, 7}, "a refusal should leave the outputs");
}

void test_weights() {
    const std::vector<float> W{1, 2};
    std::vector<std::int8_t> data{7, 7};
    refused("scale", 1, [&] { quantize({W.data(), 1, 2}, QuantizedKind::int8, data.data(), lost<float>(1)); });
    refused("data", 2, [&] { quantize({W.data(), 1, 2}, QuantizedKind::bfloat16, nullptr); });
    const Ids ptr{0, 2}, entries{0, 1, 2};
    const std::vector<std::int32_t> feature{0, 1};
    const std::vector<std::uint16_t> slot{0, 1};
    const std::vector<float> two{1, 2}, one{1};
    const SparseRowsView good{ptr, ptr, feature, entries, slot, two, two, one, 2};
    require_sparse_rows(good);
    const auto each = [&](const std::string& name, std::size_t n, auto change) {
        SparseRowsView view = good;
        change(view);
        refused(name, n, [&] { require_sparse_rows(view); });
    };
    each("row_ptr", 2, [](auto& w) { w.row_ptr = lost<const std::int64_t>(2); });
    each("feature_ptr", 2, [](auto& w) { w.feature_ptr = lost<const std::int64_t>(2); });
    each("feature", 2, [](auto& w) { w.feature = lost<const std::int32_t>(2); });
    each("entry_ptr", 3, [](auto& w) { w.entry_ptr = lost<const std::int64_t>(3); });
    each("slot", 2, [](auto& w) { w.slot = lost<const std::uint16_t>(2); });
    each("weight", 2, [](auto& w) { w.weight = lost<const float>(2); });
    each("bias", 2, [](auto& w) { w.bias = lost<const float>(2); });
    each("temperature", 1, [](auto& w) { w.temperature = lost<const float>(1); });
}

void test_linear() {
    const HierarchyIndex tree(balanced(2, 2, false));
    const Ids indptr{0, 1, 2}, indices{0, 1}, label{0, 1};
    const std::vector<float> data{1, 1};
    const CsrView<const float, std::int64_t> X{indptr, indices, data, 2};
    const auto train = [&](const LabelsView& labels, const LinearOptions& options) { linear_train(tree.view(), X, labels, options, 1); };
    refused("labels", 2, [&] { train({{}, lost<const std::int64_t>(2)}, {}); });
    refused("labels.ptr", 3, [&] { train({lost<const std::int64_t>(3), label}, {}); });
    refused("sample_weight", 2, [&] { train({{}, label}, {.sample_weight = lost<const float>(2)}); });
    refused("class_weight", 2, [&] { train({{}, label}, {.class_weight = lost<const float>(2)}); });
    LinearTrainer trainer(tree.view(), X, {{}, label}, {}, 1);
    refused("trained", 5, [&] { trainer.take(lost<const std::uint8_t>(5)); });
}

void test_search() {
    const HierarchyIndex tree(balanced(2));
    const std::vector<float> x{1}, W{1};
    const HSoftmaxInput<float> in{.X = {x.data(), 1, 1}, .W = {W.data(), 1, 1}};
    std::vector<std::int64_t> classes(1);
    std::vector<float> log_p(1), bound(1);
    const auto search = [&](std::int64_t* c, float* p, std::span<float> b) {
        hsoftmax_search<float>(tree.view(), in, {.k = 1}, {c, 1, 1}, {p, 1, 1}, b);
    };
    refused("classes", 1, [&] { search(nullptr, log_p.data(), bound); });
    refused("log_probs", 1, [&] { search(classes.data(), nullptr, bound); });
    refused("bound", 1, [&] { search(classes.data(), log_p.data(), lost<float>(1)); });
    refused("log_p", 2, [&] { log_mean_exp({nullptr, 2, 1}, bound); });
    refused("out", 1, [&] { log_mean_exp({x.data(), 1, 1}, lost<float>(1)); });
}

void test_files() {
    refused("bytes", 64, [] { ArrayFile::load(lost<const std::byte>(64)); });
}

void test_text() {
    const std::vector<std::uint8_t> bytes{'a'};
    const Ids offsets{0, 1}, empty{0};
    const StringsView none{{}, empty};
    refused("words.utf8", 1, [&] { TextDictionary({lost<const std::uint8_t>(1), offsets}, none, {}, {}); });
    refused("labels.offsets", 2, [&] { TextDictionary({bytes, offsets}, {bytes, lost<const std::int64_t>(2)}, {}, {}); });
}

void test_steps() {
    std::vector<float> W{1, 2}, b{3, 4};
    const std::vector<float> grad{5, 6};
    Optimizer<float> o;
    o.lr = 1;
    const auto call = [&](std::span<const std::int64_t> rows, std::span<const float> dW, std::span<const float> db, std::span<float> w,
                          std::span<float> bias) {
        step_rows<float>(rows, {dW.data(), dW.size(), 1}, db, {w.data(), w.size(), 1}, bias, o);
    };
    const Ids rows{0, 1};
    refused("rows", 2, [&] { call(lost<const std::int64_t>(2), grad, grad, W, b); });
    refused("grad", 2, [&] { call(rows, lost<const float>(2), grad, W, b); });
    refused("grad of b", 2, [&] { call(rows, grad, lost<const float>(2), W, b); });
    refused("W", 2, [&] { call(rows, grad, grad, lost<float>(2), b); });
    refused("b", 2, [&] { call(rows, grad, grad, W, lost<float>(2)); });
    check(W == std::vector<float>{1, 2} && b == std::vector<float>{3, 4}, "a refusal should leave the weights");
}

}  // namespace

int main() {
    test_steps();
    test_trees();
    test_dropout();
    test_normalize();
    test_weights();
    test_linear();
    test_search();
    test_files();
    test_text();
    return finish("test_core_null");
}
