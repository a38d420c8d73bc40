#pragma once
// The argument checks of conv2d, for all operators that contain it.

#include "core/kernels/conv2d.h"

namespace eq::check {

// Returns the shape of the result.
Shape conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options);

}  // namespace eq::check
