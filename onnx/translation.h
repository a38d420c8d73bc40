#pragma once
// From a trace (autograd/trace.h) to the nodes of an ONNX graph.
//
// LAYOUT: images are [N,H,W,C] here and [N,C,H,W] in ONNX. Each value of rank 4 exists in the order that its operator gives it; the other
// one is a Transpose, made when someone asks for it. So a chain of convolutions has one at either end, and a transformer where it goes from
// images to tokens and back.
//
// BATCH: the same function is traced twice, with batches of different sizes, and with other values. Extents that differ follow the batch,
// and are left open. What should be a constant and differs has slipped past the operators: that is an error, never a wrong file.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "autograd/trace.h"
#include "onnx/graph.h"

namespace eq {

class OnnxTranslation {
 public:
  // `names`: of parameters and buffers, by Tensor::memory_id(). Throws AutogradError where the traces differ in more than the batch.
  OnnxTranslation(OnnxGraph& graph, const Trace& trace, const Trace& other, std::map<uint64_t, std::string> names);

  // Before run(): what an input of the trace is called in the graph.
  void name_last(int value, const std::string& name) { names_[value].last = name; }
  void name_first(int value, const std::string& name) { names_[value].first = name; }
  void name(int value, bool channels_first, const std::string& name) { channels_first ? name_first(value, name) : name_last(value, name); }
  // All operators, in their order. Throws UsageError naming one that has no translation.
  void run();

  // --- for the operators (onnx/operators_*.cpp) and for who continues the graph. All throw UsageError for -1, which Trace::find says of a
  // value that did not come from the trace's inputs through operators.
  OnnxGraph& graph() { return graph_; }
  // What a value is called, channels last, as in memory; made from the other order if need be.
  std::string last(int value);
  std::string first(int value);  // [N,C,H,W]; of rank 4
  // It is an image whose channels come first so far: who does not care about the order takes it as it is.
  bool is_first(int value) const;
  std::string as_it_is(int value) { return is_first(value) ? first(value) : last(value); }
  // Of `value` as an operand beside images whose channels come first; a constant that broadcasts becomes one that does so there.
  std::string operand(int value, bool channels_first);

  bool is_constant(int value) const { return traced(value).constant.defined(); }
  const Tensor& constant(int value) const;  // throws UsageError if it is none
  Shape shape(int value) const { return traced(value).shape; }
  DType dtype(int value) const { return traced(value).dtype; }
  // In memory order, with kAnyBatch for the extent that follows the batch. Throws UsageError where that are several.
  std::vector<int64_t> extents(int value) const;
  std::string extents_tensor(int value,
                             const std::vector<int64_t>& extents);  // for Resize: the first extent may be open, and is then `value`'s
  std::string number(double value, int like);
  std::string name_of(int value) const;  // of a parameter; "constant"
  std::string module_of(int value) const;  // the parameter's layer: "backbone.conv1" of "backbone.conv1.weight"; "" where there is none

 private:
  struct Names {
    std::string last, first;
  };
  const TracedValue& traced(int value) const;
  std::string made(int value, bool channels_first);
  void check_image(const TracedOperation& operation) const;

  OnnxGraph& graph_;
  const Trace& trace_;
  std::vector<std::vector<int64_t>> extents_;
  std::map<uint64_t, std::string> parameters_;
  std::map<int, Names> names_;
  std::map<int, std::string> operands_;  // constants beside images whose channels come first
  std::map<int, std::string> open_extents_;
};

// Translates one operator: reads operation.inputs through the translation and names operation.output. One per name in
// autograd/functional.h.
struct OnnxOperator {
  const char* op;
  void (*translate)(OnnxTranslation& to, const TracedOperation& operation);
};
std::vector<OnnxOperator> onnx_math_operators();   // elementwise, products, reductions, softmax
std::vector<OnnxOperator> onnx_shape_operators();  // reshape, permute, ..., windows
std::vector<OnnxOperator> onnx_image_operators();  // convolution, pooling, resizing, fusing levels, norms

}  // namespace eq
