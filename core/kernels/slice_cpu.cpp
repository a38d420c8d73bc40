#include "core/kernels/slice.h"

#include "core/kernels/strided_copy_cpu.h"

namespace eq::cpu {

void slice_forward(const Tensor& x, Tensor& y, int axis, int64_t begin) {
  const SliceBlocks b = slice_blocks(x, y, axis, begin);
  copy_blocks(y.raw_data(), b.part, static_cast<const char*>(x.raw_data()) + b.offset, b.whole, b.part, b.rows);
}

void slice_backward(const Tensor& grad_y, Tensor& grad_x, int axis, int64_t begin) {
  const SliceBlocks b = slice_blocks(grad_x, grad_y, axis, begin);
  char* grad = static_cast<char*>(grad_x.raw_data());
  zero_blocks(grad, b.whole, b.offset, b.rows);
  copy_blocks(grad + b.offset, b.whole, grad_y.raw_data(), b.part, b.part, b.rows);
  zero_blocks(grad + b.offset + b.part, b.whole, b.whole - b.offset - b.part, b.rows);
}

}  // namespace eq::cpu
