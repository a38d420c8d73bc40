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

// The permutation with axes of one element dropped and axes that stay neighbours merged: extents of the result and the
// step through x along each.
struct PermutePlan {
  int rank = 0;
  int64_t extent[kMaxRank], step[kMaxRank];
};

inline PermutePlan plan_permutation(const Shape& x, const std::vector<int>& axes) {
  int64_t step_of[kMaxRank], size = 1;
  for (int axis = x.rank() - 1; axis >= 0; --axis) {
    step_of[axis] = size;
    size *= x[axis];
  }
  PermutePlan plan;
  for (const int axis : axes) {
    if (x[axis] == 1) continue;
    const int last = plan.rank - 1;
    if (plan.rank > 0 && plan.step[last] == step_of[axis] * x[axis]) {
      plan.extent[last] *= x[axis];
      plan.step[last] = step_of[axis];
    } else {
      plan.extent[plan.rank] = x[axis];
      plan.step[plan.rank++] = step_of[axis];
    }
  }
  return plan;
}

EQ_KERNELS(
void permute(const Tensor& x, const std::vector<int>& axes, Tensor& y);
void expand(const Tensor& x, Tensor& y);  // x broadcasts to y's shape
)
}  // namespace eq
