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

    // The same for `rows` rows of X, between `open` and `close`: a table of the node's features pays where rows are many beside them.
    void open(std::size_t v, std::size_t rows) {
        node_ = v;
        spread_ = rows > 1 && static_cast<std::int64_t>(gallop_cost * rows) > W_.feature_ptr[v + 1] - W_.feature_ptr[v];
        if (!spread_) return;
        if (!has_table_) table_ = OpenNode(W_.features);
        has_table_ = true;
        table_.open(W_, v);
    }
    void logits(std::size_t x, float* z) {
        if (!spread_) return node(x, node_, z);
        table_.scores(W_, (*X_)[x], z);
        warm(node_, z);
    }
    void close() {
        if (spread_) table_.close(W_);
    }

private:
    static constexpr std::size_t gallop_cost = 64;  // features in the table that cost what galloping for one row does

    void warm(std::size_t v, float* z) const noexcept {
        if (W_.temperature.empty()) return;
        const float temperature = W_.temperature[static_cast<std::size_t>(level_[v])];
        const auto rows = static_cast<std::size_t>(W_.row_ptr[v + 1] - W_.row_ptr[v]);
        for (std::size_t j = 0; j < rows; ++j) z[j] *= temperature;
    }

    std::span<const std::int32_t> level_;
    SparseRowsView W_;
    const OrderedRows* X_;
    OpenNode table_{0};  // allocated when the first node is opened for many
    std::size_t node_ = 0;
    bool has_table_ = false, spread_ = false;
};

}  // namespace sparseops::detail
