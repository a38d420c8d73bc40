#pragma once
// The bilinear row code that resize and fuse_levels share: several branches, each with an optional affine map, written
// into (or differentiated from) their channel ranges of one [N, out_h, out_w, C] array.

#include <vector>

#include "core/tensor.h"

namespace eq::cpu {

struct BilinearBranch {
  Tensor x;                // [N, h_i, w_i, C_i]: the branch, or its gradient; undefined: skip this channel range
  int64_t channels = 0;    // C_i
  Tensor shift, scale;     // [C_i], [1] or undefined (0 and 1)
};

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners);
void bilinear_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners);

}  // namespace eq::cpu
