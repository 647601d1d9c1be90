// SPDX-License-Identifier: BSD-3-Clause
// Embedding bag and search by blocks of rows.
#include <algorithm>
#include <deque>
#include <vector>

#include "../bag.hpp"
#include "../detail/csr_rows.hpp"
#include "../detail/index.hpp"
#include "../detail/parallel.hpp"
#include "../detail/require.hpp"
#include "../hsoftmax/backward.hpp"
#include "../search.hpp"
#include "options.hpp"
#include "searcher.hpp"

namespace sparseops {
namespace {

using detail::ix;
using detail::require;

constexpr std::size_t row_block = 32;  // their bags stay in the nearest cache

// One worker's bags of a block, and its search of them.
template <Real T, Index I>
class BagSearch {
public:
    BagSearch(CsrView<const T, I> X, MatrixView<const T> E, BagMode mode, const HierarchyView& h, const HSoftmaxInput<T>& in,
              const SearchOptions& options)
        : X_(X),
          E_(E),
          mode_(mode),
          hidden_(std::min(row_block, std::max<std::size_t>(1, X.rows())) * E.cols),
          in_(of_hidden(in)),
          search_(h, in_, options) {}

    // hidden()[i * H ..) = the bag of row first + i.
    std::span<const T> embed(std::size_t first, std::size_t n) {
        const I begin = X_.indptr[first];
        const std::size_t entries = ix(X_.indptr[first + n] - begin);
        indptr_.resize(n + 1);
        for (std::size_t i = 0; i <= n; ++i) indptr_[i] = X_.indptr[first + i] - begin;
        embedding_bag<T, I>({indptr_, X_.indices.subspan(ix(begin), entries), X_.data.subspan(ix(begin), entries), X_.cols}, E_, mode_,
                            {hidden_.data(), n, E_.cols}, 1);
        return {hidden_.data(), n * E_.cols};
    }
    bool run(std::size_t i, std::int64_t* classes, T* log_probs, T* bound) { return search_.run(i, classes, log_probs, bound); }

private:
    HSoftmaxInput<T> of_hidden(HSoftmaxInput<T> in) const {
        in.X = MatrixView<const T>{hidden_.data(), hidden_.size() / std::max<std::size_t>(1, E_.cols), E_.cols};
        return in;
    }

    CsrView<const T, I> X_;
    MatrixView<const T> E_;
    BagMode mode_;
    std::vector<T> hidden_;
    std::vector<I> indptr_;
    HSoftmaxInput<T> in_;
    detail::Searcher<T> search_;
};

}  // namespace

template <Real T, Index I>
void bag_search(CsrView<const T, I> X, MatrixView<const T> E, BagMode mode, const HierarchyView& h, const HSoftmaxInput<T>& in,
                const SearchOptions& options, MatrixView<std::int64_t> classes, MatrixView<T> log_probs, std::span<T> bound,
                int num_threads) {
    detail::require_options(options);
    require(!in.W.sparse(), "W must be dense or quantized after an embedding bag, got sparse weights");
    require(X.cols == E.rows, "X must have ", E.rows, " columns, got ", X.cols);
    detail::require_csr_rows(X, "X", num_threads);
    detail::require_data("E", E.data, E.size());
    const std::size_t n = X.rows(), dim = E.cols;
    detail::require_matrix("classes", classes, n, options.k);
    detail::require_matrix("log_probs", log_probs, n, options.k);
    require(bound.size() == n, "bound must have ", n, " entries, got ", bound.size());
    detail::require_data("bound", bound);
    HSoftmaxInput<T> shape = in;
    shape.X = MatrixView<const T>{nullptr, 0, dim};
    require_shapes(h, shape);
    if (n == 0) return;
    const int threads = std::max(1, detail::team_size(num_threads, detail::search_work(h, options, n) * static_cast<double>(dim + 16)));
    std::deque<BagSearch<T, I>> workers;
    for (int t = 0; t < threads; ++t) workers.emplace_back(X, E, mode, h, in, options);
    detail::FirstPlace bad, overflow;
    detail::parallel_for((n + row_block - 1) / row_block, threads, [&](std::size_t block, std::size_t worker) {
        const std::size_t first = block * row_block, rows = std::min(row_block, n - first);
        const std::span<const T> hidden = workers[worker].embed(first, rows);
        if (in.check_finite) {
            const std::size_t odd = detail::kernels<T>().first_not_finite(hidden.data(), hidden.size());
            if (odd < hidden.size()) return overflow.report(first * dim + odd);
        }
        for (std::size_t i = 0; i < rows; ++i) {
            const std::size_t x = first + i;
            if (!workers[worker].run(i, classes.row(x), log_probs.row(x), &bound[x])) bad.report(x);
        }
    });
    if (overflow.any()) {
        const std::size_t x = overflow.place() / dim, column = overflow.place() % dim;
        detail::refuse("X must be finite, got ", workers[0].embed(x, 1)[column], " at row ", x, ", column ", column);
    }
    detail::require_finite_logits(bad);
}

template void bag_search(CsrView<const float, std::int32_t>, MatrixView<const float>, BagMode, const HierarchyView&,
                         const HSoftmaxInput<float>&, const SearchOptions&, MatrixView<std::int64_t>, MatrixView<float>, std::span<float>,
                         int);
template void bag_search(CsrView<const float, std::int64_t>, MatrixView<const float>, BagMode, const HierarchyView&,
                         const HSoftmaxInput<float>&, const SearchOptions&, MatrixView<std::int64_t>, MatrixView<float>, std::span<float>,
                         int);
template void bag_search(CsrView<const double, std::int32_t>, MatrixView<const double>, BagMode, const HierarchyView&,
                         const HSoftmaxInput<double>&, const SearchOptions&, MatrixView<std::int64_t>, MatrixView<double>,
                         std::span<double>, int);
template void bag_search(CsrView<const double, std::int64_t>, MatrixView<const double>, BagMode, const HierarchyView&,
                         const HSoftmaxInput<double>&, const SearchOptions&, MatrixView<std::int64_t>, MatrixView<double>,
                         std::span<double>, int);

}  // namespace sparseops
