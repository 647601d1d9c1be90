// SPDX-License-Identifier: BSD-3-Clause
// One temperature per depth, from examples that training has not seen.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../hierarchy.hpp"
#include "problem.hpp"
#include "solve.hpp"

namespace sparseops::detail {

// The slopes, at some temperatures, of the sum of the weighted -log P(children) of examples at a node or a depth. The loss is convex
// in the temperature, and log P of a class is a sum over its path, so that each depth has a minimum of its own.
struct Slopes {
    static constexpr std::size_t grid = 17;
    std::array<double, grid> sum{};
    std::size_t examples = 0;
};

// Of the held-out examples of node v, whose scores are those of its blocks.
Slopes node_slopes(const HierarchyView& h, std::size_t v, const NodeProblem& problem, const std::vector<SolvedRows>& blocks);

// The temperature of each depth from the slopes of every node; `usual` where few examples came.
std::vector<float> fit_temperatures(const HierarchyView& h, std::span<const Slopes> nodes, std::span<const float> usual);

}  // namespace sparseops::detail
