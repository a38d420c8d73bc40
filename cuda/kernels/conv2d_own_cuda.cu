#include "cuda/own_conv2d.h"

#include "cuda/launch.h"

namespace eq::cuda {
namespace {

// The one place where a shape chooses its family. A depthwise block keeps its filters in shared memory, so they must be
// small.
bool is_depthwise(const Shape& weight, const Conv2dOptions& options) {
  constexpr int64_t kMostTaps = 121;
  return weight[3] == 1 && options.groups > 1 && weight[0] == options.groups && weight[1] * weight[2] <= kMostTaps;
}

}  // namespace

void own_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options) {
  dispatch(x.dtype(), "conv2d", [&]<typename T>() {
    if (is_depthwise(weight.shape(), options)) return depthwise_conv2d_forward<T>(x, weight, bias, y, options);
    gemm_conv2d_forward<T>(x, weight, bias, y, options);
  });
}

void own_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  dispatch(grad_y.dtype(), "conv2d", [&]<typename T>() {
    if (is_depthwise(weight.shape(), options)) return depthwise_conv2d_backward_input<T>(grad_y, weight, grad_x, options);
    gemm_conv2d_backward_input<T>(grad_y, weight, grad_x, options);
  });
}

void own_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  dispatch(grad_y.dtype(), "conv2d", [&]<typename T>() {
    if (is_depthwise(grad_weight.shape(), options)) return depthwise_conv2d_backward_weight<T>(grad_y, x, grad_weight, options);
    gemm_conv2d_backward_weight<T>(grad_y, x, grad_weight, options);
  });
}

}  // namespace eq::cuda
