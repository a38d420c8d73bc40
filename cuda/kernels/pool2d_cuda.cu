// A thread per pack of channels of an output, or, for the adjoints, of an input cell, which gathers from the windows that
// contain it. Averages over large windows have few outputs: a block shares those of one pixel, and the whole image is a sum
// (reduce_cuda.cu).

#include "core/kernels/pool2d.h"

#include <algorithm>
#include <limits>

#include "core/kernels/reduce.h"
#include "cuda/divide.h"
#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

constexpr int64_t kLargeWindow = 16;  // cells

// Places of packs of channels in some images of [N, height, width, channels], few enough to be counted in 32 bits.
struct PackPlaces {
  Divisor packs, width, height;
  int pixel;                   // values
  int64_t first_image, first;  // the first image's number and that of its first pack
};
struct PackPlace {
  int64_t image, index;  // index: of the pack in the whole tensor
  int32_t row, column, pack;
};
EQ_HOST_DEVICE inline PackPlace place_of(const PackPlaces& places, int64_t i) {
  PackPlace place;
  int whole = int(i);
  const auto split = [&](const Divisor& divisor) {  // `whole` becomes the quotient
    int rest = whole;
    whole = divisor.divide(rest);
    return rest;
  };
  place.index = places.first + i;
  place.pack = split(places.packs);
  place.column = split(places.width);
  place.row = split(places.height);
  place.image = places.first_image + whole;
  return place;
}

// Launches make(PackPlaces), a functor of the number of a pack, for all packs of N channels of `t`.
template <int N, class Make>
void for_packs(const Tensor& t, const char* name, const Make& make) {
  const int64_t image = t.numel() / t.size(0) / N, most = std::max<int64_t>(1, std::numeric_limits<int32_t>::max() / image);
  blocks_for(image, 1);  // an image of more packs than that is refused
  for (int64_t first = 0; first < t.size(0); first += most) {
    const PackPlaces places{Divisor(int(t.size(3) / N)), Divisor(int(t.size(2))), Divisor(int(t.size(1))), int(t.size(3)), first,
                            first * image};
    for_each(t.device(), name, image * std::min(most, t.size(0) - first), make(places));
  }
}

// An axis whose readers are found without a division.
struct ReadAxis : PoolAxis {
  Divisor by_stride;
  explicit ReadAxis(const PoolAxis& axis) : PoolAxis(axis), by_stride(axis.stride) {}
  EQ_HOST_DEVICE PoolRange readers(int32_t cell) const {
    return PoolAxis::readers(cell, [this](int32_t n) { return by_stride.quotient(n); });
  }
};

// N places, at most 16 bytes at a time.
template <int N, class Place>
EQ_HOST_DEVICE void load_places(const Place* from, int32_t* places) {
  constexpr int kWidth = std::min(N, kPackWidth<Place>);
  for (int k = 0; k < N; k += kWidth) {
    const Pack<Place, kWidth> pack = load_pack<Place, kWidth>(from + k);
    for (int j = 0; j < kWidth; ++j) places[k + j] = int32_t(pack[j]);
  }
}
template <int N, class Place>
EQ_HOST_DEVICE void store_places(Place* to, const int32_t* places) {
  constexpr int kWidth = std::min(N, kPackWidth<Place>);
  for (int k = 0; k < N; k += kWidth) {
    Pack<Place, kWidth> pack;
    for (int j = 0; j < kWidth; ++j) pack[j] = Place(places[k + j]);
    store_pack(to + k, pack);
  }
}

template <class T, class Place, int N>
struct MaxPool {
  PackPlaces outputs;
  PoolAxis rows, columns;
  const T* x;
  T* y;
  Place* places;  // or null
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const PackPlace at = place_of(outputs, i);
    const int64_t pixel = outputs.pixel;
    const PoolRange row = rows.cells(at.row), column = columns.cells(at.column);
    const T* image = x + at.image * rows.in * columns.in * pixel + at.pack * N;
    Wide<T> best[N] = {};
    int32_t where[N] = {};
    int32_t place = 0;  // of the cell in the window
    for (int32_t r = row.begin; r < row.end; ++r) {
      EQ_UNROLL(3)  // the usual window's: three loads on their way
      for (int32_t s = column.begin; s < column.end; ++s) {
        const Pack<T, N> values = load_pack<T, N>(image + (r * columns.in + s) * pixel);
#pragma unroll
        for (int k = 0; k < N; ++k) {
          const Wide<T> value = Wide<T>(values[k]);
          const bool better = place == 0 || value > best[k] || value != value;
          best[k] = better ? value : best[k];
          where[k] = better ? place : where[k];
        }
        ++place;
      }
    }
    Pack<T, N> result;
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = T(best[k]);
    store_pack(y + at.index * N, result);
    if (places != nullptr) store_places<N>(places + at.index * N, where);
  }
};

template <class T, class Place, int N>
struct MaxPoolBackward {
  PackPlaces cells;
  ReadAxis rows, columns;
  const T* grad_y;
  const Place* places;
  T* grad_x;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const PackPlace at = place_of(cells, i);
    const int64_t pixel = cells.pixel;
    const int64_t start = at.image * rows.out * columns.out * pixel + at.pack * N;
    const PoolRange row = rows.readers(at.row), column = columns.readers(at.column);
    Wide<T> sums[N] = {};
    for (int32_t p = row.begin; p < row.end; ++p) {
      const int32_t above = at.row - rows.cells(p).begin;
      for (int32_t q = column.begin; q < column.end; ++q) {
        const PoolRange across = columns.cells(q);
        const int32_t self = above * (across.end - across.begin) + (at.column - across.begin);
        const int64_t from = start + (int64_t(p) * columns.out + q) * pixel;
        int32_t where[N];
        load_places<N>(places + from, where);
        const Pack<T, N> gradients = load_pack<T, N>(grad_y + from);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[k] += where[k] == self ? Wide<T>(gradients[k]) : Wide<T>(0);
      }
    }
    Pack<T, N> result;
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = T(sums[k]);
    store_pack(grad_x + at.index * N, result);
  }
};

template <class T, int N>
struct AveragePool {
  PackPlaces outputs;
  PoolAxis rows, columns;
  const T* x;
  T* y;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const PackPlace at = place_of(outputs, i);
    const int64_t pixel = outputs.pixel;
    const PoolRange row = rows.cells(at.row), column = columns.cells(at.column);
    const T* image = x + at.image * rows.in * columns.in * pixel + at.pack * N;
    Wide<T> totals[N] = {};
    for (int32_t r = row.begin; r < row.end; ++r) {
      Wide<T> sums[N] = {};
      for (int32_t s = column.begin; s < column.end; ++s) {
        const Pack<T, N> values = load_pack<T, N>(image + (int64_t(r) * columns.in + s) * pixel);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[k] += Wide<T>(values[k]);
      }
#pragma unroll
      for (int k = 0; k < N; ++k) totals[k] += sums[k];
    }
    const Wide<T> count = Wide<T>(int64_t(rows.divisor(at.row, row)) * columns.divisor(at.column, column));
    Pack<T, N> result;
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = T(totals[k] / count);
    store_pack(y + at.index * N, result);
  }
};

// What a cell gets of a window's gradient, for each window: divisions that every channel of every reader would repeat.
template <class W>
struct WindowShares {
  PoolAxis rows, columns;
  W* shares;  // [rows.out, columns.out]
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const int32_t p = int32_t(i / columns.out), q = int32_t(i % columns.out);
    shares[i] = 1 / W(int64_t(rows.divisor(p, rows.cells(p))) * columns.divisor(q, columns.cells(q)));
  }
};

template <class T, int N>
struct AveragePoolBackward {
  PackPlaces cells;
  ReadAxis rows, columns;
  const Wide<T>* shares;
  const T* grad_y;
  T* grad_x;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const PackPlace at = place_of(cells, i);
    const int64_t pixel = cells.pixel;
    const PoolRange row = rows.readers(at.row), column = columns.readers(at.column);
    const T* image = grad_y + at.image * rows.out * columns.out * pixel + at.pack * N;
    Wide<T> sums[N] = {};
    for (int32_t p = row.begin; p < row.end; ++p) {
      for (int32_t q = column.begin; q < column.end; ++q) {
        const int64_t window = int64_t(p) * columns.out + q;
        const Wide<T> share = shares[window];
        const Pack<T, N> gradients = load_pack<T, N>(image + window * pixel);
#pragma unroll
        for (int k = 0; k < N; ++k) sums[k] += share * Wide<T>(gradients[k]);
      }
    }
    Pack<T, N> result;
#pragma unroll
    for (int k = 0; k < N; ++k) result[k] = T(sums[k]);
    store_pack(grad_x + at.index * N, result);
  }
};

// Block (pixel of y, part of its channels): `width` packs side by side, `lanes` threads share the window's cells.
template <class T, int N>
__global__ void large_average(PoolAxis rows, PoolAxis columns, int64_t packs, int width, int lanes, const T* x, T* y) {
  using W = Wide<T>;
  W* shared = shared_memory<W>();  // [lanes][N][width]
  const int lane = int(threadIdx.x) / width, place = int(threadIdx.x) - lane * width, line = width * N;
  const int64_t pack = int64_t(blockIdx.y) * width + place, output = blockIdx.x;
  const int32_t q = int32_t(output % columns.out), p = int32_t(output / columns.out % rows.out);
  const int64_t image = output / columns.out / rows.out;
  const PoolRange row = rows.cells(p), column = columns.cells(q);
  const int across = column.end - column.begin, cells = (row.end - row.begin) * across;
  const bool active = lane < lanes && pack < packs;
  W sums[N] = {};
  if (active) {
    const T* from = x + ((image * rows.in + row.begin) * columns.in + column.begin) * packs * N + pack * N;
#pragma unroll 4
    for (int cell = lane; cell < cells; cell += lanes) {
      const int r = cell / across;
      const Pack<T, N> values = load_pack<T, N>(from + (int64_t(r) * columns.in + (cell - r * across)) * packs * N);
#pragma unroll
      for (int k = 0; k < N; ++k) sums[k] += W(values[k]);
    }
  }
  if (lane < lanes) {
#pragma unroll
    for (int k = 0; k < N; ++k) shared[lane * line + k * width + place] = sums[k];
  }
  int distance = 1;
  while (distance * 2 < lanes) distance *= 2;
  for (; distance > 0; distance /= 2) {
    __syncthreads();
    if (lane < distance && lane + distance < lanes) {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        sums[k] += shared[(lane + distance) * line + k * width + place];
        shared[lane * line + k * width + place] = sums[k];
      }
    }
  }
  if (!active || lane > 0) return;
  const W count = W(int64_t(rows.divisor(p, row)) * columns.divisor(q, column));
  Pack<T, N> result;
#pragma unroll
  for (int k = 0; k < N; ++k) result[k] = T(sums[k] / count);
  store_pack(y + (output * packs + pack) * N, result);
}

void average_forward(const Tensor& x, Tensor& y, const PoolAxis& rows, const PoolAxis& columns) {
  if (y.numel() == 0) return;
  const PoolRange row = rows.cells(0), column = columns.cells(0);
  const auto whole = [](const PoolAxis& axis, const PoolRange& cells) {
    return axis.out == 1 && cells.begin == 0 && cells.end == axis.in;
  };
  if (whole(rows, row) && whole(columns, column)) {
    return sum(x, 0b0110, 1 / double(int64_t(rows.divisor(0, row)) * columns.divisor(0, column)), y);
  }
  const auto length = [](const PoolAxis& axis) {
    return int64_t(axis.kernel > 0 ? std::min(axis.kernel, axis.in) : (axis.in + axis.out - 1) / axis.out);
  };
  dispatch(x.dtype(), "avg_pool2d", [&]<typename T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    with_pack<T>(
        x.size(3),
        [&]<int N>() {
          if (length(rows) * length(columns) < kLargeWindow) {
            return for_packs<N>(y, "average pooling", [&](const PackPlaces& outputs) {
              return AveragePool<T, N>{outputs, rows, columns, in, out};
            });
          }
          const int64_t packs = x.size(3) / N, blocks = (packs + 31) / 32;
          const int width = int((packs + blocks - 1) / blocks), lanes = kThreads / width;
          launch(x.device(), "average pooling",
                 Grid{{blocks_for(y.numel() / x.size(3), 1), unsigned(blocks)},
                      kThreads,
                      size_t(lanes) * size_t(width) * N * sizeof(Wide<T>)},
                 large_average<T, N>, rows, columns, packs, width, lanes, in, out);
        },
        in, out);
  });
}

void average_backward(const Tensor& grad_y, Tensor& grad_x, const PoolAxis& rows, const PoolAxis& columns) {
  if (grad_y.numel() == 0) return;
  dispatch(grad_y.dtype(), "avg_pool2d", [&]<typename T>() {
    const T* g = data<T>(grad_y);
    T* out = data<T>(grad_x);
    const Tensor shares = Tensor::empty({rows.out, columns.out}, dtype_of<Wide<T>>::value, grad_x.device());
    for_each(grad_x.device(), "average pooling backward", shares.numel(),
             WindowShares<Wide<T>>{rows, columns, data<Wide<T>>(shares)});
    with_pack<T>(
        grad_x.size(3),
        [&]<int N>() {
          for_packs<N>(grad_x, "average pooling backward", [&](const PackPlaces& cells) {
            return AveragePoolBackward<T, N>{cells, ReadAxis(rows), ReadAxis(columns), data<Wide<T>>(shares), g, out};
          });
        },
        g, out);
  });
}

}  // namespace

void max_pool2d_forward(const Tensor& x, Tensor& y, Tensor& places, const Pool2dOptions& options) {
  if (y.numel() == 0) return;
  dispatch(x.dtype(), "max_pool2d", [&]<typename T>() {
    const T* in = data<T>(x);
    T* out = data<T>(y);
    dispatch_places(places, [&]<typename Place>() {
      Place* where = data<Place>(places);
      with_pack<T>(
          x.size(3),
          [&]<int N>() {
            for_packs<N>(y, "max_pool2d", [&](const PackPlaces& outputs) {
              return MaxPool<T, Place, N>{outputs, pool_rows(x, y, options), pool_columns(x, y, options), in, out, where};
            });
          },
          in, out, where);
    });
  });
}

void max_pool2d_backward(const Tensor& grad_y, const Tensor& places, Tensor& grad_x, const Pool2dOptions& options) {
  if (grad_y.numel() == 0) return;
  dispatch(grad_y.dtype(), "max_pool2d", [&]<typename T>() {
    const T* g = data<T>(grad_y);
    T* out = data<T>(grad_x);
    dispatch_places(places, [&]<typename Place>() {
      const Place* where = data<Place>(places);
      with_pack<T>(
          grad_x.size(3),
          [&]<int N>() {
            for_packs<N>(grad_x, "max_pool2d backward", [&](const PackPlaces& cells) {
              return MaxPoolBackward<T, Place, N>{cells, ReadAxis(pool_rows(grad_x, grad_y, options)),
                                                  ReadAxis(pool_columns(grad_x, grad_y, options)), g, where, out};
            });
          },
          g, where, out);
    });
  });
}

void avg_pool2d_forward(const Tensor& x, Tensor& y, const Pool2dOptions& options) {
  average_forward(x, y, pool_rows(x, y, options), pool_columns(x, y, options));
}

void avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x, const Pool2dOptions& options) {
  average_backward(grad_y, grad_x, pool_rows(grad_x, grad_y, options), pool_columns(grad_x, grad_y, options));
}

void adaptive_avg_pool2d_forward(const Tensor& x, Tensor& y) {
  average_forward(x, y, adaptive_rows(x, y), adaptive_columns(x, y));
}

void adaptive_avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x) {
  average_backward(grad_y, grad_x, adaptive_rows(grad_x, grad_y), adaptive_columns(grad_x, grad_y));
}

}  // namespace eq::cuda
