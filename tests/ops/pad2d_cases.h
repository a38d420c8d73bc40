#pragma once

#include <cstdint>

namespace eq::cases {

struct Pad2dCase {
  int64_t n, h, w, c, top, bottom, left, right;
  double value;
};

inline constexpr Pad2dCase kPad2d[] = {
    {1, 3, 4, 2, 0, 0, 0, 0, 0},    {2, 3, 4, 5, 1, 2, 3, 4, 0.5},   {1, 6, 7, 3, -1, -2, -3, -1, 9},
    {1, 4, 5, 16, 2, -1, -2, 3, -1}, {1, 2, 3, 1, -3, 5, -4, 6, 2.5}, {2, 5, 1, 4, -2, 2, 1, 0, 0},
};

}  // namespace eq::cases
