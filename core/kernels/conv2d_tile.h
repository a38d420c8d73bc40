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
  int64_t block_width(int64_t block) const { return divide_up(block_channels(block), kLanes<T>) * kLanes<T>; }
  int64_t padded_channels() const { return divide_up(out_channels, kLanes<T>) * kLanes<T>; }
};

struct Tap {
  int64_t x, weight;  // where the tap's run starts, from PixelTile::x and ::weight
};

// kPointerPixels of a tile's pixels share a pointer: base, base + step and base + 2 * step are addressing modes. Where rows are short,
// tiles of few pixels may take them from several rows, each by a pointer of its own; in larger ones there are no registers for that.
inline constexpr int kPointerPixels = 3;
inline constexpr bool kTilesAcrossRows = kTileRows <= 6;

template <class T>
struct PixelTile {
  const T* x;
  const int64_t* x_at;  // of each pixel, where its runs start, from x
  int64_t x_pixel;      // those of neighbours differ by so much, unless each has its pointer
  const Tap* taps;
  int64_t tap_count, depth;  // depth: elements of a run
  const T* weight;           // of each tap [depth][vectors * kLanes]
  const T* bias;             // null: none; ignored when accumulating
  bool accumulate;           // start from y, not from the bias
  T* y;
  const int64_t* y_at;  // of each pixel, from y
  int64_t last;         // channels in the last vector, 1 .. kLanes
  const T* ahead;       // memory the next tiles will read: one line is prefetched per step of depth
  int64_t ahead_step;   // elements
};

template <class T, int kPixels, int kVectors, int kPerPointer>
[[gnu::noinline]] void run_pixel_tile(const PixelTile<T>& t) {
  constexpr int kWidth = kLanes<T>;
  Vector<T> sum[kPixels][kVectors];
  auto valid = [&](int v) { return v + 1 == kVectors ? t.last : int64_t(kWidth); };
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const Vector<T> start = t.bias && !t.accumulate ? load_first(t.bias + v * kWidth, valid(v)) : Vector<T>{};
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
      sum[p][v] = t.accumulate ? load_first(t.y + t.y_at[p] + v * kWidth, valid(v)) : start;
    }
  }
  const int64_t step = t.x_pixel;
  const T* ahead = t.ahead;
  if (!t.accumulate) {
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) __builtin_prefetch(t.y + t.y_at[p] + v * kWidth, 1);
    }
  }
  for (int64_t i = 0; i < t.tap_count; ++i) {
    constexpr int kPointers = (kPixels + kPerPointer - 1) / kPerPointer;
    const T* base[kPointers];
#pragma GCC unroll 8
    for (int b = 0; b < kPointers; ++b) base[b] = t.x + t.taps[i].x + t.x_at[b * kPerPointer];
    const T* weight = t.weight + t.taps[i].weight;
    for (int64_t c = 0; c < t.depth; ++c, weight += kVectors * kWidth, ahead += t.ahead_step) {
      __builtin_prefetch(ahead, 0, 3);
      Vector<T> w[kVectors];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) w[v] = load(weight + v * kWidth);
#pragma GCC unroll 16
      for (int p = 0; p < kPixels; ++p) {
        const T value = base[p / kPerPointer][c + (p % kPerPointer) * step];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; ++v) sum[p][v] += w[v] * value;
      }
    }
  }
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) store_first(t.y + t.y_at[p] + v * kWidth, sum[p][v], valid(v));
  }
}

// --- out[row, column] += sum over pixels of grad[pixel, row] * x[pixel, column] ---

template <class T>
struct WeightTile {
  const T* x;  // [images][rows][cols] pixels; whole vectors are read, also of the last one
  int64_t x_image, x_row, x_pixel;
  const T* grad;
  int64_t grad_image, grad_row, grad_pixel;
  int64_t images, rows, cols;
  T* out;
  int64_t out_row;
  int64_t last;  // columns in the last vector, 1 .. kLanes
};

template <class T, int kRows, int kVectors>
[[gnu::noinline]] void run_weight_tile(const WeightTile<T>& t) {
  constexpr int kWidth = kLanes<T>;
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
#pragma GCC unroll 16
  for (int k = 0; k < kRows; ++k) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      const int64_t valid = v + 1 == kVectors ? t.last : int64_t(kWidth);
      T* to = t.out + k * t.out_row + v * kWidth;
      store_first(to, load_first(to, valid) + sum[k][v], valid);
    }
  }
}

// --- by run-time size: table[rows - 1](tile) ---

template <class T>
using PixelTileTable = std::array<void (*)(const PixelTile<T>&), kTileRows>;
template <class T>
using WeightTileTable = std::array<void (*)(const WeightTile<T>&), kTileRows>;

namespace detail {
template <class T, int kVectors, int kPerPointer, int... kRow>
constexpr PixelTileTable<T> pixel_tiles(std::integer_sequence<int, kRow...>) {
  return {run_pixel_tile<T, kRow + 1, kVectors, kPerPointer>...};
}
template <class T, int kVectors, int... kRow>
constexpr WeightTileTable<T> weight_tiles(std::integer_sequence<int, kRow...>) {
  return {run_weight_tile<T, kRow + 1, kVectors>...};
}
}  // namespace detail

template <class T, int kVectors, int kPerPointer = kPointerPixels>
inline constexpr PixelTileTable<T> kPixelTiles =
    detail::pixel_tiles<T, kVectors, kPerPointer>(std::make_integer_sequence<int, kTileRows>());
template <class T, int kVectors>
inline constexpr WeightTileTable<T> kWeightTiles =
    detail::weight_tiles<T, kVectors>(std::make_integer_sequence<int, kTileRows>());

}  // namespace eq::cpu::conv
