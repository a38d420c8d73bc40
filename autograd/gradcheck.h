#pragma once
// Numerical proof of a gradient: central differences in float64 against backward().

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace eq {

struct GradcheckOptions {
  double step = 1e-5;        // central difference (f(x + step) - f(x - step)) / (2 step)
  double tolerance = 1e-6;   // of |analytic - numeric| / max(1, |numeric|, largest |numeric| of that input)
  int64_t max_elements = 256;  // per input, 1 or more; beyond it, that many are drawn by a fixed pseudo-random choice
  uint64_t seed = 1;         // of the random output weights and of the draw
};

struct GradcheckResult {
  bool ok = true;
  double worst = 0;      // largest scaled difference seen
  std::string message;   // which input and element differs, both values; empty when ok
};

// Checks d(sum of w * fn(inputs))/d(input) for random weights w and every input that requires a gradient.
// Inputs must be leaves (else AutogradError), they and the result float64 (else DTypeError); fn must be deterministic and may return any
// shape. A node that changes the gradients it gets is an AutogradError. In the end the inputs have the gradients of before; leaves that fn
// reads beside them are added to, as by any backward(). To check a layer's parameters, too, make it under InitRandom(seed, DType::kFloat64),
// put parameters() among the inputs, and let fn apply the layer: it reads them itself.
GradcheckResult gradcheck(const std::function<Tensor(const std::vector<Tensor>&)>& fn, std::vector<Tensor> inputs,
                          const GradcheckOptions& options = {});

}  // namespace eq
