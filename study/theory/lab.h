#pragma once
// Internal to the theory study: random fields, estimates with their errors, and the list of checks.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "study/theory/study.h"

namespace eq {

struct Estimate {
  double value = 0, standard_error = 0;
  double degrees = 1;  // of freedom: independent batches less one
};

// A mean, or a ratio of means, over independent batches.
class BatchSums {
 public:
  void add(double numerator, double denominator = 1) {
    numerators_.push_back(numerator);
    denominators_.push_back(denominator);
  }
  // Sum over sum; its error from the residuals numerator - ratio * denominator (linearised).
  Estimate estimate() const;

 private:
  std::vector<double> numerators_, denominators_;
};

class Lab {
 public:
  explicit Lab(const TheoryRequest& request) : request_(request) {}

  const TheoryRequest& request() const { return request_; }
  // Independent maps of side n that make up the request's samples; at least 16.
  int64_t maps(int64_t side) const;

  // Fields of standard normal values, each call from a stream of its own.
  Tensor normal(const Shape& shape, DType dtype = DType::kFloat32);
  // [1,n,n,C] of variance 1 and correlation rho^(|dh| + |dw|).
  Tensor correlated(int64_t side, int64_t channels, double rho);

  void equal(const std::string& name, const std::string& setting, double predicted, const Estimate& measured, double bound);
  void exact(const std::string& name, const std::string& setting, double predicted, double measured, double bound);
  void at_most(const std::string& name, const std::string& setting, double limit, double measured);

  TheoryReport report;

 private:
  void add(TheoryCheck check);
  TheoryRequest request_;
  uint64_t streams_ = 0;
};

// Of each channel of x: mean over all else of (x - origin)^2, in double.
std::vector<double> second_moments(const Tensor& x, double origin);

// A field of `channels` independent maps, [1,n,n,channels].
using MakeField = std::function<Tensor(int64_t channels)>;
// Second moments around `origin` after bilinear resizing to out x out, over those before it.
Estimate resized_ratio(int64_t maps, int64_t out, bool align_corners, double origin, const MakeField& make);

// The groups, in the order of the report.
void check_white_noise(Lab& lab);
void check_nearest(Lab& lab);
void check_phases(Lab& lab);
void check_correlated(Lab& lab);
void check_single_pictures(Lab& lab);
void check_rectified(Lab& lab);
void check_pooled(Lab& lab);
void check_additive(Lab& lab);
void check_weight_gradients(Lab& lab);
void check_depthwise_gradients(Lab& lab);
void check_input_gradients(Lab& lab);
void check_learning(Lab& lab);

}  // namespace eq
