// SPDX-License-Identifier: BSD-3-Clause
// The hot loops, one table of function pointers per instruction set.
//
// Every kernel is noexcept, allocates nothing, and sums in an order fixed by the lengths alone, so that all
// sets with fused multiply-add return the same bytes. `dispatch.cpp` chooses the table; nothing else may.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sparseops::detail {

// Rows of a row-major matrix picked by index; `index == nullptr` picks 0, 1, 2, …
template <class T>
struct Rows {
    const T* data;
    std::size_t stride;  // elements between rows
    const std::int32_t* index;

    const T* operator[](std::size_t i) const noexcept { return data + (index ? static_cast<std::size_t>(index[i]) : i) * stride; }
};

template <class T>
struct Kernels {
    // out[i * out_stride + j] = a[i] · b[j], n elements a row.
    void (*dots)(const Rows<T>& a, std::size_t na, const Rows<T>& b, std::size_t nb, std::size_t n, T* out, std::size_t out_stride);
    // out[j] = x · (row index[j] of `rows`, which are n elements apart). Up to three elements after out[count) are overwritten.
    void (*path_dots)(const T* x, const T* rows, const std::int32_t* index, std::size_t count, std::size_t n, T* out);
    // out[0..n) = Σ_j weight[j * weight_stride] · rows[j], in the order of j; added to out if `accumulate`.
    void (*weighted_sum)(const T* weight, std::size_t weight_stride, const Rows<T>& rows, std::size_t count, std::size_t n, bool accumulate,
                         T* out);
    // The same for n_out outputs over the same rows: out[o][0..n) = Σ_j weight[o][j] · rows[j].
    void (*weighted_sums)(const T* const* weight, const Rows<T>& rows, std::size_t count, std::size_t n, bool accumulate, T* const* out,
                          std::size_t n_out);
    // out[j][0..n) = weight[j] · x and sum[j] = weight[j], both added to what is there for j < kept. No two outputs overlap.
    void (*outer)(const T* weight, const T* x, std::size_t n, T* const* out, std::size_t kept, std::size_t count, double* sum);
    // y += a x
    void (*axpy)(T a, const T* x, T* y, std::size_t n);
    // Logistic steps with logit z and target t in [0, 1]: loss = -t log σ(z) - (1-t) log σ(-z), delta = σ(z) - t.
    // `delta` may be z; `delta == nullptr` skips it.
    void (*logistic_loss)(const T* z, const T* target, std::size_t n, T* loss, T* delta);
    // log P(child 0), log P(child 1) of logistic nodes, from their logits; exactly minus what logistic_loss gives.
    // log_p0 may be z.
    void (*log_sigmoid)(const T* z, std::size_t n, T* log_p0, T* log_p1);
    // Softmax steps between two children, with logits z[2i], z[2i + 1] and the child target[i], 0 or 1: its -log P, and
    // delta[2i], delta[2i + 1] = P - (1 - target[i], target[i]). `delta` may be z; `delta == nullptr` skips it.
    void (*pair_loss)(const T* z, const T* target, std::size_t n, T* loss, T* delta);
    // -log softmax(z)[j] for every j of one node, and softmax(z); either may be null. One of them may be z: `probability`, or
    // `nll` if there is no probability.
    void (*softmax_nll)(const T* z, std::size_t k, T* nll, T* probability);
    // Index of the first element that is not finite, n if there is none.
    std::size_t (*first_not_finite)(const T* x, std::size_t n);
    // Adagrad: s += g², w -= lr g / (√s + eps), g = grad + decay w.
    void (*adagrad)(const T* grad, T lr, T eps, T decay, T* s, T* w, std::size_t n);
    // Row-wise Adagrad: *s += mean of g², w -= lr / (√*s + eps) · g.
    void (*rowwise_adagrad)(const T* grad, T lr, T eps, T decay, T* s, T* w, std::size_t n);
    // Adam: m = beta1 m + rest1 g, v = beta2 v + rest2 g², w -= step · m / (√v · root + eps), g = grad + decay w. The rests
    // are 1 - beta, rounded once: 1 - 0.999f has only three digits.
    void (*adam)(const T* grad, T step, T root, T beta1, T rest1, T beta2, T rest2, T eps, T decay, T* m, T* v, T* w, std::size_t n);
};

struct KernelTable {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
};

extern const KernelTable kernels_baseline;
extern const KernelTable kernels_avx2;
extern const KernelTable kernels_avx512;
extern const KernelTable kernels_neon;

// The table in use; chosen once, at first use, from CPUID, the operating system and SPARSEOPS_ISA.
const KernelTable& active_kernels();

template <class T>
const Kernels<T>& kernels();
template <>
inline const Kernels<float>& kernels<float>() {
    return active_kernels().f32;
}
template <>
inline const Kernels<double>& kernels<double>() {
    return active_kernels().f64;
}

}  // namespace sparseops::detail
