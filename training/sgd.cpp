#include "training/optimizer.h"

namespace eq {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options)
      : Optimizer(std::move(parameters), options.momentum > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>{}),
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
  double weight_decay() const override { return weight_decay_; }

 private:
  // The buffer starts at zero, so the first step leaves the plain gradient in it, as PyTorch's does.
  template <class T>
  void run(const Step& step, T* __restrict value, const T* __restrict grad, T* const* slots, int64_t count) const {
    const T lr = T(step.lr), decay = T(step.weight_decay), scale = T(step.grad_scale), momentum = T(momentum_);
    if (momentum_ == 0) {
      for (int64_t i = 0; i < count; ++i) value[i] -= lr * (grad[i] * scale + decay * value[i]);
      return;
    }
    T* __restrict buffer = slots[0];
    if (nesterov_) {
      for (int64_t i = 0; i < count; ++i) {
        const T g = grad[i] * scale + decay * value[i];
        buffer[i] = momentum * buffer[i] + g;
        value[i] -= lr * (g + momentum * buffer[i]);
      }
    } else {
      for (int64_t i = 0; i < count; ++i) {
        buffer[i] = momentum * buffer[i] + (grad[i] * scale + decay * value[i]);
        value[i] -= lr * buffer[i];
      }
    }
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
