// Depthwise convolution, bound by memory: a thread owns a pack of channels, a block a few packs (neighbours in memory)
// and many pixels. Forward and backward input are one kernel: a thread computes a run of neighbouring outputs, so that a
// filter value is read from shared memory once for the run, and an input once for all outputs of the run that read it
// (step 1 and filters of 3 or 7 columns; in other cases the L1 cache serves the repeats). The weight gradient sums over a
// chunk of pixels in registers, for nine taps at a time; the block adds its threads' sums in order, a second kernel those
// of the chunks.

#include "cuda/conv2d_axis.h"
#include "cuda/conv2d_chunks.h"
#include "cuda/divide.h"
#include "cuda/own_conv2d.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

constexpr int kRun = 4;    // neighbouring outputs of a thread
constexpr int kTasks = 4;  // runs of a thread
constexpr int kTaps = 9;   // of the weight gradient, per thread

// Channels of a pack: so many that their sums fit into registers in all three kernels.
template <class T>
constexpr int kChannels = std::is_same_v<T, double> ? 2 : 4;

// Calls fn.template operator()<N>() with N = kChannels<T> or 1.
template <class T, class Fn, class... Pointers>
void with_channels(int channels, Fn&& fn, const Pointers*... pointers) {
  const bool aligned = ((reinterpret_cast<uintptr_t>(pointers) % sizeof(Pack<T, kChannels<T>>) == 0) && ...);
  if (channels % kChannels<T> == 0 && aligned) return fn.template operator()<kChannels<T>>();
  fn.template operator()<1>();
}

// Threads of a block: `lanes` packs (8, 16 or 32) by kThreads / lanes places.
struct Lanes {
  int lanes, groups;  // groups of lanes that cover all channels
  Lanes(int channels, int pack) {
    const int packs = (channels + pack - 1) / pack, beyond = packs % 16;
    const bool fewer_idle = beyond > 0 && beyond <= 8;  // with 8 lanes: 96 channels are three times 8 packs
    lanes = packs <= 8 || (pack > 1 && fewer_idle) ? 8 : packs <= 16 || pack > 1 ? 16 : 32;
    groups = (packs + lanes - 1) / lanes;
  }
};

template <class T>
struct DepthwiseArguments {
  Convolution shape;
  int lanes, lane_groups;
  int64_t task_blocks;            // per phase: the most that a phase needs
  Divider by_runs[2], by_rows[2];  // of tasks: of phases with the most outputs along an axis, and with one output fewer
  const T *in, *weight, *bias;
  T* out;
};

template <class T, int kPack>
__device__ Pack<Wide<T>, kPack> widen(const Pack<T, kPack>& pack) {
  Pack<Wide<T>, kPack> wide;
#pragma unroll
  for (int i = 0; i < kPack; ++i) wide[i] = Wide<T>(pack[i]);
  return wide;
}

// kColumns: of the filter, where the input is read with step 1 and spread 1; 0: any.
template <class T, int kPack, int kColumns, bool kBackward>
__global__ void __launch_bounds__(kThreads, 3) depthwise_kernel(DepthwiseArguments<T> arguments) {
  using Values = Pack<Wide<T>, kPack>;
  const Convolution& shape = arguments.shape;
  const int lanes = arguments.lanes, lane = int(threadIdx.x) % lanes, places = kThreads / lanes, channels = shape.groups;
  unsigned block = blockIdx.x;
  const int first_channel = int(block % unsigned(arguments.lane_groups)) * lanes * kPack, channel = first_channel + lane * kPack;
  block /= unsigned(arguments.lane_groups);
  const int64_t task_block = block % unsigned(arguments.task_blocks);
  const int phase = int(block / unsigned(arguments.task_blocks));
  const CorrelationAxis h = kBackward ? shape.h.backward(phase / shape.w.phases()) : shape.h.forward();
  const CorrelationAxis w = kBackward ? shape.w.backward(phase % shape.w.phases()) : shape.w.forward();

  // The filters [tap][channel of the block], as the taps of this phase come.
  Wide<T>* filters = shared_memory<Wide<T>>();
  const int taps = h.taps * w.taps, filter = shape.h.kernel * shape.w.kernel;
  const int line = lanes * kPack;  // a power of two, at most kThreads
  const int columns = kColumns > 0 ? kColumns : w.taps, own = int(threadIdx.x) & (line - 1);
  const T* own_filter = first_channel + own < channels ? arguments.weight + int64_t(first_channel + own) * filter : nullptr;
  for (int i = int(threadIdx.x), tap = i / line; tap < taps; i += kThreads, tap += kThreads / line) {
    const int place = (h.tap_first + tap / columns * h.tap_every) * shape.w.kernel + w.tap_first + tap % columns * w.tap_every;
    filters[i] = own_filter != nullptr ? Wide<T>(own_filter[place]) : Wide<T>(0);
  }
  __syncthreads();
  if (channel >= channels) return;
  const Wide<T>* own_filters = filters + lane * kPack;

  const int runs = (w.out + kRun - 1) / kRun;
  const int64_t tasks = int64_t(shape.images) * h.out * runs;
  const Divider &by_runs = arguments.by_runs[runs != arguments.by_runs[0].divisor()],
                &by_rows = arguments.by_rows[h.out != arguments.by_rows[0].divisor()];
  for (int turn = 0; turn < kTasks; ++turn) {
    const int64_t task = (task_block * kTasks + turn) * places + int(threadIdx.x) / lanes;
    if (task >= tasks) return;
    int64_t image = task;
    const int q = int(by_runs.split(image)) * kRun, p = int(by_rows.split(image));
    const int from_h = int(h.origin + int64_t(p) * h.step), from_w = int(w.origin + int64_t(q) * w.step);

    Values sums[kRun] = {};
    for (int r = 0; r < h.taps; ++r) {
      const unsigned at_h = unsigned(from_h) + unsigned(r) * unsigned(h.spread);
      if (at_h >= unsigned(h.in)) continue;
      const T* row = arguments.in + (image * h.in + at_h) * w.in * channels + channel;
      const Wide<T>* row_filters = own_filters + r * w.taps * line;
      if constexpr (kColumns > 0) {
        Values weights[kColumns];
#pragma unroll
        for (int s = 0; s < kColumns; ++s) weights[s] = load_pack<Wide<T>, kPack>(row_filters + s * line);
#pragma unroll
        for (int i = 0; i < kRun + kColumns - 1; ++i) {
          const unsigned at_w = unsigned(from_w) + unsigned(i);
          if (at_w >= unsigned(w.in)) continue;
          const Values values = widen<T, kPack>(load_pack<T, kPack>(row + int64_t(at_w) * channels));
#pragma unroll
          for (int j = 0; j < kRun; ++j) {
            if (i - j < 0 || i - j >= kColumns) continue;
#pragma unroll
            for (int c = 0; c < kPack; ++c) sums[j][c] += values[c] * weights[i - j][c];
          }
        }
      } else {
        for (int s = 0; s < w.taps; ++s) {
          const Values weights = load_pack<Wide<T>, kPack>(row_filters + s * line);
#pragma unroll
          for (int j = 0; j < kRun; ++j) {
            const unsigned at_w = unsigned(from_w) + unsigned(j) * unsigned(w.step) + unsigned(s) * unsigned(w.spread);
            if (q + j >= w.out || at_w >= unsigned(w.in)) continue;
            const Values values = widen<T, kPack>(load_pack<T, kPack>(row + int64_t(at_w) * channels));
#pragma unroll
            for (int c = 0; c < kPack; ++c) sums[j][c] += values[c] * weights[c];
          }
        }
      }
    }

    const int64_t out_row = image * (kBackward ? shape.h.in : shape.h.out) + h.first + int64_t(p) * h.every;
#pragma unroll
    for (int j = 0; j < kRun; ++j) {
      if (q + j >= w.out) continue;
      const int64_t pixel = out_row * (kBackward ? shape.w.in : shape.w.out) + w.first + int64_t(q + j) * w.every;
      Pack<T, kPack> result;
#pragma unroll
      for (int c = 0; c < kPack; ++c) {
        result[c] = T(arguments.bias == nullptr ? sums[j][c] : sums[j][c] + Wide<T>(arguments.bias[channel + c]));
      }
      store_pack(arguments.out + pixel * channels + channel, result);
    }
  }
}

template <class T, bool kBackward>
void depthwise(const Convolution& shape, const Tensor& in, const Tensor& weight, const Tensor& bias, Tensor& out) {
  if (out.numel() == 0) return;
  const int64_t rows = kBackward ? divide_up(shape.h.in, shape.h.stride) : shape.h.out;  // of the largest phase
  const int64_t columns = kBackward ? divide_up(shape.w.in, shape.w.stride) : shape.w.out;
  const auto divider = [](int64_t divisor) { return Divider(std::max<int64_t>(divisor, 1)); };
  DepthwiseArguments<T> arguments = {shape, 0, 0, 0, {divider(divide_up(columns, kRun)), divider(divide_up(columns - 1, kRun))},
                                     {divider(rows), divider(rows - 1)}, data<T>(in), data<T>(weight), data<T>(bias), data<T>(out)};
  with_channels<T>(shape.groups, [&]<int kPack>() {
    const Lanes lanes(shape.groups, kPack);
    const int64_t phases = kBackward ? int64_t(shape.h.phases()) * shape.w.phases() : 1;
    arguments.lanes = lanes.lanes;
    arguments.lane_groups = lanes.groups;
    arguments.task_blocks = divide_up(shape.images * rows * divide_up(columns, kRun), kTasks * (kThreads / lanes.lanes));
    const Grid grid = {blocks_for(arguments.task_blocks * lanes.groups * phases, 1), kThreads,
                       size_t(shape.h.kernel) * shape.w.kernel * lanes.lanes * kPack * sizeof(Wide<T>)};
    const char* name = kBackward ? "conv2d, depthwise, backward input" : "conv2d, depthwise";
    const bool dense = shape.w.stride == 1 && shape.w.dilation == 1;
    if constexpr (kPack > 1) {
      const auto run = [&](auto kernel) { launch(out.device(), name, grid, kernel, arguments); };
      if (dense && shape.w.kernel == 3) return run(depthwise_kernel<T, kPack, 3, kBackward>);
      if (dense && shape.w.kernel == 7) return run(depthwise_kernel<T, kPack, 7, kBackward>);
    }
    launch(out.device(), name, grid, depthwise_kernel<T, kPack, 0, kBackward>, arguments);
  }, arguments.in, arguments.out);
}

template <class T>
struct DepthwiseWeightArguments {
  Convolution shape;
  int lanes, lane_groups, tap_groups;
  int64_t chunk;       // pixels of y
  Divisor by_w, by_h;  // of y
  const T *grad_y, *x;
  Wide<T>* sums;  // [chunk][tap][channel]
};

template <class T, int kPack>
__global__ void __launch_bounds__(kThreads) depthwise_weight_kernel(DepthwiseWeightArguments<T> arguments) {
  using Values = Pack<Wide<T>, kPack>;
  __shared__ Wide<T> shared[kTaps * kThreads * kPack];
  const Convolution& shape = arguments.shape;
  const int lanes = arguments.lanes, lane = int(threadIdx.x) % lanes, places = kThreads / lanes, channels = shape.groups;
  unsigned block = blockIdx.x;
  const int first_channel = int(block % unsigned(arguments.lane_groups)) * lanes * kPack, channel = first_channel + lane * kPack;
  block /= unsigned(arguments.lane_groups);
  const int first_tap = int(block % unsigned(arguments.tap_groups)) * kTaps, taps = shape.h.kernel * shape.w.kernel;
  const int64_t chunk = block / unsigned(arguments.tap_groups), begin = chunk * arguments.chunk, pixels = shape.out_pixels();
  const int count = int(begin + arguments.chunk < pixels ? arguments.chunk : pixels - begin);
  const int picture = shape.h.out * shape.w.out, first_image = int(begin / picture), first_pixel = int(begin % picture);

  // Where each tap reads for output (0, 0). A tap that does not exist repeats the first.
  unsigned tap_h[kTaps], tap_w[kTaps];
#pragma unroll
  for (int t = 0; t < kTaps; ++t) {
    const int tap = first_tap + t < taps ? first_tap + t : first_tap;
    tap_h[t] = unsigned(tap / shape.w.kernel) * unsigned(shape.h.dilation) - unsigned(shape.h.pad);
    tap_w[t] = unsigned(tap % shape.w.kernel) * unsigned(shape.w.dilation) - unsigned(shape.w.pad);
  }
  Values sums[kTaps] = {};
  for (int i = int(threadIdx.x) / lanes; i < count && channel < channels; i += places) {
    const Values grad = widen<T, kPack>(load_pack<T, kPack>(arguments.grad_y + (begin + i) * channels + channel));
    int q = first_pixel + i;
    int p = arguments.by_w.divide(q);
    const int64_t image = first_image + arguments.by_h.divide(p);
    const unsigned from_h = unsigned(p) * unsigned(shape.h.stride), from_w = unsigned(q) * unsigned(shape.w.stride);
    const T* x = arguments.x + image * shape.h.in * shape.w.in * channels + channel;
#pragma unroll
    for (int t = 0; t < kTaps; ++t) {
      const unsigned at_h = from_h + tap_h[t], at_w = from_w + tap_w[t];
      if (at_h >= unsigned(shape.h.in) || at_w >= unsigned(shape.w.in)) continue;
      const Values values = widen<T, kPack>(load_pack<T, kPack>(x + (int64_t(at_h) * shape.w.in + at_w) * channels));
#pragma unroll
      for (int c = 0; c < kPack; ++c) sums[t][c] += grad[c] * values[c];
    }
  }
  // [tap][place][channel of the block]
  const int line = lanes * kPack;
#pragma unroll
  for (int t = 0; t < kTaps; ++t) store_pack(shared + t * kThreads * kPack + int(threadIdx.x) * kPack, sums[t]);
  __syncthreads();
  for (int i = int(threadIdx.x); i < kTaps * line; i += kThreads) {
    const int tap = i / line, c = i % line;
    if (first_tap + tap >= taps || first_channel + c >= channels) continue;
    Wide<T> sum = 0;
    for (int place = 0; place < places; ++place) sum += shared[(tap * places + place) * line + c];
    arguments.sums[(chunk * taps + first_tap + tap) * channels + first_channel + c] = sum;
  }
}

}  // namespace

template <class T>
void depthwise_conv2d_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, Tensor& y, const Conv2dOptions& options) {
  depthwise<T, false>(convolution_of(x.shape(), weight.shape(), y.shape(), options), x, weight, bias, y);
}

template <class T>
void depthwise_conv2d_backward_input(const Tensor& grad_y, const Tensor& weight, Tensor& grad_x, const Conv2dOptions& options) {
  depthwise<T, true>(convolution_of(grad_x.shape(), weight.shape(), grad_y.shape(), options), grad_y, weight, {}, grad_x);
}

template <class T>
void depthwise_conv2d_backward_weight(const Tensor& grad_y, const Tensor& x, Tensor& grad_weight, const Conv2dOptions& options) {
  const Convolution shape = convolution_of(x.shape(), grad_weight.shape(), grad_y.shape(), options);
  const int64_t pixels = shape.out_pixels(), taps = shape.filter();
  if (pixels == 0) {
    grad_weight.fill_(0);
    return;
  }
  DepthwiseWeightArguments<T> arguments = {shape, 0, 0, int(divide_up(taps, kTaps)), 0, Divisor(shape.w.out), Divisor(shape.h.out),
                                           data<T>(grad_y), data<T>(x), nullptr};
  with_channels<T>(shape.groups, [&]<int kPack>() {
    const Lanes lanes(shape.groups, kPack);
    arguments.lanes = lanes.lanes;
    arguments.lane_groups = lanes.groups;
    const int64_t shortest = 16 * (kThreads / lanes.lanes);  // 16 pixels a thread
    const int64_t tiles = int64_t(lanes.groups) * arguments.tap_groups;
    arguments.chunk = pixels_per_chunk(pixels, tiles, shortest, grad_weight.numel() * int64_t(sizeof(Wide<T>)));
    const int64_t chunks = divide_up(pixels, arguments.chunk);
    const Tensor sums = Tensor::empty({chunks, grad_weight.numel()}, dtype_of<Wide<T>>::value, grad_weight.device());
    arguments.sums = data<Wide<T>>(sums);
    launch(grad_weight.device(), "conv2d, depthwise, backward weight", Grid{blocks_for(tiles * chunks, 1), kThreads},
           depthwise_weight_kernel<T, kPack>, arguments);
    add_chunks<T>(sums, grad_weight, taps, shape.groups);
  }, arguments.grad_y, arguments.x);
}

#define EQ_DEPTHWISE(T)                                                                                                  \
  template void depthwise_conv2d_forward<T>(const Tensor&, const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&); \
  template void depthwise_conv2d_backward_input<T>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);         \
  template void depthwise_conv2d_backward_weight<T>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&);
EQ_DEPTHWISE(float)
EQ_DEPTHWISE(double)
EQ_DEPTHWISE(bfloat16)

}  // namespace eq::cuda
