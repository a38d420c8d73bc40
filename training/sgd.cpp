#include "core/kernels/optimizer_step.h"
#include "training/optimizer.h"

namespace eq {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options)
      : Optimizer(std::move(parameters), options.momentum > 0 ? std::vector<Slot>{{"momentum", 1}} : std::vector<Slot>{}),
        momentum_(options.momentum),
        nesterov_(options.nesterov),
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
      std::vector<SgdUpdate<double>> updates;
      for (const Step& step : steps) updates.push_back(formula<double>(step));
      cuda::sgd_step(updates, parameters);
    }
  }
  double weight_decay() const override { return weight_decay_; }

 private:
  template <class T>
  SgdUpdate<T> formula(const Step& step) const {
    return {T(step.lr), T(step.weight_decay), T(step.grad_scale), T(momentum_), nesterov_};
  }

  // The buffer starts at zero, so the first step leaves the plain gradient in it, as PyTorch's does.
  template <class T>
  void run(const Step& step, T* __restrict value, const T* __restrict grad, T* const* slots, int64_t count) const {
    const SgdUpdate<T> apply = formula<T>(step);
    if (momentum_ == 0) {
      for (int64_t i = 0; i < count; ++i) apply(value[i], grad[i]);
      return;
    }
    T* __restrict buffer = slots[0];
    for (int64_t i = 0; i < count; ++i) apply(value[i], grad[i], buffer[i]);
  }

  double momentum_;
  bool nesterov_;
  double weight_decay_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options) {
  return std::make_unique<Sgd>(std::move(parameters), options);
}

}  // namespace eq
