// SPDX-License-Identifier: BSD-3-Clause
// Saved trees, models and arrays, mapped into memory and checked: what Python's Hierarchy.save, HSoftmaxClassifier.save and
// save_arrays write.
//
// The format, little-endian: 8 bytes "SPARSEOP"; uint32 version, 1; uint32 CRC-32 of the header text; uint64 length of the header
// text. The header text, JSON: {"arrays": {name: {"dtype", "shape", "offset", "nbytes", "crc32"}}, "metadata": …}; zeros up to a
// multiple of 64. The arrays, row-major and without gaps but zeros up to a multiple of 64 after each; offsets count from the
// first one. Sequences of strings are two arrays, `utf8` (bytes) and `offsets` (one more than strings).
//
// A tree has the metadata {"kind": "Hierarchy"} and the six arrays of HierarchyView, and one more if its nodes are independent:
// `independent`, the uint8 number 1. It may have weights beside it: `W` and, if any, `b` and `E`; or quantized, `W.data` and for int8
// `W.scale`, and `E.data` of 16 bits; or sparse, the arrays of SparseWeights under `W.`,
// compact or not.
//   save_arrays(path, {**h.to_arrays(), "W": W, "b": b}, {"kind": "Hierarchy"})
// A classifier has the kind "HSoftmaxClassifier", the tree under `hierarchy.`, weights under `model.`, and labels under `classes.`:
// strings, or the bytes `values` of the metadata's `label_dtype`. `sparseops train` adds the words of text under `vocabulary.`:
// word i is feature i.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "bag.hpp"
#include "hierarchy.hpp"
#include "hsoftmax.hpp"
#include "types.hpp"

namespace sparseops {

// An array as it lies in a file, row-major.
struct StoredArray {
    std::string_view dtype;  // uint8, int8, int16, int32, int64, float16, float32 or float64
    std::vector<std::size_t> shape;
    std::span<const std::byte> bytes;
};

// The arrays of a file, by name. Copies share the mapping; views live as long as one of them does.
class ArrayFile {
public:
    // Maps the file and checks all of it: sizes, bounds and every checksum, so each byte is read once. Throws
    // std::invalid_argument if it is damaged or of another format or version, std::system_error if it cannot be read.
    // Nobody may write to the file while it is mapped; Python's functions replace files and never write into one.
    static ArrayFile load(const std::filesystem::path& path);

    // The same for bytes that lie in memory, at a multiple of 8, and outlive the result; `name` is for messages.
    static ArrayFile load(std::span<const std::byte> bytes, std::string name = "memory");

    const std::string& name() const noexcept { return name_; }
    const std::map<std::string, StoredArray, std::less<>>& arrays() const noexcept { return arrays_; }
    const StoredArray& array(std::string_view name) const;            // throws std::invalid_argument if there is none
    std::string_view metadata() const noexcept { return metadata_; }  // JSON

    // An array of exactly this type and number of dimensions; T: std::uint8_t, std::int8_t, std::uint16_t, …, float or double.
    // Throws std::invalid_argument otherwise.
    template <class T>
    std::span<const T> vector(std::string_view name) const;
    template <class T>
    MatrixView<const T> matrix(std::string_view name) const;

    // The strings under `prefix`.utf8 and `prefix`.offsets. O(bytes). Throws std::invalid_argument unless they are whole.
    StringsView strings(std::string_view prefix) const;

private:
    template <class T>
    const StoredArray& array_of(std::string_view name, std::size_t dimensions) const;
    void read(std::span<const std::byte> bytes);

    std::string name_, metadata_;
    std::shared_ptr<const void> owner_;
    std::map<std::string, StoredArray, std::less<>> arrays_;
};

template <Real T>
struct ModelWeights {
    MatrixView<const T> E = {};  // (F, H), to be averaged or summed by embedding_bag; without data: X itself feeds the tree
    Weights<T> W = {};           // (R, D); quantized or sparse with T = float alone
    std::span<const T> b = {};   // R, or empty
    QuantizedView half_E = {};   // E instead, where it is stored in bfloat16 or float16; with T = float alone

    bool has_embedding() const noexcept { return E.data != nullptr || half_E.data != nullptr; }
    std::size_t features() const noexcept { return half_E.data ? half_E.rows : E.rows; }  // of E: F, and H
    std::size_t hidden() const noexcept { return half_E.data ? half_E.cols : E.cols; }
    // embedding_bag of E, however it is stored.
    template <Index I>
    void embed(CsrView<const T, I> X, BagMode mode, MatrixView<T> out, int num_threads = 0) const {
        if constexpr (std::same_as<T, float>) {
            if (half_E.data) return embedding_bag(X, half_E, mode, out, num_threads);
        }
        embedding_bag(X, E, mode, out, num_threads);
    }
    HSoftmaxInput<T> input(Examples<T> X) const { return {.X = X, .W = W, .b = b}; }
};

// A tree, its weights and its labels. Movable; everything that it gives is a view of it.
class Model {
public:
    // Throws as ArrayFile::load does, and std::invalid_argument unless the file holds a saved Hierarchy or HSoftmaxClassifier
    // whose parts are valid and fit each other. O(bytes of the file).
    static Model load(const std::filesystem::path& path) { return Model(ArrayFile::load(path)); }
    static Model load(std::span<const std::byte> bytes, std::string name = "memory") {
        return Model(ArrayFile::load(bytes, std::move(name)));
    }
    explicit Model(ArrayFile file);

    const ArrayFile& file() const noexcept { return file_; }
    const HierarchyView& tree() const noexcept { return tree_.view(); }
    bool has_weights() const noexcept { return has_weights_; }  // false for a tree alone
    const std::variant<ModelWeights<float>, ModelWeights<double>>& weights() const noexcept { return weights_; }
    BagMode mode() const noexcept { return mode_; }
    std::size_t features() const noexcept { return features_; }  // columns of the rows that the model takes

    // The label of class c, as Python's str() has it; its number if the file names no labels. Throws unless c is a class.
    std::string label(std::size_t c) const;

private:
    struct Metadata;
    void read_tree(const std::string& prefix);
    void read_weights(const std::string& prefix, const Metadata& metadata);
    void read_labels(const std::string& dtype);

    ArrayFile file_;
    HierarchyIndex tree_;
    std::shared_ptr<const SparseRows> unpacked_;  // what a compact file holds in other forms
    std::variant<ModelWeights<float>, ModelWeights<double>> weights_;
    BagMode mode_ = BagMode::mean;
    bool has_weights_ = false;
    std::size_t features_ = 0;
    StringsView text_labels_;
    std::span<const std::uint8_t> number_labels_;
    std::string label_dtype_;  // of number_labels_: <, > or |, a kind of i, u, f, b, and the bytes of one
};

}  // namespace sparseops
