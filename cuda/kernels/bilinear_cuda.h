#pragma once
// The kernels that resize and fuse_levels share: several branches, each with an optional affine map, written into (or
// differentiated from) their channel ranges of one [N, out_h, out_w, C] array, or of the inside of a larger one.

#include <vector>

#include "core/tensor.h"

namespace eq::cuda {

struct BilinearBranch {
  Tensor x;             // [N, h_i, w_i, C_i]: the branch, or its gradient; undefined: skip this channel range
  int64_t channels;     // C_i
  Tensor shift, scale;  // [C_i], [1] or undefined (0 and 1)
};

// What surrounds the result inside y: `rows` above and below, `columns` left and right, of `values` [C] (undefined: 0).
struct BilinearBorder {
  int64_t rows = 0, columns = 0;
  Tensor values;
};

enum class Reading { kBilinear, kAlignedCorners, kNearest };

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners,
                      const BilinearBorder& border = {});
void resize_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, Reading reading,
                     const BilinearBorder& border = {});

}  // namespace eq::cuda
