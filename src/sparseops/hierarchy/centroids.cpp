// SPDX-License-Identifier: BSD-3-Clause
// Centroids of the classes.
#include <algorithm>
#include <cmath>
#include <limits>

#include "../cluster.hpp"
#include "../detail/csr_rows.hpp"
#include "../detail/labels.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "shape.hpp"

namespace sparseops {
namespace {

using detail::FirstPlace;
using detail::parallel_for;
using detail::require;

constexpr std::size_t block_classes = 64;

void require_classes(const LabelsView& labels, std::size_t rows, std::int64_t n_classes) {
    require(n_classes >= 1 && n_classes <= detail::max_classes, "n_classes must be in [1, ", detail::max_classes, "], got ", n_classes);
    require(rows <= std::numeric_limits<std::uint32_t>::max(), "X must have fewer than 2**32 rows, got ", rows);
    detail::require_labels(labels, rows, static_cast<std::size_t>(n_classes));
}

// Scales values to unit norm as T; false if one is out of the range of T. The largest is taken out first, so that no square overflows.
template <Real T>
bool write_scaled(const double* values, std::size_t n, bool normalize, T* out) {
    double scale = 1;
    if (normalize) {
        double largest = 0, squares = 0;
        for (std::size_t j = 0; j < n; ++j) largest = std::max(largest, std::fabs(values[j]));
        for (std::size_t j = 0; j < n && largest > 0; ++j) squares += (values[j] / largest) * (values[j] / largest);
        scale = squares > 0 ? 1 / std::sqrt(squares) / largest : 1;
    }
    bool finite = true;
    for (std::size_t j = 0; j < n; ++j) {
        out[j] = static_cast<T>(values[j] * scale);
        finite = finite && std::isfinite(out[j]);
    }
    return finite;
}

void require_finite_sums(const FirstPlace& bad) {
    if (bad.any()) detail::refuse("X must have sums that are finite, got another for class ", bad.place());
}

// A dense accumulator that knows the features it holds.
class SparseSum {
public:
    explicit SparseSum(std::size_t features) : sum_(features, 0), seen_(features, 0) {}

    template <class T, class I>
    void add(const CsrView<const T, I>& X, std::size_t row) {
        for (auto j = static_cast<std::size_t>(X.indptr[row]); j < static_cast<std::size_t>(X.indptr[row + 1]); ++j) {
            const auto f = static_cast<std::size_t>(X.indices[j]);
            if (!seen_[f]) {
                seen_[f] = 1;
                touched_.push_back(static_cast<std::int32_t>(f));
            }
            sum_[f] += static_cast<double>(X.data[j]);
        }
    }
    // The features of non-zero sums, rising, and the sums; then it is empty again.
    void take(std::vector<std::int32_t>& feature, std::vector<double>& value) {
        std::sort(touched_.begin(), touched_.end());
        feature.clear();
        value.clear();
        for (const std::int32_t touched : touched_) {
            const auto f = static_cast<std::size_t>(touched);
            if (sum_[f] != 0) {
                feature.push_back(touched);
                value.push_back(sum_[f]);
            }
            sum_[f] = 0;
            seen_[f] = 0;
        }
        touched_.clear();
    }

private:
    std::vector<double> sum_;
    std::vector<std::uint8_t> seen_;
    std::vector<std::int32_t> touched_;
};

// The centroids of a block of classes.
template <class T>
struct Block {
    std::vector<std::size_t> size;  // of each class
    std::vector<std::int32_t> feature;
    std::vector<T> value;
};

}  // namespace

template <Real T, Index I>
CsrMatrix<T, I> class_centroids(CsrView<const T, I> X, const LabelsView& labels, std::int64_t n_classes, bool normalize, int num_threads) {
    detail::require_csr_rows(X, "X", num_threads);
    require_classes(labels, X.rows(), n_classes);
    const auto classes = static_cast<std::size_t>(n_classes);
    const auto rows = detail::rows_of_classes(labels, classes);
    const int threads = detail::team_size(num_threads, static_cast<double>(X.indices.size()) * 2);
    std::vector<SparseSum> sums(static_cast<std::size_t>(std::max(1, threads)), SparseSum(X.cols));
    std::vector<Block<T>> blocks((classes + block_classes - 1) / block_classes);
    FirstPlace bad;
    parallel_for(blocks.size(), threads, [&](std::size_t b, std::size_t worker) {
        std::vector<std::int32_t> feature;
        std::vector<double> value;
        Block<T>& block = blocks[b];
        for (std::size_t c = b * block_classes; c < std::min(classes, (b + 1) * block_classes); ++c) {
            for (std::size_t e = rows.ptr[c]; e < rows.ptr[c + 1]; ++e) sums[worker].add(X, rows.row[e]);
            sums[worker].take(feature, value);
            const std::size_t at = block.value.size();
            block.size.push_back(feature.size());
            block.feature.insert(block.feature.end(), feature.begin(), feature.end());
            block.value.resize(at + value.size());
            if (!write_scaled(value.data(), value.size(), normalize, block.value.data() + at)) bad.report(c);
        }
    });
    require_finite_sums(bad);
    std::size_t total = 0;
    for (const auto& block : blocks) total += block.feature.size();
    require(total <= static_cast<std::size_t>(std::numeric_limits<I>::max()), "X must have 64-bit indices for ", total,
            " entries of centroids, got ", 8 * sizeof(I), "-bit ones");
    CsrMatrix<T, I> out;
    out.cols = X.cols;
    out.indptr.reserve(classes + 1);
    out.indptr.push_back(0);
    out.indices.reserve(total);
    out.data.reserve(total);
    for (Block<T>& block : blocks) {
        for (const std::size_t size : block.size) out.indptr.push_back(static_cast<I>(out.indptr.back() + static_cast<I>(size)));
        out.indices.insert(out.indices.end(), block.feature.begin(), block.feature.end());
        out.data.insert(out.data.end(), block.value.begin(), block.value.end());
        block = {};
    }
    return out;
}

template <Real T>
void class_centroids(MatrixView<const T> X, const LabelsView& labels, bool normalize, MatrixView<T> out, int num_threads) {
    require(out.cols == X.cols, "out must have ", X.cols, " columns, got ", out.cols);
    require_classes(labels, X.rows, static_cast<std::int64_t>(out.rows));
    detail::require_data("X", X.data, X.size());
    detail::require_data("out", out.data, out.size());
    for (std::size_t j = 0; j < X.size(); ++j) {
        require(std::isfinite(X.data[j]), "X must be finite, got ", X.data[j], " at row ", j / X.cols, ", column ", j % X.cols);
    }
    const auto rows = detail::rows_of_classes(labels, out.rows);
    const int threads = detail::team_size(num_threads, static_cast<double>(X.size()));
    detail::PerWorker<double> sums(X.cols, threads);
    FirstPlace bad;
    const auto each_class = [&](auto&& finish) {
        parallel_for(out.rows, threads, [&](std::size_t c, std::size_t worker) {
            double* sum = sums[worker];
            std::fill_n(sum, X.cols, 0.0);
            for (std::size_t e = rows.ptr[c]; e < rows.ptr[c + 1]; ++e) {
                const T* x = X.row(rows.row[e]);
                for (std::size_t j = 0; j < X.cols; ++j) sum[j] += static_cast<double>(x[j]);
            }
            finish(c, sum);
        });
    };
    each_class([&](std::size_t c, const double* sum) {  // before anything is written
        for (std::size_t j = 0; j < X.cols; ++j) {
            if (!(std::fabs(sum[j]) <= static_cast<double>(std::numeric_limits<T>::max()))) bad.report(c);
        }
    });
    require_finite_sums(bad);
    each_class([&](std::size_t c, const double* sum) { write_scaled(sum, X.cols, normalize, out.row(c)); });
}

template CsrMatrix<float, std::int32_t> class_centroids(CsrView<const float, std::int32_t>, const LabelsView&, std::int64_t, bool, int);
template CsrMatrix<float, std::int64_t> class_centroids(CsrView<const float, std::int64_t>, const LabelsView&, std::int64_t, bool, int);
template CsrMatrix<double, std::int32_t> class_centroids(CsrView<const double, std::int32_t>, const LabelsView&, std::int64_t, bool, int);
template CsrMatrix<double, std::int64_t> class_centroids(CsrView<const double, std::int64_t>, const LabelsView&, std::int64_t, bool, int);
template void class_centroids(MatrixView<const float>, const LabelsView&, bool, MatrixView<float>, int);
template void class_centroids(MatrixView<const double>, const LabelsView&, bool, MatrixView<double>, int);

}  // namespace sparseops
