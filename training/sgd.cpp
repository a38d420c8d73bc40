#include "core/kernels/optimizer_step.h"
#include "training/optimizer.h"

namespace eq {
namespace {

class Sgd final : public Optimizer {
 public:
  Sgd(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options)
      : Optimizer(std::move(parameters), options.momentum > 0 ? std::vector<Slot>{{"momentum", 1}} : std::vector<Slot>{},
                  options.weight_decay),
        momentum_(options.momentum),
        nesterov_(options.nesterov) {}

 protected:
  void step_all(const std::vector<Step>& steps, const std::vector<SteppedParameter>& parameters) const override {
    std::vector<SgdUpdate<double>> updates;
    for (const Step& step : steps) updates.push_back({step.lr, step.weight_decay, step.grad_scale, momentum_, nesterov_});
    EQ_RUN(parameters[0].value.device(), sgd_step(updates, parameters));
  }

 private:
  double momentum_;
  bool nesterov_;
};

}  // namespace

std::unique_ptr<Optimizer> make_sgd(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options) {
  return std::make_unique<Sgd>(std::move(parameters), options);
}

}  // namespace eq
