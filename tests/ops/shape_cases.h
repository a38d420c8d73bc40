#pragma once
// Permutations: none, the two image layouts, full reversal, merged and one-element axes, tiles that do not divide.

#include <vector>

#include "core/shape.h"

namespace eq::cases {

struct PermuteCase {
  Shape shape;
  std::vector<int> axes;
};

inline const PermuteCase kPermuteCases[] = {
    {{}, {}},
    {{4}, {0}},
    {{3, 4}, {0, 1}},
    {{3, 4}, {1, 0}},
    {{2, 5, 6, 3}, {0, 3, 1, 2}},
    {{2, 3, 5, 6}, {0, 2, 3, 1}},
    {{2, 3, 4, 5}, {3, 2, 1, 0}},
    {{2, 3, 4, 5}, {0, 2, 1, 3}},
    {{2, 3, 4, 5}, {-2, 0, -1, 1}},
    {{2, 1, 4, 1}, {3, 2, 1, 0}},
    {{37, 50}, {1, 0}},
    {{2, 3, 2, 3, 2}, {4, 0, 3, 1, 2}},
    {{0, 3}, {1, 0}},
};

}  // namespace eq::cases
