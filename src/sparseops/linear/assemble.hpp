// SPDX-License-Identifier: BSD-3-Clause
// From trained blocks to the rows of a node, and from those to the rows of the tree.
#pragma once

#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "../weights.hpp"
#include "problem.hpp"
#include "solve.hpp"

namespace sparseops::detail {

// The rows of one node, as SparseRows lays them out: `size[i]` entries for feature[i].
struct NodeRows {
    std::vector<std::int32_t> feature, size;
    std::vector<std::uint16_t> slot;
    std::vector<float> weight, bias;
};

// Joins the blocks of a node, in the order of its rows; they are emptied.
NodeRows assemble_node(const NodeProblem& problem, std::vector<SolvedRows>& blocks);

// Joins the nodes, in their order; they are emptied.
SparseRows assemble_tree(const HierarchyView& h, std::vector<NodeRows>& nodes, std::size_t features);

}  // namespace sparseops::detail
