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
  // Vectors lie along the input channels, as in the gradient, or, where these would fill them badly (a stem), along the
  // output channels: sums are then [kh,kw,I/groups][O].
  bool transposed;
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
  auto filled = [](int64_t channels) { return double(channels) / double(divide_up(channels, kLanes<T>) * kLanes<T>); };
  const bool merged = c.w.taps.size() > 1 && c.w.taps[1] == c.w.taps[0] + 1;
  const double filled_c = filled(merged ? c.in_channels * int64_t(c.w.taps.size()) : c.in_channels);
  const bool transposed = c.in_channels <= c_range && filled(k.largest()) > 1.2 * filled_c;
  Plan plan = {images, rows, cols, k.largest(), c_range, k.parts, divide_up(c.in_channels, c_range), 1, transposed};
  plan.chunks =
      std::clamp<int64_t>(kTasks / (c.groups * plan.k_ranges * plan.c_ranges), 1, std::max<int64_t>(1, plan.strips()));
  return plan;
}

// A strip of one operand as the tiles read it: in place, or copied.
template <class T>
struct Operand {
  const T* data;
  int64_t image, row, pixel;
};

template <class T>
void add_strip(const Correlation& c, const Window& rows, const Window& cols, int64_t images, Operand<T> x,
               Operand<T> grad, int64_t k_count, int64_t c_count, bool transposed, T* out) {
  const int64_t taps_w = int64_t(c.w.taps.size()), filter = int64_t(c.h.taps.size()) * taps_w * c.in_channels;
  // Taps of a filter row that lie side by side in x and in the gradient are one longer row of channels.
  const bool merged = c_count == c.in_channels && x.pixel == c_count && c_count % kLanes<T> != 0 && cols.consecutive();
  const int64_t width = merged ? c_count * int64_t(cols.tap.size()) : c_count;
  const Split tile_rows(transposed ? width : k_count, kTileRows);
  const int64_t tile_columns = transposed ? k_count : width;
  Operand<T> across = {nullptr, x.image, rows.step * x.row, cols.step * x.pixel}, down = grad;
  if (transposed) std::swap(across, down);
  WeightTile<T> tile = {};
  tile.x_image = across.image;
  tile.x_row = across.row;
  tile.x_pixel = across.pixel;
  tile.grad_image = down.image;
  tile.grad_row = down.row;
  tile.grad_pixel = down.pixel;
  tile.images = images;
  tile.rows = rows.count;
  tile.cols = cols.count;
  tile.out_row = transposed ? c.y_pixel : filter;
  for (size_t i = 0; i < rows.tap.size(); ++i) {
    for (size_t j = 0; j < (merged ? std::min<size_t>(1, cols.tap.size()) : cols.tap.size()); ++j) {
      const T* tap_x = x.data + rows.base[i] * x.row + cols.base[j] * x.pixel;
      T* tap_out = out + (rows.tap[i] * taps_w + cols.tap[j]) * c.in_channels * (transposed ? c.y_pixel : 1);
      for (int64_t part = 0; part < tile_rows.parts; ++part) {
        const int64_t row = tile_rows.begin(part);
        for (int64_t column = 0; column < tile_columns; column += kBlock<T>) {
          const int64_t channels = std::min<int64_t>(kBlock<T>, tile_columns - column);
          const bool narrow = channels <= kLanes<T>;
          tile.x = (transposed ? grad.data : tap_x) + column;
          tile.grad = (transposed ? tap_x : grad.data) + row;
          tile.out = tap_out + row * tile.out_row + column;
          tile.last = narrow ? channels : channels - kLanes<T>;
          (narrow ? kWeightTiles<T, 1> : kWeightTiles<T, 2>)[size_t(tile_rows.size(part) - 1)](tile);
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
  const bool in_parts = plan.chunks > 1 || plan.transposed;
  Buffer<T> parts(in_parts ? plan.chunks * size : 1);
  parallel_for(plan.chunks * c.groups * plan.k_ranges * plan.c_ranges, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t rest = task;
      auto take = [&rest](int64_t count) { return std::exchange(rest, rest / count) % count; };
      const int64_t c_begin = take(plan.c_ranges) * plan.c_range,
                    c_count = std::min(plan.c_range, c.in_channels - c_begin);
      const Split k_split(c.out_channels, plan.k_range);
      const int64_t k_part = take(plan.k_ranges), k_begin = k_split.begin(k_part), k_count = k_split.size(k_part);
      const int64_t group = take(c.groups), chunk = rest;
      T* sum = in_parts ? parts.data() + chunk * size : out;
      if (plan.transposed) {
        sum += group * c.out_channels + k_begin;
        for (int64_t i = 0; i < filter; ++i) std::fill_n(sum + i * y_pixel, k_count, T(0));
      } else {
        sum += (group * c.out_channels + k_begin) * filter + c_begin;
        for (int64_t k = 0; k < k_count; ++k) {
          for (int64_t i = 0; i < filter; i += c.in_channels) std::fill_n(sum + k * filter + i, c_count, T(0));
        }
      }
      // Both operands are read in place where nothing is padded, their channels are all of the pixel's and tiles, which
      // read whole vectors, stay within the last pixel.
      const bool x_direct =
          c.h.never_outside() && c.w.never_outside() && c_count == x_pixel && c_count % kLanes<T> == 0;
      const bool grad_direct = k_count == y_pixel && (!plan.transposed || k_count % kLanes<T> == 0);
      for (int64_t strip = plan.strips() * chunk / plan.chunks; strip < plan.strips() * (chunk + 1) / plan.chunks;
           ++strip) {
        rest = strip;
        const int64_t col = take(plan.cols.parts), row = take(plan.rows.parts), image = plan.images.begin(rest);
        const int64_t images = plan.images.size(rest);
        auto window = [x_direct](const Axis& axis, const Split& split, int64_t part) {
          return (x_direct ? direct_window : copied_window)(axis, split.begin(part), split.size(part));
        };
        const Window rows = window(c.h, plan.rows, row), cols = window(c.w, plan.cols, col);
        Operand<T> in = {xs + image * x_image + group * c.in_channels + c_begin, x_image, x_row, x_pixel};
        Operand<T> grad = {
            grads + image * c.y_image + rows.begin * c.y_row + cols.begin * y_pixel + group * c.out_channels + k_begin,
            c.y_image, c.y_row, y_pixel};
        const int64_t in_pixel = scratch_pixel<T>(c_count), in_row = int64_t(cols.source.size()) * in_pixel;
        const int64_t in_image = int64_t(rows.source.size()) * in_row, grad_pixel = scratch_pixel<T>(k_count);
        auto with_margin = [](int64_t count) { return divide_up(count + kBlock<T>, kLanes<T>) * kLanes<T>; };
        const int64_t in_size = x_direct ? 0 : with_margin(images * in_image);
        const int64_t grad_size = grad_direct ? 0 : with_margin(images * rows.count * cols.count * grad_pixel);
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
        add_strip(c, rows, cols, images, in, grad, k_count, c_count, plan.transposed, sum);
      }
    }
  });
  if (!in_parts) return;
  if (plan.transposed) {
    parallel_for(y_pixel, grain_for(filter * plan.chunks), [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        for (int64_t i = 0; i < filter; ++i) {
          T total = 0;
          for (int64_t chunk = 0; chunk < plan.chunks; ++chunk) total += parts.data()[chunk * size + i * y_pixel + k];
          out[k * filter + i] = total;
        }
      }
    });
    return;
  }
  add_parts(parts.data(), plan.chunks, size, out);
}

template void direct_backward_weight<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_backward_weight<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
