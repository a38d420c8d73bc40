#pragma once
// What resize and fuse_levels hand to the bilinear kernels of either backend: several branches, each with an optional affine map, written
// into (or differentiated from) their channel ranges of one [N, out_h, out_w, C] array, or of the inside of a larger one.

#include <vector>

#include "core/kernels/fuse_levels.h"
#include "core/tensor.h"

namespace eq {

struct BilinearBranch {
  Tensor x;              // [N, h_i, w_i, C_i]: the branch, or its gradient; undefined: skip this channel range
  int64_t channels = 0;  // C_i
  Tensor shift, scale;   // [C_i], [1] or undefined (0 and 1)
};

// What surrounds the result inside y: `rows` above and below, `columns` left and right, of `values` [C] (undefined: 0).
struct BilinearBorder {
  int64_t rows = 0, columns = 0;
  Tensor values;
};

// The branches of fuse_levels_forward; those of fuse_levels_backward, whose gradients shift does not touch.
inline std::vector<BilinearBranch> branches_of(const std::vector<Tensor>& branches, const FuseLevelsOptions& options) {
  std::vector<BilinearBranch> list;
  for (size_t i = 0; i < branches.size(); ++i) {
    list.push_back({branches[i], branches[i].size(3), options.shift.empty() ? Tensor() : options.shift[i],
                    options.scale.empty() ? Tensor() : options.scale[i]});
  }
  return list;
}
inline std::vector<BilinearBranch> gradients_of(const std::vector<Tensor>& grad_branches, const std::vector<int64_t>& channels,
                                                const FuseLevelsOptions& options) {
  std::vector<BilinearBranch> list;
  for (size_t i = 0; i < grad_branches.size(); ++i) {
    list.push_back({grad_branches[i], channels[i], Tensor(), options.scale.empty() ? Tensor() : options.scale[i]});
  }
  return list;
}

}  // namespace eq
