// Windows are described per axis: the cells each output reads, and, for the adjoint, the outputs that read each cell.

#include "core/kernels/pool2d.h"

#include <algorithm>
#include <vector>

#include "core/kernels/packs_cpu.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

struct Window {
  int64_t begin, end;  // cells inside the image
  int64_t count;       // cells the average divides by along this axis
};

struct Windows {
  explicit Windows(const PoolAxis& axis) {
    for (int32_t i = 0; i < axis.out; ++i) {
      const PoolRange cells = axis.cells(i);
      of_output.push_back({cells.begin, cells.end, axis.divisor(i, cells)});
    }
    for (int32_t cell = 0; cell < axis.in; ++cell) of_cell.push_back(axis.readers(cell));
  }
  std::vector<Window> of_output;
  std::vector<PoolRange> of_cell;
};

// Calls fn.operator()<V>(channel) for whole vectors, then <T>(channel) for the channels left over.
template <class T, class Fn>
inline void for_channels(int64_t channels, Fn&& fn) {
  constexpr int kWide = kWidePack<T>, kNarrow = kNarrowPack<T>;
  int64_t c = 0;
  for (; c + kWide <= channels; c += kWide) fn.template operator()<Pack<T, kWide>>(c);
  if constexpr (kNarrow < kWide) {
    for (; c + kNarrow <= channels; c += kNarrow) fn.template operator()<Pack<T, kNarrow>>(c);
  }
  for (; c < channels; ++c) fn.template operator()<T>(c);
}

// int32 indices beside lanes of T: vectors of as many lanes, in integers of T's size.
template <class V, class T>
struct IndexPack {
  using Element = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
  using Wide = Pack<Element, int(sizeof(V) / sizeof(T))>;
  using Stored = Pack<int32_t, int(sizeof(V) / sizeof(T))>;
  static Wide load(const int32_t* from) { return __builtin_convertvector(load_pack<Stored>(from), Wide); }
  static void store(int32_t* to, Wide index) { store_pack(to, __builtin_convertvector(index, Stored)); }
};
template <class T>
struct IndexPack<T, T> {
  using Element = int32_t;
  using Wide = int32_t;
  static Wide load(const int32_t* from) { return *from; }
  static void store(int32_t* to, Wide index) { *to = index; }
};

// Cost of a row for parallel_for: its elements times the cells of a window.
int64_t row_cost(const Windows& rows, const Windows& columns, int64_t elements) {
  const Window &row = rows.of_output[0], &column = columns.of_output[0];
  return elements * std::max<int64_t>(1, (row.end - row.begin) * (column.end - column.begin));
}

template <class T, bool kWithIndices>
void max_forward(const Tensor& x, Tensor& y, int32_t* indices, const Windows& rows, const Windows& columns) {
  const int64_t h = x.size(1), w = x.size(2), channels = x.size(3), out_h = y.size(1), out_w = y.size(2);
  const T* in = x.data<T>();
  T* out = y.data<T>();
  parallel_for(y.size(0) * out_h, grain_for(row_cost(rows, columns, out_w * channels), 1 << 17), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* image = in + i / out_h * h * w * channels;
      const Window row = rows.of_output[size_t(i % out_h)];
      for (int64_t q = 0; q < out_w; ++q) {
        const Window column = columns.of_output[size_t(q)];
        const int64_t at = (i * out_w + q) * channels;
        for_channels<T>(channels, [&]<class V>(int64_t c) {
          using Index = IndexPack<V, T>;
          using Element = typename Index::Element;
          const int64_t first = row.begin * w + column.begin;
          V best = load_pack<V>(image + first * channels + c);
          typename Index::Wide where = typename Index::Wide{} + Element(first);
          for (int64_t r = row.begin; r < row.end; ++r) {
            for (int64_t s = column.begin; s < column.end; ++s) {
              const V value = load_pack<V>(image + (r * w + s) * channels + c);
              const auto better = (value > best) | (value != value);
              best = better ? value : best;
              if constexpr (kWithIndices) where = better ? typename Index::Wide{} + Element(r * w + s) : where;
            }
          }
          store_pack(out + at + c, best);
          if constexpr (kWithIndices) Index::store(indices + at + c, where);
        });
      }
    }
  });
}

template <class T>
void max_backward(const Tensor& grad_y, const int32_t* indices, Tensor& grad_x, const Windows& rows, const Windows& columns) {
  const int64_t h = grad_x.size(1), w = grad_x.size(2), channels = grad_x.size(3);
  const int64_t out_h = grad_y.size(1), out_w = grad_y.size(2);
  const T* g = grad_y.data<T>();
  T* grad = grad_x.data<T>();
  parallel_for(grad_x.size(0) * h, grain_for(w * channels, 1 << 15), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / h * out_h * out_w * channels;
      const PoolRange row = rows.of_cell[size_t(i % h)];
      for (int64_t k = 0; k < w; ++k) {
        const PoolRange column = columns.of_cell[size_t(k)];
        for_channels<T>(channels, [&]<class V>(int64_t c) {
          using Index = IndexPack<V, T>;
          const typename Index::Wide self = typename Index::Wide{} + typename Index::Element(i % h * w + k);
          V sum{};
          for (int64_t p = row.begin; p < row.end; ++p) {
            for (int64_t q = column.begin; q < column.end; ++q) {
              const int64_t at = image + (p * out_w + q) * channels + c;
              sum += Index::load(indices + at) == self ? load_pack<V>(g + at) : V{};
            }
          }
          store_pack(grad + (i * w + k) * channels + c, sum);
        });
      }
    }
  });
}

template <class T>
void average_forward(const Tensor& x, Tensor& y, const Windows& rows, const Windows& columns) {
  const int64_t h = x.size(1), w = x.size(2), channels = x.size(3), out_h = y.size(1), out_w = y.size(2);
  const T* in = x.data<T>();
  T* out = y.data<T>();
  parallel_for(y.size(0) * out_h, grain_for(row_cost(rows, columns, out_w * channels), 1 << 17), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* image = in + i / out_h * h * w * channels;
      const Window row = rows.of_output[size_t(i % out_h)];
      for (int64_t q = 0; q < out_w; ++q) {
        const Window column = columns.of_output[size_t(q)];
        const T count = T(row.count * column.count);
        auto average = [&]<class V, int kVectors>(int64_t c) {
          constexpr int64_t kStep = sizeof(V) / sizeof(T);
          // Row by row: large bins then lose no more than their sides' worth of roundings.
          V total[kVectors] = {};
          for (int64_t r = row.begin; r < row.end; ++r) {
            V sum[kVectors] = {};
            const T* from = image + r * w * channels + c;
            for (int64_t s = column.begin; s < column.end; ++s) {
#pragma GCC unroll 4
              for (int v = 0; v < kVectors; ++v) sum[v] += load_pack<V>(from + s * channels + v * kStep);
            }
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) total[v] += sum[v];
          }
#pragma GCC unroll 4
          for (int v = 0; v < kVectors; ++v) store_pack(out + (i * out_w + q) * channels + c + v * kStep, V(total[v] / count));
        };
        // Four vectors of a pixel at a time: whole lines of the cache.
        int64_t first = 0;
        for (; first + 4 * kWidePack<T> <= channels; first += 4 * kWidePack<T>) average.template operator()<Pack<T, kWidePack<T>>, 4>(first);
        for_channels<T>(channels - first, [&]<class V>(int64_t c) { average.template operator()<V, 1>(first + c); });
      }
    }
  });
}

template <class T>
void average_backward(const Tensor& grad_y, Tensor& grad_x, const Windows& rows, const Windows& columns) {
  const int64_t h = grad_x.size(1), w = grad_x.size(2), channels = grad_x.size(3);
  const int64_t out_h = grad_y.size(1), out_w = grad_y.size(2);
  const T* g = grad_y.data<T>();
  T* grad = grad_x.data<T>();
  std::vector<T> shares(size_t(out_h * out_w));  // of a window's gradient, per cell
  for (int64_t p = 0; p < out_h; ++p) {
    for (int64_t q = 0; q < out_w; ++q) {
      shares[size_t(p * out_w + q)] = T(1) / T(rows.of_output[size_t(p)].count * columns.of_output[size_t(q)].count);
    }
  }
  parallel_for(grad_x.size(0) * h, grain_for(w * channels, 1 << 15), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* image = g + i / h * out_h * out_w * channels;
      const PoolRange row = rows.of_cell[size_t(i % h)];
      for (int64_t k = 0; k < w; ++k) {
        const PoolRange column = columns.of_cell[size_t(k)];
        for_channels<T>(channels, [&]<class V>(int64_t c) {
          V sum{};
          for (int64_t p = row.begin; p < row.end; ++p) {
            for (int64_t q = column.begin; q < column.end; ++q) {
              const int64_t at = p * out_w + q;
              sum += shares[size_t(at)] * load_pack<V>(image + at * channels + c);
            }
          }
          store_pack(grad + (i * w + k) * channels + c, sum);
        });
      }
    }
  });
}

}  // namespace

void max_pool2d_forward(const Tensor& x, Tensor& y, Tensor& indices, const Pool2dOptions& options) {
  if (y.numel() == 0) return;
  const Windows rows(pool_rows(x, y, options)), columns(pool_columns(x, y, options));
  dispatch_floating(x.dtype(), "max_pool2d", [&]<typename T>() {
    if (indices.defined()) {
      max_forward<T, true>(x, y, indices.data<int32_t>(), rows, columns);
    } else {
      max_forward<T, false>(x, y, nullptr, rows, columns);
    }
  });
}

void max_pool2d_backward(const Tensor& grad_y, const Tensor& indices, Tensor& grad_x, const Pool2dOptions& options) {
  if (grad_y.numel() == 0) return;
  const Windows rows(pool_rows(grad_x, grad_y, options)), columns(pool_columns(grad_x, grad_y, options));
  dispatch_floating(grad_y.dtype(), "max_pool2d", [&]<typename T>() {
    max_backward<T>(grad_y, indices.data<int32_t>(), grad_x, rows, columns);
  });
}

void avg_pool2d_forward(const Tensor& x, Tensor& y, const Pool2dOptions& options) {
  if (y.numel() == 0) return;
  const Windows rows(pool_rows(x, y, options)), columns(pool_columns(x, y, options));
  dispatch_floating(x.dtype(), "avg_pool2d", [&]<typename T>() { average_forward<T>(x, y, rows, columns); });
}

void avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x, const Pool2dOptions& options) {
  if (grad_y.numel() == 0) return;
  const Windows rows(pool_rows(grad_x, grad_y, options)), columns(pool_columns(grad_x, grad_y, options));
  dispatch_floating(grad_y.dtype(), "avg_pool2d", [&]<typename T>() { average_backward<T>(grad_y, grad_x, rows, columns); });
}

void adaptive_avg_pool2d_forward(const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  const Windows rows(adaptive_rows(x, y)), columns(adaptive_columns(x, y));
  dispatch_floating(x.dtype(), "adaptive_avg_pool2d", [&]<typename T>() { average_forward<T>(x, y, rows, columns); });
}

void adaptive_avg_pool2d_backward(const Tensor& grad_y, Tensor& grad_x) {
  if (grad_y.numel() == 0) return;
  const Windows rows(adaptive_rows(grad_x, grad_y)), columns(adaptive_columns(grad_x, grad_y));
  dispatch_floating(grad_y.dtype(), "adaptive_avg_pool2d", [&]<typename T>() { average_backward<T>(grad_y, grad_x, rows, columns); });
}

}  // namespace eq::cpu
