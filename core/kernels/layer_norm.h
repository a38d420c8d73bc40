#pragma once
// layer_norm: each row of the last axis is normalised by its own mean and biased variance.
//
//   y_c = gamma_c * xhat_c + beta_c,  xhat_c = (x_c - mean) * inv_std,  inv_std = 1 / sqrt(var + eps)
//   With g the gradient and h_c = g_c * gamma_c:
//     grad_x_c = inv_std * (h_c - mean(h) - xhat_c * mean(h * xhat))
//     grad_gamma_c = sum over rows of g_c * xhat_c, grad_beta_c = sum over rows of g_c.
//
// Shapes: x [..., C]; gamma, beta [C] or undefined (1 and 0), of parameter_type(x's type); mean and inv_std: one value per row.
// Forward and backward each pass over memory once. A row's variance is summed around its mean; sums over rows run in
// double over fixed chunks in order: the same bits for any thread count.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

EQ_KERNELS(
// mean and inv_std: [numel / C], parameter_type(x's type).
void layer_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y, Tensor& mean,
                        Tensor& inv_std);
// Each gradient may be undefined (not wanted).
void layer_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& gamma, const Tensor& mean, const Tensor& inv_std,
                         Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta);
)

}  // namespace eq
