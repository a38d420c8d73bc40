// Forward is a copy of blocks (cuda/bytes.h); backward writes the whole gradient once, zeros included.

#include "core/kernels/slice.h"

#include "cuda/bytes.h"
#include "cuda/divide.h"
#include "cuda/launch.h"

namespace eq::cuda {
namespace {

// Amounts in units. A zero unit is 0 in every element type.
template <class Unit>
struct PlaceBlocks {
  Unit* whole;
  const Unit* part;
  Divider whole_width;
  int64_t part_width, offset;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    int64_t row = i;
    const int64_t column = whole_width.split(row) - offset;
    whole[i] = column >= 0 && column < part_width ? part[row * part_width + column] : Unit{};
  }
};

}  // namespace

void slice_forward(const Tensor& x, Tensor& y, int axis, int64_t begin) {
  const SliceBlocks b = slice_blocks(x, y, axis, begin);
  copy_blocks(x.device(), "slice", y.raw_data(), b.part, static_cast<const char*>(x.raw_data()) + b.offset, b.whole, b.part,
              b.rows);
}

void slice_backward(const Tensor& grad_y, Tensor& grad_x, int axis, int64_t begin) {
  const SliceBlocks b = slice_blocks(grad_x, grad_y, axis, begin);
  if (b.rows == 0 || b.whole == 0) return;
  void* whole = grad_x.raw_data();
  const void* part = grad_y.raw_data();
  const uint64_t amounts =
      uint64_t(b.whole | b.part | b.offset) | reinterpret_cast<uintptr_t>(whole) | reinterpret_cast<uintptr_t>(part);
  with_unit(amounts, [&]<typename Unit>() {
    constexpr int64_t kUnit = sizeof(Unit);
    for_each(grad_x.device(), "slice backward", b.rows * (b.whole / kUnit),
             PlaceBlocks<Unit>{static_cast<Unit*>(whole), static_cast<const Unit*>(part), Divider(b.whole / kUnit),
                               b.part / kUnit, b.offset / kUnit});
  });
}

}  // namespace eq::cuda
