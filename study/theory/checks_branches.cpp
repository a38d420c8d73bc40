// Rectification, pooled branches and additive paths: what reaches a fusion.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "layers/moments.h"
#include "study/theory/closed_forms.h"
#include "study/theory/lab.h"

namespace eq {
namespace {

void check_moments(Lab& lab, const std::string& setting, const Tensor& x, MeanVariance predicted) {
  BatchSums mean, variance;
  for (const Moments& channel : channel_moments(x, 0, x.size(-1))) {
    mean.add(channel.mean);
    variance.add(channel.variance() + std::pow(channel.mean - predicted.mean, 2));
  }
  lab.equal("rectified normal", setting + ": mean", predicted.mean, mean.estimate(), 0.02);
  lab.equal("rectified normal", setting + ": variance", predicted.variance, variance.estimate(), 0.03);
}

Tensor normalised_and_rectified(const Tensor& x, double gamma, double beta) {
  const Shape channels{x.size(-1)};
  Tensor running_mean = Tensor::zeros(channels), running_var = Tensor::full(channels, 1);
  return batch_norm(x, Tensor::full(channels, gamma), Tensor::full(channels, beta), running_mean, running_var,
                    {.update_running = false, .relu = true});
}

}  // namespace

void check_rectified(Lab& lab) {
  const int64_t rows = std::max<int64_t>(8192, lab.request().samples / 64);
  check_moments(lab, "ReLU of a standard normal", relu(lab.normal({rows, 64})), {kRectifiedNormalMean, kRectifiedNormalVariance});
  check_moments(lab, "gamma=1.5 beta=0.3", normalised_and_rectified(lab.normal({rows, 64}), 1.5, 0.3), rectified_moments(0.3, 1.5));
  // Whatever scale the convolution has, batch norm removes it.
  const int64_t images = std::max<int64_t>(1, rows / 4096);
  const Tensor features = conv2d(lab.normal({images, 66, 66, 64}), lab.normal({64, 3, 3, 1}) * 7.0, {}, Conv2dOptions().set_groups(64));
  check_moments(lab, "convolution of gain 21, batch norm, ReLU", normalised_and_rectified(features, 1, 0),
                {kRectifiedNormalMean, kRectifiedNormalVariance});
  for (const double c : {0.5, 0.8, 0.95}) {
    const Tensor x = lab.normal({rows, 64}), rest = lab.normal({rows, 64});
    const Tensor a = relu(x), b = relu(x * c + rest * std::sqrt(1 - c * c));
    const Tensor products = mul(a - kRectifiedNormalMean, b - kRectifiedNormalMean);
    BatchSums sums;
    for (const Moments& batch : channel_moments(products, 0, 64)) sums.add(batch.mean, kRectifiedNormalVariance);
    lab.equal("rectified correlation", fmt::format("before the ReLU {}", c), rectified_correlation(c), sums.estimate(), 0.03);
  }
}

namespace {

struct PooledBranch {
  int64_t cells, bins;
  BatchSums pooling, upsampling;

  std::string setting() const { return fmt::format("n={} s={}", cells, bins); }
  void add(const Tensor& x) {
    const Tensor small = adaptive_avg_pool2d(x, bins, bins);
    for (const double value : second_moments(small, 0)) pooling.add(value);
    const Tensor standard = normalised_and_rectified(small, 1, 0);
    const auto before = channel_moments(standard, 0, x.size(3));
    const auto after = channel_moments(resize_bilinear(standard, cells, cells, false), 0, x.size(3));
    for (size_t c = 0; c < before.size(); ++c) upsampling.add(after[c].variance(), before[c].variance());
  }
};

}  // namespace

// Pyramid pooling: white noise pooled to s x s, then batch norm and ReLU, then upsampled back.
void check_pooled(Lab& lab) {
  std::vector<PooledBranch> branches;
  for (const int64_t n : {12, 16, 60, 64}) {
    const size_t first = branches.size();
    for (const int64_t bins : {1, 2, 3, 6}) branches.push_back({n, bins, {}, {}});
    for (int64_t block = 0; block < std::max<int64_t>(4, lab.request().samples >> 17); ++block) {
      const Tensor x = lab.normal({64, n, n, 8});
      for (size_t i = first; i < branches.size(); ++i) branches[i].add(x);
    }
  }
  for (const PooledBranch& b : branches) {
    lab.equal("pooling", b.setting(), std::pow(adaptive_pool_variance_factor(b.cells, b.bins), 2), b.pooling.estimate(), 0.1);
  }
  for (const PooledBranch& b : branches) {
    const double predicted = pooled_branch_variance_factor(b.cells, b.bins, false);
    const Estimate measured = b.upsampling.estimate();
    if (b.bins == 1) lab.exact("pooled, standardised, rectified, upsampled", b.setting(), predicted, measured.value, 1e-5);
    else lab.equal("pooled, standardised, rectified, upsampled", b.setting(), predicted, measured, 0.05);
  }
}

// UPerHead's top-down path: each level adds the level above, upsampled.
void check_additive(Lab& lab) {
  const std::vector<int64_t> sides = {16, 32, 64, 128};
  const auto predicted = additive_path_moments(sides, {kRectifiedNormalMean, kRectifiedNormalVariance}, false);
  std::vector<BatchSums> mean(sides.size()), variance(sides.size());
  for (int64_t done = 0; done < std::max<int64_t>(256, lab.maps(128)); done += 32) {
    Tensor sum;
    for (size_t level = 0; level < sides.size(); ++level) {
      const Tensor lateral = relu(lab.normal({1, sides[level], sides[level], 32}));
      sum = level == 0 ? lateral : lateral + resize_bilinear(sum, sides[level], sides[level], false);
      for (const Moments& map : channel_moments(sum, 0, 32)) {
        mean[level].add(map.mean);
        variance[level].add(map.variance() + std::pow(map.mean - predicted[level].mean, 2));
      }
    }
  }
  for (size_t level = 0; level < sides.size(); ++level) {
    const std::string setting = fmt::format("level of {} x {}, {} summands", sides[level], sides[level], level + 1);
    lab.equal("additive path", setting + ": mean", predicted[level].mean, mean[level].estimate(), 0.05);
    lab.equal("additive path", setting + ": variance", predicted[level].variance, variance[level].estimate(), 0.06);
  }
}

}  // namespace eq
