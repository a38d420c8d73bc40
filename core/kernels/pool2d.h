#pragma once
// Pooling over windows of [N, H, W, C].
//
//   max:      y[n,p,q,c] = max over the window's cells inside the image; the gradient goes to the first maximum
//             in row-major order; a NaN in the window wins (of several, the last).
//   average:  sum over the window / count; count_include_pad counts the padding as zeros (PyTorch's default).
//   adaptive: bin i of `out` over `in` cells is [floor(i*in/out), ceil((i+1)*in/out)); neighbours may share a cell.
//
// Padding is at most half the kernel, so that no window lies outside the image. Image and windows are limited to
// kMaxPoolExtent per side; max pooling to 2^31 - 1 pixels, which an index must hold.
// Averages are summed row by row in the element type. Backward is gather-form: each input cell sums the windows that
// contain it, in a fixed order; the same bits for any thread count.

#include "core/host_device.h"
#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

inline constexpr int64_t kMaxPoolExtent = int64_t{1} << 24;

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

EQ_HOST_DEVICE constexpr int64_t pool_output_size(int64_t in, int64_t kernel, int64_t stride, int64_t pad, bool ceil_mode) {
  const int64_t room = in + 2 * pad - kernel + (ceil_mode ? stride - 1 : 0);
  if (room < 0) return 0;
  int64_t out = room / stride + 1;
  if (ceil_mode && (out - 1) * stride >= in + pad) --out;  // the last window must start inside the image or its left padding
  return out;
}

EQ_HOST_DEVICE constexpr int64_t adaptive_bin_begin(int64_t bin, int64_t in, int64_t out) { return bin * in / out; }
EQ_HOST_DEVICE constexpr int64_t adaptive_bin_end(int64_t bin, int64_t in, int64_t out) { return ((bin + 1) * in + out - 1) / out; }

EQ_KERNELS(
// indices: int32, y's shape, h*W+w of the maximum; undefined: not wanted.
void max_pool2d_forward(const Tensor& x, Tensor& y, Tensor& indices, const Pool2dOptions& options);
void max_pool2d_backward(const Tensor& grad_y, const Tensor& indices, Tensor& grad_x, const Pool2dOptions& options);
void avg_pool2d_forward(const Tensor& x, Tensor& y, const Pool2dOptions& options);
void avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x, const Pool2dOptions& options);
void adaptive_avg_pool2d_forward(const Tensor& x, Tensor& y);
void adaptive_avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x);
)
}  // namespace eq
