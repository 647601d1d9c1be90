// SPDX-License-Identifier: BSD-3-Clause
// Checks of labels, and the examples of each class.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "../types.hpp"
#include "require.hpp"

namespace sparseops::detail {

// Refuses labels that are not those of `rows` examples, out of range, or twice at one example.
inline void require_labels(const LabelsView& labels, std::size_t rows, std::size_t classes) {
    const auto& label = labels.label;
    require_data("labels", label);
    require_data("labels.ptr", labels.ptr);
    if (labels.single()) {
        require(label.size() == rows, "labels must have ", rows, " entries, got ", label.size());
    } else {
        require(labels.ptr.size() == rows + 1, "labels.ptr must have ", rows + 1, " entries, got ", labels.ptr.size());
        require(labels.ptr[0] == 0, "labels.ptr must start with 0, got ", labels.ptr[0]);
        for (std::size_t i = 0; i < rows; ++i) {
            require(labels.ptr[i + 1] >= labels.ptr[i] && labels.ptr[i + 1] <= static_cast<std::int64_t>(label.size()),
                    "labels.ptr must rise to at most ", label.size(), ", got ", labels.ptr[i + 1], " at index ", i + 1);
        }
    }
    const std::size_t used = labels.single() ? rows : static_cast<std::size_t>(labels.ptr.back());
    for (std::size_t j = 0; j < used; ++j) {
        require(label[j] >= 0 && label[j] < static_cast<std::int64_t>(classes), "labels must be in [0, ", classes, "), got ", label[j],
                " at index ", j);
    }
    std::vector<std::int64_t> sorted;
    for (std::size_t i = 0; !labels.single() && i < rows; ++i) {
        const auto of = labels.of(i);
        sorted.assign(of.begin(), of.end());
        std::sort(sorted.begin(), sorted.end());
        const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
        if (twice != sorted.end()) refuse("labels must not repeat within a row, got ", *twice, " twice in row ", i);
    }
}

// The examples of class c, rising: row[ptr[c] .. ptr[c+1]).
struct RowsOfClasses {
    std::vector<std::size_t> ptr;
    std::vector<std::uint32_t> row;
};

// `labels` must have been checked, and have fewer than 2**32 rows.
inline RowsOfClasses rows_of_classes(const LabelsView& labels, std::size_t classes) {
    RowsOfClasses out;
    out.ptr.assign(classes + 1, 0);
    for (std::size_t i = 0; i < labels.rows(); ++i) {
        for (const std::int64_t c : labels.of(i)) ++out.ptr[static_cast<std::size_t>(c) + 1];
    }
    std::partial_sum(out.ptr.begin(), out.ptr.end(), out.ptr.begin());
    out.row.resize(out.ptr.back());
    std::vector<std::size_t> at(out.ptr.begin(), out.ptr.end() - 1);
    for (std::size_t i = 0; i < labels.rows(); ++i) {
        for (const std::int64_t c : labels.of(i)) out.row[at[static_cast<std::size_t>(c)]++] = static_cast<std::uint32_t>(i);
    }
    return out;
}

}  // namespace sparseops::detail
