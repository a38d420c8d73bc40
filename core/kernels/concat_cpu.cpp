#include "core/kernels/concat.h"

#include "core/kernels/strided_copy_cpu.h"

namespace eq::cpu {

void concat_forward(const std::vector<Tensor>& inputs, Tensor& y, int axis) {
  const int64_t rows = y.shape().product(0, axis);
  const int64_t cell = y.shape().product(axis + 1, y.rank()) * int64_t(size_of(y.dtype()));
  char* out = static_cast<char*>(y.raw_data());
  for (const Tensor& input : inputs) {
    const int64_t width = input.size(axis) * cell;
    copy_blocks(out, y.size(axis) * cell, input.raw_data(), width, width, rows);
    out += width;
  }
}

}  // namespace eq::cpu
