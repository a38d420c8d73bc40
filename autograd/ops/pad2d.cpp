#include "core/kernels/pad2d.h"

#include <string>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

constexpr const char* kPad2d = "pad2d";
constexpr int64_t kMaxAmount = int64_t{1} << 31;  // keeps sums of amounts and extents far from overflow

struct Pad2dBackward final : Node {
  Pad2dBackward(const Shape& shape, int64_t top, int64_t left) : Node(kPad2d), shape_(shape), top_(top), left_(left) {}
  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty(shape_, grads[0].dtype(), grads[0].device());
    EQ_RUN(grads[0].device(), pad2d_forward(grads[0], grad_x, -top_, -left_, 0));
    return {grad_x};
  }
  Shape shape_;
  int64_t top_, left_;
};

}  // namespace

Tensor pad2d(const Tensor& x, int64_t top, int64_t bottom, int64_t left, int64_t right, double value) {
  check::floating(kPad2d, {"x", x});
  check::rank(kPad2d, {"x", x}, 4);
  bool fits = x.size(1) <= kMaxAmount && x.size(2) <= kMaxAmount;
  for (int64_t amount : {top, bottom, left, right}) fits = fits && amount >= -kMaxAmount && amount <= kMaxAmount;
  const int64_t out_h = fits ? x.size(1) + top + bottom : 0, out_w = fits ? x.size(2) + left + right : 0;
  if (out_h < 1 || out_w < 1) {
    throw ShapeError("pad2d: top " + std::to_string(top) + ", bottom " + std::to_string(bottom) + ", left " + std::to_string(left) +
                         ", right " + std::to_string(right) + " leave no image of " + describe(x),
                     kPad2d, "crop less: at least one row and one column must remain, and amounts are at most 2^31");
  }
  Tensor y = Tensor::empty({x.size(0), out_h, out_w, x.size(3)}, x.dtype(), x.device());
  EQ_RUN(x.device(), pad2d_forward(x, y, top, left, value));
  trace(kPad2d, y, {x}, Padding{top, bottom, left, right, value});
  record<Pad2dBackward>(y, {x}, x.shape(), top, left);
  return y;
}

}  // namespace eq
