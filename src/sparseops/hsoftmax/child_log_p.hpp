// SPDX-License-Identifier: BSD-3-Clause
// From the logits of a node to the log-probabilities of its children, for every kind of node.
#pragma once

#include <cstddef>

#include "../hierarchy.hpp"
#include "../kernels/kernels.hpp"
#include "../types.hpp"

namespace sparseops::detail {

// log_p[j] = log P(child j | node) from the logits z of the node's `rows` rows: logistic (one row, two children), softmax, or
// independent (a row and a probability for each child). z is lost where nodes are independent.
template <Real T>
void child_log_p(const Kernels<T>& kernels, const HierarchyView& h, std::size_t rows, T* z, T* log_p) {
    if (h.independent) return kernels.log_sigmoid(z, rows, z, log_p);
    if (rows == 1) return kernels.log_sigmoid(z, 1, log_p, log_p + 1);
    kernels.softmax_nll(z, rows, log_p, nullptr);
    for (std::size_t j = 0; j < rows; ++j) log_p[j] = -log_p[j];
}

}  // namespace sparseops::detail
