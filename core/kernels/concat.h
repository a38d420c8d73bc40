#pragma once
// concat: tensors of any type joined along one axis, in their order. split: the inverse.
//
//   concat: y[..., offset_i + k, ...] = x_i[..., k, ...],  offset_i = extent_0 + ... + extent_{i-1} along the axis
//   split:  y_i[..., k, ...] = x[..., offset_i + k, ...]
//   Each is the other's adjoint.
// All extents but the axis's are equal. A copy, bit for bit. Along axis 0 split makes views, as slice does, whose kernel it takes
// elsewhere.

#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

EQ_KERNELS(
void concat_forward(const std::vector<Tensor>& inputs, Tensor& y, int axis);
)

}  // namespace eq
