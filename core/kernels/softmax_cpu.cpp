#include "core/kernels/softmax.h"

#include <cmath>
#include <limits>

#include "core/kernels/lanes.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

template <class T>
void forward_row(const LaneRow<T>& walk, const T* x, const T* x_limit, bool logarithm, T* y, const T* y_limit, T* scratch) {
  constexpr T kNothing = -std::numeric_limits<T>::infinity();
  Lanes<T> top = broadcast(kNothing), sum{};
  for (int64_t v = 0; v < walk.vectors; ++v) top = max_of(top, walk.load(x, v, x_limit, kNothing));
  top = max_lanes<T>(top);
  for (int64_t v = 0; v < walk.vectors; ++v) {
    const Lanes<T> shifted = walk.load(x, v, x_limit, kNothing) - top, e = exp_nonpositive<T>(shifted);
    sum += e;
    store(scratch + v * kLanes<T>, logarithm ? shifted : e);
  }
  const T total = sum_lanes<T>(sum)[0];
  const T log_total = logarithm ? std::log(total) : T(0), factor = T(1) / total;
  for (int64_t v = 0; v < walk.vectors; ++v) {
    const Lanes<T> kept = load(scratch + v * kLanes<T>);
    walk.store(y, v, y_limit, logarithm ? kept - log_total : kept * factor);
  }
}

template <class T>
void backward_row(const LaneRow<T>& walk, const T* g, const T* g_limit, const T* y, const T* y_limit, bool logarithm, T* out,
                  const T* out_limit) {
  Lanes<T> sum{};
  for (int64_t v = 0; v < walk.vectors; ++v) {
    const Lanes<T> gradient = walk.load(g, v, g_limit, T(0));
    sum += logarithm ? gradient : gradient * walk.load(y, v, y_limit, T(0));
  }
  sum = sum_lanes<T>(sum);
  for (int64_t v = 0; v < walk.vectors; ++v) {
    const Lanes<T> gradient = walk.load(g, v, g_limit, T(0)), value = walk.load(y, v, y_limit, T(0));
    walk.store(out, v, out_limit, logarithm ? gradient - exp_nonpositive<T>(value) * sum : value * (gradient - sum));
  }
}

}  // namespace

void softmax_forward(const Tensor& x, bool logarithm, Tensor& y) {
  dispatch_floating(x.dtype(), "softmax", [&]<typename T>() {
    const int64_t width = x.size(-1);
    const LaneRow<T> walk(width);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(x.numel() / width, grain_for(width), [&](int64_t begin, int64_t end) {
      LaneScratch<T> scratch(walk.vectors);
      for (int64_t r = begin; r < end; ++r) {
        forward_row(walk, in + r * width, in + end * width, logarithm, out + r * width, out + end * width, scratch.data());
      }
    });
  });
}

void softmax_backward(const Tensor& grad_y, const Tensor& y, bool logarithm, Tensor& grad_x) {
  dispatch_floating(y.dtype(), "softmax", [&]<typename T>() {
    const int64_t width = y.size(-1);
    const LaneRow<T> walk(width);
    const T *g = grad_y.data<T>(), *values = y.data<T>();
    T* out = grad_x.data<T>();
    parallel_for(y.numel() / width, grain_for(width), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        backward_row(walk, g + r * width, g + end * width, values + r * width, values + end * width, logarithm,
                     out + r * width, out + end * width);
      }
    });
  });
}

}  // namespace eq::cpu
