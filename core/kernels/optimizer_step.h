#pragma once
// The updates of the optimizers and of averaged weights, one element at a time; both backends use these formulas.
//
//   SGD:   g += decay * p; b = momentum * b + g; p -= lr * (nesterov ? g + momentum * b : b)    (PyTorch's; b starts at 0)
//   AdamW: p *= keep; m, v = running means of g and g^2; p -= rate * m / (sqrt(v) * root + eps)    (Loshchilov and Hutter 2019)
//          keep = 1 - lr * decay, rate = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t)
// The gradient is multiplied by `scale` first (clipping).
//   Average: a = decay * a + rest * p
//
// A parameter with units is stepped as if it were unit * p: see OptimizerParameter::unit.
//
// Both backends run over pieces of all parameters at once: a network has hundreds, most of them small.

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/backend.h"
#include "core/host_device.h"
#include "core/tensor.h"

namespace eq {

template <class T>
struct SgdUpdate {
  T lr, decay, scale, momentum;
  bool nesterov;

  template <class U>
  SgdUpdate<U> as() const { return {U(lr), U(decay), U(scale), U(momentum), nesterov}; }

  EQ_HOST_DEVICE void operator()(T& value, T grad) const { value -= lr * (grad * scale + decay * value); }
  EQ_HOST_DEVICE void operator()(T& value, T grad, T& buffer) const {
    const T g = grad * scale + decay * value;
    buffer = momentum * buffer + g;
    value -= lr * (nesterov ? g + momentum * buffer : buffer);
  }
};

template <class T>
struct AdamWUpdate {
  T keep, rate, scale, root, eps, new1, beta2, new2;

  template <class U>
  AdamWUpdate<U> as() const { return {U(keep), U(rate), U(scale), U(root), U(eps), U(new1), U(beta2), U(new2)}; }

  EQ_HOST_DEVICE void operator()(T& value, T grad, T& mean, T& square) const {
    const T g = grad * scale;
    mean += (g - mean) * new1;
    square = square * beta2 + new2 * g * g;
    const T step = rate * mean / (std::sqrt(square) * root + eps);
#ifdef __CUDA_ARCH__
    value = std::fma(value, keep, -step);  // whether the two are fused would depend on what stands around them
#else
    value = value * keep - step;
#endif
  }
};

template <class T>
struct AverageUpdate {
  T decay, rest;

  template <class U>
  AverageUpdate<U> as() const { return {U(decay), U(rest)}; }

  EQ_HOST_DEVICE void operator()(T& average, T value) const {
#if defined(__CUDA_ARCH__) || (defined(__FP_FAST_FMA) && defined(__FP_FAST_FMAF))
    average = std::fma(rest, value, decay * average);  // which of the products is rounded would depend on the compiler
#else
    average = decay * average + rest * value;
#endif
  }
};

// A parameter and what belongs to it, all of one type, float32 or float64, on one device.
struct SteppedParameter {
  Tensor value, grad;
  Tensor unit;  // [I * groups], of a value [O,kh,kw,I]; or undefined
  int64_t groups = 1;
  Tensor state[2];  // SGD: the momentum, undefined for none. AdamW: the means of g and of g^2
};

// Calls body(first, count, unit) over elements [begin, end) of a weight [O,kh,kw,I/groups] with a value for each input channel: unit[k]
// belongs to element first + k.
template <class T, class Body>
void for_units(const Shape& shape, int64_t groups, const T* unit, int64_t begin, int64_t end, Body body) {
  const int64_t row = shape[3], outputs = row * shape[1] * shape[2], per_group = shape[0] / groups;
  for (int64_t first = begin; first < end;) {
    const int64_t channel = first / outputs / per_group * row + first % row, count = std::min(end - first, row - first % row);
    body(first, count, unit + channel);
    first += count;
  }
}

EQ_KERNELS(
// updates[i] is that of parameters[i]: they differ by the parameters' multipliers.
void sgd_step(const std::vector<SgdUpdate<double>>& updates, const std::vector<SteppedParameter>& parameters);
void adamw_step(const std::vector<AdamWUpdate<double>>& updates, const std::vector<SteppedParameter>& parameters);
// The value of each is an average, its gradient what is averaged; it has neither unit nor state.
void average_step(const AverageUpdate<double>& update, const std::vector<SteppedParameter>& averages);
// sums[i] = sum of (grad / unit)^2 of parameters[i]; sums: float64, on the device of all. In double over fixed chunks in order.
void sums_of_squares(const std::vector<SteppedParameter>& parameters, const Tensor& sums);
)
}  // namespace eq
