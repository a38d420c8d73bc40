#include <cmath>

#include "core/kernels/optimizer_step.h"
#include "training/optimizer.h"

namespace eq {
namespace {

class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options)
      : Optimizer(std::move(parameters), {{"exp_avg", 1}, {"exp_avg_sq", 2}}, options.weight_decay),
        beta1_(options.betas[0]),
        beta2_(options.betas[1]),
        eps_(options.eps) {}

 protected:
  void step_all(const std::vector<Step>& steps, const std::vector<SteppedParameter>& parameters) const override {
    std::vector<AdamWUpdate<double>> updates;
    for (const Step& step : steps) {
      const double correction1 = 1 - std::pow(beta1_, double(step.number));
      const double correction2 = 1 - std::pow(beta2_, double(step.number));
      updates.push_back({.keep = 1 - step.lr * step.weight_decay, .rate = step.lr / correction1, .scale = step.grad_scale,
                         .root = 1 / std::sqrt(correction2), .eps = eps_, .new1 = 1 - beta1_, .beta2 = beta2_, .new2 = 1 - beta2_});
    }
    EQ_RUN(parameters[0].value.device(), adamw_step(updates, parameters));
  }

 private:
  double beta1_, beta2_, eps_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options) {
  return std::make_unique<AdamW>(std::move(parameters), options);
}

}  // namespace eq
