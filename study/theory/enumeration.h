#pragma once
// The same quantities by adding up every weight, from the kernels' own index arithmetic: what the formulas are tested
// against, and the answer where there is no formula.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace eq {

// The weights of a linear map of one axis: values[row * columns + column], a row for each output.
struct WeightMatrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> values;

  double at(int64_t row, int64_t column) const { return values[size_t(row * columns + column)]; }
  double& at(int64_t row, int64_t column) { return values[size_t(row * columns + column)]; }
};

WeightMatrix bilinear_weights(int64_t in, int64_t out, bool align_corners);
WeightMatrix adaptive_pool_weights(int64_t in, int64_t bins);
WeightMatrix product(const WeightMatrix& second, const WeightMatrix& first);  // first, then second

std::vector<double> row_sums(const WeightMatrix& weights);
std::vector<double> column_sums(const WeightMatrix& weights);

// Mean over the rows of the variance that the map makes of cells of variance 1 whose neighbours at distance d have
// correlation lag_one^d.
double variance_factor(const WeightMatrix& weights, double lag_one = 0);

}  // namespace eq
