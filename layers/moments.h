#pragma once
// Streaming mean and variance in double, merged by the formula of Chan, Golub and LeVeque (1979).

#include <cmath>
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace eq {

struct Moments {
  int64_t count = 0;
  double mean = 0;
  double m2 = 0;  // sum of squared deviations from the mean

  void merge(const Moments& other) {
    if (other.count == 0) return;
    const double total = double(count) + double(other.count), delta = other.mean - mean;
    m2 += other.m2 + delta * delta * double(count) * double(other.count) / total;
    mean += delta * double(other.count) / total;
    count += other.count;
  }
  double variance() const { return count > 0 ? m2 / double(count) : 0; }  // population variance, as in the paper's script
  double standard_deviation() const { return std::sqrt(variance()); }
};

// x on the host, bfloat16 as float32: for code that looks at values one by one.
Tensor host_values(const Tensor& x);

// Of each channel in [begin, end) of the last axis of `x`, in a fixed order of summation.
std::vector<Moments> channel_moments(const Tensor& x, int64_t begin, int64_t end);
Moments pooled(const std::vector<Moments>& parts);  // of all values together

// How far the mean and the standard deviation of all values together are from those of everything that could have been drawn: standard
// errors of ratio estimators over `groups` that were drawn independently, of whatever size, while the values within one hang together. By
// linearization (the infinitesimal jackknife, which a bootstrap over many groups agrees with). NaN for fewer than two groups.
struct StandardErrors {
  double mean, deviation;
};
StandardErrors standard_errors(const std::vector<Moments>& groups);

}  // namespace eq
