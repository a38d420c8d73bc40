#pragma once
// Moving values needs their size only: fewer kernels than element types.

#include "core/device.h"
#include "core/dtype.h"
#include "cuda/pack.h"

namespace eq::cuda {

// Calls fn.template operator()<E>() with E an unsigned integer of the element's size.
template <class Fn>
decltype(auto) with_element_of(DType dtype, Fn&& fn) {
  switch (size_of(dtype)) {
    case 8:
      return fn.template operator()<uint64_t>();
    case 4:
      return fn.template operator()<uint32_t>();
    case 2:
      return fn.template operator()<uint16_t>();
    default:
      return fn.template operator()<uint8_t>();
  }
}

// Calls fn.template operator()<Unit>() with the widest type, of 1 to 16 bytes, that divides all of `amounts`: widths,
// pitches and addresses in bytes, or-ed together.
template <class Fn>
decltype(auto) with_unit(uint64_t amounts, Fn&& fn) {
  if (amounts % 16 == 0) return fn.template operator()<Pack<uint32_t, 4>>();
  if (amounts % 8 == 0) return fn.template operator()<uint64_t>();
  if (amounts % 4 == 0) return fn.template operator()<uint32_t>();
  if (amounts % 2 == 0) return fn.template operator()<uint16_t>();
  return fn.template operator()<uint8_t>();
}

// Copies `rows` blocks of `width` bytes; consecutive blocks lie `to_pitch` and `from_pitch` bytes apart.
void copy_blocks(Device device, const char* name, void* to, int64_t to_pitch, const void* from, int64_t from_pitch,
                 int64_t width, int64_t rows);

}  // namespace eq::cuda
