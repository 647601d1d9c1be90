// SPDX-License-Identifier: BSD-3-Clause
// Hierarchical softmax (Morin & Bengio 2005; Goodman 2001): the exact loss of a class tree and its gradient.
//
// Row s of X with label l has nll_s = Σ over the steps (v, j) of the path to l of -log P(j | x_s, v).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <variant>
#include <vector>

#include "hierarchy.hpp"
#include "types.hpp"
#include "weights.hpp"

namespace sparseops {

// A batch of labels made ready: examples sorted by the depth-first place of their class, so that the examples that pass
// through a node are neighbors. It depends on the labels and the tree alone. O(N · path).
class HSoftmaxPlan {
public:
    // Throws std::invalid_argument unless every label is in [0, C) or equals ignore_index.
    HSoftmaxPlan(const HierarchyView& h, std::span<const std::int64_t> labels, std::optional<std::int64_t> ignore_index = {});

    // The examples order[first .. last) pass through `node`, whose logits start at place `z` of theirs.
    struct Segment {
        std::int32_t node, first, last, z;
    };

    const HierarchyView& hierarchy() const noexcept { return h_; }
    std::size_t examples() const noexcept { return examples_; }                // N
    std::span<const std::int32_t> order() const noexcept { return order_; }    // examples that are not ignored, sorted
    std::span<const std::int32_t> labels() const noexcept { return label_; }   // of order
    std::span<const std::int32_t> shared() const noexcept { return shared_; }  // steps in common with the one before
    std::span<const std::int32_t> shared_rows() const noexcept { return h_.logistic ? shared_ : shared_rows_; }  // the same in rows
    std::span<const std::int64_t> logits() const noexcept { return logit_ptr_; }  // of order, + 1: first logit of each
    std::span<const Segment> segments() const noexcept { return segments_; }      // one per touched node, rising row
    std::span<const std::int32_t> opened() const noexcept { return opened_; }     // touched rows as they are met; empty: 0, 1, 2, …
    std::span<const std::int64_t> slots() const noexcept { return slot_ptr_; }    // first touched row of each segment, + 1
    std::size_t touched_rows() const noexcept { return static_cast<std::size_t>(slot_ptr_.back()); }
    std::size_t n_logits() const noexcept { return static_cast<std::size_t>(logit_ptr_.back()); }
    void write_rows(std::span<std::int64_t> rows) const;  // touched_rows() row numbers, rising

private:
    void sort(std::span<const std::int64_t> labels, std::optional<std::int64_t> ignore_index);
    void segment();

    HierarchyView h_;
    std::size_t examples_ = 0;
    std::vector<std::int32_t> order_, label_, shared_, shared_rows_, opened_;
    std::vector<std::int64_t> logit_ptr_, slot_ptr_;
    std::vector<Segment> segments_;
};

// X (N, D) of an operator: a dense matrix, or compressed sparse rows, which go with sparse W alone. A view.
template <Real T>
class Examples {
public:
    Examples() = default;
    Examples(const T* data, std::size_t rows, std::size_t cols) noexcept : rows_(MatrixView<const T>{data, rows, cols}) {}
    Examples(MatrixView<const T> rows) noexcept : rows_(rows) {}
    Examples(MatrixView<T> rows) noexcept : rows_(MatrixView<const T>(rows)) {}
    Examples(CsrView<const T, std::int32_t> rows) noexcept : rows_(rows) {}
    Examples(CsrView<const T, std::int64_t> rows) noexcept : rows_(rows) {}

    std::size_t rows() const noexcept {
        if (const auto* X = dense()) return X->rows;
        return sparse<std::int32_t>() ? sparse<std::int32_t>()->rows() : sparse<std::int64_t>()->rows();
    }
    std::size_t cols() const noexcept {
        if (const auto* X = dense()) return X->cols;
        return sparse<std::int32_t>() ? sparse<std::int32_t>()->cols : sparse<std::int64_t>()->cols;
    }
    const MatrixView<const T>* dense() const noexcept { return std::get_if<MatrixView<const T>>(&rows_); }  // null if of another kind
    template <Index I>
    const CsrView<const T, I>* sparse() const noexcept {
        return std::get_if<CsrView<const T, I>>(&rows_);
    }

private:
    std::variant<MatrixView<const T>, CsrView<const T, std::int32_t>, CsrView<const T, std::int64_t>> rows_;
};

// The input of an operator: X (N, D), W (R, D), b (R) or empty.
template <Real T>
struct HSoftmaxInput {
    Examples<T> X = {};
    Weights<T> W = {};
    std::span<const T> b = {};
    // N or empty: multiplies gradients, and the loss too if scale_loss; otherwise refusals call it grad_output.
    std::span<const T> sample_weight = {};
    bool scale_loss = true;
    double label_smoothing = 0;  // e: a node's target is (1 - e) onehot + e / children
    bool check_finite = true;
    std::span<const T> residuals = {};  // n_logits() in example order, or empty: what hsoftmax returned for the same input
};

// Writes nll (N), and if not empty residuals (n_logits(), example by example, steps from the root down).
// Throws std::invalid_argument on shapes that do not fit and on numbers that are not finite; then nll is unspecified.
template <Real T>
void hsoftmax(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, std::span<T> residuals, int num_threads = 0);

// Sparse gradient: dW (touched_rows(), D) and db (touched_rows()) for the rows of plan.write_rows; dX (N, D).
// After a throw because a number is not finite, dX, dW and db are unspecified.
template <Real T>
void hsoftmax_gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                       std::span<T> db, int num_threads = 0);

// Dense gradient: dW (R, D) and db (R) must be zero on entry; rows that are not touched stay so.
template <Real T>
void hsoftmax_gradient_dense(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                             std::span<T> db, int num_threads = 0);

// log P(class | x) of all classes, (N, C).
template <Real T>
void hsoftmax_log_proba(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<T> out, int num_threads = 0);

// log P of the classes asked for, classes and out (N, m).
template <Real T>
void hsoftmax_log_proba_of(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<const std::int64_t> classes, MatrixView<T> out,
                           int num_threads = 0);

// log P of reaching each inner node, (N, V); the root's is 0.
template <Real T>
void hsoftmax_node_log_proba(const HierarchyView& h, const HSoftmaxInput<T>& in, MatrixView<T> out, int num_threads = 0);

// Classes drawn from P(· | x), (N, m), by walking down; draw (i, j) depends on (seed, i m + j) alone.
template <Real T>
void hsoftmax_sample(const HierarchyView& h, const HSoftmaxInput<T>& in, std::uint64_t seed, MatrixView<std::int64_t> out,
                     int num_threads = 0);

}  // namespace sparseops
