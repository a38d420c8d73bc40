#pragma once
// The bilinear row code that resize and fuse_levels share: several branches, each with an optional affine map, written
// into (or differentiated from) their channel ranges of one [N, out_h, out_w, C] array, or of the inside of a larger one.

#include <vector>

#include "core/tensor.h"

namespace eq::cpu {

struct BilinearBranch {
  Tensor x;                // [N, h_i, w_i, C_i]: the branch, or its gradient; undefined: skip this channel range
  int64_t channels = 0;    // C_i
  Tensor shift, scale;     // [C_i], [1] or undefined (0 and 1)
};

// What surrounds the result inside y: `rows` above and below, `columns` left and right, of `values` [C] (undefined: 0).
struct BilinearBorder {
  int64_t rows = 0, columns = 0;
  Tensor values;
};

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border = {});
void bilinear_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, bool align_corners,
                       const BilinearBorder& border = {});

}  // namespace eq::cpu
