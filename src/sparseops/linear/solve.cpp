// SPDX-License-Identifier: BSD-3-Clause
#include "solve.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "../detail/random.hpp"
#include "start.hpp"

namespace sparseops::detail {
namespace {

constexpr std::size_t chunk = 32;

// The order of a pass: the active examples in chunks of neighbors, whose data lie together, the chunks and each within itself in
// random order. Descent over a fixed order converges slowly; over a random one every example is a cache miss.
class Passes {
public:
    Passes(SolveScratch& scratch, Draws draws) : s_(scratch), draws_(draws) { s_.active.clear(); }

    std::size_t active() const noexcept { return s_.active.size(); }
    std::vector<std::int32_t>& list() noexcept { return s_.active; }

    // Adds the examples first .. last.
    void add(std::size_t first, std::size_t last) {
        const std::size_t n = active();
        s_.active.resize(n + last - first);
        std::iota(s_.active.begin() + static_cast<std::ptrdiff_t>(n), s_.active.end(), static_cast<std::int32_t>(first));
    }

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

    // Takes out the examples that were marked, ~i, in the last pass; neighbors stay neighbors.
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

// Examples that were dropped are looked at again before a node of a smaller tolerance is done. At the usual one that would cost a pass
// and change nothing that can be measured.
constexpr double exact_tol = 0.1;

// One loss on the rows at hand: pass(passes, first) makes one pass over the active examples, first if none was visited before, and
// returns what is to fall below options.tol.
class SquaredHinge {
public:
    SquaredHinge(const LinearExamples& x, const LinearBlock& block) : x_(x), block_(block) {}

    double pass(Passes& passes, bool) {
        float lowest = std::numeric_limits<float>::infinity(), highest = -lowest;
        linear_kernels().squared_hinge(x_, block_, passes.begin(), passes.active(), leave_, &lowest, &highest);
        passes.drop_marked();
        leave_ = std::max(0.0f, 0.3f * highest);
        return static_cast<double>(highest) - static_cast<double>(lowest);
    }
    void restart() { leave_ = std::numeric_limits<float>::infinity(); }

private:
    const LinearExamples x_;
    const LinearBlock& block_;
    float leave_ = std::numeric_limits<float>::infinity();
};

class Logistic {
public:
    Logistic(const LinearExamples& x, const LinearBlock& block) : x_(x), block_(block) {}

    double pass(Passes& passes, bool first) {
        const float step = linear_kernels().logistic(x_, block_, passes.begin(), passes.active(), first);
        return first ? std::numeric_limits<double>::infinity() : static_cast<double>(step);
    }
    void restart() {}  // no example is dropped

private:
    const LinearExamples x_;
    const LinearBlock& block_;
};

class Softmax {
public:
    Softmax(const LinearExamples& x, const LinearSoftmax& node) : x_(x), node_(node) {}

    double pass(Passes& passes, bool first) {
        const double residual = linear_kernels().softmax(x_, node_, passes.begin(), passes.active(), first);
        return first ? std::numeric_limits<double>::infinity() : residual / static_cast<double>(passes.active());
    }
    void restart() {}

private:
    const LinearExamples x_;
    const LinearSoftmax& node_;
};

// Trains on the training examples; then calls score(), and trains on the held-out examples too, from where it stands: a few passes do.
template <class Loss, class Score>
void train(const NodeProblem& problem, Loss loss, const SolveOptions& options, Passes passes, Score score) {
    const auto run = [&](std::size_t all, int most, bool fresh) {
        for (int pass = 0; pass < most; ++pass) {
            const bool near = passes.active() == 0 || loss.pass(passes, fresh && pass == 0) <= options.tol;
            if (!near) continue;
            if (options.tol >= exact_tol || passes.active() == all) return;
            passes.list().clear();
            passes.add(0, all);
            loss.restart();
        }
    };
    const std::size_t training = problem.training_examples(), all = problem.examples();
    passes.add(0, training);
    run(training, options.max_iter, true);
    if (training == all) return;
    score();
    std::vector<std::int32_t> before;
    before.swap(passes.list());
    passes.add(training, all);
    loss.pass(passes, true);
    passes.list().insert(passes.list().end(), before.begin(), before.end());
    run(all, std::max(1, options.max_iter / 4), false);
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

// The scores of the rows at hand for the held-out examples, to out.held_out [examples][rows at hand].
void score_held_out(const NodeProblem& problem, const float* weights, const float* bias, std::size_t vectors, std::size_t rows,
                    const SolveOptions& options, SolveScratch& scratch, SolvedRows& out) {
    const std::size_t n = scored_examples(problem, options.scored_share), first = problem.training_examples(),
                      width = vectors * linear_lanes;
    float* const scores = scratch.scores.zeros(n * width);
    linear_kernels().scores(problem.view(), weights, vectors, bias, options.threshold, first, first + n, scores);
    out.held_out.reserve(n * rows);
    for (std::size_t i = 0; i < n; ++i) {
        for (std::size_t k = 0; k < rows; ++k) out.held_out.push_back(scores[i * width + k] + options.offset);
    }
}

Draws draws_of(const SolveOptions& options, std::size_t v, std::size_t block) {
    return {options.seed, Stream::linear, std::uint64_t{v} << 16 | block};
}

}  // namespace

float* AlignedFloats::zeros(std::size_t n) {
    lines_.assign((n + 15) / 16, Line{});
    return lines_.empty() ? nullptr : lines_.front().values;
}

std::size_t scored_examples(const NodeProblem& problem, double share) noexcept {
    return static_cast<std::size_t>(share * static_cast<double>(problem.examples() - problem.training_examples()));
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
    if (options.start) options.start->fill(first, live, linear_lanes, options.offset, lanes.weights, lanes.bias);
    SolvedRows out;
    const auto score = [&] { score_held_out(problem, lanes.weights, lanes.bias, 1, live, options, scratch, out); };
    const Passes passes(scratch, draws_of(options, v, block));
    if (options.loss == LinearLoss::squared_hinge) {
        train(problem, SquaredHinge(problem.view(), lanes), options, passes, score);
    } else {
        train(problem, Logistic(problem.view(), lanes), options, passes, score);
    }
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
    if (options.start) options.start->fill(0, rows, node.width, options.offset, node.weights, node.bias);
    SolvedRows out;
    const auto score = [&] { score_held_out(problem, node.weights, node.bias, vectors, rows, options, scratch, out); };
    train(problem, Softmax(problem.view(), node), options, Passes(scratch, draws_of(options, v, 0)), score);
    extract(node.weights, node.bias, problem.features(), vectors, 0, rows, options, scratch.mask, out);
    return out;
}

}  // namespace sparseops::detail
