// SPDX-License-Identifier: BSD-3-Clause
// Training of sparse decision rows: linear classifiers at the nodes of a tree, by dual coordinate descent on sparse features
// (LIBLINEAR, Fan et al. 2008; Parabel, Prabhu et al. 2018).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "hierarchy.hpp"
#include "types.hpp"
#include "weights.hpp"

namespace sparseops {

// Each node minimizes ½|w|² + ½b² + C Σ loss. Squared hinge and logistic loss train every row of W against the rest;
// softmax trains the rows of a node against each other.
enum class LinearLoss { squared_hinge, softmax, logistic };

struct LinearOptions {
    LinearLoss loss = LinearLoss::squared_hinge;
    double C = 1;
    float threshold = 0.1f;  // weights of |w| <= threshold are dropped; biases stay
    double tol = 0.3;        // a node stops where the projected gradients (squared hinge) or log-probabilities are this near
    int max_iter = 10;       // passes over the examples of a node
    std::span<const float> sample_weight = {};  // N, or empty: all 1. Times C; 0 leaves the example out
    std::span<const float> class_weight = {};   // classes, or empty: all 1. Times C; of several labels the mean
    // This share of the examples, at most 5,000, is kept out until a node is trained, fits one temperature a depth, and trains the
    // node then too. With fewer than 200 of them, and with 0, the temperatures are 3, but 8 at the last depth, for the squared
    // hinge, and 1 for the others.
    double validation = 0.05;
    // Whether the tree was made of these examples, as cluster() does. It knows the held-out ones then, so that they look easier than
    // new ones do: temperatures are lowered by a fifth, and the class term is kept to nodes above classes alone.
    bool clustered = true;
    // With validation: the logit of a child is temperature · (w·x + b) + a · cos(x, sum of the examples below it), with the best a of
    // each depth for the held-out examples, 0 where it gains less than 0.01 of the mean -log P. W holds the sum, so that it costs
    // nothing but weights.
    bool class_term = true;
    std::uint64_t seed = 0;
    // Rows to go on from, which must outlive the trainer. Then a node that examples reach minimizes ½|w - start|² + ½(b - start)² +
    // C Σ loss, and keeps its weights for features that they lack; other nodes and the temperatures stay, and no example is held out.
    const SparseRowsView* start = nullptr;
};

// Trains the rows of a tree piece by piece; linear_train does all at once. The result depends on the data, the options and the
// seed alone, not on num_threads, nor on the pieces.
//
// All that is handed over must outlive the trainer. X is (N, D) with N below 2**31; labels are one a row, or several on a tree of
// independent nodes. Memory: 4 N labels, the weights, and for each thread 64 bytes a feature and 72 an example of the node at hand,
// 8 an entry of it and 4 a column of X (softmax: 4 · rows of the node in place of 64).
class LinearTrainer {
public:
    // Throws std::invalid_argument on input that is not as it must be, a node of more than 65,535 rows, and options out of range.
    template <Index I>
    LinearTrainer(const HierarchyView& h, CsrView<const float, I> X, const LabelsView& labels, const LinearOptions& options,
                  int num_threads = 0);
    LinearTrainer(LinearTrainer&&) noexcept;
    LinearTrainer& operator=(LinearTrainer&&) noexcept;
    ~LinearTrainer();

    std::size_t tasks() const noexcept;  // how many tasks there are: parts of nodes, the largest first
    std::size_t done() const noexcept;
    // The share of the work that is done, by the entries to be visited.
    double progress() const noexcept;
    // How many of the next tasks make a piece that keeps all threads busy and is still short.
    std::size_t piece() const noexcept;
    // Does the next n tasks, or what is left.
    void run(std::size_t n);
    // Training by several processes, each with a trainer of the same input. keep_share leaves the tasks of one share of the nodes;
    // trained() hands over what became of them, as bytes for this machine type; take() of these bytes replaces their tasks. The first
    // and the last come before run.
    void keep_share(std::size_t share, std::size_t shares);
    std::vector<std::uint8_t> trained();
    void take(std::span<const std::uint8_t> trained);
    // The rows, with their temperatures, once all tasks are done; then the trainer is empty.
    SparseRows finish();

    class Work;

private:
    std::unique_ptr<Work> work_;
};

// O(passes · Σ over the nodes of entries of X that reach it · rows / 16).
template <Index I>
SparseRows linear_train(const HierarchyView& h, CsrView<const float, I> X, const LabelsView& labels, const LinearOptions& options,
                        int num_threads = 0);

}  // namespace sparseops
