#pragma once
// What bilinear resizing leaves of the variance: the mean over the output positions of one axis of the sum of squared
// weights (docs/studies.md derives it). The factor of a picture is the product over its two axes.
//
//   n cells to m positions, G for uncorrelated cells:
//     align_corners = false: n/m = p/q in lowest terms,
//       G = g + 4/m sum_{j >= 0, u_j < 1/2} (1/4 - u_j^2),  u_j = (j + 1/2) n/m,
//       g = 2/3 + 1/(3 q^2) if p = q (mod 2), else 2/3 - 1/(6 q^2);  the sum is what clamping at the borders gives back
//     align_corners = true:  q = (m - 1)/gcd(n - 1, m - 1),  G = ((m - 1) (2/3 + 1/(3 q^2)) + 1)/m
//   Neighbouring cells of correlation rho: G + (1 - G) rho, since the two weights a, b of a position have
//   a + b = 1 and so a^2 + b^2 + 2 a b rho = (a^2 + b^2) + (1 - a^2 - b^2) rho.

#include <cstdint>

namespace eq {

// Exact for every n, m >= 1. Throws UsageError for extents outside 1 .. kMaxResizeExtent or a correlation outside [-1, 1].
double bilinear_variance_factor(int64_t in, int64_t out, bool align_corners, double lag_one = 0);

// Mean and variance of max(z, 0) for standard normal z: what every convolution - batch norm - ReLU starts with.
inline constexpr double kRectifiedNormalMean = 0.39894228040143267794;      // 1/sqrt(2 pi)
inline constexpr double kRectifiedNormalVariance = 0.34084505690810466423;  // 1/2 - 1/(2 pi)

}  // namespace eq
