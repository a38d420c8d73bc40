// The gradient of a convolution's bias is a sum over the pixels (reduce_cuda.cu), float32 for bfloat16 images.

#include "core/kernels/conv2d.h"
#include "core/kernels/reduce.h"

namespace eq::cuda {

void conv2d_backward_bias(const Tensor& grad_y, Tensor& grad_bias) {
  const int64_t channels = grad_bias.numel();
  if (channels == 0) return;
  sum(grad_y.alias({grad_y.numel() / channels, channels}), AxisMask{1}, 1, grad_bias);
}

}  // namespace eq::cuda
