#pragma once
// The bilinear row code that resize and fuse_levels share (core/kernels/bilinear.h).

#include <vector>

#include "core/kernels/bilinear.h"

namespace eq::cpu {

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border = {});
void bilinear_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners,
                       const BilinearBorder& border = {});

}  // namespace eq::cpu
