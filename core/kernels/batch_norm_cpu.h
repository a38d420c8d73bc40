#pragma once
// What the kernels that apply a batch norm share.

#include <vector>

#include "core/kernels/batch_norm.h"

namespace eq::cpu {

// gamma * inv_std and beta, with the defaults of undefined ones filled in.
template <class T>
struct NormCoefficients {
  std::vector<T> scale, shift;
  NormCoefficients(const Tensor& gamma, const Tensor& beta, const Tensor& inv_std) : scale(inv_std.to_vector<T>()), shift(scale.size()) {
    for (size_t c = 0; c < scale.size(); ++c) {
      if (gamma.defined()) scale[c] *= gamma.data<T>()[c];
      if (beta.defined()) shift[c] = beta.data<T>()[c];
    }
  }
};

}  // namespace eq::cpu
