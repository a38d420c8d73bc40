#pragma once
// Reductions over a set of axes.
//
//   sum:      y[o] = factor * sum_r x[o, r]
//             grad_x[o, r] = factor * grad_y[o]
//   variance: y[o] = sum_r (x[o, r] - mean[o])^2 / divisor
//             grad_x[o, r] = 2 / divisor * (x[o, r] - mean[o]) * grad_y[o]
//   max:      y[o] = the largest x[o, r] along one axis, index[o] its first place; a NaN wins
//             grad_x[o, r] = grad_y[o] if r == index[o], else 0
// o runs over the kept axes, r over the reduced ones. The variance is the two-pass form (Chan, Golub, LeVeque 1983), so
// a large mean costs no digits.
//
// Accuracy: float32 is summed in double and rounded once: 6e-8 of the result, and 1e-12 of what its terms' sizes add up to (they may
// cancel). Determinism: partial sums of fixed chunks, added in order. A sum over several runs of axes is one of sums, the last run's first.

#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

using AxisMask = uint32_t;  // bit k: axis k is reduced

struct Reduction {
  AxisMask axes = 0;
  bool keepdim = false;
  double divisor = 1;  // of a variance
  bool operator==(const Reduction&) const = default;
};

// `axes` as a mask, all when empty; negative axes count from the end. Throws ShapeError naming `op` for an axis that
// does not exist or is named twice.
inline AxisMask axis_mask(const char* op, const Shape& shape, const std::vector<int>& axes) {
  if (axes.empty()) return (AxisMask{1} << shape.rank()) - 1;
  AxisMask mask = 0;
  for (const int axis : axes) {
    const int wrapped = axis < 0 ? axis + shape.rank() : axis;
    if (wrapped < 0 || wrapped >= shape.rank() || (mask >> wrapped & 1) != 0) {
      throw ShapeError(std::string(op) + ": axis " + std::to_string(axis) + " of " + to_string(shape) +
                           (wrapped < 0 || wrapped >= shape.rank() ? " does not exist" : " is named twice"),
                       op,
                       "axes run from " + std::to_string(-shape.rank()) + " to " + std::to_string(shape.rank() - 1));
    }
    mask |= AxisMask{1} << wrapped;
  }
  return mask;
}

inline Shape reduced_shape(const Shape& shape, AxisMask mask, bool keepdim) {
  std::vector<int64_t> extents;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    const bool reduced = (mask >> axis & 1) != 0;
    if (!reduced || keepdim) extents.push_back(reduced ? 1 : shape[axis]);
  }
  return Shape(extents);
}

inline int64_t reduced_count(const Shape& shape, AxisMask mask) {
  int64_t count = 1;
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if ((mask >> axis & 1) != 0) count *= shape[axis];
  }
  return count;
}

// The axes along which a tensor of shape `target` is repeated when it broadcasts to `shape`.
inline AxisMask broadcast_axes(const Shape& target, const Shape& shape) {
  AxisMask mask = 0;
  const int missing = shape.rank() - target.rank();
  for (int axis = 0; axis < shape.rank(); ++axis) {
    if (axis < missing || (target[axis - missing] == 1 && shape[axis] != 1)) mask |= AxisMask{1} << axis;
  }
  return mask;
}

EQ_KERNELS(
// Outputs have the reduced shape, with or without the axes of one element.
void sum(const Tensor& x, AxisMask axes, double factor, Tensor& y);
void variance(const Tensor& x, AxisMask axes, double divisor, Tensor& y, Tensor& mean);  // mean: float64
void variance_backward(const Tensor& grad_y, const Tensor& x, AxisMask axes, const Tensor& mean, double divisor,
                       Tensor& grad_x);
void max(const Tensor& x, int axis, Tensor& y, Tensor& index);  // y may be undefined; index: int64
void max_backward(const Tensor& grad_y, const Tensor& index, int axis, Tensor& grad_x);
)

// x itself, or its sum over the axes along which a tensor of shape `target` was repeated: the adjoint of broadcasting.
inline Tensor sum_to(const Tensor& x, const Shape& target) {
  if (x.shape() == target) return x;
  Tensor result = Tensor::empty(target, x.dtype(), x.device());
  EQ_RUN(x.device(), sum(x, broadcast_axes(target, x.shape()), 1, result));
  return result;
}
}  // namespace eq
