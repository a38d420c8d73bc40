#include <cmath>

#include "core/kernels/optimizer_step.h"
#include "training/optimizer.h"

namespace eq {
namespace {

class AdamW final : public Optimizer {
 public:
  AdamW(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options)
      : Optimizer(std::move(parameters), {{"exp_avg", 1}, {"exp_avg_sq", 2}}),
        beta1_(options.betas[0]),
        beta2_(options.betas[1]),
        eps_(options.eps),
        weight_decay_(options.weight_decay) {}

 protected:
  void update(const Step& step, float* value, const float* grad, float* const* slots, int64_t count) const override {
    run(step, value, grad, slots, count);
  }
  void update(const Step& step, double* value, const double* grad, double* const* slots, int64_t count) const override {
    run(step, value, grad, slots, count);
  }
  void update_on_device(const std::vector<Step>& steps, const std::vector<SteppedParameter>& parameters) const override {
    if constexpr (kBuiltWithCuda) {
      std::vector<AdamWUpdate<double>> updates;
      for (const Step& step : steps) updates.push_back(formula<double>(step));
      cuda::adamw_step(updates, parameters);
    }
  }
  double weight_decay() const override { return weight_decay_; }

 private:
  template <class T>
  AdamWUpdate<T> formula(const Step& step) const {
    const double correction1 = 1 - std::pow(beta1_, double(step.number));
    const double correction2 = 1 - std::pow(beta2_, double(step.number));
    return {.keep = T(1 - step.lr * step.weight_decay), .rate = T(step.lr / correction1), .scale = T(step.grad_scale),
            .root = T(1 / std::sqrt(correction2)), .eps = T(eps_), .new1 = T(1 - beta1_), .beta2 = T(beta2_), .new2 = T(1 - beta2_)};
  }

  template <class T>
  void run(const Step& step, T* __restrict value, const T* __restrict grad, T* const* slots, int64_t count) const {
    const AdamWUpdate<T> apply = formula<T>(step);
    T* __restrict mean = slots[0];
    T* __restrict square = slots[1];
    for (int64_t i = 0; i < count; ++i) apply(value[i], grad[i], mean[i], square[i]);
  }

  double beta1_, beta2_, eps_, weight_decay_;
};

}  // namespace

std::unique_ptr<Optimizer> make_adamw(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options) {
  return std::make_unique<AdamW>(std::move(parameters), options);
}

}  // namespace eq
