#pragma once
// A value per output channel, beside products and convolutions that cannot add it themselves.

#include "core/tensor.h"

namespace eq::cuda {

// y[.., o] = bias[o]: laid down first, for a product that accumulates onto it and rounds once.
void write_bias(const Tensor& bias, Tensor& y);
// y[.., o] += bias[o].
void add_bias(const Tensor& bias, Tensor& y);

}  // namespace eq::cuda
