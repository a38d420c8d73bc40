#include "core/kernels/resize.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/kernels/bilinear_cpu.h"
#include "core/parallel.h"

namespace eq::cpu {

void resize_bilinear_forward(const Tensor& x, Tensor& y, bool align_corners) {
  bilinear_forward({{x, x.size(3), {}, {}}}, y, align_corners);
}

void resize_bilinear_backward(const Tensor& grad_y, Tensor& grad_x, bool align_corners) {
  bilinear_backward(grad_y, {{grad_x, grad_x.size(3), {}, {}}}, align_corners);
}

void resize_nearest_forward(const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  const int64_t h = x.size(1), w = x.size(2), out_h = y.size(1), out_w = y.size(2);
  const int64_t pixel = x.size(3) * int64_t(size_of(x.dtype()));
  const char* in = static_cast<const char*>(x.raw_data());
  char* out = static_cast<char*>(y.raw_data());
  std::vector<int64_t> sources(static_cast<size_t>(out_w));
  for (int64_t q = 0; q < out_w; ++q) sources[size_t(q)] = nearest_source(q, w, out_w) * pixel;
  parallel_for(y.size(0) * out_h, grain_for(out_w * pixel, 1 << 18), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i / out_h * h + nearest_source(i % out_h, h, out_h);
      const char* from = in + row * w * pixel;
      char* to = out + i * out_w * pixel;
      for (int64_t q = 0; q < out_w; ++q, to += pixel) std::memcpy(to, from + sources[size_t(q)], size_t(pixel));
    }
  });
}

void resize_nearest_backward(const Tensor& grad_y, Tensor& grad_x) {
  if (grad_y.numel() == 0) return;
  dispatch_floating(grad_y.dtype(), "resize_nearest", [&]<typename T>() {
    const int64_t h = grad_x.size(1), w = grad_x.size(2), c = grad_x.size(3), out_h = grad_y.size(1), out_w = grad_y.size(2);
    const T* g = grad_y.data<T>();
    T* grad = grad_x.data<T>();
    std::vector<int64_t> begins(static_cast<size_t>(w) + 1);
    for (int64_t k = 0; k <= w; ++k) begins[size_t(k)] = nearest_begin(k, w, out_w);
    const int64_t cost = std::max(w, out_w * out_h / h) * c;
    parallel_for(grad_x.size(0) * h, grain_for(cost, 1 << 16), [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        T* to = grad + i * w * c;
        std::fill_n(to, w * c, T(0));
        const int64_t cell = i % h;
        for (int64_t p = nearest_begin(cell, h, out_h); p < nearest_begin(cell + 1, h, out_h); ++p) {
          const T* from = g + (i / h * out_h + p) * out_w * c;
          for (int64_t k = 0; k < w; ++k) {
            T* __restrict sum = to + k * c;
            for (int64_t q = begins[size_t(k)]; q < begins[size_t(k) + 1]; ++q) {
              for (int64_t channel = 0; channel < c; ++channel) sum[channel] += from[q * c + channel];
            }
          }
        }
      }
    });
  });
}

}  // namespace eq::cpu
