#include "core/kernels/batch_norm.h"

#include <cmath>

#include "core/kernels/batch_norm_cpu.h"
#include "core/kernels/channel_passes.h"

namespace eq::cpu {
namespace {

ChannelLayout layout_of(const Tensor& x) {
  const int64_t channels = x.size(-1);
  return {1, x.numel() / std::max<int64_t>(1, channels), channels};
}

}  // namespace

void batch_norm_statistics(const Tensor& x, Tensor& mean, Tensor& inv_std, Tensor& biased_var, double eps) {
  dispatch_floating(x.dtype(), "batch_norm", [&]<typename T>() {
    const ChannelLayout layout = layout_of(x);
    std::vector<double> means(size_t(layout.channels)), squares(means.size());
    channel_moments(x.data<T>(), layout, means.data(), squares.data());
    for (int64_t c = 0; c < layout.channels; ++c) {
      const double variance = squares[c] / double(layout.rows);
      mean.data<T>()[c] = T(means[c]);
      biased_var.data<T>()[c] = T(variance);
      inv_std.data<T>()[c] = T(1 / std::sqrt(variance + eps));
    }
  });
}

void batch_norm_update_running(const Tensor& mean, const Tensor& biased_var, int64_t count, double momentum,
                               Tensor& running_mean, Tensor& running_var) {
  dispatch_floating(mean.dtype(), "batch_norm", [&]<typename T>() {
    const double unbiased = double(count) / double(count - 1);
    for (int64_t c = 0; c < mean.numel(); ++c) {
      T &m = running_mean.data<T>()[c], &v = running_var.data<T>()[c];
      m = T((1 - momentum) * double(m) + momentum * double(mean.data<T>()[c]));
      v = T((1 - momentum) * double(v) + momentum * unbiased * double(biased_var.data<T>()[c]));
    }
  });
  running_mean.bump_version();
  running_var.bump_version();
}

void batch_norm_inverse_std(const Tensor& var, double eps, Tensor& inv_std) {
  dispatch_floating(var.dtype(), "batch_norm", [&]<typename T>() {
    for (int64_t c = 0; c < var.numel(); ++c) inv_std.data<T>()[c] = T(1 / std::sqrt(double(var.data<T>()[c]) + eps));
  });
}

void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                        bool relu, Tensor& y) {
  dispatch_floating(x.dtype(), "batch_norm", [&]<typename T>() {
    const NormCoefficients<T> k(gamma, beta, inv_std);
    channel_affine(x.data<T>(), layout_of(x), ChannelAffine<T>{mean.data<T>(), k.scale.data(), k.shift.data(), relu},
                   y.data<T>());
  });
}

void batch_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                         const Tensor& inv_std, bool relu, bool training, Tensor& grad_x, Tensor& grad_gamma,
                         Tensor& grad_beta) {
  dispatch_floating(x.dtype(), "batch_norm", [&]<typename T>() {
    const ChannelLayout layout = layout_of(x);
    const int64_t channels = layout.channels;
    const NormCoefficients<T> k(gamma, beta, inv_std);
    const ChannelAffine<T> affine{mean.data<T>(), k.scale.data(), k.shift.data(), relu};
    T* out = grad_x.defined() ? grad_x.data<T>() : nullptr;
    std::vector<double> sum(static_cast<size_t>(channels)), products(sum.size());
    channel_gradient_sums(grad_y.data<T>(), x.data<T>(), layout, affine, training ? nullptr : out, sum.data(),
                          products.data());
    std::vector<T> slope(sum.size()), offset(sum.size());
    for (int64_t c = 0; c < channels; ++c) {
      const double inverse = double(inv_std.data<T>()[c]), factor = -double(k.scale[c]) / double(layout.rows);
      grad_beta.data<T>()[c] = T(sum[c]);
      grad_gamma.data<T>()[c] = T(products[c] * inverse);
      offset[c] = T(factor * sum[c]);
      slope[c] = T(factor * products[c] * inverse * inverse);
    }
    if (training && out) {
      channel_gradient(grad_y.data<T>(), x.data<T>(), layout, affine, slope.data(), offset.data(), out);
    }
  });
}

}  // namespace eq::cpu
