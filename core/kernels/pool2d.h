#pragma once
// Pooling over windows of [N, H, W, C].
//
//   max:      y[n,p,q,c] = max over the window's cells inside the image; the gradient goes to the first maximum
//             in row-major order; a NaN in the window wins.
//   average:  sum over the window / count; count_include_pad counts the padding as zeros (PyTorch's default).
//   adaptive: bin i of `out` over `in` cells is [floor(i*in/out), ceil((i+1)*in/out)); neighbours may share a cell.
//
// Backward is gather-form: each input cell sums the windows that contain it, in a fixed order.

#include "core/tensor.h"

namespace eq {

struct Pool2dOptions {
  int64_t kernel_h = 2, kernel_w = 2;
  int64_t stride_h = 2, stride_w = 2;
  int64_t pad_h = 0, pad_w = 0;
  bool ceil_mode = false;
  bool count_include_pad = true;  // average only

  static Pool2dOptions square(int64_t kernel, int64_t stride, int64_t padding = 0) {
    return {kernel, kernel, stride, stride, padding, padding};
  }
};

constexpr int64_t pool_output_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, bool ceil_mode) {
  const int64_t room = in + 2 * pad - kernel + (ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  int64_t out = room / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + pad) --out;  // the last window must start inside the image or its left padding
  return out;
}

constexpr int64_t adaptive_bin_begin(int64_t bin, int64_t in, int64_t out) { return bin * in / out; }
constexpr int64_t adaptive_bin_end(int64_t bin, int64_t in, int64_t out) { return ((bin + 1) * in + out - 1) / out; }

namespace cpu {
void max_pool2d_forward(const Tensor& x, Tensor& y, Tensor& indices, const Pool2dOptions& options);  // indices: int32, h*W+w
void max_pool2d_backward(const Tensor& grad_y, const Tensor& indices, Tensor& grad_x, const Pool2dOptions& options);
void avg_pool2d_forward(const Tensor& x, Tensor& y, const Pool2dOptions& options);
void avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x, const Pool2dOptions& options);
void adaptive_avg_pool2d_forward(const Tensor& x, Tensor& y);
void adaptive_avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x);
}  // namespace cpu
}  // namespace eq
