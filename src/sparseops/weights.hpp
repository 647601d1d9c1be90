// SPDX-License-Identifier: BSD-3-Clause
// Decision rows of a tree, however they are stored: float, quantized, or sparse.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>
#include <vector>

#include "types.hpp"

namespace sparseops {

// How quantize.hpp stores decision rows.
enum class QuantizedKind : std::uint8_t { int8, bfloat16, float16 };

// Quantized rows: int8 is std::int8_t times the scale of its row, bfloat16 and float16 are bits in std::uint16_t.
struct QuantizedView {
    QuantizedKind kind = QuantizedKind::int8;
    const void* data = nullptr;         // rows · cols elements without gaps
    std::span<const float> scale = {};  // rows of int8; otherwise empty
    std::size_t rows = 0;
    std::size_t cols = 0;
};

// Rows of 16-bit floats that training changes: bits in std::uint16_t.
struct HalfView {
    QuantizedKind kind = QuantizedKind::bfloat16;  // or float16
    std::uint16_t* data = nullptr;                 // rows · cols elements without gaps
    std::size_t rows = 0;
    std::size_t cols = 0;

    std::uint16_t* row(std::size_t i) const noexcept { return data + i * cols; }
    std::size_t size() const noexcept { return rows * cols; }
    operator QuantizedView() const noexcept { return {kind, data, {}, rows, cols}; }
};

// Decision rows as sparse float32, node by node: of each node the features that any of its rows uses, and of each such
// feature the rows and their weights. V nodes, R rows, D features.
//
// The logit of row r = row_ptr[v] + j at x is temperature[depth of v] · (Σ_f x_f w_fj + bias[r]).
struct SparseRowsView {
    std::span<const std::int64_t> row_ptr = {};      // V + 1: node v owns the rows row_ptr[v] .. row_ptr[v+1]), as in its tree
    std::span<const std::int64_t> feature_ptr = {};  // V + 1: node v uses feature[feature_ptr[v] .. feature_ptr[v+1]), rising
    std::span<const std::int32_t> feature = {};      // in [0, features)
    std::span<const std::int64_t> entry_ptr = {};    // one more than `feature`: where the weights of each place of `feature` lie
    std::span<const std::uint16_t> slot = {};        // which row of its node, rising for one feature
    std::span<const float> weight = {};              // of the same places
    std::span<const float> bias = {};                // R
    std::span<const float> temperature = {};         // one per depth of the tree, the root first; empty: all 1
    std::size_t features = 0;                        // D

    std::size_t nodes() const noexcept { return row_ptr.empty() ? 0 : row_ptr.size() - 1; }
    std::size_t rows() const noexcept { return bias.size(); }
    std::size_t cols() const noexcept { return features; }
};

// The same arrays, owned: what training returns.
struct SparseRows {
    std::vector<std::int64_t> row_ptr = {}, feature_ptr = {};
    std::vector<std::int32_t> feature = {};
    std::vector<std::int64_t> entry_ptr = {};
    std::vector<std::uint16_t> slot = {};
    std::vector<float> weight = {}, bias = {}, temperature = {};
    std::size_t features = 0;

    SparseRowsView view() const noexcept { return {row_ptr, feature_ptr, feature, entry_ptr, slot, weight, bias, temperature, features}; }
};

// A node of sparse rows has at most this many: a slot is 16 bits.
constexpr std::size_t max_sparse_rows_of_node = 65535;

struct HierarchyView;

// Throws std::invalid_argument unless the arrays are as SparseRowsView says, and their numbers finite. Every operator trusts
// rows that were checked so. O(V + R + weights).
void require_sparse_rows(const SparseRowsView& W);

// The same, and unless they are rows of this tree: its nodes' rows, and one temperature per depth or none.
void require_sparse_rows(const SparseRowsView& W, const HierarchyView& h);

// W without the weights of |w| <= threshold, and without the features that lose all. The biases stay.
// Throws std::invalid_argument if the threshold is negative or not finite. O(weights); W must have been checked.
SparseRows prune(const SparseRowsView& W, float threshold);

// W (R, D) of an operator, of any kind. A view: what it was made of must outlive it.
template <Real T>
class Weights {
public:
    Weights() = default;
    Weights(const T* data, std::size_t rows, std::size_t cols) noexcept : rows_(MatrixView<const T>{data, rows, cols}) {}
    Weights(MatrixView<const T> rows) noexcept : rows_(rows) {}
    Weights(MatrixView<T> rows) noexcept : rows_(MatrixView<const T>(rows)) {}
    // Products of these two are float32: T must be float where they are computed.
    Weights(QuantizedView rows) noexcept : rows_(rows) {}
    Weights(SparseRowsView rows) noexcept : rows_(rows) {}  // which must have passed require_sparse_rows with the operator's tree

    std::size_t rows() const noexcept {
        if (const auto* W = dense()) return W->rows;
        return sparse() ? sparse()->rows() : quantized()->rows;
    }
    std::size_t cols() const noexcept {
        if (const auto* W = dense()) return W->cols;
        return sparse() ? sparse()->cols() : quantized()->cols;
    }
    const MatrixView<const T>* dense() const noexcept { return std::get_if<MatrixView<const T>>(&rows_); }  // null if of another kind
    const QuantizedView* quantized() const noexcept { return std::get_if<QuantizedView>(&rows_); }
    const SparseRowsView* sparse() const noexcept { return std::get_if<SparseRowsView>(&rows_); }

private:
    std::variant<MatrixView<const T>, QuantizedView, SparseRowsView> rows_;
};

}  // namespace sparseops
