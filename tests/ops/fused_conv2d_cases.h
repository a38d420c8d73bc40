#pragma once
// Convolutions of fusion sites: branches, target, filter and padding, and who pads.

#include <vector>

#include "fuse_levels_cases.h"

namespace eq::cases {

struct FusedConv2dCase {
  const char* name;
  int64_t n, out_h, out_w;  // the size of the concatenation
  bool align_corners;
  int64_t out, kernel_h, kernel_w, pad_h, pad_w;
  bool border, bias;  // border: the concatenation is padded with values of its own (else the convolution pads zeros)
  bool commutes;      // else the operator is the composition
  std::vector<FuseBranch> branches;
};

inline const std::vector<FusedConv2dCase> kFusedConv2d = {
    {"3x3", 2, 8, 6, false, 5, 3, 3, 1, 1, false, true, true, {{8, 6, 3, 0, 0}, {4, 3, 2, 0, 0}, {2, 2, 3, 0, 0}}},
    {"3x3 equalized per channel", 2, 8, 6, false, 5, 3, 3, 1, 1, false, false, true, {{8, 6, 3, 3, 3}, {4, 3, 2, 2, 2}, {2, 2, 3, 3, 3}}},
    {"3x3 equalized in part",
     1,
     9,
     9,
     true,
     4,
     3,
     3,
     1,
     1,
     false,
     true,
     true,
     {{9, 9, 2, 1, 0}, {5, 5, 3, 0, 0}, {3, 3, 2, 0, 1}, {1, 1, 3, 1, 1}}},
    {"3x3 folded", 2, 8, 6, false, 5, 3, 3, 1, 1, true, true, true, {{8, 6, 3, 0, 0}, {4, 3, 2, 0, 0}, {2, 2, 3, 0, 0}}},
    {"3x3 equalized and folded", 1, 7, 9, false, 18, 3, 3, 1, 1, true, false, true, {{7, 9, 2, 2, 1}, {3, 4, 4, 4, 4}}},
    {"1x1", 2, 8, 8, false, 7, 1, 1, 0, 0, false, true, true, {{8, 8, 3, 0, 0}, {4, 4, 5, 5, 5}, {2, 2, 2, 0, 0}}},
    {"1x1 that reads padding", 1, 5, 4, false, 3, 1, 1, 1, 2, true, true, true, {{5, 4, 2, 0, 0}, {2, 2, 3, 1, 1}}},
    {"5x3", 1, 11, 7, false, 6, 5, 3, 2, 1, true, true, true, {{11, 7, 2, 0, 0}, {4, 3, 3, 3, 3}}},
    {"3x3 without padding", 1, 8, 9, true, 5, 3, 3, 0, 0, false, true, true, {{8, 9, 2, 2, 2}, {3, 3, 3, 0, 1}}},
    {"padded beyond the filter", 1, 6, 6, false, 3, 3, 3, 4, 3, true, true, true, {{6, 6, 2, 0, 0}, {3, 3, 2, 1, 1}}},
    {"several fine branches, one resized",
     2,
     6,
     8,
     false,
     4,
     3,
     3,
     1,
     1,
     false,
     true,
     true,
     {{6, 8, 2, 2, 2}, {1, 1, 3, 0, 0}, {6, 8, 1, 0, 1}, {5, 7, 2, 0, 0}, {9, 9, 2, 1, 1}, {3, 4, 3, 0, 0}}},
    {"coarse branches only", 1, 6, 6, false, 4, 3, 3, 1, 1, true, true, true, {{3, 3, 2, 0, 0}, {2, 2, 3, 3, 3}}},
    {"coarse along one axis", 1, 6, 7, false, 4, 3, 3, 1, 1, false, false, true, {{6, 7, 2, 0, 0}, {6, 3, 2, 0, 0}, {2, 7, 3, 0, 1}}},
    {"whole vectors", 1, 8, 8, false, 32, 3, 3, 1, 1, false, false, true, {{8, 8, 16, 16, 16}, {4, 4, 16, 1, 1}, {2, 2, 16, 0, 0}}},
    {"blocks of channels", 1, 6, 6, false, 150, 3, 3, 1, 1, true, true, true, {{6, 6, 3, 0, 0}, {3, 3, 4, 1, 1}, {1, 1, 5, 0, 0}}},
    {"full blocks of channels", 1, 4, 4, false, 256, 1, 1, 0, 0, false, true, true, {{4, 4, 3, 0, 0}, {2, 2, 4, 1, 1}}},
    {"nothing coarse", 1, 6, 6, false, 4, 3, 3, 1, 1, false, true, false, {{6, 6, 2, 0, 0}, {5, 5, 3, 3, 3}}},
};

}  // namespace eq::cases
