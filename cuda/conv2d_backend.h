#pragma once
// The switch between cuDNN and the project's own convolutions (core/cuda_device.h), as the kernels ask it.

#include "core/cuda_device.h"
#include "core/kernels/conv2d.h"

namespace eq::cuda {

// A plain product over pixels as rows, y[pixel, o] = sum_i x[pixel, i] * weight[o, i]: a 1x1 filter at stride 1 without
// padding and groups.
bool is_product(const Tensor& weight, const Conv2dOptions& options);

// A convolution with this filter is offered to cuDNN first.
bool prefers_cudnn(const Tensor& weight, const Conv2dOptions& options);

}  // namespace eq::cuda
