// The autograd half of Tensor: what a leaf is, where gradients accumulate, who produced a value.

#include <algorithm>
#include <mutex>

#include "autograd/node.h"

namespace eq {
namespace {

struct Variable final : AutogradSlot {
  bool requires_grad = false;
  Tensor grad;
  std::shared_ptr<Node> producer;  // null for leaves
  int output = 0;
  // Of a leaf: the node all its uses share. It owns a handle to the leaf, so the leaf must not own it.
  std::weak_ptr<Node> accumulator;
  // Of the accumulator, and of adding to grad: several threads may use one network, each with a graph of its own. Who reads or clears grad
  // waits for their backward passes.
  std::mutex mutex;
  HookList leaf_hooks;
};

Variable* variable_of(const Tensor& tensor) { return static_cast<Variable*>(tensor.autograd_slot()); }

Variable& make_variable(const Tensor& tensor) {
  if (!tensor.autograd_slot()) tensor.set_autograd_slot(std::make_unique<Variable>());
  return *variable_of(tensor);
}

void check_keeps_gradient(const Variable& variable, const Tensor& tensor, const char* asked) {
  if (!variable.producer) return;
  throw AutogradError("only leaves keep a gradient",
                      std::string(asked) + " of " + describe(tensor) + ", result of " + variable.producer->name(),
                      "see it as it passes, register_hook(x, [&](const Tensor& grad) { kept = grad; return Tensor(); }), or ask a leaf");
}

// The end of the line for a leaf: adds what arrives to its gradient.
struct AccumulateGrad final : Node {
  explicit AccumulateGrad(const Tensor& leaf) : Node("leaf"), leaf_(leaf) { add_output(leaf); }
  TensorList backward(const TensorList& grads) override {
    Variable* variable = variable_of(leaf_);
    if (!variable->leaf_hooks.empty()) return accumulate(*variable, variable->leaf_hooks.run(grads[0]));
    return accumulate(*variable, grads[0]);
  }
  static TensorList accumulate(Variable& variable, const Tensor& grad) {
    const std::lock_guard lock(variable.mutex);
    if (variable.grad.defined()) {
      variable.grad.add_(grad);
    } else {
      variable.grad = grad.is_unique() ? grad : grad.clone();
    }
    return {};
  }
  Tensor leaf_;
};

}  // namespace

bool Tensor::requires_grad() const {
  const Variable* variable = variable_of(*this);
  return variable != nullptr && (variable->requires_grad || variable->producer);
}

Tensor& Tensor::set_requires_grad(bool on) {
  if (on && !is_floating(dtype())) {
    throw DTypeError(std::string("only floating-point tensors can require a gradient, not ") + name_of(dtype()),
                     "set_requires_grad", "convert it first: x.to(DType::kFloat32)");
  }
  if (!on && !autograd_slot()) return *this;
  Variable& variable = make_variable(*this);
  if (variable.producer) {
    throw AutogradError("requires_grad can be set on leaves only",
                        "result of " + std::string(variable.producer->name()),
                        "use detach() to get a leaf over the same values");
  }
  variable.requires_grad = on;
  return *this;
}

Tensor Tensor::grad() const {
  const Variable* variable = variable_of(*this);
  if (variable == nullptr) return {};
  check_keeps_gradient(*variable, *this, "grad");
  return variable->grad;
}

void Tensor::set_grad(const Tensor& grad) {
  if (grad.defined() && (!(grad.shape() == shape()) || grad.dtype() != dtype() || grad.device() != device())) {
    throw ShapeError("the gradient " + describe(grad) + " does not belong to " + describe(*this), "set_grad",
                     "shape, type and device must be equal");
  }
  Variable& variable = make_variable(*this);
  if (grad.defined()) check_keeps_gradient(variable, *this, "set_grad");
  variable.grad = grad;
}

Tensor Tensor::detach() const { return alias(shape()); }

void Tensor::backward(const Tensor& grad_output, bool retain_graph) const {
  run_backward(*this, grad_output, retain_graph);
}

void Tensor::check_in_place(const char* op, const Tensor* source) const {
  if (!grad_enabled()) return;
  const auto refuse = [op](const std::string& what, const std::string& where) {
    throw AutogradError(std::string(op) + " would " + what, std::string(op) + where,
                        "use the operator that returns a new tensor; or, where no gradient is to flow through this, put a NoGradGuard around it");
  };
  if (requires_grad()) {
    const bool leaf = !variable_of(*this)->producer;
    refuse(std::string("change ") + (leaf ? "a leaf that requires a gradient" : "a recorded value"), " on " + describe(*this));
  }
  if (source != nullptr && source->defined() && source->requires_grad()) {
    refuse("take values of a tensor that requires a gradient, and record nothing", " from " + describe(*source));
  }
}

Node::Edge gradient_edge(const Tensor& tensor) {
  if (!tensor.defined()) return {};
  Variable* variable = variable_of(tensor);
  if (variable == nullptr) return {};
  if (variable->producer) return {variable->producer, variable->output};
  if (!variable->requires_grad) return {};
  const std::lock_guard lock(variable->mutex);
  std::shared_ptr<Node> accumulator = variable->accumulator.lock();
  if (!accumulator) {
    accumulator = std::make_shared<AccumulateGrad>(tensor);
    variable->accumulator = accumulator;
  }
  return {accumulator, 0};
}

namespace {

HookList& hooks_of(const Tensor& tensor) {
  if (!tensor.requires_grad()) {
    throw AutogradError("a hook needs a tensor that requires a gradient", "register_hook on " + describe(tensor),
                        "call set_requires_grad() on the leaf before computing with it");
  }
  Variable* variable = variable_of(tensor);
  return variable->producer ? variable->producer->hooks(variable->output) : variable->leaf_hooks;
}

}  // namespace

int register_hook(const Tensor& tensor, HookList::Hook hook) { return hooks_of(tensor).add(std::move(hook)); }
void remove_hook(const Tensor& tensor, int id) { hooks_of(tensor).remove(id); }

namespace detail {

bool any_needs_grad(const std::vector<Tensor>& inputs) {
  return std::any_of(inputs.begin(), inputs.end(), [](const Tensor& t) { return t.defined() && t.requires_grad(); });
}

void attach(const std::shared_ptr<Node>& node, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs) {
  for (const Tensor& output : outputs) {
    if (!is_floating(output.dtype())) {
      throw DTypeError(std::string("what ") + node->name() + " records as its result is of no floating type",
                       node->name() + (", result " + describe(output)), "leave it out of record(): no gradient comes back from it");
    }
    if (!output.requires_grad()) continue;
    throw AutogradError(std::string("what ") + node->name() + " records as its result has a history already, or is a leaf",
                        node->name() + (", result " + describe(output)),
                        "record once, for a tensor of the operator's own; to return an argument, return x.alias(x.shape())");
  }
  std::vector<Node::Edge> edges;
  edges.reserve(inputs.size());
  for (const Tensor& input : inputs) edges.push_back(gradient_edge(input));
  node->connect(edges);
  for (const Tensor& output : outputs) {
    Variable& variable = make_variable(output);
    variable.producer = node;
    variable.output = node->add_output(output);
  }
}

}  // namespace detail
}  // namespace eq
