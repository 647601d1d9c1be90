// SPDX-License-Identifier: BSD-3-Clause
// The kernel tables that this build holds and this machine can run.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

#include <sparseops/kernels/kernels.hpp>
#include <sparseops/kernels/stream.hpp>
#include <sparseops/runtime.hpp>

namespace sparseops_test {

using sparseops::detail::Kernels;
using sparseops::detail::KernelTable;
using sparseops::detail::NormKernels;
using sparseops::detail::Rows;
using sparseops::detail::SelectKernels;
using sparseops::detail::StreamTable;

inline bool can_run(const std::string& isa) {
    const auto names = sparseops::available_isas();
    return std::find(names.begin(), names.end(), isa) != names.end();
}

inline std::vector<const KernelTable*> tables() {
    std::vector<const KernelTable*> list;
    [[maybe_unused]] const auto add = [&](const KernelTable& table) {
        if (can_run(table.name)) list.push_back(&table);
    };
#if defined(SPARSEOPS_HAS_BASELINE)
    add(sparseops::detail::kernels_baseline);
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    add(sparseops::detail::kernels_avx2);
#endif
#if defined(SPARSEOPS_HAS_AVX512)
    add(sparseops::detail::kernels_avx512);
#endif
#if defined(SPARSEOPS_HAS_NEON)
    add(sparseops::detail::kernels_neon);
#endif
    return list;
}

// The tables of the streaming kernels have no names of their own.
struct NamedStream {
    const char* name;
    const StreamTable* table;
    bool fma;
};

inline std::vector<NamedStream> streams() {
    std::vector<NamedStream> list;
    [[maybe_unused]] const auto add = [&](const char* name, const StreamTable& table) {
        if (can_run(name)) list.push_back({name, &table, std::string(name) != "baseline"});
    };
#if defined(SPARSEOPS_HAS_BASELINE)
    add("baseline", sparseops::detail::stream_baseline);
#endif
#if defined(SPARSEOPS_HAS_AVX2)
    add("avx2", sparseops::detail::stream_avx2);
#endif
#if defined(SPARSEOPS_HAS_AVX512)
    add("avx512", sparseops::detail::stream_avx512);
#endif
#if defined(SPARSEOPS_HAS_NEON)
    add("neon", sparseops::detail::stream_neon);
#endif
    return list;
}

template <class T>
const NormKernels<T>& norms_of(const StreamTable& table) {
    if constexpr (sizeof(T) == 4)
        return table.norm_f32;
    else
        return table.norm_f64;
}

template <class U>
const SelectKernels<U>& select_of(const StreamTable& table) {
    if constexpr (sizeof(U) == 2)
        return table.select_16;
    else if constexpr (sizeof(U) == 4)
        return table.select_32;
    else
        return table.select_64;
}

template <class T>
const Kernels<T>& of(const KernelTable& table) {
    if constexpr (std::is_same_v<T, float>)
        return table.f32;
    else
        return table.f64;
}

inline bool has_fma(const KernelTable& table) { return std::string(table.name) != "baseline"; }

template <class T>
constexpr const char* type_name = std::is_same_v<T, float> ? "float" : "double";

template <class T>
constexpr std::size_t lanes = 64 / sizeof(T);  // of the virtual vector

// Half an ulp of 1: the relative error of one rounding.
template <class T>
constexpr long double unit = static_cast<long double>(std::numeric_limits<T>::epsilon()) / 2;

template <class T>
constexpr long double smallest = static_cast<long double>(std::numeric_limits<T>::min());

}  // namespace sparseops_test
