#pragma once
// What theory says about scales and gradients where levels are fused, as formulas; docs/studies.md derives them.
// Factors of one axis are called G (g in the interior); those of a picture are products over its axes.
// The factor of any two sizes is bilinear_variance_factor (core/kernels/bilinear_variance.h).

#include <cstdint>
#include <vector>

#include "core/kernels/bilinear_variance.h"

namespace eq {

struct MeanVariance {
  double mean = 0, variance = 0;
};

// --- bilinear upsampling ---
// g far from the borders, align_corners = false, whole ratio r >= 1: 2/3 - 1/(6 r^2) for even r, 2/3 + 1/(3 r^2) for odd.
double interior_variance_factor(int64_t ratio);
// G = (1 + (n - 1) g)/n: the same with the clamped borders of n cells.
double whole_ratio_variance_factor(int64_t cells, int64_t ratio);
// Variance of output `position` alone, (1 - t)^2 + t^2: it depends on the phase. From the kernels' own index arithmetic.
double position_variance(int64_t position, int64_t in, int64_t out, bool align_corners);

// The picture's factor for any stationary field, from its correlations with the next cell along each axis and along the diagonal:
// G_h G_w + (1 - G_h) G_w rho_h + G_h (1 - G_w) rho_w + (1 - G_h)(1 - G_w) rho_hw.
double stationary_variance_factor(double factor_h, double factor_w, double rho_h, double rho_w, double rho_diagonal);

// Second moment of the gradient that one axis of bilinear resizing sends to its input, for white output gradients of
// variance 1: the sum of all squared weights over the input cells, m/n G.
double adjoint_second_moment(int64_t in, int64_t out, bool align_corners);

// --- rectification ---
// Of max(x, 0) for normal x.
MeanVariance rectified_moments(double mean, double deviation);
// E[max(x, 0) max(y, 0)] for jointly normal x, y of mean 0 (Cho and Saul 2009).
double rectified_product(double deviation_x, double deviation_y, double correlation);
// Correlation of max(x, 0) and max(y, 0) for standard normal x, y of this correlation.
double rectified_correlation(double correlation);

// --- pooling ---
// One axis of adaptive average pooling of uncorrelated cells: the mean over the bins of 1/length.
double adaptive_pool_variance_factor(int64_t cells, int64_t bins);
// White noise n x n pooled to s x s, standardised over all bins, rectified and upsampled back to n x n: the variance after the
// upsampling over the variance before it. Exact also where bins overlap or differ in size, so that neighbours are
// correlated and variances unequal.
double pooled_branch_variance_factor(int64_t cells, int64_t bins, bool align_corners);

// --- fusion ---
// A sum of laterals of the given moments from the coarsest size to the finest, each stage upsampled to the next:
// moments at every level. Sizes are sides of square maps.
std::vector<MeanVariance> additive_path_moments(const std::vector<int64_t>& sizes, MeanVariance lateral, bool align_corners);

// E[(dL/dW)^2] / (N E[delta^2]) of one weight of a fusion layer that reads `input`, for output gradients delta that do not depend on it.
// Without normalisation behind the layer the raw second moment. Batch norm makes delta orthogonal to 1 and to its own output, which leaves
// the centred variance, less the share of the output's variance that this one channel makes: `total_variance` is the sum
// over all channels that are fused.
double weight_gradient_moment(MeanVariance input);
double weight_gradient_moment_before_norm(MeanVariance input, double total_variance);

}  // namespace eq
