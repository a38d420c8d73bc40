#include "core/kernels/conv2d.h"

#include <algorithm>

#include "core/kernels/conv2d_direct.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

enum class Algorithm { kDirect, kDepthwise };

// The one place where a shape chooses its algorithm, for all three directions.
Algorithm choose_algorithm(const Shape& weight, const Conv2dOptions& options) {
  return weight[3] == 1 && options.groups > 1 ? Algorithm::kDepthwise : Algorithm::kDirect;
}

}  // namespace

void conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y,
                    const Conv2dOptions& options) {
  dispatch_floating(x.dtype(), "conv2d", [&]<typename T>() {
    switch (choose_algorithm(weight.shape(), options)) {
      case Algorithm::kDirect: return conv::direct_forward<T>(x, weight, bias, y, options);
      case Algorithm::kDepthwise: return conv::depthwise_forward<T>(x, weight, bias, y, options);
    }
  });
}

void conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    switch (choose_algorithm(weight.shape(), options)) {
      case Algorithm::kDirect: return conv::direct_backward_input<T>(grad_y, weight, grad_x, options);
      case Algorithm::kDepthwise: return conv::depthwise_backward_input<T>(grad_y, weight, grad_x, options);
    }
  });
}

void conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    switch (choose_algorithm(grad_weight.shape(), options)) {
      case Algorithm::kDirect: return conv::direct_backward_weight<T>(grad_y, x, grad_weight, options);
      case Algorithm::kDepthwise: return conv::depthwise_backward_weight<T>(grad_y, x, grad_weight, options);
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

}  // namespace eq::cpu
