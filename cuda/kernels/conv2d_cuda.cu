// Who convolves (set_convolution_backend, cuda/conv2d_backend.cu): cuDNN where it is preferred and can, else
//   - cuBLAS for 1x1 filters at stride 1 without padding and groups: over pixels as rows that is a plain product, which
//     own tiles could only do again;
//   - the project's own kernels for everything else.
// A bias is added by the own kernels as they store, laid down before a product (one rounding), and added in a pass behind
// cuDNN, where bfloat16 rounds twice.

#include "core/kernels/conv2d.h"

#include "cuda/bias.h"
#include "cuda/conv2d_backend.h"
#include "cuda/cudnn_conv2d.h"
#include "cuda/gemm.h"
#include "cuda/own_conv2d.h"

namespace eq::cuda {
namespace {

int64_t pixels(const Tensor& image) { return image.shape().product(0, 3); }

}  // namespace

void conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options) {
  if (prefers_cudnn(weight, options) && cudnn_conv2d_forward(x, weight, y, options)) {
    if (bias.defined()) add_bias(bias, y);
    return;
  }
  if (is_product(weight, options)) {
    gemm({.m = pixels(x), .n = weight.size(0), .k = x.size(3), .transpose_b = true, .bias = bias}, x, weight, y);
    return;
  }
  own_conv2d_forward(x, weight, bias, y, options);
}

void conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  if (prefers_cudnn(weight, options) && cudnn_conv2d_backward_input(grad_y, weight, grad_x, options)) return;
  if (is_product(weight, options)) {
    gemm({.m = pixels(grad_y), .n = grad_x.size(3), .k = weight.size(0)}, grad_y, weight, grad_x);
    return;
  }
  own_conv2d_backward_input(grad_y, weight, grad_x, options);
}

void conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  if (prefers_cudnn(grad_weight, options) && cudnn_conv2d_backward_weight(grad_y, x, grad_weight, options)) return;
  if (is_product(grad_weight, options)) {
    gemm({.m = grad_weight.size(0), .n = x.size(3), .k = pixels(x), .transpose_a = true}, grad_y, x, grad_weight);
    return;
  }
  own_conv2d_backward_weight(grad_y, x, grad_weight, options);
}

}  // namespace eq::cuda
