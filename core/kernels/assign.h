#pragma once
// What Tensor itself needs of a backend: changes in place and conversion. Elements are independent.
//
//   fill:       x[i] = value                convert:   y[i] = x[i], in y's type (any pair of types)
//   add_scaled: x[i] += scale * other[i]    scale_by:  x[i] *= factor

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

EQ_KERNELS(
void fill(Tensor& x, double value);
void convert(const Tensor& x, Tensor& y);
void add_scaled(Tensor& x, const Tensor& other, double scale);
void scale_by(Tensor& x, double factor);
)

}  // namespace eq
