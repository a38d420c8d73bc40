#pragma once
// The updates of the optimizers, one element at a time; both backends use these formulas.
//
//   SGD:   g += decay * p; b = momentum * b + g; p -= lr * (nesterov ? g + momentum * b : b)    (PyTorch's; b starts at 0)
//   AdamW: p *= keep; m, v = running means of g and g^2; p -= rate * m / (sqrt(v) * root + eps)    (Loshchilov and Hutter 2019)
//          keep = 1 - lr * decay, rate = lr / (1 - beta1^t), root = 1 / sqrt(1 - beta2^t)
// The gradient is multiplied by `scale` first (clipping).
//
// A parameter with units is stepped as if it were unit * p: see OptimizerParameter::unit.
//
// The CPU runs over pieces of all parameters at once (training/optimizer.cpp); a GPU takes each parameter in one kernel.

#include <cmath>

#include "core/host_device.h"
#include "core/tensor.h"

namespace eq {

template <class T>
struct SgdUpdate {
  T lr, decay, scale, momentum;
  bool nesterov;

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

  EQ_HOST_DEVICE void operator()(T& value, T grad, T& mean, T& square) const {
    const T g = grad * scale;
    mean += (g - mean) * new1;
    square = square * beta2 + new2 * g * g;
    value = value * keep - rate * mean / (std::sqrt(square) * root + eps);
  }
};

namespace cuda {
// One parameter; float32 and float64. `momentum` undefined: none. unit [I * groups] or undefined, with value [O,kh,kw,I] then.
template <class T>
void sgd_step(const SgdUpdate<T>& update, const Tensor& grad, const Tensor& unit, int64_t groups, const Tensor& value, const Tensor& momentum);
template <class T>
void adamw_step(const AdamWUpdate<T>& update, const Tensor& grad, const Tensor& unit, int64_t groups, const Tensor& value, const Tensor& mean,
                const Tensor& square);
// sums[index] = sum of (x / unit)^2; sums: float64. In double over fixed chunks in order.
void sum_of_squares(const Tensor& x, const Tensor& unit, int64_t groups, const Tensor& sums, int64_t index);
}  // namespace cuda
}  // namespace eq
