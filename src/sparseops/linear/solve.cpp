// SPDX-License-Identifier: BSD-3-Clause
#include "solve.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "../detail/random.hpp"

namespace sparseops::detail {
namespace {

constexpr std::size_t chunk = 32;

// The order of a pass: the active examples in chunks of neighbours, whose data lie together, the chunks and each within itself in
// random order. Descent over a fixed order converges slowly; over a random one every example is a cache miss.
class Passes {
public:
    Passes(SolveScratch& scratch, std::size_t examples, Draws draws) : s_(scratch), draws_(draws) {
        s_.active.resize(examples);
        std::iota(s_.active.begin(), s_.active.end(), 0);
    }

    std::size_t active() const noexcept { return s_.active.size(); }

    std::int32_t* begin() {
        const std::size_t n = active();
        s_.chunks.resize((n + chunk - 1) / chunk);
        std::iota(s_.chunks.begin(), s_.chunks.end(), std::size_t{0});
        shuffle(s_.chunks.data(), s_.chunks.size());
        s_.visit.clear();
        for (const std::size_t c : s_.chunks) {
            std::int32_t* const first = s_.active.data() + c * chunk;
            const std::size_t size = std::min(chunk, n - c * chunk);
            shuffle(first, size);
            s_.visit.insert(s_.visit.end(), first, first + size);
        }
        return s_.visit.data();
    }

    // Takes out the examples that were marked, ~i, in the last pass; neighbours stay neighbours.
    void drop_marked() {
        std::size_t at = 0;
        const std::size_t n = active();
        for (const std::size_t c : s_.chunks) {
            const std::size_t size = std::min(chunk, n - c * chunk);
            std::copy_n(s_.visit.data() + at, size, s_.active.data() + c * chunk);
            at += size;
        }
        std::erase_if(s_.active, [](std::int32_t i) { return i < 0; });
    }

private:
    template <class T>
    void shuffle(T* items, std::size_t n) {
        for (; n > 1; --n) std::swap(items[n - 1], items[draws_.below(n)]);
    }

    SolveScratch& s_;
    Draws draws_;
};

void squared_hinge(const LinearExamples& x, const LinearBlock& block, Passes& passes, const SolveOptions& options) {
    float leave = std::numeric_limits<float>::infinity();
    for (int pass = 0; pass < options.max_iter && passes.active() > 0; ++pass) {
        float lowest = std::numeric_limits<float>::infinity(), highest = -lowest;
        linear_kernels().squared_hinge(x, block, passes.begin(), passes.active(), leave, &lowest, &highest);
        passes.drop_marked();
        if (static_cast<double>(highest) - static_cast<double>(lowest) <= options.tol) return;
        leave = std::max(0.0f, 0.3f * highest);
    }
}

void logistic(const LinearExamples& x, const LinearBlock& block, Passes& passes, const SolveOptions& options) {
    for (int pass = 0; pass < options.max_iter && passes.active() > 0; ++pass) {
        const float step = linear_kernels().logistic(x, block, passes.begin(), passes.active(), pass == 0);
        if (pass > 0 && static_cast<double>(step) <= options.tol) return;
    }
}

// Appends the rows' weights and biases; the weights are [features][vectors · 16].
void extract(const float* weights, const float* bias, std::size_t features, std::size_t vectors, std::size_t first_slot, std::size_t rows,
             const SolveOptions& options, std::vector<std::uint16_t>& mask, SolvedRows& out) {
    mask.resize(features * vectors);
    linear_kernels().above(weights, mask.size(), options.threshold, mask.data());
    for (std::size_t at = 0; at < mask.size(); ++at) {
        for (unsigned bits = mask[at]; bits != 0; bits &= bits - 1) {
            const std::size_t lane = static_cast<std::size_t>(std::countr_zero(bits)), slot = at % vectors * linear_lanes + lane;
            if (slot >= rows) break;
            out.feature.push_back(static_cast<std::int32_t>(at / vectors));
            out.slot.push_back(static_cast<std::uint16_t>(first_slot + slot));
            out.weight.push_back(weights[at * linear_lanes + lane]);
        }
    }
    for (std::size_t k = 0; k < rows; ++k) out.bias.push_back(bias[k] + options.offset);
}

Draws draws_of(const SolveOptions& options, std::size_t v, std::size_t block) {
    return {options.seed, Stream::linear, std::uint64_t{v} << 16 | block};
}

}  // namespace

float* AlignedFloats::zeros(std::size_t n) {
    lines_.assign((n + 15) / 16, Line{});
    return lines_.empty() ? nullptr : lines_.front().values;
}

SolvedRows solve_block(const NodeProblem& problem, std::size_t v, std::size_t rows, std::size_t block, const SolveOptions& options,
                       SolveScratch& scratch) {
    const std::size_t first = block * linear_lanes, live = std::min(linear_lanes, rows - first), examples = problem.examples();
    scratch.positive.assign(examples, 0);
    for (std::size_t i = 0; i < examples; ++i) {
        for (const std::size_t slot : problem.positives(i)) {
            if (slot >= first && slot < first + live)
                scratch.positive[i] = static_cast<std::uint16_t>(scratch.positive[i] | 1u << (slot - first));
        }
    }
    LinearBlock lanes;
    lanes.positive = scratch.positive.data();
    lanes.weights = scratch.weights.zeros(problem.features() * linear_lanes);
    lanes.dual = scratch.dual.zeros(examples * linear_lanes);
    lanes.bias = scratch.bias.zeros(linear_lanes);
    lanes.offset = options.offset;
    lanes.live = live;
    Passes passes(scratch, examples, draws_of(options, v, block));
    if (options.loss == LinearLoss::squared_hinge) {
        squared_hinge(problem.view(), lanes, passes, options);
    } else {
        logistic(problem.view(), lanes, passes, options);
    }
    SolvedRows out;
    extract(lanes.weights, lanes.bias, problem.features(), 1, first, live, options, scratch.mask, out);
    return out;
}

SolvedRows solve_softmax(const NodeProblem& problem, std::size_t v, std::size_t rows, const SolveOptions& options, SolveScratch& scratch) {
    const std::size_t examples = problem.examples(), vectors = (rows + linear_lanes - 1) / linear_lanes;
    scratch.target.resize(examples);
    for (std::size_t i = 0; i < examples; ++i) scratch.target[i] = problem.positives(i).front();
    LinearSoftmax node;
    node.width = vectors * linear_lanes;
    node.live = rows;
    node.target = scratch.target.data();
    node.weights = scratch.weights.zeros(problem.features() * node.width);
    node.dual = scratch.dual.zeros(examples * node.width);
    node.bias = scratch.bias.zeros(node.width);
    node.scratch = scratch.rows.zeros(4 * node.width);
    Passes passes(scratch, examples, draws_of(options, v, 0));
    for (int pass = 0; pass < options.max_iter && examples > 0; ++pass) {
        const double residual = linear_kernels().softmax(problem.view(), node, passes.begin(), examples, pass == 0);
        if (pass > 0 && residual / static_cast<double>(examples) <= options.tol) break;
    }
    SolvedRows out;
    extract(node.weights, node.bias, problem.features(), vectors, 0, rows, options, scratch.mask, out);
    return out;
}

}  // namespace sparseops::detail
