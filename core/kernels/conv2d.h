#pragma once
// conv2d: cross-correlation of images with filters, in groups.
//
//   y[n,p,q,k] = b[k] + sum_{r,s,c} x[n, p*stride_h + r*dilation_h - pad_top, q*stride_w + s*dilation_w - pad_left, g*Cg + c] * w[k,r,s,c]
//   with g = k / (O/groups), Cg = I/groups; x is zero outside the image.
//   grad_x[n,h,w,c] gathers over all (p,q,r,s,k) that read it; grad_w[k,r,s,c] = sum_{n,p,q} grad_y[n,p,q,k] * x[...];
//   grad_b[k] = sum_{n,p,q} grad_y[n,p,q,k].
//
// Shapes: x [N,H,W,I], w [O,kh,kw,I/groups], b [O] or undefined, y [N,P,Q,O].
// Accuracy: float32 sums of K = kh*kw*I/groups terms, about 1e-7 * sqrt(K) of the output's rms; where the CPU takes Winograd's
// algorithm (float32, 3x3, stride 1), up to twice that (conv2d_winograd.h).
// Determinism: every task owns its outputs; weight gradients add fixed chunks in order. Same bits for any thread count.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct Conv2dOptions {
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_top = 0, pad_bottom = 0, pad_left = 0, pad_right = 0;
  int64_t dilation_h = 1, dilation_w = 1;
  int64_t groups = 1;

  Conv2dOptions& stride(int64_t s) { stride_h = stride_w = s; return *this; }
  Conv2dOptions& padding(int64_t p) { pad_top = pad_bottom = pad_left = pad_right = p; return *this; }
  Conv2dOptions& dilation(int64_t d) { dilation_h = dilation_w = d; return *this; }
  Conv2dOptions& set_groups(int64_t g) { groups = g; return *this; }
  bool operator==(const Conv2dOptions&) const = default;
};

// Output extent of a sliding window; 0 or less when the window does not fit.
constexpr int64_t conv_output_size(int64_t in, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad_before, int64_t pad_after) {
  const int64_t room = in + pad_before + pad_after - dilation * (kernel - 1) - 1;
  return room < 0 ? 0 : room / stride + 1;
}

EQ_KERNELS(
void conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options);
void conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
void conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options);
void conv2d_backward_bias(const Tensor& grad_y, Tensor& grad_bias);
)

namespace cpu {
// false: convolve directly everywhere from now on. Process-wide, true at first.
void allow_winograd(bool allow);
}  // namespace cpu
}  // namespace eq
