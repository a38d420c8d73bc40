#include "core/kernels/pool2d.h"

#include <limits>
#include <string>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/spatial_checks.h"

namespace eq {
namespace {

struct MaxPool2dBackward final : Node {
  MaxPool2dBackward(const Shape& shape, const Tensor& places, const Pool2dOptions& options)
      : Node("max_pool2d"), shape_(shape), places_(save(places)), options_(options) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), max_pool2d_backward(grads[0], places_.get(), grad_x, options_));
    return {grad_x};
  }
  Shape shape_;
  SavedTensor& places_;
  Pool2dOptions options_;
};

struct AvgPool2dBackward final : Node {
  AvgPool2dBackward(const Shape& shape, const Pool2dOptions& options) : Node("avg_pool2d"), shape_(shape), options_(options) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), avg_pool2d_backward(grads[0], grad_x, options_));
    return {grad_x};
  }
  Shape shape_;
  Pool2dOptions options_;
};

struct AdaptiveAvgPool2dBackward final : Node {
  explicit AdaptiveAvgPool2dBackward(const Shape& shape) : Node("adaptive_avg_pool2d"), shape_(shape) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), adaptive_avg_pool2d_backward(grads[0], grad_x));
    return {grad_x};
  }
  Shape shape_;
};

std::string pair_text(int64_t a, int64_t b) { return std::to_string(a) + " x " + std::to_string(b); }

Shape pooled_shape(const char* op, const Tensor& x, const Pool2dOptions& o) {
  check::floating(op, {"x", x});
  check::rank(op, {"x", x}, 4);
  const auto within = [](int64_t low, int64_t a, int64_t b) { return a >= low && b >= low && a <= kMaxPoolExtent && b <= kMaxPoolExtent; };
  if (!within(1, o.kernel_h, o.kernel_w) || !within(1, o.stride_h, o.stride_w)) {
    throw ShapeError(std::string(op) + ": kernel " + pair_text(o.kernel_h, o.kernel_w) + " and stride " +
                         pair_text(o.stride_h, o.stride_w) + " must be 1 to " + std::to_string(kMaxPoolExtent),
                     op, "set Pool2dOptions::kernel_h, kernel_w, stride_h, stride_w");
  }
  if (!within(0, o.pad_h, o.pad_w) || o.pad_h > o.kernel_h / 2 || o.pad_w > o.kernel_w / 2) {
    throw ShapeError(std::string(op) + ": padding " + pair_text(o.pad_h, o.pad_w) + " must be 0 to half the kernel, which is " +
                         pair_text(o.kernel_h, o.kernel_w),
                     op, "more padding would make windows that see no cell of the image");
  }
  const int64_t out_h = pool_output_size(x.size(1), o.kernel_h, o.stride_h, o.pad_h, o.ceil_mode);
  const int64_t out_w = pool_output_size(x.size(2), o.kernel_w, o.stride_w, o.pad_w, o.ceil_mode);
  if (out_h < 1 || out_w < 1) {
    throw ShapeError(std::string(op) + ": the window of " + pair_text(o.kernel_h, o.kernel_w) + " does not fit in " + describe(x), op,
                     "use a smaller kernel, more padding or a larger image");
  }
  check::sides(op, x, out_h, out_w, kMaxPoolExtent);
  return check::with_sides(x.shape(), out_h, out_w);
}

}  // namespace

Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options) {
  constexpr const char* kOp = "max_pool2d";
  const Shape shape = pooled_shape(kOp, x, options);  // before anything is asked of x
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  if (x.size(1) * x.size(2) > std::numeric_limits<int32_t>::max()) {
    throw ShapeError("max_pool2d: x has more than 2^31 - 1 pixels per image: " + describe(x), kOp, "pool a smaller image");
  }
  Tensor places;
  if (grad_enabled() && x.requires_grad()) places = Tensor::empty(y.shape(), max_pool_place_type(x, options), x.device());
  EQ_RUN(x.device(), max_pool2d_forward(x, y, places, options));
  trace(kOp, y, {x}, options);
  record<MaxPool2dBackward>(y, {x}, x.shape(), places, options);
  return y;
}

Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options) {
  constexpr const char* kOp = "avg_pool2d";
  const Shape shape = pooled_shape(kOp, x, options);  // before anything is asked of x
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  EQ_RUN(x.device(), avg_pool2d_forward(x, y, options));
  trace(kOp, y, {x}, options);
  record<AvgPool2dBackward>(y, {x}, x.shape(), options);
  return y;
}

Tensor adaptive_avg_pool2d(const Tensor& x, int64_t out_h, int64_t out_w) {
  constexpr const char* kOp = "adaptive_avg_pool2d";
  check::floating(kOp, {"x", x});
  check::rank(kOp, {"x", x}, 4);
  check::sides(kOp, x, out_h, out_w, kMaxPoolExtent);
  Tensor y = Tensor::empty(check::with_sides(x.shape(), out_h, out_w), x.dtype(), x.device());
  EQ_RUN(x.device(), adaptive_avg_pool2d_forward(x, y));
  trace(kOp, y, {x});
  record<AdaptiveAvgPool2dBackward>(y, {x}, x.shape());
  return y;
}

}  // namespace eq
