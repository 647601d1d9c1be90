// SPDX-License-Identifier: BSD-3-Clause
// Saved trees, weights and classifiers, from a file to the results of the operators.
#include <limits>
#include <sstream>

#include <sparseops/model_file.hpp>
#include <sparseops/quantize.hpp>
#include <sparseops/search.hpp>

#include "files.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;

const std::string tree_kind = R"({"kind": "Hierarchy"})";

template <Real T>
constexpr const char* dtype_code = sizeof(T) == 4 ? "<f4" : "<f8";

std::string sizes(std::size_t rows, std::size_t cols) { return text_of("[", rows, ", ", cols, "]"); }

template <Real T>
void test_trees_with_weights() {
    for (const auto& [name, tree] : trees()) {
        const HierarchyIndex index(tree);
        const HierarchyView& h = index.view();
        Problem<T> p(h, 5, 7, 3);
        Parts parts;
        add_tree(parts, tree);
        const Bytes bare(write(parts, tree_kind));
        check(!Model::load(bare.view()).has_weights() && Model::load(bare.view()).label(0) == "0", name, ": a tree alone");
        parts["W"] = part(dtype_code<T>, sizes(h.rows(), 7), p.W);
        parts["b"] = part(dtype_code<T>, p.b);
        const Bytes bytes(write(parts, tree_kind));
        Model first = Model::load(bytes.view());
        const Model model = std::move(first);
        check(model.has_weights() && model.features() == 7 && model.tree().depth == h.depth, name, ": a tree with weights");
        const auto& weights = std::get<ModelWeights<T>>(model.weights());
        check(!weights.has_embedding(), name, ": no embedding");
        const std::size_t k = std::min<std::size_t>(3, h.classes());
        SearchOptions options;
        options.k = k;
        std::vector<std::int64_t> expected(p.n * k), classes(p.n * k);
        std::vector<T> expected_log_p(p.n * k), log_p(p.n * k), bound(p.n);
        hsoftmax_search<T>(h, p.input(), options, {expected.data(), p.n, k}, {expected_log_p.data(), p.n, k}, bound);
        hsoftmax_search<T>(model.tree(), weights.input(p.input().X), options, {classes.data(), p.n, k}, {log_p.data(), p.n, k}, bound);
        check(classes == expected && same_bytes(log_p, expected_log_p), name, ": a loaded model finds the same bytes");

        if (h.rows() == 0) continue;
        parts["W"] = part(dtype_code<T>, sizes(h.rows() * 7, 1), p.W);
        const Bytes wrong(write(parts, tree_kind));
        std::ostringstream why;
        why << "path must hold a valid Hierarchy, got memory: W must have " << h.rows()
            << " rows, as b entries, and the columns of E, got (" << h.rows() * 7 << ", 1) and (" << h.rows() << ",)";
        check_refused(why.str(), [&] { Model::load(wrong.view()); });
    }
}

void add_sparse(Parts& parts, const SparseRows& W) {
    parts["W.row_ptr"] = part("<i8", W.row_ptr);
    parts["W.feature_ptr"] = part("<i8", W.feature_ptr);
    parts["W.feature"] = part("<i4", W.feature);
    parts["W.entry_ptr"] = part("<i8", W.entry_ptr);
    parts["W.slot"] = part("<u2", W.slot);
    parts["W.weight"] = part("<f4", W.weight);
    parts["W.bias"] = part("<f4", W.bias);
    parts["W.temperature"] = part("<f4", W.temperature);
    parts["W.shape"] = part<std::int64_t>("<i8", {static_cast<std::int64_t>(W.bias.size()), static_cast<std::int64_t>(W.features)});
}

// `parts` without what a compact file holds in other forms; right(model): whether it answers as it should. Feature v is the one of node v.
template <class Right>
void test_compact(Parts parts, const SparseRows& W, Right right) {
    std::vector<std::uint8_t> step, size;
    for (std::size_t v = 0; v < W.feature.size(); ++v) {
        step.push_back(static_cast<std::uint8_t>(v + 1));
        size.push_back(static_cast<std::uint8_t>(W.entry_ptr[v + 1] - W.entry_ptr[v]));
    }
    parts.erase("W.feature");
    parts.erase("W.entry_ptr");
    parts["W.step"] = part("|u1", step);
    parts["W.size"] = part("|u1", size);
    parts["W.far"] = part("<i4", std::vector<std::int32_t>());
    parts["W.many"] = part("<i4", std::vector<std::int32_t>());
    parts["W.slot"] = part("|u1", std::vector<std::uint8_t>(W.slot.begin(), W.slot.end()));
    {
        const Bytes bytes(write(parts, tree_kind));
        Model first = Model::load(bytes.view());
        check(right(std::move(first)), "compact sparse rows, the same bytes");
    }
    parts["W.weight"] = part("<f2", std::vector<std::uint16_t>(W.weight.size(), 0x3c00));
    const Bytes half(write(parts, tree_kind));
    const Model ones = Model::load(half.view());
    const auto* rows = std::get<ModelWeights<float>>(ones.weights()).W.sparse();
    check(rows->weight.size() == W.weight.size() && rows->weight[0] == 1 && rows->weight.back() == 1, "weights of 16 bits");
    const auto refused = [&](const char* name, auto bad, const std::string& why) {
        Parts damaged = parts;
        damaged[name] = std::move(bad);
        const Bytes bytes(write(damaged, tree_kind));
        check_refused("path must hold a valid Hierarchy, got memory: " + why, [&] { Model::load(bytes.view()); });
    };
    refused("W.far", part<std::int32_t>("<i4", {1}), "far must have 0 entries, got 1");
    refused("W.size", part("|u1", std::vector<std::uint8_t>(1)), text_of("size must have ", step.size(), " entries, got 1"));
    step[0] = 255;
    parts["W.step"] = part("|u1", step);
    refused("W.far", part<std::int32_t>("<i4", {-1}), "far must not be negative, got -1");
    refused("W.far", part<std::int32_t>("<i4", {300}), text_of("feature must be in [0, ", W.features, "), got 299 at index 0"));
}

void test_sparse_rows() {
    const Hierarchy tree = balanced(6, 3);
    const HierarchyIndex index(tree);
    const HierarchyView& h = index.view();
    SparseRows W;  // feature v of node v, for all its rows
    W.row_ptr = tree.row_ptr;
    W.features = h.nodes();
    W.feature_ptr = {0};
    W.entry_ptr = {0};
    for (std::size_t v = 0; v < h.nodes(); ++v) {
        W.feature.push_back(static_cast<std::int32_t>(v));
        W.feature_ptr.push_back(static_cast<std::int64_t>(v + 1));
        for (std::size_t j = 0; j < h.row_count(v); ++j) {
            W.slot.push_back(static_cast<std::uint16_t>(j));
            W.weight.push_back(static_cast<float>(v + 1) - 0.7f * static_cast<float>(j));
            W.bias.push_back(0.1f * static_cast<float>(j));
        }
        W.entry_ptr.push_back(static_cast<std::int64_t>(W.slot.size()));
    }
    W.temperature.assign(static_cast<std::size_t>(h.depth), 2.0f);
    Parts parts;
    add_tree(parts, tree);
    add_sparse(parts, W);
    const Bytes bytes(write(parts, tree_kind));
    const Model model = Model::load(bytes.view());
    check(model.has_weights() && model.features() == h.nodes(), "sparse rows beside a tree");
    const std::vector<std::int32_t> ends{0, 2, 3}, column{0, 1, 2};
    const std::vector<float> value{1.0f, -2.0f, 3.0f};
    const CsrView<const float, std::int32_t> X{ends, column, value, h.nodes()};
    const auto search = [&](const HierarchyView& of, const HSoftmaxInput<float>& in) {
        SearchOptions options;
        options.k = 3;
        std::vector<std::int64_t> classes(6);
        std::vector<float> log_p(6), bound(2);
        hsoftmax_search<float>(of, in, options, {classes.data(), 2, 3}, {log_p.data(), 2, 3}, bound);
        return std::pair(classes, log_p);
    };
    const HSoftmaxInput<float> wanted{.X = X, .W = W.view()};
    check(search(model.tree(), std::get<ModelWeights<float>>(model.weights()).input(X)) == search(h, wanted),
          "sparse rows, the same bytes");
    test_compact(parts, W, [&](const Model& one) {
        return search(one.tree(), std::get<ModelWeights<float>>(one.weights()).input(X)) == search(h, wanted);
    });

    parts["W.slot"] = part("<u2", std::vector<std::uint16_t>(W.slot.size(), 9));
    check_refused("path must hold a valid Hierarchy, got memory: slot must be below the 3 rows of its node, got 9 at index 0",
                  [&] { Model::load(Bytes(write(parts, tree_kind)).view()); });
    add_sparse(parts, W);
    parts["W.shape"] = part<std::int64_t>("<i8", {1, 2});
    check_refused(text_of("path must hold a valid Hierarchy, got memory: shape must be the ", W.bias.size(),
                          " rows and the columns of W, got another"),
                  [&] { Model::load(Bytes(write(parts, tree_kind)).view()); });
}

void test_independent_nodes() {
    const Hierarchy binary = huffman(zipf(9));
    const HierarchyIndex index(binary);
    const Hierarchy tree = independent(index.view());
    Parts parts;
    add_tree(parts, tree);
    parts["independent"] = part<std::uint8_t>("|u1", {1});
    const Bytes bytes(write(parts, tree_kind));
    check(Model::load(bytes.view()).tree().independent, "a tree of independent nodes");
    for (const std::vector<std::uint8_t>& wrong : {std::vector<std::uint8_t>{0}, {1, 1}, {}}) {
        parts["independent"] = part("|u1", wrong);
        const Bytes other(write(parts, tree_kind));
        check_refused(text_of("path must hold a valid Hierarchy, got memory: independent must hold the number 1 alone, got ", wrong.size(),
                              " entries"),
                      [&] { Model::load(other.view()); });
    }
    parts.clear();
    add_tree(parts, binary);
    parts["independent"] = part<std::uint8_t>("|u1", {1});
    const Bytes logistic(write(parts, tree_kind));
    check_refused("path must hold a valid Hierarchy, got memory: row_ptr must give node 0 one row a child, as nodes are independent, got 1",
                  [&] { Model::load(logistic.view()); });
}

void test_quantised_rows() {
    const Hierarchy tree = huffman(zipf(23));
    const HierarchyIndex index(tree);
    Problem<float> p(index.view(), 5, 16, 3);
    const std::size_t rows = index.view().rows();
    const MatrixView<const float> W{p.W.data(), rows, 16};
    for (const auto kind : {QuantizedKind::int8, QuantizedKind::bfloat16, QuantizedKind::float16}) {
        const bool scaled = kind == QuantizedKind::int8;
        std::vector<std::uint16_t> data(rows * 16 / (scaled ? 2 : 1));
        std::vector<float> scale(scaled ? rows : 0);
        quantize(W, kind, data.data(), scale, 1);
        Parts parts;
        add_tree(parts, tree);
        parts["W.data"] = part(scaled ? "|i1" : kind == QuantizedKind::bfloat16 ? "<i2" : "<f2", sizes(rows, 16), data);
        if (scaled) parts["W.scale"] = part("<f4", scale);
        const Bytes bytes(write(parts, tree_kind));
        const Model model = Model::load(bytes.view());
        const auto& weights = std::get<ModelWeights<float>>(model.weights());
        std::vector<float> expected(rows * 16), found(rows * 16);
        dequantize({kind, data.data(), scale, rows, 16}, {expected.data(), rows, 16}, 1);
        dequantize(*weights.W.quantized(), {found.data(), rows, 16}, 1);
        check(weights.W.quantized()->kind == kind && same_bytes(found, expected), "quantised rows come back");
        std::vector<float> nll(5);
        hsoftmax<float>(HSoftmaxPlan(model.tree(), p.labels), weights.input(p.input().X), nll, {});

        Parts odd = parts;
        if (scaled) {
            odd.erase("W.scale");
            const Bytes none(write(odd, tree_kind));
            check_refused("path must hold a valid Hierarchy, got memory: scale must come with data of int8",
                          [&] { Model::load(none.view()); });
            scale[3] = std::numeric_limits<float>::infinity();
            odd["W.scale"] = part("<f4", scale);
        } else {
            data[16 + 5] = kind == QuantizedKind::float16 ? 0x7c00 : 0xff80;
            odd["W.data"].bytes = part("", data).bytes;
        }
        const Bytes infinite(write(odd, tree_kind));
        check_refused(std::string("path must hold a valid Hierarchy, got memory: ") +
                          (scaled ? "scale must be finite, got another value at index (3,)"
                                  : "data must be finite, got another value at index (1, 5)"),
                      [&] { Model::load(infinite.view()); });
    }
}

void test_classifiers() {
    const Hierarchy tree = balanced(3);
    const std::vector<float> E{1, 2, 3, 4, 5, 6, 7, 8}, W{1, 2, 3, 4}, b{5, 6};
    Parts parts;
    add_tree(parts, tree, "hierarchy.");
    parts["model.E"] = part("<f4", "[4, 2]", E);
    parts["model.W"] = part("<f4", "[2, 2]", W);
    parts["model.b"] = part("<f4", b);
    Parts named = parts, numbered = parts;
    named["classes.utf8"] = {"|u1", "[9]", "antbee\xe2\x82\xac"};
    named["classes.offsets"] = part<std::int64_t>("<i8", {0, 3, 6, 9});
    const auto metadata = [](const std::string& dtype, const std::string& mode = "sum", const std::string& features = "4") {
        return text_of(R"({"kind": "HSoftmaxClassifier", "label_dtype": ")", dtype, R"(", "mode": ")", mode, R"(", "n_features": )",
                       features, "}");
    };
    const Bytes bytes(write(named, metadata("str")));
    const Model model = Model::load(bytes.view());
    const auto& weights = std::get<ModelWeights<float>>(model.weights());
    check(model.label(0) == "ant" && model.label(2) == "€" && model.mode() == BagMode::sum && model.features() == 4,
          "a classifier of strings");
    check(weights.has_embedding() && weights.E.rows == 4 && weights.E.row(3)[1] == 8 && weights.b[1] == 6, "its weights");
    check_refused("c must be below 3, got 3", [&] { (void)model.label(3); });

    Parts narrow = named;  // the same numbers in bfloat16
    narrow.erase("model.E");
    narrow.erase("model.W");
    narrow["model.E.data"] = part<std::uint16_t>("<i2", "[4, 2]", {0x3f80, 0x4000, 0x4040, 0x4080, 0x40a0, 0x40c0, 0x40e0, 0x4100});
    narrow["model.W.data"] = part<std::uint16_t>("<i2", "[2, 2]", {0x3f80, 0x4000, 0x4040, 0x4080});
    const Bytes narrow_bytes(write(narrow, metadata("str")));
    const Model halves = Model::load(narrow_bytes.view());
    const auto& half = std::get<ModelWeights<float>>(halves.weights());
    check(half.has_embedding() && half.features() == 4 && half.hidden() == 2 && !half.E.data, "a classifier of 16 bits");
    const std::vector<std::int32_t> indptr{0, 2}, indices{0, 3};
    const std::vector<float> data{1, 2};
    std::vector<float> wide_sum(2), half_sum(2);
    const CsrView<const float, std::int32_t> row{indptr, indices, data, 4};
    weights.embed(row, model.mode(), {wide_sum.data(), 1, 2}, 1);
    half.embed(row, halves.mode(), {half_sum.data(), 1, 2}, 1);
    check(half_sum == wide_sum && half_sum[1] == 18, "the bag of 16-bit embeddings");

    const auto number_labels = [&](const std::string& dtype, const Part& values) {
        numbered["classes.values"] = {"|u1", text_of("[", values.bytes.size(), "]"), values.bytes};
        const Bytes file(write(numbered, metadata(dtype)));
        const Model m = Model::load(file.view());
        return text_of(m.label(0), " ", m.label(1), " ", m.label(2));
    };
    check(number_labels("<i8", part<std::int64_t>("", {-5, 0, INT64_MAX})) == "-5 0 9223372036854775807", "int64 labels");
    check(number_labels("|u1", part<std::uint8_t>("", {0, 9, 255})) == "0 9 255", "uint8 labels");
    check(number_labels("<f8", part<double>("", {-1, 0.1, 1e300})) == "-1.0 0.1 1e+300", "float64 labels");
    check(number_labels("<f4", part<float>("", {0.1f, 2, 16777216})) == "0.1 2.0 16777216.0", "float32 labels");

    const std::string invalid = "path must hold a valid HSoftmaxClassifier, got memory: ";
    const auto refused = [&](const Parts& file, const std::string& facts, const std::string& why) {
        const Bytes wrong(write(file, facts));
        check_refused(why, [&] { Model::load(wrong.view()); });
    };
    refused(named, R"({"kind": "other"})", "path must hold a saved Hierarchy or HSoftmaxClassifier, got other in memory");
    for (const char* facts : {"{}", "[]", "null", R"({"kind": 5})"})
        refused(named, facts, "path must hold a saved Hierarchy or HSoftmaxClassifier, got another kind in memory");
    refused(named, metadata("str", "max"), invalid + "mode must be 'mean' or 'sum', got 'max'");
    refused(named, metadata("str", "sum", "5"), invalid + "n_features must be 4, as the weights', got 5");
    refused(named, metadata("str", "sum", "4.0"), invalid + "n_features must be 4, as the weights', got -1");
    refused(named, metadata("<i8"),
            invalid +
                "arrays must hold classes.values, got classes.offsets, classes.utf8, hierarchy.child, "
                "hierarchy.child_ptr, hierarchy.path_child, hierarchy.path_node, hierarchy.path_ptr, "
                "hierarchy.row_ptr, model.E, model.W, model.b");
    refused(numbered, metadata("|O"), invalid + "classes must be strings, booleans, integers, float32 or float64, got dtype |O");
    refused(numbered, metadata("<f8"), invalid + "classes must be whole numbers of 8 bytes, got 12 bytes");
    refused(numbered, metadata("<i2"), invalid + "classes must be sorted and differ, got others");
    refused(numbered, metadata("|u1"), invalid + "classes must be sorted and differ, got others");
    Parts odd = named;
    odd["classes.offsets"] = part<std::int64_t>("<i8", {0, 6, 3, 9});
    refused(odd, metadata("str"), invalid + "offsets must be non-decreasing from 0 to 9, got 0 to 9");
    odd["classes.offsets"] = part<std::int64_t>("<i8", {0, 3, 7, 9});
    refused(odd, metadata("str"), invalid + "utf8 must hold UTF-8 text, got other bytes in string 1");
    odd["classes.offsets"] = part<std::int64_t>("<i8", {0, 3, 9});
    refused(odd, metadata("str"), invalid + "classes must number 3, got 2");
    odd = named;
    odd["hierarchy.child"] = part<std::int32_t>("<i4", {1, -1, -2, 1});
    refused(odd, metadata("str"), invalid + "child must hold every node once, got node 1 twice");
    odd = named;
    odd["model.W"] = part("<i4", "[2, 2]", W);
    refused(odd, metadata("str"), invalid + "W must be float32 or float64 and E and b alike, got int32");
    odd["model.W"] = part<double>("<f8", "[2, 2]", {1, 2, 3, 4});
    refused(odd, metadata("str"), invalid + "model.b must be a vector of float64, got float32 of 1 dimensions");
    odd = named;
    odd["model.E"] = part("<f4", "[8, 1]", E);
    refused(odd, metadata("str"), invalid + "W must have 2 rows, as b entries, and the columns of E, got (2, 2) and (2,)");
}

}  // namespace

int main() {
    test_trees_with_weights<float>();
    test_trees_with_weights<double>();
    test_independent_nodes();
    test_sparse_rows();
    test_quantised_rows();
    test_classifiers();
    return finish("test_model_file");
}
