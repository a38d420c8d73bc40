#pragma once
// pad2d: borders of a constant around [N, H, W, C]; negative amounts crop.
//
//   y[n,p,q,c] = x[n, p - top, q - left, c] inside the image, else value;  p < H + top + bottom, q < W + left + right
//   The adjoint is pad2d with every amount negated and the value 0.
// float32 and float64.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct Padding {
  int64_t top = 0, bottom = 0, left = 0, right = 0;
  double value = 0;
  bool operator==(const Padding&) const = default;
};

EQ_KERNELS(
// The bottom and right amounts follow from the shapes.
void pad2d_forward(const Tensor& x, Tensor& y, int64_t top, int64_t left, double value);
)

}  // namespace eq
