#pragma once
// Matrix products.
//
//   matmul: y[.., m, n] = sum_k a[.., m, k] * b[.., k, n]     the leading (batch) axes broadcast by NumPy's rule
//           grad_a = grad_y * b^T, grad_b = a^T * grad_y, each summed over the batch axes its argument was repeated
//           along; of a * b^T they are grad_y * b and grad_y^T * a
//   linear: y[m, o] = bias[o] + sum_i x[m, i] * weight[o, i]  grad_x = grad_y * weight, grad_weight = grad_y^T * x
//
// Accuracy: float32 sums of K terms, about 1e-7 * sqrt(K) of the result's rms.
// Determinism: tiles of the result, and chunks of a long K added in order, follow from the shapes alone, and so does who multiplies a tile:
// the convolutions' register tiles (matmul_tile.h) or Eigen, whose blocking follows from fixed cache sizes. Same bits for any thread count.

#include "core/backend.h"
#include "core/kernels/weight_cache.h"
#include "core/tensor.h"

namespace eq {

// The last two extents of a matrix product's operand, as they take part in it.
struct MatrixExtents {
  int64_t rows, columns;
};
inline MatrixExtents matrix_extents(const Shape& shape, bool transposed) {
  const int64_t rows = shape[shape.rank() - 2], columns = shape[shape.rank() - 1];
  return transposed ? MatrixExtents{columns, rows} : MatrixExtents{rows, columns};
}

// The leading axes: all but the last two.
inline Shape batch_shape(const Shape& shape) { return Shape(std::span(shape.begin(), shape.end() - 2)); }

// Shape of a product of matrices stacked along `batch`.
inline Shape stacked_shape(const Shape& batch, int64_t rows, int64_t columns) {
  std::vector<int64_t> extents(batch.begin(), batch.end());
  extents.insert(extents.end(), {rows, columns});
  return Shape(extents);
}

EQ_KERNELS(
// y[.., M, N] = op(a) * op(b), op(v) = v or v^T. y's batch axes are the broadcast of a's and b's; all have rank >= 2.
void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, Tensor& y);
// x [M, I], weight [O, I], bias [O] or undefined, y [M, O]; any shapes with these element counts and last axes. `cache`, if not null, keeps
// what the CPU makes of the weight.
void linear(const Tensor& x, const Tensor& weight, const Tensor& bias, WeightCache* cache, Tensor& y);
void linear_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x);
void linear_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight);
)

namespace cpu {
// Makes Eigen block its products for fixed cache sizes instead of those this machine reports: the blocking decides the
// order of sums. Any kernel that uses Eigen's products calls this first; all but the first call cost nothing.
void fix_product_blocking();
}  // namespace cpu
}  // namespace eq
