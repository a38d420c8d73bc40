#include "core/kernels/concat.h"

#include <string>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/slice.h"
#include "core/words.h"

namespace eq {
namespace {

constexpr const char* kConcat = "concat";
constexpr const char* kSplit = "split";

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

// Without this, as slices, the parts' gradients would each be as large as x, mostly zeros, and added.
struct SplitBackward final : Node {
  SplitBackward(const Shape& x, int axis) : Node(kSplit), x_(x), axis_(axis) {}
  TensorList backward(const TensorList& grads) override {
    TensorList parts = grads;
    for (size_t i = 0; i < parts.size(); ++i) {
      const OutputInfo& part = outputs()[i];
      if (!parts[i].defined()) parts[i] = Tensor::zeros(part.shape, part.dtype, part.device);
    }
    Tensor grad_x = Tensor::empty(x_, parts[0].dtype(), parts[0].device());
    EQ_RUN(grad_x.device(), concat_forward(parts, grad_x, axis_));
    return {grad_x};
  }
  Shape x_;
  int axis_;
};

void check_like_first(const std::vector<Tensor>& inputs, size_t i, int axis) {
  const Tensor &first = inputs[0], &other = inputs[i];
  const std::string label = "inputs[" + std::to_string(i) + "]";
  check::defined(kConcat, {label.c_str(), other});
  const std::string both = label + " is " + describe(other) + ", but inputs[0] is " + describe(first);
  if (other.dtype() != first.dtype()) throw DTypeError("concat: " + both, kConcat, check::kConvertOne);
  if (other.device() != first.device()) throw DeviceError("concat: " + both, kConcat, check::kMoveOne);
  bool same = other.rank() == first.rank();
  for (int k = 0; same && k < first.rank(); ++k) same = k == axis || other.size(k) == first.size(k);
  if (!same) {
    throw ShapeError("concat: " + both + "; they are joined along axis " + std::to_string(axis), kConcat,
                     "all extents but that axis's must be equal");
  }
}

void check_parts(const Tensor& x, const std::vector<int64_t>& extents, int axis) {
  int64_t left = x.size(axis);
  for (const int64_t extent : extents) left = extent < 0 || extent > left ? -1 : left - extent;  // below 0 it stays there: no extent fits
  if (extents.empty() || left != 0) {
    throw ShapeError("split: parts of [" + joined(extents) + "] cells do not make up axis " + std::to_string(axis) + " of " + describe(x),
                     kSplit, "give extents of 0 or more whose sum is the axis's");
  }
}

}  // namespace

Tensor concat(const std::vector<Tensor>& inputs, int axis) {
  if (inputs.empty()) throw UsageError("concat: there are no inputs", kConcat, "pass at least one tensor");
  check::defined(kConcat, {"inputs[0]", inputs[0]});
  check::rank_at_least(kConcat, {"inputs[0]", inputs[0]}, 1);
  axis = check::axis(kConcat, {"inputs[0]", inputs[0]}, axis);
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

std::vector<Tensor> split(const Tensor& x, const std::vector<int64_t>& extents, int axis) {
  check::defined(kSplit, {"x", x});
  check::rank_at_least(kSplit, {"x", x}, 1);
  axis = check::axis(kSplit, {"x", x}, axis);
  check_parts(x, extents, axis);
  if (extents.size() == 1) return {x};
  std::vector<Tensor> parts;
  int64_t begin = 0;
  for (const int64_t extent : extents) {
    Shape shape = x.shape();
    shape.set(axis, extent);
    if (axis == 0) {
      parts.push_back(x.alias(shape, begin * x.shape().product(1, x.rank())));
    } else {
      parts.push_back(Tensor::empty(shape, x.dtype(), x.device()));
      EQ_RUN(x.device(), slice_forward(x, parts.back(), axis, begin));
    }
    trace("slice", parts.back(), {x}, SliceRange{axis, begin});
    begin += extent;
  }
  record<SplitBackward>(parts, {x}, x.shape(), axis);
  return parts;
}

}  // namespace eq
