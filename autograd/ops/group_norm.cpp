#include "core/kernels/group_norm.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

struct GroupNormBackward final : Node {
  GroupNormBackward(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& mean, const Tensor& inv_std)
      : Node("group_norm"), x_(save(x)), gamma_(save(gamma)), mean_(save(mean)), inv_std_(save(inv_std)), groups_(groups) {}

  TensorList backward(const TensorList& grads) override {
    const Tensor& x = x_.get();
    Tensor grad_x = needs(0) ? Tensor::empty_like(x) : Tensor();
    Tensor grad_gamma = Tensor::empty({x.size(-1)}, parameter_type(x.dtype()), x.device()), grad_beta = Tensor::empty_like(grad_gamma);
    EQ_RUN(grads[0].device(), group_norm_backward(grads[0], x, groups_, gamma_.get(), mean_.get(), inv_std_.get(), grad_x,
                                                  grad_gamma, grad_beta));
    return {grad_x, needs(1) ? grad_gamma : Tensor(), needs(2) ? grad_beta : Tensor()};
  }

  SavedTensor &x_, &gamma_, &mean_, &inv_std_;
  int64_t groups_;
};

}  // namespace

Tensor group_norm(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& beta, double eps) {
  check::parameters("group_norm", {"x", x}, {{"gamma", gamma}, {"beta", beta}});
  check::rank_at_least("group_norm", {"x", x}, 2);
  const Shape channels = {x.size(-1)};
  check::that(groups > 0 && channels[0] > 0 && channels[0] % groups == 0, "group_norm",
              "the channels of x " + to_string(x.shape()) + " do not divide into " + std::to_string(groups) + " groups",
              "the number of groups must divide C");
  check::that(x.size(0) == 0 || x.numel() > 0, "group_norm", "the pictures of x " + to_string(x.shape()) + " have no pixels",
              "give pictures of at least one pixel");
  if (gamma.defined()) check::shape("group_norm", {"gamma", gamma}, channels, "[C] = " + to_string(channels));
  if (beta.defined()) check::shape("group_norm", {"beta", beta}, channels, "[C] = " + to_string(channels));

  Tensor y = Tensor::empty_like(x), mean = Tensor::empty({x.size(0), groups}, parameter_type(x.dtype()), x.device());
  Tensor inv_std = Tensor::empty_like(mean);
  EQ_RUN(x.device(), group_norm_forward(x, groups, gamma, beta, eps, y, mean, inv_std));
  trace("group_norm", y, {x, gamma, beta}, GroupNormOptions{groups, eps});
  record<GroupNormBackward>(y, {x, gamma, beta}, x, groups, gamma, mean, inv_std);
  return y;
}

}  // namespace eq
