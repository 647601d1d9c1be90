// SPDX-License-Identifier: BSD-3-Clause
// Products of rows of X with rows of W, whatever they are stored as.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <type_traits>
#include <vector>

#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax.hpp"
#include "../kernels/half.hpp"
#include "../kernels/kernels.hpp"
#include "../kernels/prefetch.hpp"
#include "../kernels/quantized.hpp"
#include "../types.hpp"
#include "sparse_score.hpp"

namespace sparseops::detail {

// Row i is index[i] if there is an index, otherwise first + i.
struct Pick {
    std::size_t first = 0;
    const std::int32_t* index = nullptr;
};

// `bad`: rows of X that had another logit.
inline void require_finite_logits(const FirstPlace& bad) {
    require(!bad.any(), "W and b must be finite, with finite logits, got another for row ", bad.place(), " of X");
}

inline const char* name_of(QuantizedKind kind) {
    return kind == QuantizedKind::int8 ? "int8" : kind == QuantizedKind::bfloat16 ? "bfloat16" : "float16";
}

// A gradient needs rows of floats, of any width.
template <Real T>
void require_float_rows(const Weights<T>& W) {
    if (W.dense() || (W.quantized() && W.quantized()->kind != QuantizedKind::int8)) return;
    refuse("W must be a float array for a gradient, got ", W.sparse() ? "sparse" : name_of(W.quantized()->kind), " weights");
}

// X as everything but sparse W needs it.
template <Real T>
MatrixView<const T> require_dense_rows(const Examples<T>& X) {
    if (const auto* rows = X.dense()) return *rows;
    refuse("X must be dense with rows of W that are, got compressed sparse rows");
}

// Products that a row of W takes part in for each row of X, about: for guesses at the work to come.
template <Real T>
double entries_per_row(const Examples<T>& X) noexcept {
    const auto mean = [](const auto* rows) {
        return static_cast<double>(rows->indices.size()) / static_cast<double>(std::max<std::size_t>(1, rows->rows()));
    };
    if (X.dense()) return static_cast<double>(X.dense()->cols);
    const auto* rows32 = X.template sparse<std::int32_t>();
    return rows32 ? mean(rows32) : mean(X.template sparse<std::int64_t>());
}

template <Real T>
class Scorer {
public:
    // The views must outlive it. int8: rows of X are rounded to the finest 16-bit steps whose products cannot overflow, all of them
    // by the constructor that takes threads, else each when `place` asks for it. Sparse rows of X are checked, and put in order where they are not.
    Scorer(const HierarchyView& h, const Examples<T>& X, const Weights<T>& W, int threads) : Scorer(h, X, W) {
        if (is_int8()) round_inputs(threads);
    }
    Scorer(const HierarchyView& h, const Examples<T>& X, const Weights<T>& W)
        : h_(h), X_(W.sparse() ? MatrixView<const T>{} : require_dense_rows(X)), k_(kernels<T>()) {
        if (W.dense()) {
            W_ = *W.dense();
            return;
        }
        if (W.sparse()) {
            view_sparse(X, *W.sparse());
            return;
        }
        q_ = *W.quantized();
        require(std::is_same_v<T, float>, "X must be float32, as W has ", name_of(q_.kind), " weights, got float64");
        quantized_ = &quantized_kernels();
        if (q_.kind != QuantizedKind::int8) {
            half_ = &half_kernels(q_.kind);
            return;
        }
        constexpr std::int64_t most = 0x7fffffff;  // of a sum of products with weights of at most 128
        levels_ = static_cast<std::int32_t>(
            std::min<std::int64_t>(32767, most / (128 * static_cast<std::int64_t>(std::max<std::size_t>(1, X_.cols)))));
        require(levels_ >= 127, "W must have at most 132104 columns of int8 weights, got ", X_.cols);
        stride_ = (X_.cols + int8_padding - 1) / int8_padding * int8_padding;
        x_.resize(stride_);
        x_scale_.resize(cache_gap / sizeof(float));
    }

    // The number to pass for row x of X. Where rows are rounded one at a time, there is room for one: the number passed before is void.
    std::size_t place(std::size_t x) {
        if (!is_int8()) return x;
        round_input(x, 0);
        return 0;
    }

    // Set if W is sparse: then only `node` and the functions of SparseScorer may be called.
    const std::optional<SparseScorer>& sparse() const noexcept { return sparse_; }

    // z[j] = X[x] · (row j of node v). Of sparse W, the logit: bias and temperature are part of it.
    void node(std::size_t x, std::size_t v, T* z) const {
        if constexpr (std::is_same_v<T, float>) {
            if (sparse_) return sparse_->node(x, v, z);
        }
        const std::size_t k = h_.row_count(v);
        (*this)({x}, 1, {h_.row(v)}, k, z, k);
    }

    // out[i * stride + j] = X[x i] · W[w j]
    void operator()(Pick x, std::size_t nx, Pick w, std::size_t nw, T* out, std::size_t stride) const {
        if (!quantized_) [[likely]]
            return k_.dots(rows(X_, x), nx, rows(W_, w), nw, X_.cols, out, stride);
        if constexpr (std::is_same_v<T, float>) quantized_dots(x, nx, w, nw, out, stride);
    }

    // out[j] = X[x] · W[w[j]]; up to three elements after out[count) are overwritten.
    void path(std::size_t x, const std::int32_t* w, std::size_t count, T* out) const {
        if (!quantized_) [[likely]]
            return k_.path_dots(X_.row(x), W_.data, w, count, W_.cols, out);
        const auto row = static_cast<std::int32_t>(x);
        if constexpr (std::is_same_v<T, float>) {
            if (half_) return half_->path_dots(X_.row(x), half_rows(), w, count, q_.cols, out);
            quantized_dots({0, &row}, 1, {0, w}, count, out, count);
        }
    }

    // The gradient of X, of W with float rows: out[0..D) = Σ_j weight[j] · W[w[j]].
    void path_sum(const T* weight, const std::int32_t* w, std::size_t count, T* out) const {
        if (!half_) [[likely]]
            return k_.weighted_sum(weight, 1, {W_.data, W_.cols, w}, count, W_.cols, false, out);
        if constexpr (std::is_same_v<T, float>) half_->weighted_sum(weight, 1, {half_rows(), q_.cols, w}, count, q_.cols, false, out);
    }
    // The same of `count` rows from `first` on, for n outputs; added to them if `accumulate`.
    void row_sums(const T* const* weight, std::size_t first, std::size_t count, bool accumulate, T* const* out, std::size_t n) const {
        if (!half_) [[likely]]
            return k_.weighted_sums(weight, rows(W_, {first}), count, W_.cols, accumulate, out, n);
        if constexpr (std::is_same_v<T, float>)
            half_->weighted_sums(weight, rows(half_rows(), q_.cols, {first}), count, q_.cols, accumulate, out, n);
    }

    bool has_half_rows() const noexcept { return half_ != nullptr; }
    // A row of those in float32.
    void widen(std::size_t row, T* to) const {
        if constexpr (std::is_same_v<T, float>) half_->widen(half_rows() + row * q_.cols, q_.cols, to);
    }

    void prefetch_input(std::size_t x) const {
        if (!quantized_ && !sparse_) detail::prefetch(X_.row(x), X_.cols);
    }

    void prefetch(std::size_t row) const {
        if (sparse_) return;
        if (!quantized_) [[likely]]
            return detail::prefetch(W_.row(row), W_.cols);
        if (q_.kind == QuantizedKind::int8) {
            detail::prefetch(static_cast<const std::int8_t*>(q_.data) + row * q_.cols, q_.cols);
            prefetch_line(&q_.scale[row]);
        } else {
            detail::prefetch(half_rows() + row * q_.cols, q_.cols);
        }
    }

private:
    bool is_int8() const noexcept { return quantized_ && q_.kind == QuantizedKind::int8; }
    const std::uint16_t* half_rows() const noexcept { return static_cast<const std::uint16_t*>(q_.data); }

    template <class E>
    static Rows<E> rows(const E* data, std::size_t stride, Pick p) {
        return {p.index ? data : data + p.first * stride, stride, p.index};
    }
    static Rows<T> rows(const MatrixView<const T>& m, Pick p) { return rows(m.data, m.cols, p); }

    void round_input(std::size_t x, std::size_t to) {
        if constexpr (std::is_same_v<T, float>) x_scale_[to] = quantized_->int16_row(X_.row(x), X_.cols, levels_, x_.data() + to * stride_);
    }
    void round_inputs(int threads) {
        x_.resize(X_.rows * stride_);
        x_scale_.resize(X_.rows);
        constexpr std::size_t row_block = 64;
        parallel_for((X_.rows + row_block - 1) / row_block, threads, [&](std::size_t item, std::size_t) {
            for (std::size_t i = item * row_block; i < std::min(X_.rows, (item + 1) * row_block); ++i) round_input(i, i);
        });
    }

    void quantized_dots(Pick x, std::size_t nx, Pick w, std::size_t nw, float* out, std::size_t stride) const {
        if (q_.kind == QuantizedKind::int8) {
            const float *x_scale = x_scale_.data() + (x.index ? 0 : x.first), *w_scale = q_.scale.data() + (w.index ? 0 : w.first);
            quantized_->int8_dots(rows(x_.data(), stride_, x), x_scale, nx, rows(static_cast<const std::int8_t*>(q_.data), q_.cols, w),
                                  w_scale, nw, q_.cols, out, stride);
            return;
        }
        const auto dots = q_.kind == QuantizedKind::bfloat16 ? quantized_->bfloat16_dots : quantized_->float16_dots;
        dots(rows(X_, x), nx, rows(half_rows(), q_.cols, w), nw, q_.cols, out, stride);
    }

    void view_sparse(const Examples<T>& X, const SparseRowsView& W) {
        require(!X.dense(), "X must be compressed sparse rows, as W has sparse weights, got a dense matrix");
        if constexpr (std::is_same_v<T, float>) {
            if (const auto* rows32 = X.template sparse<std::int32_t>())
                ordered_ = std::make_shared<const OrderedRows>(*rows32);
            else
                ordered_ = std::make_shared<const OrderedRows>(*X.template sparse<std::int64_t>());
            sparse_.emplace(h_, W, *ordered_);
        } else {
            refuse("X must be float32, as W has sparse weights, got float64");
        }
    }

    const HierarchyView& h_;
    const MatrixView<const T> X_;
    MatrixView<const T> W_;  // or
    QuantizedView q_;
    const Kernels<T>& k_;
    const QuantizedKernels* quantized_ = nullptr;
    const HalfKernels* half_ = nullptr;           // of bfloat16 and float16
    std::shared_ptr<const OrderedRows> ordered_;  // sparse: X
    std::optional<SparseScorer> sparse_;
    std::vector<std::int16_t> x_;  // int8: X, a row every stride_, or one row
    std::vector<float> x_scale_;
    std::size_t stride_ = 0;
    std::int32_t levels_ = 0;
};

}  // namespace sparseops::detail
