// SPDX-License-Identifier: BSD-3-Clause
// Trees from vectors of the classes: classes that resemble each other share their path (PECOS, Yu et al. 2022; Bonsai, Khandagale
// et al. 2020).
#pragma once

#include <cstdint>
#include <span>

#include "types.hpp"

namespace sparseops {

// Row c is the sum of the rows of X that carry class c, scaled to unit norm if `normalize`; a class without rows is a zero row.
// Sums are taken in double, in the order of the rows. O(nnz · labels a row). The result does not depend on num_threads.
// Throws std::invalid_argument if X, its numbers or the labels are not as they must be, or a sum leaves the range of T.
template <Real T, Index I>
CsrMatrix<T, I> class_centroids(CsrView<const T, I> X, const LabelsView& labels, std::int64_t n_classes, bool normalize = true,
                                int num_threads = 0);

// The same of dense rows, to out (n_classes, D).
template <Real T>
void class_centroids(MatrixView<const T> X, const LabelsView& labels, bool normalize, MatrixView<T> out, int num_threads = 0);

// The quantity that the two halves of a bisection have in equal parts: the number of classes, or their counts.
enum class Balance { automatic, classes, mass };

struct ClusterOptions {
    int arity = 16;                        // a power of two
    std::int64_t leaf = 128;               // about so many classes hang below the last nodes: between 0.7 and 1.4 of it
    std::span<const double> counts = {};   // C, or empty; for the balance by mass
    Balance balance = Balance::automatic;  // by mass if one class holds more than a twentieth of the counts
    std::uint64_t seed = 0;
    int max_iter = 10;  // rounds of 2-means a bisection
};

// A tree by balanced spherical 2-means: the classes are halved until about `leaf` are left, and log2(arity) halvings make one
// layer. Classes whose vector is zero are dealt evenly. Nodes with two children are logistic.
//   rows of `vectors` are the classes; they need not have unit norm
//   O(log(C / leaf) · max_iter · nnz). Depends on the vectors, the counts and the seed alone.
// Throws std::invalid_argument on numbers that are not finite and options out of range.
template <Index I>
Hierarchy cluster(CsrView<const float, I> vectors, const ClusterOptions& options, int num_threads = 0);
Hierarchy cluster(MatrixView<const float> vectors, const ClusterOptions& options, int num_threads = 0);

}  // namespace sparseops
