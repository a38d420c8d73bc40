#include "core/kernels/conv2d.h"

#include <algorithm>
#include <atomic>

#include "core/kernels/batch_norm_cpu.h"
#include "core/kernels/conv2d_batch_norm.h"
#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_winograd.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

enum class Algorithm { kDirect, kDepthwise, kNarrowGroups, kWinograd2, kWinograd4 };

std::atomic<bool> winograd_allowed{true};

// Pairs of an output and a tap of a three-tap filter that lies inside the image.
int64_t pairs(int64_t in, int64_t out, int64_t dilation, int64_t padding) {
  int64_t total = 0;
  for (int64_t tap = 0; tap < 3; ++tap) {
    const int64_t first = tap * dilation - padding;  // read by output 0
    total += std::max<int64_t>(0, std::min(out, in - first) - std::max<int64_t>(0, -first));
  }
  return total;
}

// The cheaper algorithm for a 3x3 filter of stride 1, in multiply-adds; the factors were fitted to times on AVX-512: a
// transformed value costs about 25 of them, a transformed filter 60, or 30 where few tiles keep it in cache.
Algorithm choose_for_3x3(const Shape& x, const Shape& y, const Conv2dOptions& o) {
  auto whole_vectors = [](int64_t channels) { return double(conv::divide_up(channels, 16) * 16); };
  const double in = double(x[3]), out = whole_vectors(y[3]), filters = in * out, in_vectors = whole_vectors(x[3]);
  auto cost = [&](int64_t tile) {
    const double tiles = double(conv::winograd_forward_shape(x, y, o, tile).tiles());
    const double values = double((tile + 2) * (tile + 2));
    return values * (1.3 * tiles * filters + 25 * tiles * (in_vectors + out) + (tiles <= conv::kDeepTiles ? 30 : 60) * filters);
  };
  const double direct = 1.1 * double(x[0]) * filters * double(pairs(x[1], y[1], o.dilation_h, o.pad_top)) *
                        double(pairs(x[2], y[2], o.dilation_w, o.pad_left));
  const double two = cost(2), four = cost(4);
  if (direct <= std::min(two, four)) return Algorithm::kDirect;
  return two < 1.1 * four ? Algorithm::kWinograd2 : Algorithm::kWinograd4;  // nearly equal: the more accurate one
}

// The one place where shapes choose their algorithm, for all three directions. float64 is for exact comparisons: direct.
Algorithm choose_algorithm(DType dtype, const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& o) {
  if (weight[3] == 1 && o.groups > 1) return Algorithm::kDepthwise;
  const bool narrow = dtype == DType::kFloat32 ? conv::narrow_groups<float>(weight[0], x[3], o.groups)
                                               : conv::narrow_groups<double>(weight[0], x[3], o.groups);
  if (narrow) return Algorithm::kNarrowGroups;
  const bool winograd = dtype == DType::kFloat32 && weight[1] == 3 && weight[2] == 3 && o.stride_h == 1 && o.stride_w == 1 &&
                        o.groups == 1 && winograd_allowed;
  return winograd ? choose_for_3x3(x, y, o) : Algorithm::kDirect;
}

template <class T>
void forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const conv::Finish<T>& finish, WeightCache* cache, Tensor& y,
             const Conv2dOptions& options) {
  switch (choose_algorithm(x.dtype(), x.shape(), weight.shape(), y.shape(), options)) {
    case Algorithm::kDirect: return conv::direct_forward<T>(x, weight, bias, finish, cache, y, options);
    case Algorithm::kDepthwise:
    case Algorithm::kNarrowGroups: return conv::depthwise_forward<T>(x, weight, bias, finish, y, options);
    case Algorithm::kWinograd2: return conv::winograd_forward<T, 2>(x, weight, bias, finish, cache, y, options);
    case Algorithm::kWinograd4: return conv::winograd_forward<T, 4>(x, weight, bias, finish, cache, y, options);
  }
}

}  // namespace

void allow_winograd(bool allow) { winograd_allowed = allow; }

void conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options) {
  dispatch_floating(x.dtype(), "conv2d", [&]<typename T>() { forward<T>(x, weight, bias, {}, nullptr, y, options); });
}

void conv2d_batch_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const InferenceNorm& norm, const Tensor& residual,
                               WeightCache* cache, Tensor& y, const Conv2dOptions& options) {
  dispatch_floating(x.dtype(), "conv2d_batch_norm", [&]<typename T>() {
    forward<T>(x, weight, bias, conv::Finish<T>(norm, residual, y), cache, y, options);
  });
}

void conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    switch (choose_algorithm(grad_y.dtype(), grad_x.shape(), weight.shape(), grad_y.shape(), options)) {
      case Algorithm::kDirect: return conv::direct_backward_input<T>(grad_y, weight, grad_x, options);
      case Algorithm::kDepthwise:
      case Algorithm::kNarrowGroups: return conv::depthwise_backward_input<T>(grad_y, weight, grad_x, options);
      case Algorithm::kWinograd2: return conv::winograd_backward_input<T, 2>(grad_y, weight, grad_x, options);
      case Algorithm::kWinograd4: return conv::winograd_backward_input<T, 4>(grad_y, weight, grad_x, options);
    }
  });
}

void conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    switch (choose_algorithm(grad_y.dtype(), x.shape(), grad_weight.shape(), grad_y.shape(), options)) {
      case Algorithm::kDirect:
      case Algorithm::kNarrowGroups: return conv::direct_backward_weight<T>(grad_y, x, grad_weight, options);
      case Algorithm::kDepthwise: return conv::depthwise_backward_weight<T>(grad_y, x, grad_weight, options);
      case Algorithm::kWinograd2: return conv::winograd_backward_weight<T, 2>(grad_y, x, grad_weight, options);
      case Algorithm::kWinograd4: return conv::winograd_backward_weight<T, 4>(grad_y, x, grad_weight, options);
    }
  });
}

void conv2d_backward_bias(const Tensor& grad_y, Tensor& grad_bias) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    const int64_t channels = grad_bias.numel(), pixels = grad_y.numel() / channels;
    const int64_t grain = std::max<int64_t>(64, conv::divide_up(pixels, 64)), chunks = conv::divide_up(pixels, grain);
    const T* in = grad_y.data<T>();
    conv::Buffer<T> parts(chunks * channels);
    parallel_for(pixels, grain, [&](int64_t begin, int64_t end) {
      T* part = parts.data() + begin / grain * channels;
      std::copy(in + begin * channels, in + (begin + 1) * channels, part);
      for (int64_t i = begin + 1; i < end; ++i) {
        for (int64_t k = 0; k < channels; ++k) part[k] += in[i * channels + k];
      }
    });
    T* out = grad_bias.data<T>();
    std::fill(out, out + channels, T(0));
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      for (int64_t k = 0; k < channels; ++k) out[k] += parts.data()[chunk * channels + k];
    }
  });
}

template <class T>
conv::Finish<T>::Finish(const InferenceNorm& norm, const Tensor& residual, Tensor& y)
    : y_(y.data<T>()), mean_(norm.running_mean.data<T>()), residual_(residual.defined() ? residual.data<T>() : nullptr), relu_(norm.relu) {
  Tensor inv_std = Tensor::empty_like(norm.running_var);
  batch_norm_inverse_std(norm.running_var, norm.eps, inv_std);
  NormCoefficients<T> coefficients(norm.gamma, norm.beta, inv_std);
  scale_ = std::move(coefficients.scale);
  shift_ = std::move(coefficients.shift);
}
template class conv::Finish<float>;
template class conv::Finish<double>;

}  // namespace eq::cpu
