#pragma once
// Shapes that group norm's tests and benchmarks go through.

#include "core/shape.h"

namespace eq::cases {

struct GroupNormCase {
  const char* name;
  Shape x;  // [N, ..., C]
  int64_t groups;
  bool affine = true;
};

inline const GroupNormCase kGroupNormCases[] = {
    {"two groups", {2, 3, 4, 6}, 2},          {"one group", {2, 3, 2, 5}, 1},   {"instance norm", {3, 2, 3, 4}, 4},
    {"without affine", {2, 4, 5, 8}, 4, false}, {"vectors", {4, 12}, 3},        {"many rows", {2, 9, 8, 3}, 1},
    {"one channel", {1, 3, 2, 1}, 1},
};

inline const GroupNormCase kGroupNormNetworkCases[] = {
    {"fusion", {8, 64, 64, 128}, 32},
    {"pooled branch", {8, 6, 6, 128}, 32},
};

}  // namespace eq::cases
