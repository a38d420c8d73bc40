#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

struct CastBackward final : Node {
  explicit CastBackward(DType dtype) : Node("cast"), dtype_(dtype) {}
  TensorList backward(const TensorList& grads) override { return {grads[0].to(dtype_)}; }
  DType dtype_;
};

}  // namespace

Tensor cast(const Tensor& x, DType dtype) {
  check::floating("cast", {"x", x});
  if (!is_floating(dtype)) {
    throw DTypeError(std::string("cast: ") + name_of(dtype) + " is not a floating type", "cast",
                     "x.to(DType) converts to any type, without a gradient");
  }
  if (x.dtype() == dtype) return x;
  const Tensor y = x.to(dtype);
  trace("cast", y, {x});
  record<CastBackward>(y, {x}, x.dtype());
  return y;
}

}  // namespace eq
