// Windows are described per axis: the cells each output reads, and, for the adjoint, the outputs that read each cell.

#include "core/kernels/pool2d.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/kernels/packs.h"
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

// Calls fn.operator()<V, kVectors>(channel) for kTogether whole vectors at a time, then for single ones, then for the channels left over,
// each a <T, 1>.
template <class T, int kTogether, class Fn>
inline void for_channels(int64_t channels, Fn&& fn) {
  constexpr int kWide = kWidePack<T>, kNarrow = kNarrowPack<T>;
  int64_t c = 0;
  for (; c + kTogether * kWide <= channels; c += kTogether * kWide) fn.template operator()<Pack<T, kWide>, kTogether>(c);
  if constexpr (kTogether > 1) {
    for (; c + kWide <= channels; c += kWide) fn.template operator()<Pack<T, kWide>, 1>(c);
  }
  if constexpr (kNarrow < kWide) {
    for (; c + kNarrow <= channels; c += kNarrow) fn.template operator()<Pack<T, kNarrow>, 1>(c);
  }
  for (; c < channels; ++c) fn.template operator()<T, 1>(c);
}

// Places of cells beside lanes of T: vectors of as many lanes, in integers of T's size.
template <class V, class T, class Place>
struct PlacePack {
  using Element = std::conditional_t<sizeof(T) == 8, int64_t, int32_t>;
  static constexpr int kCount = int(sizeof(V) / sizeof(T));
  using Wide = Pack<Element, kCount>;
  static Wide load(const Place* from) {
    if constexpr (std::is_same_v<Place, uint8_t>) return load_bytes<Wide>(from);
    else return __builtin_convertvector(load_pack<Pack<Place, kCount>>(from), Wide);
  }
  static void store(Place* to, Wide place) {
    if constexpr (std::is_same_v<Place, uint8_t>) store_bytes(to, place);
    else store_pack(to, __builtin_convertvector(place, Pack<Place, kCount>));
  }
};
template <class T, class Place>
struct PlacePack<T, T, Place> {
  using Element = int32_t;
  using Wide = int32_t;
  static Wide load(const Place* from) { return *from; }
  static void store(Place* to, Wide place) { *to = Place(place); }
};

// Cost of a row for parallel_for: its elements times the cells of a window.
int64_t row_cost(const Windows& rows, const Windows& columns, int64_t elements) {
  const Window &row = rows.of_output[0], &column = columns.of_output[0];
  return elements * std::max<int64_t>(1, (row.end - row.begin) * (column.end - column.begin));
}

// places: null if not wanted.
template <class T, class Place, bool kWithPlaces>
void max_forward(const Tensor& x, Tensor& y, Place* places, const Windows& rows, const Windows& columns) {
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
        const int64_t across = column.end - column.begin;
        const T* corner = image + (row.begin * w + column.begin) * channels;
        // Two vectors at a time count their places once.
        for_channels<T, 2>(channels, [=]<class V, int kVectors>(int64_t c) {
          using Places = PlacePack<V, T, Place>;
          constexpr int64_t kStep = sizeof(V) / sizeof(T);
          V best[kVectors];
          typename Places::Wide place{}, where[kVectors] = {};
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) best[v] = load_pack<V>(corner + c + v * kStep);
          const T* from = corner + c;
          for (int64_t r = row.begin; r < row.end; ++r, from += w * channels) {
            for (int64_t s = 0; s < across; ++s) {
#pragma GCC unroll 2
              for (int v = 0; v < kVectors; ++v) {
                const V value = load_pack<V>(from + s * channels + v * kStep);
                const auto better = (value > best[v]) | (value != value);
                best[v] = better ? value : best[v];
                if constexpr (kWithPlaces) where[v] = better ? place : where[v];
              }
              if constexpr (kWithPlaces) place += typename Places::Element(1);
            }
          }
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) {
            store_pack(out + at + c + v * kStep, best[v]);
            if constexpr (kWithPlaces) Places::store(places + at + c + v * kStep, where[v]);
          }
        });
      }
    }
  });
}

// A window that a cell is in: its first element in [N, out_h, out_w, C], and what its term needs to know, the same for all channels.
template <class Tag>
struct Reader {
  int64_t at;
  Tag tag;
};

// The sum of the terms of a number of readers known to the compiler, for each channel.
template <class T, class Tag, class Term, size_t... kReader>
void add_terms(const Reader<Tag>* listed, int64_t channels, T* out, bool stream, const Term& by_term, std::index_sequence<kReader...>) {
  const Reader<Tag> readers[] = {listed[kReader]...};  // copies and not references, so that they are in registers
  const Term term = by_term;
  for_channels<T, 1>(channels, [=]<class V, int>(int64_t c) {
    V sum{};
    ((sum += term.template operator()<V>(readers[kReader].at + c, readers[kReader].tag)), ...);
    if constexpr (sizeof(V) == kRegisterBytes) {
      if (stream) return stream_pack(out + c, sum);
    }
    store_pack(out + c, sum);
  });
}

// grad_x[cell] = sum over the windows (p, q) that the cell is in, row by row, of term<V>(element of grad_y, tag_of(p, q, row, column)).
template <class T, class TagOf, class Term>
void gather(const Tensor& grad_y, Tensor& grad_x, const Windows& rows, const Windows& columns, const TagOf& tag_of, const Term& term) {
  using Tag = decltype(tag_of(int64_t(), int64_t(), int64_t(), int64_t()));
  const int64_t h = grad_x.size(1), w = grad_x.size(2), channels = grad_x.size(3);
  const int64_t out_h = grad_y.size(1), out_w = grad_y.size(2);
  T* grad = grad_x.data<T>();
  const bool stream = streams_well(grad, grad_x.bytes(), size_t(channels) * sizeof(T));
  parallel_for(grad_x.size(0) * h, grain_for(w * channels, 1 << 15), [=, &rows, &columns](int64_t begin, int64_t end) {
    std::vector<Reader<Tag>> readers;
    for (int64_t i = begin; i < end; ++i) {
      const int64_t image = i / h, r = i % h;
      const PoolRange row = rows.of_cell[size_t(r)];
      T* out = grad + i * w * channels;
      for (int64_t s = 0; s < w; ++s, out += channels) {
        const PoolRange column = columns.of_cell[size_t(s)];
        readers.resize(size_t(std::max(0, row.end - row.begin) * std::max(0, column.end - column.begin)));
        Reader<Tag>* next = readers.data();
        for (int64_t p = row.begin; p < row.end; ++p) {
          const int64_t line = (image * out_h + p) * out_w;
          for (int64_t q = column.begin; q < column.end; ++q) *next++ = {(line + q) * channels, tag_of(p, q, r, s)};
        }
        switch (readers.size()) {
          case 0: std::fill_n(out, channels, T(0)); break;
          case 1: add_terms(readers.data(), channels, out, stream, term, std::make_index_sequence<1>()); break;
          case 2: add_terms(readers.data(), channels, out, stream, term, std::make_index_sequence<2>()); break;
          case 4: add_terms(readers.data(), channels, out, stream, term, std::make_index_sequence<4>()); break;
          default:
            for_channels<T, 1>(channels, [&]<class V, int>(int64_t c) {
              V sum{};
              for (const Reader<Tag>& reader : readers) sum += term.template operator()<V>(reader.at + c, reader.tag);
              store_pack(out + c, sum);
            });
        }
      }
    }
    if (stream) finish_streaming();
  });
}

template <class T, class Place>
void max_backward(const Tensor& grad_y, const Place* places, Tensor& grad_x, const Windows& rows, const Windows& columns) {
  const T* g = grad_y.data<T>();
  const auto place_in = [row_windows = rows.of_output.data(), column_windows = columns.of_output.data()](int64_t p, int64_t q, int64_t r,
                                                                                                         int64_t s) {
    const Window &row = row_windows[p], &column = column_windows[q];
    return int32_t((r - row.begin) * (column.end - column.begin) + s - column.begin);
  };
  gather<T>(grad_y, grad_x, rows, columns, place_in, [=]<class V>(int64_t at, int32_t place) {
    using Places = PlacePack<V, T, Place>;
    const typename Places::Wide self = typename Places::Wide{} + typename Places::Element(place);
    return Places::load(places + at) == self ? load_pack<V>(g + at) : V{};
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
        // Four vectors of a pixel at a time: whole lines of the cache.
        for_channels<T, 4>(channels, [&]<class V, int kVectors>(int64_t c) {
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
        });
      }
    }
  });
}

template <class T>
void average_backward(const Tensor& grad_y, Tensor& grad_x, const Windows& rows, const Windows& columns) {
  const int64_t out_h = grad_y.size(1), out_w = grad_y.size(2);
  const T* g = grad_y.data<T>();
  std::vector<T> shares(size_t(out_h * out_w));  // of a window's gradient, per cell
  for (int64_t p = 0; p < out_h; ++p) {
    for (int64_t q = 0; q < out_w; ++q) {
      shares[size_t(p * out_w + q)] = T(1) / T(rows.of_output[size_t(p)].count * columns.of_output[size_t(q)].count);
    }
  }
  gather<T>(
      grad_y, grad_x, rows, columns, [of = shares.data(), out_w](int64_t p, int64_t q, int64_t, int64_t) { return of[p * out_w + q]; },
      [=]<class V>(int64_t at, T share) { return V(share * load_pack<V>(g + at)); });
}

}  // namespace

void max_pool2d_forward(const Tensor& x, Tensor& y, Tensor& places, const Pool2dOptions& options) {
  if (y.numel() == 0) return;
  const Windows rows(pool_rows(x, y, options)), columns(pool_columns(x, y, options));
  dispatch_floating(x.dtype(), "max_pool2d", [&]<typename T>() {
    if (!places.defined()) return max_forward<T, int32_t, false>(x, y, nullptr, rows, columns);
    dispatch_places(places, [&]<typename Place>() { max_forward<T, Place, true>(x, y, places.data<Place>(), rows, columns); });
  });
}

void max_pool2d_backward(const Tensor& grad_y, const Tensor& places, Tensor& grad_x, const Pool2dOptions& options) {
  if (grad_y.numel() == 0) return;
  const Windows rows(pool_rows(grad_x, grad_y, options)), columns(pool_columns(grad_x, grad_y, options));
  dispatch_floating(grad_y.dtype(), "max_pool2d", [&]<typename T>() {
    dispatch_places(places, [&]<typename Place>() { max_backward<T>(grad_y, places.data<Place>(), grad_x, rows, columns); });
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
