// SPDX-License-Identifier: BSD-3-Clause
// Scores of the rows of one node for many sparse examples.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "../detail/index.hpp"
#include "../kernels/linear.hpp"
#include "../weights.hpp"
#include "node_scores.hpp"

namespace sparseops::detail {

// Examples that are scored together, their features numbered anew in the order in which they are met: what is kept of each feature
// stays near, and the features of a node that none of the examples has are passed over.
class GatheredExamples {
public:
    // at(i): the SparseExample i of n. Indices are below `features`.
    template <class At>
    void gather(std::size_t features, std::size_t n, At at) {
        if (number_.size() != features) number_.assign(features, -1);
        for (const std::int32_t f : met_) number_[ix(f)] = -1;
        met_.clear();
        begin_.assign(1, 0);
        index_.clear();
        finite_.clear();
        for (std::size_t i = 0; i < n; ++i) {
            const auto x = at(i);
            float odd = 0;
            for (std::size_t j = 0; j < x.size; ++j) {
                std::int32_t& number = number_[ix(x.index[j])];
                if (number < 0) {
                    number = static_cast<std::int32_t>(met_.size());
                    met_.push_back(static_cast<std::int32_t>(x.index[j]));
                }
                index_.push_back(number);
                odd += x.value[j] - x.value[j];
            }
            begin_.push_back(index_.size());
            finite_.push_back(odd == 0);
        }
    }
    std::size_t features() const noexcept { return met_.size(); }
    std::int32_t number(std::int32_t feature) const noexcept { return number_[ix(feature)]; }  // -1 if no example has it
    const std::int32_t* numbers(std::size_t i) const noexcept { return index_.data() + begin_[i]; }
    bool finite(std::size_t i) const noexcept { return finite_[i] != 0; }

private:
    std::vector<std::int32_t> number_, met_, index_;
    std::vector<std::size_t> begin_;
    std::vector<std::uint8_t> finite_;  // whether all values of an example are
};

struct alignas(64) Line {
    float values[linear_lanes] = {};
};

// The scores of node_scores, to the last bit, for gathered examples at one node. Its weights are laid out anew: a feature that many of
// its rows use as a row of a matrix, which costs as much as few single weights, the others as a list of weights.
class OpenNode {
public:
    void open(const SparseRowsView& W, std::size_t v, const GatheredExamples& examples) {
        v_ = v;
        rows_ = ix(W.row_ptr[v + 1] - W.row_ptr[v]);
        lines_ = (rows_ + linear_lanes - 1) / linear_lanes;
        place_.resize(std::max(place_.size(), examples.features()));
        find_used(W, examples);
        const std::size_t least = rows_ > 1 ? least_in_matrix(W) : rows_ + 1;
        matrix_.clear();
        matrix_feature_.clear();
        entries_.clear();
        for (const Used used : used_) {
            const auto begin = ix(W.entry_ptr[used.at]), end = ix(W.entry_ptr[used.at + 1]);
            if (end - begin >= least) {
                place_[ix(used.number)] = {static_cast<std::uint32_t>(matrix_feature_.size()), in_matrix};
                matrix_feature_.push_back(used.at);
                matrix_.resize(matrix_.size() + lines_);
                float* const row = (matrix_.end() - static_cast<std::ptrdiff_t>(lines_))->values;
                for (std::size_t e = begin; e < end; ++e) row[W.slot[e]] = W.weight[e];
            } else {
                place_[ix(used.number)] = {static_cast<std::uint32_t>(entries_.size()), static_cast<std::uint32_t>(end - begin)};
                for (std::size_t e = begin; e < end; ++e) entries_.push_back({W.slot[e], W.weight[e]});
            }
        }
    }
    void close() {
        for (const Used used : used_) place_[ix(used.number)] = {};
    }
    // z[j] = the score of row j, for the example of these values, number `i` of those that were gathered. z has room for a multiple of
    // 16, which is zero from the last row on.
    void scores(const SparseRowsView& W, const GatheredExamples& examples, std::size_t i, const float* x, std::size_t size, float* z) {
        const std::size_t n = find(examples.numbers(i), x, size);
        start_scores(W, v_, z);
        std::fill(z + rows_, z + lines_ * linear_lanes, 0.0f);
        for (std::size_t j = 0; j < n;) {
            if (found_[j].size != in_matrix) {
                add_entries(found_[j], value_[j], z);
                ++j;
                continue;
            }
            const std::size_t first = j;
            while (j < n && found_[j].size == in_matrix) ++j;
            add_matrix(W, first, j, examples.finite(i), z);
        }
    }

private:
    static constexpr std::size_t most_lines = std::size_t{1} << 14;  // of the matrix: 1 MiB
    static constexpr std::uint32_t in_matrix = 0xffffffff;

    struct Place {
        std::uint32_t at = 0, size = 0;  // of entries_, or a row of matrix_ and in_matrix; no weights: 0
    };
    struct Entry {
        std::uint32_t slot;
        float weight;
    };
    struct Used {
        std::int32_t number;
        std::size_t at;  // place of W.feature
    };
    void find_used(const SparseRowsView& W, const GatheredExamples& examples) {
        const auto first = ix(W.feature_ptr[v_]), last = ix(W.feature_ptr[v_ + 1]);
        used_.resize(last - first + 1);
        std::size_t n = 0;
        for (std::size_t at = first; at < last; ++at) {
            const std::int32_t number = examples.number(W.feature[at]);
            used_[n] = {number, at};
            n += number >= 0;
        }
        used_.resize(n);
    }
    // A feature of so many weights goes to the matrix: of an eighth of the rows, if the matrix stays small, else of more.
    std::size_t least_in_matrix(const SparseRowsView& W) const {
        std::size_t least = std::max<std::size_t>(2, lines_ * linear_lanes / 8);
        for (; least <= rows_; least *= 2) {
            std::size_t lines = 0;
            for (const Used used : used_) lines += ix(W.entry_ptr[used.at + 1] - W.entry_ptr[used.at]) >= least ? lines_ : 0;
            if (lines <= most_lines) break;
        }
        return least;
    }
    // How many features of the example the node has; which, and their values. Without branches, so that the loads do not wait for
    // each other.
    std::size_t find(const std::int32_t* number, const float* x, std::size_t size) {
        if (value_.size() < size + 1) {
            row_.resize(size + 1);
            value_.resize(size + 1);
            found_.resize(size + 1);
        }
        std::size_t n = 0;
        for (std::size_t j = 0; j < size; ++j) {
            const Place at = place_[ix(number[j])];
            found_[n] = at;
            row_[n] = static_cast<std::int32_t>(at.at);
            value_[n] = x[j];
            n += at.size > 0;
        }
        return n;
    }
    void add_entries(Place at, float x, float* sums) const {
        const Entry* const end = entries_.data() + at.at + at.size;
        for (const Entry* e = end - at.size; e < end; ++e) sums[e->slot] += x * e->weight;
    }
    void add_matrix(const SparseRowsView& W, std::size_t first, std::size_t last, bool finite, float* sums) const {
        if (finite)
            return linear_kernels().add_rows(matrix_.front().values, lines_ * linear_lanes, row_.data() + first, value_.data() + first,
                                             last - first, sums);
        // a product with a zero of the matrix may be NaN
        for (std::size_t j = first; j < last; ++j) add_feature(W, matrix_feature_[ix(row_[j])], value_[j], sums);
    }

    std::vector<Place> place_;  // of every feature of the examples
    std::vector<Used> used_;    // features of the node that the examples have
    std::vector<Entry> entries_;
    std::vector<Line> matrix_;
    std::vector<std::size_t> matrix_feature_;  // of each row: its place of W.feature
    std::vector<Place> found_;
    std::vector<float> value_;
    std::vector<std::int32_t> row_;
    std::size_t v_ = 0, rows_ = 0, lines_ = 0;
};

}  // namespace sparseops::detail
