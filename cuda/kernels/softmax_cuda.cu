// Rows in registers: one pass over memory each way (cuda/class_rows.h).

#include "core/kernels/softmax.h"

#include <limits>

#include "cuda/class_rows.h"

namespace eq::cuda {
namespace {

template <int kHeld>
__device__ RowLane<kHeld> lane_of(const RowGrid& grid, int64_t rows, int width, int64_t& row) {
  const int lanes = 1 << grid.log_lanes;
  row = (int64_t(blockIdx.x) * kThreads + threadIdx.x) >> grid.log_lanes;
  return {int(threadIdx.x) & (lanes - 1), lanes, row < rows ? width : 0};
}

template <class T, int kHeld>
__global__ void softmax_kernel(RowGrid grid, int64_t rows, int width, bool logarithm, const T* x, T* y) {
  using W = Wide<T>;
  int64_t at;
  const RowLane<kHeld> row = lane_of<kHeld>(grid, rows, width, at);
  const RowValues<T, kHeld> values(row, x + at * width);
  constexpr W kNothing = -std::numeric_limits<W>::infinity();
  W top = kNothing;
  row.each([&](int v, int c) { top = Larger()(values(v, c), top); });
  top = row.combine(top, kNothing, Larger());
  W total = 0;
  row.each([&](int v, int c) { total += std::exp(values(v, c) - top); });
  total = row.combine(total, W(0), Add());
  const W last = logarithm ? std::log(total) : 1 / total;
  T* out = y + at * width;
  row.each([&](int v, int c) {
    const W shifted = values(v, c) - top;
    out[c] = T(logarithm ? shifted - last : std::exp(shifted) * last);
  });
}

template <class T, int kHeld>
__global__ void softmax_backward_kernel(RowGrid grid, int64_t rows, int width, bool logarithm, const T* grad_y, const T* y,
                                        T* grad_x) {
  using W = Wide<T>;
  int64_t at;
  const RowLane<kHeld> row = lane_of<kHeld>(grid, rows, width, at);
  const RowValues<T, kHeld> gradients(row, grad_y + at * width), values(row, y + at * width);
  W total = 0;
  row.each([&](int v, int c) { total += logarithm ? gradients(v, c) : gradients(v, c) * values(v, c); });
  total = row.combine(total, W(0), Add());
  T* out = grad_x + at * width;
  row.each([&](int v, int c) {
    const W gradient = gradients(v, c), value = values(v, c);
    out[c] = T(logarithm ? gradient - std::exp(value) * total : value * (gradient - total));
  });
}

}  // namespace

void softmax_forward(const Tensor& x, bool logarithm, Tensor& y) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  dispatch(x.dtype(), "softmax", [&]<typename T>() {
    with_rows(width, [&]<int kHeld>(RowGrid grid) {
      launch(x.device(), "softmax", Grid{blocks_for(rows, grid.rows_per_block()), kThreads}, softmax_kernel<T, kHeld>, grid,
             rows, width, logarithm, data<T>(x), data<T>(y));
    });
  });
}

void softmax_backward(const Tensor& grad_y, const Tensor& y, bool logarithm, Tensor& grad_x) {
  const int64_t width = y.size(-1), rows = y.numel() / width;
  dispatch(y.dtype(), "softmax", [&]<typename T>() {
    with_rows(width, [&]<int kHeld>(RowGrid grid) {
      launch(y.device(), "softmax backward", Grid{blocks_for(rows, grid.rows_per_block()), kThreads},
             softmax_backward_kernel<T, kHeld>, grid, rows, width, logarithm, data<T>(grad_y), data<T>(y), data<T>(grad_x));
    });
  });
}

}  // namespace eq::cuda
