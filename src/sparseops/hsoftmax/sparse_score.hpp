// SPDX-License-Identifier: BSD-3-Clause
// Logits of sparse rows of W at sparse rows of X.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include "../detail/csr_rows.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax.hpp"
#include "node_scores.hpp"
#include "open_node.hpp"

namespace sparseops::detail {

// A checked CSR matrix with 32-bit indices that rise within a row; those that are equal stay in their order. It copies what is not
// so, and views the rest.
class OrderedRows {
public:
    // Throws std::invalid_argument unless X is CSR with indices in range.
    template <Index I>
    explicit OrderedRows(const CsrView<const float, I>& X, int num_threads = 1) : value_(X.data.data()) {
        const bool rises = require_csr_rows(X, "X", num_threads, false);
        begin_.assign(X.indptr.begin(), X.indptr.end());
        if constexpr (std::is_same_v<std::remove_const_t<I>, std::int32_t>) index_ = X.indices.data();
        if (rises && index_) return;
        indices_.assign(X.indices.begin(), X.indices.end());
        index_ = indices_.data();
        if (rises) return;
        values_.assign(X.data.begin(), X.data.end());
        value_ = values_.data();
        each_row_block(X, num_threads, [&](std::size_t first, std::size_t end) {
            std::vector<std::pair<std::int32_t, float>> row;
            for (std::size_t i = first; i < end; ++i) order(row_begin(X, i), row_size(X, i), row);
        });
    }
    OrderedRows(const OrderedRows&) = delete;
    OrderedRows& operator=(const OrderedRows&) = delete;

    SparseExample<std::int32_t> operator[](std::size_t i) const noexcept {
        const auto begin = static_cast<std::size_t>(begin_[i]);
        return {index_ + begin, value_ + begin, static_cast<std::size_t>(begin_[i + 1]) - begin};
    }

private:
    void order(std::size_t begin, std::size_t n, std::vector<std::pair<std::int32_t, float>>& row) {
        row.resize(n);
        for (std::size_t j = 0; j < n; ++j) row[j] = {indices_[begin + j], values_[begin + j]};
        std::stable_sort(row.begin(), row.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
        for (std::size_t j = 0; j < n; ++j) {
            indices_[begin + j] = row[j].first;
            values_[begin + j] = row[j].second;
        }
    }

    std::vector<std::int64_t> begin_;
    const std::int32_t* index_ = nullptr;
    const float* value_ = nullptr;
    std::vector<std::int32_t> indices_;
    std::vector<float> values_;
};

// Logits of one node after the other; `node` may be called by all threads, the others by one. `X` must outlive it.
class SparseScorer {
public:
    SparseScorer(const HierarchyView& h, const SparseRowsView& W, const OrderedRows& X) : level_(h.level), W_(W), X_(&X) {}

    // z[j]: the logit of row j of node v at row x of X.
    void node(std::size_t x, std::size_t v, float* z) const noexcept {
        node_scores(W_, v, (*X_)[x], z);
        warm(v, z);
    }
    // The same before the temperature. z has room for a multiple of 16, which is zero from the last row on.
    void node_alone(std::size_t x, std::size_t v, float* z) const noexcept {
        const std::size_t rows = rows_of(v);
        std::fill(z + rows, z + (rows + linear_lanes - 1) / linear_lanes * linear_lanes, 0.0f);
        node_scores(W_, v, (*X_)[x], z);
    }
    float temperature(std::size_t v) const noexcept {
        return W_.temperature.empty() ? 1.0f : W_.temperature[static_cast<std::size_t>(level_[v])];
    }

    // Nodes will be opened for the rows at(i) of X, i < n, until it is called again.
    template <class At>
    void gather(std::size_t n, At at) {
        rows_.resize(n);
        for (std::size_t i = 0; i < n; ++i) rows_[i] = at(i);
        has_gathered_ = false;
    }
    // The same scores for `rows` of them, between `open` and `close`: a table of the node's features pays where rows are many beside them.
    void open(std::size_t v, std::size_t rows) {
        node_ = v;
        spread_ = rows > 1 && static_cast<std::int64_t>(gallop_cost * rows) > W_.feature_ptr[v + 1] - W_.feature_ptr[v];
        if (!spread_) return;
        if (!has_gathered_) examples_.gather(W_.features, rows_.size(), [&](std::size_t i) { return (*X_)[rows_[i]]; });
        has_gathered_ = true;
        table_.open(W_, v, examples_);
    }
    // Of the row at(i), before the temperature; of a multiple of 16, zero from the last row on.
    float* scores(std::size_t i) {
        const std::size_t lines = (rows_of(node_) + linear_lanes - 1) / linear_lanes;
        if (lines_.size() < lines) lines_.resize(lines);
        float* const z = lines_.front().values;
        if (spread_) {
            const auto row = (*X_)[rows_[i]];
            table_.scores(W_, examples_, i, row.value, row.size, z);
        } else {
            node_alone(rows_[i], node_, z);
        }
        return z;
    }
    void logits(std::size_t i, float* z) {
        if (!spread_) return node(rows_[i], node_, z);
        std::copy_n(scores(i), rows_of(node_), z);
        warm(node_, z);
    }
    void close() {
        if (spread_) table_.close();
    }

private:
    static constexpr std::size_t gallop_cost = 64;  // features in the table that cost what galloping for one row does

    std::size_t rows_of(std::size_t v) const noexcept { return static_cast<std::size_t>(W_.row_ptr[v + 1] - W_.row_ptr[v]); }
    void warm(std::size_t v, float* z) const noexcept {
        if (W_.temperature.empty()) return;
        const float by = temperature(v);
        const std::size_t rows = rows_of(v);
        for (std::size_t j = 0; j < rows; ++j) z[j] *= by;
    }

    std::span<const std::int32_t> level_;
    SparseRowsView W_;
    const OrderedRows* X_;
    GatheredExamples examples_;  // when the first node is opened for many
    OpenNode table_;
    std::vector<Line> lines_;        // of scores
    std::vector<std::size_t> rows_;  // that were gathered
    std::size_t node_ = 0;
    bool has_gathered_ = false, spread_ = false;
};

}  // namespace sparseops::detail
