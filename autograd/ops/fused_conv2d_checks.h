#pragma once
// For the operators that contain fused_conv2d.

#include <vector>

#include "core/kernels/fused_conv2d.h"

namespace eq::check {

// Whether the kernel applies: on the CPU, where it pays, to arguments that conv2d takes for a dense convolution of the concatenation (if
// not, it says what is wrong). Then `y` is the shape of the result. The branches have passed check::levels.
bool commutes(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias, const FuseLevelsOptions& levels,
              const Conv2dOptions& conv, Shape& y);

}  // namespace eq::check
