#pragma once
// conv2d_batch_norm: a convolution and, before its results are stored, what follows it in evaluation.
//
//   y = act(gamma_o * (conv2d(x, w, b) - mean_o) / sqrt(var_o + eps) + beta_o + residual)
// By definition batch_norm(conv2d(...)) in evaluation, then add(..., residual), then relu: the same operations in the same order, so
// the same bits. It spares one pass over memory for the norm and two for the sum. fused_conv2d_batch_norm is the same of fused_conv2d.
//
// Only values: recorded, and on a GPU, it is what it is by definition.
// Shapes: those of conv2d and batch_norm; residual like y, or undefined (none).

#include "core/kernels/fused_conv2d.h"
#include "core/kernels/weight_cache.h"

namespace eq {

// A batch norm in evaluation: its constants, [O] each; gamma and beta may be undefined (1 and 0).
struct InferenceNorm {
  Tensor gamma, beta, running_mean, running_var;
  double eps = 1e-5;
  bool relu = false;  // the last step, behind the sum with the residual
};

namespace cpu {
// `cache` may be null: nothing made of the weight is kept.
void conv2d_batch_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const InferenceNorm& norm, const Tensor& residual,
                               WeightCache* cache, Tensor& y, const Conv2dOptions& options);
// Needs commutes_with_resizing().
void fused_conv2d_batch_norm_forward(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias,
                                     const InferenceNorm& norm, Tensor& y, const FuseLevelsOptions& levels, const Conv2dOptions& conv);
}  // namespace cpu
}  // namespace eq
