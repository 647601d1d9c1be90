// SPDX-License-Identifier: BSD-3-Clause
// Kernels of every table against long double, within bounds.
#pragma once

#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "check.hpp"
#include "kernel_tables.hpp"

namespace sparseops_test {

using Long = long double;

inline std::vector<std::size_t> sizes() {
    std::vector<std::size_t> list;
    for (std::size_t n = 0; n <= 70; ++n) list.push_back(n);
    for (const std::size_t n : {71u, 127u, 129u, 191u, 255u, 257u, 301u, 515u, 1023u}) list.push_back(n);
    return list;
}

struct Exact {
    std::vector<Long> value, bound;
    void add(Long v, Long b) {
        value.push_back(v);
        bound.push_back(b);
    }
};

// run(kernels) gives the outputs of one call; each must be within `bound` of `value`.
template <class T, class Run>
void compare(const std::string& call, const Exact& exact, Run run) {
    std::optional<std::vector<T>> first;
    for (const KernelTable* table : tables()) {
        const std::vector<T> out = run(of<T>(*table));
        bool within = out.size() == exact.value.size();
        for (std::size_t i = 0; within && i < out.size(); ++i) {
            const Long error = std::fabs(static_cast<Long>(out[i]) - exact.value[i]);
            within = check(error <= exact.bound[i] * 1.001L, table->name, " ", type_name<T>, " ", call, ": output ", i, " is ", out[i],
                           ", exact ", exact.value[i], ", error ", error, " over the bound ", exact.bound[i]);
        }
        check(within, table->name, " ", type_name<T>, " ", call, " should agree with long double");
        if (!has_fma(*table)) continue;
        if (first) {
            check(same_bytes(*first, out), table->name, " ", type_name<T>, " ", call,
                  " should give the bytes of the other tables with FMA");
        } else {
            first = out;
        }
    }
}

// A term passes one of two accumulators, their sum, the lanes by halves; without FMA its product is rounded too.
template <class T>
Long dot_roundings(std::size_t n) {
    const Long passes = static_cast<Long>((n + 2 * lanes<T> - 1) / (2 * lanes<T>));
    return passes + 1 + (sizeof(T) == 4 ? 4 : 3) + 1;
}

}  // namespace sparseops_test
