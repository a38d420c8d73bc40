#pragma once
// Sizes for resize: up, down, both at once, whole and broken ratios, single cells; channel counts around vector lengths.

#include <cstdint>

namespace eq::cases {

struct ResizeCase {
  int64_t n, h, w, c, out_h, out_w;
  bool align_corners;
};

inline constexpr ResizeCase kResize[] = {
    {1, 2, 2, 1, 4, 4, false},    {1, 2, 2, 1, 4, 4, true},    {2, 5, 7, 3, 10, 14, false},  {2, 5, 7, 3, 9, 13, true},
    {1, 8, 8, 16, 8, 8, false},   {1, 8, 8, 5, 8, 8, true},    {2, 3, 4, 11, 12, 16, false}, {1, 3, 4, 11, 12, 16, true},
    {1, 9, 7, 19, 4, 3, false},   {1, 9, 7, 19, 4, 3, true},   {1, 1, 1, 32, 6, 5, false},   {1, 1, 1, 33, 6, 5, true},
    {1, 6, 5, 8, 1, 1, false},    {1, 6, 5, 8, 1, 1, true},    {1, 4, 6, 40, 4, 13, false},  {1, 4, 6, 17, 11, 6, true},
    {2, 3, 2, 64, 24, 16, false}, {1, 5, 3, 2, 13, 1, false},  {1, 17, 12, 6, 3, 30, false}, {1, 2, 3, 20, 33, 48, true},
    {1, 20, 3, 4, 7, 2, true},    {1, 40, 33, 16, 5, 4, false}, {1, 37, 5, 12, 80, 9, false},
};

}  // namespace eq::cases
