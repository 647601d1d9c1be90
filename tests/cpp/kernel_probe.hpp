// SPDX-License-Identifier: BSD-3-Clause
// The elementary functions inside the kernel file, one table an instruction set.
#pragma once

#include <cstddef>

namespace sparseops_test {

template <class T>
struct ProbeOf {
    void (*exp)(const T* x, T* y, std::size_t n);        // e^x, x <= 0
    void (*log1p)(const T* x, T* y, std::size_t n);      // log(1 + x), x in [0, 1]
    void (*log1p_any)(const T* x, T* y, std::size_t n);  // log(1 + x), x >= 0
};
struct Probe {
    ProbeOf<float> f32;
    ProbeOf<double> f64;
};

extern const Probe probe_baseline, probe_avx2, probe_avx512, probe_neon;

}  // namespace sparseops_test
