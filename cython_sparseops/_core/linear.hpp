// SPDX-License-Identifier: BSD-3-Clause
// A trainer by a function: Cython has no templates of constructors.
#pragma once

#include <memory>
#include <sparseops/linear.hpp>

namespace {

template <class I>
std::unique_ptr<sparseops::LinearTrainer> new_trainer(const sparseops::HierarchyView& h, sparseops::CsrView<const float, I> X,
                                                      const sparseops::LabelsView& labels, const sparseops::LinearOptions& options,
                                                      int num_threads) {
    return std::make_unique<sparseops::LinearTrainer>(h, X, labels, options, num_threads);
}

}  // namespace
