// reshape, permute, transpose and expand: nothing is computed, so any element type will do.

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/permute.h"
#include "core/kernels/reduce.h"

namespace eq {
namespace {

struct ReshapeBackward final : Node {
  explicit ReshapeBackward(const Shape& shape) : Node("reshape"), shape_(shape) {}
  TensorList backward(const TensorList& grads) override { return {grads[0].alias(shape_)}; }
  Shape shape_;
};

struct PermuteBackward final : Node {
  PermuteBackward(const Shape& shape, const std::vector<int>& axes)
      : Node("permute"), shape_(shape), inverse_(inverse_permutation(axes)) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), permute(grads[0], inverse_, grad_x));
    return {grad_x};
  }
  Shape shape_;
  std::vector<int> inverse_;
};

struct ExpandBackward final : Node {
  explicit ExpandBackward(const Shape& shape) : Node("expand"), shape_(shape) {}
  TensorList backward(const TensorList& grads) override { return {sum_to(grads[0], shape_)}; }
  Shape shape_;
};

}  // namespace

Tensor reshape(const Tensor& x, const Shape& shape) {
  check::defined("reshape", {"x", x});
  check::that(shape.numel() == x.numel(), "reshape", to_string(x.shape()) + " does not fit into " + to_string(shape),
              "the number of elements must stay the same");
  Tensor y = x.alias(shape);
  trace("reshape", y, {x});
  record<ReshapeBackward>(y, {x}, x.shape());
  return y;
}

Tensor reshape(const Tensor& x, const std::vector<int64_t>& extents) {
  check::defined("reshape", {"x", x});
  std::vector<int64_t> complete = extents;
  const auto open = std::find(complete.begin(), complete.end(), -1);
  if (open != complete.end()) {
    *open = 1;
    check::that(std::find(complete.begin(), complete.end(), -1) == complete.end(), "reshape",
                check::list(extents) + " leaves two extents open", "at most one of them may be -1");
    const int64_t rest = Shape(complete).numel();
    check::that(rest != 0 && x.numel() % rest == 0, "reshape",
                "no extent in place of -1 makes " + to_string(x.shape()) + " fit into " + check::list(extents),
                "the other extents must divide the number of elements");
    *open = x.numel() / rest;
  }
  return reshape(x, Shape(complete));
}

Tensor permute(const Tensor& x, const std::vector<int>& axes) {
  check::defined("permute", {"x", x});
  const AxisMask named = axes.empty() ? 0 : axis_mask("permute", x.shape(), axes);
  check::that(named == axis_mask("permute", x.shape(), {}) || (axes.empty() && x.rank() == 0), "permute",
              std::to_string(axes.size()) + " axes are named for " + to_string(x.shape()), "name each axis once");
  std::vector<int> order;
  for (const int axis : axes) order.push_back(x.shape().normalized(axis));
  Tensor y = Tensor::empty(permuted_shape(x.shape(), order), x.dtype(), x.device());
  EQ_RUN(x.device(), permute(x, order, y));
  trace("permute", y, {x}, order);
  record<PermuteBackward>(y, {x}, x.shape(), order);
  return y;
}

Tensor transpose(const Tensor& x, int axis_a, int axis_b) {
  check::defined("transpose", {"x", x});
  axis_mask("transpose", x.shape(), {axis_a});
  axis_mask("transpose", x.shape(), {axis_b});
  std::vector<int> axes(x.rank());
  for (int axis = 0; axis < x.rank(); ++axis) axes[axis] = axis;
  std::swap(axes[x.shape().normalized(axis_a)], axes[x.shape().normalized(axis_b)]);
  return permute(x, axes);
}

Tensor expand(const Tensor& x, const Shape& shape) {
  check::defined("expand", {"x", x});
  check::that(broadcast_shapes(x.shape(), shape, "expand") == shape, "expand",
              to_string(x.shape()) + " does not broadcast to " + to_string(shape),
              "extents must be equal, or 1 in x, counted from the last axis");
  Tensor y = Tensor::empty(shape, x.dtype(), x.device());
  EQ_RUN(x.device(), expand(x, y));
  trace("expand", y, {x});
  record<ExpandBackward>(y, {x}, x.shape());
  return y;
}

}  // namespace eq
