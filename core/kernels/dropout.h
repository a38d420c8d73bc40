#pragma once
// dropout: zeroes elements at random and scales the others so that the expectation stays.
//
//   y_i = x_i / (1 - p) if uniform_at(seed, stream, k) >= p, else 0
//     dropout:          k = i, the element's place in memory
//     channel_dropout:  k = n*C + c: whole channels of an image together
//   The map is linear: its adjoint is itself. The mask is recomputed from (seed, stream), never stored.
//
// Shapes: x [...] (dropout) or [N, ..., C] (channel_dropout); y the same. 0 <= p < 1. One pass over memory.
// A zeroed NaN is 0. uniform_at has 24 bits, so p acts as the next multiple of 2^-24.

#include "core/backend.h"
#include "core/tensor.h"

namespace eq {

EQ_KERNELS(
void dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y);
void channel_dropout(const Tensor& x, double p, uint64_t seed, uint64_t stream, Tensor& y);
)

}  // namespace eq
