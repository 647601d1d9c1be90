// SPDX-License-Identifier: BSD-3-Clause
// Beam search of blocks of rows of X together, for sparse W.
#pragma once

#include "../search.hpp"

namespace sparseops::detail {

// What search.hpp says of hsoftmax_search with a beam; all arguments have been checked, and W is sparse.
void search_levels(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                   MatrixView<float> log_probs, std::span<float> bound);

}  // namespace sparseops::detail
