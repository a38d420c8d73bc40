#pragma once
// Shapes and options that batch norm's tests and benchmarks go through.

#include "core/shape.h"

namespace eq::cases {

struct BatchNormCase {
  const char* name;
  Shape x;  // [..., C]
  bool affine = true;
  bool relu = false;
};

// Small, for oracles and gradients.
inline const BatchNormCase kBatchNormCases[] = {
    {"a picture", {2, 3, 5, 7}},
    {"one channel", {3, 4, 1}},
    {"two values per channel", {2, 1, 1, 5}},
    {"a row of vectors", {6, 19}, false},
    {"relu", {2, 5, 3, 18}, true, true},
    {"relu without affine", {4, 3, 3, 33}, false, true},
    {"more rows", {2, 9, 5, 4}},
    {"several blocks of channels", {3, 1500}, true, true},
};

// Features of UPerNet-ResNet-18 at 256 x 256, batch 8.
inline const BatchNormCase kBatchNormNetworkCases[] = {
    {"stem", {8, 128, 128, 64}, true, true},   {"stage 1", {8, 64, 64, 64}, true, true},
    {"fusion", {8, 64, 64, 128}, true, true},  {"stage 2", {8, 32, 32, 128}, true, true},
    {"stage 4", {8, 8, 8, 512}, true, true},   {"wide", {8, 16, 16, 2048}, true, true},
};

}  // namespace eq::cases
