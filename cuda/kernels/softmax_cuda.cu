// One pass over memory each way (cuda/class_rows.h).

#include "core/kernels/softmax.h"

#include "cuda/class_rows.h"

namespace eq::cuda {
namespace {

template <class T, bool kLong>
__global__ void __launch_bounds__(kLong ? kThreads : kTileThreads)
    softmax_kernel(RowTile tile, int64_t rows, bool logarithm, const T* __restrict__ x, T* __restrict__ y) {
  using W = Wide<T>;
  const TileRows block(tile, blockIdx.x, rows);
  const RowPart<kLong> part(tile);
  T* shared = shared_memory<T>();
  if constexpr (!kLong) {
    load_tile(tile, x + block.first, block.count, shared);
    wait_for_copies<0>();
    __syncthreads();
  }
  const T* in = kLong ? x + block.first : shared;
  T* out = kLong ? y + block.first : shared;
  const RowExponentials<T, kLong> exponentials(part, in);
  if (logarithm) {
    const W last = std::log(exponentials.total);
    part.write(out, [&](int, int i) { return W(in[i]) - exponentials.top - last; });
  } else {
    const W factor = 1 / exponentials.total;
    part.write(out, [&](int v, int i) { return exponentials(v, i) * factor; });
  }
  if constexpr (!kLong) {
    __syncthreads();
    store_tile(tile, shared, block.count, y + block.first);
  }
}

template <class T, bool kLong>
__global__ void __launch_bounds__(kLong ? kThreads : kTileThreads)
    softmax_backward_kernel(RowTile tile, int64_t rows, bool logarithm, const T* __restrict__ grad_y, const T* __restrict__ y,
                            T* __restrict__ grad_x) {
  using W = Wide<T>;
  const TileRows block(tile, blockIdx.x, rows);
  const RowPart<kLong> part(tile);
  T *shared = shared_memory<T>(), *shared_y = shared + tile.values();
  if constexpr (!kLong) {
    load_tile(tile, grad_y + block.first, block.count, shared);
    load_tile(tile, y + block.first, block.count, shared_y);
    wait_for_copies<0>();
    __syncthreads();
  }
  const T *gradients = kLong ? grad_y + block.first : shared, *values = kLong ? y + block.first : shared_y;
  T* out = kLong ? grad_x + block.first : shared;
  W total = 0;
  part.each([&](int, int i) { total += logarithm ? W(gradients[i]) : W(gradients[i]) * W(values[i]); });
  total = part.combine(total, W(0), Add());
  part.write(out, [&](int, int i) {
    const W gradient = W(gradients[i]), value = W(values[i]);
    return logarithm ? gradient - exp_difference(value) * total : value * (gradient - total);
  });
  if constexpr (!kLong) {
    __syncthreads();
    store_tile(tile, shared, block.count, grad_x + block.first);
  }
}

}  // namespace

void softmax_forward(const Tensor& x, bool logarithm, Tensor& y) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  dispatch(x.dtype(), "softmax", [&]<typename T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    const RowTile tile = row_tile<T>(width, in, out);
    with_length(tile, [&]<bool kLong>() {
      launch(x.device(), "softmax", Grid{blocks_for(rows, tile.height), tile.threads(), tile.shared_bytes<T>()},
             softmax_kernel<T, kLong>, tile, rows, logarithm, in, out);
    });
  });
}

void softmax_backward(const Tensor& grad_y, const Tensor& y, bool logarithm, Tensor& grad_x) {
  const int64_t width = y.size(-1), rows = y.numel() / width;
  dispatch(y.dtype(), "softmax", [&]<typename T>() {
    const T *g = data<T>(grad_y), *values = data<T>(y);
    T* out = data<T>(grad_x);
    const RowTile tile = row_tile<T>(width, g, values, out);
    with_length(tile, [&]<bool kLong>() {
      launch(y.device(), "softmax backward", Grid{blocks_for(rows, tile.height), tile.threads(), 2 * tile.shared_bytes<T>()},
             softmax_backward_kernel<T, kLong>, tile, rows, logarithm, g, values, out);
    });
  });
}

}  // namespace eq::cuda
