#include <algorithm>
#include <cstring>
#include <utility>

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_tile.h"
#include "core/parallel.h"

namespace eq::cpu::conv {
namespace {

constexpr int64_t kTasks = 16;              // wanted; beyond what blocks of channels give, by partial sums over pixels
constexpr int64_t kStripBytes = 320 << 10;  // of x and grad_y in scratch
constexpr int64_t kStripPixels = 512;
constexpr int64_t kStripColumns = 256;

// A task is a rectangle of output channels x input channels of one group, summed over a chunk of the strips.
struct Plan {
  Split images, rows, cols;
  int64_t k_range, c_range, k_ranges, c_ranges, chunks;
  int64_t strips() const { return images.parts * rows.parts * cols.parts; }
};

template <class T>
Plan make_plan(const Correlation& c) {
  // The rectangle's gradient stays in cache with a strip: 64 x 64 channels of a 3x3 filter are 147 KiB.
  const int64_t taps = int64_t(c.h.taps.size() * c.w.taps.size());
  const int64_t range = taps > 4 ? 64 : taps > 1 ? 128 : 256;
  const Split k(c.out_channels, range), ranges(c.in_channels, range);
  const int64_t c_range = divide_up(ranges.largest(), kBlock<T>) * kBlock<T>;
  const int64_t x_pixel = (std::min(c_range, c.in_channels) + 64 / int64_t(sizeof(T))) * int64_t(sizeof(T));
  const int64_t grad_pixel = (k.largest() + 64 / int64_t(sizeof(T))) * int64_t(sizeof(T));
  const Split cols(c.w.out, kStripColumns);
  auto bytes = [&](int64_t rows) {
    return c.h.positions(rows) * c.w.positions(cols.largest()) * x_pixel + rows * cols.largest() * grad_pixel;
  };
  int64_t most_rows = std::max<int64_t>(1, kStripPixels / std::max<int64_t>(1, cols.largest()));
  while (most_rows > 1 && bytes(most_rows) > kStripBytes) --most_rows;
  const Split rows(c.h.out, most_rows);
  int64_t most_images = 1;
  if (rows.parts == 1 && cols.parts == 1) {
    most_images = std::max<int64_t>(1, std::min(kStripPixels / (c.h.out * c.w.out), kStripBytes / bytes(c.h.out)));
  }
  const Split images(c.images, most_images);
  Plan plan = {images, rows, cols, k.largest(), c_range, k.parts, divide_up(c.in_channels, c_range), 1};
  plan.chunks = std::clamp<int64_t>(kTasks / (c.groups * plan.k_ranges * plan.c_ranges), 1, std::max<int64_t>(1, plan.strips()));
  return plan;
}

// A strip of one operand as the tiles read it: in place, or copied.
template <class T>
struct Operand {
  const T* data;
  int64_t image, row, pixel;
};

template <class T>
void add_strip(const Correlation& c, const Window& rows, const Window& cols, int64_t images, Operand<T> x, Operand<T> grad,
               int64_t k_count, int64_t c_count, bool whole_filter, T* out) {
  const int64_t taps_w = int64_t(c.w.taps.size()), filter = int64_t(c.h.taps.size()) * taps_w * c.in_channels;
  // Taps of a filter row that lie side by side in x and in the gradient are one longer row of columns.
  const bool merged = whole_filter && x.pixel == c_count && c_count % kLanes<T> != 0 && cols.consecutive();
  const int64_t width = merged ? c_count * int64_t(cols.tap.size()) : c_count;
  const Split ks(k_count, kTileRows);
  WeightTile<T> tile = {};
  tile.x_image = x.image;
  tile.x_row = rows.step * x.row;
  tile.x_pixel = cols.step * x.pixel;
  tile.grad_image = grad.image;
  tile.grad_row = grad.row;
  tile.grad_pixel = grad.pixel;
  tile.images = images;
  tile.rows = rows.count;
  tile.cols = cols.count;
  tile.out_row = filter;
  for (size_t i = 0; i < rows.tap.size(); ++i) {
    for (size_t j = 0; j < (merged ? std::min<size_t>(1, cols.tap.size()) : cols.tap.size()); ++j) {
      for (int64_t part = 0; part < ks.parts; ++part) {
        for (int64_t column = 0; column < width; column += kBlock<T>) {
          const int64_t channels = std::min<int64_t>(kBlock<T>, width - column);
          const bool narrow = channels <= kLanes<T>;
          tile.x = x.data + rows.base[i] * x.row + cols.base[j] * x.pixel + column;
          tile.grad = grad.data + ks.begin(part);
          tile.out = out + ks.begin(part) * filter + (rows.tap[i] * taps_w + cols.tap[j]) * c.in_channels + column;
          tile.last = narrow ? channels : channels - kLanes<T>;
          (narrow ? kWeightTiles<T, 1> : kWeightTiles<T, 2>)[size_t(ks.size(part) - 1)](tile);
        }
      }
    }
  }
}

}  // namespace

template <class T>
void direct_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& o) {
  const Correlation c = forward_correlation(x.shape(), grad_weight.shape(), grad_y.shape(), o);
  const Plan plan = make_plan<T>(c);
  const int64_t x_pixel = c.in_channels * c.groups, y_pixel = c.out_channels * c.groups;
  const int64_t x_row = c.w.in * x_pixel, x_image = c.h.in * x_row, size = grad_weight.numel();
  const int64_t filter = size / y_pixel;
  const T *xs = x.data<T>(), *grads = grad_y.data<T>();
  T* out = grad_weight.data<T>();
  Buffer<T> parts(plan.chunks > 1 ? plan.chunks * size : 1);
  parallel_for(plan.chunks * c.groups * plan.k_ranges * plan.c_ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t rest = task;
      auto take = [&rest](int64_t count) { return std::exchange(rest, rest / count) % count; };
      const int64_t c_begin = take(plan.c_ranges) * plan.c_range, c_count = std::min(plan.c_range, c.in_channels - c_begin);
      const Split k_split(c.out_channels, plan.k_range);
      const int64_t k_part = take(plan.k_ranges), k_begin = k_split.begin(k_part), k_count = k_split.size(k_part);
      const int64_t group = take(c.groups), chunk = rest;
      const bool whole = c_count == c.in_channels;
      T* sum = (plan.chunks > 1 ? parts.data() + chunk * size : out) + (group * c.out_channels + k_begin) * filter + c_begin;
      const int64_t runs = whole ? 1 : int64_t(c.h.taps.size() * c.w.taps.size()), run = whole ? filter : c_count;
      for (int64_t k = 0; k < k_count; ++k) {
        for (int64_t i = 0; i < runs; ++i) std::fill_n(sum + k * filter + i * c.in_channels, run, T(0));
      }
      // Both operands are read in place where nothing is padded and their channels are all of the pixel's.
      const bool x_direct = c.h.never_outside() && c.w.never_outside() && c_count == x_pixel && c_count % kLanes<T> == 0;
      const bool grad_direct = k_count == y_pixel;
      for (int64_t strip = plan.strips() * chunk / plan.chunks; strip < plan.strips() * (chunk + 1) / plan.chunks; ++strip) {
        rest = strip;
        const int64_t col = take(plan.cols.parts), row = take(plan.rows.parts), image = plan.images.begin(rest);
        const int64_t images = plan.images.size(rest);
        auto window = [x_direct](const Axis& axis, const Split& split, int64_t part) {
          return (x_direct ? direct_window : copied_window)(axis, split.begin(part), split.size(part));
        };
        const Window rows = window(c.h, plan.rows, row), cols = window(c.w, plan.cols, col);
        Operand<T> in = {xs + image * x_image + group * c.in_channels + c_begin, x_image, x_row, x_pixel};
        Operand<T> grad = {grads + image * c.y_image + rows.begin * c.y_row + cols.begin * y_pixel + group * c.out_channels + k_begin,
                           c.y_image, c.y_row, y_pixel};
        const int64_t in_pixel = scratch_pixel<T>(c_count), in_row = int64_t(cols.source.size()) * in_pixel;
        const int64_t in_image = int64_t(rows.source.size()) * in_row, grad_pixel = scratch_pixel<T>(k_count);
        // Tiles read whole vectors, also of the last pixel.
        const int64_t in_size = x_direct ? 0 : divide_up(images * in_image + kBlock<T>, kLanes<T>) * kLanes<T>;
        const int64_t grad_size = grad_direct ? 0 : images * rows.count * cols.count * grad_pixel;
        T* scratch = static_cast<T*>(thread_scratch(size_t(in_size + grad_size) * sizeof(T)));
        if (!x_direct) {
          for (int64_t n = 0; n < images; ++n) {
            copy_window(in.data + n * x_image, c.w.in, x_pixel, c_count, rows, cols, scratch + n * in_image, in_pixel);
          }
          in = {scratch, in_image, in_row, in_pixel};
        }
        if (!grad_direct) {
          T* to = scratch + in_size;
          for (int64_t n = 0; n < images; ++n) {
            for (int64_t p = 0; p < rows.count; ++p) {
              for (int64_t q = 0; q < cols.count; ++q, to += grad_pixel) {
                std::memcpy(to, grad.data + n * c.y_image + p * c.y_row + q * y_pixel, size_t(k_count) * sizeof(T));
              }
            }
          }
          grad = {scratch + in_size, rows.count * cols.count * grad_pixel, cols.count * grad_pixel, grad_pixel};
        }
        add_strip(c, rows, cols, images, in, grad, k_count, c_count, whole, sum);
      }
    }
  });
  if (plan.chunks == 1) return;
  parallel_for(size, 4096, [&](int64_t begin, int64_t end) {
    std::copy(parts.data() + begin, parts.data() + end, out + begin);
    for (int64_t chunk = 1; chunk < plan.chunks; ++chunk) {
      const T* part = parts.data() + chunk * size;
      for (int64_t i = begin; i < end; ++i) out[i] += part[i];
    }
  });
}

template void direct_backward_weight<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_backward_weight<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
