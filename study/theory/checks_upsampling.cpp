// What bilinear upsampling does to random fields and to single pictures.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "autograd/functional.h"
#include "layers/moments.h"
#include "study/theory/closed_forms.h"
#include "study/theory/lab.h"

namespace eq {
namespace {

// The authors' script (paper, section 5): mean 0.3989, variances 0.01 to 0.99.
constexpr double kScriptMean = 0.3989;
constexpr int64_t kScriptSide = 128, kScriptMaps = 16 * 256, kScriptVariances = 99;

std::string sizes(int64_t n, int64_t ratio, bool align_corners) {
  return fmt::format("n={} r={} align_corners={}", n, ratio, align_corners);
}

double square_factor(int64_t n, int64_t m, bool align_corners, double rho = 0) {
  return std::pow(bilinear_variance_factor(n, m, align_corners, rho), 2);
}

struct Line {  // one ratio of the script
  int64_t ratio;
  BatchSums slope;
  double largest_shift = 0;  // of a map's mean, relative
};

// Upsamples one block of maps by the line's ratio.
void add_block(Line& line, const Tensor& x, const std::vector<Moments>& before, double variance, Moments& total) {
  const Tensor y = resize_bilinear(x, kScriptSide * line.ratio, kScriptSide * line.ratio, false);
  const auto after = channel_moments(y, 0, y.size(3));
  for (size_t c = 0; c < after.size(); ++c) {
    const auto around_mean = [](const Moments& m) { return m.variance() + std::pow(m.mean - kScriptMean, 2); };
    line.slope.add(around_mean(after[c]) / variance, around_mean(before[c]) / variance);
    line.largest_shift = std::max(line.largest_shift, std::abs(after[c].mean / before[c].mean - 1));
  }
  total.merge(pooled(after));
}

void run_script(Lab& lab) {
  const int64_t maps =
      lab.request().full ? kScriptMaps : std::clamp<int64_t>(lab.request().samples / (kScriptSide * kScriptSide) / 4, 8, kScriptMaps);
  const int64_t step = lab.request().full ? 1 : 14;  // 0.01, 0.15, ..., 0.99
  constexpr int64_t kBlock = 16;
  std::vector<Line> lines = {{2, {}}, {4, {}}, {8, {}}};
  for (int64_t hundredths = 1; hundredths <= kScriptVariances; hundredths += step) {
    const double variance = double(hundredths) / 100;
    Moments before_total;
    std::vector<Moments> after_total(lines.size());
    for (int64_t done = 0; done < maps; done += kBlock) {
      Tensor x = lab.normal({1, kScriptSide, kScriptSide, std::min(kBlock, maps - done)});
      x = x.mul_(std::sqrt(variance)).add_(Tensor::full(x.shape(), kScriptMean));
      const auto before = channel_moments(x, 0, x.size(3));
      before_total.merge(pooled(before));
      for (size_t i = 0; i < lines.size(); ++i) add_block(lines[i], x, before, variance, after_total[i]);
    }
    for (size_t i = 0; i < lines.size(); ++i) {
      lab.report.white_noise.push_back({lines[i].ratio, variance, before_total.variance(), after_total[i].variance()});
    }
  }
  for (const Line& line : lines) {
    lab.equal("the authors' script", fmt::format("slope of variance after over before, r={}", line.ratio),
              square_factor(kScriptSide, kScriptSide * line.ratio, false), line.slope.estimate(), 0.02);
    lab.at_most("the authors' script", fmt::format("largest relative change of a map's mean, r={} (rounding)", line.ratio), 1e-4,
                line.largest_shift);
  }
}

}  // namespace

void check_white_noise(Lab& lab) {
  run_script(lab);
  for (const bool align_corners : {false, true}) {
    for (const int64_t n : {16, 128}) {
      for (const int64_t ratio : {2, 3, 4, 5, 8, 16}) {
        const Estimate measured = resized_ratio(lab.maps(n), n * ratio, align_corners, 0,
                                                [&](int64_t channels) { return lab.normal({1, n, n, channels}); });
        lab.equal("white noise", sizes(n, ratio, align_corners), square_factor(n, n * ratio, align_corners), measured, 0.02);
      }
    }
  }
}

// What repeats values keeps their variance.
void check_nearest(Lab& lab) {
  for (const int64_t ratio : {2, 4, 8}) {
    const Tensor x = lab.normal({1, 16, 16, 16}, DType::kFloat64), y = resize_nearest(x, 16 * ratio, 16 * ratio);
    lab.exact("nearest", fmt::format("n=16 r={}: variance after over before", ratio), 1,
              pooled(channel_moments(y, 0, 16)).variance() / pooled(channel_moments(x, 0, 16)).variance(), 1e-12);
  }
}

// Variance of each sub-pixel phase along one axis, far from the borders.
void check_phases(Lab& lab) {
  constexpr int64_t kCells = 64;
  for (const int64_t ratio : {2, 4, 8}) {
    const int64_t out = kCells * ratio, channels = std::clamp<int64_t>(lab.request().samples / kCells / 8, 1024, 8192);
    const Tensor y = resize_bilinear(lab.normal({1, 1, kCells, channels}), 1, out, false);
    const float* values = y.data<float>();
    for (int64_t phase = 0; phase < ratio; ++phase) {
      BatchSums sums;
      for (int64_t c = 0; c < channels; ++c) {
        double squares = 0;
        for (int64_t j = ratio + phase; j < out - ratio; j += ratio) squares += std::pow(double(values[j * channels + c]), 2);
        sums.add(squares, double(kCells - 2));
      }
      lab.equal("sub-pixel phase", fmt::format("one axis, r={} phase {}", ratio, phase),
                position_variance(ratio + phase, kCells, out, false), sums.estimate(), 0.06);
    }
  }
}

void check_correlated(Lab& lab) {
  constexpr int64_t kSide = 64;
  for (const double rho : {0.3, 0.6, 0.9}) {
    for (const int64_t ratio : {2, 4, 8}) {
      const Estimate measured = resized_ratio(lab.maps(kSide), kSide * ratio, false, 0,
                                              [&](int64_t channels) { return lab.correlated(kSide, channels, rho); });
      lab.equal("correlated cells", fmt::format("n={} r={} rho={}", kSide, ratio, rho), square_factor(kSide, kSide * ratio, false, rho),
                measured, 0.02);
    }
  }
  // Rectified: no longer separable, so the diagonal's correlation counts.
  for (const double rho : {0.6, 0.9}) {
    const double beside = rectified_correlation(rho), diagonal = rectified_correlation(rho * rho);
    const double factor = bilinear_variance_factor(kSide, kSide * 2, false);
    const Estimate measured = resized_ratio(lab.maps(kSide), kSide * 2, false, kRectifiedNormalMean,
                                            [&](int64_t channels) { return relu(lab.correlated(kSide, channels, rho)); });
    lab.equal("correlated cells", fmt::format("n={} r=2 rho={} before a ReLU", kSide, rho),
              stationary_variance_factor(factor, factor, beside, beside, diagonal), measured, 0.02);
  }
  // b(image) + z(pixel): what all pixels of a picture share passes through.
  constexpr double kBetween = 0.3, kWithin = 0.7;
  constexpr int64_t kSmall = 16;
  BatchSums sums;
  for (int64_t done = 0; done < std::max<int64_t>(4096, lab.maps(kSmall)); done += 256) {
    const Tensor x = add(lab.normal({1, 1, 1, 256}) * std::sqrt(kBetween), lab.normal({1, kSmall, kSmall, 256}) * std::sqrt(kWithin));
    for (const double value : second_moments(resize_bilinear(x, kSmall * 4, kSmall * 4, false), 0)) sums.add(value);
  }
  lab.equal("between pictures", "variance 0.3 between, 0.7 within, n=16 r=4", kBetween + kWithin * square_factor(kSmall, kSmall * 4, false),
            sums.estimate(), 0.05);
}

namespace {

// Largest variance after over before of random-walk pictures.
double largest_gain(Lab& lab, int64_t side, int64_t ratio, int64_t pictures) {
  Tensor x = lab.normal({1, side, side, pictures}, DType::kFloat64);
  double* values = x.data<double>();
  const int64_t row = side * pictures;
  for (int64_t i = 0; i < x.numel(); ++i) {
    if (i % row >= pictures) values[i] += values[i - pictures];
  }
  for (int64_t i = row; i < x.numel(); ++i) values[i] += values[i - row];
  const auto before = channel_moments(x, 0, pictures);
  const auto after = channel_moments(resize_bilinear(x, side * ratio, side * ratio, false), 0, pictures);
  double largest = 0;
  for (size_t i = 0; i < before.size(); ++i) largest = std::max(largest, after[i].variance() / before[i].variance());
  return largest;
}

// Variance of sin(2 pi k/15), k = 0 .. 15, resized to 64.
double sine_variance(bool align_corners) {
  Tensor x = Tensor::empty({1, 1, 16, 1}, DType::kFloat64);
  for (int64_t k = 0; k < 16; ++k) x.data<double>()[k] = std::sin(2 * std::numbers::pi * double(k) / 15);
  return pooled(channel_moments(resize_bilinear(x, 1, 64, align_corners), 0, 1)).variance();
}

}  // namespace

void check_single_pictures(Lab& lab) {
  for (const int64_t ratio : {2, 3, 4, 8}) {
    lab.at_most("no picture gains", fmt::format("1000 random walks, n=16 r={} align_corners=false: largest ratio", ratio), 1,
                largest_gain(lab, 16, ratio, 1000));
  }
  lab.exact("a picture may gain", "sine of 16 cells, variance 0.46875, to 64, align_corners=true", 0.47804, sine_variance(true), 2e-5);
  lab.exact("a picture may gain", "the same sine, align_corners=false", 0.45482, sine_variance(false), 2e-5);
}

}  // namespace eq
