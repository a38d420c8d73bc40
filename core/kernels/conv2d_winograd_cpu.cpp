#include "core/kernels/conv2d_winograd.h"

#include <algorithm>
#include <memory>

#include "core/errors.h"
#include "core/kernels/conv2d_tile.h"
#include "core/parallel.h"

namespace eq::cpu::conv {

WinogradAxis::WinogradAxis(int64_t in_size, int64_t out_size, int64_t steps, int64_t offset, int64_t tile)
    : in(in_size), out(out_size), step(steps) {
  for (int64_t phase = 0; phase < std::min(step, out); ++phase) {
    for (int64_t begin = phase; begin < out; begin += tile * step) {
      tiles.push_back({begin, std::min(tile, divide_up(out - begin, step)), begin + offset});
    }
  }
}

WinogradShape winograd_forward_shape(const Shape& x, const Shape& y, const Conv2dOptions& o, int64_t tile) {
  return {x[0], x[3], y[3], WinogradAxis(x[1], y[1], o.dilation_h, -o.pad_top, tile),
          WinogradAxis(x[2], y[2], o.dilation_w, -o.pad_left, tile)};
}

// grad_x[h] = sum_r grad_y[h + pad - r d] w[r]: with the filter flipped, the first input read is that of r = 2.
WinogradShape winograd_backward_shape(const Shape& grad_y, const Shape& grad_x, const Conv2dOptions& o, int64_t tile) {
  return {grad_y[0], grad_y[3], grad_x[3], WinogradAxis(grad_y[1], grad_x[1], o.dilation_h, o.pad_top - 2 * o.dilation_h, tile),
          WinogradAxis(grad_y[2], grad_x[2], o.dilation_w, o.pad_left - 2 * o.dilation_w, tile)};
}

namespace {

constexpr int64_t kScratchBytes = 768 << 10;            // of a task: transformed inputs and sums
constexpr int64_t kCacheBytes = 1 << 20;                // they and the filters that meet them, if possible
constexpr int64_t kTasks = 32;                          // wanted, so that any usual number of threads is busy

// How a convolution is cut. Transformed filters lie as [block of kBlock output channels][chunk][frequency][input
// channel][block], the last block rounded up to whole vectors. A task has some tiles and a share of the blocks.
template <class T, int kM>
struct Plan : OutputBlocks<T> {
  static constexpr int kFrequencies = Winograd<kM>::kIn * Winograd<kM>::kIn;
  WinogradShape shape;
  Split tiles, chunks, shares;  // chunks of input channels in vectors, shares of blocks

  explicit Plan(const WinogradShape& s)
      : OutputBlocks<T>{s.out_channels}, shape(s), tiles(s.tiles(), task_tiles(s)), chunks(0, 1), shares(0, 1) {
    const int64_t vectors = divide_up(s.in_channels, kVectorLanes<T>), blocks = this->blocks();
    const int64_t vector_bytes = kFrequencies * tiles.largest() * int64_t(kRegisterBytes);
    const int64_t most = std::max<int64_t>(1, kScratchBytes / std::max<int64_t>(1, vector_bytes));  // of vectors in scratch
    int64_t share = divide_up(blocks, std::min(blocks, divide_up(kTasks, std::max<int64_t>(1, tiles.parts))));
    if (vectors + kTileVectors <= most) {
      chunks = Split(vectors, vectors);
    } else {  // the sums of all blocks of the share stay in scratch while the chunks follow one another
      share = std::min(share, std::max<int64_t>(1, most * 2 / 3 / kTileVectors));
      chunks = Split(vectors, std::max<int64_t>(1, most - share * kTileVectors));
    }
    shares = Split(blocks, share);
  }
  // Tiles of a task, whole register tiles: 28, or half of them where only these stay in the cache while the filters of a
  // block of output channels pass. (Where neither do, twice the tiles means that the filters pass half as often.)
  static int64_t task_tiles(const WinogradShape& s) {
    constexpr int64_t kMost = 28 / kTileRows * kTileRows;
    const auto fit = [&](int64_t tiles) {
      const int64_t block = std::min<int64_t>(kBlock<T>, s.out_channels);
      return kFrequencies * (tiles * (s.in_channels + block) + s.in_channels * block) * int64_t(sizeof(T)) <= kCacheBytes;
    };
    return !fit(kMost) && fit(kMost / 2) ? kMost / 2 : kMost;
  }
  int64_t chunk_begin(int64_t chunk) const { return chunks.begin(chunk) * kVectorLanes<T>; }
  int64_t chunk_size(int64_t chunk) const { return std::min(chunk_begin(chunk + 1), shape.in_channels) - chunk_begin(chunk); }
  int64_t vector_size(int64_t vector) const {
    return std::min<int64_t>(kVectorLanes<T>, shape.in_channels - vector * kVectorLanes<T>);
  }
  // Of transformed filters in a WeightCache: the same key, the same layout. (-kM: those of run_deep; below -16: not Winograd's.)
  int64_t key() const { return chunks.parts * 8 + kM; }
  int64_t filters() const { return kFrequencies * shape.in_channels * this->padded_channels(); }
  int64_t offset(int64_t block, int64_t channel) const {
    return kFrequencies * (block * kBlock<T> * shape.in_channels + channel * this->block_width(block));
  }
};

// The 3x3 filters of `count` input channels and one vector of output channels: taps[tap][channel]. Forward: weight
// [O,3,3,I] has them across, a square of vectors is transposed; backward: they lie along I, and the filter is flipped.
template <class T>
void read_filters(const Tensor& weight, bool backward, int64_t channel, int64_t count, int64_t out_channel, int64_t valid,
                  Vector<T> (*taps)[kVectorLanes<T>]) {
  const int64_t in = weight.size(3);
  for (int tap = 0; tap < 9; ++tap) {
    if (backward) {
      const T* from = weight.data<T>() + (channel * 9 + 8 - tap) * in + out_channel;
      for (int64_t c = 0; c < count; ++c) taps[tap][c] = load_first(from + c * 9 * in, valid);
    } else {
      const T* from = weight.data<T>() + (out_channel * 9 + tap) * in + channel;
      for (int64_t k = 0; k < kVectorLanes<T>; ++k) taps[tap][k] = k < valid ? load_first(from + k * 9 * in, count) : Vector<T>{};
      transpose<T>(taps[tap]);
    }
  }
}

// G w G^T of one block and one vector of input channels, to to[frequency * plane + channel * block_width + out channel].
template <class T, int kM>
void transform_filters(const Plan<T, kM>& plan, const Tensor& weight, bool backward, int64_t block, int64_t vector, T* to,
                       int64_t plane) {
  constexpr int kIn = Winograd<kM>::kIn;
  const int64_t width = plan.block_width(block), channel = vector * kVectorLanes<T>, count = plan.vector_size(vector);
  for (int64_t v = 0; v < width; v += kVectorLanes<T>) {
    Vector<T> taps[9][kVectorLanes<T>];
    read_filters<T>(weight, backward, channel, count, block * kBlock<T> + v,
                    std::min<int64_t>(kVectorLanes<T>, plan.block_channels(block) - v), taps);
    for (int64_t c = 0; c < count; ++c) {
      transform_square<3, kIn, T>(
          [&](int j, Vector<T>* column) {
#pragma GCC unroll 3
            for (int i = 0; i < 3; ++i) column[i] = taps[i * 3 + j][c];
          },
          [](const Vector<T>* w, Vector<T>* u) { Winograd<kM>::filter(w, u); }, WriteRows<T, kIn>{to + c * width + v, kIn * plane, plane});
    }
  }
}

// y = finish(A^T m A + bias) of `count` tiles and one block.
template <class T, int kM>
void transform_output(const Plan<T, kM>& plan, const T* m, int64_t plane, int64_t tile, int64_t count, int64_t block,
                      const T* bias, const Finish<T>& finish, T* y) {
  constexpr int kIn = Winograd<kM>::kIn;
  const int64_t width = plan.block_width(block);
  WinogradShape::Place place = plan.shape.at(tile);
  for (int64_t t = 0; t < count; ++t, place.next(), m += width) {
    const WinogradTile &rows = place.rows(), &cols = place.cols();
    T* const to = y + plan.shape.y_offset(place) + block * kBlock<T>;
    const int64_t y_row = plan.shape.y_row(), y_pixel = plan.shape.y_pixel();
    const bool whole = rows.count == kM && cols.count == kM;
    for (int64_t v = 0; v < width; v += kVectorLanes<T>) {
      const int64_t valid = std::min<int64_t>(kVectorLanes<T>, plan.block_channels(block) - v);
      const Vector<T> start = bias ? load_first(bias + block * kBlock<T> + v, valid) : Vector<T>{};
      const ReadColumns<T, kIn> read = {m + v, kIn * plane, plane};
      const auto transform = [](const Vector<T>* from, Vector<T>* result) { Winograd<kM>::output(from, result); };
      T* line = to + v;
      if (whole && valid == kVectorLanes<T>) {
        transform_square<kIn, kM, T>(read, transform, [&](int, const Vector<T>* row) {
#pragma GCC unroll 4
          for (int j = 0; j < kM; ++j) store(line + j * y_pixel, row[j] + start);
          line = forget(line + y_row);
        });
      } else {
        transform_square<kIn, kM, T>(read, transform, [&](int i, const Vector<T>* row) {
          for (int j = 0; j < kM; ++j) {
            if (i < rows.count && j < cols.count) store_first(line + j * y_pixel, row[j] + start, valid);
          }
          line = forget(line + y_row);
        });
      }
    }
    if (finish) finish.apply(to, y_row, rows.count, y_pixel, cols.count, block * kBlock<T>, plan.block_channels(block));
  }
}

// For each frequency sums[tile][out channel] (+)= inputs[tile][channel] * filters[channel][out channel], for one block
// of `width` output channels and `depth` input channels.
template <class T>
void multiply(int64_t tiles, const T* inputs, int64_t input_plane, int64_t row, const T* filters, int64_t filter_plane,
              int64_t depth, int64_t width, bool accumulate, int frequencies, T* sums, int64_t plane) {
  const PixelTileTable<T>& table = width > kVectorLanes<T> ? kPixelTiles<T, 2> : kPixelTiles<T, 1>;
  const Tap tap = {0, 0};
  PixelTiles<T> job = {};
  job.x_pixel = row;
  job.y_pixel = width;
  job.taps = &tap;
  job.tap_count = 1;
  job.depth = depth;
  job.accumulate = accumulate;
  job.last = kVectorLanes<T>;
  job.ahead_step = kVectorLanes<T>;
  job.ahead_tile = depth * kVectorLanes<T>;
  for (int f = 0; f < frequencies; ++f) {
    job.x = inputs + f * input_plane;
    job.y = sums + f * plane;
    job.weight = filters + f * filter_plane;
    job.ahead = job.weight + filter_plane;  // the next frequency's filters, a part by each tile
    run_pixels(table, job, tiles);
  }
}

template <class T, int kM>
void run_task(const Plan<T, kM>& plan, const T* x, const T* filters, const T* zeros, const T* bias, const Finish<T>& finish, T* y,
              int64_t task) {
  constexpr int kFrequencies = Plan<T, kM>::kFrequencies;
  const int64_t part = task / plan.shares.parts, share = task % plan.shares.parts;
  const int64_t tile = plan.tiles.begin(part), count = plan.tiles.size(part);
  const int64_t row = scratch_pixel<T>(plan.chunks.largest() * kVectorLanes<T>);
  const int64_t input_plane = winograd_plane<T>(count * row), plane = winograd_plane<T>(count * kBlock<T>);
  const int64_t kept = plan.chunks.parts > 1 ? plan.shares.size(share) : 1;  // blocks whose sums are in scratch
  T* const inputs = static_cast<T*>(thread_scratch(size_t(kFrequencies * (input_plane + kept * plane)) * sizeof(T)));
  for (int64_t chunk = 0; chunk < plan.chunks.parts; ++chunk) {
    const int64_t channel = plan.chunk_begin(chunk), depth = plan.chunk_size(chunk);
    winograd_transform_input<T, kM>(plan.shape, x, zeros, tile, count, channel, depth, inputs, input_plane, row);
    for (int64_t block = plan.shares.begin(share); block < plan.shares.begin(share + 1); ++block) {
      T* const sums = inputs + kFrequencies * (input_plane + (kept > 1 ? (block - plan.shares.begin(share)) * plane : 0));
      const int64_t width = plan.block_width(block);
      multiply(count, inputs, input_plane, row, filters + plan.offset(block, channel), depth * width, depth, width, chunk > 0,
               kFrequencies, sums, plane);
      if (chunk + 1 == plan.chunks.parts) transform_output(plan, sums, plane, tile, count, block, bias, finish, y);
    }
  }
}

// All filters, transformed.
template <class T, int kM>
std::unique_ptr<Buffer<T>> all_filters(const Plan<T, kM>& plan, const Tensor& weight, bool backward) {
  constexpr int kFrequencies = Plan<T, kM>::kFrequencies;
  const int64_t vectors = plan.chunks.total;
  auto filters = std::make_unique<Buffer<T>>(plan.filters());
  parallel_for(plan.shares.total * vectors, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      // Squares are collected in scratch: storing each to the far planes of all frequencies costs several times more.
      const int64_t block = i / vectors, vector = i % vectors, run = plan.vector_size(vector) * plan.block_width(block);
      T* scratch = static_cast<T*>(thread_scratch(size_t(kFrequencies * run) * sizeof(T)));
      transform_filters(plan, weight, backward, block, vector, scratch, run);
      int64_t chunk = 0;
      while (plan.chunks.begin(chunk + 1) <= vector) ++chunk;
      const int64_t first = plan.chunk_begin(chunk), plane = plan.chunk_size(chunk) * plan.block_width(block);
      T* to = filters->data() + plan.offset(block, first) + (vector * kVectorLanes<T> - first) * plan.block_width(block);
      for (int f = 0; f < kFrequencies; ++f) std::copy(scratch + f * run, scratch + (f + 1) * run, to + f * plane);
    }
  });
  return filters;
}

// Many tiles: all filters are transformed first.
template <class T, int kM>
void run_wide(const Plan<T, kM>& plan, const T* x, const Tensor& weight, bool backward, const T* zeros, const T* bias,
              const Finish<T>& finish, WeightCache* cache, T* y) {
  const auto make = [&] { return all_filters(plan, weight, backward); };
  const auto filters = WeightCache::get<Buffer<T>>(cache, weight, plan.key(), make);
  parallel_for(plan.tiles.parts * plan.shares.parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) run_task(plan, x, filters->data(), zeros, bias, finish, y, task);
  });
}

// Few tiles and many filters, whose transforms would be larger than everything else: all inputs are transformed first,
// a task has all tiles and one block, and transforms its filters as it goes.
template <class T, int kM>
void run_deep(const Plan<T, kM>& plan, const T* x, const Tensor& weight, bool backward, const T* zeros, const T* bias,
              const Finish<T>& finish, WeightCache* cache, T* y) {
  constexpr int kFrequencies = Plan<T, kM>::kFrequencies;
  const int64_t tiles = plan.shape.tiles(), vectors = plan.chunks.total, chunks = divide_up(vectors, kTileVectors);
  const int64_t input_plane = winograd_plane<T>(tiles * kBlock<T>), input_chunk = kFrequencies * input_plane;
  Buffer<T> inputs(chunks * input_chunk);
  parallel_for(tiles * chunks, 4, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t tile = i / chunks, chunk = i % chunks, channel = chunk * kBlock<T>;
      winograd_transform_input<T, kM>(plan.shape, x, zeros, tile, 1, channel,
                                      std::min<int64_t>(kBlock<T>, plan.shape.in_channels - channel),
                                      inputs.data() + chunk * input_chunk + tile * kBlock<T>, input_plane, kBlock<T>);
    }
  });
  // Filters of one block and chunk, planes apart.
  const int64_t filter_plane = winograd_plane<T>(kBlock<T> * kBlock<T>);
  const auto transform_chunk = [&](int64_t block, int64_t chunk, T* to) {
    const int64_t width = plan.block_width(block);
    for (int64_t v = chunk * kTileVectors; v < std::min<int64_t>(vectors, (chunk + 1) * kTileVectors); ++v) {
      transform_filters(plan, weight, backward, block, v, to, filter_plane);
      to += plan.vector_size(v) * width;
    }
  };
  std::shared_ptr<const Buffer<T>> kept;
  if (cache) {
    try {
      kept = cache->get<Buffer<T>>(weight, -kM, [&] {
        auto all = std::make_unique<Buffer<T>>(plan.blocks() * chunks * kFrequencies * filter_plane);
        parallel_for(plan.blocks() * chunks, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) transform_chunk(i / chunks, i % chunks, all->data() + i * kFrequencies * filter_plane);
        });
        return all;
      });
    } catch (const OutOfMemoryError&) {  // then as without a cache
    }
  }
  parallel_for(plan.shares.total, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; ++block) {
      const int64_t width = plan.block_width(block), plane = winograd_plane<T>(tiles * width);
      T* const sums = static_cast<T*>(thread_scratch(size_t(kFrequencies * (plane + filter_plane)) * sizeof(T)));
      T* const scratch = sums + kFrequencies * plane;
      for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const T* filters = scratch;
        if (kept) {
          filters = kept->data() + (block * chunks + chunk) * kFrequencies * filter_plane;
        } else {
          transform_chunk(block, chunk, scratch);
        }
        const int64_t depth = std::min<int64_t>(kBlock<T>, plan.shape.in_channels - chunk * kBlock<T>);
        multiply(tiles, inputs.data() + chunk * input_chunk, input_plane, kBlock<T>, filters, filter_plane, depth, width,
                 chunk > 0, kFrequencies, sums, plane);
      }
      transform_output(plan, sums, plane, 0, tiles, block, bias, finish, y);
    }
  });
}

template <class T, int kM>
void run(const WinogradShape& shape, const T* x, const Tensor& weight, bool backward, const T* bias, const Finish<T>& finish,
         WeightCache* cache, T* y) {
  if (shape.tiles() == 0) return;
  const Plan<T, kM> plan(shape);
  Buffer<T> zeros(shape.in_channels);
  std::fill_n(zeros.data(), shape.in_channels, T(0));
  (shape.tiles() <= kDeepTiles ? run_deep<T, kM> : run_wide<T, kM>)(plan, x, weight, backward, zeros.data(), bias, finish, cache, y);
}

}  // namespace

template <class T, int kM>
void winograd_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, const Finish<T>& finish, WeightCache* cache,
                      Tensor& y, const Conv2dOptions& options) {
  run<T, kM>(winograd_forward_shape(x.shape(), y.shape(), options, kM), x.data<T>(), weight, false,
             bias.defined() ? bias.data<T>() : nullptr, finish, cache, y.data<T>());
}

template <class T, int kM>
void winograd_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  run<T, kM>(winograd_backward_shape(grad_y.shape(), grad_x.shape(), options, kM), grad_y.data<T>(), weight, true, nullptr,
             {}, nullptr, grad_x.data<T>());
}

#define EQ_INSTANTIATE(T, kM)                                                                                                 \
  template void winograd_forward<T, kM>(const Tensor&, const Tensor&, const Tensor&, const Finish<T>&, WeightCache*,          \
                                        Tensor&, const Conv2dOptions&);                                                                \
  template void winograd_backward_input<T, kM>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
EQ_INSTANTIATE(float, 2)
EQ_INSTANTIATE(float, 4)
EQ_INSTANTIATE(double, 2)
EQ_INSTANTIATE(double, 4)
#undef EQ_INSTANTIATE

}  // namespace eq::cpu::conv
