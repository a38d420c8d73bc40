#pragma once
// fused_conv2d: the convolution of a fusion site, without its concatenation.
//
//   y = conv2d(fuse_levels(x_1 .. x_L; shift, scale, border), w, bias)
// Bilinear resizing acts on each channel alone, so it commutes with the product of a tap. A branch that is coarser than the result is
// multiplied by all taps at its own size and then interpolated:
//   z_i[n,j,k,(r,s,o)] = sum_c x_i[n,j,k,c] * v_i[o,r,s,c],                v[o,r,s,c] = scale[c] * w[o,r,s,c]
//   y[n,p,q,o] += sum over the (r,s) with (p+r-top, q+s-left) inside of bilinear(z_i[n,:,:,(r,s,o)])(p+r-top, q+s-left)
// The other branches, concatenated where there are several, are convolved at the result's size with v.
// No feature is mapped or padded: what the shift and the border b (0 where the convolution pads) add is a constant per tap,
//   y[n,p,q,o] -= sum_{r,s,c} v[o,r,s,c] * shift[c],   and for every (r,s) outside   y[n,p,q,o] += sum_c v * shift[c] + w * b[c].
// Adjoint: grad_z_i gathers grad_y through the transposed interpolation; grad_x_i and grad_v_i are products at the coarse size;
//   grad_w = scale[c] * (grad_v - shift[c] * (sum of grad_y where (r,s) is inside)) + b[c] * (sum of grad_y where it is outside).
// Shift, scale and border are constants: no gradient.
//
// Shapes: those of fuse_levels and conv2d. Accuracy: that of conv2d on features with their means (the shift is not subtracted from the
// features but from the result). Determinism: every task owns its outputs and sums in a fixed order; same bits for any thread count.
// There is a kernel for the CPU only.

#include <vector>

#include "core/kernels/conv2d.h"
#include "core/kernels/fuse_levels.h"

namespace eq {

// Whether a branch [N,h,w,C] is multiplied at its own size: that has at most a third of the result's pixels. (Winograd's algorithm saves
// nearly as much at the result's size.)
inline bool multiplied_coarse(const Shape& branch, const FuseLevelsOptions& levels) {
  return branch[1] <= levels.out_h && branch[2] <= levels.out_w && 3 * branch[1] * branch[2] <= levels.out_h * levels.out_w;
}

// Whether the kernel applies and pays: a dense convolution of stride 1, whose input one side pads at most (the levels with their border, or
// the convolution with zeros), a coarse branch, and no branch without channels.
bool commutes_with_resizing(const std::vector<Shape>& branches, const FuseLevelsOptions& levels, const Conv2dOptions& conv);

namespace cpu {
// Both need commutes_with_resizing().
void fused_conv2d_forward(const std::vector<Tensor>& branches, const Tensor& weight, const Tensor& bias, Tensor& y,
                          const FuseLevelsOptions& levels, const Conv2dOptions& conv);

struct FusedConv2dGradients {
  std::vector<Tensor> branches;  // undefined: not wanted
  Tensor weight, bias;           // likewise
};
// `branches` hold values where grads.weight is wanted, and may be undefined otherwise; `shapes` are theirs.
void fused_conv2d_backward(const Tensor& grad_y, const std::vector<Tensor>& branches, const std::vector<Shape>& shapes,
                           const Tensor& weight, FusedConv2dGradients& grads, const FuseLevelsOptions& levels, const Conv2dOptions& conv);
}  // namespace cpu
}  // namespace eq
