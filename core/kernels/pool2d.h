#pragma once
// Pooling over windows of [N, H, W, C].
//
//   max:      y[n,p,q,c] = max over the window's cells inside the image; the gradient goes to the first maximum
//             in row-major order; a NaN in the window wins (of several, the last).
//   average:  sum over the window / count; count_include_pad counts the padding as zeros (PyTorch's default).
//   adaptive: bin i of `out` over `in` cells is [floor(i*in/out), ceil((i+1)*in/out)); neighbours may share a cell.
//
// Padding is at most half the kernel, so that no window lies outside the image. Image and windows are limited to
// kMaxPoolExtent per side; max pooling to 2^31 - 1 pixels, which a place must hold.
// What max pooling saves is the place of each maximum among the cells of its window inside the image, counted in row-major order: a byte
// where windows have at most 256 cells, a quarter of what its number among the image's pixels would take.
// Averages are summed row by row in the element type. Backward is gather-form: each input cell sums the windows that
// contain it, in a fixed order; the same bits for any thread count.

#include <algorithm>

#include "core/backend.h"
#include "core/host_device.h"
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
  bool operator==(const Pool2dOptions&) const = default;
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

struct PoolRange {
  int32_t begin, end;  // empty if end <= begin
};

// One axis of a pooling: a window of `kernel` cells every `stride`, or adaptive bins where kernel is 0. Both ends of the windows
// ascend, so the outputs that read a cell are a range. 32 bits: extents are at most kMaxPoolExtent, and a GPU has few registers.
struct PoolAxis {
  int32_t in, out, kernel = 0, stride = 1, pad = 0;
  bool count_pad = false;

  PoolAxis(int64_t cells, int64_t outputs) : in(int32_t(cells)), out(int32_t(outputs)) {}
  PoolAxis(int64_t cells, int64_t outputs, int64_t window, int64_t step, int64_t padding, bool count_padding)
      : in(int32_t(cells)), out(int32_t(outputs)), kernel(int32_t(window)), stride(int32_t(step)), pad(int32_t(padding)),
        count_pad(count_padding) {}

  // The cells of a window inside the image.
  EQ_HOST_DEVICE constexpr PoolRange cells(int32_t output) const {
    if (kernel == 0) return bin(output, in, out);
    const int32_t begin = output * stride - pad;
    return {std::max(begin, 0), std::min(begin + kernel, in)};
  }
  // What an average divides by along this axis; `range`: cells(output).
  EQ_HOST_DEVICE constexpr int32_t divisor(int32_t output, const PoolRange& range) const {
    return count_pad ? std::min(kernel, in + 2 * pad - output * stride) : range.end - range.begin;
  }
  // The outputs that read a cell. Bins: i reads c if i*in/out < c + 1 and c < (i + 1)*in/out, a bin of the opposite direction.
  EQ_HOST_DEVICE constexpr PoolRange readers(int32_t cell) const {
    return readers(cell, [this](int32_t n) { return n / stride; });
  }
  // by_stride(n): n / stride, for n >= 0.
  template <class Quotient>
  EQ_HOST_DEVICE constexpr PoolRange readers(int32_t cell, const Quotient& by_stride) const {
    if (kernel == 0) return bin(cell, out, in);
    const int32_t place = cell + pad;  // output i reads it if i*stride <= place < i*stride + kernel
    return {place < kernel ? 0 : by_stride(place - kernel) + 1, std::min(out, by_stride(place) + 1)};
  }

 private:
  EQ_HOST_DEVICE static constexpr PoolRange bin(int32_t i, int32_t in, int32_t out) {
    return {int32_t(adaptive_bin_begin(i, in, out)), int32_t(adaptive_bin_end(i, in, out))};
  }
};

inline PoolAxis pool_rows(const Tensor& x, const Tensor& y, const Pool2dOptions& o) {
  return {x.size(1), y.size(1), o.kernel_h, o.stride_h, o.pad_h, o.count_include_pad};
}
inline PoolAxis pool_columns(const Tensor& x, const Tensor& y, const Pool2dOptions& o) {
  return {x.size(2), y.size(2), o.kernel_w, o.stride_w, o.pad_w, o.count_include_pad};
}
inline PoolAxis adaptive_rows(const Tensor& x, const Tensor& y) { return PoolAxis(x.size(1), y.size(1)); }
inline PoolAxis adaptive_columns(const Tensor& x, const Tensor& y) { return PoolAxis(x.size(2), y.size(2)); }

inline DType max_pool_place_type(const Tensor& x, const Pool2dOptions& o) {
  return std::min(o.kernel_h, x.size(1)) * std::min(o.kernel_w, x.size(2)) <= 256 ? DType::kUInt8 : DType::kInt32;
}

// Calls fn.operator()<Place>() for the type of `places`; int32_t where there are none.
template <class Fn>
decltype(auto) dispatch_places(const Tensor& places, Fn&& fn) {
  return places.defined() && places.dtype() == DType::kUInt8 ? fn.template operator()<uint8_t>() : fn.template operator()<int32_t>();
}

EQ_KERNELS(
// places: max_pool_place_type(x), y's shape; undefined: not wanted.
void max_pool2d_forward(const Tensor& x, Tensor& y, Tensor& places, const Pool2dOptions& options);
void max_pool2d_backward(const Tensor& grad_y, const Tensor& places, Tensor& grad_x, const Pool2dOptions& options);
void avg_pool2d_forward(const Tensor& x, Tensor& y, const Pool2dOptions& options);
void avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x, const Pool2dOptions& options);
void adaptive_avg_pool2d_forward(const Tensor& x, Tensor& y);
void adaptive_avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x);
)
}  // namespace eq
