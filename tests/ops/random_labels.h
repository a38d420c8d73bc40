#pragma once
// Labels for the tests of losses.

#include "core/random.h"
#include "core/tensor.h"

namespace eq::test {

// Classes, and 255 at a share of the positions.
inline Tensor random_labels(const Shape& positions, int64_t classes, double ignored, DType dtype) {
  Tensor values = Tensor::empty(positions, DType::kInt64);
  Random random(7);
  for (int64_t i = 0; i < values.numel(); ++i) {
    values.data<int64_t>()[i] = random.bernoulli(ignored) ? 255 : random.uniform_int(0, classes);
  }
  return values.to(dtype);
}

inline Shape positions_of(const Shape& logits) { return Shape(std::span(logits.begin(), size_t(logits.rank() - 1))); }

}  // namespace eq::test
