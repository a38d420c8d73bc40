#include "core/kernels/conv2d.h"

#include <algorithm>
#include <vector>

#include "core/parallel.h"

namespace eq::cpu {

void conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& o) {
  dispatch_floating(x.dtype(), "conv2d", [&]<typename T>() {
    const int64_t H = x.size(1), W = x.size(2), I = x.size(3), P = y.size(1), Q = y.size(2), O = y.size(3);
    const int64_t R = weight.size(1), S = weight.size(2), C = weight.size(3), per_group = O / o.groups;
    const T *xs = x.data<T>(), *ws = weight.data<T>(), *bs = bias.defined() ? bias.data<T>() : nullptr;
    T* ys = y.data<T>();
    parallel_for(x.size(0) * P, 1, [&](int64_t begin, int64_t end) {
      for (int64_t np = begin; np < end; ++np) {
        const int64_t n = np / P, p = np % P;
        for (int64_t q = 0; q < Q; ++q) {
          for (int64_t k = 0; k < O; ++k) {
            T sum = bs ? bs[k] : T(0);
            for (int64_t r = 0; r < R; ++r) {
              const int64_t h = p * o.stride_h + r * o.dilation_h - o.pad_top;
              if (h < 0 || h >= H) continue;
              for (int64_t s = 0; s < S; ++s) {
                const int64_t w = q * o.stride_w + s * o.dilation_w - o.pad_left;
                if (w < 0 || w >= W) continue;
                const T* in = xs + ((n * H + h) * W + w) * I + k / per_group * C;
                const T* filter = ws + ((k * R + r) * S + s) * C;
                for (int64_t c = 0; c < C; ++c) sum += in[c] * filter[c];
              }
            }
            ys[(np * Q + q) * O + k] = sum;
          }
        }
      }
    });
  });
}

void conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& o) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    const int64_t H = grad_x.size(1), W = grad_x.size(2), I = grad_x.size(3), P = grad_y.size(1), Q = grad_y.size(2);
    const int64_t O = grad_y.size(3), R = weight.size(1), S = weight.size(2), C = weight.size(3), per_group = O / o.groups;
    const T *ws = weight.data<T>(), *gys = grad_y.data<T>();
    T* gxs = grad_x.data<T>();
    parallel_for(grad_x.size(0) * H, 1, [&](int64_t begin, int64_t end) {
      for (int64_t nh = begin; nh < end; ++nh) {
        const int64_t n = nh / H, h = nh % H;
        for (int64_t w = 0; w < W; ++w) {
          T* out = gxs + (nh * W + w) * I;
          std::fill(out, out + I, T(0));
          for (int64_t r = 0; r < R; ++r) {
            const int64_t p = h + o.pad_top - r * o.dilation_h;
            if (p < 0 || p % o.stride_h != 0 || p / o.stride_h >= P) continue;
            for (int64_t s = 0; s < S; ++s) {
              const int64_t q = w + o.pad_left - s * o.dilation_w;
              if (q < 0 || q % o.stride_w != 0 || q / o.stride_w >= Q) continue;
              const T* grad = gys + ((n * P + p / o.stride_h) * Q + q / o.stride_w) * O;
              for (int64_t k = 0; k < O; ++k) {
                const T* filter = ws + ((k * R + r) * S + s) * C;
                T* group = out + k / per_group * C;
                for (int64_t c = 0; c < C; ++c) group[c] += grad[k] * filter[c];
              }
            }
          }
        }
      }
    });
  });
}

void conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& o) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    const int64_t N = x.size(0), H = x.size(1), W = x.size(2), I = x.size(3), P = grad_y.size(1), Q = grad_y.size(2);
    const int64_t O = grad_y.size(3), R = grad_weight.size(1), S = grad_weight.size(2), C = grad_weight.size(3);
    const T *xs = x.data<T>(), *gys = grad_y.data<T>();
    T* gws = grad_weight.data<T>();
    parallel_for(O, 1, [&](int64_t begin, int64_t end) {
      std::fill(gws + begin * R * S * C, gws + end * R * S * C, T(0));
      for (int64_t k = begin; k < end; ++k) {
        for (int64_t n = 0; n < N; ++n) {
          for (int64_t r = 0; r < R; ++r) {
            for (int64_t s = 0; s < S; ++s) {
              T* out = gws + ((k * R + r) * S + s) * C;
              for (int64_t p = 0; p < P; ++p) {
                const int64_t h = p * o.stride_h + r * o.dilation_h - o.pad_top;
                if (h < 0 || h >= H) continue;
                for (int64_t q = 0; q < Q; ++q) {
                  const int64_t w = q * o.stride_w + s * o.dilation_w - o.pad_left;
                  if (w < 0 || w >= W) continue;
                  const T grad = gys[((n * P + p) * Q + q) * O + k];
                  const T* in = xs + ((n * H + h) * W + w) * I + k / (O / o.groups) * C;
                  for (int64_t c = 0; c < C; ++c) out[c] += grad * in[c];
                }
              }
            }
          }
        }
      }
    });
  });
}

void conv2d_backward_bias(const Tensor& grad_y, Tensor& grad_bias) {
  dispatch_floating(grad_y.dtype(), "conv2d", [&]<typename T>() {
    const int64_t O = grad_bias.numel(), pixels = grad_y.numel() / O, grain = 2048;
    const T* in = grad_y.data<T>();
    std::vector<T> parts(size_t((pixels + grain - 1) / grain * O), T(0));
    parallel_for(pixels, grain, [&](int64_t begin, int64_t end) {
      T* part = parts.data() + begin / grain * O;
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t k = 0; k < O; ++k) part[k] += in[i * O + k];
      }
    });
    T* out = grad_bias.data<T>();
    std::fill(out, out + O, T(0));
    for (size_t i = 0; i < parts.size(); ++i) out[int64_t(i) % O] += parts[i];
  });
}

}  // namespace eq::cpu
