#include "layers/moments.h"

#include <algorithm>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"

namespace eq {
namespace {

// The same by the device's own reductions; only the results travel.
std::vector<Moments> moments_on_device(const Tensor& x, int64_t begin, int64_t end) {
  NoGradGuard no_grad;
  const int64_t channels = x.size(-1), rows = x.numel() / channels;
  Tensor part = slice(x.alias({rows, channels}), 1, begin, end);
  if (part.dtype() == DType::kBFloat16) part = part.to(DType::kFloat32);
  const auto means = mean(part, {0}).to(DType::kFloat64).to_vector<double>();
  const auto variances = var(part, {0}, false).to(DType::kFloat64).to_vector<double>();
  std::vector<Moments> moments;
  for (size_t c = 0; c < means.size(); ++c) moments.push_back({rows, means[c], variances[c] * double(rows)});
  return moments;
}

}  // namespace

Tensor host_values(const Tensor& x) {
  const Tensor here = x.to(Device::cpu());
  return here.dtype() == DType::kBFloat16 ? here.to(DType::kFloat32) : here;
}

std::vector<Moments> channel_moments(const Tensor& x, int64_t begin, int64_t end) {
  const int64_t channels = x.size(-1), width = end - begin, rows = channels == 0 ? 0 : x.numel() / channels;
  constexpr int64_t kRows = 1024;
  if (x.device().is_cuda() && rows > 0) return moments_on_device(x, begin, end);
  return dispatch_floating(x.dtype(), "channel_moments", [&]<typename T>() {
    const T* data = x.data<T>() + begin;
    return parallel_reduce(
        rows, kRows, std::vector<Moments>(width),
        [&](int64_t first, int64_t last) {
          // Two passes over a block that stays in the cache: the mean first, so that nothing cancels.
          std::vector<double> sum(width, 0), squares(width, 0);
          for (int64_t row = first; row < last; ++row) {
            for (int64_t c = 0; c < width; ++c) sum[c] += double(data[row * channels + c]);
          }
          const double count = double(last - first);
          for (double& value : sum) value /= count;
          for (int64_t row = first; row < last; ++row) {
            for (int64_t c = 0; c < width; ++c) {
              const double deviation = double(data[row * channels + c]) - sum[c];
              squares[c] += deviation * deviation;
            }
          }
          std::vector<Moments> part(width);
          for (int64_t c = 0; c < width; ++c) part[c] = {last - first, sum[c], squares[c]};
          return part;
        },
        [](std::vector<Moments> total, const std::vector<Moments>& part) {
          for (size_t c = 0; c < total.size(); ++c) total[c].merge(part[c]);
          return total;
        });
  });
}

Moments pooled(const std::vector<Moments>& parts) {
  Moments total;
  for (const Moments& part : parts) total.merge(part);
  return total;
}

StandardErrors standard_errors(const std::vector<Moments>& groups) {
  const Moments all = pooled(groups);
  const double number = double(groups.size()), variance = all.variance();
  if (groups.size() < 2) return {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::quiet_NaN()};
  double of_mean = 0, of_variance = 0;
  for (const Moments& group : groups) {
    const double count = double(group.count), away = group.mean - all.mean;
    const double first = count * away, second = group.m2 + count * (away * away - variance);
    of_mean += first * first;
    of_variance += second * second;
  }
  const double scale = std::sqrt(number / (number - 1)) / double(all.count);
  return {scale * std::sqrt(of_mean), variance > 0 ? scale * std::sqrt(of_variance) / (2 * all.standard_deviation()) : 0};
}

}  // namespace eq
