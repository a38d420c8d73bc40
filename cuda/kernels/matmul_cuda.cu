// Products by cuda/gemm.h. A broadcast batch is one strided call along its longest axis, repeated along the others; where
// all matrices of a meet one b they are a single tall matrix.

#include "core/kernels/matmul.h"

#include "core/kernels/elementwise.h"
#include "cuda/gemm.h"

namespace eq::cuda {

void matmul(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, Tensor& y) {
  const MatrixExtents left = matrix_extents(a.shape(), transpose_a), right = matrix_extents(b.shape(), transpose_b);
  const Shape batch = batch_shape(y.shape());
  Gemm product{
      .m = left.rows, .n = right.columns, .k = left.columns, .transpose_a = transpose_a, .transpose_b = transpose_b};
  if (y.numel() == 0) return;
  if (batch_shape(b.shape()).numel() == 1 && !transpose_a && batch_shape(a.shape()).numel() == batch.numel()) {
    product.m *= batch.numel();
    gemm(product, a, b, y);
    return;
  }
  const BroadcastPlan plan = plan_broadcast(batch_shape(a.shape()), batch_shape(b.shape()), batch);
  int longest = 0;
  for (int axis = 1; axis < plan.rank; ++axis) {
    if (plan.extent[axis] > plan.extent[longest]) longest = axis;
  }
  const int64_t size_a = product.m * product.k, size_b = product.k * product.n, size_y = product.m * product.n;
  int64_t stride_y[kMaxRank], step = 1;
  for (int axis = plan.rank - 1; axis >= 0; --axis) stride_y[axis] = step * size_y, step *= plan.extent[axis];
  product.batch = plan.extent[longest];
  product.stride_a = plan.stride_a[longest] * size_a;
  product.stride_b = plan.stride_b[longest] * size_b;
  product.stride_c = stride_y[longest];
  for (int64_t i = 0; i < batch.numel() / product.batch; ++i) {
    int64_t rest = i;
    product.offset_a = product.offset_b = product.offset_c = 0;
    for (int axis = plan.rank - 1; axis >= 0; --axis) {
      if (axis == longest) continue;
      const int64_t index = rest % plan.extent[axis];
      rest /= plan.extent[axis];
      product.offset_a += index * plan.stride_a[axis] * size_a;
      product.offset_b += index * plan.stride_b[axis] * size_b;
      product.offset_c += index * stride_y[axis];
    }
    gemm(product, a, b, y);
  }
}

void linear(const Tensor& x, const Tensor& weight, const Tensor& bias, WeightCache*, Tensor& y) {
  const int64_t in = weight.size(1), out = weight.size(0);
  if (y.numel() == 0) return;
  gemm({.m = y.numel() / out, .n = out, .k = in, .transpose_b = true, .bias = bias}, x, weight, y);
}

void linear_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x) {
  if (grad_x.numel() == 0) return;
  gemm({.m = grad_x.numel() / weight.size(1), .n = weight.size(1), .k = weight.size(0)}, grad_y, weight, grad_x);
}

void linear_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight) {
  if (grad_weight.numel() == 0) return;
  const int64_t in = grad_weight.size(1);
  gemm({.m = grad_weight.size(0), .n = in, .k = x.numel() / in, .transpose_a = true}, grad_y, x, grad_weight);
}

}  // namespace eq::cuda
