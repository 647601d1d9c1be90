// SPDX-License-Identifier: BSD-3-Clause
// The shape that every CSR matrix must have before its entries are looked at.
#pragma once

#include <cstddef>

#include "../types.hpp"
#include "require.hpp"

namespace sparseops::detail {

template <Real T, Index I>
void require_csr(CsrView<const T, I> x, const char* name) {
    require_data(name, x.indptr, ".indptr");
    require_data(name, x.indices, ".indices");
    require_data(name, x.data, ".data");
    require(!x.indptr.empty() && x.indptr[0] == 0, name, ".indptr must start with 0");
    require(x.indices.size() == x.data.size(), name, ".indices must have ", x.data.size(), " entries, got ", x.indices.size());
    bool falls = false;  // all of them first: a loop without branches
    for (std::size_t i = 0; i < x.rows(); ++i) falls |= x.indptr[i + 1] < x.indptr[i];
    for (std::size_t i = 0; falls && i < x.rows(); ++i) {
        require(x.indptr[i + 1] >= x.indptr[i], name, ".indptr must not decrease, got ", x.indptr[i + 1], " after ", x.indptr[i],
                " at index ", i + 1);
    }
    require(static_cast<std::size_t>(x.indptr.back()) <= x.data.size(), name, ".indptr must end by ", x.data.size(), ", got ",
            x.indptr.back());
}

}  // namespace sparseops::detail
