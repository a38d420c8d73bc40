#include "core/kernels/slice.h"

#include "core/kernels/strided_copy_cpu.h"

namespace eq::cpu {
namespace {

// A block of the whole is the run of cells along the axis, and everything inside them, at one outer position.
struct Blocks {
  int64_t rows, whole, part, offset;  // a number and three amounts of bytes
};

Blocks blocks_of(const Tensor& whole, const Tensor& part, int axis, int64_t begin) {
  const Shape& shape = whole.shape();
  const int64_t cell = shape.product(axis + 1, shape.rank()) * int64_t(size_of(whole.dtype()));
  return {shape.product(0, axis), shape[axis] * cell, part.size(axis) * cell, begin * cell};
}

}  // namespace

void slice_forward(const Tensor& x, Tensor& y, int axis, int64_t begin) {
  const Blocks b = blocks_of(x, y, axis, begin);
  copy_blocks(y.raw_data(), b.part, static_cast<const char*>(x.raw_data()) + b.offset, b.whole, b.part, b.rows);
}

void slice_backward(const Tensor& grad_y, Tensor& grad_x, int axis, int64_t begin) {
  const Blocks b = blocks_of(grad_x, grad_y, axis, begin);
  char* grad = static_cast<char*>(grad_x.raw_data());
  zero_blocks(grad, b.whole, b.offset, b.rows);
  copy_blocks(grad + b.offset, b.whole, grad_y.raw_data(), b.part, b.part, b.rows);
  zero_blocks(grad + b.offset + b.part, b.whole, b.whole - b.offset - b.part, b.rows);
}

}  // namespace eq::cpu
