#pragma once
// Convolution through cuDNN 9, for cuda/kernels/conv2d_cuda.cu. Layouts are the card's (core/kernels/conv2d.h); they are
// cuDNN's NHWC layouts.
//
// Each function queues the work and returns true, or does nothing and returns false where cuDNN cannot: padding that is not
// symmetric, an empty or very large tensor, no deterministic algorithm within the workspace, a build without cuDNN. The
// answer follows from types, shapes, options and the TF32 switch alone. The bias is the caller's.

#include "core/kernels/conv2d.h"

namespace eq::cuda {

int64_t cudnn_version();  // 91900 is 9.19.0; 0 in a build without cuDNN

bool cudnn_conv2d_forward(const Tensor& x, const Tensor& weight, Tensor& y, const Conv2dOptions& options);
bool cudnn_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
bool cudnn_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options);

}  // namespace eq::cuda
