#include "study/theory/lab.h"

#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "core/parallel.h"
#include "core/random.h"
#include "layers/moments.h"
#include "study/statistics/distributions.h"

namespace eq {
namespace {

constexpr uint64_t kTheoryStream = 0x5448454F5259;  // "THEORY"
constexpr double kLargestScore = 4;

// x_i = rho x_{i-1} + sqrt(1 - rho^2) z_i along one axis: `lines` lines of `length` cells, each cell `width` values.
void filter_axis(float* values, int64_t lines, int64_t length, int64_t width, double rho) {
  const float keep = float(rho), fresh = float(std::sqrt(1 - rho * rho));
  parallel_for(lines, 1, [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      for (int64_t i = 1; i < length; ++i) {
        float* cell = values + (line * length + i) * width;
        for (int64_t c = 0; c < width; ++c) cell[c] = keep * cell[c - width] + fresh * cell[c];
      }
    }
  });
}

}  // namespace

Estimate BatchSums::estimate() const {
  double top = 0, bottom = 0;
  for (size_t i = 0; i < numerators_.size(); ++i) top += numerators_[i], bottom += denominators_[i];
  const double ratio = top / bottom, count = double(numerators_.size());
  double squares = 0;
  for (size_t i = 0; i < numerators_.size(); ++i) squares += std::pow(numerators_[i] - ratio * denominators_[i], 2);
  return {ratio, std::sqrt(squares / (count - 1) / count) / std::abs(bottom / count), count - 1};
}

int64_t Lab::maps(int64_t side) const { return std::max<int64_t>(16, request_.samples / (side * side)); }

Tensor Lab::normal(const Shape& shape, DType dtype) {
  Tensor result = Tensor::empty(shape, dtype);
  const Random source = Random(request_.seed, kTheoryStream).fork(streams_++);
  constexpr int64_t kChunk = 8192;  // an even number: two normal values are one block of the generator
  dispatch_floating(dtype, "normal", [&]<typename T>() {
    T* out = result.data<T>();
    parallel_for(result.numel(), kChunk, [&](int64_t begin, int64_t end) {
      Random random = source;
      random.seek_block(uint64_t(begin / 2));
      for (int64_t i = begin; i < end; ++i) out[i] = T(random.normal());
    });
  });
  return result;
}

Tensor Lab::correlated(int64_t side, int64_t channels, double rho) {
  Tensor field = normal({1, side, side, channels});
  filter_axis(field.data<float>(), side, side, channels, rho);
  filter_axis(field.data<float>(), 1, side, side * channels, rho);
  return field;
}

void Lab::equal(const std::string& name, const std::string& setting, double predicted, const Estimate& measured, double bound) {
  TheoryCheck check{name, setting, predicted, measured.value, measured.standard_error, 0, bound, false, false};
  check.z = normal_score((measured.value - predicted) / measured.standard_error, measured.degrees);
  add(std::move(check));
}

void Lab::exact(const std::string& name, const std::string& setting, double predicted, double measured, double bound) {
  add({name, setting, predicted, measured, 0, 0, bound, false, false});
}

void Lab::at_most(const std::string& name, const std::string& setting, double limit, double measured) {
  add({name, setting, limit, measured, 0, 0, 0, true, false});
}

void Lab::add(TheoryCheck check) {
  const double distance = check.measured - check.predicted;
  const bool within = check.at_most ? distance <= 0 : std::abs(distance) <= check.bound * std::abs(check.predicted);
  check.pass = within && std::abs(check.z) < kLargestScore;  // false for NaN
  if (request_.on_check) request_.on_check(check);
  report.checks.push_back(std::move(check));
}

std::vector<double> second_moments(const Tensor& x, double origin) {
  std::vector<double> result;
  for (const Moments& channel : channel_moments(x, 0, x.size(-1))) {
    result.push_back(channel.variance() + (channel.mean - origin) * (channel.mean - origin));
  }
  return result;
}

Estimate resized_ratio(int64_t maps, int64_t out, bool align_corners, double origin, const MakeField& make) {
  constexpr int64_t kElements = int64_t{1} << 25;  // of a resized block
  const int64_t block = std::clamp<int64_t>(kElements / (out * out), 8, 512);
  BatchSums sums;
  for (int64_t done = 0; done < maps; done += block) {
    const Tensor x = make(std::min(block, maps - done));
    const auto before = second_moments(x, origin), after = second_moments(resize_bilinear(x, out, out, align_corners), origin);
    for (size_t c = 0; c < before.size(); ++c) sums.add(after[c], before[c]);
  }
  return sums.estimate();
}

}  // namespace eq
