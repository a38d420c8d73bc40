#pragma once
// The two register tiles all dense convolutions are made of: outer products summed in registers, for 1 .. kTileRows
// rows and one or two vectors. What they sum over is a list of contiguous runs, so that they know nothing of padding,
// stride or dilation.

#include <array>

#include "core/kernels/conv2d_simd.h"
#include "core/kernels/conv2d_window.h"

namespace eq::cpu::conv {

// --- y[pixel, channel] (+)= bias[channel] + sum over taps and depth of x[pixel + tap, c] * weight[tap, c, channel] ---

// Output channels (of a group) in blocks of a tile's width, the last one rounded up to whole vectors.
template <class T>
struct OutputBlocks {
  int64_t out_channels;
  int64_t blocks() const { return divide_up(out_channels, kBlock<T>); }
  int64_t block_channels(int64_t block) const { return std::min<int64_t>(kBlock<T>, out_channels - block * kBlock<T>); }
  int64_t block_width(int64_t block) const { return divide_up(block_channels(block), kVectorLanes<T>) * kVectorLanes<T>; }
  int64_t padded_channels() const { return divide_up(out_channels, kVectorLanes<T>) * kVectorLanes<T>; }
};

struct Tap {
  int64_t x, weight;  // where the tap's run starts, from PixelTile::x and ::weight
};

// Where rows are short, tiles may take pixels from several rows, each by a pointer of its own. Only tiles of few pixels: in larger ones
// there are no registers for that.
inline constexpr bool kTilesAcrossRows = kTileRows <= 6;

// Tiles of equally many pixels, one after the other. They are run by one call: of a tile of few products (a stem, a filter of 1x1) its
// beginning and end cost a quarter, and most of that is the call's.
template <class T>
struct PixelTiles {
  int64_t tiles;
  const T* x;
  int64_t x_pixel;  // elements from a pixel's runs to its neighbour's
  T* y;
  int64_t y_pixel;
  const int64_t *x_at, *y_at;  // across rows instead: of each pixel, from x and y
  const Tap* taps;
  int64_t tap_count, depth;  // depth: elements of a run
  const T* weight;           // of each tap [depth][vectors * kVectorLanes]
  const T* bias;             // null: none; ignored when accumulating
  bool accumulate;           // start from y, not from the bias
  int64_t last;              // channels in the last vector, 1 .. kVectorLanes
  const T* ahead;            // memory that will be read next: one line is prefetched per step of depth
  int64_t ahead_step, ahead_tile;  // elements from a step to the next, and from where a tile begins to where the next one does
};

template <class T, int kPixels, int kVectors, bool kAcrossRows>
[[gnu::noinline]] void run_pixel_tiles(const PixelTiles<T>& all) {
  constexpr int kWidth = kVectorLanes<T>, kPerPointer = kAcrossRows ? 1 : 3;  // base, base + step and base + 2 * step are addressing modes
  constexpr int kPointers = (kPixels + kPerPointer - 1) / kPerPointer;
  PixelTiles<T> t = all;  // whose members no store to y can change, as far as the compiler knows
  const auto for_pixels = [&](const auto& fn) {
    T* to = t.y;
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
      if (kAcrossRows) to = t.y + t.y_at[p];
      fn(p, to);
      to = forget(to + t.y_pixel);
    }
  };
  const bool whole = t.last == kWidth;
  const auto valid = [&](int v) { return v + 1 == kVectors ? t.last : int64_t(kWidth); };
  for (; t.tiles > 0; --t.tiles) {
    Vector<T> sum[kPixels][kVectors];
    if (t.accumulate) {
      for_pixels([&](int p, const T* from) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[p][v] = whole ? load(from + v * kWidth) : load_first(from + v * kWidth, valid(v));
      });
    } else {
      Vector<T> start[kVectors] = {};
      if (t.bias) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) start[v] = load_first(t.bias + v * kWidth, valid(v));
      }
      for_pixels([&](int p, const T* to) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) {
          sum[p][v] = start[v];
          if (v * int(kRegisterBytes) % 64 == 0) __builtin_prefetch(to + v * kWidth, 1);
        }
      });
    }
    const T* ahead = t.ahead;
    for (int64_t i = 0; i < t.tap_count; ++i) {
      const T* base[kPointers];
#pragma GCC unroll 8
      for (int b = 0; b < kPointers; ++b) base[b] = t.x + t.taps[i].x + (kAcrossRows ? t.x_at[b] : b * kPerPointer * t.x_pixel);
      const T* weight = t.weight + t.taps[i].weight;
      for (int64_t c = 0; c < t.depth; ++c, weight += kVectors * kWidth, ahead += t.ahead_step) {
        __builtin_prefetch(ahead, 0, 3);
        Vector<T> w[kVectors];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) w[v] = load(weight + v * kWidth);
#pragma GCC unroll 16
        for (int p = 0; p < kPixels; ++p) {
          const T value = base[p / kPerPointer][c + (p % kPerPointer) * t.x_pixel];
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) sum[p][v] += w[v] * value;
        }
      }
    }
    if (whole) {
      for_pixels([&](int p, T* to) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store(to + v * kWidth, sum[p][v]);
      });
    } else {
      for_pixels([&](int p, T* to) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) store_first(to + v * kWidth, sum[p][v], valid(v));
      });
    }
    if (kAcrossRows) {
      t.x_at += kPixels;
      t.y_at += kPixels;
    } else {
      t.x += kPixels * t.x_pixel;
      t.y += kPixels * t.y_pixel;
    }
    t.ahead += t.ahead_tile;
  }
}

// --- out[row, column] += sum over pixels of grad[pixel, row] * x[pixel, column] ---

// Tiles of equally many rows, one after the other, by one call, as those of pixels are.
template <class T>
struct WeightTiles {
  int64_t tiles;
  const T* x;  // [images][rows][cols] pixels; whole vectors are read, also of the last one
  int64_t x_image, x_row, x_pixel;
  const T* grad;
  int64_t grad_image, grad_row, grad_pixel;
  int64_t grad_tile;  // elements from a tile's to the next one's
  int64_t images, rows, cols;
  T* out;
  int64_t out_row;
  int64_t last;  // columns in the last vector, 1 .. kVectorLanes
};

template <class T, int kRows, int kVectors>
[[gnu::noinline]] void run_weight_tiles(const WeightTiles<T>& all) {
  constexpr int kWidth = kVectorLanes<T>;
  WeightTiles<T> t = all;
  for (; t.tiles > 0; --t.tiles, t.grad += t.grad_tile, t.out += kRows * t.out_row) {
    Vector<T> sum[kRows][kVectors];
#pragma GCC unroll 16
    for (int k = 0; k < kRows; ++k) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[k][v] = Vector<T>{};
    }
    for (int64_t image = 0; image < t.images; ++image) {
      for (int64_t row = 0; row < t.rows; ++row) {
        const T* x = t.x + image * t.x_image + row * t.x_row;
        const T* grad = t.grad + image * t.grad_image + row * t.grad_row;
        for (int64_t q = 0; q < t.cols; ++q, x += t.x_pixel, grad += t.grad_pixel) {
          Vector<T> value[kVectors];
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) value[v] = load(x + v * kWidth);
#pragma GCC unroll 16
          for (int k = 0; k < kRows; ++k) {
            const T g = grad[k];
#pragma GCC unroll 2
            for (int v = 0; v < kVectors; ++v) sum[k][v] += value[v] * g;
          }
        }
      }
    }
    const auto add = [&](const auto& add_vector) {
      T* to = t.out;
#pragma GCC unroll 16
      for (int k = 0; k < kRows; ++k) {
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) add_vector(to + v * kWidth, sum[k][v], v);
        to = forget(to + t.out_row);
      }
    };
    if (t.last == kWidth) {
      add([](T* to, Vector<T> value, int) { store(to, load(to) + value); });
    } else {
      add([&](T* to, Vector<T> value, int v) {
        const int64_t valid = v + 1 == kVectors ? t.last : int64_t(kWidth);
        store_first(to, load_first(to, valid) + value, valid);
      });
    }
  }
}

// --- by run-time size: table[rows - 1](tiles) ---

template <class T>
using PixelTileTable = std::array<void (*)(const PixelTiles<T>&), kTileRows>;
template <class T, int kVectors>
inline constexpr int kWeightTileRows = kVectors == 1 ? kOneVectorRows : kTileRows;
template <class T, int kVectors>
using WeightTileTable = std::array<void (*)(const WeightTiles<T>&), kWeightTileRows<T, kVectors>>;

namespace detail {
template <class T, int kVectors, bool kAcrossRows, int... kRow>
constexpr PixelTileTable<T> pixel_tiles(std::integer_sequence<int, kRow...>) {
  return {run_pixel_tiles<T, kRow + 1, kVectors, kAcrossRows>...};
}
template <class T, int kVectors, int... kRow>
constexpr WeightTileTable<T, kVectors> weight_tiles(std::integer_sequence<int, kRow...>) {
  return {run_weight_tiles<T, kRow + 1, kVectors>...};
}
}  // namespace detail

template <class T, int kVectors, bool kAcrossRows = false>
inline constexpr PixelTileTable<T> kPixelTiles =
    detail::pixel_tiles<T, kVectors, kAcrossRows>(std::make_integer_sequence<int, kTileRows>());
template <class T, int kVectors>
inline constexpr WeightTileTable<T, kVectors> kWeightTiles =
    detail::weight_tiles<T, kVectors>(std::make_integer_sequence<int, kWeightTileRows<T, kVectors>>());

// `pixels` pixels from t.x on, in tiles whose sizes differ by at most one. ahead_of_x: what is read next is the pixels behind a tile.
template <class T>
void run_pixels(const PixelTileTable<T>& table, PixelTiles<T> t, int64_t pixels, bool ahead_of_x = false) {
  const Split tiles(pixels, kTileRows);
  const int64_t larger = pixels % tiles.parts;
  const auto run = [&](int64_t count, int64_t size) {
    t.tiles = count;
    if (ahead_of_x) {
      t.ahead = t.x + size * t.x_pixel;
      t.ahead_step = size;
      t.ahead_tile = size * t.x_pixel;
    }
    table[size_t(size - 1)](t);
    t.x += count * size * t.x_pixel;
    t.y += count * size * t.y_pixel;
    t.ahead += count * t.ahead_tile;
  };
  if (larger > 0) run(larger, tiles.largest());
  run(tiles.parts - larger, pixels / tiles.parts);
}

// `lines` rows of the sums in tiles of `size`, the last of fewer, for `columns` columns, kBlock at most.
template <class T>
void run_lines(WeightTiles<T> t, int64_t lines, int64_t size, int64_t columns) {
  const bool narrow = columns <= kVectorLanes<T>;
  t.last = narrow ? columns : columns - kVectorLanes<T>;
  const auto run = [&](int64_t tiles, int64_t rows) {
    t.tiles = tiles;
    (narrow ? kWeightTiles<T, 1>[size_t(rows - 1)] : kWeightTiles<T, 2>[size_t(rows - 1)])(t);
  };
  const int64_t whole = lines / size;
  if (whole > 0) run(whole, size);
  if (lines % size == 0) return;
  t.grad += whole * t.grad_tile;
  t.out += whole * size * t.out_row;
  run(1, lines % size);
}

}  // namespace eq::cpu::conv
