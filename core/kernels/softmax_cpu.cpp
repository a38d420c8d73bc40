#include "core/kernels/softmax.h"

#include "core/kernels/softmax_block.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

template <class T>
void backward_row(const LaneRow<T>& walk, const T* g, const T* g_limit, const T* y, const T* y_limit, bool logarithm, T* out,
                  const T* out_limit) {
  Lanes<T> sum{};
  for (int64_t v = 0; v < walk.vectors; ++v) {
    const Lanes<T> gradient = walk.load(g, v, g_limit, T(0));
    sum += logarithm ? gradient : gradient * walk.load(y, v, y_limit, T(0));
  }
  const T total = sum_lanes<T>(sum);
  for (int64_t v = 0; v < walk.vectors; ++v) {
    const Lanes<T> gradient = walk.load(g, v, g_limit, T(0)), value = walk.load(y, v, y_limit, T(0));
    walk.store(out, v, out_limit, logarithm ? gradient - exp_nonpositive<T>(value) * total : value * (gradient - total));
  }
}

}  // namespace

void softmax_forward(const Tensor& x, bool logarithm, Tensor& y) {
  dispatch_floating(x.dtype(), "softmax", [&]<typename T>() {
    const int64_t width = x.size(-1);
    const T* in = x.data<T>();
    T* out = y.data<T>();
    parallel_for(x.numel() / width, grain_for(width, 32768), [&](int64_t begin, int64_t end) {
      SoftmaxBlock<T> block(width);
      const T *in_limit = in + end * width, *out_limit = out + end * width;
      for (int64_t first = begin; first < end; first += block.kRows) {
        const int64_t count = std::min(block.kRows, end - first);
        block.compute(in + first * width, count, width, in_limit);
        alignas(64) T last[block.kRows];  // the factor of the exponentials, or the logarithm of their sum
        const Lanes<T> totals = load(block.total);
        store(last, logarithm ? log_positive<T>(totals) : T(1) / totals);
        for (int64_t p = 0; p < count; ++p) {
          for (int64_t v = 0; v < block.walk.vectors; ++v) {
            const int64_t at = (first + p) * width;
            const Lanes<T> value = logarithm
                                       ? (block.walk.load(in + at, v, in_limit, T(0)) - block.top[p]) - last[p]
                                       : load(block.exponentials(p) + v * kLanes<T>) * last[p];
            block.walk.store(out + at, v, out_limit, value);
          }
        }
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
