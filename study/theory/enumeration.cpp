#include "study/theory/enumeration.h"

#include <cmath>

#include "core/errors.h"
#include "core/kernels/pool2d.h"
#include "core/kernels/resize.h"

namespace eq {

WeightMatrix bilinear_weights(int64_t in, int64_t out, bool align_corners) {
  WeightMatrix result{out, in, std::vector<double>(size_t(in * out))};
  for (int64_t j = 0; j < out; ++j) {
    const BilinearSource source = bilinear_source(j, in, out, align_corners);
    result.at(j, source.lower) += 1 - source.upper_weight;
    result.at(j, source.upper) += source.upper_weight;
  }
  return result;
}

WeightMatrix adaptive_pool_weights(int64_t in, int64_t bins) {
  WeightMatrix result{bins, in, std::vector<double>(size_t(in * bins))};
  for (int64_t i = 0; i < bins; ++i) {
    const int64_t begin = adaptive_bin_begin(i, in, bins), end = adaptive_bin_end(i, in, bins);
    for (int64_t j = begin; j < end; ++j) result.at(i, j) = 1.0 / double(end - begin);
  }
  return result;
}

WeightMatrix product(const WeightMatrix& second, const WeightMatrix& first) {
  if (second.columns != first.rows) {
    throw ShapeError("the maps do not fit together", "product", "the first must make what the second reads");
  }
  WeightMatrix result{second.rows, first.columns, std::vector<double>(size_t(second.rows * first.columns))};
  for (int64_t row = 0; row < second.rows; ++row) {
    for (int64_t between = 0; between < first.rows; ++between) {
      const double weight = second.at(row, between);
      if (weight == 0) continue;
      for (int64_t column = 0; column < first.columns; ++column) result.at(row, column) += weight * first.at(between, column);
    }
  }
  return result;
}

std::vector<double> row_sums(const WeightMatrix& weights) {
  std::vector<double> sums(size_t(weights.rows));
  for (int64_t row = 0; row < weights.rows; ++row) {
    for (int64_t column = 0; column < weights.columns; ++column) sums[size_t(row)] += weights.at(row, column);
  }
  return sums;
}

std::vector<double> column_sums(const WeightMatrix& weights) {
  std::vector<double> sums(size_t(weights.columns));
  for (int64_t row = 0; row < weights.rows; ++row) {
    for (int64_t column = 0; column < weights.columns; ++column) sums[size_t(column)] += weights.at(row, column);
  }
  return sums;
}

double variance_factor(const WeightMatrix& weights, double lag_one) {
  double total = 0;
  for (int64_t row = 0; row < weights.rows; ++row) {
    for (int64_t a = 0; a < weights.columns; ++a) {
      if (weights.at(row, a) == 0) continue;
      total += weights.at(row, a) * weights.at(row, a);
      double correlation = lag_one;  // pow(0, 1) would do, but powers are slow
      for (int64_t b = a + 1; b < weights.columns && correlation != 0; ++b, correlation *= lag_one) {
        total += 2 * weights.at(row, a) * weights.at(row, b) * correlation;
      }
    }
  }
  return total / double(weights.rows);
}

}  // namespace eq
