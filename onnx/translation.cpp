#include "onnx/translation.h"

#include <algorithm>
#include <cstring>

#include "autograd/functional.h"
#include "core/errors.h"

namespace eq {
namespace {

constexpr int64_t kOpen = OnnxGraph::kAnyBatch;

[[noreturn]] void fail_traces(const std::string& where) {
  throw AutogradError(
      "two traces of the network differ in more than the batch", where,
      "a network that is exported must apply the same operators to every picture, and compute what depends on the picture with operators");
}

bool same_bits(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  if (a.raw_data() == b.raw_data()) return true;  // not memory_id(), which views of other places share
  const Tensor x = a.to(Device::cpu()), y = b.to(Device::cpu());
  return std::memcmp(x.raw_data(), y.raw_data(), x.bytes()) == 0;
}

std::vector<int64_t> to_vector(const Shape& shape) { return {shape.begin(), shape.end()}; }

}  // namespace

OnnxTranslation::OnnxTranslation(OnnxGraph& graph, const Trace& trace, const Trace& other, std::map<uint64_t, std::string> names)
    : graph_(graph), trace_(trace), parameters_(std::move(names)) {
  const auto &operations = trace.operations(), &others = other.operations();
  if (operations.size() != others.size() || trace.values().size() != other.values().size()) fail_traces("their numbers of operators");
  for (size_t i = 0; i < operations.size(); ++i) {
    if (operations[i].op != others[i].op || operations[i].inputs != others[i].inputs || !operations[i].same_options(others[i])) {
      fail_traces(operations[i].op);
    }
  }
  for (size_t i = 0; i < trace.values().size(); ++i) {
    const TracedValue &value = trace.values()[i], &beside = other.values()[i];
    if (value.constant.defined() && !same_bits(value.constant, beside.constant)) fail_traces("the constant " + describe(value.constant));
    std::vector<int64_t> extents = to_vector(value.shape);
    if (value.shape.rank() != beside.shape.rank()) fail_traces("a value of shape " + to_string(value.shape));
    for (int axis = 0; axis < value.shape.rank(); ++axis) {
      if (value.shape[axis] != beside.shape[axis]) extents[size_t(axis)] = kOpen;
    }
    extents_.push_back(extents);
  }
}

void OnnxTranslation::run() {
  struct Entry {
    void (*translate)(OnnxTranslation&, const TracedOperation&);
    bool of_images;
  };
  std::map<std::string, Entry> table;
  const auto add_all = [&](const std::vector<OnnxOperator>& list, bool of_images) {
    for (const OnnxOperator& entry : list) table[entry.op] = {entry.translate, of_images};
  };
  add_all(onnx_math_operators(), false);
  add_all(onnx_shape_operators(), false);
  add_all(onnx_image_operators(), true);
  for (const TracedOperation& operation : trace_.operations()) {
    const auto found = table.find(operation.op);
    if (found == table.end()) {
      throw UsageError("the operator " + operation.op + " has no translation to ONNX", "OnnxTranslation", "add it in onnx/operators_*.cpp");
    }
    if (found->second.of_images) check_image(operation);
    found->second.translate(*this, operation);
  }
}

// Sizes of images are numbers in the file: only their first extent may follow the batch.
void OnnxTranslation::check_image(const TracedOperation& operation) const {
  const std::vector<int64_t>& extents = extents_[size_t(operation.output)];
  if (std::find(extents.begin() + 1, extents.end(), kOpen) == extents.end()) return;
  throw UsageError("the size of an image follows the batch", operation.op + " to " + to_string(shape(operation.output)),
                   "export for one size of batch");
}

const TracedValue& OnnxTranslation::traced(int value) const {
  if (value >= 0 && size_t(value) < trace_.values().size()) return trace_.values()[size_t(value)];
  throw UsageError("a value that is exported did not come from the input through operators",
                   "OnnxTranslation, value " + std::to_string(value),
                   "compute it from the input with the operators of autograd/functional.h: clone(), to() and data() leave no trace");
}

const Tensor& OnnxTranslation::constant(int value) const {
  const Tensor& tensor = traced(value).constant;
  if (!tensor.defined()) {
    throw UsageError("a weight that is computed from the picture has no translation to ONNX", to_string(shape(value)),
                     "make it a parameter");
  }
  return tensor;
}

bool OnnxTranslation::is_first(int value) const {
  const auto found = names_.find(value);
  return found != names_.end() && !found->second.first.empty() && found->second.last.empty();
}

std::string OnnxTranslation::last(int value) {
  traced(value);
  std::string& name = names_[value].last;
  if (name.empty()) name = made(value, false);
  return name;
}

std::string OnnxTranslation::first(int value) {
  traced(value);
  std::string& name = names_[value].first;
  if (name.empty()) name = made(value, true);
  return name;
}

std::string OnnxTranslation::made(int value, bool channels_first) {
  if (is_constant(value)) return graph_.constant(channels_first ? permute(constant(value), {0, 3, 1, 2}) : constant(value), name_of(value));
  const Names& names = names_.at(value);
  const std::vector<int64_t> order = channels_first ? std::vector<int64_t>{0, 3, 1, 2} : std::vector<int64_t>{0, 2, 3, 1};
  return graph_.add("Transpose", {channels_first ? names.last : names.first}, {{"perm", order}});
}

std::string OnnxTranslation::operand(int value, bool channels_first) {
  if (!channels_first) return last(value);
  const int rank = shape(value).rank();
  if (!is_constant(value) || rank == 4) return first(value);
  std::string& name = operands_[value];
  if (name.empty()) {
    std::vector<int64_t> extents(size_t(4 - rank), 1);
    for (int64_t extent : shape(value)) extents.push_back(extent);
    name = graph_.constant(permute(reshape(constant(value), extents), {0, 3, 1, 2}), name_of(value));
  }
  return name;
}

std::vector<int64_t> OnnxTranslation::extents(int value) const {
  const Shape traced_shape = shape(value);
  const std::vector<int64_t>& extents = extents_[size_t(value)];
  if (std::count(extents.begin(), extents.end(), kOpen) > 1) {
    throw UsageError("several extents of a value follow the batch, which ONNX cannot say", to_string(traced_shape),
                     "export for one size of batch");
  }
  return extents;
}

std::string OnnxTranslation::extents_tensor(int value, const std::vector<int64_t>& extents) {
  if (std::count(extents.begin(), extents.end(), kOpen) == 0) return graph_.constant(extents);
  std::string& count = open_extents_[value];
  if (count.empty()) count = graph_.add("Shape", {as_it_is(value)}, {{"start", int64_t{0}}, {"end", int64_t{1}}});
  return graph_.add("Concat", {count, graph_.constant(std::vector<int64_t>(extents.begin() + 1, extents.end()))}, {{"axis", int64_t{0}}});
}

std::string OnnxTranslation::number(double value, int like) { return graph_.constant(Tensor::full({}, value, dtype(like)), "number"); }

std::string OnnxTranslation::name_of(int value) const {
  const Tensor& tensor = trace_.values()[size_t(value)].constant;
  const auto found = tensor.defined() ? parameters_.find(tensor.memory_id()) : parameters_.end();
  return found == parameters_.end() ? "constant" : found->second;
}

std::string OnnxTranslation::module_of(int value) const {
  const std::string name = value < 0 ? "" : name_of(value);
  const size_t dot = name.rfind('.');
  return dot == std::string::npos ? "" : name.substr(0, dot);
}

}  // namespace eq
