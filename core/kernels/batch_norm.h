#pragma once
// batch_norm: per-channel normalisation over all other axes, with an optional fused ReLU.
//
//   training: mean_c, var_c over the m = numel/C values of channel c (biased variance);
//             running <- (1 - momentum) * running + momentum * batch value (the variance unbiased, m/(m-1))
//   eval:     mean_c, var_c are the running values
//   y = act(gamma_c * (x - mean_c) / sqrt(var_c + eps) + beta_c)
//   Training adjoint, with xhat the normalised input, g the gradient after the activation's mask:
//     grad_beta = sum g, grad_gamma = sum g*xhat, grad_x = gamma/sqrt(var+eps) * (g - grad_beta/m - xhat * grad_gamma/m)
//   Eval adjoint: grad_x = gamma/sqrt(var+eps) * g.
// The ReLU mask is recomputed from x, so y need not be saved.
//
// Shapes: x [..., C]; gamma, beta [C] or undefined (1 and 0), of parameter_type(x's type); running_mean, running_var [C].
// Statistics are summed in double over fixed chunks added in order: the same bits for any thread count. Each chunk sums
// around an origin of its own, so that means far larger than the deviation cost no accuracy.
// Passes over memory: forward two (statistics; apply), backward two (sums; apply), in eval one each.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct BatchNormOptions {
  double eps = 1e-5;
  double momentum = 0.1;       // weight of the new value
  bool training = true;        // use batch statistics
  bool update_running = true;  // only in training
  bool relu = false;           // fused activation
  const char* layer = "";      // named in errors (null: no name): a channel with a single value cannot be normalised in training
  bool operator==(const BatchNormOptions&) const = default;
};

EQ_KERNELS(
// Writes mean and inverse standard deviation of each channel into `mean`, `inv_std` ([C], parameter_type(x's type)).
void batch_norm_statistics(const Tensor& x, Tensor& mean, Tensor& inv_std, Tensor& biased_var, double eps);
void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                        bool relu, Tensor& y);
// running <- (1 - momentum) * running + momentum * batch value; `count` = m, the values per channel (at least 2).
void batch_norm_update_running(const Tensor& mean, const Tensor& biased_var, int64_t count, double momentum,
                               Tensor& running_mean, Tensor& running_var);
// 1 / sqrt(var + eps), [C].
void batch_norm_inverse_std(const Tensor& var, double eps, Tensor& inv_std);
// grad_gamma and grad_beta are always computed; grad_x may be undefined (not wanted).
void batch_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                         const Tensor& inv_std, bool relu, bool training, Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta);
)
}  // namespace eq
