#include "cuda/own_conv2d.h"

#include "cuda/launch.h"

namespace eq::cuda {
void own_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options) {
  dispatch(x.dtype(), "conv2d", [&]<typename T>() {
    gemm_conv2d_forward<T>(x, weight, bias, y, options);
  });
}

void own_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  dispatch(grad_y.dtype(), "conv2d", [&]<typename T>() {
    gemm_conv2d_backward_input<T>(grad_y, weight, grad_x, options);
  });
}

void own_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  dispatch(grad_y.dtype(), "conv2d", [&]<typename T>() {
    gemm_conv2d_backward_weight<T>(grad_y, x, grad_weight, options);
  });
}

}  // namespace eq::cuda
