#pragma once
// Matrix products through cuBLAS, on the device's stream. All matrices are row-major, without gaps between rows.
//
// Arithmetic: float32 in full precision (TF32 only after set_allow_tf32), float64, bfloat16 with sums in float32; one
// rounding when c is stored.
// Determinism: no atomics, one stream and one fixed workspace per device; cuBLAS then gives the same bits in each run on
// the same type of GPU.

#include "core/tensor.h"

namespace eq::cuda {

// c[i] = op(a[i]) * op(b[i]) + bias for i < batch; op(a) is [m, k], op(b) is [k, n], c is [m, n].
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;  // a lies in memory as [k, m]; b as [n, k]
  Tensor bias;                                    // [n] or undefined: laid down first, so that c is rounded once. Of one product, all of c
  int64_t batch = 1;
  int64_t stride_a = 0, stride_b = 0, stride_c = 0;  // elements from one matrix to the next; 0: the same one (not for c)
  int64_t offset_a = 0, offset_b = 0, offset_c = 0;  // elements before the first
};

// a and b are of one type, float32, float64 or bfloat16; c is of the same type, or float32 beside bfloat16.
void gemm(const Gemm& product, const Tensor& a, const Tensor& b, Tensor& c);

}  // namespace eq::cuda
