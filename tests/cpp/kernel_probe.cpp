// SPDX-License-Identifier: BSD-3-Clause
// The elementary functions of the kernels, compiled with the options of an instruction set.
#include <sparseops/kernels/simd_math.hpp>

#include "kernel_probe.hpp"

namespace {

template <class T>
void probe_exp(const T* x, T* y, std::size_t n) {
    each_vector<T>(n, [&](std::size_t i, std::size_t m) { store_m(y + i, m, exp_nonpositive<T>(load_m(x + i, m, T(0)))); });
}

template <class T>
void probe_log1p(const T* x, T* y, std::size_t n) {
    each_vector<T>(n, [&](std::size_t i, std::size_t m) { store_m(y + i, m, log1p_unit<T>(load_m(x + i, m, T(0)))); });
}

template <class T>
void probe_log1p_any(const T* x, T* y, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) y[i] = log1p_any(x[i]);
}

}  // namespace

namespace sparseops_test {
extern const Probe SPARSEOPS_ISA_NAME;
const Probe SPARSEOPS_ISA_NAME = {{probe_exp<float>, probe_log1p<float>, probe_log1p_any<float>},
                                  {probe_exp<double>, probe_log1p<double>, probe_log1p_any<double>}};
}  // namespace sparseops_test
