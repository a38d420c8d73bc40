#pragma once
// A trace: the operators that were applied, with their inputs, results and options, for whoever writes a network down in another language.
//
//   Trace trace({x});
//   const Tensor y = model.forward(x);
//   trace.end();
//   const int result = trace.find(y);                  // trace.operations() lead from x to y
//
// Meanwhile the operators that do the work of several take the way through those (fused_conv2d: fuse_levels, conv2d), so that a trace has
// only simple ones. What does not depend on the inputs is a constant: parameters, and what was computed from them alone.

#include <any>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/tensor.h"

namespace eq {

struct TracedValue {
  Shape shape;
  DType dtype = DType::kFloat32;
  Tensor constant;  // undefined: an input, or what an operator computed
};

struct TracedOperation {
  std::string op;           // as in autograd/functional.h
  std::vector<int> inputs;  // positions in values(); -1 where an optional argument was not given
  int output = -1;
  std::any options;         // what else the operator was told; its type is that of the operator's trace() call
  template <class T>
  const T& as() const { return std::any_cast<const T&>(options); }
  bool (*equal_options)(const std::any& a, const std::any& b) = nullptr;  // null: there are none
  bool same_options(const TracedOperation& other) const {
    return equal_options == other.equal_options && (equal_options == nullptr || equal_options(options, other.options));
  }
};

// Of the operators that the thread applies until end(). A second one meanwhile, and traced values read past operators, throw AutogradError.
class Trace {
 public:
  explicit Trace(const std::vector<Tensor>& inputs);
  ~Trace() { end(); }
  Trace(const Trace&) = delete;
  void end();

  const std::vector<TracedValue>& values() const { return values_; }  // the inputs first
  const std::vector<TracedOperation>& operations() const { return operations_; }
  // The position of a value that depends on the inputs, or -1. Throws AutogradError for one that was changed in place since, or whose
  // memory was looked at in another way than through an operator.
  int find(const Tensor& tensor) const;

  // For trace() and record().
  void add(TracedOperation operation, const Tensor& output, const std::vector<Tensor>& inputs);
  void require(const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs) const;

 private:
  struct Key {
    const void* data;
    Shape shape;
    uint32_t version;
    int value;
  };
  int add_value(const Tensor& tensor, bool constant);

  std::vector<TracedValue> values_;
  std::vector<TracedOperation> operations_;
  std::unordered_map<uint64_t, std::vector<Key>> computed_, constants_;  // by memory_id
};

namespace detail {
inline thread_local Trace* t_trace = nullptr;
}
inline bool tracing() { return detail::t_trace != nullptr; }

// Each operator's last words: notes what it did if someone traces. Outputs that do not depend on the trace's inputs are not noted.
inline void trace(const char* op, const Tensor& output, const std::vector<Tensor>& inputs) {
  if (!tracing()) return;
  TracedOperation operation;
  operation.op = op;
  detail::t_trace->add(std::move(operation), output, inputs);
}
template <class Options>  // with operator==
void trace(const char* op, const Tensor& output, const std::vector<Tensor>& inputs, const Options& options) {
  if (!tracing()) return;
  const auto equal = [](const std::any& a, const std::any& b) {
    return std::any_cast<const Options&>(a) == std::any_cast<const Options&>(b);
  };
  TracedOperation operation;
  operation.op = op;
  operation.options = options;
  operation.equal_options = equal;
  detail::t_trace->add(std::move(operation), output, inputs);
}

}  // namespace eq
