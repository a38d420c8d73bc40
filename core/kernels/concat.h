#pragma once
// concat: tensors of any type joined along one axis, in their order.
//
//   y[..., offset_i + k, ...] = x_i[..., k, ...],  offset_i = extent_0 + ... + extent_{i-1} along the axis
//   grad_x_i = grad_y[..., offset_i + k, ...]
// All extents but the axis's are equal. A copy, bit for bit.

#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

EQ_KERNELS(
void concat_forward(const std::vector<Tensor>& inputs, Tensor& y, int axis);
)

}  // namespace eq
