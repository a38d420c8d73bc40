#pragma once
// The switch between cuDNN and the project's own convolutions (core/cuda_device.h), as the kernels ask it.

#include "core/cuda_device.h"
#include "core/dtype.h"

namespace eq::cuda {

// Convolutions of this type are offered to cuDNN first.
bool prefers_cudnn(DType dtype);

}  // namespace eq::cuda
