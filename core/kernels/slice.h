#pragma once
// slice: the cells [begin, end) along one axis.
//
//   y[..., k, ...] = x[..., begin + k, ...];  grad_x is grad_y there and 0 elsewhere.
// Any element type. Along axis 0 the operator makes a view and calls no kernel forward: in-place changes of either are seen in
// the other. Also the adjoint of concat.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

struct SliceRange {
  int axis = 0;
  int64_t begin = 0;  // as many cells as the result has
  bool operator==(const SliceRange&) const = default;
};

// A block of the whole is the run of cells along the axis, and everything inside them, at one outer position.
struct SliceBlocks {
  int64_t rows, whole, part, offset;  // a number and three amounts of bytes
};

inline SliceBlocks slice_blocks(const Tensor& whole, const Tensor& part, int axis, int64_t begin) {
  const Shape& shape = whole.shape();
  const int64_t cell = shape.product(axis + 1, shape.rank()) * int64_t(size_of(whole.dtype()));
  return {shape.product(0, axis), shape[axis] * cell, part.size(axis) * cell, begin * cell};
}

EQ_KERNELS(
// The extents along `axis` are y's: [begin, begin + y.size(axis)).
void slice_forward(const Tensor& x, Tensor& y, int axis, int64_t begin);
void slice_backward(const Tensor& grad_y, Tensor& grad_x, int axis, int64_t begin);
)

}  // namespace eq
