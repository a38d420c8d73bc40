#pragma once
// Resizing of [N, H, W, C] to [N, out_h, out_w, C], bilinear and nearest.
//
// One axis with `in` cells read by `out` positions; both axes are treated alike and the weights multiply.
//   bilinear, align_corners = false: s_j = (j + 1/2) in/out - 1/2, negative values set to 0
//             align_corners = true:  s_j = j (in - 1)/(out - 1), 0 if out = 1
//             i0 = min(floor(s_j), in - 1), i1 = min(i0 + 1, in - 1), t = s_j - i0;  y_j = (1 - t) x_i0 + t x_i1
//   nearest:  i = floor(j in/out)  (PyTorch's mode 'nearest')
//   Adjoints in gather form: each input cell sums the outputs that read it, in ascending order, rows outside columns.
//
// s_j is rational, so i0 is computed exactly in integers, and t is one double division, rounded once to the element
// type. PyTorch computes s_j in the element type: in float64 the results agree to rounding; in float32 its t carries an
// error of about 1e-7 * s_j that ours does not have, and its nearest index falls one cell short of j in/out for about
// 2 % of size pairs whose quotient is a whole number (2 -> 82, position 41: it reads cell 0, we read cell 1).
// Where t = 0 the second cell is not read (an infinity there stays there), so resizing to the same size is a copy.
//
// Nearest takes every element type (label maps); its gradient, like bilinear, float32 and float64.
// Determinism: each task owns its outputs; the same bits for any thread count.

#include <algorithm>

#include "core/backend.h"
#include "core/host_device.h"
#include "core/tensor.h"

namespace eq {

// Extents above this are refused: no picture is that large, and the index arithmetic below stays far from overflow.
inline constexpr int64_t kMaxResizeExtent = int64_t{1} << 24;

struct BilinearSource {
  int64_t lower, upper;  // equal where only one cell is read
  double upper_weight;   // in [0, 1); the lower cell has 1 - upper_weight
};

// s_j = numerator / denominator, before negative values are set to 0.
struct BilinearCoordinate {
  int64_t numerator, denominator;
};

EQ_HOST_DEVICE constexpr BilinearCoordinate bilinear_coordinate(int64_t position, int64_t in, int64_t out, bool align_corners) {
  if (!align_corners) return {(2 * position + 1) * in - out, 2 * out};
  if (out == 1) return {0, 1};
  return {position * (in - 1), out - 1};
}

EQ_HOST_DEVICE constexpr BilinearSource bilinear_source(int64_t position, int64_t in, int64_t out, bool align_corners) {
  const BilinearCoordinate s = bilinear_coordinate(position, in, out, align_corners);
  const int64_t numerator = std::max<int64_t>(s.numerator, 0);
  const int64_t lower = numerator / s.denominator, remainder = numerator % s.denominator;
  if (lower >= in - 1) return {in - 1, in - 1, 0.0};
  if (remainder == 0) return {lower, lower, 0.0};
  return {lower, lower + 1, double(remainder) / double(s.denominator)};
}

// A cell is read by the positions [bilinear_begin, bilinear_end): those with |s_j - cell| < 1, and at the borders all beyond.
// Position j reads it with the weight 1 - |s_j - cell|, where a difference towards the outside counts as 0.
EQ_HOST_DEVICE constexpr int64_t bilinear_begin(int64_t cell, int64_t in, int64_t out, bool align_corners) {
  if (cell == 0) return 0;
  if (align_corners) return out == 1 ? 1 : (cell - 1) * (out - 1) / (in - 1) + 1;
  return std::min(out, ((2 * cell - 1) * out / in + 1) / 2);  // the first with 2 j + 1 > (2 cell - 1) out/in
}
EQ_HOST_DEVICE constexpr int64_t bilinear_end(int64_t cell, int64_t in, int64_t out, bool align_corners) {
  if (cell >= in - 1) return out;
  if (align_corners) return out == 1 ? 1 : ((cell + 1) * (out - 1) + in - 2) / (in - 1);
  return std::min(out, ((2 * cell + 3) * out + in - 1) / in / 2);  // the first with 2 j + 1 >= (2 cell + 3) out/in
}

EQ_HOST_DEVICE constexpr int64_t nearest_source(int64_t position, int64_t in, int64_t out) { return position * in / out; }
// First position that reads `cell` or a later one: cell i is read by [nearest_begin(i), nearest_begin(i + 1)).
EQ_HOST_DEVICE constexpr int64_t nearest_begin(int64_t cell, int64_t in, int64_t out) { return (cell * out + in - 1) / in; }

EQ_KERNELS(
// The sizes are those of x and y (grad_x and grad_y); all must be at least 1 where there are elements.
void resize_bilinear_forward(const Tensor& x, Tensor& y, bool align_corners);
void resize_bilinear_backward(const Tensor& grad_y, Tensor& grad_x, bool align_corners);
void resize_nearest_forward(const Tensor& x, Tensor& y);
void resize_nearest_backward(const Tensor& grad_y, Tensor& grad_x);
)
}  // namespace eq
