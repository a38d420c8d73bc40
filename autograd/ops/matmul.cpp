#include "core/kernels/matmul.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/reduce.h"

namespace eq {
namespace {

// op(a) * op(b), stacked along `batch`.
Tensor product(const Tensor& a, bool transpose_a, const Tensor& b, bool transpose_b, const Shape& batch) {
  const int64_t rows = matrix_extents(a.shape(), transpose_a).rows,
                columns = matrix_extents(b.shape(), transpose_b).columns;
  Tensor y = Tensor::empty(stacked_shape(batch, rows, columns), a.dtype(), a.device());
  EQ_RUN(a.device(), matmul(a, transpose_a, b, transpose_b, y));
  return y;
}

// All axes but the last as rows of one matrix.
Tensor as_rows(const Tensor& x) {
  const int64_t columns = x.size(-1);
  return x.alias({x.shape().product(0, x.rank() - 1), columns});
}

struct MatmulBackward final : Node {
  MatmulBackward(const Tensor& a, const Tensor& b, bool transpose_b)
      : Node("matmul"), a_(save(a)), b_(save(b)), transpose_b_(transpose_b) {}
  TensorList backward(const TensorList& grads) override {
    const Tensor &a = a_.get(), &b = b_.get(), &grad = grads[0];
    const Shape batch = batch_shape(grad.shape());
    TensorList result(2);
    if (needs(0)) result[0] = sum_to(product(grad, false, b, !transpose_b_, batch), a.shape());
    if (needs(1)) {
      // One matrix b for the whole stack of a: its gradient is one product over all rows.
      const bool one_matrix = batch_shape(b.shape()).numel() == 1 && batch_shape(a.shape()).numel() == batch.numel();
      const Tensor left = one_matrix ? as_rows(a) : a, right = one_matrix ? as_rows(grad) : grad;
      const Shape stack = one_matrix ? Shape() : batch;
      const Tensor grad_b = transpose_b_ ? product(right, true, left, false, stack) : product(left, true, right, false, stack);
      result[1] = one_matrix ? grad_b.alias(b.shape()) : sum_to(grad_b, b.shape());
    }
    return result;
  }
  SavedTensor &a_, &b_;
  bool transpose_b_;
};

struct LinearBackward final : Node {
  LinearBackward(const Tensor& x, const Tensor& weight) : Node("linear"), x_(save(x)), weight_(save(weight)) {}
  TensorList backward(const TensorList& grads) override {
    const Tensor &x = x_.get(), &weight = weight_.get();
    const Tensor grad = as_rows(grads[0]);
    TensorList result(3);
    if (needs(0)) {
      result[0] = Tensor::empty(x.shape(), x.dtype(), x.device());
      EQ_RUN(x.device(), linear_backward_input(grad, weight, result[0]));
    }
    if (needs(1)) {
      result[1] = Tensor::empty(weight.shape(), weight.dtype(), x.device());
      EQ_RUN(x.device(), linear_backward_weight(grad, x, result[1]));
    }
    if (needs(2)) result[2] = sum_to(grad, {weight.size(0)});
    return result;
  }
  SavedTensor &x_, &weight_;
};

// The axes before the matrices of the product.
Shape stacks_of(const Tensor& a, const Tensor& b) {
  try {
    return broadcast_shapes(batch_shape(a.shape()), batch_shape(b.shape()), "matmul");
  } catch (const ShapeError&) {  // names those axes alone
    throw ShapeError("the axes before the matrices of " + to_string(a.shape()) + " and " + to_string(b.shape()) + " do not broadcast",
                     "matmul", "these must be equal or 1, counted from the last one");
  }
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_b) {
  check::floating("matmul", {"b", b});
  check::alike("matmul", {{"a", a}, {"b", b}});
  check::rank_at_least("matmul", {"a", a}, 2);
  check::rank_at_least("matmul", {"b", b}, 2);
  check::that(a.size(-1) == b.size(transpose_b ? -1 : -2), "matmul",
              to_string(a.shape()) + " and " + to_string(b.shape()) + (transpose_b ? " transposed" : "") + " do not fit together",
              transpose_b ? "the last extents must be equal" : "the last extent of a must be the last but one of b");
  if (transpose_b && tracing()) return matmul(a, transpose(b, -1, -2));
  const Shape batch = stacks_of(a, b);
  Tensor y = product(a, false, b, transpose_b, batch);
  trace("matmul", y, {a, b});
  record<MatmulBackward>(y, {a, b}, a, b, transpose_b);
  return y;
}

Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias, WeightCache* cache) {
  check::floating("linear", {"weight", weight});
  check::alike("linear", {{"x", x}, {"weight", weight}, {"bias", bias}});
  check::rank_at_least("linear", {"x", x}, 1);
  check::rank("linear", {"weight", weight}, 2);
  check::that(x.size(-1) == weight.size(1), "linear",
              "x is " + to_string(x.shape()) + ", but weight is [O, I] = " + to_string(weight.shape()),
              "the last extent of x must be the weight's I");
  if (bias.defined()) check::shape("linear", {"bias", bias}, {weight.size(0)});
  Shape shape = x.shape();
  shape.set(x.rank() - 1, weight.size(0));
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  EQ_RUN(x.device(), linear(x, weight, bias, cache, y));
  trace("linear", y, {x, weight, bias});
  record<LinearBackward>(y, {x, weight, bias}, x, weight);
  return y;
}

}  // namespace eq
