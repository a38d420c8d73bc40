#include "core/kernels/dropout.h"

#include <fmt/format.h>

#include "autograd/checks.h"
#include "autograd/functional.h"
#include "autograd/node.h"

namespace eq {
namespace {

// The map, and its own adjoint. `channels`: whole channels of an image together.
void apply_mask(bool channels, const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y) {
  if (channels) {
    EQ_RUN(x.device(), channel_dropout(x, p, seed, stream, y));
  } else {
    EQ_RUN(x.device(), dropout(x, p, seed, stream, y));
  }
}

struct DropoutBackward final : Node {
  DropoutBackward(const char* name, bool channels, double p, uint64_t seed, uint64_t stream)
      : Node(name), channels_(channels), p_(p), seed_(seed), stream_(stream) {}

  TensorList backward(const TensorList& grads) override {
    Tensor grad_x = Tensor::empty_like(grads[0]);
    apply_mask(channels_, grads[0], p_, seed_, stream_, grad_x);
    return {grad_x};
  }

  bool channels_;
  double p_;
  uint64_t seed_, stream_;
};

Tensor dropout_of(const Tensor& x, double p, uint64_t seed, uint64_t stream, const char* op, bool channels) {
  check::floating(op, {"x", x});
  if (!(p >= 0 && p < 1)) {
    throw UsageError(fmt::format("{}: the probability of a zero must be at least 0 and below 1, not {:g}", op, p), op,
                     "0.1 to 0.5 is usual; 0 turns it off");
  }
  if (p == 0) return x;
  Tensor y = Tensor::empty_like(x);
  apply_mask(channels, x, p, seed, stream, y);
  record<DropoutBackward>(y, {x}, op, channels, p, seed, stream);
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  return dropout_of(x, p, seed, stream, "dropout", false);
}

Tensor channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream) {
  check::floating("channel_dropout", {"x", x});
  check::rank_at_least("channel_dropout", {"x", x}, 2);
  return dropout_of(x, p, seed, stream, "channel_dropout", true);
}

}  // namespace eq
