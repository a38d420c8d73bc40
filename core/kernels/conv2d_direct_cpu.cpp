#include <algorithm>
#include <array>
#include <memory>
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
  const bool pointwise = weight[1] == 1 && weight[2] == 1 && o.stride_h == 1 && o.stride_w == 1 && y[1] == x[1] && y[2] == x[2];
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

// Chunks of input channels and strips of outputs, such that a strip's input and one block's weights stay in a 1 MiB L2
// cache.
constexpr int64_t kMostDepth = 2304;              // taps * input channels of a chunk
constexpr int64_t kStripBytes = 256 << 10;        // of input in scratch
constexpr int64_t kStripPixels = 512;             // outputs of a strip at most
constexpr int64_t kLeastColumns = 8 * kTileRows;  // of these in a row, or more, where they have but kRowBytes of input: pieces of 48 of
constexpr int64_t kMostColumns = 128;             // a stem's rows are so short that copying them makes it a quarter slower; of 512
constexpr int64_t kRowBytes = 64 << 10;           // channels, 128 pixels are too much for the cache (1x1 filters: a tenth slower)
static_assert(kLeastColumns <= kMostColumns && kMostColumns <= kStripPixels);
constexpr int64_t kCrowdedBytes = 4096;           // pixels so far apart all meet in one set of the first cache
constexpr int64_t kCopyUses = 12;                 // blocks that repay copying a strip of a stride, whose pixels lie in half of the caches' sets
constexpr int64_t kTasks = 32;                    // wanted, so that any usual number of threads is busy

// How the packed weights are laid out: [group][block of kBlock output channels][chunk][tap][input channel][block], the
// last block rounded up to whole vectors.
template <class T>
struct Packing : OutputBlocks<T> {
  int64_t taps, in_channels;
  Split chunks;
  explicit Packing(const Correlation& c)
      : OutputBlocks<T>{c.out_channels}, taps(int64_t(c.h.taps.size() * c.w.taps.size())), in_channels(c.in_channels),
        chunks(in_channels, kMostDepth / std::max<int64_t>(1, taps)) {}
  int64_t group_size() const { return taps * in_channels * this->padded_channels(); }
  int64_t offset(int64_t group, int64_t block, int64_t chunk) const {
    return group * group_size() + taps * (block * kBlock<T> * in_channels + chunks.begin(chunk) * this->block_width(block));
  }
};

// to[column][row] = from[row][column] for `columns` contiguous values of `rows` rows; rows up to `width` become zeros.
template <class T>
void pack_transposed(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to, int64_t width) {
  constexpr int kWidth = kVectorLanes<T>;
  for (int64_t row = 0; row < width; row += kWidth) {
    int64_t column = 0;
    for (; column + kWidth <= columns; column += kWidth) {
      Vector<T> square[kWidth];
      for (int i = 0; i < kWidth; ++i) {
        square[i] = row + i < rows ? load(from + (row + i) * from_row + column) : Vector<T>{};
      }
      transpose<T>(square);
      for (int i = 0; i < kWidth; ++i) store(to + (column + i) * width + row, square[i]);
    }
    for (; column < columns; ++column) {
      for (int i = 0; i < kWidth; ++i) {
        to[column * width + row + i] = row + i < rows ? from[(row + i) * from_row + column] : T(0);
      }
    }
  }
}

// One block and chunk of weight [O,kh,kw,I/groups] for the forward correlation: output channels are O.
template <class T>
void pack_forward(const Correlation& c, const Packing<T>& packing, const Tensor& weight, int64_t group, int64_t block,
                  int64_t chunk, T* to) {
  const int64_t filter = packing.taps * c.in_channels;  // elements of one output channel
  const T* from = weight.data<T>() + (group * c.out_channels + block * kBlock<T>)*filter + packing.chunks.begin(chunk);
  const int64_t size = packing.chunks.size(chunk), width = packing.block_width(block),
                rows = packing.block_channels(block);
  if (packing.chunks.parts == 1) return pack_transposed(from, filter, rows, filter, to, width);
  for (int64_t tap = 0; tap < packing.taps; ++tap) {
    pack_transposed(from + tap * c.in_channels, filter, rows, size, to + tap * size * width, width);
  }
}

// The same for backward input: output channels are I/groups, input channels O/groups, taps the phase's.
template <class T>
void pack_backward(const Correlation& c, const Packing<T>& packing, const Tensor& weight, int64_t group, int64_t block,
                   int64_t chunk, T* to) {
  const int64_t kernel_w = weight.size(2), filter = weight.size(1) * kernel_w * c.out_channels;
  const int64_t width = packing.block_width(block), valid = packing.block_channels(block);
  const int64_t first = group * c.in_channels + packing.chunks.begin(chunk);
  for (int64_t r : c.h.filter) {
    for (int64_t s : c.w.filter) {
      const T* from = weight.data<T>() + (r * kernel_w + s) * c.out_channels + block * kBlock<T>;
      for (int64_t k = first; k < first + packing.chunks.size(chunk); ++k, to += width) {
        for (int64_t i = 0; i < width; i += kVectorLanes<T>) {
          store(to + i, load_first(from + k * filter + i, std::min<int64_t>(kVectorLanes<T>, valid - i)));
        }
      }
    }
  }
}

// The cut of a correlation into tasks: strips of images, rows and columns, and shares of the output blocks.
struct Plan {
  Split images;
  Cut rows, cols;
  Split blocks;
  int64_t strips() const { return images.parts * rows.parts() * cols.parts(); }
};

template <class T>
Plan make_plan(const Correlation& c, const Packing<T>& packing) {
  const int64_t pixel_bytes = (packing.chunks.largest() + 64 / int64_t(sizeof(T))) * int64_t(sizeof(T));
  const Cut cols(c.w, std::clamp(kRowBytes / pixel_bytes, kLeastColumns, kMostColumns));
  const int64_t row_bytes = cols.positions(c.w, c.w.out) * pixel_bytes;
  int64_t most_rows = std::max<int64_t>(1, kStripPixels / std::max<int64_t>(1, cols.largest()));
  const Cut least_cut(c.h, c.h.out);
  while (most_rows > 1 && least_cut.positions(c.h, most_rows) * row_bytes > kStripBytes) --most_rows;
  const Cut rows(c.h, most_rows);
  int64_t most_images = 1;
  if (rows.parts() == 1 && cols.parts() == 1) {
    const int64_t image_bytes = std::max<int64_t>(1, c.h.positions(c.h.out) * row_bytes);
    most_images = std::max<int64_t>(1, std::min(kStripPixels / 2 / (c.h.out * c.w.out), kStripBytes / image_bytes));
  }
  const Split images(c.images, most_images);
  const int64_t strips = images.parts * rows.parts() * cols.parts() * c.groups;
  // More tasks by sharing out the blocks, as long as each is worth the start of a task and the copy of its strip.
  const int64_t blocks = packing.blocks();
  const double flops = 2.0 * double(images.largest() * rows.largest() * cols.largest()) *
                       double(packing.taps * c.in_channels) * double(c.out_channels);
  const int64_t shares = std::clamp<int64_t>(divide_up(kTasks, std::max<int64_t>(1, strips)), 1,
                                             std::max<int64_t>(1, int64_t(flops / 2e6)));
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

// The outputs of a strip.
struct StripPixels {
  int64_t images, rows, cols;
  bool across_rows;                            // tiles take pixels from several rows; only then there is
  std::array<int64_t, kStripPixels> x_at, y_at;  // where each is, as elements from the strip's first one
};

template <class T>
void list_pixels(const Correlation& c, const StripInput<T>& in, StripPixels& pixels) {
  int64_t *x_at = pixels.x_at.data(), *y_at = pixels.y_at.data();
  for (int64_t n = 0; n < pixels.images; ++n) {
    for (int64_t row = 0; row < pixels.rows; ++row) {
      for (int64_t q = 0; q < pixels.cols; ++q) {
        *x_at++ = n * in.image + row * in.row + q * in.pixel;
        *y_at++ = n * c.y_image + row * c.y_row + q * c.y_pixel;
      }
    }
  }
}

// All tiles of a strip for one block of output channels. `finish`: null while more chunks follow.
template <class T>
void run_block(const Correlation& c, const StripInput<T>& in, const StripPixels& pixels, PixelTiles<T> tile, int64_t channels, bool ahead,
               const Finish<T>* finish, int64_t out_channel) {
  const bool narrow = channels <= kVectorLanes<T>;
  tile.last = narrow ? channels : channels - kVectorLanes<T>;
  T* const y = tile.y;
  if constexpr (kTilesAcrossRows) {
    if (pixels.across_rows) {
      const PixelTileTable<T>& table = narrow ? kPixelTiles<T, 1, true> : kPixelTiles<T, 2, true>;
      const Split tiles(pixels.images * pixels.rows * pixels.cols, kTileRows);
      int64_t finished = 0;
      tile.tiles = 1;
      for (int64_t part = 0; part < tiles.parts; ++part) {
        const int64_t begin = tiles.begin(part), count = tiles.size(part);
        tile.x_at = pixels.x_at.data() + begin;
        tile.y_at = pixels.y_at.data() + begin;
        if (ahead) {
          tile.ahead = in.x + tile.x_at[count - 1] + in.pixel;
          tile.ahead_step = count;
        }
        table[size_t(count - 1)](tile);
        for (; finish && finished + pixels.cols <= begin + count; finished += pixels.cols) {
          finish->apply(y + pixels.y_at[size_t(finished)], 0, 1, c.y_pixel, pixels.cols, out_channel, channels);
        }
      }
      return;
    }
  }
  for (int64_t n = 0; n < pixels.images; ++n) {
    for (int64_t row = 0; row < pixels.rows; ++row) {
      tile.x = in.x + n * in.image + row * in.row;
      tile.y = y + n * c.y_image + row * c.y_row;
      run_pixels(narrow ? kPixelTiles<T, 1> : kPixelTiles<T, 2>, tile, pixels.cols, ahead);
      if (finish) finish->apply(tile.y, 0, 1, c.y_pixel, pixels.cols, out_channel, channels);
    }
  }
}

// One correlation with everything it needs. Backward input with a stride has several, one per phase.
template <class T>
struct Job {
  Correlation c;
  Packing<T> packing;
  Plan plan;
  bool direct;  // the input is read in place
  int64_t packed_at;  // where its weights begin in the packed ones of all jobs
  T* y;
  Job(const Correlation& correlation, T* output)
      : c(correlation), packing(c), plan(make_plan(c, packing)),
        direct(c.h.never_outside() && c.w.never_outside() && c.groups * c.in_channels * int64_t(sizeof(T)) % kCrowdedBytes != 0 &&
               (c.w.step == 1 || plan.blocks.largest() < kCopyUses)),
        packed_at(0), y(output) {}
  int64_t packing_tasks() const { return c.groups * packing.blocks() * packing.chunks.parts; }
  int64_t tasks() const { return plan.strips() * c.groups * plan.blocks.parts; }
};

// Takes the digits of a task's number.
struct Digits {
  int64_t rest;
  int64_t take(int64_t base) { return std::exchange(rest, rest / base) % base; }
};

template <class T>
void run_task(const Job<T>& job, const T* x, const T* packed, const T* bias, const Finish<T>& finish, int64_t task) {
  const Correlation& c = job.c;
  const Plan& plan = job.plan;
  Digits digits{task};
  // Groups one after the other on the same strip: narrow ones use parts of the same cache lines.
  const int64_t share = digits.take(plan.blocks.parts), group = digits.take(c.groups), col = digits.take(plan.cols.parts()),
                row = digits.take(plan.rows.parts()), image = digits.rest;
  auto window = [&job](const Axis& axis, const Cut& cut, int64_t part) {
    return (job.direct ? direct_window : copied_window)(axis, cut.begin(part), cut.size(part));
  };
  const Window rows = window(c.h, plan.rows, row), cols = window(c.w, plan.cols, col);
  const int64_t first_image = plan.images.begin(image), images = plan.images.size(image);
  const int64_t first_block = plan.blocks.begin(share);
  std::vector<Tap> taps;
  StripPixels pixels;
  pixels.images = images;
  pixels.rows = rows.count;
  pixels.cols = cols.count;
  // A pointer for each pixel makes a tile of few products some percent slower: where it saves an eighth of the tiles.
  pixels.across_rows = kTilesAcrossRows && 8 * divide_up(images * rows.count * cols.count, kTileRows) <=
                                               7 * images * rows.count * divide_up(cols.count, kTileRows);
  for (int64_t chunk = 0; chunk < job.packing.chunks.parts; ++chunk) {
    const int64_t channel = group * c.in_channels + job.packing.chunks.begin(chunk);
    const StripInput<T> in =
        read_strip(c, x, rows, cols, first_image, images, channel, job.packing.chunks.size(chunk), job.direct);
    if (pixels.across_rows) list_pixels(c, in, pixels);
    taps.resize(in.taps.size());
    for (int64_t block = first_block; block < plan.blocks.begin(share + 1); ++block) {
      const int64_t out_channel = group * c.out_channels + block * kBlock<T>;
      for (size_t i = 0; i < taps.size(); ++i) {
        taps[i] = {in.taps[i].x, in.taps[i].weight * job.packing.block_width(block)};
      }
      PixelTiles<T> tile = {};
      tile.x = in.x;
      tile.x_pixel = in.pixel;
      tile.y = job.y + first_image * c.y_image + rows.begin * c.y_row + cols.begin * c.y_pixel + out_channel;
      tile.y_pixel = c.y_pixel;
      tile.depth = in.depth;
      tile.taps = taps.data();
      tile.tap_count = int64_t(taps.size());
      tile.weight = tile.ahead = packed + job.packing.offset(group, block, chunk);
      tile.bias = bias ? bias + out_channel : nullptr;
      tile.accumulate = chunk > 0;
      run_block(c, in, pixels, tile, job.packing.block_channels(block), job.direct && block == first_block,
                finish && chunk + 1 == job.packing.chunks.parts ? &finish : nullptr, out_channel);
    }
  }
}

// fn(job, index) for the indices of all jobs, count(job) each, in one parallel loop.
template <class T, class Count, class Fn>
void for_all(std::vector<Job<T>>& jobs, const Count& count, const Fn& fn) {
  std::vector<int64_t> ends;
  for (const Job<T>& job : jobs) ends.push_back((ends.empty() ? 0 : ends.back()) + count(job));
  parallel_for(ends.empty() ? 0 : ends.back(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t j = size_t(std::upper_bound(ends.begin(), ends.end(), i) - ends.begin());
      fn(jobs[j], j == 0 ? i : i - ends[j - 1]);
    }
  });
}

// Packs the weights with `pack`, then runs all jobs.
template <class T, class Pack>
void run_jobs(std::vector<Job<T>>& jobs, const T* x, const Tensor& weight, const T* bias, const Finish<T>& finish, WeightCache* cache,
              const Pack& pack) {
  int64_t size = 0;
  for (Job<T>& job : jobs) size = (job.packed_at = size) + job.c.groups * job.packing.group_size();
  const auto make = [&] {
    auto all = std::make_unique<Buffer<T>>(size);
    for_all(
        jobs, [](const Job<T>& job) { return job.packing_tasks(); },
        [&](const Job<T>& job, int64_t task) {
          Digits digits{task};
          const int64_t chunk = digits.take(job.packing.chunks.parts), block = digits.take(job.packing.blocks()),
                        group = digits.rest;
          pack(job.c, job.packing, weight, group, block, chunk, all->data() + job.packed_at + job.packing.offset(group, block, chunk));
        });
    return all;
  };
  const int64_t key = jobs.empty() ? 0 : -16 - jobs[0].c.groups;  // Winograd's are above -16
  const auto packed = WeightCache::get<Buffer<T>>(cache, weight, key, make);
  for_all(
      jobs, [](const Job<T>& job) { return job.tasks(); },
      [&](const Job<T>& job, int64_t task) { run_task(job, x, packed->data() + job.packed_at, bias, finish, task); });
}

}  // namespace

template <class T>
void direct_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish, WeightCache* cache, Tensor& y,
                    const Conv2dOptions& options) {
  std::vector<Job<T>> jobs;
  jobs.emplace_back(forward_correlation(x.shape(), weight.shape(), y.shape(), options), y.data<T>());
  run_jobs(jobs, x.data<T>(), weight, bias.defined() ? bias.data<T>() : nullptr, finish, cache, pack_forward<T>);
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
  const Phases rows = backward_phases(h, o.dilation_h, o.pad_top), cols = backward_phases(w, o.dilation_w, o.pad_left);
  if (rows.gaps || cols.gaps) grad_x.fill_(0);
  std::vector<Job<T>> jobs;
  for (const auto& [first_row, row_axis] : rows.axes) {
    for (const auto& [first_col, col_axis] : cols.axes) {
      c.h = row_axis;
      c.w = col_axis;
      jobs.emplace_back(c, grad_x.data<T>() + (first_row * w.in + first_col) * channels);
    }
  }
  run_jobs<T>(jobs, grad_y.data<T>(), weight, nullptr, {}, nullptr, pack_backward<T>);
}

template void direct_forward<float>(const Tensor&, const Tensor&, const Tensor&, const Finish<float>&, WeightCache*, Tensor&,
                                    const Conv2dOptions&);
template void direct_forward<double>(const Tensor&, const Tensor&, const Tensor&, const Finish<double>&, WeightCache*, Tensor&,
                                     const Conv2dOptions&);
template void direct_backward_input<float>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
template void direct_backward_input<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);

}  // namespace eq::cpu::conv
