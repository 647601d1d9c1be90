// SPDX-License-Identifier: BSD-3-Clause
// One temperature a depth, from examples that training has not seen.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "../types.hpp"
#include "../weights.hpp"

namespace sparseops::detail {

// For each depth the factor of the scores that minimises the sum of the weighted -log P(child) of these examples there: log P of a
// class is a sum over its path, so that the depths are apart. A depth that few of them reach keeps `otherwise`.
// weight: of every row of X. The result does not depend on num_threads.
template <Index I>
std::vector<float> fit_temperatures(const HierarchyView& h, const SparseRowsView& W, const CsrView<const float, I>& X,
                                    const LabelsView& labels, std::span<const std::uint32_t> examples, std::span<const float> weight,
                                    std::span<const float> otherwise, int num_threads);

}  // namespace sparseops::detail
