// Blocks of bytes between arrays of different pitch, in the widest units that widths and addresses allow. A launch per
// input.

#include "core/kernels/concat.h"

#include "core/cuda_device.h"
#include "cuda/bytes.h"
#include "cuda/divide.h"
#include "cuda/launch.h"

namespace eq::cuda {
namespace {

// Amounts in units.
template <class Unit>
struct CopyBlocks {
  Unit* to;
  const Unit* from;
  int64_t to_pitch, from_pitch;
  Divider width;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    int64_t row = i;
    const int64_t column = width.split(row);
    to[row * to_pitch + column] = from[row * from_pitch + column];
  }
};

}  // namespace

void copy_blocks(Device device, const char* name, void* to, int64_t to_pitch, const void* from, int64_t from_pitch,
                 int64_t width, int64_t rows) {
  if (width == 0 || rows == 0) return;
  if (rows == 1 || (to_pitch == width && from_pitch == width))
    return copy_on_device(to, from, size_t(width * rows), device.index);
  const uint64_t amounts =
      uint64_t(to_pitch | from_pitch | width) | reinterpret_cast<uintptr_t>(to) | reinterpret_cast<uintptr_t>(from);
  with_unit(amounts, [&]<typename Unit>() {
    constexpr int64_t kUnit = sizeof(Unit);
    for_each(device, name, rows * (width / kUnit),
             CopyBlocks<Unit>{static_cast<Unit*>(to), static_cast<const Unit*>(from), to_pitch / kUnit, from_pitch / kUnit,
                              Divider(width / kUnit)});
  });
}

void concat_forward(const std::vector<Tensor>& inputs, Tensor& y, int axis) {
  const int64_t rows = y.shape().product(0, axis);
  const int64_t cell = y.shape().product(axis + 1, y.rank()) * int64_t(size_of(y.dtype()));
  char* out = static_cast<char*>(y.raw_data());
  for (const Tensor& input : inputs) {
    const int64_t width = input.size(axis) * cell;
    copy_blocks(y.device(), "concat", out, y.size(axis) * cell, input.raw_data(), width, width, rows);
    out += width;
  }
}

}  // namespace eq::cuda
