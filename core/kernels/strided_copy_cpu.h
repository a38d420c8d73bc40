#pragma once
// Copying blocks of bytes between arrays of different pitch: what concat, slice and their adjoints are made of.

#include <algorithm>
#include <cstring>

#include "core/parallel.h"

namespace eq::cpu {

// Copies `rows` blocks of `width` bytes; consecutive blocks lie `to_pitch` and `from_pitch` bytes apart.
inline void copy_blocks(void* to, int64_t to_pitch, const void* from, int64_t from_pitch, int64_t width, int64_t rows) {
  if (width == 0 || rows == 0) return;
  constexpr int64_t kTask = int64_t{1} << 18;  // bytes
  const int64_t pieces = (width + kTask - 1) / kTask;  // of one block
  const int64_t piece = (width + pieces - 1) / pieces;
  parallel_for(rows * pieces, grain_for(piece, kTask), [&](int64_t begin, int64_t end) {
    int64_t row = begin / pieces, offset = begin % pieces * piece;  // carried on: a division for each block costs as much as a short one
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(static_cast<char*>(to) + row * to_pitch + offset, static_cast<const char*>(from) + row * from_pitch + offset,
                  size_t(std::min(piece, width - offset)));
      offset += piece;
      if (offset < width) continue;
      offset = 0;
      ++row;
    }
  });
}

// Sets `rows` blocks of `width` bytes, `pitch` bytes apart, to zero bytes: 0 in every element type.
inline void zero_blocks(void* to, int64_t pitch, int64_t width, int64_t rows) {
  if (width == 0 || rows == 0) return;
  parallel_for(rows, grain_for(width, int64_t{1} << 18), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) std::memset(static_cast<char*>(to) + row * pitch, 0, size_t(width));
  });
}

}  // namespace eq::cpu
