#include "core/kernels/group_norm.h"

#include <cmath>

#include "core/kernels/channel_passes.h"

namespace eq::cpu {
namespace {

ChannelLayout layout_of(const Tensor& x) {
  const int64_t images = x.size(0), channels = x.size(-1);
  return {images, x.numel() / std::max<int64_t>(1, images * channels), channels};
}

// The statistics of each channel's group, spread over the channels of each image.
template <class T>
struct Coefficients {
  std::vector<T> mean, scale, shift;  // [N, C], [N, C], [C]
  Coefficients(const ChannelLayout& layout, int64_t groups, const Tensor& gamma, const Tensor& beta, const Tensor& means,
               const Tensor& inv_stds)
      : mean(size_t(layout.samples * layout.channels)), scale(mean.size()), shift(size_t(layout.channels)) {
    const int64_t width = layout.channels / groups;
    for (int64_t i = 0; i < int64_t(mean.size()); ++i) {
      const int64_t c = i % layout.channels, group = i / layout.channels * groups + c / width;
      mean[i] = means.data<T>()[group];
      scale[i] = inv_stds.data<T>()[group] * (gamma.defined() ? gamma.data<T>()[c] : T(1));
    }
    if (beta.defined()) shift = beta.to_vector<T>();
  }
};

}  // namespace

void group_norm_forward(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& beta, double eps, Tensor& y,
                        Tensor& mean, Tensor& inv_std) {
  dispatch_floating(x.dtype(), "group_norm", [&]<typename T>() {
    const ChannelLayout layout = layout_of(x);
    const int64_t width = layout.channels / groups;
    std::vector<double> means(size_t(layout.samples * layout.channels)), squares(means.size());
    channel_moments(x.data<T>(), layout, means.data(), squares.data());
    for (int64_t group = 0; group < layout.samples * groups; ++group) {
      const double *m = means.data() + group * width, *s = squares.data() + group * width;
      double centre = 0, spread = 0;  // every channel of a group has as many values
      for (int64_t c = 0; c < width; ++c) centre += m[c] / double(width);
      for (int64_t c = 0; c < width; ++c) spread += s[c] + double(layout.rows) * (m[c] - centre) * (m[c] - centre);
      mean.data<T>()[group] = T(centre);
      inv_std.data<T>()[group] = T(1 / std::sqrt(spread / double(layout.rows * width) + eps));
    }
    const Coefficients<T> k(layout, groups, gamma, beta, mean, inv_std);
    channel_affine(x.data<T>(), layout, ChannelAffine<T>{k.mean.data(), k.scale.data(), k.shift.data()}, y.data<T>());
  });
}

void group_norm_backward(const Tensor& grad_y, const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& mean,
                         const Tensor& inv_std, Tensor& grad_x, Tensor& grad_gamma, Tensor& grad_beta) {
  dispatch_floating(x.dtype(), "group_norm", [&]<typename T>() {
    const ChannelLayout layout = layout_of(x);
    const int64_t channels = layout.channels, width = channels / groups;
    const Coefficients<T> k(layout, groups, gamma, {}, mean, inv_std);
    const ChannelAffine<T> affine{k.mean.data(), k.scale.data(), k.shift.data()};
    std::vector<double> sum(size_t(layout.samples * channels)), products(sum.size());
    channel_gradient_sums<T>(grad_y.data<T>(), x.data<T>(), layout, affine, nullptr, sum.data(), products.data());

    std::vector<double> gamma_total(static_cast<size_t>(channels)), beta_total(gamma_total.size());
    std::vector<T> slope(sum.size()), offset(sum.size());
    for (int64_t group = 0; group < layout.samples * groups; ++group) {
      const double inverse = double(inv_std.data<T>()[group]);
      const int64_t first = group * width;  // among [N, C]
      double h = 0, h_xhat = 0;
      for (int64_t i = first; i < first + width; ++i) {
        const int64_t c = i % channels;
        const double factor = gamma.defined() ? double(gamma.data<T>()[c]) : 1.0;
        h += factor * sum[i];
        h_xhat += factor * products[i] * inverse;
        beta_total[c] += sum[i];
        gamma_total[c] += products[i] * inverse;
      }
      const double per_value = -inverse / double(layout.rows * width);
      std::fill_n(offset.begin() + first, width, T(per_value * h));
      std::fill_n(slope.begin() + first, width, T(per_value * h_xhat * inverse));
    }
    for (int64_t c = 0; c < channels; ++c) {
      grad_gamma.data<T>()[c] = T(gamma_total[c]);
      grad_beta.data<T>()[c] = T(beta_total[c]);
    }
    if (grad_x.defined()) {
      channel_gradient(grad_y.data<T>(), x.data<T>(), layout, affine, slope.data(), offset.data(), grad_x.data<T>());
    }
  });
}

}  // namespace eq::cpu
