#include "core/kernels/layer_norm.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

struct LayerNormBackward final : Node {
  LayerNormBackward(const Tensor& x, const Tensor& gamma, const Tensor& mean, const Tensor& inv_std)
      : Node("layer_norm"), x_(save(x)), gamma_(save(gamma)), mean_(save(mean)), inv_std_(save(inv_std)) {}

  TensorList backward(const TensorList& grads) override {
    const Tensor& x = x_.get();
    auto wanted = [&](int input, const Shape& shape, DType dtype) {
      return needs(input) ? Tensor::empty(shape, dtype, x.device()) : Tensor();
    };
    const DType type = parameter_type(x.dtype());
    Tensor grad_x = wanted(0, x.shape(), x.dtype()), grad_gamma = wanted(1, {x.size(-1)}, type), grad_beta = wanted(2, {x.size(-1)}, type);
    EQ_RUN(grads[0].device(), layer_norm_backward(grads[0], x, gamma_.get(), mean_.get(), inv_std_.get(), grad_x,
                                                  grad_gamma, grad_beta));
    return {grad_x, grad_gamma, grad_beta};
  }

  SavedTensor &x_, &gamma_, &mean_, &inv_std_;
};

}  // namespace

Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  check::parameters("layer_norm", {"x", x}, {{"gamma", gamma}, {"beta", beta}});
  check::rank_at_least("layer_norm", {"x", x}, 1);
  const Shape channels = {x.size(-1)};
  check::that(channels[0] > 0, "layer_norm", "the last axis of x " + to_string(x.shape()) + " is empty", "features are [..., C] with C at least 1");
  if (gamma.defined()) check::shape("layer_norm", {"gamma", gamma}, channels, "[C] = " + to_string(channels));
  if (beta.defined()) check::shape("layer_norm", {"beta", beta}, channels, "[C] = " + to_string(channels));

  Tensor y = Tensor::empty_like(x), mean = Tensor::empty({x.numel() / channels[0]}, parameter_type(x.dtype()), x.device());
  Tensor inv_std = Tensor::empty_like(mean);
  EQ_RUN(x.device(), layer_norm_forward(x, gamma, beta, eps, y, mean, inv_std));
  trace("layer_norm", y, {x, gamma, beta}, eps);
  record<LayerNormBackward>(y, {x, gamma, beta}, x, gamma, mean, inv_std);
  return y;
}

}  // namespace eq
