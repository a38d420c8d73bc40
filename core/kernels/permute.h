#pragma once
// Moving elements: permutation of axes and repetition along broadcast axes. Any element type.
//
//   permute: y[i_0, ..., i_r-1] = x[j] with j[axes[k]] = i_k;  the adjoint is the inverse permutation of grad_y
//   expand:  y[i] = x[i where x has more than one element, else 0];  the adjoint is sum_to of reduce.h
//
// Exact; every task owns its outputs.

#include <vector>

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

// The shape of the result. `axes` must be a permutation of 0 .. rank - 1.
inline Shape permuted_shape(const Shape& shape, const std::vector<int>& axes) {
  Shape result = shape;
  for (size_t k = 0; k < axes.size(); ++k) result.set(int(k), shape[axes[k]]);
  return result;
}

inline std::vector<int> inverse_permutation(const std::vector<int>& axes) {
  std::vector<int> inverse(axes.size());
  for (size_t k = 0; k < axes.size(); ++k) inverse[axes[k]] = int(k);
  return inverse;
}

EQ_KERNELS(
void permute(const Tensor& x, const std::vector<int>& axes, Tensor& y);
void expand(const Tensor& x, Tensor& y);  // x broadcasts to y's shape
)
}  // namespace eq
