// SPDX-License-Identifier: BSD-3-Clause
// What every search asks of its options, and how much work it is.
#pragma once

#include <algorithm>
#include <cstddef>

#include "../detail/require.hpp"
#include "../search.hpp"

namespace sparseops::detail {

inline void require_options(const SearchOptions& o) {
    require(o.k >= 1, "k must be at least 1, got ", o.k);
    require(!o.beam || *o.beam >= 1, "beam must be at least 1, got ", o.beam.value_or(0));
    require(!o.edge_beam || *o.edge_beam >= 0, "edge_beam must be at least 0, got ", o.edge_beam.value_or(0));
    require(!o.min_prob || (*o.min_prob > 0 && *o.min_prob <= 1), "min_prob must be in (0, 1], got ", o.min_prob.value_or(0));
}

// Rows of W that are scored for n rows of X, about.
inline double search_work(const HierarchyView& h, const SearchOptions& o, std::size_t n) noexcept {
    const double scored = static_cast<double>(std::min(o.k, h.classes())) * static_cast<double>(h.depth) + static_cast<double>(h.widest);
    return static_cast<double>(n) * scored;
}

}  // namespace sparseops::detail
