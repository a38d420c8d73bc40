#include <algorithm>
#include <utility>

#include "core/kernels/conv2d_direct.h"
#include "core/kernels/conv2d_tile.h"
#include "core/parallel.h"

namespace eq::cpu::conv {

Correlation forward_correlation(const Shape& x, const Shape& weight, const Shape& y, const Conv2dOptions& o) {
  Correlation c;
  c.groups = o.groups;
  c.in_channels = weight[3];
  c.out_channels = weight[0] / o.groups;
  c.y_pixel = weight[0];
  const bool pointwise = weight[1] == 1 && weight[2] == 1 && o.stride_h == 1 && o.stride_w == 1 && y[1] == x[1] && y[2] == x[2] &&
                         o.pad_top == 0 && o.pad_left == 0;
  if (pointwise) {
    const int64_t pixels = x[0] * x[1] * x[2];
    c.h = forward_axis(1, 1, 1, 1, 1, 0);
    c.w = forward_axis(pixels, pixels, 1, 1, 1, 0);
  } else {
    c.images = x[0];
    c.h = forward_axis(x[1], y[1], weight[1], o.stride_h, o.dilation_h, o.pad_top);
    c.w = forward_axis(x[2], y[2], weight[2], o.stride_w, o.dilation_w, o.pad_left);
  }
  c.y_row = c.w.out * c.y_pixel;
  c.y_image = c.h.out * c.y_row;
  return c;
}

namespace {

// Chunks of input channels and strips of outputs, such that a strip's input and one block's weights stay in a 1 MiB L2 cache.
constexpr int64_t kMostDepth = 2304;              // taps * input channels of a chunk
constexpr int64_t kStripBytes = 256 << 10;        // of input in scratch
constexpr int64_t kStripPixels = 512;             // outputs of a strip
constexpr int64_t kStripColumns = 8 * kTileRows;  // of these in a row
constexpr int64_t kTasks = 32;                    // wanted, so that any usual number of threads is busy

// How the packed weights are laid out: [group][block of kBlock output channels][chunk][tap][input channel][block], the last
// block rounded up to whole vectors.
template <class T>
struct Packing {
  int64_t taps, in_channels, out_channels;
  Split chunks;
  explicit Packing(const Correlation& c)
      : taps(int64_t(c.h.taps.size() * c.w.taps.size())), in_channels(c.in_channels), out_channels(c.out_channels),
        chunks(in_channels, kMostDepth / std::max<int64_t>(1, taps)) {}
  int64_t blocks() const { return divide_up(out_channels, kBlock<T>); }
  int64_t block_channels(int64_t block) const { return std::min<int64_t>(kBlock<T>, out_channels - block * kBlock<T>); }
  int64_t block_width(int64_t block) const { return divide_up(block_channels(block), kLanes<T>) * kLanes<T>; }
  int64_t group_size() const { return taps * in_channels * divide_up(out_channels, kLanes<T>) * kLanes<T>; }
  int64_t offset(int64_t group, int64_t block, int64_t chunk) const {
    return group * group_size() + taps * (block * kBlock<T> * in_channels + chunks.begin(chunk) * block_width(block));
  }
};

// to[column][row] = from[row][column] for `columns` contiguous values of `rows` rows; rows up to `width` become zeros.
template <class T>
void pack_transposed(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t width) {
  constexpr int kWidth = kLanes<T>;
  for (int64_t row = 0; row < width; row += kWidth) {
    int64_t column = 0;
    for (; column + kWidth <= columns; column += kWidth) {
      Vector<T> square[kWidth];
      for (int i = 0; i < kWidth; ++i) square[i] = row + i < rows ? load(from + (row + i) * from_row + column) : Vector<T>{};
      transpose<T>(square);
      for (int i = 0; i < kWidth; ++i) store(to + (column + i) * width + row, square[i]);
    }
    for (; column < columns; ++column) {
      for (int i = 0; i < kWidth; ++i) to[column * width + row + i] = row + i < rows ? from[(row + i) * from_row + column] : T(0);
    }
  }
}

// weight [O,kh,kw,I/groups] for the forward correlation: output channels are O.
template <class T>
void pack_forward(const Correlation& c, const Packing<T>& packing, const Tensor& weight, T* packed) {
  const int64_t blocks = packing.blocks(), chunks = packing.chunks.parts, channels = c.in_channels;
  const int64_t filter = packing.taps * channels;  // elements of one output channel
  const T* from = weight.data<T>();
  parallel_for(c.groups * blocks * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t chunk = task % chunks, block = task / chunks % blocks, group = task / chunks / blocks;
      const T* filters = from + (group * c.out_channels + block * kBlock<T>) * filter + packing.chunks.begin(chunk);
      const int64_t size = packing.chunks.size(chunk), width = packing.block_width(block), rows = packing.block_channels(block);
      T* to = packed + packing.offset(group, block, chunk);
      if (chunks == 1) {
        pack_transposed(filters, filter, rows, filter, to, width);
        continue;
      }
      for (int64_t tap = 0; tap < packing.taps; ++tap) {
        pack_transposed(filters + tap * channels, filter, rows, size, to + tap * size * width, width);
      }
    }
  });
}

// The same weight for backward input: output channels are I/groups, input channels O/groups, taps the phase's.
template <class T>
void pack_backward(const Correlation& c, const Packing<T>& packing, const Tensor& weight, T* packed) {
  const int64_t blocks = packing.blocks(), chunks = packing.chunks.parts;
  const int64_t kernel_w = weight.size(2), filter = weight.size(1) * kernel_w * c.out_channels;
  const T* from = weight.data<T>();
  parallel_for(c.groups * blocks * chunks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t chunk = task % chunks, block = task / chunks % blocks, group = task / chunks / blocks;
      const int64_t width = packing.block_width(block), valid = packing.block_channels(block);
      T* to = packed + packing.offset(group, block, chunk);
      for (int64_t r : c.h.filter) {
        for (int64_t s : c.w.filter) {
          const int64_t first = group * c.in_channels + packing.chunks.begin(chunk);
          for (int64_t k = first; k < first + packing.chunks.size(chunk); ++k, to += width) {
            const T* row = from + k * filter + (r * kernel_w + s) * c.out_channels + block * kBlock<T>;
            for (int64_t i = 0; i < width; i += kLanes<T>) store(to + i, load_first(row + i, std::min<int64_t>(kLanes<T>, valid - i)));
          }
        }
      }
    }
  });
}

// The cut of a correlation into tasks: strips of images, rows and columns, and shares of the output blocks.
struct Plan {
  Split images, rows, cols, blocks;
  int64_t strips() const { return images.parts * rows.parts * cols.parts; }
};

template <class T>
Plan make_plan(const Correlation& c, const Packing<T>& packing) {
  const int64_t pixel_bytes = (packing.chunks.largest() + 64 / int64_t(sizeof(T))) * int64_t(sizeof(T));
  const Split cols(c.w.out, kStripColumns);
  const int64_t row_bytes = c.w.positions(cols.largest()) * pixel_bytes;
  int64_t most_rows = std::max<int64_t>(1, kStripPixels / std::max<int64_t>(1, cols.largest()));
  while (most_rows > 1 && c.h.positions(most_rows) * row_bytes > kStripBytes) --most_rows;
  const Split rows(c.h.out, most_rows);
  int64_t most_images = 1;
  if (rows.parts == 1 && cols.parts == 1) {
    const int64_t image_bytes = std::max<int64_t>(1, c.h.positions(c.h.out) * row_bytes);
    most_images = std::max<int64_t>(1, std::min(kStripPixels / 2 / (c.h.out * c.w.out), kStripBytes / image_bytes));
  }
  const Split images(c.images, most_images);
  const int64_t strips = images.parts * rows.parts * cols.parts * c.groups;
  // More tasks by sharing out the blocks, as long as each is worth the start of a task and the copy of its strip.
  const int64_t blocks = packing.blocks();
  const double flops = 2.0 * double(images.largest() * rows.largest() * cols.largest()) * double(packing.taps * c.in_channels) *
                       double(c.out_channels);
  const int64_t shares = std::clamp<int64_t>(divide_up(kTasks, std::max<int64_t>(1, strips)), 1, std::max<int64_t>(1, int64_t(flops / 2e6)));
  return {images, rows, cols, Split(blocks, divide_up(blocks, std::min(blocks, shares)))};
}

// What a task needs to know of one chunk of input channels of its strip.
template <class T>
struct StripInput {
  const T* x;
  int64_t image, row, pixel;  // elements between neighbouring outputs' inputs
  int64_t depth;              // contiguous elements per tap
  std::vector<Tap> taps;      // `weight` in input channels: times the block's width gives elements
};

template <class T>
StripInput<T> read_strip(const Correlation& c, const T* x, const Window& rows, const Window& cols, int64_t first_image,
                         int64_t images, int64_t first_channel, int64_t channels, bool direct) {
  StripInput<T> in;
  const int64_t x_pixel = c.in_channels * c.groups, x_row = c.w.in * x_pixel, x_image = c.h.in * x_row;
  const int64_t taps_w = int64_t(c.w.taps.size());
  x += first_image * x_image + first_channel;
  int64_t pixel = x_pixel, row = x_row;
  in.image = x_image;
  in.x = x;
  if (!direct) {
    pixel = scratch_pixel<T>(channels);
    row = int64_t(cols.source.size()) * pixel;
    in.image = int64_t(rows.source.size()) * row;
    T* scratch = static_cast<T*>(thread_scratch(size_t(images * in.image) * sizeof(T)));
    for (int64_t n = 0; n < images; ++n) {
      copy_window(x + n * x_image, c.w.in, x_pixel, channels, rows, cols, scratch + n * in.image, pixel);
    }
    in.x = scratch;
  }
  in.row = rows.step * row;
  in.pixel = cols.step * pixel;
  const bool merged = pixel == channels && cols.consecutive();  // a filter row's taps are one contiguous run
  in.depth = merged ? channels * int64_t(cols.tap.size()) : channels;
  for (size_t i = 0; i < rows.tap.size(); ++i) {
    for (size_t j = 0; j < (merged ? std::min<size_t>(1, cols.tap.size()) : cols.tap.size()); ++j) {
      in.taps.push_back({rows.base[i] * row + cols.base[j] * pixel, (rows.tap[i] * taps_w + cols.tap[j]) * channels});
    }
  }
  return in;
}

template <class T>
void run_block(const StripInput<T>& in, PixelTile<T> tile, const std::vector<Tap>& taps, int64_t channels, int64_t images,
               int64_t rows, const Split& pixels, const Correlation& c) {
  const bool narrow = channels <= kLanes<T>;
  const PixelTileTable<T>& table = narrow ? kPixelTiles<T, 1> : kPixelTiles<T, 2>;
  tile.last = narrow ? channels : channels - kLanes<T>;
  tile.taps = taps.data();
  tile.tap_count = int64_t(taps.size());
  T* const y = tile.y;
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t row = 0; row < rows; ++row) {
      for (int64_t part = 0; part < pixels.parts; ++part) {
        const int64_t q = pixels.begin(part);
        tile.x = in.x + n * in.image + row * in.row + q * in.pixel;
        tile.y = y + n * c.y_image + row * c.y_row + q * c.y_pixel;
        table[size_t(pixels.size(part) - 1)](tile);
      }
    }
  }
}

template <class T>
void correlate(const Correlation& c, const Packing<T>& packing, const T* x, const T* packed, const T* bias, T* y) {
  const Plan plan = make_plan(c, packing);
  const bool direct = c.h.never_outside() && c.w.never_outside();
  const int64_t shares = plan.blocks.parts;
  parallel_for(plan.strips() * c.groups * shares, 1, [&](int64_t begin, int64_t end) {
    std::vector<Tap> taps;
    for (int64_t task = begin; task < end; ++task) {
      int64_t rest = task;
      auto take = [&rest](int64_t parts) { return std::exchange(rest, rest / parts) % parts; };
      const int64_t share = take(shares), col = take(plan.cols.parts), row = take(plan.rows.parts);
      const int64_t image = take(plan.images.parts), group = rest;
      auto window = [direct](const Axis& axis, const Split& split, int64_t part) {
        return (direct ? direct_window : copied_window)(axis, split.begin(part), split.size(part));
      };
      const Window rows = window(c.h, plan.rows, row), cols = window(c.w, plan.cols, col);
      const int64_t first_image = plan.images.begin(image), images = plan.images.size(image);
      const Split pixels(cols.count, kTileRows);
      for (int64_t chunk = 0; chunk < packing.chunks.parts; ++chunk) {
        const int64_t channels = packing.chunks.size(chunk);
        const StripInput<T> in = read_strip(c, x, rows, cols, first_image, images,
                                            group * c.in_channels + packing.chunks.begin(chunk), channels, direct);
        taps.resize(in.taps.size());
        for (int64_t block = plan.blocks.begin(share); block < plan.blocks.begin(share + 1); ++block) {
          const int64_t channel = group * c.out_channels + block * kBlock<T>;
          for (size_t i = 0; i < taps.size(); ++i) taps[i] = {in.taps[i].x, in.taps[i].weight * packing.block_width(block)};
          PixelTile<T> tile = {};
          tile.x_pixel = in.pixel;
          tile.depth = in.depth;
          tile.weight = packed + packing.offset(group, block, chunk);
          tile.bias = bias ? bias + channel : nullptr;
          tile.accumulate = chunk > 0;
          tile.y = y + first_image * c.y_image + rows.begin * c.y_row + cols.begin * c.y_pixel + channel;
          tile.y_pixel = c.y_pixel;
          run_block(in, tile, taps, packing.block_channels(block), images, rows.count, pixels, c);
        }
      }
    }
  });
}

}  // namespace

template <class T>
void direct_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options) {
  const Correlation c = forward_correlation(x.shape(), weight.shape(), y.shape(), options);
  const Packing<T> packing(c);
  Buffer<T> packed(c.groups * packing.group_size());
  pack_forward(c, packing, weight, packed.data());
  correlate(c, packing, x.data<T>(), packed.data(), bias.defined() ? bias.data<T>() : nullptr, y.data<T>());
}

template <class T>
void direct_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& o) {
  Correlation c = forward_correlation(grad_x.shape(), weight.shape(), grad_y.shape(), o);
  const int64_t channels = grad_x.size(3);
  const Axis h = c.h, w = c.w;  // of the forward convolution
  std::swap(c.in_channels, c.out_channels);
  c.y_pixel = channels * o.stride_w;
  c.y_row = w.in * channels * o.stride_h;
  c.y_image = h.in * w.in * channels;
  for (int64_t i = 0; i < std::min(o.stride_h, h.in); ++i) {
    for (int64_t j = 0; j < std::min(o.stride_w, w.in); ++j) {
      c.h = backward_axis(h.in, h.out, weight.size(1), o.stride_h, o.dilation_h, o.pad_top, i);
      c.w = backward_axis(w.in, w.out, weight.size(2), o.stride_w, o.dilation_w, o.pad_left, j);
      const Packing<T> packing(c);
      Buffer<T> packed(c.groups * packing.group_size());
      pack_backward(c, packing, weight, packed.data());
      correlate<T>(c, packing, grad_y.data<T>(), packed.data(), nullptr, grad_x.data<T>() + (i * w.in + j) * channels);
    }
  }
}

template void direct_forward<float>(const Tensor&, const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_forward<double>(const Tensor&, const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_backward_input<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_backward_input<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
