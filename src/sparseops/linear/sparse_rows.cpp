// SPDX-License-Identifier: BSD-3-Clause
// Checks of sparse decision rows, and their pruning.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../detail/require.hpp"
#include "../hierarchy.hpp"
#include "../weights.hpp"

namespace sparseops {
namespace {

using detail::require;

void require_pointers(std::span<const std::int64_t> ptr, std::size_t entries, std::size_t end, const char* name) {
    require(ptr.size() == entries, name, " must have ", entries, " entries, got ", ptr.size());
    detail::require_data(name, ptr);
    require(ptr[0] == 0, name, " must start with 0, got ", ptr[0]);
    for (std::size_t i = 1; i < ptr.size(); ++i) {
        require(ptr[i] >= ptr[i - 1], name, " must not decrease, got ", ptr[i], " after ", ptr[i - 1], " at index ", i);
    }
    require(static_cast<std::size_t>(ptr.back()) == end, name, " must end with ", end, ", got ", ptr.back());
}

void require_finite(std::span<const float> values, const char* name) {
    for (std::size_t i = 0; i < values.size(); ++i) {
        require(std::isfinite(values[i]), name, " must be finite, got ", values[i], " at index ", i);
    }
}

std::size_t at(std::span<const std::int64_t> ptr, std::size_t i) { return static_cast<std::size_t>(ptr[i]); }

void require_node(const SparseRowsView& W, std::size_t v) {
    const auto rows = W.row_ptr[v + 1] - W.row_ptr[v];
    std::int64_t last = -1;
    for (std::size_t f = at(W.feature_ptr, v); f < at(W.feature_ptr, v + 1); ++f) {
        const std::int64_t feature = W.feature[f];
        require(feature >= 0 && feature < static_cast<std::int64_t>(W.features), "feature must be in [0, ", W.features, "), got ", feature,
                " at index ", f);
        require(feature > last, "feature must rise within a node, got ", feature, " after ", last, " at index ", f);
        last = feature;
        std::int64_t before = -1;
        for (std::size_t e = at(W.entry_ptr, f); e < at(W.entry_ptr, f + 1); ++e) {
            const std::int64_t slot = W.slot[e];
            require(slot < rows, "slot must be below the ", rows, " rows of its node, got ", slot, " at index ", e);
            require(slot > before, "slot must rise within a feature, got ", slot, " after ", before, " at index ", e);
            before = slot;
        }
    }
}

}  // namespace

void require_sparse_rows(const SparseRowsView& W) {
    require(!W.row_ptr.empty(), "row_ptr must not be empty");
    require(W.features <= static_cast<std::size_t>(std::numeric_limits<std::int32_t>::max()), "features must be below 2**31, got ",
            W.features);
    require_pointers(W.row_ptr, W.row_ptr.size(), W.bias.size(), "row_ptr");
    require_pointers(W.feature_ptr, W.row_ptr.size(), W.feature.size(), "feature_ptr");
    require_pointers(W.entry_ptr, W.feature.size() + 1, W.slot.size(), "entry_ptr");
    require(W.weight.size() == W.slot.size(), "weight must have ", W.slot.size(), " entries, got ", W.weight.size());
    detail::require_data("feature", W.feature);
    detail::require_data("slot", W.slot);
    detail::require_data("weight", W.weight);
    detail::require_data("bias", W.bias);
    detail::require_data("temperature", W.temperature);
    for (std::size_t v = 0; v < W.nodes(); ++v) {
        const std::int64_t rows = W.row_ptr[v + 1] - W.row_ptr[v];
        require(rows <= static_cast<std::int64_t>(max_sparse_rows_of_node), "row_ptr must give a node at most ", max_sparse_rows_of_node,
                " rows, got ", rows, " at node ", v);
        require_node(W, v);
    }
    require_finite(W.weight, "weight");
    require_finite(W.bias, "bias");
    require_finite(W.temperature, "temperature");
    for (std::size_t d = 0; d < W.temperature.size(); ++d) {
        require(W.temperature[d] > 0, "temperature must be positive, got ", W.temperature[d], " at index ", d);
    }
}

void require_sparse_rows(const SparseRowsView& W, const HierarchyView& h) {
    require_sparse_rows(W);
    require(std::equal(W.row_ptr.begin(), W.row_ptr.end(), h.row_ptr.begin(), h.row_ptr.end()),
            "W must have the rows of the tree's nodes, got rows of another tree");
    require(W.temperature.empty() || W.temperature.size() == static_cast<std::size_t>(h.depth), "temperature must have one entry a depth, ",
            h.depth, ", got ", W.temperature.size());
}

SparseRows prune(const SparseRowsView& W, float threshold) {
    require(std::isfinite(threshold) && threshold >= 0, "threshold must be finite and non-negative, got ", threshold);
    SparseRows out;
    out.row_ptr.assign(W.row_ptr.begin(), W.row_ptr.end());
    out.bias.assign(W.bias.begin(), W.bias.end());
    out.temperature.assign(W.temperature.begin(), W.temperature.end());
    out.features = W.features;
    out.feature_ptr.assign(1, 0);
    out.entry_ptr.assign(1, 0);
    for (std::size_t v = 0; v < W.nodes(); ++v) {
        for (std::size_t f = at(W.feature_ptr, v); f < at(W.feature_ptr, v + 1); ++f) {
            for (std::size_t e = at(W.entry_ptr, f); e < at(W.entry_ptr, f + 1); ++e) {
                if (std::fabs(W.weight[e]) <= threshold) continue;
                out.slot.push_back(W.slot[e]);
                out.weight.push_back(W.weight[e]);
            }
            if (static_cast<std::int64_t>(out.slot.size()) == out.entry_ptr.back()) continue;
            out.feature.push_back(W.feature[f]);
            out.entry_ptr.push_back(static_cast<std::int64_t>(out.slot.size()));
        }
        out.feature_ptr.push_back(static_cast<std::int64_t>(out.feature.size()));
    }
    return out;
}

}  // namespace sparseops
