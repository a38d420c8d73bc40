#include "core/kernels/matmul_tile.h"

#include <algorithm>
#include <vector>

#include "core/kernels/conv2d_tile.h"

namespace eq::cpu {
namespace {

using conv::kBlock;
using conv::kTileRows;

constexpr int64_t kDepth = 256;  // of a panel of b: 16 KiB, half of the first cache (all of it where vectors have 64 bytes)

// Columns [0, width) of op(b), width <= kBlock, for `depth` of its rows, as a panel of whole vectors: zeros behind the last column.
template <class T>
void pack_panel(const MatrixView<T>& b, int64_t depth, int64_t width, T* panel) {
  constexpr int64_t kWidth = conv::kVectorLanes<T>;
  const int64_t padded = conv::divide_up(width, kWidth) * kWidth;
  for (int64_t v = 0; v < padded; v += kWidth) {
    const int64_t valid = std::min(kWidth, width - v);
    if (!b.transposed) {
      for (int64_t r = 0; r < depth; ++r) conv::store(panel + r * padded + v, conv::load_first(b.data + r * b.stride + v, valid));
      continue;
    }
    for (int64_t r = 0; r < depth; r += kWidth) {  // squares of b, transposed in registers
      const int64_t rows = std::min(kWidth, depth - r);
      conv::Vector<T> square[kWidth] = {};
      for (int64_t column = 0; column < valid; ++column) square[column] = conv::load_first(b.data + (v + column) * b.stride + r, rows);
      conv::transpose<T>(square);
      for (int64_t i = 0; i < rows; ++i) conv::store(panel + (r + i) * padded + v, square[i]);
    }
  }
}

// a as it is: the rows of a tile are pixels of one run each.
template <class T>
void multiply_rows(const MatrixView<T>& a, const T* panel, T* c, int64_t c_stride, int64_t m, int64_t width, int64_t depth,
                   bool accumulate) {
  const conv::Tap whole{0, 0};
  const bool wide = width > conv::kVectorLanes<T>;
  conv::PixelTiles<T> tile{};
  tile.x = a.data;
  tile.x_pixel = a.stride;
  tile.y = c;
  tile.y_pixel = c_stride;
  tile.taps = &whole;
  tile.tap_count = 1;
  tile.depth = depth;
  tile.weight = tile.ahead = panel;
  tile.accumulate = accumulate;
  tile.last = wide ? width - conv::kVectorLanes<T> : width;
  conv::run_pixels(wide ? conv::kPixelTiles<T, 2> : conv::kPixelTiles<T, 1>, tile, m);
}

// a transposed: outer products of its memory's rows with the panel's.
template <class T>
void multiply_columns(const MatrixView<T>& a, const T* panel, T* c, int64_t c_stride, int64_t m, int64_t width, int64_t depth) {
  const bool wide = width > conv::kVectorLanes<T>;
  conv::WeightTiles<T> tile{};
  tile.x = panel;
  tile.x_pixel = wide ? kBlock<T> : conv::kVectorLanes<T>;
  tile.grad = a.data;
  tile.grad_pixel = a.stride;
  tile.grad_tile = conv::Split(m, kTileRows).largest();
  tile.images = tile.rows = 1;
  tile.cols = depth;
  tile.out = c;
  tile.out_row = c_stride;
  conv::run_lines(tile, m, tile.grad_tile, width);
}

}  // namespace

template <class T>
void tile_product(const MatrixView<T>& a, const MatrixView<T>& b, T* c, int64_t c_stride, int64_t m, int64_t n, int64_t k,
                  bool accumulate) {
  alignas(64) T panel[kDepth * kBlock<T>];
  if (!accumulate && (a.transposed || k == 0)) {
    for (int64_t row = 0; row < m; ++row) std::fill(c + row * c_stride, c + row * c_stride + n, T(0));
  }
  for (int64_t first = 0; first < k; first += kDepth) {
    const int64_t depth = std::min(kDepth, k - first);
    MatrixView<T> left = a, right = b;
    left.data += a.transposed ? first * a.stride : first;
    for (int64_t column = 0; column < n; column += kBlock<T>) {
      const int64_t width = std::min<int64_t>(kBlock<T>, n - column);
      right.data = b.data + (b.transposed ? column * b.stride + first : first * b.stride + column);
      pack_panel(right, depth, width, panel);
      if (a.transposed) multiply_columns(left, panel, c + column, c_stride, m, width, depth);
      else multiply_rows(left, panel, c + column, c_stride, m, width, depth, accumulate || first > 0);
    }
  }
}

template void tile_product<float>(const MatrixView<float>&, const MatrixView<float>&, float*, int64_t, int64_t, int64_t, int64_t, bool);
template void tile_product<double>(const MatrixView<double>&, const MatrixView<double>&, double*, int64_t, int64_t, int64_t, int64_t, bool);

}  // namespace eq::cpu
