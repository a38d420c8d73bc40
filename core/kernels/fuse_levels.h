#pragma once
// fuse_levels: resize, equalize and concatenate the branches of a fusion site in one pass over memory.
//
//   y[n,p,q, offset_i + c] = (bilinear(x_i)[n,p,q,c] - shift_i[c]) * scale_i[c],  offset_i = C_0 + ... + C_{i-1}
//   grad_x_i = adjoint of the bilinear map of scale_i[c] * grad_y[..., offset_i + c].
// Shift and scale are constants: no gradient. A branch whose size is already the target's is copied.
// The weights of a position sum to 1, so the affine map is applied before the horizontal half of the interpolation,
// where a row is shorter; source coordinates and accuracy are those of resize.h. Same bits for any thread count.
// On request the result has a border of `border` around it, a constant without gradient: a convolution that pads with
// other values than zero reads it and pads nothing itself.
//
// Shapes: x_i [N,h_i,w_i,C_i]; y [N, out_h + 2 pad_h, out_w + 2 pad_w, sum C_i]; shift_i, scale_i [C_i] or [1] or undefined
// (0 and 1); border [sum C_i] or undefined (0); these of parameter_type(x's type).

#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct FuseLevelsOptions {
  int64_t out_h = 0, out_w = 0;
  bool align_corners = false;
  std::vector<Tensor> shift = {}, scale = {};  // one per branch, or empty: no equalizer anywhere
  int64_t pad_h = 0, pad_w = 0;      // rows above and below, columns left and right
  Tensor border = {};
};

// Of a trace (autograd/trace.h); its inputs are the branches, then shift and scale of each (undefined: none), then the border.
struct TracedLevels {
  int64_t out_h = 0, out_w = 0;
  bool align_corners = false;
  int64_t pad_h = 0, pad_w = 0;
  bool operator==(const TracedLevels&) const = default;
};

EQ_KERNELS(
void fuse_levels_forward(const std::vector<Tensor>& branches, Tensor& y, const FuseLevelsOptions& options);
// grad_branches[i] undefined: not wanted; hence `channels`, the C_i of every branch.
void fuse_levels_backward(const Tensor& grad_y, const std::vector<int64_t>& channels, std::vector<Tensor>& grad_branches,
                          const FuseLevelsOptions& options);
)
}  // namespace eq
