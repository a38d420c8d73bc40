#include "core/kernels/conv2d.h"

#include <algorithm>
#include <string>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "autograd/ops/conv2d_checks.h"

namespace eq {
namespace {

struct Conv2dBackward final : Node {
  Conv2dBackward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options)
      : Node("conv2d"),
        x_(save(weight.requires_grad() ? x : Tensor())),
        weight_(save(weight)),
        x_shape_(x.shape()),
        bias_shape_(bias.defined() ? bias.shape() : Shape()),
        options_(options) {}

  TensorList backward(const TensorList& grads) override {
    const Tensor &grad_y = grads[0], &weight = weight_.get();
    Tensor grad_x, grad_weight, grad_bias;
    if (needs(0)) {
      grad_x = Tensor::empty(x_shape_, weight.dtype(), weight.device());
      EQ_RUN(grad_y.device(), conv2d_backward_input(grad_y, weight, grad_x, options_));
    }
    if (needs(1)) {
      grad_weight = Tensor::empty_like(weight);
      EQ_RUN(grad_y.device(), conv2d_backward_weight(grad_y, x_.get(), grad_weight, options_));
    }
    if (needs(2)) {
      grad_bias = Tensor::empty(bias_shape_, weight.dtype(), weight.device());
      EQ_RUN(grad_y.device(), conv2d_backward_bias(grad_y, grad_bias));
    }
    return {grad_x, grad_weight, grad_bias};
  }

  SavedTensor &x_, &weight_;  // x is kept only where the weight learns: a frozen layer frees its input
  Shape x_shape_, bias_shape_;
  Conv2dOptions options_;
};

// Extents and options are at most this, so that no sum or product of two of them overflows.
constexpr int64_t kLargest = int64_t{1} << 30;

}  // namespace

Shape check::conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& o) {
  const char* op = "conv2d";
  check::defined(op, {"weight", weight});
  check::alike(op, {{"x", x}, {"weight", weight}, {"bias", bias}});
  check::rank(op, {"x", x}, 4);
  if (weight.rank() != 4 || weight.numel() == 0) {
    throw ShapeError("conv2d: weight must be [O, kh, kw, I/groups] without empty axes, it is " + describe(weight), op,
                     "weights of files are [O, I/groups, kh, kw]: the state dict permutes them");
  }
  const int64_t positive[] = {o.stride_h, o.stride_w, o.dilation_h, o.dilation_w, o.groups};
  const int64_t padding[] = {o.pad_top, o.pad_bottom, o.pad_left, o.pad_right};
  const bool positive_ok =
      std::all_of(std::begin(positive), std::end(positive), [](int64_t v) { return v >= 1 && v <= kLargest; });
  const bool padding_ok =
      std::all_of(std::begin(padding), std::end(padding), [](int64_t v) { return v >= 0 && v <= kLargest; });
  if (!positive_ok || !padding_ok) {
    throw UsageError("conv2d: stride, dilation and groups must be at least 1 and padding at least 0 (all at most 2^30)",
                     "conv2d: stride " + check::list({o.stride_h, o.stride_w}) + ", dilation " + check::list({o.dilation_h, o.dilation_w}) +
                         ", groups " + std::to_string(o.groups) + ", padding top, bottom, left, right " +
                         check::list({o.pad_top, o.pad_bottom, o.pad_left, o.pad_right}),
                     "crop with pad2d if a negative padding was meant");
  }
  const int64_t largest =
      std::max({x.size(1), x.size(2), x.size(3), *std::max_element(weight.shape().begin(), weight.shape().end())});
  check::that(largest <= kLargest, op,
              "an axis of x " + to_string(x.shape()) + " or weight " + to_string(weight.shape()) + " is above 2^30");
  const int64_t channels = x.size(3), out_channels = weight.size(0);
  if (channels % o.groups != 0 || out_channels % o.groups != 0) {
    throw ShapeError("conv2d: " + std::to_string(o.groups) + " groups divide neither or only one of x's " +
                         std::to_string(channels) + " and weight's " + std::to_string(out_channels) + " channels",
                     "conv2d: x " + to_string(x.shape()) + ", weight " + to_string(weight.shape()),
                     "groups must divide both channel counts");
  }
  if (weight.size(3) != channels / o.groups) {
    throw ShapeError(
        "conv2d: weight " + to_string(weight.shape()) + " reads " + std::to_string(weight.size(3)) +
            " channels per group, but x " + to_string(x.shape()) + " has " + std::to_string(channels / o.groups),
        "conv2d: groups " + std::to_string(o.groups), "weight must be [O, kh, kw, I/groups] and x [N, H, W, I]");
  }
  if (bias.defined()) check::shape(op, {"bias", bias}, {out_channels}, "[O] = [" + std::to_string(out_channels) + "]");
  const int64_t out_h = conv_output_size(x.size(1), weight.size(1), o.stride_h, o.dilation_h, o.pad_top, o.pad_bottom);
  const int64_t out_w = conv_output_size(x.size(2), weight.size(2), o.stride_w, o.dilation_w, o.pad_left, o.pad_right);
  check::that(out_h > 0 && out_w > 0, op,
              "the filter of weight " + to_string(weight.shape()) + " does not fit into x " + to_string(x.shape()) +
                  " with its padding",
              "use a larger picture, more padding or less dilation");
  return {x.size(0), out_h, out_w, out_channels};
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options) {
  const Shape shape = check::conv2d(x, weight, bias, options);  // before anything is asked of x
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  EQ_RUN(x.device(), conv2d_forward(x, weight, bias, y, options));
  trace("conv2d", y, {x, weight, bias}, options);
  record<Conv2dBackward>(y, {x, weight, bias}, x, weight, bias, options);
  return y;
}

}  // namespace eq
