#pragma once
// group_norm: each image's channels in `groups` equal groups of neighbours; a group is normalised by the mean and biased
// variance of all its values in that image.
//
//   y = gamma_c * xhat + beta_c,  xhat = (x - mean_ng) * inv_std_ng,  inv_std = 1 / sqrt(var + eps)
//   With g the gradient, h = g * gamma_c and means over the group's values:
//     grad_x = inv_std_ng * (h - mean(h) - xhat * mean(h * xhat)),
//     grad_gamma_c = sum of g * xhat over images and positions, grad_beta_c = sum of g.
//
// Shapes: x [N, ..., C], C a multiple of groups; gamma, beta [C] or undefined (1 and 0), of parameter_type(x's type); mean, inv_std [N,
// groups]. One group is layer norm over whole images, C groups are instance norm. A group of one value gives beta.
// Passes over memory: two forward (statistics; apply), two backward (sums; apply). Sums in double over fixed chunks in order.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct GroupNormOptions {
  int64_t groups = 1;
  double eps = 1e-5;
  bool operator==(const GroupNormOptions&) const = default;
};

EQ_KERNELS(
// mean and inv_std: [N, groups], parameter_type(x's type).
void group_norm_forward(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y,
                        Tensor& mean, Tensor& inv_std);
// grad_gamma and grad_beta are always computed; grad_x may be undefined (not wanted).
void group_norm_backward(const Tensor& grad_y, const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& mean,
                         const Tensor& inv_std, Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta);
)

}  // namespace eq
