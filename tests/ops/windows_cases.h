#pragma once

#include <cstdint>

namespace eq::cases {

struct WindowCase {
  int64_t n, h, w, c, size, shift;
};

inline constexpr WindowCase kWindows[] = {
    {1, 4, 4, 3, 2, 0},  {2, 6, 9, 4, 3, 1},   {1, 5, 7, 8, 3, 0}, {2, 8, 5, 5, 4, 3},
    {1, 2, 3, 16, 7, 3}, {2, 15, 14, 2, 7, 3}, {1, 3, 1, 1, 1, 0},
};

}  // namespace eq::cases
