// Closed forms against enumerated weights, and against the printed digits of the derivation.
#include <cmath>

#include "core/errors.h"
#include "study/theory/closed_forms.h"
#include "study/theory/enumeration.h"
#include "support.h"

using namespace eq;

namespace {

// To the digits printed: half a unit of the last one.
void check_printed(double value, double printed, int digits) {
  INFO(value << " against " << printed);
  CHECK(std::abs(value - printed) <= 0.5001 * std::pow(10, -digits));
}

double square(double value) { return value * value; }

}  // namespace

TEST_CASE("the factor of every pair of sizes is the enumerated one", "[theory]") {
  double largest = 0, largest_correlated = 0;
  for (const bool align_corners : {false, true}) {
    for (int64_t n = 1; n <= 40; ++n) {
      for (int64_t m = 1; m <= 200; ++m) {
        const WeightMatrix weights = bilinear_weights(n, m, align_corners);
        largest = std::max(largest, std::abs(bilinear_variance_factor(n, m, align_corners) - variance_factor(weights)));
        if (m % 7 == 0) {
          largest_correlated =
              std::max(largest_correlated, std::abs(bilinear_variance_factor(n, m, align_corners, 0.6) - variance_factor(weights, 0.6)));
        }
      }
    }
  }
  CHECK(largest < 1e-12);
  CHECK(largest_correlated < 1e-12);
}

TEST_CASE("whole ratios: interior, borders, and the general formula agree", "[theory]") {
  double largest = 0;
  for (int64_t n = 1; n <= 64; ++n) {
    for (int64_t r = 1; r <= 16; ++r) {
      largest = std::max(largest, std::abs(whole_ratio_variance_factor(n, r) - bilinear_variance_factor(n, n * r, false)));
    }
  }
  CHECK(largest < 1e-12);
  CHECK(bilinear_variance_factor(1, 77, false) == Approx(1).epsilon(1e-14));
  CHECK(bilinear_variance_factor(9, 9, false) == 1);
  CHECK(bilinear_variance_factor(9, 9, true) == 1);
  CHECK_THROWS_AS(bilinear_variance_factor(0, 4, false), UsageError);
  CHECK_THROWS_AS(bilinear_variance_factor(4, int64_t{1} << 25, false), UsageError);
  CHECK_THROWS_AS(bilinear_variance_factor(4, 8, false, 1.5), UsageError);
}

TEST_CASE("the table of factors, to its printed digits", "[theory]") {
  struct Row {
    int64_t r;
    double interior, plain_128, plain_16, aligned_128, aligned_16;
  };
  for (const Row& row :
       {Row{2, 0.390625, 0.394296, 0.420471, 0.446189, 0.458897}, Row{3, 0.495199, 0.498462, 0.521605, 0.445606, 0.453951},
        Row{4, 0.430664, 0.434196, 0.459324, 0.445315, 0.452416}, Row{5, 0.462400, 0.465806, 0.490000, 0.445140, 0.450088},
        Row{8, 0.440979, 0.444472, 0.469305, 0.444879, 0.447951}, Row{16, 0.443577, 0.447059, 0.471817, 0.444662, 0.447718},
        Row{32, 0.444227, 0.447707, 0.472446, 0.444553, 0.445315}}) {
    CAPTURE(row.r);
    check_printed(square(interior_variance_factor(row.r)), row.interior, 6);
    check_printed(square(bilinear_variance_factor(128, 128 * row.r, false)), row.plain_128, 6);
    check_printed(square(bilinear_variance_factor(16, 16 * row.r, false)), row.plain_16, 6);
    check_printed(square(bilinear_variance_factor(128, 128 * row.r, true)), row.aligned_128, 6);
    check_printed(square(bilinear_variance_factor(16, 16 * row.r, true)), row.aligned_16, 6);
  }
  CHECK(interior_variance_factor(1) == 1);
  CHECK(square(interior_variance_factor(1'000'000)) == Approx(4.0 / 9).epsilon(1e-11));
  CHECK_THROWS_AS(interior_variance_factor(0), UsageError);
}

TEST_CASE("variance by sub-pixel phase", "[theory]") {
  const double of_four[] = {0.781, 0.531, 0.531, 0.781}, of_eight[] = {0.883, 0.695, 0.570, 0.508};
  // Positions whose phases read between cells 3 and 4: the pattern starts half a cell in.
  for (int64_t phase = 0; phase < 4; ++phase) check_printed(position_variance(4 * 3 + 2 + phase, 16, 64, false), of_four[phase], 3);
  for (int64_t phase = 0; phase < 4; ++phase) check_printed(position_variance(8 * 3 + 4 + phase, 16, 128, false), of_eight[phase], 3);
  double lowest = 1, highest = 0;
  for (int64_t j = 0; j < 128; ++j) lowest = std::min(lowest, position_variance(j, 16, 128, false));
  for (int64_t j = 8; j < 120; ++j) highest = std::max(highest, position_variance(j, 16, 128, false));
  check_printed(square(lowest), 0.258, 3);
  check_printed(square(highest), 0.779, 3);
  CHECK(position_variance(5, 16, 32, false) == Approx(0.625));
}

TEST_CASE("correlated cells", "[theory]") {
  struct Row {
    double rho, at_2, at_4, at_8;
  };
  // Simulated values of the derivation: they agree with the formula within 0.003.
  for (const Row& row :
       {Row{0.3, 0.550, 0.583, 0.591}, Row{0.6, 0.725, 0.748, 0.753}, Row{0.9, 0.926, 0.933, 0.937}, Row{0.98, 0.983, 0.984, 0.987}}) {
    CAPTURE(row.rho);
    CHECK(square(bilinear_variance_factor(64, 128, false, row.rho)) == Approx(row.at_2).margin(0.003));
    CHECK(square(bilinear_variance_factor(64, 256, false, row.rho)) == Approx(row.at_4).margin(0.003));
    CHECK(square(bilinear_variance_factor(64, 512, false, row.rho)) == Approx(row.at_8).margin(0.003));
  }
  // A separable field is the special case of any stationary one.
  const double g = bilinear_variance_factor(20, 50, true), h = bilinear_variance_factor(9, 50, true);
  CHECK(stationary_variance_factor(g, h, 0.4, 0.7, 0.28) == Approx((g + (1 - g) * 0.4) * (h + (1 - h) * 0.7)).epsilon(1e-14));
  CHECK(stationary_variance_factor(g, h, 1, 1, 1) == Approx(1).epsilon(1e-14));
}

TEST_CASE("rectified normal variables", "[theory]") {
  const MeanVariance unit = rectified_moments(0, 1);
  CHECK(unit.mean == Approx(kRectifiedNormalMean).epsilon(1e-14));
  CHECK(unit.variance == Approx(kRectifiedNormalVariance).epsilon(1e-14));
  check_printed(unit.mean, 0.39894, 5);
  check_printed(unit.variance, 0.34085, 5);
  check_printed(std::sqrt(unit.variance), 0.58382, 5);
  // Against the integral, for a mean and deviation of their own.
  double first = 0, second = 0;
  constexpr double kStep = 1e-3;
  for (double z = -12 + kStep / 2; z < 12; z += kStep) {
    const double x = std::max(0.0, 0.3 + 1.5 * z), weight = std::exp(-z * z / 2) / std::sqrt(2 * M_PI) * kStep;
    first += weight * x;
    second += weight * x * x;
  }
  CHECK(rectified_moments(0.3, 1.5).mean == Approx(first).epsilon(1e-6));
  CHECK(rectified_moments(0.3, 1.5).variance == Approx(second - first * first).epsilon(1e-6));
  CHECK(rectified_moments(-2, 0).mean == 0);
  CHECK(rectified_moments(2, 0).mean == 2);
  CHECK_THROWS_AS(rectified_moments(0, -1), UsageError);
  check_printed(rectified_correlation(0.5), 0.426, 3);
  check_printed(rectified_correlation(0.8), 0.746, 3);
  check_printed(rectified_correlation(0.95), 0.932, 3);
  CHECK(rectified_correlation(1) == Approx(1).epsilon(1e-13));
  CHECK(rectified_correlation(0) == Approx(0).margin(1e-14));
}

TEST_CASE("upsampling matrices: rows sum to 1, columns of whole ratios to the ratio", "[theory]") {
  for (const int64_t r : {2, 3, 4, 5, 8}) {
    const WeightMatrix plain = bilinear_weights(7, 7 * r, false), aligned = bilinear_weights(7, 7 * r, true);
    for (const double sum : row_sums(plain)) CHECK(sum == Approx(1).epsilon(1e-14));
    for (const double sum : row_sums(aligned)) CHECK(sum == Approx(1).epsilon(1e-14));
    for (const double sum : column_sums(plain)) CHECK(sum == Approx(double(r)).epsilon(1e-14));
    CHECK(column_sums(aligned).front() < 0.8 * column_sums(aligned)[3]);  // border cells weigh less
  }
  // The gradient's second moment is the sum of all squared weights, spread over the input.
  double squares = 0;
  const WeightMatrix weights = bilinear_weights(64, 256, false);
  for (const double w : weights.values) squares += w * w;
  CHECK(adjoint_second_moment(64, 256, false) == Approx(squares / 64).epsilon(1e-12));
  check_printed(square(adjoint_second_moment(64, 128, false)), 1.59, 2);
  check_printed(square(adjoint_second_moment(64, 256, false)), 7.00, 2);
  check_printed(square(adjoint_second_moment(64, 512, false)), 28.7, 1);
}

TEST_CASE("adaptive pooling", "[theory]") {
  const double of_12[] = {0.00694, 0.0278, 0.0625, 0.25}, of_16[] = {0.0039, 0.0156, 0.0278, 0.0934};
  const int64_t bins[] = {1, 2, 3, 6};
  const int digits_12[] = {5, 4, 4, 2};
  for (int i = 0; i < 4; ++i) {
    check_printed(square(adaptive_pool_variance_factor(12, bins[i])), of_12[i], digits_12[i]);
    check_printed(square(adaptive_pool_variance_factor(16, bins[i])), of_16[i], 4);
  }
  for (int64_t n = 1; n <= 40; ++n) {
    for (int64_t s = 1; s <= 12; ++s) {
      CHECK(adaptive_pool_variance_factor(n, s) == Approx(variance_factor(adaptive_pool_weights(n, s))).epsilon(1e-12));
    }
  }
}

TEST_CASE("pooled, rectified and upsampled branches", "[theory]") {
  // Where the bins are equal and do not overlap, the formula for white noise; s = 1 is a constant.
  for (const auto& [n, s] : {std::pair<int64_t, int64_t>{12, 2}, {12, 3}, {12, 6}, {16, 2}, {60, 6}, {64, 2}}) {
    CHECK(pooled_branch_variance_factor(n, s, false) == Approx(square(bilinear_variance_factor(s, n, false))).epsilon(1e-12));
  }
  CHECK(pooled_branch_variance_factor(16, 1, false) == Approx(1).epsilon(1e-12));
  // Where they overlap, the simulated values of the derivation.
  CHECK(pooled_branch_variance_factor(16, 3, false) == Approx(0.647).margin(0.004));
  CHECK(pooled_branch_variance_factor(16, 6, false) == Approx(0.600).margin(0.004));
  CHECK(pooled_branch_variance_factor(64, 3, false) == Approx(0.618).margin(0.004));
  CHECK(pooled_branch_variance_factor(64, 6, false) == Approx(0.544).margin(0.004));
}

TEST_CASE("additive top-down path", "[theory]") {
  const auto levels = additive_path_moments({16, 32, 64, 128}, {kRectifiedNormalMean, kRectifiedNormalVariance}, false);
  REQUIRE(levels.size() == 4);
  const double means[] = {0.40, 0.80, 1.20, 1.60}, variances[] = {0.346, 0.482, 0.598, 0.706};  // simulated
  for (size_t i = 0; i < 4; ++i) {
    CHECK(levels[i].mean == Approx(means[i]).margin(0.005));
    CHECK(levels[i].variance == Approx(variances[i]).margin(0.006));
  }
  CHECK(levels[1].variance == Approx(kRectifiedNormalVariance * (1 + square(bilinear_variance_factor(16, 32, false)))).epsilon(1e-12));
  CHECK_THROWS_AS(product(bilinear_weights(3, 4, false), bilinear_weights(3, 4, false)), ShapeError);
}

TEST_CASE("gradient moments of a fusion weight", "[theory]") {
  const double raw[] = {0.500, 0.292, 0.306, 0.309};  // r = 1, 2, 4, 8
  for (size_t i = 0; i < 4; ++i) {
    const double factor = square(interior_variance_factor(int64_t{1} << i));
    check_printed(weight_gradient_moment({kRectifiedNormalMean, factor * kRectifiedNormalVariance}), raw[i], 3);
  }
  CHECK(weight_gradient_moment_before_norm({0.4, 0.3}, 1e9) == Approx(0.3));
  CHECK(weight_gradient_moment_before_norm({0.4, 0.3}, 0.3) == Approx(0).margin(1e-15));  // the only input: batch norm undoes it
}
