#include "training/optimizer.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <utility>

#include "core/errors.h"
#include "core/kernels/optimizer_step.h"
#include "core/nearest.h"
#include "training/config.h"

namespace eq {
namespace {

struct NamedOptimizer {
  const char* name;
  std::unique_ptr<Optimizer> (*make)(std::vector<OptimizerParameter>, const OptimizerOptions&);
};
constexpr NamedOptimizer kOptimizers[] = {{"sgd", make_sgd}, {"adamw", make_adamw}};

// Two entries for one value would be stepped at the same time, and two of one name would share their place in the state.
void check_distinct(const std::vector<OptimizerParameter>& parameters) {
  std::set<std::string> names;
  struct Place {
    const char *begin, *end;
    const std::string* name;
  };
  std::vector<Place> places;
  for (const OptimizerParameter& parameter : parameters) {
    if (!names.insert(parameter.name).second) {
      throw UsageError("two parameters of an optimizer have one name", parameter.name,
                       "names are keys of its state: begin those of each model differently, or give each model an optimizer of its own");
    }
    const auto* begin = static_cast<const char*>(parameter.tensor.raw_data());
    if (parameter.tensor.numel() > 0) places.push_back({begin, begin + parameter.tensor.bytes(), &parameter.name});
  }
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) { return std::less<>()(a.begin, b.begin); });
  for (size_t i = 1; i < places.size(); ++i) {
    if (!std::less<>()(places[i].begin, places[i - 1].end)) continue;
    throw UsageError("two parameters of an optimizer share memory", *places[i - 1].name + " and " + *places[i].name,
                     "name each once: optimizer_parameters(model) does where weights are tied");
  }
}

}  // namespace

void assign_groups(std::vector<OptimizerParameter>& parameters, const std::vector<ParameterGroup>& groups) {
  for (OptimizerParameter& parameter : parameters) parameter.lr_mult = parameter.decay_mult = 1;
  for (size_t i = 0; i < groups.size(); ++i) {
    const ParameterGroup& group = groups[i];
    bool matched = false;
    for (OptimizerParameter& parameter : parameters) {
      const bool by_name = parameter.name.find(group.pattern) != std::string::npos;
      if (!by_name && !(group.pattern == "norm" && parameter.is_norm)) continue;
      matched = true;
      parameter.lr_mult *= group.lr_mult;
      parameter.decay_mult *= group.decay_mult;
    }
    if (!matched || group.pattern.empty()) {
      throw UsageError("the pattern \"" + group.pattern + "\" matches no parameter of the model",
                       "optimizer.groups[" + std::to_string(i) + "].pattern",
                       "give a part of a parameter's name (`equiscale summary CONFIG` lists them), or remove the group");
    }
  }
}

Optimizer::Optimizer(std::vector<OptimizerParameter> parameters, std::vector<Slot> slots, double weight_decay)
    : parameters_(std::move(parameters)), slot_kinds_(std::move(slots)), slots_(slot_kinds_.size()), weight_decay_(weight_decay) {
  check_distinct(parameters_);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const Tensor& tensor = parameters_[i].tensor;
    if (!is_floating(tensor.dtype())) {
      throw DTypeError("an optimizer changes floating parameters only, not " + describe(tensor), parameters_[i].name,
                       "register integer values as buffers");
    }
    if (tensor.device() != parameters_[0].tensor.device()) {
      throw DeviceError("the parameters of an optimizer are on one device, this one on " + to_string(tensor.device()) + ", the first on " +
                            to_string(parameters_[0].tensor.device()),
                        parameters_[i].name, "build the whole model on one device, or give each part an optimizer of its own");
    }
    for (auto& slot : slots_) slot.push_back(Tensor::zeros_like(tensor));
  }
}

void Optimizer::step(double lr, double grad_scale) {
  if (!(lr >= 0) || !std::isfinite(lr) || !std::isfinite(grad_scale)) {
    throw UsageError("a step needs a learning rate of 0 or more and a finite scale of the gradients, not " + std::to_string(lr) + " and " +
                         std::to_string(grad_scale),
                     "Optimizer::step " + std::to_string(steps_ + 1), "check what the schedule and clipping give");
  }
  std::vector<Tensor> grads(parameters_.size());
  for (size_t i = 0; i < parameters_.size(); ++i) grads[i] = parameters_[i].tensor.grad();
  ++steps_;
  std::vector<Step> steps;
  std::vector<SteppedParameter> stepped;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    const OptimizerParameter& parameter = parameters_[i];
    if (!grads[i].defined()) continue;
    steps.push_back({lr * parameter.lr_mult, weight_decay_ * parameter.decay_mult, grad_scale, steps_});
    stepped.push_back({parameter.tensor, grads[i], parameter.unit, parameter.groups});
    for (size_t s = 0; s < slots_.size(); ++s) stepped.back().state[s] = slots_[s][i];
  }
  if (stepped.empty()) return;
  step_all(steps, stepped);
  for (SteppedParameter& each : stepped) each.value.bump_version();
}

void Optimizer::rescale_state(const Tensor& weight, int64_t groups, const std::vector<double>& growth) {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    if (!parameters_[i].tensor.is_same(weight)) continue;
    for (size_t s = 0; s < slots_.size(); ++s) {
      const Tensor here = slots_[s][i].to(Device::cpu());
      dispatch_floating(here.dtype(), "optimizer state", [&]<class T>() {
        T* values = here.data<T>();
        for_units(here.shape(), groups, growth.data(), 0, here.numel(), [&](int64_t at, int64_t run, const double* by) {
          for (int64_t k = 0; k < run; ++k) {
            values[at + k] = T(double(values[at + k]) / (slot_kinds_[s].power == 2 ? by[k] * by[k] : by[k]));
          }
        });
      });
      if (!slots_[s][i].device().is_cpu()) slots_[s][i].copy_(here);
    }
  }
}

std::map<std::string, Tensor> Optimizer::state() const {
  std::map<std::string, Tensor> state;
  for (size_t s = 0; s < slots_.size(); ++s) {
    for (size_t i = 0; i < parameters_.size(); ++i) state[slot_kinds_[s].name + "." + parameters_[i].name] = slots_[s][i];
  }
  state["steps"] = Tensor::from<int64_t>({steps_}, {});
  return state;
}

void Optimizer::load_state(const std::map<std::string, Tensor>& loaded, const std::string& source) {
  const std::string hint = "resume with the optimizer and the model that wrote it, or start a new run";
  std::map<std::string, Tensor> own = state();
  for (const auto& [name, tensor] : loaded) {
    const auto found = own.find(name);
    if (found == own.end()) {
      throw DataError("the optimizer state holds \"" + name + "\", which this optimizer does not have", source, hint);
    }
    if (!(tensor.shape() == found->second.shape()) || tensor.dtype() != found->second.dtype()) {
      throw DataError("the optimizer state \"" + name + "\" is " + describe(tensor) + ", this optimizer's is " +
                          describe(found->second),
                      source, hint);
    }
  }
  for (const auto& [name, tensor] : own) {
    if (!loaded.count(name)) throw DataError("the optimizer state \"" + name + "\" is missing", source, hint);
  }
  const int64_t steps = loaded.at("steps").data<int64_t>()[0];
  if (steps < 0) throw DataError("the optimizer state counts " + std::to_string(steps) + " steps", source, hint);
  for (auto& [name, tensor] : own) {
    if (name != "steps") tensor.copy_(loaded.at(name));
  }
  steps_ = steps;
}

std::unique_ptr<Optimizer> make_optimizer(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options) {
  check_config(options);
  if (options.nesterov && options.momentum == 0) {
    throw UsageError("the value must be false where the momentum is 0", "optimizer.nesterov", "change it");
  }
  assign_groups(parameters, options.groups);
  return find_named(kOptimizers, options.type, "optimizer", "optimizer.type").make(std::move(parameters), options);
}

PendingGradientNorm start_gradient_norm(const std::vector<OptimizerParameter>& parameters) {
  std::vector<SteppedParameter> with_gradient;
  for (const OptimizerParameter& parameter : parameters) {
    Tensor grad = parameter.tensor.grad();
    if (grad.defined()) with_gradient.push_back({parameter.tensor, std::move(grad), parameter.unit, parameter.groups});
  }
  if (with_gradient.empty()) return {};
  PendingGradientNorm pending{Tensor::empty({int64_t(with_gradient.size())}, DType::kFloat64, with_gradient[0].grad.device())};
  EQ_RUN(pending.squares.device(), sums_of_squares(with_gradient, pending.squares));
  return pending;
}

GradientNorm PendingGradientNorm::wait(double loss) const {
  double total = 0;
  if (squares.defined()) {
    for (const double sum : squares.to_vector<double>()) total += sum;
  }
  const double norm = std::sqrt(total);
  return {norm, std::isfinite(norm) && std::isfinite(loss)};
}

GradientNorm gradient_norm(const std::vector<OptimizerParameter>& parameters, double loss) {
  return start_gradient_norm(parameters).wait(loss);
}

double clip_factor(double norm, double limit) { return limit > 0 ? std::min(1.0, limit / (norm + 1e-6)) : 1.0; }

}  // namespace eq
