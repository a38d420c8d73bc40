// One pass over memory each way (cuda/class_rows.h).

#include "core/kernels/softmax.h"

#include "cuda/class_rows.h"

namespace eq::cuda {
namespace {

template <class T, class Kind>
__global__ void __launch_bounds__(Kind::kLong ? kThreads : kTileThreads)
    softmax_kernel(RowTile tile, int64_t rows, bool logarithm, const T* __restrict__ x, T* __restrict__ y) {
  using W = Wide<T>;
  const TileRows block(tile, Kind::kLong ? blockIdx.x : warp_of_grid(), rows);
  const RowPart<Kind> part(tile);
  T* shared = shared_memory<T>() + threadIdx.x / kWarp * tile.values();
  if constexpr (!Kind::kLong) {
    load_tile<Kind>(tile, x + block.first, block.count, shared);
    wait_for_copies<0>();
    __syncwarp();
  }
  const T* in = Kind::kLong ? x + block.first : shared;
  T* out = Kind::kLong ? y + block.first : shared;
  const RowExponentials<T, Kind> exponentials(part, in);
  if (logarithm) {
    const W last = log_of_total(exponentials.total);
    part.write(out, [&](int, int i) { return W(in[i]) - exponentials.top - last; });
  } else {
    const W factor = 1 / exponentials.total;
    part.write(out, [&](int v, int i) { return exponentials(v, i) * factor; });
  }
  if constexpr (!Kind::kLong) {
    __syncwarp();
    store_tile<Kind>(tile, shared, block.count, y + block.first);
  }
}

template <class T, class Kind>
__global__ void __launch_bounds__(Kind::kLong ? kThreads : kTileThreads)
    softmax_backward_kernel(RowTile tile, int64_t rows, bool logarithm, const T* __restrict__ grad_y, const T* __restrict__ y,
                            T* __restrict__ grad_x) {
  using W = Wide<T>;
  const TileRows block(tile, Kind::kLong ? blockIdx.x : warp_of_grid(), rows);
  const RowPart<Kind> part(tile);
  T *shared = shared_memory<T>() + threadIdx.x / kWarp * 2 * tile.values(), *shared_y = shared + tile.values();
  if constexpr (!Kind::kLong) {
    load_tile<Kind>(tile, grad_y + block.first, block.count, shared);
    load_tile<Kind>(tile, y + block.first, block.count, shared_y);
    wait_for_copies<0>();
    __syncwarp();
  }
  const T *gradients = Kind::kLong ? grad_y + block.first : shared, *values = Kind::kLong ? y + block.first : shared_y;
  T* out = Kind::kLong ? grad_x + block.first : shared;
  W total = 0;
  part.each([&](int, int i) { total += logarithm ? W(gradients[i]) : W(gradients[i]) * W(values[i]); });
  total = part.combine(total, W(0), Add());
  part.write(out, [&](int, int i) {
    const W gradient = W(gradients[i]), value = W(values[i]);
    return logarithm ? gradient - exp_difference(value) * total : value * (gradient - total);
  });
  if constexpr (!Kind::kLong) {
    __syncwarp();
    store_tile<Kind>(tile, shared, block.count, grad_x + block.first);
  }
}

}  // namespace

void softmax_forward(const Tensor& x, bool logarithm, Tensor& y) {
  const int64_t width = x.size(-1), rows = x.numel() / width;
  dispatch(x.dtype(), "softmax", [&]<typename T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    const RowTile tile = row_tile<T>(width, in, out);
    with_row_kind<T>(tile, [&]<class Kind>(Kind) {
      launch(x.device(), "softmax", Grid{blocks_for(rows, tile.rows_of_block()), tile.threads(), tile.shared_bytes<T>()},
             softmax_kernel<T, Kind>, tile, rows, logarithm, in, out);
    });
  });
}

void softmax_backward(const Tensor& grad_y, const Tensor& y, bool logarithm, Tensor& grad_x) {
  const int64_t width = y.size(-1), rows = y.numel() / width;
  dispatch(y.dtype(), "softmax", [&]<typename T>() {
    const T *g = data<T>(grad_y), *values = data<T>(y);
    T* out = data<T>(grad_x);
    const RowTile tile = row_tile<T>(width, g, values, out);
    with_row_kind<T>(tile, [&]<class Kind>(Kind) {
      launch(y.device(), "softmax backward", Grid{blocks_for(rows, tile.rows_of_block()), tile.threads(), 2 * tile.shared_bytes<T>()},
             softmax_backward_kernel<T, Kind>, tile, rows, logarithm, g, values, out);
    });
  });
}

}  // namespace eq::cuda
