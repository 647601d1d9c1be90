// SPDX-License-Identifier: BSD-3-Clause
// Rows of E and W that training reads and steps, in T or in 16 bits: the same four words for both.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "../detail/require.hpp"
#include "../kernels/half.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/prefetch.hpp"
#include "../update/steps.hpp"
#include "../weights.hpp"

namespace sparseops::detail {

// out = Σ weight · row, of the rows of a table that are asked for by number.
template <Real T>
class RowSums {
public:
    explicit RowSums(MatrixView<const T> rows) : rows_(rows), k_(kernels<T>()) {}

    std::size_t cols() const noexcept { return rows_.cols; }
    void prefetch(std::size_t row) const { detail::prefetch(rows_.row(row), rows_.cols); }
    void sum(const T* weight, const std::int32_t* row, std::size_t n, T* out) const {
        k_.weighted_sum(weight, 1, {rows_.data, rows_.cols, row}, n, rows_.cols, false, out);
    }

private:
    MatrixView<const T> rows_;
    const Kernels<T>& k_;
};

class HalfSums {
public:
    explicit HalfSums(const QuantizedView& rows)
        : rows_{static_cast<const std::uint16_t*>(rows.data), rows.rows, rows.cols}, k_(half_kernels(rows.kind)) {}

    std::size_t cols() const noexcept { return rows_.cols; }
    void prefetch(std::size_t row) const { detail::prefetch(rows_.row(row), rows_.cols); }
    void sum(const float* weight, const std::int32_t* row, std::size_t n, float* out) const {
        k_.weighted_sum(weight, 1, {rows_.data, rows_.cols, row}, n, rows_.cols, false, out);
    }

private:
    MatrixView<const std::uint16_t> rows_;
    const HalfKernels& k_;
};

template <Real T>
RowSums<T> sums_of(MatrixView<T> rows) {
    return RowSums<T>(rows);
}
inline HalfSums sums_of(const HalfView& rows) { return HalfSums(rows); }

// One step of rows of E, each at most once, on any thread.
template <Real T>
class RowSteps {
public:
    RowSteps(MatrixView<T> rows, const Optimizer<T>& optimizer, std::uint64_t) : rows_(rows), optimizer_(optimizer) {}

    void prefetch(std::size_t row) const { prefetch_row(optimizer_, row, rows_); }
    void step(std::size_t row, T* gradient) const { step_row(optimizer_, row, gradient, rows_.row(row), rows_.cols); }

private:
    MatrixView<T> rows_;
    const Optimizer<T>& optimizer_;
};

class HalfSteps {
public:
    HalfSteps(const HalfView& rows, const Optimizer<float>& optimizer, std::uint64_t seed)
        : rows_(rows), optimizer_(optimizer), key_(rounding_key(seed, Stream::round_features, optimizer.step)) {}

    void prefetch(std::size_t row) const { prefetch_row(optimizer_, row, rows_); }
    void step(std::size_t row, float* gradient) const { step_row(optimizer_, row, gradient, rows_, key_); }

private:
    HalfView rows_;
    const Optimizer<float>& optimizer_;
    RoundingKey key_;
};

template <Real T>
RowSteps<T> steps_of(MatrixView<T> rows, const Optimizer<T>& optimizer, std::uint64_t seed) {
    return {rows, optimizer, seed};
}
inline HalfSteps steps_of(const HalfView& rows, const Optimizer<float>& optimizer, std::uint64_t seed) { return {rows, optimizer, seed}; }

template <Real T>
Weights<T> weights_of(MatrixView<T> W) {
    return MatrixView<const T>(W);
}
inline Weights<float> weights_of(const HalfView& W) { return static_cast<QuantizedView>(W); }

template <Real T>
void require_rows(const char* name, MatrixView<T> m, std::size_t rows, std::size_t cols) {
    require_matrix(name, m, rows, cols);
}
inline void require_rows(const char* name, const QuantizedView& m, std::size_t rows, std::size_t cols) {
    require(m.kind != QuantizedKind::int8, name, " must be bfloat16 or float16 here, got int8");
    require(m.rows == rows && m.cols == cols, name, " must have shape (", rows, ", ", cols, "), got (", m.rows, ", ", m.cols, ")");
    require_data(name, m.data, m.rows * m.cols);
}

// hsoftmax_update on either.
template <Real T>
void update_tree(const HSoftmaxPlan& plan, const HSoftmaxInput<T>& in, MatrixView<T> W, std::span<T> b, const Optimizer<T>& optimizer,
                 std::uint64_t, std::span<T> nll, MatrixView<T> dX, const std::function<void()>& ready, int num_threads) {
    hsoftmax_update(plan, in, W, b, optimizer, nll, dX, ready, num_threads);
}
inline void update_tree(const HSoftmaxPlan& plan, const HSoftmaxInput<float>& in, const HalfView& W, std::span<float> b,
                        const Optimizer<float>& optimizer, std::uint64_t seed, std::span<float> nll, MatrixView<float> dX,
                        const std::function<void()>& ready, int num_threads) {
    hsoftmax_update(plan, in, W, b, optimizer, seed, nll, dX, ready, num_threads);
}

}  // namespace sparseops::detail
