// SPDX-License-Identifier: BSD-3-Clause
// Search of blocks of rows of X together, for sparse W.
#pragma once

#include "../search.hpp"

namespace sparseops::detail {

// What search.hpp says of hsoftmax_search; all arguments have been checked, W is sparse, and the tree has nodes.
void search_blocks(const HierarchyView& h, const HSoftmaxInput<float>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                   MatrixView<float> log_probs, std::span<float> bound, int num_threads);

}  // namespace sparseops::detail
