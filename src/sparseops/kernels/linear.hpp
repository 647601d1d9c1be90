// SPDX-License-Identifier: BSD-3-Clause
// Passes of dual coordinate descent over the examples of one node, for many rows of W at a time: a lane is a row of W.
//
// Lanes never mix, but in the softmax of a node, where they do so in a fixed tree: all sets with fused multiply-add return the
// same bytes. Every kernel is noexcept and allocates nothing.
#pragma once

#include <cstddef>
#include <cstdint>

namespace sparseops::detail {

constexpr std::size_t linear_lanes = 16;

struct LinearEntry {
    std::int32_t feature;  // a row of the weights
    float value;
};

// The examples of a node: example i has entries[ptr[i] .. ptr[i+1]).
struct LinearExamples {
    const std::size_t* ptr;
    const LinearEntry* entries;
    const float* squares;  // |x|² + 1, the 1 being the bias's
    const float* cost;     // C times the example's weight
};

// Sixteen rows of W that are trained one against the rest.
struct LinearBlock {
    const std::uint16_t* positive;  // bit l of [i]: lane l's class is among those of example i
    float* weights;                 // [features][16], 64-byte aligned
    float* dual;                    // [examples][16], 64-byte aligned
    float* bias;                    // [16]
    float offset;                   // added to every score
    std::size_t live;               // lanes in use, the first ones
};

// All rows of W of a node, that compete in one softmax; `width` is their number, filled up to a multiple of 16.
struct LinearSoftmax {
    const std::int32_t* target;  // which row is the class of example i
    float* weights;              // [features][width], 64-byte aligned
    float* dual;                 // [examples][width]: log of the probabilities that the dual variables stand for
    float* bias;                 // [width]
    float* scratch;              // [4][width], 64-byte aligned
    std::size_t width, live;
};

struct LinearKernels {
    // Squared hinge, in the order `visit`, whose entry becomes ~i where example i has no lane at work: all dual variables zero,
    // and all gradients above `leave`. lowest and highest get the least and largest projected gradient.
    void (*squared_hinge)(const LinearExamples& x, const LinearBlock& block, std::int32_t* visit, std::size_t count, float leave,
                          float* lowest, float* highest);
    // Logistic loss; the dual variables are stored as logits. Returns the largest step of a logit.
    float (*logistic)(const LinearExamples& x, const LinearBlock& block, const std::int32_t* visit, std::size_t count, bool first);
    // Softmax; returns the sum over the examples of their mean |residual| of log-probabilities.
    double (*softmax)(const LinearExamples& x, const LinearSoftmax& node, const std::int32_t* visit, std::size_t count, bool first);
    // out[i - first][vectors · 16] for the examples first .. last: bias + Σ x_f w_f over the weights of |w| > threshold.
    void (*scores)(const LinearExamples& x, const float* weights, std::size_t vectors, const float* bias, float threshold,
                   std::size_t first, std::size_t last, float* out);
    // z[0 .. width) += Σ_j x[j] · rows[index[j]], in the order of j, every product rounded before it is added: the sums of a loop over
    // entries. width is a multiple of 16.
    void (*add_rows)(const float* rows, std::size_t width, const std::int32_t* index, const float* x, std::size_t n, float* z);
    // In place, from the scores of n > 1 rows of one softmax to log_p[j] = -softmax_nll's, to the last bit, of the logits temperature · z.
    // above[i] = the lanes of log_p[16 i ..] that are not below `least`. z has room for a multiple of 16, zero from n on. False if a
    // logit is not finite: then z holds the logits.
    bool (*log_softmax)(float* z, std::size_t n, float temperature, float least, std::uint16_t* above);
    // mask[f] = the lanes of weights[f][16] of |w| > threshold.
    void (*above)(const float* weights, std::size_t features, float threshold, std::uint16_t* mask);
};

extern const LinearKernels linear_baseline;
extern const LinearKernels linear_avx2;
extern const LinearKernels linear_avx512;
extern const LinearKernels linear_neon;

// The table that goes with active_kernels().
const LinearKernels& linear_kernels();

}  // namespace sparseops::detail
