#include "core/kernels/reduce.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/permute.h"
#include "core/words.h"

namespace eq {
namespace {

struct SumBackward final : Node {
  SumBackward(const char* name, const Shape& shape, AxisMask axes, double factor)
      : Node(name), shape_(shape), kept_(reduced_shape(shape, axes, true)), factor_(factor) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad = grads[0].alias(kept_);
    if (factor_ != 1) {
      Tensor scaled = Tensor::empty_like(grad);
      EQ_RUN(grad.device(), unary_forward(UnaryOp::mul_number, grad, factor_, 0, scaled));
      grad = scaled;
    }
    Tensor grad_x = Tensor::empty(shape_, grad.dtype(), grad.device());
    EQ_RUN(grad.device(), expand(grad, grad_x));
    return {grad_x};
  }
  Shape shape_, kept_;
  double factor_;
};

Tensor scaled_sum(const char* op, const Tensor& x, AxisMask axes, double factor, bool keepdim) {
  Tensor y = Tensor::empty(reduced_shape(x.shape(), axes, keepdim), x.dtype(), x.device());
  EQ_RUN(x.device(), sum(x, axes, factor, y));
  trace(op, y, {x}, Reduction{axes, keepdim});
  record<SumBackward>(y, {x}, op, x.shape(), axes, factor);
  return y;
}

struct VarBackward final : Node {
  VarBackward(const Tensor& x, const Tensor& mean, AxisMask axes, double divisor)
      : Node("var"), axes_(axes), divisor_(divisor), x_(save(x)), mean_(save(mean)) {}
  TensorList backward(const TensorList& grads) override {
    const Tensor &x = x_.get(), &mean = mean_.get();
    Tensor grad_x = Tensor::empty_like(x);
    EQ_RUN(grads[0].device(), variance_backward(grads[0], x, axes_, mean, divisor_, grad_x));
    return {grad_x};
  }
  AxisMask axes_;
  double divisor_;
  SavedTensor &x_, &mean_;
};

struct MaxBackward final : Node {
  MaxBackward(const Shape& shape, const Tensor& index, int axis)
      : Node("max"), shape_(shape), axis_(axis), index_(save(index)) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), max_backward(grads[0], index_.get(), axis_, grad_x));
    return {grad_x};
  }
  Shape shape_;
  int axis_;
  SavedTensor& index_;
};

// The index of the largest value along `axis`, and the value itself when `values` is given.
Tensor find_max(const char* op, const Tensor& x, int axis, bool keepdim, Tensor* values) {
  check::floating(op, {"x", x});
  const AxisMask mask = axis_mask(op, x.shape(), {axis});
  const int wrapped = x.shape().normalized(axis);
  check::that(x.size(wrapped) > 0, op,
              "axis " + std::to_string(axis) + " of " + to_string(x.shape()) + " has no element",
              "the largest of nothing does not exist");
  const Shape shape = reduced_shape(x.shape(), mask, keepdim);
  Tensor index = Tensor::empty(shape, DType::kInt64, x.device()), y;
  if (values != nullptr) y = Tensor::empty(shape, x.dtype(), x.device());
  EQ_RUN(x.device(), max(x, wrapped, y, index));
  if (values != nullptr) {
    trace(op, y, {x}, Reduction{mask, keepdim});
    record<MaxBackward>(y, {x}, x.shape(), index, wrapped);
    *values = y;
  } else {
    trace(op, index, {x}, Reduction{mask, keepdim});
  }
  return index;
}

}  // namespace

Tensor sum(const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  check::floating("sum", {"x", x});
  return scaled_sum("sum", x, axis_mask("sum", x.shape(), axes), 1, keepdim);
}

Tensor mean(const Tensor& x, const std::vector<int>& axes, bool keepdim) {
  check::floating("mean", {"x", x});
  const AxisMask mask = axis_mask("mean", x.shape(), axes);
  const int64_t count = reduced_count(x.shape(), mask);
  check::that(count > 0, "mean", "the reduced axes of " + to_string(x.shape()) + " have no element",
              "the mean of nothing does not exist");
  return scaled_sum("mean", x, mask, 1 / double(count), keepdim);
}

Tensor var(const Tensor& x, const std::vector<int>& axes, bool unbiased, bool keepdim) {
  check::floating("var", {"x", x});
  const AxisMask mask = axis_mask("var", x.shape(), axes);
  const int64_t count = reduced_count(x.shape(), mask), divisor = count - (unbiased ? 1 : 0);
  check::that(divisor > 0, "var",
              "the reduced axes of " + to_string(x.shape()) + " have " + counted(count, "element"),
              unbiased ? "the unbiased variance needs two" : "the variance of nothing does not exist");
  Tensor y = Tensor::empty(reduced_shape(x.shape(), mask, keepdim), x.dtype(), x.device());
  Tensor mean = Tensor::empty(y.shape(), DType::kFloat64, x.device());
  EQ_RUN(x.device(), variance(x, mask, double(divisor), y, mean));
  trace("var", y, {x}, Reduction{mask, keepdim, double(divisor)});
  record<VarBackward>(y, {x}, x, mean, mask, double(divisor));
  return y;
}

Tensor max(const Tensor& x, int axis, bool keepdim) {
  Tensor y;
  find_max("max", x, axis, keepdim, &y);
  return y;
}

Tensor argmax(const Tensor& x, int axis) { return find_max("argmax", x, axis, false, nullptr); }

}  // namespace eq
