// SPDX-License-Identifier: BSD-3-Clause
#include "search.hpp"

#include <algorithm>
#include <vector>

#include "detail/index.hpp"
#include "detail/parallel.hpp"
#include "detail/require.hpp"
#include "hsoftmax/backward.hpp"
#include "hsoftmax/score.hpp"
#include "search/blocks.hpp"
#include "search/options.hpp"
#include "search/searcher.hpp"

namespace sparseops {

using detail::ix;
using detail::require;
using detail::Searcher;

template <Real T>
void hsoftmax_search(const HierarchyView& h, const HSoftmaxInput<T>& in, const SearchOptions& options, MatrixView<std::int64_t> classes,
                     MatrixView<T> log_probs, std::span<T> bound, int num_threads) {
    detail::require_options(options);
    const std::size_t n = in.X.rows();
    detail::require_matrix("classes", classes, n, options.k);
    detail::require_matrix("log_probs", log_probs, n, options.k);
    require(bound.size() == n, "bound must have ", n, " entries, got ", bound.size());
    detail::require_data("bound", bound);
    require_input(h, in);
    if constexpr (std::is_same_v<T, float>) {
        if (in.W.sparse() && h.nodes() > 0) return detail::search_blocks(h, in, options, classes, log_probs, bound, num_threads);
    }
    const int threads = detail::team_size(num_threads, detail::search_work(h, options, n) * (detail::entries_per_row(in.X) + 16));
    std::vector<Searcher<T>> searchers(ix(std::max(1, threads)), Searcher<T>(h, in, options));
    constexpr std::size_t query_block = 16;
    detail::FirstPlace bad;
    detail::parallel_for((n + query_block - 1) / query_block, threads, [&](std::size_t item, std::size_t worker) {
        for (std::size_t i = item * query_block; i < std::min(n, (item + 1) * query_block); ++i) {
            if (!searchers[worker].run(i, classes.row(i), log_probs.row(i), &bound[i])) bad.report(i);
        }
    });
    detail::require_finite_logits(bad);
}

template void hsoftmax_search(const HierarchyView&, const HSoftmaxInput<float>&, const SearchOptions&, MatrixView<std::int64_t>,
                              MatrixView<float>, std::span<float>, int);
template void hsoftmax_search(const HierarchyView&, const HSoftmaxInput<double>&, const SearchOptions&, MatrixView<std::int64_t>,
                              MatrixView<double>, std::span<double>, int);

}  // namespace sparseops
