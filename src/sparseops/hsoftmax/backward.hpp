// SPDX-License-Identifier: BSD-3-Clause
// Checks of the input that all operators on a batch share, and the gradient of the rows, handed over row by row.
#pragma once

#include <cstddef>
#include <span>

#include "../hsoftmax.hpp"

namespace sparseops {

// Throw std::invalid_argument unless W and b fit the tree and X; unless X is finite, if that is to be checked; unless both.
template <Real T>
void require_shapes(const HierarchyView& h, const HSoftmaxInput<T>& in);
template <Real T>
void require_finite(const HSoftmaxInput<T>& in);
template <Real T>
void require_input(const HierarchyView& h, const HSoftmaxInput<T>& in) {
    require_shapes(h, in);
    require_finite(in);
}

// Receives the gradient of each row. target(self, slot, row) is where its D values are to be written, or null for scratch;
// it may be asked for more than once. done(self, slot, row, grad, bias) is called once they are, once a slot, on any thread. Unless
// `at_once`, that is after all nll, dX and checks are complete: then `done` may write W (dX belongs to the old one). It may use grad
// as it likes. ready(self) is called before the first `done`, once nll and dX are complete; it may throw.
template <Real T>
struct GradientSink {
    void* self = nullptr;
    T* (*target)(void* self, std::size_t slot, std::size_t row) = nullptr;
    void (*done)(void* self, std::size_t slot, std::size_t row, T* grad, T bias) = nullptr;
    void (*soon)(void* self, std::size_t row) = nullptr;  // may be null: `done` comes a few rows later, time to prefetch
    bool at_once = false;                                 // as soon as the row's examples are done: their data are in the caches
    void (*ready)(void* self) = nullptr;                  // may be null, and is where `at_once`
};
template <Real T>
void hsoftmax_backward(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX,
                       const GradientSink<T>& sink, int num_threads);

}  // namespace sparseops
