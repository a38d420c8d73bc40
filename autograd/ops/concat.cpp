#include "core/kernels/concat.h"

#include <string>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/slice.h"

namespace eq {
namespace {

constexpr const char* kConcat = "concat";

struct ConcatBackward final : Node {
  ConcatBackward(const std::vector<Tensor>& inputs, int axis) : Node(kConcat), axis_(axis) {
    for (const Tensor& input : inputs) shapes_.push_back(input.shape());
  }
  TensorList backward(const TensorList& grads) override {
    TensorList grad_inputs(shapes_.size());
    int64_t begin = 0;
    for (size_t i = 0; i < shapes_.size(); ++i) {
      if (needs(int(i))) {
        grad_inputs[i] = Tensor::empty(shapes_[i], grads[0].dtype(), grads[0].device());
        EQ_RUN(grads[0].device(), slice_forward(grads[0], grad_inputs[i], axis_, begin));
      }
      begin += shapes_[i][axis_];
    }
    return grad_inputs;
  }
  int axis_;
  std::vector<Shape> shapes_;
};

void check_like_first(const std::vector<Tensor>& inputs, size_t i, int axis) {
  const Tensor &first = inputs[0], &other = inputs[i];
  const std::string label = "inputs[" + std::to_string(i) + "]";
  if (!other.defined()) throw UsageError("concat: " + label + " has no value", kConcat, "pass defined tensors");
  const std::string both = label + " is " + describe(other) + ", but inputs[0] is " + describe(first);
  if (other.dtype() != first.dtype()) throw DTypeError("concat: " + both, kConcat, "convert one of them: x.to(DType)");
  if (other.device() != first.device()) throw DeviceError("concat: " + both, kConcat, "move one of them: x.to(Device)");
  bool same = other.rank() == first.rank();
  for (int k = 0; same && k < first.rank(); ++k) same = k == axis || other.size(k) == first.size(k);
  if (!same) {
    throw ShapeError("concat: " + both + "; they are joined along axis " + std::to_string(axis), kConcat,
                     "all extents but that axis's must be equal");
  }
}

}  // namespace

Tensor concat(const std::vector<Tensor>& inputs, int axis) {
  if (inputs.empty()) throw UsageError("concat: there are no inputs", kConcat, "pass at least one tensor");
  if (!inputs[0].defined()) throw UsageError("concat: inputs[0] has no value", kConcat, "pass defined tensors");
  check::rank_at_least(kConcat, {"inputs[0]", inputs[0]}, 1);
  axis = inputs[0].shape().normalized(axis);
  Shape shape = inputs[0].shape();
  for (size_t i = 1; i < inputs.size(); ++i) {
    check_like_first(inputs, i, axis);
    shape.set(axis, shape[axis] + inputs[i].size(axis));
  }
  Tensor y = Tensor::empty(shape, inputs[0].dtype(), inputs[0].device());
  EQ_RUN(y.device(), concat_forward(inputs, y, axis));
  trace(kConcat, y, inputs, axis);
  record<ConcatBackward>(y, inputs, inputs, axis);
  return y;
}

}  // namespace eq
