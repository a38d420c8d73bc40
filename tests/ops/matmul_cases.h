#pragma once
// Matrix products: ordinary, with extents of one, batched and broadcast, and large enough for several tiles and chunks.

#include "core/shape.h"

namespace eq::cases {

struct MatmulCase {
  Shape a, b, result;
};

inline const MatmulCase kMatmulCases[] = {
    {{3, 4}, {4, 5}, {3, 5}},
    {{1, 7}, {7, 1}, {1, 1}},
    {{5, 1}, {1, 4}, {5, 4}},
    {{1, 3}, {3, 6}, {1, 6}},
    {{33, 40}, {40, 29}, {33, 29}},
    {{2, 3, 4}, {2, 4, 5}, {2, 3, 5}},
    {{2, 3, 4}, {4, 5}, {2, 3, 5}},
    {{3, 4}, {2, 4, 5}, {2, 3, 5}},
    {{1, 3, 4}, {2, 4, 5}, {2, 3, 5}},
    {{3, 1, 2, 4}, {2, 4, 3}, {3, 2, 2, 3}},
    {{2, 1, 3, 4}, {1, 3, 4, 2}, {2, 3, 3, 2}},
    {{0, 4}, {4, 5}, {0, 5}},
    {{3, 0}, {0, 5}, {3, 5}},
    {{2, 3, 4}, {4, 0}, {2, 3, 0}},
};

// Tiles in both directions; a long sum; tiles of long sums; a stack of small products.
inline const MatmulCase kLargeMatmulCases[] = {
    {{300, 70}, {70, 1100}, {300, 1100}},
    {{40, 9000}, {9000, 30}, {40, 30}},
    {{2, 300, 2100}, {2, 2100, 4}, {2, 300, 4}},
    {{4, 500, 64}, {64, 80}, {4, 500, 80}},
    {{24, 65, 33}, {24, 33, 65}, {24, 65, 65}},
};

struct LinearCase {
  Shape x;
  int64_t out;
  bool bias;
};

inline const LinearCase kLinearCases[] = {
    {{4, 3}, 5, true}, {{2, 3, 6}, 4, true}, {{2, 2, 3, 5}, 7, false}, {{6}, 3, true},
    {{1, 1}, 1, true}, {{0, 3}, 2, true},    {{3, 0}, 2, true}, {{3, 30, 7}, 6, true}, {{2, 260, 9}, 5, true}, {{70, 33}, 20, false},
};

}  // namespace eq::cases
