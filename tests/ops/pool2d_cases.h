#pragma once
// Windows for max and average pooling, and bins for adaptive pooling.

#include "core/kernels/pool2d.h"

namespace eq::cases {

struct Pool2dCase {
  int64_t n, h, w, c;
  Pool2dOptions options;
};

inline constexpr Pool2dCase kPool2d[] = {
    {2, 12, 12, 16, {3, 3, 2, 2, 1, 1, false, true}},   // the stem of a ResNet
    {1, 8, 6, 20, {2, 2, 2, 2, 0, 0, false, true}},
    {1, 7, 9, 3, {3, 3, 2, 2, 1, 1, true, true}},
    {1, 7, 9, 3, {3, 3, 2, 2, 1, 1, true, false}},
    {1, 6, 8, 5, {3, 2, 1, 3, 1, 0, false, false}},
    {2, 5, 5, 33, {3, 3, 1, 1, 1, 1, false, false}},
    {1, 9, 7, 4, {2, 2, 4, 3, 0, 1, false, true}},      // cells that no window reads
    {1, 5, 6, 7, {5, 6, 1, 1, 2, 3, true, true}},
    {1, 2, 3, 1, {2, 3, 1, 1, 0, 0, false, true}},      // one result
    {1, 1, 1, 9, {1, 1, 1, 1, 0, 0, false, true}},
    {1, 1, 4, 2, {2, 2, 2, 2, 0, 0, true, true}},       // fits only with ceil_mode
    {1, 16, 17, 5, {16, 16, 1, 1, 0, 0, false, true}},  // a place of a maximum is a byte,
    {1, 17, 17, 5, {17, 16, 1, 1, 0, 0, false, true}},  // and no longer one
};

struct AdaptivePoolCase {
  int64_t n, h, w, c, out_h, out_w;
};

inline constexpr AdaptivePoolCase kAdaptivePool[] = {
    {2, 12, 12, 16, 1, 1}, {1, 12, 12, 20, 2, 2}, {1, 16, 16, 8, 3, 3},  {1, 16, 16, 5, 6, 6},
    {1, 7, 5, 3, 4, 5},    {2, 5, 4, 33, 7, 3},   {1, 1, 1, 6, 3, 2},    {1, 10, 9, 11, 10, 9}, {1, 3, 2, 1, 1, 1},
};

}  // namespace eq::cases
