// SPDX-License-Identifier: BSD-3-Clause
// Rows of W of one node from its problem.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <vector>

#include "../linear.hpp"
#include "problem.hpp"

namespace sparseops::detail {

class NodeStart;

// How the rows of one node are trained.
struct SolveOptions {
    LinearLoss loss;
    float threshold, offset;
    double tol;
    int max_iter;
    std::uint64_t seed;
    double scored_share;               // of the held-out examples
    const NodeStart* start = nullptr;  // the stored rows of the node, to go on from
};

// Memory for floats that starts on a cache line, so that sixteen of them never straddle two.
class AlignedFloats {
public:
    // n zeros.
    float* zeros(std::size_t n);

private:
    struct Line {
        alignas(64) float values[16];
    };
    std::vector<Line> lines_;
};

// One thread's scratch, kept from block to block.
struct SolveScratch {
    AlignedFloats weights, dual, bias, rows, scores;
    std::vector<std::uint16_t> positive, mask;
    std::vector<std::int32_t> active, visit, target;
    std::vector<std::size_t> chunks;
};

// Some rows of a node: the weights above the threshold, feature by feature of the problem, and every bias.
struct SolvedRows {
    std::vector<std::int32_t> feature;
    std::vector<std::uint16_t> slot;
    std::vector<float> weight, bias;
    std::vector<float> held_out;  // scores of these rows for the first scored_examples() held-out examples, before they trained
};

// How many of the held-out examples are scored, if it is this share in all nodes.
std::size_t scored_examples(const NodeProblem& problem, double share) noexcept;

// The rows 16 · block .. 16 · (block + 1) of node v, of `rows` in all, each against the rest.
SolvedRows solve_block(const NodeProblem& problem, std::size_t v, std::size_t rows, std::size_t block, const SolveOptions& options,
                       SolveScratch& scratch);

// All rows of node v against each other.
SolvedRows solve_softmax(const NodeProblem& problem, std::size_t v, std::size_t rows, const SolveOptions& options, SolveScratch& scratch);

}  // namespace sparseops::detail
