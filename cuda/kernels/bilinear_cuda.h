#pragma once
// The bilinear kernels that resize and fuse_levels share (core/kernels/bilinear.h).

#include <vector>

#include "core/kernels/bilinear.h"

namespace eq::cuda {

enum class Reading { kBilinear, kAlignedCorners, kNearest };

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners,
                      const BilinearBorder& border = {});
void resize_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, Reading reading,
                     const BilinearBorder& border = {});

}  // namespace eq::cuda
