#pragma once
// Winograd's minimal filtering for 3x3 filters of stride 1: F(m x m, 3x3) computes m x m outputs from a tile of
// (m+2) x (m+2) inputs by (m+2)^2 products per pair of channels instead of 9 m^2.
//
//   y = A^T [ (G w G^T) . (B^T d B) ] A, summed over the input channels between the brackets   (Lavin and Gray, 2016)
//   adjoints: of the output transform A dy A^T, of the filter transform G^T du G
//
// The matrices are Toom and Cook's for the points 0, infinity and +-1 (m = 2) or +-5/8, +-3/2 (m = 4). The usual points
// +-1, +-2 need no multiplications in places, but cost twice the accuracy: relative to the output's rms, the rms error
// in float32 (128 channels) is 4.2e-7 directly, 3.1e-7 for m = 2, 9e-7 for m = 4 with these points and 2e-6 with those.
// Dilated filters are the same on each of dilation^2 interleaved images.

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_simd.h"

namespace eq::cpu::conv {

// One-dimensional transforms of vectors, each lane for itself.
template <int kOutputs>
struct Winograd;

template <>
struct Winograd<2> {
  static constexpr int kIn = 4;
  template <class V>
  static void input(const V* d, V* v) {
    v[0] = d[0] - d[2];
    v[1] = d[1] + d[2];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
  }
  template <class V>
  static void filter(const V* w, V* u) {
    const auto half = decltype(w[0][0] + 0)(0.5);
    const V even = w[0] + w[2];
    u[0] = w[0];
    u[1] = (even + w[1]) * half;
    u[2] = (even - w[1]) * half;
    u[3] = w[2];
  }
  template <class V>
  static void output(const V* m, V* y) {
    y[0] = m[0] + (m[1] + m[2]);
    y[1] = (m[1] - m[2]) + m[3];
  }
  template <class V>
  static void output_adjoint(const V* y, V* m) {
    m[0] = y[0];
    m[1] = y[0] + y[1];
    m[2] = y[0] - y[1];
    m[3] = y[1];
  }
  template <class V>
  static void filter_adjoint(const V* u, V* w) {
    const auto half = decltype(u[0][0] + 0)(0.5);
    const V even = (u[1] + u[2]) * half;
    w[0] = u[0] + even;
    w[1] = (u[1] - u[2]) * half;
    w[2] = u[3] + even;
  }
};

template <>
struct Winograd<4> {
  static constexpr int kIn = 6;
  static constexpr double a = 5.0 / 8, b = 3.0 / 2, aa = a * a, bb = b * b;
  // 1 / product of a point's distances from the others: of 0, of +-a, of +-b.
  static constexpr double at_0 = 1 / (aa * bb), at_a = 1 / (2 * aa * (aa - bb)), at_b = 1 / (2 * bb * (bb - aa));

  template <class V>
  static void input(const V* d, V* v) {
    using S = decltype(d[0][0] + 0);
    const V even_a = d[4] - d[2] * S(bb), odd_a = d[3] - d[1] * S(bb);
    const V even_b = d[4] - d[2] * S(aa), odd_b = d[3] - d[1] * S(aa);
    v[0] = d[4] - d[2] * S(aa + bb) + d[0] * S(aa * bb);
    v[1] = even_a + odd_a * S(a);
    v[2] = even_a - odd_a * S(a);
    v[3] = even_b + odd_b * S(b);
    v[4] = even_b - odd_b * S(b);
    v[5] = d[5] - d[3] * S(aa + bb) + d[1] * S(aa * bb);
  }
  template <class V>
  static void filter(const V* w, V* u) {
    using S = decltype(w[0][0] + 0);
    const V even_a = w[0] * S(at_a) + w[2] * S(aa * at_a), odd_a = w[1] * S(a * at_a);
    const V even_b = w[0] * S(at_b) + w[2] * S(bb * at_b), odd_b = w[1] * S(b * at_b);
    at_points(w[0] * S(at_0), even_a, odd_a, even_b, odd_b, w[2], u);
  }
  template <class V>
  static void output(const V* m, V* y) {
    using S = decltype(m[0][0] + 0);
    const V even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + (even_a + even_b);
    y[1] = odd_a * S(a) + odd_b * S(b);
    y[2] = even_a * S(aa) + even_b * S(bb);
    y[3] = m[5] + odd_a * S(a * aa) + odd_b * S(b * bb);
  }
  template <class V>
  static void output_adjoint(const V* y, V* m) {
    using S = decltype(y[0][0] + 0);
    const V even_a = y[0] + y[2] * S(aa), odd_a = y[1] * S(a) + y[3] * S(a * aa);
    const V even_b = y[0] + y[2] * S(bb), odd_b = y[1] * S(b) + y[3] * S(b * bb);
    at_points(y[0], even_a, odd_a, even_b, odd_b, y[3], m);
  }
  template <class V>
  static void filter_adjoint(const V* u, V* w) {
    using S = decltype(u[0][0] + 0);
    const V even_a = u[1] + u[2], even_b = u[3] + u[4];
    w[0] = u[0] * S(at_0) + even_a * S(at_a) + even_b * S(at_b);
    w[1] = (u[1] - u[2]) * S(a * at_a) + (u[3] - u[4]) * S(b * at_b);
    w[2] = u[5] + even_a * S(aa * at_a) + even_b * S(bb * at_b);
  }

 private:
  // A polynomial's values at 0, a, -a, b, -b and infinity, from the sums of its even and of its odd terms.
  template <class V>
  static void at_points(V zero, V even_a, V odd_a, V even_b, V odd_b, V infinity, V* to) {
    to[0] = zero;
    to[1] = even_a + odd_a;
    to[2] = even_a - odd_a;
    to[3] = even_b + odd_b;
    to[4] = even_b - odd_b;
    to[5] = infinity;
  }
};

// What is computed along an axis in tiles. Output begin + i * step (i < count) is the tile's i-th; its inputs are
// first + i * step, of which those outside [0, in) are zero.
struct WinogradTile {
  int64_t begin, count, first;
};
struct WinogradAxis {
  int64_t in = 0, out = 0, step = 1;
  std::vector<WinogradTile> tiles;
  // `offset`: the input that output 0 reads first.
  WinogradAxis(int64_t in, int64_t out, int64_t step, int64_t offset, int64_t tile);
  int64_t size() const { return int64_t(tiles.size()); }
  // The tile's `inputs` inputs are all in [0, in).
  bool inside(const WinogradTile& tile, int64_t inputs) const { return tile.first >= 0 && tile.first + (inputs - 1) * step < in; }
};

// A convolution x [images, h.in, w.in, in_channels] to y [images, h.out, w.out, out_channels], cut into tiles: tile
// number (image * h.size() + i) * w.size() + j.
struct WinogradShape {
  int64_t images, in_channels, out_channels;
  WinogradAxis h, w;
  int64_t tiles() const { return images * h.size() * w.size(); }

  // A tile's place; next() goes to the tile that follows.
  struct Place {
    const WinogradShape& shape;
    int64_t image, i, j;
    const WinogradTile& rows() const { return shape.h.tiles[size_t(i)]; }
    const WinogradTile& cols() const { return shape.w.tiles[size_t(j)]; }
    void next() {
      if (++j < shape.w.size()) return;
      j = 0;
      if (++i < shape.h.size()) return;
      i = 0;
      ++image;
    }
  };
  Place at(int64_t tile) const {
    const int64_t row = tile / w.size();
    return {*this, row / h.size(), row % h.size(), tile % w.size()};
  }
  // Of the first output of a tile in y, of the next ones below and beside it: elements.
  int64_t y_offset(const Place& p) const { return ((p.image * h.out + p.rows().begin) * w.out + p.cols().begin) * out_channels; }
  int64_t y_row() const { return h.step * w.out * out_channels; }
  int64_t y_pixel() const { return w.step * out_channels; }
};
// Of the forward convolution, and of the one whose output is grad_x.
WinogradShape winograd_forward_shape(const Shape& x, const Shape& y, const Conv2dOptions& options, int64_t tile);
WinogradShape winograd_backward_shape(const Shape& grad_y, const Shape& grad_x, const Conv2dOptions& options, int64_t tile);

// `transform` along both axes of a square of vectors: read_column(j, column) and write_row(i, row) are called for j and i
// from 0 on. Of the kTo rows of the result, kRows from kFirst on are computed.
template <int kFrom, int kTo, class T, int kFirst = 0, int kRows = kTo, class Read, class Transform, class Write>
inline void transform_square(Read read_column, const Transform& transform, Write write_row) {
  Vector<T> half[kRows][kFrom];
#pragma GCC unroll 6
  for (int j = 0; j < kFrom; ++j) {
    Vector<T> column[kFrom], result[kTo];
    read_column(j, column);
    transform(column, result);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) half[i][j] = result[kFirst + i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    Vector<T> result[kTo];
    transform(half[i], result);
    write_row(i, result);
  }
}

// Columns and rows of squares whose vector (i, j) is at + i * row + j * column.
template <class T, int kRows>
struct ReadColumns {
  const T* at;
  int64_t row, column;
  void operator()(int, Vector<T>* to) {
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) to[i] = load(at + i * row);
    at = forget(at + column);
  }
};
template <class T, int kColumns>
struct WriteRows {
  T* at;
  int64_t row, column;
  void operator()(int, const Vector<T>* from) {
#pragma GCC unroll 6
    for (int j = 0; j < kColumns; ++j) store(at + j * column, from[j]);
    at = forget(at + row);
  }
};

// B^T d B of `count` tiles from number `tile` on, channels [channel, channel + channels), to
// to[frequency * plane + tile * row + channel]; the last vector's missing channels become zeros. `zeros` has
// shape.in_channels of them. Of the frequencies' rows, kRows from kFirst on: `frequency` counts from there.
template <class T, int kM, int kFirst = 0, int kRows = Winograd<kM>::kIn>
void winograd_transform_input(const WinogradShape& shape, const T* x, const T* zeros, int64_t tile, int64_t count,
                              int64_t channel, int64_t channels, T* to, int64_t plane, int64_t row) {
  constexpr int kIn = Winograd<kM>::kIn;
  const auto transform = [](const Vector<T>* from, Vector<T>* result) { Winograd<kM>::input(from, result); };
  const int64_t x_row = shape.h.step * shape.w.in * shape.in_channels, x_pixel = shape.w.step * shape.in_channels;
  WinogradShape::Place place = shape.at(tile);
  for (int64_t t = 0; t < count; ++t, place.next(), to += row) {
    const WinogradTile &rows = place.rows(), &cols = place.cols();
    const int64_t image_begin = place.image * shape.h.in;
    const auto write = [&](int64_t c) { return WriteRows<T, kIn>{to + c, kIn * plane, plane}; };
    int64_t c = 0;
    if (shape.h.inside(rows, kIn) && shape.w.inside(cols, kIn)) {
      const T* const first = x + ((image_begin + rows.first) * shape.w.in + cols.first) * shape.in_channels + channel;
      for (; c + kVectorLanes<T> <= channels; c += kVectorLanes<T>) {
        transform_square<kIn, kIn, T, kFirst, kRows>(ReadColumns<T, kIn>{first + c, x_row, x_pixel}, transform, write(c));
      }
    }
    if (c == channels) continue;
    const T* inputs[kIn][kIn];  // [column][row]: where each begins, or zeros
    for (int s = 0; s < kIn; ++s) {
      const int64_t col = cols.first + s * shape.w.step;
      for (int r = 0; r < kIn; ++r) {
        const int64_t line = rows.first + r * shape.h.step;
        const bool inside = line >= 0 && line < shape.h.in && col >= 0 && col < shape.w.in;
        inputs[s][r] = inside ? x + ((image_begin + line) * shape.w.in + col) * shape.in_channels + channel : zeros;
      }
    }
    for (; c < channels; c += kVectorLanes<T>) {
      const int64_t valid = std::min<int64_t>(kVectorLanes<T>, channels - c);
      transform_square<kIn, kIn, T, kFirst, kRows>(
          [&](int j, Vector<T>* column) {
#pragma GCC unroll 6
            for (int i = 0; i < kIn; ++i) column[i] = load_first(inputs[j][i] + c, valid);
          },
          transform, write(c));
    }
  }
}

// Distance of planes of `size` elements: whole cache lines, and no multiple of 512 bytes.
template <class T>
int64_t winograd_plane(int64_t size) {
  return scratch_pixel<T>(divide_up(size, int64_t(64 / sizeof(T))) * int64_t(64 / sizeof(T)));
}

// Up to so many tiles, forward and backward input transform filters as they go instead of all at first.
inline constexpr int64_t kDeepTiles = 96;

// F(kM x kM, 3x3); the filters must be 3x3, of stride 1 and one group. `cache`, if not null, keeps the transformed filters.
template <class T, int kM>
void winograd_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish,
                      WeightCache* cache, Tensor& y, const Conv2dOptions& options);
template <class T, int kM>
void winograd_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options);
template <class T, int kM>
void winograd_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options);

}  // namespace eq::cpu::conv
