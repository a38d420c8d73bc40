#include "autograd/trace.h"

#include <algorithm>

#include "core/access_watch.h"
#include "core/device.h"
#include "core/errors.h"

namespace eq {
namespace {

// Operators name themselves when they check their arguments, and trace() is their last word: between the two values may be touched. What
// the program reads elsewhere it may decide by, and no trace would show it.
void between_operators() { set_current_operator(""); }
void refuse_between_operators(const Tensor& tensor) {
  if (current_operator()[0] != 0 || detail::t_trace->find(tensor) < 0) return;
  throw AutogradError("values that depend on the input are read or changed outside of operators while they are traced",
                      "trace of " + describe(tensor),
                      "decide nothing by them, and compute with the operators of autograd/functional.h: cast(x, dtype) for x.to(dtype)");
}

}  // namespace

Trace::Trace(const std::vector<Tensor>& inputs) {
  if (tracing()) throw AutogradError("there is a trace already", "Trace", "end it before another one begins on this thread");
  for (const Tensor& input : inputs) add_value(input, false);
  detail::t_trace = this;
  detail::t_access_watch = refuse_between_operators;
  between_operators();
}

void Trace::end() {
  if (detail::t_trace == this) detail::t_trace = nullptr, detail::t_access_watch = nullptr;
}

int Trace::add_value(const Tensor& tensor, bool constant) {
  const int value = int(values_.size());
  values_.push_back({tensor.shape(), tensor.dtype(), constant ? tensor : Tensor()});
  auto& known = constant ? constants_ : computed_;
  known[tensor.memory_id()].push_back({tensor.raw_data(), tensor.shape(), tensor.version(), value});
  return value;
}

int Trace::find(const Tensor& tensor) const {
  const auto known = computed_.find(tensor.memory_id());
  if (known == computed_.end()) return -1;
  for (const Key& key : known->second) {
    if (key.data == tensor.raw_data() && key.shape == tensor.shape() && key.version == tensor.version()) return key.value;
  }
  throw AutogradError("a traced value was changed in place, or seen in another shape than its operator gave it",
                      "trace of " + describe(tensor),
                      "compute it with the operators of autograd/functional.h (reshape and slice instead of alias)");
}

void Trace::add(TracedOperation operation, const Tensor& output, const std::vector<Tensor>& inputs) {
  between_operators();
  operation.inputs.assign(inputs.size(), -1);
  bool depends = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].defined()) operation.inputs[i] = find(inputs[i]);
    depends = depends || operation.inputs[i] >= 0;
  }
  if (!depends) return;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined() || operation.inputs[i] >= 0) continue;
    const auto& known = constants_[inputs[i].memory_id()];
    const auto same = std::find_if(known.begin(), known.end(), [&](const Key& key) {
      return key.data == inputs[i].raw_data() && key.shape == inputs[i].shape() && key.version == inputs[i].version();
    });
    operation.inputs[i] = same == known.end() ? add_value(inputs[i], true) : same->value;
  }
  operation.output = add_value(output, false);
  operations_.push_back(std::move(operation));
}

void Trace::require(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs) const {
  const auto traced = [this](const Tensor& tensor) { return tensor.defined() && find(tensor) >= 0; };
  if (std::any_of(inputs.begin(), inputs.end(), traced) && !std::all_of(outputs.begin(), outputs.end(), traced)) {
    throw AutogradError("an operator says nothing to a trace", current_operator(), "it must call trace() before record()");
  }
}

}  // namespace eq
