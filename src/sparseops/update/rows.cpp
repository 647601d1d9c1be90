// SPDX-License-Identifier: BSD-3-Clause
// An optimizer's step by a gradient that comes as rows.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/prefetch.hpp"
#include "../update.hpp"
#include "steps.hpp"

namespace sparseops {
namespace {

using detail::require;

constexpr std::size_t block = 32, prefetch_distance = 4;  // rows

// The entries of the gradient that belong to each row: those of the i-th row are entry(first[i]) .. entry(first[i + 1]).
class Entries {
public:
    Entries(std::span<const std::int64_t> rows, std::size_t count) : rows_(rows), count_(count) {
        const auto falls = [](std::int64_t a, std::int64_t b) { return a >= b; };
        if (std::adjacent_find(rows.begin(), rows.end(), falls) == rows.end()) return;
        order_.resize(count);
        std::iota(order_.begin(), order_.end(), std::size_t{0});
        std::sort(order_.begin(), order_.end(),
                  [&](std::size_t a, std::size_t b) { return rows[a] != rows[b] ? rows[a] < rows[b] : a < b; });
        for (std::size_t i = 0; i < count; ++i) {
            if (i == 0 || rows[order_[i]] != rows[order_[i - 1]]) first_.push_back(i);
        }
        count_ = first_.size();
        first_.push_back(count);
    }

    std::size_t rows() const { return count_; }
    std::size_t first(std::size_t i) const { return order_.empty() ? i : first_[i]; }
    std::size_t entry(std::size_t place) const { return order_.empty() ? place : order_[place]; }
    std::size_t row(std::size_t i) const { return rows_.empty() ? i : static_cast<std::size_t>(rows_[entry(first(i))]); }

private:
    std::span<const std::int64_t> rows_;
    std::size_t count_;
    std::vector<std::size_t> order_, first_;
};

// The gradient of each row of W and of its bias, entry by entry.
template <Real T>
struct Given {
    MatrixView<const T> rows;
    std::span<const T> biases;
};

// At least the largest magnitude in any row's sum, by `bound` of each entry.
template <Real T, class F>
double largest_sum(const Entries& entries, const Given<T>& grad, int threads, const F& bound) {
    std::vector<double> largest((entries.rows() + block - 1) / block);
    detail::parallel_for(largest.size(), threads, [&](std::size_t b, std::size_t) {
        for (std::size_t i = b * block; i < std::min(entries.rows(), (b + 1) * block); ++i) {
            double sum = 0, bias = 0;
            for (std::size_t j = entries.first(i); j < entries.first(i + 1); ++j) {
                const std::size_t entry = entries.entry(j);
                sum += static_cast<double>(bound(grad.rows.row(entry), grad.rows.cols));
                if (!grad.biases.empty()) bias += std::abs(static_cast<double>(grad.biases[entry]));
            }
            if (bias > sum || std::isnan(bias)) sum = bias;
            if (!(sum <= largest[b])) largest[b] = sum;
            if (std::isnan(sum)) return;
        }
    });
    double most = 0;
    for (const double one : largest) {
        if (!(one <= most)) most = one;
        if (std::isnan(one)) break;
    }
    return most;
}

template <Real T>
void require_room(const Entries& entries, const Given<T>& grad, const Optimizer<T>& optimizer, int threads) {
    const auto bound = [](const T* x, std::size_t n) { return n == 1 ? std::abs(static_cast<double>(*x)) : norm_bound(x, n); };
    if (has_room_for(optimizer, largest_sum<T>(entries, grad, threads, bound), grad.rows.cols)) return;
    const auto& k = detail::kernels<T>();
    for (std::size_t i = 0; i < grad.rows.rows; ++i) {
        const std::size_t at = k.first_not_finite(grad.rows.row(i), grad.rows.cols);
        require(at == grad.rows.cols, "grad must be finite, got ", grad.rows.row(i)[at], " at row ", i, ", column ", at);
    }
    const std::size_t at = k.first_not_finite(grad.biases.data(), grad.biases.size());
    require(at == grad.biases.size(), "grad of b must be finite, got ", grad.biases[at], " at index ", at);
    const double largest = largest_sum<T>(entries, grad, threads, largest_magnitude<T>);
    require(has_room_for(optimizer, largest, grad.rows.cols), "grad must keep its sums and their squares within float", 8 * sizeof(T),
            ", got entries of up to ", largest);
}

template <Real T>
void prefetch(const Optimizer<T>& optimizer, std::size_t row, MatrixView<T> W, std::span<T> b) {
    prefetch_row(optimizer, row, W);
    if (b.empty()) return;
    for (const std::span<T> bias : {b, optimizer.b_first, optimizer.b_second}) {
        if (!bias.empty()) detail::prefetch_line_to_write(bias.data() + row);
    }
}

template <Real T>
void require_rows(std::span<const std::int64_t> rows, const Given<T>& grad, MatrixView<T> W, std::span<T> b) {
    const std::size_t count = grad.rows.rows;
    require(rows.size() == count || (rows.empty() && count == W.rows), "rows must have one entry a row of grad, ", count, ", got ",
            rows.size());
    detail::require_data("rows", rows);
    detail::require_matrix("grad", grad.rows, count, W.cols);
    detail::require_matrix("W", W, W.rows, W.cols);
    require(b.empty() ? grad.biases.empty() : grad.biases.size() == count, "grad of b must have ", b.empty() ? 0 : count, " entries, got ",
            grad.biases.size());
    require(b.empty() || b.size() == W.rows, "b must have ", W.rows, " entries, got ", b.size());
    detail::require_data("grad of b", grad.biases);
    detail::require_data("b", b);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        require(rows[i] >= 0 && static_cast<std::size_t>(rows[i]) < W.rows, "rows must be in [0, ", W.rows, "), got ", rows[i],
                " at index ", i);
    }
}

}  // namespace

template <Real T>
void step_rows(std::span<const std::int64_t> rows, MatrixView<const T> dW, std::span<const T> db, MatrixView<T> W, std::span<T> b,
               const Optimizer<T>& optimizer, int num_threads) {
    const Given<T> grad{dW, db};
    require_rows(rows, grad, W, b);
    require_optimizer(optimizer, W.rows, W.cols, !b.empty());
    const Entries entries(rows, dW.rows);
    const int threads = detail::team_size(num_threads, 4 * static_cast<double>(dW.size()));
    require_room(entries, grad, optimizer, threads);
    detail::PerWorker<T> sums(W.cols, threads);
    const auto& k = detail::kernels<T>();
    detail::parallel_for((entries.rows() + block - 1) / block, threads, [&](std::size_t n, std::size_t worker) {
        T* sum = sums[worker];
        for (std::size_t i = n * block; i < std::min(entries.rows(), (n + 1) * block); ++i) {
            if (i + prefetch_distance < entries.rows()) prefetch(optimizer, entries.row(i + prefetch_distance), W, b);
            const std::size_t from = entries.first(i), row = entries.row(i);
            std::copy_n(dW.row(entries.entry(from)), W.cols, sum);
            for (std::size_t j = from + 1; j < entries.first(i + 1); ++j) k.axpy(T(1), dW.row(entries.entry(j)), sum, W.cols);
            step_row(optimizer, row, sum, W.row(row), W.cols);
            if (b.empty()) continue;
            T bias = 0;
            for (std::size_t j = from; j < entries.first(i + 1); ++j) bias += db[entries.entry(j)];
            step_bias(optimizer, row, bias, b.data());
        }
    });
}

template void step_rows(std::span<const std::int64_t>, MatrixView<const float>, std::span<const float>, MatrixView<float>, std::span<float>,
                        const Optimizer<float>&, int);
template void step_rows(std::span<const std::int64_t>, MatrixView<const double>, std::span<const double>, MatrixView<double>,
                        std::span<double>, const Optimizer<double>&, int);

}  // namespace sparseops
