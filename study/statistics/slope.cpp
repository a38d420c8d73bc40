#include "study/statistics/slope.h"

#include <cmath>

#include "study/statistics/distributions.h"

namespace eq {
namespace {

struct Products {
  double xx = 0, xy = 0;
};

Products about_the_means(const PointGroup& group) {
  const double mean_x = mean_of(group.x), mean_y = mean_of(group.y);
  Products products;
  for (size_t i = 0; i < group.x.size(); ++i) {
    products.xx += (group.x[i] - mean_x) * (group.x[i] - mean_x);
    products.xy += (group.x[i] - mean_x) * (group.y[i] - mean_y);
  }
  return products;
}

}  // namespace

std::optional<CommonSlope> common_slope(const std::vector<PointGroup>& groups, double level) {
  std::vector<Products> all;
  Products total;
  for (const PointGroup& group : groups) {
    const Products products = about_the_means(group);
    if (!(products.xx > 0) || !std::isfinite(products.xy)) continue;
    all.push_back(products);
    total.xx += products.xx;
    total.xy += products.xy;
  }
  if (all.empty()) return std::nullopt;
  CommonSlope slope{total.xy / total.xx, std::nullopt};
  if (all.size() < 3) return slope;
  const double count = double(all.size());
  double squares = 0;
  for (const Products& left_out : all) {
    const double others = (total.xy - left_out.xy) / (total.xx - left_out.xx);
    squares += (others - slope.value) * (others - slope.value);
  }
  const double half = student_quantile((1 + level) / 2, count - 1) * std::sqrt((count - 1) / count * squares);
  slope.interval = Interval{slope.value - half, slope.value + half};
  return slope;
}

}  // namespace eq
