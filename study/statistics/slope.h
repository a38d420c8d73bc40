#pragma once
// A slope that several groups of points have in common, when points of one group are alike in what is not measured.

#include <optional>
#include <vector>

#include "study/statistics/paired.h"

namespace eq {

struct PointGroup {
  std::vector<double> x, y;
};

struct CommonSlope {
  double value = 0;
  std::optional<Interval> interval;  // 95 %; none for fewer than three groups that have a spread of x
};

// Least squares of y on x with an intercept for each group. The interval is the jackknife's over groups (each left out once; Student's t with
// one degree less than groups), which is wide where a single group decides. None where no group has a spread of x.
std::optional<CommonSlope> common_slope(const std::vector<PointGroup>& groups, double level = 0.95);

}  // namespace eq
