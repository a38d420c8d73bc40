#include "core/kernels/dropout.h"

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

using Kernel = void (*)(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y);

struct DropoutBackward final : Node {
  DropoutBackward(const char* name, Kernel kernel, double p, uint64_t seed, uint64_t stream)
      : Node(name), kernel_(kernel), p_(p), seed_(seed), stream_(stream) {}

  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty_like(grads[0]);
    kernel_(grads[0], p_, seed_, stream_, grad_x);
    return {grad_x};
  }

  Kernel kernel_;
  double p_;
  uint64_t seed_, stream_;
};

Tensor dropout_of(const Tensor& x, double p, uint64_t seed, uint64_t stream, const char* op, Kernel kernel) {
  check::floating(op, {"x", x});
  if (!(p >= 0 && p < 1)) {
    throw UsageError(std::string(op) + ": the probability of a zero must be at least 0 and below 1, not " + std::to_string(p), op,
                     "0.1 to 0.5 is usual; 0 turns it off");
  }
  if (p == 0) return x;
  Tensor y = Tensor::empty_like(x);
  kernel(x, p, seed, stream, y);
  record<DropoutBackward>(y, {x}, op, kernel, p, seed, stream);
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  return dropout_of(x, p, seed, stream, "dropout", cpu::dropout);
}

Tensor channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  check::floating("channel_dropout", {"x", x});
  check::rank_at_least("channel_dropout", {"x", x}, 2);
  return dropout_of(x, p, seed, stream, "channel_dropout", cpu::channel_dropout);
}

}  // namespace eq
