// SPDX-License-Identifier: BSD-3-Clause
// The gradient as arrays: of the touched rows, or of all.
#include "../detail/require.hpp"
#include "../hsoftmax.hpp"
#include "../kernels/prefetch.hpp"
#include "backward.hpp"

namespace sparseops {
namespace {

using detail::require;

// Sink that writes straight to dW and db, by slot (sparse) or by row (dense).
template <Real T>
struct Writer {
    MatrixView<T> dW;
    std::span<T> db;
    bool dense;

    static T* target(void* self, std::size_t slot, std::size_t row) {
        auto& w = *static_cast<Writer*>(self);
        if (!w.dense && slot + 8 < w.dW.rows) detail::prefetch_to_write(w.dW.row(slot + 8), w.dW.cols);
        return w.dW.row(w.dense ? row : slot);
    }
    static void done(void* self, std::size_t slot, std::size_t row, T*, T bias) {
        auto& w = *static_cast<Writer*>(self);
        w.db[w.dense ? row : slot] = bias;
    }
};

template <Real T>
void write_gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                    std::span<T> db, bool dense, int num_threads) {
    const std::size_t rows = dense ? plan.hierarchy().rows() : plan.touched_rows();
    detail::require_matrix("dW", dW, rows, in.X.cols());
    require(db.size() == rows, "db must have ", rows, " entries, got ", db.size());
    detail::require_data("db", db);
    Writer<T> writer{dW, db, dense};
    hsoftmax_backward(plan, in, nll, dX, GradientSink<T>{&writer, Writer<T>::target, Writer<T>::done, nullptr, true}, num_threads);
}

}  // namespace

template <Real T>
void hsoftmax_gradient(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                       std::span<T> db, int num_threads) {
    write_gradient(plan, in, nll, dX, dW, db, false, num_threads);
}

template <Real T>
void hsoftmax_gradient_dense(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, std::span<T> nll, MatrixView<T> dX, MatrixView<T> dW,
                             std::span<T> db, int num_threads) {
    write_gradient(plan, in, nll, dX, dW, db, true, num_threads);
}

template void hsoftmax_gradient(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>, MatrixView<float>,
                                std::span<float>, int);
template void hsoftmax_gradient_dense(const HSoftmaxPlan&, const HSoftmaxInput<float>&, std::span<float>, MatrixView<float>,
                                      MatrixView<float>, std::span<float>, int);
template void hsoftmax_gradient(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                MatrixView<double>, std::span<double>, int);
template void hsoftmax_gradient_dense(const HSoftmaxPlan&, const HSoftmaxInput<double>&, std::span<double>, MatrixView<double>,
                                      MatrixView<double>, std::span<double>, int);

}  // namespace sparseops
