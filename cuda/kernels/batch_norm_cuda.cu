// Statistics and gradient sums are a pass of partial sums over chunks of rows and a small kernel that adds the chunks;
// applying is one pass (cuda/channel_passes.h). The coefficients are formed where they are used, from the [C] vectors.

#include "core/kernels/batch_norm.h"

#include "cuda/channel_passes.h"

namespace eq::cuda {
namespace {

ChannelLayout layout_of(const Tensor& x) {
  const int64_t channels = x.size(-1);
  return {1, x.numel() / std::max<int64_t>(1, channels), channels};
}

template <class W>
ChannelAffine<W> affine_of(const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std, bool relu) {
  return {data<W>(mean), data<W>(inv_std), data<W>(gamma), data<W>(beta), mean.numel(), 1, relu};
}

template <class T>
struct FinishStatistics {
  const T* x;
  Wide<T> *mean, *inv_std, *variance;
  double rows, eps;
  __device__ void operator()(int64_t, int64_t c, double sum, double squares) const {
    const double away = sum / rows, v = (squares - sum * away) / rows;
    const double biased = v < 0 ? 0 : v;  // a rounded negative becomes 0, NaN stays
    mean[c] = Wide<T>(double(x[c]) + away);
    variance[c] = Wide<T>(biased);
    inv_std[c] = Wide<T>(1 / std::sqrt(biased + eps));
  }
};

template <class W>
struct UpdateRunning {
  const W *mean, *variance;
  W *running_mean, *running_var;
  double momentum, unbiased;
  EQ_HOST_DEVICE void operator()(int64_t c) const {
    running_mean[c] = W((1 - momentum) * double(running_mean[c]) + momentum * double(mean[c]));
    running_var[c] = W((1 - momentum) * double(running_var[c]) + momentum * unbiased * double(variance[c]));
  }
};

template <class W>
struct InverseStd {
  const W* variance;
  double eps;
  W* inv_std;
  EQ_HOST_DEVICE void operator()(int64_t c) const { inv_std[c] = W(1 / std::sqrt(double(variance[c]) + eps)); }
};

template <class W>
struct FinishGradients {
  const W *gamma, *inv_std;
  W *grad_gamma, *grad_beta, *slope, *offset;
  double rows;
  __device__ void operator()(int64_t, int64_t c, double sum, double products) const {
    const double inverse = inv_std[c], factor = -inverse * (gamma != nullptr ? double(gamma[c]) : 1.0) / rows;
    grad_beta[c] = W(sum);
    grad_gamma[c] = W(products * inverse);
    offset[c] = W(factor * sum);
    slope[c] = W(factor * products * inverse * inverse);
  }
};

}  // namespace

void batch_norm_statistics(const Tensor& x, Tensor& mean, Tensor& inv_std, Tensor& biased_var, double eps) {
  dispatch(x.dtype(), "batch_norm", [&]<typename T>() {
    using W = Wide<T>;
    const ChannelLayout layout = layout_of(x);
    channel_moments<T>(
        x, layout,
        FinishStatistics<T>{data<T>(x), data<W>(mean), data<W>(inv_std), data<W>(biased_var), double(layout.rows), eps});
  });
}

void batch_norm_forward(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean, const Tensor& inv_std,
                        bool relu, Tensor& y) {
  dispatch(x.dtype(), "batch_norm", [&]<typename T>() {
    channel_affine<T>(x, layout_of(x), affine_of<Wide<T>>(gamma, beta, mean, inv_std, relu), y);
  });
}

void batch_norm_update_running(const Tensor& mean, const Tensor& biased_var, int64_t count, double momentum,
                               Tensor& running_mean, Tensor& running_var) {
  dispatch_floating(mean.dtype(), "batch_norm", [&]<typename W>() {
    for_each(mean.device(), "batch_norm running statistics", mean.numel(),
             UpdateRunning<W>{data<W>(mean), data<W>(biased_var), data<W>(running_mean), data<W>(running_var), momentum,
                              double(count) / double(count - 1)});
  });
  running_mean.bump_version();
  running_var.bump_version();
}

void batch_norm_inverse_std(const Tensor& var, double eps, Tensor& inv_std) {
  dispatch_floating(var.dtype(), "batch_norm", [&]<typename W>() {
    for_each(var.device(), "batch_norm inverse std", var.numel(), InverseStd<W>{data<W>(var), eps, data<W>(inv_std)});
  });
}

void batch_norm_backward(const Tensor& grad_y, const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& mean,
                         const Tensor& inv_std, bool relu, bool training, Tensor& grad_x, Tensor& grad_gamma,
                         Tensor& grad_beta) {
  dispatch(x.dtype(), "batch_norm", [&]<typename T>() {
    using W = Wide<T>;
    const ChannelLayout layout = layout_of(x);
    const ChannelAffine<W> affine = affine_of<W>(gamma, beta, mean, inv_std, relu);
    const Tensor slope = Tensor::empty_like(mean), offset = Tensor::empty_like(mean);
    channel_gradient_sums<T>(grad_y, x, layout, affine, training ? nullptr : data<T>(grad_x),
                             FinishGradients<W>{affine.gamma, affine.inv_std, data<W>(grad_gamma), data<W>(grad_beta),
                                                data<W>(slope), data<W>(offset), double(layout.rows)});
    if (training && grad_x.defined())
      channel_gradient<T>(grad_y, x, layout, affine, data<W>(slope), data<W>(offset), grad_x);
  });
}

}  // namespace eq::cuda
