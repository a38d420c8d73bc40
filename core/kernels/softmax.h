#pragma once
// softmax and log_softmax over the last axis.
//
//   softmax:      y_c = exp(x_c - m) / sum_k exp(x_k - m), m = max_k x_k;  grad_x = y * (g - sum_k g_k y_k)
//   log_softmax:  y_c = x_c - m - log sum_k exp(x_k - m);                  grad_x = g - exp(y) * sum_k g_k
// Backward needs y alone.
//
// Shapes: x [..., C], C at least 1; y the same. One pass over memory each way (two arrays read in backward). A row with a
// NaN, or with infinity as its maximum, gives NaN. Each row is computed the same way whatever its place and the number of threads.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

EQ_KERNELS(
void softmax_forward(const Tensor& x, bool logarithm, Tensor& y);
void softmax_backward(const Tensor& grad_y, const Tensor& y, bool logarithm, Tensor& grad_x);
)

}  // namespace eq
