#pragma once
// Optimizers: parameters and their gradients in, new values in place. The state (momentum and the like) is named
// tensors, so that a checkpoint can hold it. An update is element by element, so it does not depend on threads.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "training/options.h"

namespace eq {

class Module;
struct SteppedParameter;

struct OptimizerParameter {
  std::string name;
  Tensor tensor;         // a leaf, float32 or float64
  bool is_norm = false;  // of a normalisation layer: matched by the pattern "norm"
  double lr_mult = 1, decay_mult = 1;  // set by assign_groups
  // Where defined, the parameter v is stepped as if it were u * v with u one unit for each input channel of a convolution (over `groups`):
  // for SGD that is the learning rate times 1 / u^2 and the decay times u^2, for AdamW the learning rate times 1 / u and eps times u. [I *
  // groups].
  Tensor unit = {};
  int64_t groups = 1;
};

// Every parameter of `model` under its dotted name; tied ones once, under the first.
std::vector<OptimizerParameter> optimizer_parameters(Module& model);

// Sets the multipliers; throws UsageError for a pattern that matches no parameter (a misspelt name would otherwise go unnoticed).
void assign_groups(std::vector<OptimizerParameter>& parameters, const std::vector<ParameterGroup>& groups);

class Optimizer {
 public:
  virtual ~Optimizer() = default;

  // One update of every parameter that has a gradient, each gradient multiplied by grad_scale first (clipping).
  // Throws ShapeError or DTypeError if a gradient does not fit its parameter, UsageError for a rate or scale that is no number, or a
  // negative rate.
  void step(double lr, double grad_scale = 1);

  // The weight [O,kh,kw,I] is now growth[i] times what it was for each input channel (over `groups`: [I * groups]), so its gradients are
  // 1 / growth of what they would have been: the state, sums of gradients and of their squares, becomes what it would be had they always
  // been that. (What decay has added to SGD's sum is not told apart.) Nothing for a tensor that is none of the parameters.
  void rescale_state(const Tensor& weight, int64_t groups, const std::vector<double>& growth);

  int64_t steps() const { return steps_; }
  const std::vector<OptimizerParameter>& parameters() const { return parameters_; }

  // Handles to the state: "<slot>.<parameter>" per slot of the optimizer, and "steps" (int64 scalar).
  std::map<std::string, Tensor> state() const;
  // Copies values in; throws DataError naming a missing, unexpected or mismatched tensor. Nothing is changed when it throws.
  void load_state(const std::map<std::string, Tensor>& state, const std::string& source);

 protected:
  struct Slot {
    std::string name;
    int power;  // of the gradient: 1 for sums of gradients, 2 for sums of their squares
  };
  // Throws DTypeError, DeviceError for parameters on several devices, and UsageError for some that share a name or memory.
  Optimizer(std::vector<OptimizerParameter> parameters, std::vector<Slot> slots, double weight_decay);

  // Constants of one step that depend on the parameter's multipliers.
  struct Step {
    double lr = 0;            // times lr_mult
    double weight_decay = 0;  // times decay_mult
    double grad_scale = 1;
    int64_t number = 1;       // of this step, from 1
  };
  // steps[i] is that of parameters[i], whose state are the slots.
  virtual void step_all(const std::vector<Step>& steps, const std::vector<SteppedParameter>& parameters) const = 0;

 private:
  std::vector<OptimizerParameter> parameters_;
  std::vector<Slot> slot_kinds_;
  std::vector<std::vector<Tensor>> slots_;  // [slot][parameter], zeros at the start
  double weight_decay_;
  int64_t steps_ = 0;
};

// By options.type; options.lr is the schedule's to read: step() is told the rate. Throws UsageError for an unknown
// name, values out of range, or parameters that share a name or memory. Groups are assigned here.
std::unique_ptr<Optimizer> make_optimizer(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options);

// PyTorch's SGD: g += weight_decay * p; b = momentum * b + g; p -= lr * (nesterov ? g + momentum * b : b).
std::unique_ptr<Optimizer> make_sgd(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options);
// PyTorch's AdamW: p *= 1 - lr * weight_decay; m, v = running means of g and g^2; p -= lr * m^ / (sqrt(v^) + eps), with the
// bias-corrected m^ = m / (1 - beta1^t) and v^ = v / (1 - beta2^t) (Loshchilov and Hutter 2019).
std::unique_ptr<Optimizer> make_adamw(std::vector<OptimizerParameter> parameters, const OptimizerOptions& options);

struct GradientNorm {
  double norm = 0;     // Euclidean, over all gradients; summed in double over fixed chunks in order
  bool finite = true;  // of the norm and of `loss`
};
// One pass over all gradients, in the units of parameters that have some. A single NaN or infinity anywhere shows in the norm.
GradientNorm gradient_norm(const std::vector<OptimizerParameter>& parameters, double loss = 0);

// The same in two steps: a GPU is given the work, and waited for later.
struct PendingGradientNorm {
  Tensor squares;  // sums of squares, float64; undefined if there are no gradients

  GradientNorm wait(double loss) const;
};
PendingGradientNorm start_gradient_norm(const std::vector<OptimizerParameter>& parameters);

// The factor that brings `norm` down to `limit` (PyTorch's clip_grad_norm_: limit / (norm + 1e-6), at most 1); 1 if limit is 0.
double clip_factor(double norm, double limit);

}  // namespace eq
