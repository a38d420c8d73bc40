#pragma once
// The convolutions' register tiles (conv2d_tile.h) as a matrix product, for tiles of matmul that have rows enough to repay rearranging b.

#include <cstdint>

namespace eq::cpu {

// One operand: row-major memory with rows `stride` apart, read as it is or transposed.
template <class T>
struct MatrixView {
  const T* data;
  int64_t stride;
  bool transposed;
};

// c (+)= op(a) op(b), [m, k] times [k, n]; c's rows are `c_stride` apart. Each sum goes over k in order.
template <class T>
void tile_product(const MatrixView<T>& a, const MatrixView<T>& b, T* c, int64_t c_stride, int64_t m, int64_t n, int64_t k, bool accumulate);

}  // namespace eq::cpu
