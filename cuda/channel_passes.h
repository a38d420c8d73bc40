#pragma once
// Passes over [samples, rows, channels] that treat each channel of each sample alone: the common body of batch norm (one
// sample) and group norm (one per image). A thread has one pack of neighbouring channels and walks down rows, so it loads
// what belongs to its channels once.
//
// Sums: a thread adds at most 64 rows in Wide<T>; from there on everything is double: over the block, then over the chunks
// of rows, which depend on the shapes alone (kernels "... sums" and "finish"). Moments are summed around the thread's first
// value and moved to the first value of the channel when they become double, so a mean far larger than the deviation costs
// no accuracy. Those of bfloat16 values become double later (MomentSum).

#include "cuda/tile.h"

namespace eq::cuda {

struct ChannelLayout {
  int64_t samples, rows, channels;
};

// How the blocks of a pass cover a layout: block = (sample * chunks + chunk) * columns + column.
struct ChannelGrid {
  int64_t samples, rows, channels;
  Tile tile;
  int64_t chunk_rows, chunks;

  unsigned blocks() const { return blocks_for(samples * chunks * tile.columns, 1); }
  int64_t parts() const { return samples * chunks * channels; }
};

// About `blocks` blocks in which a thread has between `least` and `most` rows.
inline ChannelGrid channel_grid(const ChannelLayout& layout, int width, int bytes, int64_t blocks, int64_t least,
                                int64_t most) {
  const Tile tile = tile_of(layout.channels / width, bytes, layout.rows);
  const int64_t steps = (layout.rows + tile.height - 1) / tile.height;
  const int64_t chunk_rows = std::clamp(steps * layout.samples * tile.columns / blocks, least, most) * tile.height;
  return {layout.samples, layout.rows, layout.channels, tile, chunk_rows, (layout.rows + chunk_rows - 1) / chunk_rows};
}
template <class T, int N>
ChannelGrid sums_grid(const ChannelLayout& layout) { return channel_grid(layout, N, N * sizeof(T), 512, 4, 64); }
template <class T, int N>
ChannelGrid apply_grid(const ChannelLayout& layout) { return channel_grid(layout, N, N * sizeof(T), 1024, 1, 8); }

// Channels of a thread in passes over gradients, which keep several coefficients and sums of each: with 8 of bfloat16 its
// registers would leave too few threads to hide the memory's latency.
template <class T>
constexpr int kNarrow = std::min(4, kPackWidth<T>);

// What a thread has: `count` rows from `at` on, `stride` elements apart, of the channels from `channel` on.
struct ChannelTask {
  int64_t sample, channel, at, stride;
  int64_t part;  // of its channels in the partial sums [samples, chunks, channels]
  int count, y;
  int rows;    // of all threads of the block
  bool first;  // it writes its channels' partial sums
};

__device__ inline ChannelTask task_of(const ChannelGrid& grid, int width) {
  const unsigned columns = unsigned(grid.tile.columns), lanes = unsigned(grid.tile.lanes), chunks = unsigned(grid.chunks);
  const unsigned column = blockIdx.x % columns, place = blockIdx.x / columns;
  const unsigned lane = threadIdx.x % lanes, y = threadIdx.x / lanes;
  const int64_t begin = int64_t(place % chunks) * grid.chunk_rows;
  ChannelTask task;
  task.rows = int(std::min(grid.chunk_rows, grid.rows - begin));
  task.sample = place / chunks;
  task.channel = int64_t(column * lanes + lane) * width;
  task.at = (task.sample * grid.rows + begin + y) * grid.channels + task.channel;
  task.stride = int64_t(grid.tile.height) * grid.channels;
  task.part = int64_t(place) * grid.channels + task.channel;
  task.y = int(y);
  const bool inside = task.channel < grid.channels && task.y < grid.tile.height;
  task.count = inside && task.y < task.rows ? (task.rows - task.y - 1) / grid.tile.height + 1 : 0;
  task.first = inside && y == 0;
  return task;
}

template <int N, class S>
__device__ inline void sum_block(const ChannelGrid& grid, const ChannelTask& task, S (&a)[N], S (&b)[N]) {
  sum_columns<N>(a, b, grid.tile.lanes, int(std::min<int64_t>(grid.tile.height, grid.rows)), task.y);
}
template <int N>
__device__ inline void store_parts(const ChannelGrid& grid, const ChannelTask& task, const double (&a)[N], const double (&b)[N],
                                   double* parts) {
  if (!task.first) return;
  double* second = parts + grid.samples * grid.chunks * grid.channels;
  for (int i = 0; i < N; ++i) parts[task.part + i] = a[i];
  for (int i = 0; i < N; ++i) second[task.part + i] = b[i];
}

// Blocks that a multiprocessor is to hold at once: what limits the registers of a thread, to 64 at 4.
template <class T>
constexpr int kBlocks = sizeof(T) == 8 ? 2 : 4;
template <class T>
constexpr int kGradientBlocks = sizeof(T) == 2 ? 4 : kBlocks<T> - 1;

// --- sums ---

// What a block adds moments up in. bfloat16: float32, around the block's first value, which spares every thread its conversions to double
// at the end, where no load is on its way. Differences of such values are mostly exact in float32, and so are their sums over a block. What
// is not moves the variance by a fraction of what the rounding of the values to bfloat16 has: by 3e-7 of itself where that has moved it by
// 3e-5, by 1e-5 where it is 7e-2 (a mean of a hundred deviations), by 4e-4 where it is 4e-3 (a value a thousand deviations away, first in a
// block). Around the channel's first value instead, all blocks would suffer from such a one.
template <class T>
using MomentSum = std::conditional_t<std::is_same_v<T, bfloat16>, float, double>;

// Sum of x - o and of (x - o)^2, where o is the channel's first value in the sample.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, kBlocks<T>) channel_moments_kernel(ChannelGrid grid, const T* x, double* parts) {
  using W = Wide<T>;
  constexpr bool kOfBlock = std::is_same_v<MomentSum<T>, float>;  // the origin: its first value, not each thread's
  const ChannelTask task = task_of(grid, N);
  W origin[N] = {}, sum[N] = {}, square[N] = {};
  double sums[N] = {}, squares[N] = {};
  const T* const first = x + task.sample * grid.rows * grid.channels + task.channel;
  const auto move = [&](double count, const Pack<T, N>& common) {  // from the origin to the channel's first value
    for (int i = 0; i < N; ++i) {
      const double away = double(origin[i]) - double(common[i]);
      sums[i] = double(sum[i]) + count * away;
      squares[i] = double(square[i]) + away * (2 * double(sum[i]) + count * away);
    }
  };
  if (task.count > 0) {
    const T* from = x + task.at;
    widen(load_pack<T, N>(from - (kOfBlock ? task.y * grid.channels : 0)), origin);
    const Pack<T, N> common = kOfBlock ? Pack<T, N>{} : load_pack<T, N>(first);
    EQ_UNROLL(4)
    for (int k = kOfBlock ? 0 : 1; k < task.count; ++k) {
      W value[N];
      widen(load_pack<T, N>(from + k * task.stride), value);
      for (int i = 0; i < N; ++i) {
        const W d = value[i] - origin[i];
        sum[i] += d;
        square[i] += d * d;
      }
    }
    if constexpr (!kOfBlock) move(task.count, common);
  }
  if constexpr (kOfBlock) {
    sum_block(grid, task, sum, square);
    if (task.first) move(task.rows, load_pack<T, N>(first));
  } else {
    sum_block(grid, task, sums, squares);
  }
  store_parts(grid, task, sums, squares, parts);
}

// v = (x - mean) * inv_std * gamma + beta, then max(v, 0) if relu (NaN stays NaN). mean and inv_std: [samples, groups], for
// `width` channels each; gamma, beta: [channels] or nullptr (1 and 0).
template <class W>
struct ChannelAffine {
  const W *mean, *inv_std, *gamma, *beta;
  int64_t groups;
  int width;
  bool relu;
  bool whole_packs;  // all of them begin on 16 bytes

  ChannelAffine(const W* mean, const W* inv_std, const W* gamma, const W* beta, int64_t groups, int width, bool relu)
      : mean(mean),
        inv_std(inv_std),
        gamma(gamma),
        beta(beta),
        groups(groups),
        width(width),
        relu(relu),
        whole_packs(on_16_bytes(mean, inv_std, gamma, beta) && groups % kPackWidth<W> == 0) {}

  // What a pack's channels have of `values`, [samples, groups].
  template <int N>
  __device__ void load(const W* values, int64_t sample, int64_t channel, W (&out)[N]) const {
    if (width == 1) return load_values<W, N>(values + sample * groups + channel, whole_packs, out);
    for (int i = 0; i < N; ++i) out[i] = values[sample * groups + int(channel + i) / width];
  }
};

template <class W, int N>
struct AffineOfPack {
  W mean[N], scale[N], shift[N];
  bool relu;

  __device__ AffineOfPack(const ChannelAffine<W>& affine, const ChannelTask& task) : shift{}, relu(affine.relu) {
    affine.template load<N>(affine.mean, task.sample, task.channel, mean);
    affine.template load<N>(affine.inv_std, task.sample, task.channel, scale);
    if (affine.gamma != nullptr) {
      W gamma[N];
      load_values<W, N>(affine.gamma + task.channel, affine.whole_packs, gamma);
      for (int i = 0; i < N; ++i) scale[i] *= gamma[i];
    }
    if (affine.beta != nullptr) load_values<W, N>(affine.beta + task.channel, affine.whole_packs, shift);
  }
  // Where the ReLU holds the value at zero; `centred` is x - mean.
  __device__ bool masks(W centred, int i) const { return relu && centred * scale[i] + shift[i] <= W(0); }
};

// Sum of g and of g * (x - mean), g masked by the affine map's ReLU. With `grad_x` given, g * scale goes there: the gradient
// where mean and scale are constants.
template <class T, int N>
__global__ void __launch_bounds__(kThreads, kGradientBlocks<T>)
    channel_gradient_sums_kernel(ChannelGrid grid, const T* __restrict__ g, const T* __restrict__ x,
                                 ChannelAffine<Wide<T>> affine, T* __restrict__ grad_x, double* parts) {
  using W = Wide<T>;
  const ChannelTask task = task_of(grid, N);
  double sums[N] = {}, products[N] = {};
  if (task.count > 0) {
    const AffineOfPack<W, N> map(affine, task);
    W sum[N] = {}, product[N] = {};
    EQ_UNROLL(4)
    for (int k = 0; k < task.count; ++k) {
      const int64_t at = task.at + k * task.stride;
      const Pack<T, N> gradient = load_pack<T, N>(g + at), value = load_pack<T, N>(x + at);
      Pack<T, N> out;
      for (int i = 0; i < N; ++i) {
        const W d = W(value[i]) - map.mean[i], own = map.masks(d, i) ? W(0) : W(gradient[i]);
        sum[i] += own;
        product[i] += own * d;
        out[i] = T(own * map.scale[i]);
      }
      if (grad_x != nullptr) store_pack(grad_x + at, out);
    }
    for (int i = 0; i < N; ++i) sums[i] = double(sum[i]), products[i] = double(product[i]);
  }
  sum_block(grid, task, sums, products);
  store_parts(grid, task, sums, products, parts);
}

// Adds the chunks' two sums, [2, samples, chunks, channels], and calls finish(sample, channel, first, second). Few channels
// per block, so that few channels still make many blocks; four doubles are a sector of memory.
constexpr int kFinishLanes = 4, kFinishHeight = kThreads / kFinishLanes;

template <class Finish>
__global__ void __launch_bounds__(kThreads)
    channel_finish_kernel(int64_t samples, int64_t chunks, int64_t channels, const double* parts, Finish finish) {
  const int lane = int(threadIdx.x) % kFinishLanes, y = int(threadIdx.x) / kFinishLanes;
  const unsigned strips = unsigned((channels + kFinishLanes - 1) / kFinishLanes);
  const int64_t sample = blockIdx.x / strips, channel = int64_t(blockIdx.x % strips) * kFinishLanes + lane;
  double first[1] = {}, second[1] = {};
  if (channel < channels) {
    EQ_UNROLL(4)
    for (int64_t k = y; k < chunks; k += kFinishHeight) {
      const double* part = parts + (sample * chunks + k) * channels + channel;
      first[0] += part[0];
      second[0] += part[samples * chunks * channels];
    }
  }
  sum_columns<1>(first, second, kFinishLanes, int(std::min<int64_t>(kFinishHeight, chunks)), y);
  if (y == 0 && channel < channels) finish(sample, channel, first[0], second[0]);
}

template <class Finish>
void channel_finish(Device device, int64_t samples, int64_t chunks, int64_t channels, const double* parts,
                    const Finish& finish) {
  const unsigned blocks = blocks_for(samples * ((channels + kFinishLanes - 1) / kFinishLanes), 1);
  launch(device, "channel sums: finish", Grid{blocks, kThreads, kColumnBytes<1>}, channel_finish_kernel<Finish>, samples,
         chunks, channels, parts, finish);
}

// Calls finish(sample, channel, sum of x - o, sum of (x - o)^2), o = x[sample, 0, channel].
template <class T, class Finish>
void channel_moments(const Tensor& x, const ChannelLayout& layout, const Finish& finish) {
  const T* from = data<T>(x);
  with_pack<T>(
      layout.channels,
      [&]<int N>() {
        const ChannelGrid grid = sums_grid<T, N>(layout);
        const Tensor parts = Tensor::empty({2 * grid.parts()}, DType::kFloat64, x.device());
        launch(x.device(), "channel moments", Grid{grid.blocks(), kThreads, kColumnBytes<N, MomentSum<T>>}, channel_moments_kernel<T, N>,
               grid, from, data<double>(parts));
        channel_finish(x.device(), layout.samples, grid.chunks, layout.channels, data<double>(parts), finish);
      },
      from);
}

// Calls finish(sample, channel, sum of g, sum of g * (x - mean)); see the kernel.
template <class T, class Finish>
void channel_gradient_sums(const Tensor& grad_y, const Tensor& x, const ChannelLayout& layout,
                           const ChannelAffine<Wide<T>>& affine, T* grad_x, const Finish& finish) {
  const T *g = data<T>(grad_y), *from = data<T>(x);
  with_pack<T, kNarrow<T>>(
      layout.channels,
      [&]<int N>() {
        const ChannelGrid grid = sums_grid<T, N>(layout);
        const Tensor parts = Tensor::empty({2 * grid.parts()}, DType::kFloat64, x.device());
        launch(x.device(), "channel gradient sums", Grid{grid.blocks(), kThreads, kColumnBytes<N>},
               channel_gradient_sums_kernel<T, N>, grid, g, from, affine, grad_x, data<double>(parts));
        channel_finish(x.device(), layout.samples, grid.chunks, layout.channels, data<double>(parts), finish);
      },
      g, from, grad_x);
}

// --- maps ---

template <class T, int N>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    channel_affine_kernel(ChannelGrid grid, const T* __restrict__ x, ChannelAffine<Wide<T>> affine, T* __restrict__ y) {
  using W = Wide<T>;
  const ChannelTask task = task_of(grid, N);
  if (task.count == 0) return;
  const AffineOfPack<W, N> map(affine, task);
  EQ_UNROLL(4)
  for (int k = 0; k < task.count; ++k) {
    const int64_t at = task.at + k * task.stride;
    const Pack<T, N> value = load_pack<T, N>(x + at);
    Pack<T, N> out;
    for (int i = 0; i < N; ++i) {
      const W v = (W(value[i]) - map.mean[i]) * map.scale[i] + map.shift[i];
      out[i] = T(map.relu && v < W(0) ? W(0) : v);
    }
    store_pack(y + at, out);
  }
}

template <class T>
void channel_affine(const Tensor& x, const ChannelLayout& layout, const ChannelAffine<Wide<T>>& affine, Tensor& y) {
  const T* from = data<T>(x);
  T* to = data<T>(y);
  with_pack<T>(
      layout.channels,
      [&]<int N>() {
        const ChannelGrid grid = apply_grid<T, N>(layout);
        launch(x.device(), "channel affine", Grid{grid.blocks(), kThreads}, channel_affine_kernel<T, N>, grid, from, affine,
               to);
      },
      from, to);
}

// grad_x = g * scale + (x - mean) * slope + offset, g masked by the affine map's ReLU; slope and offset: [samples, groups].
template <class T, int N>
__global__ void __launch_bounds__(kThreads, kGradientBlocks<T>)
    channel_gradient_kernel(ChannelGrid grid, const T* __restrict__ g, const T* __restrict__ x,
                            ChannelAffine<Wide<T>> affine, const Wide<T>* slope, const Wide<T>* offset,
                            T* __restrict__ grad_x) {
  using W = Wide<T>;
  const ChannelTask task = task_of(grid, N);
  if (task.count == 0) return;
  const AffineOfPack<W, N> map(affine, task);
  W slopes[N], offsets[N];
  affine.template load<N>(slope, task.sample, task.channel, slopes);
  affine.template load<N>(offset, task.sample, task.channel, offsets);
  EQ_UNROLL(4)
  for (int k = 0; k < task.count; ++k) {
    const int64_t at = task.at + k * task.stride;
    const Pack<T, N> gradient = load_pack<T, N>(g + at), value = load_pack<T, N>(x + at);
    Pack<T, N> out;
    for (int i = 0; i < N; ++i) {
      const W d = W(value[i]) - map.mean[i], own = map.masks(d, i) ? W(0) : W(gradient[i]);
      out[i] = T(own * map.scale[i] + (d * slopes[i] + offsets[i]));
    }
    store_pack(grad_x + at, out);
  }
}

template <class T>
void channel_gradient(const Tensor& grad_y, const Tensor& x, const ChannelLayout& layout,
                      const ChannelAffine<Wide<T>>& affine, const Wide<T>* slope, const Wide<T>* offset, Tensor& grad_x) {
  const T *g = data<T>(grad_y), *from = data<T>(x);
  T* to = data<T>(grad_x);
  with_pack<T, kNarrow<T>>(
      layout.channels,
      [&]<int N>() {
        const ChannelGrid grid = apply_grid<T, N>(layout);
        launch(x.device(), "channel gradient", Grid{grid.blocks(), kThreads}, channel_gradient_kernel<T, N>, grid, g, from,
               affine, slope, offset, to);
      },
      g, from, to);
}

}  // namespace eq::cuda
