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
  const int64_t rows = std::max<int64_t>(1024, lab.request().samples / 64);
  check_moments(lab, "ReLU of a standard normal", relu(lab.normal({rows, 64})), {kRectifiedNormalMean, kRectifiedNormalVariance});
  check_moments(lab, "gamma=1.5 beta=0.3", normalised_and_rectified(lab.normal({rows, 64}), 1.5, 0.3), rectified_moments(0.3, 1.5));
  // Whatever scale the convolution has, batch norm removes it.
  const Tensor weight = lab.normal({64, 3, 3, 4}) * 7.0;
  const Tensor features = conv2d(lab.normal({4, 64, 64, 4}), weight, {}, Conv2dOptions().padding(1));
  check_moments(lab, "convolution of gain 42, batch norm, ReLU", normalised_and_rectified(features, 1, 0),
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

// Pyramid pooling: white noise pooled to s x s, then batch norm and ReLU, then upsampled back.
void check_pooled(Lab& lab) {
  constexpr int64_t kImages = 128, kChannels = 8;
  const std::vector<int64_t> bins = {1, 2, 3, 6};
  for (const int64_t n : {12, 16, 60, 64}) {
    std::vector<BatchSums> pooling(bins.size()), branch(bins.size());
    const int64_t blocks = std::max<int64_t>(4, lab.request().samples / (int64_t{1} << 18));
    for (int64_t block = 0; block < blocks; ++block) {
      const Tensor x = lab.normal({kImages, n, n, kChannels});
      for (size_t i = 0; i < bins.size(); ++i) {
        const Tensor small = adaptive_avg_pool2d(x, bins[i], bins[i]);
        for (const double value : second_moments(small, 0)) pooling[i].add(value);
        const Tensor standard = normalised_and_rectified(small, 1, 0);
        const auto before = channel_moments(standard, 0, kChannels), after = channel_moments(resize_bilinear(standard, n, n, false), 0, kChannels);
        for (size_t c = 0; c < before.size(); ++c) branch[i].add(after[c].variance(), before[c].variance());
      }
    }
    for (size_t i = 0; i < bins.size(); ++i) {
      const std::string setting = fmt::format("n={} s={}", n, bins[i]);
      lab.equal("pooling", setting, std::pow(adaptive_pool_variance_factor(n, bins[i]), 2), pooling[i].estimate(), 0.1);
      const double predicted = pooled_branch_variance_factor(n, bins[i], false);
      const Estimate measured = branch[i].estimate();
      if (bins[i] == 1) lab.exact("pooled, upsampled", setting, predicted, measured.value, 1e-5);
      else lab.equal("pooled, upsampled", setting, predicted, measured, 0.05);
    }
  }
}

// UPerHead's top-down path: each level adds the level above, upsampled.
void check_additive(Lab& lab) {
  const std::vector<int64_t> sides = {16, 32, 64, 128};
  const auto predicted = additive_path_moments(sides, {kRectifiedNormalMean, kRectifiedNormalVariance}, false);
  std::vector<BatchSums> mean(sides.size()), variance(sides.size());
  for (int64_t done = 0; done < lab.maps(128); done += 32) {
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
    lab.equal("additive path", setting + ": mean", predicted[level].mean, mean[level].estimate(), 0.02);
    lab.equal("additive path", setting + ": variance", predicted[level].variance, variance[level].estimate(), 0.05);
  }
}

}  // namespace eq
