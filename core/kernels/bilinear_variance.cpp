#include "core/kernels/bilinear_variance.h"

#include <numeric>
#include <string>

#include "core/errors.h"
#include "core/kernels/resize.h"

namespace eq {
namespace {

void check(int64_t in, int64_t out, double lag_one) {
  if (in < 1 || out < 1 || in > kMaxResizeExtent || out > kMaxResizeExtent) {
    throw UsageError("an axis of " + std::to_string(in) + " cells cannot be resized to " + std::to_string(out), "bilinear_variance_factor",
                     "both must be 1 to " + std::to_string(kMaxResizeExtent));
  }
  if (!(lag_one >= -1 && lag_one <= 1)) {
    throw UsageError("a correlation of " + std::to_string(lag_one), "bilinear_variance_factor", "it lies in [-1, 1]");
  }
}

// Of a period of q equidistant phases that contains the phase 0 (`aligned`) or lies half a step beside it.
double period_factor(int64_t q, bool aligned) {
  const double square = double(q) * double(q);
  return aligned ? 2.0 / 3 + 1 / (3 * square) : 2.0 / 3 - 1 / (6 * square);
}

double plain_factor(int64_t in, int64_t out) {
  const int64_t divisor = std::gcd(in, out), p = in / divisor, q = out / divisor;
  // The positions of one border with u_j < 1/2, and the sum over them of 1/4 - u_j^2.
  const int64_t border = ((out - 1) / in + 1) / 2;
  const double count = double(border), step = double(in) / double(out);
  const double sum = count / 4 - step * step * count * (4 * count * count - 1) / 12;
  return period_factor(q, (p - q) % 2 == 0) + 4 * sum / double(out);
}

double aligned_factor(int64_t in, int64_t out) {
  if (in == 1 || out == 1) return 1;
  const int64_t q = (out - 1) / std::gcd(in - 1, out - 1);
  return (double(out - 1) * period_factor(q, true) + 1) / double(out);
}

}  // namespace

double bilinear_variance_factor(int64_t in, int64_t out, bool align_corners, double lag_one) {
  check(in, out, lag_one);
  const double factor = align_corners ? aligned_factor(in, out) : plain_factor(in, out);
  return factor + (1 - factor) * lag_one;
}

}  // namespace eq
