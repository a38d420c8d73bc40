#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

struct BatchNormBackward final : Node {
  BatchNormBackward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                    const BatchNormOptions& options)
      : Node("batch_norm"), x_(save(x)), gamma_(save(gamma)), beta_(save(beta)), mean_(save(mean)), inv_std_(save(inv_std)),
        relu_(options.relu), training_(options.training) {}

  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = needs(0) ? Tensor::empty_like(x_.get()) : Tensor();
    Tensor grad_gamma = Tensor::empty_like(mean_.get()), grad_beta = Tensor::empty_like(mean_.get());
    EQ_RUN(grads[0].device(), batch_norm_backward(grads[0], x_.get(), gamma_.get(), beta_.get(), mean_.get(), inv_std_.get(), relu_,
                                                  training_, grad_x, grad_gamma, grad_beta));
    return {grad_x, needs(1) ? grad_gamma : Tensor(), needs(2) ? grad_beta : Tensor()};
  }

  SavedTensor &x_, &gamma_, &beta_, &mean_, &inv_std_;
  bool relu_, training_;
};

void check_arguments(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& running_mean,
                     const Tensor& running_var, const BatchNormOptions& options) {
  check::parameters("batch_norm", {"x", x},
                    {{"gamma", gamma}, {"beta", beta}, {"running_mean", running_mean}, {"running_var", running_var}});
  check::rank_at_least("batch_norm", {"x", x}, 1);
  const Shape channels = {x.size(-1)};
  check::that(channels[0] > 0, "batch_norm", "x " + to_string(x.shape()) + " has no channels", "features are [..., C] with C at least 1");
  const std::pair<const char*, const Tensor&> vectors[] = {
      {"gamma", gamma}, {"beta", beta}, {"running_mean", running_mean}, {"running_var", running_var}};
  for (const auto& [name, vector] : vectors) {
    if (vector.defined()) check::shape("batch_norm", {name, vector}, channels, "[C] = " + to_string(channels));
  }
  const std::string place = options.layer == nullptr || options.layer[0] == '\0' ? "batch_norm" : options.layer;
  const bool running = running_mean.defined() && running_var.defined();
  if (!running && (!options.training || options.update_running)) {
    throw UsageError("batch_norm needs running statistics " + std::string(options.training ? "to update" : "in evaluation"),
                     place, "pass running_mean and running_var of shape [C]");
  }
  const int64_t count = x.numel() / channels[0];
  if (options.training && count < 2) {
    throw ShapeError("batch norm in training needs more than " +
                         std::string(count == 1 ? "one value" : "zero values") +
                         " per channel: their variance is what it divides by",
                     place + ", where x is " + describe(x) + " (N*H*W = " + std::to_string(count) + ")",
                     "use a larger batch (train.batch_size) or larger pictures (pipeline.crop); in code of your own also group norm, layer "
                     "norm or evaluation mode");
  }
}

}  // namespace

Tensor batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, Tensor& running_mean, Tensor& running_var,
                  const BatchNormOptions& options) {
  check_arguments(x, gamma, beta, running_mean, running_var, options);
  const int64_t channels = x.size(-1);
  Tensor mean, inv_std = Tensor::empty({channels}, parameter_type(x.dtype()), x.device());
  if (options.training) {
    mean = Tensor::empty_like(inv_std);
    Tensor biased_var = Tensor::empty_like(inv_std);
    EQ_RUN(x.device(), batch_norm_statistics(x, mean, inv_std, biased_var, options.eps));
    if (options.update_running) {
      const int64_t count = x.numel() / channels;
      EQ_RUN(mean.device(), batch_norm_update_running(mean, biased_var, count, options.momentum, running_mean, running_var));
    }
  } else {
    mean = running_mean.clone();  // a later training step may change the running one before this backward
    EQ_RUN(running_var.device(), batch_norm_inverse_std(running_var, options.eps, inv_std));
  }
  Tensor y = Tensor::empty_like(x);
  EQ_RUN(x.device(), batch_norm_forward(x, gamma, beta, mean, inv_std, options.relu, y));
  trace("batch_norm", y, {x, gamma, beta, running_mean, running_var}, options);
  record<BatchNormBackward>(y, {x, gamma, beta}, x, gamma, beta, mean, inv_std, options);
  return y;
}

}  // namespace eq
