#pragma once
// Shapes and axes for reductions: leading, trailing, middle, all, scattered, narrow and wide columns, several chunks.

#include <vector>

#include "core/shape.h"

namespace eq::cases {

struct ReduceCase {
  Shape shape;
  std::vector<int> axes;  // empty: all
};

inline const ReduceCase kReduceCases[] = {
    {{5}, {}},
    {{}, {}},
    {{2, 3, 4, 5}, {}},
    {{2, 3, 4, 5}, {-1}},
    {{2, 3, 4, 5}, {0}},
    {{2, 3, 4, 5}, {1, 2}},
    {{2, 3, 4, 5}, {0, 1, 2}},
    {{2, 3, 4, 5}, {0, 2}},
    {{2, 3, 4, 5}, {3, -3}},
    {{2, 1, 4, 5}, {1}},
    {{2, 3, 1, 4}, {1, 3}},
    {{7, 33}, {0}},
    {{3, 59}, {1}},  // whole vectors, half a pair, a rest
    {{150, 3}, {0}},
    {{2, 70, 19}, {1}},
};

// Large enough for several chunks of work.
inline const ReduceCase kLargeReduceCases[] = {
    {{100003}, {}},
    {{4, 30, 40, 19}, {0, 1, 2}},
    {{4, 30, 40, 19}, {3}},
    {{2, 30, 40, 64}, {1, 2}},
    {{2, 70, 1500}, {1}},
    {{10, 20, 40, 8}, {0, 2}},
    {{2, 40, 1500}, {0}},
    {{300, 70, 3}, {2}},
    {{4, 3, 5, 2, 20, 7}, {0, 2, 4}},
};

}  // namespace eq::cases
