// SPDX-License-Identifier: BSD-3-Clause
// Beam search of blocks of rows of X together, for sparse W.
#pragma once

#include "../search.hpp"

namespace sparseops::detail {

// hsoftmax_search (search.hpp) with a beam, for sparse W. The arguments must have been checked.
void search_levels(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                   MatrixView<float> log_probs, std::span<float> bound);

}  // namespace sparseops::detail
