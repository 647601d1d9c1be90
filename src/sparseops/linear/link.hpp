// SPDX-License-Identifier: BSD-3-Clause
// How the scores of a node become logits, from examples that training has not seen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "problem.hpp"
#include "solve.hpp"

namespace sparseops::detail {

// The logits of the nodes of one depth are temperature · score + term · cosine, with the cosines of centroids.hpp.
struct Link {
    float temperature = 1, term = 0;
};

// The held-out examples of one node.
struct HeldOut {
    std::size_t rows = 0;
    bool apart = false;                     // every row is a yes or no of its own
    std::vector<float> scores, cosines;     // [examples][rows]; no cosines: the node has no term
    std::vector<float> cost;                // of each example
    std::vector<std::size_t> positive_ptr;  // one more than there are examples
    std::vector<std::uint16_t> positive;    // the rows of which it is a positive one
    std::size_t examples() const noexcept { return cost.size(); }
};

// Of node v, from the scores of its blocks; without cosines.
HeldOut held_out_scores(const HierarchyView& h, std::size_t v, const NodeProblem& problem, const std::vector<SolvedRows>& blocks,
                        double share);

// The link of each depth; `usual` temperatures where few examples came. clustered: the tree knew the examples.
std::vector<Link> fit_links(const HierarchyView& h, std::span<const HeldOut* const> nodes, std::span<const float> usual, bool clustered);

}  // namespace sparseops::detail
