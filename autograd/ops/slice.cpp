#include "core/kernels/slice.h"

#include <string>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

constexpr const char* kSlice = "slice";

struct SliceBackward final : Node {
  SliceBackward(const Shape& shape, int axis, int64_t begin) : Node(kSlice), shape_(shape), axis_(axis), begin_(begin) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), slice_backward(grads[0], grad_x, axis_, begin_));
    return {grad_x};
  }
  Shape shape_;
  int axis_;
  int64_t begin_;
};

}  // namespace

Tensor slice(const Tensor& x, int axis, int64_t begin, int64_t end) {
  check::defined(kSlice, {"x", x});
  check::rank_at_least(kSlice, {"x", x}, 1);
  axis = check::axis(kSlice, {"x", x}, axis);
  if (begin < 0 || end < begin || end > x.size(axis)) {
    throw ShapeError("slice: there is no range [" + std::to_string(begin) + ", " + std::to_string(end) + ") along axis " +
                         std::to_string(axis) + " of " + describe(x),
                     kSlice, "give 0 <= begin <= end <= the extent; positions do not count from the end");
  }
  Shape shape = x.shape();
  shape.set(axis, end - begin);
  Tensor y;
  if (axis == 0) {
    y = x.alias(shape, begin * x.shape().product(1, x.rank()));
  } else {
    y = Tensor::empty(shape, x.dtype(), x.device());
    EQ_RUN(x.device(), slice_forward(x, y, axis, begin));
  }
  trace(kSlice, y, {x}, SliceRange{axis, begin});
  record<SliceBackward>(y, {x}, x.shape(), axis, begin);
  return y;
}

}  // namespace eq
