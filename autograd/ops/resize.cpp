#include "core/kernels/resize.h"

#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/spatial_checks.h"

namespace eq {
namespace {

struct ResizeBilinearBackward final : Node {
  ResizeBilinearBackward(const Shape& shape, bool align_corners)
      : Node("resize_bilinear"), shape_(shape), align_corners_(align_corners) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), resize_bilinear_backward(grads[0], grad_x, align_corners_));
    return {grad_x};
  }
  Shape shape_;
  bool align_corners_;
};

struct ResizeNearestBackward final : Node {
  explicit ResizeNearestBackward(const Shape& shape) : Node("resize_nearest"), shape_(shape) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), resize_nearest_backward(grads[0], grad_x));
    return {grad_x};
  }
  Shape shape_;
};

}  // namespace

Tensor resize_bilinear(const Tensor& x, int64_t out_h, int64_t out_w, bool align_corners) {
  constexpr const char* kOp = "resize_bilinear";
  check::floating(kOp, {"x", x});
  check::rank(kOp, {"x", x}, 4);
  check::sides(kOp, x, out_h, out_w, kMaxResizeExtent);
  Tensor y = Tensor::empty(check::with_sides(x.shape(), out_h, out_w), x.dtype(), x.device());
  EQ_RUN(x.device(), resize_bilinear_forward(x, y, align_corners));
  trace(kOp, y, {x}, align_corners);
  record<ResizeBilinearBackward>(y, {x}, x.shape(), align_corners);
  return y;
}

Tensor resize_nearest(const Tensor& x, int64_t out_h, int64_t out_w) {
  constexpr const char* kOp = "resize_nearest";
  check::defined(kOp, {"x", x});
  check::rank(kOp, {"x", x}, 4);
  check::sides(kOp, x, out_h, out_w, kMaxResizeExtent);
  Tensor y = Tensor::empty(check::with_sides(x.shape(), out_h, out_w), x.dtype(), x.device());
  EQ_RUN(x.device(), resize_nearest_forward(x, y));
  trace(kOp, y, {x});
  record<ResizeNearestBackward>(y, {x}, x.shape());
  return y;
}

}  // namespace eq
