#include "core/kernels/conv2d_batch_norm.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/conv2d_checks.h"
#include "autograd/ops/fuse_levels_checks.h"
#include "autograd/ops/fused_conv2d_checks.h"

namespace eq {
namespace {

bool values_only(std::vector<Tensor> inputs, const InferenceNorm& norm) {
  inputs.insert(inputs.end(), {norm.gamma, norm.beta});
  return inputs[0].device().is_cpu() && !tracing() && !(grad_enabled() && detail::any_needs_grad(inputs));
}

void check_norm(const char* op, const Tensor& x, const Shape& y, const InferenceNorm& norm, const Tensor& residual) {
  const check::Argument vectors[] = {
      {"gamma", norm.gamma}, {"beta", norm.beta}, {"running_mean", norm.running_mean}, {"running_var", norm.running_var}};
  check::parameters(op, {"x", x}, {vectors[0], vectors[1], vectors[2], vectors[3]});
  check::alike(op, {{"x", x}, {"residual", residual}});
  for (const check::Argument& vector : vectors) {
    if (vector.tensor.defined()) check::shape(op, vector, {y[3]}, "[O] = [" + std::to_string(y[3]) + "]");
  }
  check::that(norm.running_mean.defined() && norm.running_var.defined(), op, "there are no running statistics",
              "pass running_mean and running_var of shape [O]");
  if (residual.defined()) check::shape(op, {"residual", residual}, y, "like the result, " + to_string(y));
}

// What follows the convolution, one operator after the other.
Tensor norm_and_activation(const Tensor& y, InferenceNorm norm, const Tensor& residual) {
  const Tensor normed = batch_norm(y, norm.gamma, norm.beta, norm.running_mean, norm.running_var,
                                   {.eps = norm.eps, .training = false, .relu = norm.relu && !residual.defined()});
  if (!residual.defined()) return normed;
  const Tensor sum = add(normed, residual);
  return norm.relu ? relu(sum) : sum;
}

}  // namespace

Tensor conv2d_batch_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& conv, const InferenceNorm& norm,
                         const Tensor& residual, WeightCache* cache) {
  constexpr const char* kOp = "conv2d_batch_norm";
  const Shape shape = check::conv2d(x, weight, bias, conv);
  check_norm(kOp, x, shape, norm, residual);
  if (!values_only({x, weight, bias, residual}, norm)) return norm_and_activation(conv2d(x, weight, bias, conv), norm, residual);
  Tensor y = Tensor::empty(shape, x.dtype());
  EQ_RUN_ON_CPU(conv2d_batch_norm_forward(x, weight, bias, norm, residual, cache, y, conv));
  return y;
}

Tensor fused_conv2d_batch_norm(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias,
                               const FuseLevelsOptions& levels, const Conv2dOptions& conv, const InferenceNorm& norm) {
  constexpr const char* kOp = "fused_conv2d_batch_norm";
  check::levels(kOp, branches, levels);
  std::vector<Tensor> inputs = branches;
  inputs.insert(inputs.end(), {weight, bias});
  Shape shape;
  if (!values_only(inputs, norm)) return norm_and_activation(fused_conv2d(branches, weight, bias, levels, conv), norm, {});
  if (!check::commutes(branches, weight, bias, levels, conv, shape)) {
    return conv2d_batch_norm(fuse_levels(branches, levels), weight, bias, conv, norm);
  }
  check_norm(kOp, weight, shape, norm, {});
  Tensor y = Tensor::empty(shape, weight.dtype());
  EQ_RUN_ON_CPU(fused_conv2d_batch_norm_forward(branches, weight, bias, norm, y, levels, conv));
  return y;
}

}  // namespace eq
