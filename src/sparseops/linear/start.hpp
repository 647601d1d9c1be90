// SPDX-License-Identifier: BSD-3-Clause
// Stored rows of a node, from which training goes on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "../weights.hpp"
#include "assemble.hpp"
#include "problem.hpp"

namespace sparseops::detail {

// The stored rows of one node, and where the features of its problem lie in them.
class NodeStart {
public:
    NodeStart(const SparseRowsView& W, std::size_t v, const NodeProblem& problem);

    // Puts the rows first .. first + rows of the node into weights [features of the problem][width] and bias, which are zero.
    void fill(std::size_t first, std::size_t rows, std::size_t width, float offset, float* weights, float* bias) const;
    // The trained rows, with the stored weights of the features that the problem lacks.
    NodeRows with_rest(const NodeRows& trained) const;

private:
    SparseRowsView W_;
    std::size_t v_;
    std::vector<std::int64_t> place_;  // of each feature of the problem: where W_.feature has it, or -1
};

// The rows of node v as they are stored.
NodeRows stored_rows(const SparseRowsView& W, std::size_t v);

}  // namespace sparseops::detail
