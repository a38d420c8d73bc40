#pragma once
// Fusion sites: branches, target and which constants the equalizer has.

#include <cstdint>
#include <vector>

namespace eq::cases {

struct FuseBranch {
  int64_t h, w, c;
  int64_t shift, scale;  // elements of the constants: 0 (absent), 1 or c
};

struct FuseLevelsCase {
  int64_t n, out_h, out_w;
  bool align_corners;
  std::vector<FuseBranch> branches;
};

inline const std::vector<FuseLevelsCase> kFuseLevels = {
    {2, 16, 12, false, {{16, 12, 32, 32, 32}, {8, 6, 32, 1, 1}, {4, 3, 32, 0, 1}, {2, 2, 32, 0, 0}}},
    {1, 9, 9, true, {{9, 9, 5, 5, 5}, {5, 5, 3, 3, 1}, {3, 3, 2, 1, 2}, {1, 1, 19, 0, 19}}},
    {1, 8, 8, false, {{8, 8, 1, 0, 0}, {4, 4, 11, 0, 11}}},
    {2, 6, 7, false, {{6, 7, 16, 0, 0}, {6, 3, 20, 20, 20}, {3, 7, 7, 1, 1}, {12, 14, 33, 33, 33}, {5, 5, 6, 0, 0}}},
    {1, 5, 5, true, {{5, 5, 48, 1, 48}}},
    {3, 4, 4, false, {{2, 2, 11, 11, 11}}},
};

}  // namespace eq::cases
