// Files of arrays, trees and models: what is right is read, and what is not is told in the words of Python, never followed.
#include <bit>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>

#include <sparseops/model_file.hpp>
#include <sparseops/quantize.hpp>
#include <sparseops/search.hpp>

#include "../../src/sparseops/detail/crc32.hpp"
#include "../../src/sparseops/detail/json.hpp"
#include "trees.hpp"

namespace {

using namespace sparseops;
using namespace sparseops_test;
using detail::JsonReader;

// Bytes at a multiple of 8, as ArrayFile::load wants them.
struct Bytes {
    std::vector<std::uint64_t> words;
    std::size_t size = 0;

    explicit Bytes(const std::string& text) : words((text.size() + 7) / 8), size(text.size()) {
        if (size > 0) std::memcpy(words.data(), text.data(), size);
    }
    std::span<const std::byte> view() const { return std::as_bytes(std::span(words)).first(size); }
};

struct Part {
    std::string dtype, shape, bytes;
};
using Parts = std::map<std::string, Part>;

template <class T>
Part part(const char* dtype, const std::string& shape, const std::vector<T>& values) {
    return {dtype, shape, std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T))};
}
template <class T>
Part part(const char* dtype, const std::vector<T>& values) {
    return part(dtype, "[" + std::to_string(values.size()) + "]", values);
}

void pad(std::string& text) { text.resize((text.size() + 63) / 64 * 64); }

std::uint32_t crc_of(const std::string& text) { return detail::crc32(std::as_bytes(std::span(text))); }

template <class T>
std::string raw(T value) {
    return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

std::string with_header(const std::string& header, const std::string& arrays, std::uint32_t version = 1) {
    std::string file = "SPARSEOP" + raw(version) + raw(crc_of(header)) + raw(std::uint64_t{header.size()}) + header;
    pad(file);
    return file + arrays;
}

std::string write(const Parts& parts, const std::string& metadata) {
    std::string header, arrays;
    for (const auto& [name, p] : parts) {
        header += (header.empty() ? "" : ", ") + ("\"" + name + "\": {\"dtype\": \"" + p.dtype + "\", \"shape\": " + p.shape) +
                  ", \"offset\": " + std::to_string(arrays.size()) + ", \"nbytes\": " + std::to_string(p.bytes.size()) +
                  ", \"crc32\": " + std::to_string(crc_of(p.bytes)) + "}";
        arrays += p.bytes;
        pad(arrays);
    }
    return with_header("{\"arrays\": {" + header + "}, \"metadata\": " + metadata + "}", arrays);
}

void add_tree(Parts& parts, const Hierarchy& h, const std::string& prefix = "") {
    parts[prefix + "path_ptr"] = part("<i8", h.path_ptr);
    parts[prefix + "path_node"] = part("<i4", h.path_node);
    parts[prefix + "path_child"] = part("<i4", h.path_child);
    parts[prefix + "child_ptr"] = part("<i8", h.child_ptr);
    parts[prefix + "child"] = part("<i4", h.child);
    parts[prefix + "row_ptr"] = part("<i8", h.row_ptr);
}

const std::string tree_kind = R"({"kind": "Hierarchy"})";
const std::string damaged = "path must be an undamaged cython_sparseops file, got memory: ";

void check_damaged(const std::string& file, const std::string& why) {
    const Bytes bytes(file);
    check_refused(damaged + why, [&] { ArrayFile::load(bytes.view()); });
}

// ---- JSON and the checksum

std::string read_string(const std::string& text) {
    JsonReader json(text);
    std::string value = json.string();
    json.end();
    return value;
}

std::int64_t read_size(const std::string& text) {
    JsonReader json(text);
    const std::int64_t value = json.size();
    json.end();
    return value;
}

void test_json() {
    check(crc_of("123456789") == 0xcbf43926u && crc_of("") == 0, "the check value of CRC-32");
    check(read_string(R"("a\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00z")") == "a\"\\/\b\f\n\r\té\U0001F600z", "escapes");
    check(read_string(R"("\ud83dx")") == "\xed\xa0\xbdx" && read_string(R"("\ud83d\u0041")") ==
                                                                "\xed\xa0\xbd"
                                                                "A",
          "a lone surrogate passes");
    check(read_size(" 0 ") == 0 && read_size("9007199254740993") == 9007199254740993, "whole numbers");
    check(read_size("9223372036854775807") == INT64_MAX && read_size("9223372036854775808") == INT64_MAX &&
              read_size("99999999999999999999999999") == INT64_MAX,
          "numbers that do not fit are the largest");
    for (const char* other : {"-1", "1.0", "1e3", "-0", "true", "null", "NaN", "-Infinity", "\"1\"", "[1]", "{\"a\": [1, {}]}"})
        check(read_size(other) == -1, other, " is no size");
    const auto refused = [](const std::string& text) {
        try {
            JsonReader json(text);
            json.skip();
            json.end();
        } catch (const std::invalid_argument&) {
            return true;
        }
        return false;
    };
    for (const char* bad : {"",
                            " ",
                            "{",
                            "[",
                            "[1",
                            "[1,",
                            "[1,]",
                            "{\"a\"",
                            "{\"a\":",
                            "{\"a\":1",
                            "{\"a\":1,",
                            "{\"a\":1,}",
                            "{a:1}",
                            "[1]2",
                            "01",
                            "-",
                            "1.",
                            ".5",
                            "1e",
                            "1e+",
                            "+1",
                            "tru",
                            "nul",
                            "nan",
                            "\"",
                            "\"\\",
                            "\"\\x\"",
                            "\"\\u12\"",
                            "\"\\u12g4\"",
                            "\"\n\"",
                            "\"\x80\"",
                            "\"\xc0\x80\"",
                            "\"\xf4\x90\x80\x80\"",
                            "\"\xe2\x82\"",
                            "{\"a\": 1, \"a\": 2}",
                            "{\"a\": 1, \"\\u0061\": 2}",
                            "//",
                            "\xef\xbb\xbf"
                            "1"})
        check(refused(bad), "'", bad, "' should be refused");
    check(refused(std::string("1\0", 2)) && refused(std::string("\0", 1)), "a zero byte is no space");
    const auto nested = [](std::size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
    check(!refused(nested(64)) && refused(nested(65)) && refused(std::string(1'000'000, '[')), "the depth is limited");
}

// ---- arrays

void test_arrays() {
    const std::string text = write({{"f", part<float>("<f4", "[2, 3]", {1, 2, 3, 4, 5, 6})},
                                    {"i", part<std::int64_t>("<i8", {-1, 7})},
                                    {"empty", part<double>("<f8", "[0, 5]", {})},
                                    {"s.utf8", {"|u1", "[3]", "a\xc3\xa7"}},
                                    {"s.offsets", part<std::int64_t>("<i8", {0, 1, 1, 3})}},
                                   R"({"note": "ü"})");
    const Bytes bytes(text);
    const ArrayFile file = ArrayFile::load(bytes.view());
    const auto f = file.matrix<float>("f");
    check(f.rows == 2 && f.cols == 3 && f.row(1)[2] == 6 && file.vector<std::int64_t>("i")[1] == 7, "arrays come back");
    check(file.matrix<double>("empty").rows == 0 && file.matrix<double>("empty").cols == 5, "an empty array");
    check(file.metadata() == R"({"note": "ü"})" && file.arrays().size() == 5 && file.name() == "memory", "what else is in a file");
    const StringsView strings = file.strings("s");
    check(strings.size() == 3 && strings[0] == "a" && strings[1].empty() && strings[2] == "ç", "strings");
    check_refused("arrays must hold x, got empty, f, i, s.offsets, s.utf8", [&] { file.vector<float>("x"); });
    check_refused("f must be a vector of float32, got float32 of 2 dimensions", [&] { file.vector<float>("f"); });
    check_refused("f must be a matrix of int32, got float32 of 2 dimensions", [&] { file.matrix<std::int32_t>("f"); });

    for (std::size_t n = 0; n < text.size(); ++n) {
        const Bytes cut(text.substr(0, n));
        try {
            ArrayFile::load(cut.view());
            check(false, "a file cut to ", n, " bytes should be refused");
        } catch (const std::invalid_argument& error) {
            check(std::string(error.what()).starts_with(damaged), "cut to ", n, ": ", error.what());
        }
    }
    for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
        std::string flipped = text;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
        const Bytes wrong(flipped);
        try {
            ArrayFile::load(wrong.view());
            check(false, "a file with bit ", bit, " flipped should be refused");
        } catch (const std::invalid_argument& error) {
            check(std::string(error.what()).starts_with(damaged), "bit ", bit, ": ", error.what());
        }
    }
    check_damaged("", "it is too short");
    check_damaged(std::string(4096, '\0'), "it is not of this format");
    check_damaged(text + "more", "its size is wrong");
    check_damaged(text + std::string(64, '\0'), "its size is wrong");
    check_damaged(with_header("{}", "", 2), "its version is 2, this library reads 1");
    check_damaged(with_header("[]", ""), "its header is malformed (no '{' at byte 0)");
    check_damaged(with_header("{}", ""), "its header is malformed (it lacks arrays or metadata)");
    check_damaged(with_header(R"({"arrays": {"a": {}}, "metadata": 1})", ""),
                  "its header is malformed (array a lacks dtype, shape, offset, nbytes or crc32)");
    check_refused("bytes must start at a multiple of 8, got another place", [&] { ArrayFile::load(bytes.view().subspan(1)); });
}

// The checksums are right here, so that it is the header's claims that are checked.
void test_claims() {
    const auto claim = [](const std::string& entries, const std::string& arrays) {
        return with_header("{\"arrays\": {" + entries + "}, \"metadata\": {}}", arrays);
    };
    const auto entry = [](const std::string& name, const std::string& dtype, const std::string& shape, const std::string& offset,
                          const std::string& nbytes) {
        return "\"" + name + "\": {\"dtype\": " + dtype + ", \"shape\": " + shape + ", \"offset\": " + offset + ", \"nbytes\": " + nbytes +
               ", \"crc32\": " + std::to_string(crc_of(std::string(64, '\0'))) + "}";
    };
    const std::string zeros(64, '\0');
    const auto one = [&](const std::string& dtype, const std::string& shape, const std::string& offset, const std::string& nbytes) {
        return claim(entry("a", dtype, shape, offset, nbytes), zeros);
    };
    const Bytes right(one("\"<f4\"", "[16]", "0", "64"));
    check(ArrayFile::load(right.view()).vector<float>("a").size() == 16, "such a file can be right");

    check_damaged(one("\"<f3\"", "[16]", "0", "64"), "array a has dtype <f3");
    check_damaged(one("\"|O\"", "[8]", "0", "64"), "array a has dtype |O");
    for (const char* n : {"-1", "-16", "1.5", "16.0", "true", "null", "\"16\"", "NaN"}) {
        check_damaged(one("\"<f4\"", std::string("[") + n + "]", "0", "64"), "array a has a negative size");
        check_damaged(one("\"<f4\"", "[16]", n, "64"), "array a has a negative size");
        check_damaged(one("\"<f4\"", "[16]", "0", n), "array a has a negative size");
    }
    const std::string most = std::to_string(INT64_MAX), half = std::to_string(std::int64_t{1} << 62),
                      root = std::to_string(std::int64_t{1} << 32);
    const std::vector<std::string> shapes = {"[15]",
                                             "[17]",
                                             "[" + most + "]",
                                             "[" + half + "]",
                                             "[" + half + ", 4]",
                                             "[" + root + ", " + root + "]",
                                             "[16, " + most + "]",
                                             "[0, " + most + "]",
                                             "[99999999999999999999999]"};
    for (const std::string& shape : shapes) check_damaged(one("\"<f4\"", shape, "0", "64"), "array a does not fit");
    for (const auto& shape : {"[0, " + most + "]", "[" + most + ", 0, " + most + "]"})
        check_damaged(one("\"<f4\"", shape, "0", "0"), "array a does not fit");
    for (const auto& offset : {std::string("1"), std::string("64"), most, half})
        check_damaged(one("\"<f4\"", "[16]", offset, "64"), "array a does not fit");
    check_damaged(one("\"|u1\"", "[" + most + "]", "0", most), "its size is wrong");
    check_damaged(one("\"|u1\"", "[65]", "0", "65"), "its size is wrong");
    check_damaged(one("\"|u1\"", "[128]", "0", "128"), "its size is wrong");
    check_damaged(one("\"<f4\"", "[0]", "0", "0"), "its size is wrong");
    std::string ones;
    for (int i = 0; i < 65; ++i) ones += i ? ", 1" : "1";
    check_damaged(one("\"|u1\"", "[" + ones + "]", "0", "1"), "array a does not fit");
    check_damaged(one("5", "[16]", "0", "64"), "its header is malformed (no '\"' at byte 27)");
    check_damaged(one("\"<f4\"", "16", "0", "64"), "its header is malformed (no '[' at byte 43)");
    check_damaged(claim(entry("a", "\"<f4\"", "[16]", "0", "64") + ", " + entry("a", "\"<f4\"", "[16]", "0", "64"), zeros),
                  "its header is malformed (a name occurs twice at byte 101)");
    check_damaged(claim(entry("a", "\"<f4\"", "[16]", "0", "64") + ", " + entry("b", "\"<f4\"", "[16]", "0", "64"), zeros + zeros),
                  "array b does not fit");  // they overlap
}

// ---- models

template <Real T>
constexpr const char* dtype_code = sizeof(T) == 4 ? "<f4" : "<f8";

std::string sizes(std::size_t rows, std::size_t cols) { return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]"; }

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
        dequantize(weights.quantized, {found.data(), rows, 16}, 1);
        check(weights.quantized.kind == kind && same_bytes(found, expected), "quantised rows come back");
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
        return R"({"kind": "HSoftmaxClassifier", "label_dtype": ")" + dtype + R"(", "mode": ")" + mode + R"(", "n_features": )" + features +
               "}";
    };
    const Bytes bytes(write(named, metadata("str")));
    const Model model = Model::load(bytes.view());
    const auto& weights = std::get<ModelWeights<float>>(model.weights());
    check(model.label(0) == "ant" && model.label(2) == "€" && model.mode() == BagMode::sum && model.features() == 4,
          "a classifier of strings");
    check(weights.has_embedding() && weights.E.rows == 4 && weights.E.row(3)[1] == 8 && weights.b[1] == 6, "its weights");
    check_refused("c must be below 3, got 3", [&] { (void)model.label(3); });

    const auto number_labels = [&](const std::string& dtype, const Part& values) {
        numbered["classes.values"] = {"|u1", "[" + std::to_string(values.bytes.size()) + "]", values.bytes};
        const Bytes file(write(numbered, metadata(dtype)));
        const Model m = Model::load(file.view());
        return m.label(0) + " " + m.label(1) + " " + m.label(2);
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
    refused(odd, metadata("str"), invalid + "path_node and path_child must be the way from the root to each class, got another at class 1");
    odd = named;
    odd["model.W"] = part("<i4", "[2, 2]", W);
    refused(odd, metadata("str"), invalid + "W must be float32 or float64 and E and b alike, got int32");
    odd["model.W"] = part<double>("<f8", "[2, 2]", {1, 2, 3, 4});
    refused(odd, metadata("str"), invalid + "model.b must be a vector of float64, got float32 of 1 dimensions");
    odd = named;
    odd["model.E"] = part("<f4", "[8, 1]", E);
    refused(odd, metadata("str"), invalid + "W must have 2 rows, as b entries, and the columns of E, got (2, 2) and (2,)");
}

void test_paths() {
    const auto folder =
        std::filesystem::temp_directory_path() / ("sparseops_test_model_file_" + std::to_string(std::bit_cast<std::uintptr_t>(&damaged)));
    std::filesystem::create_directories(folder);
    const auto path = folder / "a.tree";
    Parts parts;
    add_tree(parts, huffman(zipf(23)));
    const std::string text = write(parts, tree_kind);
    std::ofstream(path, std::ios::binary) << text;
    check(Model::load(path).tree().classes() == 23, "a file");
    std::ofstream(path, std::ios::binary) << text.substr(0, text.size() - 1);
    check_refused("path must be an undamaged cython_sparseops file, got " + path.string() + ": its size is wrong",
                  [&] { Model::load(path); });
    std::ofstream(path, std::ios::binary) << "";
    check_refused("path must be an undamaged cython_sparseops file, got " + path.string() + ": it is too short",
                  [&] { Model::load(path); });
    for (const auto& absent : {folder / "absent", folder}) {
        try {
            Model::load(absent);
            check(false, absent, " should be refused");
        } catch (const std::system_error& error) {
            check(std::string(error.what()).starts_with(absent.string()), "the error of a file names it: ", error.what());
        }
    }
    std::filesystem::remove_all(folder);
}

}  // namespace

int main() {
    test_json();
    test_arrays();
    test_claims();
    test_trees_with_weights<float>();
    test_trees_with_weights<double>();
    test_quantised_rows();
    test_classifiers();
    test_paths();
    return finish("test_model_file");
}
