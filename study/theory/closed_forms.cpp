#include "study/theory/closed_forms.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <string>

#include "core/errors.h"
#include "core/kernels/pool2d.h"
#include "core/kernels/resize.h"
#include "study/statistics/distributions.h"
#include "study/theory/enumeration.h"

namespace eq {
namespace {

void require_positive(int64_t value, const char* what, const char* where) {
  if (value < 1) throw UsageError(std::string(what) + " must be at least 1", where, "check the sizes");
}

// One axis of adaptive pooling of white noise: variances of the bins, and correlations of any two.
struct PooledAxis {
  std::vector<double> variance;
  WeightMatrix correlation;
};

PooledAxis pooled_axis(int64_t cells, int64_t bins) {
  const WeightMatrix weights = adaptive_pool_weights(cells, bins);
  PooledAxis axis{std::vector<double>(size_t(bins)), {bins, bins, std::vector<double>(size_t(bins * bins))}};
  for (int64_t a = 0; a < bins; ++a) {
    for (int64_t b = 0; b < bins; ++b) {
      for (int64_t i = 0; i < cells; ++i) axis.correlation.at(a, b) += weights.at(a, i) * weights.at(b, i);  // covariance so far
    }
    axis.variance[size_t(a)] = axis.correlation.at(a, a);
  }
  for (int64_t a = 0; a < bins; ++a) {
    for (int64_t b = 0; b < bins; ++b) axis.correlation.at(a, b) /= std::sqrt(axis.variance[size_t(a)] * axis.variance[size_t(b)]);
  }
  return axis;
}

// The one or two cells that an output position reads.
struct Reads {
  int count;
  std::array<int64_t, 2> cell;
  std::array<double, 2> weight;
};

Reads reads_of(int64_t position, int64_t in, int64_t out, bool align_corners) {
  const BilinearSource s = bilinear_source(position, in, out, align_corners);
  return {s.lower == s.upper ? 1 : 2, {s.lower, s.upper}, {1 - s.upper_weight, s.upper_weight}};
}

struct RawMoments {
  double mean = 0, second = 0;
};

// Rectified bins on a square: deviations sigma(i, j) after standardising all of them together.
class RectifiedBins {
 public:
  RectifiedBins(int64_t cells, int64_t bins) : axis_(pooled_axis(cells, bins)) {
    double total = 0;
    for (const double v : axis_.variance) total += v;
    const double mean = total / double(bins);
    for (const double v : axis_.variance) deviation_.push_back(std::sqrt(v / mean));  // sigma(i, j) = deviation_[i] deviation_[j]
  }
  double mean(int64_t i, int64_t j) const { return kRectifiedNormalMean * deviation_[size_t(i)] * deviation_[size_t(j)]; }
  double product_mean(int64_t i, int64_t k, int64_t j, int64_t l) const {
    return rectified_product(deviation_[size_t(i)] * deviation_[size_t(j)], deviation_[size_t(k)] * deviation_[size_t(l)],
                             axis_.correlation.at(i, k) * axis_.correlation.at(j, l));
  }
  // Of the upsampled value at a position.
  RawMoments mixed(const Reads& rows, const Reads& columns) const {
    RawMoments sums;
    for (int a = 0; a < rows.count; ++a) {
      for (int c = 0; c < columns.count; ++c) {
        const double weight = rows.weight[size_t(a)] * columns.weight[size_t(c)];
        sums.mean += weight * mean(rows.cell[size_t(a)], columns.cell[size_t(c)]);
        for (int b = 0; b < rows.count; ++b) {
          for (int d = 0; d < columns.count; ++d) {
            sums.second += weight * rows.weight[size_t(b)] * columns.weight[size_t(d)] *
                             product_mean(rows.cell[size_t(a)], rows.cell[size_t(b)], columns.cell[size_t(c)], columns.cell[size_t(d)]);
          }
        }
      }
    }
    return sums;
  }

 private:
  PooledAxis axis_;
  std::vector<double> deviation_;
};

// Variance over all positions of the rectified bins resized to out x out.
double resized_variance(const RectifiedBins& field, int64_t bins, int64_t out, bool align_corners) {
  double mean = 0, second = 0;
  for (int64_t p = 0; p < out; ++p) {
    for (int64_t q = 0; q < out; ++q) {
      const RawMoments at = field.mixed(reads_of(p, bins, out, align_corners), reads_of(q, bins, out, align_corners));
      mean += at.mean;
      second += at.second;
    }
  }
  const double positions = double(out) * double(out);
  return second / positions - mean / positions * mean / positions;
}

}  // namespace

double interior_variance_factor(int64_t ratio) {
  require_positive(ratio, "the ratio", "interior_variance_factor");
  const double square = double(ratio) * double(ratio);
  return ratio % 2 == 0 ? 2.0 / 3 - 1 / (6 * square) : 2.0 / 3 + 1 / (3 * square);
}

double whole_ratio_variance_factor(int64_t cells, int64_t ratio) {
  require_positive(cells, "the number of cells", "whole_ratio_variance_factor");
  return (1 + double(cells - 1) * interior_variance_factor(ratio)) / double(cells);
}

double position_variance(int64_t position, int64_t in, int64_t out, bool align_corners) {
  const BilinearSource s = bilinear_source(position, in, out, align_corners);
  return (1 - s.upper_weight) * (1 - s.upper_weight) + s.upper_weight * s.upper_weight;
}

double stationary_variance_factor(double factor_h, double factor_w, double rho_h, double rho_w, double rho_diagonal) {
  const double cross_h = 1 - factor_h, cross_w = 1 - factor_w;
  return factor_h * factor_w + cross_h * factor_w * rho_h + factor_h * cross_w * rho_w + cross_h * cross_w * rho_diagonal;
}

double adjoint_second_moment(int64_t in, int64_t out, bool align_corners) {
  return double(out) / double(in) * bilinear_variance_factor(in, out, align_corners);
}

MeanVariance rectified_moments(double mean, double deviation) {
  if (!(deviation >= 0)) throw UsageError("a deviation must not be negative", "rectified_moments", "check the values");
  if (deviation == 0) return {std::max(mean, 0.0), 0};
  const double z = mean / deviation, positive = normal_upper_tail(-z);
  const double density = std::exp(-z * z / 2) / std::sqrt(2 * std::numbers::pi);
  const double first = mean * positive + deviation * density;
  const double second = (mean * mean + deviation * deviation) * positive + mean * deviation * density;
  return {first, second - first * first};
}

double rectified_product(double deviation_x, double deviation_y, double correlation) {
  const double c = std::clamp(correlation, -1.0, 1.0);  // rounding may lead past 1
  return deviation_x * deviation_y * (std::sqrt(1 - c * c) + c * (std::numbers::pi - std::acos(c))) / (2 * std::numbers::pi);
}

double rectified_correlation(double correlation) {
  return (rectified_product(1, 1, correlation) - kRectifiedNormalMean * kRectifiedNormalMean) / kRectifiedNormalVariance;
}

double adaptive_pool_variance_factor(int64_t cells, int64_t bins) {
  require_positive(cells, "the number of cells", "adaptive_pool_variance_factor");
  require_positive(bins, "the number of bins", "adaptive_pool_variance_factor");
  double sum = 0;
  for (int64_t i = 0; i < bins; ++i) sum += 1 / double(adaptive_bin_end(i, cells, bins) - adaptive_bin_begin(i, cells, bins));
  return sum / double(bins);
}

double pooled_branch_variance_factor(int64_t cells, int64_t bins, bool align_corners) {
  require_positive(cells, "the number of cells", "pooled_branch_variance_factor");
  require_positive(bins, "the number of bins", "pooled_branch_variance_factor");
  const RectifiedBins field(cells, bins);
  return resized_variance(field, bins, cells, align_corners) / resized_variance(field, bins, bins, align_corners);
}

std::vector<MeanVariance> additive_path_moments(const std::vector<int64_t>& sizes, MeanVariance lateral, bool align_corners) {
  std::vector<MeanVariance> levels;
  std::vector<WeightMatrix> paths;  // from each lateral above to the present level
  for (size_t level = 0; level < sizes.size(); ++level) {
    if (level > 0) {
      const WeightMatrix step = bilinear_weights(sizes[level - 1], sizes[level], align_corners);
      for (WeightMatrix& path : paths) path = product(step, path);
    }
    paths.push_back(bilinear_weights(sizes[level], sizes[level], align_corners));  // the identity
    MeanVariance sum;
    for (const WeightMatrix& path : paths) {
      const double factor = variance_factor(path);
      sum.mean += lateral.mean;
      sum.variance += factor * factor * lateral.variance;
    }
    levels.push_back(sum);
  }
  return levels;
}

double weight_gradient_moment(MeanVariance input) { return input.mean * input.mean + input.variance; }

double weight_gradient_moment_before_norm(MeanVariance input, double total_variance) {
  return input.variance * (1 - input.variance / total_variance);
}

}  // namespace eq
