// A thread has one pack of channels of one column of an image's row, and walks down a chunk of rows; the threads of a block
// have neighbouring packs, so that they read and write neighbouring memory whatever the number of channels. What belongs to
// the column is computed once per thread; taps of rows once per block, in exact integers, into shared memory.
//
// Forward: the thread keeps the two source rows that it is between, interpolated across, in registers: when it passes a source
// row, one new row is read. Each source pack is read about twice per chunk, and each output costs one interpolation.
// Adjoint: the thread has a column of cells. For each row of outputs it gathers the outputs that read its column, and adds
// their sum to the two cells that the row reads. A chunk's first and last rows of outputs are read by its neighbours, too.
// Where a cell has many outputs along both axes there are few threads, so columns are gathered first, into [N, out_h, w, C]
// sums in Wide<T>, and rows from there.

#include "cuda/kernels/bilinear_cuda.h"

#include "core/kernels/resize.h"
#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

constexpr int kMostBranches = 8;      // per launch
constexpr int kMostRows = 64;         // whose taps a block holds
constexpr int64_t kMostReads = 16;    // of a cell in one step; above, columns first
constexpr int kHeld = 4;              // weights of a column's outputs that a thread keeps

// How blocks cover the rows of images, [columns, packs] each: block = (image * down + chunk) * across + strip.
struct Strips {
  unsigned packs;   // of a pixel
  unsigned across;  // blocks side by side
  unsigned down;    // chunks of rows
  int rows;         // of a chunk

  Strips() = default;
  // About `blocks` blocks, with at most `most` rows.
  Strips(int64_t images, int64_t height, int64_t columns, int64_t packs_of_pixel, int64_t blocks, int64_t most)
      : packs(unsigned(packs_of_pixel)), across(blocks_for(columns * packs_of_pixel, kThreads)) {
    rows = int(std::clamp<int64_t>(images * height * across / blocks, 1, std::min(most, height)));
    down = unsigned((height + rows - 1) / rows);
  }
  int64_t blocks(int64_t images) const { return images * down * across; }
};

// A thread's part of them.
struct Place {
  int64_t image;
  int top;  // the chunk's first row
  unsigned column, channel;

  __device__ Place(const Strips& strips, unsigned block, int width) {
    const unsigned strip = block % strips.across, chunk = block / strips.across;
    image = chunk / strips.down;
    top = int(chunk % strips.down) * strips.rows;
    const unsigned at = strip * kThreads + threadIdx.x;
    column = at / strips.packs;
    channel = (at - column * strips.packs) * unsigned(width);
  }
};

// A constant of [C], [1] or no values.
template <class W>
struct Constant {
  const W* values;
  bool single, whole_packs;

  Constant() = default;
  explicit Constant(const Tensor& tensor)
      : values(data<W>(tensor)),
        single(tensor.defined() && tensor.numel() == 1),
        whole_packs(on_16_bytes(values)) {}

  template <int N>
  __device__ void load(int64_t channel, W missing, W (&out)[N]) const {
    if (values == nullptr || single) {
      const W value = values == nullptr ? missing : values[0];
      for (int i = 0; i < N; ++i) out[i] = value;
    } else {
      load_values<W, N>(values + channel, whole_packs, out);
    }
  }
};

template <class T>
bool packs_fit(const Tensor& whole, const std::vector<BilinearBranch>& branches) {
  bool fit = on_16_bytes(data<T>(whole));
  for (const BilinearBranch& branch : branches) {
    fit = fit && branch.channels % kPackWidth<T> == 0 && on_16_bytes(data<T>(branch.x));
  }
  return fit;
}

template <class T, class Fn>
void with_width(bool packs, Fn&& fn) {
  if (packs) return fn.template operator()<kPackWidth<T>>();
  fn.template operator()<1>();
}

// Which of a launch's branches has the block.
template <class Branch>
__device__ const Branch& branch_of_block(const Branch (&branches)[kMostBranches], int count) {
  int which = 0;
  while (which + 1 < count && blockIdx.x >= branches[which + 1].first_block) ++which;
  return branches[which];
}

// --- forward ---

template <class T>
struct ForwardBranch {
  const T* x;
  int64_t h, w, channels, offset;  // offset: its first channel in y
  Constant<Wide<T>> shift, scale;
  Strips strips;
  unsigned first_block;
};

template <class T>
struct ForwardPlan {
  ForwardBranch<T> branches[kMostBranches];
  int count;
  int64_t out_h, out_w, channels;  // inside the border; of y
  int64_t pad_h, pad_w;
  Constant<Wide<T>> border;
  bool align_corners;
};

// What a row or column of the output reads: the cell at `at` (in elements; negative: the border), and the next if upper > 0.
template <class W>
struct Tap {
  int64_t at;
  W lower, upper;
};

template <class W>
__device__ Tap<W> tap_of(int64_t position, int64_t in, int64_t out, bool align_corners, int64_t base, int64_t stride) {
  if (position < 0 || position >= out) return {-1, W(0), W(0)};
  const BilinearSource s = bilinear_source(position, in, out, align_corners);
  return {base + s.lower * stride, W(1 - s.upper_weight), W(s.upper_weight)};
}

// A source row, interpolated across.
template <class T, int N>
__device__ void read_across(const T* row, const Tap<Wide<T>>& column, int64_t next, Wide<T> (&out)[N]) {
  const Pack<T, N> a = load_pack<T, N>(row);
  if (column.upper > Wide<T>(0)) {
    const Pack<T, N> b = load_pack<T, N>(row + next);
    for (int i = 0; i < N; ++i) out[i] = column.lower * Wide<T>(a[i]) + column.upper * Wide<T>(b[i]);
  } else {
    for (int i = 0; i < N; ++i) out[i] = Wide<T>(a[i]);
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 3)
    bilinear_forward_kernel(const __grid_constant__ ForwardPlan<T> plan, T* __restrict__ y) {
  using W = Wide<T>;
  __shared__ Tap<W> rows[kMostRows];
  const ForwardBranch<T>& branch = branch_of_block(plan.branches, plan.count);
  const Place place(branch.strips, blockIdx.x - branch.first_block, N);
  const int64_t full_h = plan.out_h + 2 * plan.pad_h, full_w = plan.out_w + 2 * plan.pad_w;
  const int64_t row_length = branch.w * branch.channels;
  const int count = int(std::min<int64_t>(branch.strips.rows, full_h - place.top));
  if (int(threadIdx.x) < count) {
    rows[threadIdx.x] = tap_of<W>(place.top + int(threadIdx.x) - plan.pad_h, branch.h, plan.out_h, plan.align_corners,
                                  place.image * branch.h * row_length, row_length);
  }
  __syncthreads();
  if (place.column >= full_w) return;
  const Tap<W> column = tap_of<W>(int64_t(place.column) - plan.pad_w, branch.w, plan.out_w, plan.align_corners, place.channel,
                                  branch.channels);
  const bool inside = column.at >= 0;
  W shift[N], scale[N], border[N];
  branch.shift.template load<N>(place.channel, W(0), shift);
  branch.scale.template load<N>(place.channel, W(1), scale);
  const T* x = branch.x + column.at;
  T* to = y + ((place.image * full_h + place.top) * full_w + place.column) * plan.channels + branch.offset + place.channel;
  const int64_t down = full_w * plan.channels;

  W lower[N] = {}, upper[N] = {};  // the rows at lower_at and upper_at
  int64_t lower_at = -1, upper_at = -1;
  for (int r = 0; r < count; ++r, to += down) {
    const Tap<W> row = rows[r];
    Pack<T, N> result;
    if (row.at < 0 || !inside) {
      plan.border.template load<N>(branch.offset + place.channel, W(0), border);
      for (int i = 0; i < N; ++i) result[i] = T(border[i]);
      store_pack(to, result);
      continue;
    }
    if (row.at != lower_at) {
      if (row.at == upper_at) {
        for (int i = 0; i < N; ++i) lower[i] = upper[i];
      } else {
        read_across<T, N>(x + row.at, column, branch.channels, lower);
      }
      lower_at = row.at;
    }
    const bool between = row.upper > W(0);
    if (between && upper_at != row.at + row_length) {
      upper_at = row.at + row_length;
      read_across<T, N>(x + upper_at, column, branch.channels, upper);
    }
    for (int i = 0; i < N; ++i) {
      const W value = between ? row.lower * lower[i] + row.upper * upper[i] : lower[i];
      result[i] = T((value - shift[i]) * scale[i]);
    }
    store_pack(to, result);
  }
}

// A branch of the output's own size, inside no border: nothing to interpolate.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    bilinear_same_size_kernel(const __grid_constant__ ForwardBranch<T> branch, T* __restrict__ y, int64_t pixel_stride) {
  using W = Wide<T>;
  const Place place(branch.strips, blockIdx.x, N);
  if (place.column >= branch.w) return;
  const int count = int(std::min<int64_t>(branch.strips.rows, branch.h - place.top));
  W shift[N], scale[N];
  branch.shift.template load<N>(place.channel, W(0), shift);
  branch.scale.template load<N>(place.channel, W(1), scale);
  const int64_t first = (place.image * branch.h + place.top) * branch.w + place.column;
  const T* from = branch.x + first * branch.channels + place.channel;
  T* to = y + first * pixel_stride + branch.offset + place.channel;
  EQ_UNROLL(4)
  for (int r = 0; r < count; ++r) {
    const Pack<T, N> value = load_pack<T, N>(from + r * branch.w * branch.channels);
    Pack<T, N> result;
    for (int i = 0; i < N; ++i) result[i] = T((W(value[i]) - shift[i]) * scale[i]);
    store_pack(to + r * branch.w * pixel_stride, result);
  }
}

template <class T, int N>
void forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border) {
  const int64_t images = y.size(0), full_h = y.size(1), full_w = y.size(2), channels = y.size(3);
  ForwardPlan<T> plan{};
  plan.out_h = full_h - 2 * border.rows, plan.out_w = full_w - 2 * border.columns, plan.channels = channels;
  plan.pad_h = border.rows, plan.pad_w = border.columns;
  plan.border = Constant<Wide<T>>(border.values);
  plan.align_corners = align_corners;
  unsigned blocks = 0;
  const auto run = [&] {
    if (plan.count == 0) return;
    launch(y.device(), "bilinear", Grid{blocks, kThreads}, bilinear_forward_kernel<T, N>, plan, data<T>(y));
    plan.count = 0, blocks = 0;
  };
  int64_t offset = 0;
  for (const BilinearBranch& branch : branches) {
    if (branch.x.defined() && branch.x.numel() > 0) {
      const int64_t h = branch.x.size(1), w = branch.x.size(2);
      const ForwardBranch<T> one{data<T>(branch.x),
                                 h,
                                 w,
                                 branch.channels,
                                 offset,
                                 Constant<Wide<T>>(branch.shift),
                                 Constant<Wide<T>>(branch.scale),
                                 Strips(images, full_h, full_w, branch.channels / N, 2048, 32),
                                 blocks};
      if (h == full_h && w == full_w) {
        launch(y.device(), "bilinear", Grid{blocks_for(one.strips.blocks(images), 1), kThreads},
               bilinear_same_size_kernel<T, N>, one, data<T>(y), channels);
      } else {
        plan.branches[plan.count++] = one;
        blocks = blocks_for(blocks + one.strips.blocks(images), 1);
        if (plan.count == kMostBranches) run();
      }
    }
    offset += branch.channels;
  }
  run();
}

// --- adjoint ---

template <class From, class To>
struct GatherBranch {
  const From* from;  // [N, out_h, out_w, channels] inside a larger array
  int64_t image_stride, row_stride, pixel_stride;
  To* to;  // [N, h, w, channels]
  int64_t h, w, out_h, out_w, channels;
  Constant<Wide<To>> scale;
  Strips strips;
  unsigned first_block;
};

template <class From, class To>
struct GatherPlan {
  GatherBranch<From, To> branches[kMostBranches];
  int count;
  unsigned blocks;
  Reading reading;
};

// What a column of cells gathers: `count` outputs from `at` on (in elements), the k-th with the weight
// 1 - |t| where t = start + k step, cut off at the borders to [low, high].
template <class W>
struct Reach {
  int64_t at;
  int count;
  W start, low, high, step;

  __device__ W weight(int k) const {
    const W t = start + W(k) * step;
    return W(1) - std::abs(std::max(low, std::min(high, t)));
  }
};

template <class W>
__device__ Reach<W> reach_of(int64_t cell, int64_t in, int64_t out, Reading reading, int64_t stride) {
  if (reading == Reading::kNearest) {
    const int64_t begin = nearest_begin(cell, in, out);
    return {begin * stride, int(nearest_begin(cell + 1, in, out) - begin), W(0), W(0), W(0), W(0)};
  }
  const bool align_corners = reading == Reading::kAlignedCorners;
  const int64_t begin = bilinear_begin(cell, in, out, align_corners), end = bilinear_end(cell, in, out, align_corners);
  const BilinearCoordinate s = bilinear_coordinate(begin, in, out, align_corners);
  const W step = !align_corners ? W(double(in) / double(out)) : out == 1 ? W(0) : W(double(in - 1) / double(out - 1));
  return {begin * stride, int(end - begin), W(double(s.numerator - cell * s.denominator) / double(s.denominator)),
          W(cell == 0 ? 0 : -1), W(cell == in - 1 ? 0 : 1), step};
}

// The cell that a row of outputs reads, and the weights of it and of the next.
template <class W>
struct RowTap {
  int cell;
  W lower, upper;
};

template <class W>
__device__ RowTap<W> row_tap_of(int64_t position, int64_t in, int64_t out, Reading reading) {
  if (reading == Reading::kNearest) return {int(nearest_source(position, in, out)), W(1), W(0)};
  const BilinearSource s = bilinear_source(position, in, out, reading == Reading::kAlignedCorners);
  return {int(s.lower), W(1 - s.upper_weight), W(s.upper_weight)};
}

template <class From, class To, int N>
__global__ void __launch_bounds__(kThreads, sizeof(To) == 8 ? 2 : 3)
    resize_backward_kernel(const __grid_constant__ GatherPlan<From, To> plan) {
  using W = Wide<To>;
  __shared__ RowTap<W> taps[kMostRows];
  const GatherBranch<From, To>& branch = branch_of_block(plan.branches, plan.count);
  const Place place(branch.strips, blockIdx.x - branch.first_block, N);
  const int64_t h = branch.h, out_h = branch.out_h;
  const int last = int(std::min<int64_t>(place.top + branch.strips.rows, h)) - 1;
  const bool nearest = plan.reading == Reading::kNearest, align_corners = plan.reading == Reading::kAlignedCorners;
  const int begin = int(nearest ? nearest_begin(place.top, h, out_h) : bilinear_begin(place.top, h, out_h, align_corners));
  const int end = int(nearest ? nearest_begin(last + 1, h, out_h) : bilinear_end(last, h, out_h, align_corners));
  const bool active = place.column < branch.w;

  Reach<W> reach{};
  W weights[kHeld] = {};
  if (active) {
    reach = reach_of<W>(place.column, branch.w, branch.out_w, plan.reading, branch.pixel_stride);
    for (int q = 0; q < kHeld; ++q) weights[q] = reach.weight(q);
  }
  const From* from = branch.from + place.image * branch.image_stride + begin * branch.row_stride + reach.at + place.channel;
  To* to = branch.to + ((place.image * h + place.top) * branch.w + place.column) * branch.channels + place.channel;

  // Sums of the cells `cell` and `cell` + 1. The row of cells above the chunk is the neighbour's.
  W lower[N] = {}, upper[N] = {};
  int cell = place.top - 1;
  const auto finish_cell = [&] {
    if (cell >= place.top) {
      W scale[N];
      branch.scale.template load<N>(place.channel, W(1), scale);
      Pack<To, N> result;
      for (int k = 0; k < N; ++k) result[k] = To(lower[k] * scale[k]);
      store_pack(to, result);
      to += branch.w * branch.channels;
    }
    for (int k = 0; k < N; ++k) lower[k] = upper[k], upper[k] = W(0);
    ++cell;
  };
  for (int start = begin; start < end; start += kMostRows) {
    const int count = end - start < kMostRows ? end - start : kMostRows;
    __syncthreads();  // the rows before are still being read
    if (int(threadIdx.x) < count) taps[threadIdx.x] = row_tap_of<W>(start + int(threadIdx.x), h, out_h, plan.reading);
    __syncthreads();
    if (!active) continue;
    for (int r = 0; r < count; ++r, from += branch.row_stride) {
      Pack<From, N> held[kHeld] = {};
      for (int q = 0; q < kHeld; ++q) {
        if (q < reach.count) held[q] = load_pack<From, N>(from + q * branch.pixel_stride);
      }
      W sum[N] = {};
      for (int q = 0; q < kHeld; ++q) {
        if (q < reach.count) {
          for (int k = 0; k < N; ++k) sum[k] += weights[q] * W(held[q][k]);
        }
      }
      EQ_UNROLL(4)
      for (int q = kHeld; q < reach.count; ++q) {
        const Pack<From, N> g = load_pack<From, N>(from + q * branch.pixel_stride);
        const W weight = reach.weight(q);
        for (int k = 0; k < N; ++k) sum[k] += weight * W(g[k]);
      }
      const RowTap<W> row = taps[r];
      while (cell < row.cell) finish_cell();
      for (int k = 0; k < N; ++k) lower[k] += row.lower * sum[k];
      if (row.upper > W(0)) {
        for (int k = 0; k < N; ++k) upper[k] += row.upper * sum[k];
      }
    }
  }
  if (active) {
    while (cell <= last) finish_cell();
  }
}

// A branch of the output's own size: copied, with its scale.
template <class T, int N>
__global__ void __launch_bounds__(kThreads) resize_backward_same_size_kernel(const __grid_constant__ GatherBranch<T, T> branch) {
  using W = Wide<T>;
  const Place place(branch.strips, blockIdx.x, N);
  if (place.column >= branch.w) return;
  const int count = int(std::min<int64_t>(branch.strips.rows, branch.h - place.top));
  W scale[N];
  branch.scale.template load<N>(place.channel, W(1), scale);
  const T* from = branch.from + place.image * branch.image_stride + place.top * branch.row_stride +
                  place.column * branch.pixel_stride + place.channel;
  T* to = branch.to + ((place.image * branch.h + place.top) * branch.w + place.column) * branch.channels + place.channel;
  EQ_UNROLL(4)
  for (int r = 0; r < count; ++r) {
    const Pack<T, N> value = load_pack<T, N>(from + r * branch.row_stride);
    Pack<T, N> result;
    for (int k = 0; k < N; ++k) result[k] = T(W(value[k]) * scale[k]);
    store_pack(to + r * branch.w * branch.channels, result);
  }
}

template <class From, class To, int N>
struct Gather {
  Device device;
  GatherPlan<From, To> plan{};

  Gather(Device device, Reading reading) : device(device) { plan.reading = reading; }

  void add(GatherBranch<From, To> branch, int64_t images) {
    branch.strips = Strips(images, branch.h, branch.w, branch.channels / N, 1024, 16);
    branch.first_block = plan.blocks;
    plan.blocks = blocks_for(plan.blocks + branch.strips.blocks(images), 1);
    plan.branches[plan.count++] = branch;
  }
  bool full() const { return plan.count == kMostBranches; }
  void run() {
    if (plan.count > 0)
      launch(device, "bilinear adjoint", Grid{plan.blocks, kThreads}, resize_backward_kernel<From, To, N>, plan);
    plan.count = 0, plan.blocks = 0;
  }
};

template <class T, int N>
void backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, Reading reading,
              const BilinearBorder& border) {
  using W = Wide<T>;
  const int64_t images = grad_y.size(0), full_w = grad_y.size(2), channels = grad_y.size(3);
  const int64_t image_stride = grad_y.size(1) * full_w * channels, row_stride = full_w * channels;
  const int64_t out_h = grad_y.size(1) - 2 * border.rows, out_w = full_w - 2 * border.columns;
  Gather<T, T, N> whole(grad_y.device(), reading);
  Gather<T, W, N> columns(grad_y.device(), reading);
  Gather<W, T, N> rows(grad_y.device(), reading);
  std::vector<Tensor> between;  // lives until both launches are queued
  const T* from = data<T>(grad_y) + border.rows * row_stride + border.columns * channels;
  for (const BilinearBranch& branch : branches) {
    if (branch.x.defined() && branch.x.numel() > 0) {
      const int64_t h = branch.x.size(1), w = branch.x.size(2), c = branch.channels;
      const Constant<W> scale(branch.scale);
      GatherBranch<T, T> one{from, image_stride, row_stride, channels, data<T>(branch.x), h, w, out_h, out_w, c, scale, {}, 0};
      if (h == out_h && w == out_w) {
        one.strips = Strips(images, h, w, c / N, 2048, 32);
        launch(grad_y.device(), "bilinear adjoint", Grid{blocks_for(one.strips.blocks(images), 1), kThreads},
               resize_backward_same_size_kernel<T, N>, one);
      } else if (out_h <= h || out_w <= w || out_h * out_w <= kMostReads * h * w) {
        whole.add(one, images);
      } else {
        between.push_back(Tensor::empty({images, out_h, w, c}, dtype_of<W>::value, grad_y.device()));
        W* sums = data<W>(between.back());
        columns.add({from, image_stride, row_stride, channels, sums, out_h, w, out_h, out_w, c, {}, {}, 0}, images);
        rows.add({sums, out_h * w * c, w * c, c, data<T>(branch.x), h, w, out_h, w, c, scale, {}, 0}, images);
      }
    }
    from += branch.channels;
    if (whole.full()) whole.run();
    if (columns.full()) columns.run(), rows.run();
  }
  whole.run();
  columns.run();
  rows.run();
}

}  // namespace

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners,
                      const BilinearBorder& border) {
  if (y.numel() == 0) return;
  dispatch(y.dtype(), "resize_bilinear", [&]<typename T>() {
    with_width<T>(packs_fit<T>(y, branches), [&]<int N>() { forward<T, N>(branches, y, align_corners, border); });
  });
}

void resize_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, Reading reading,
                     const BilinearBorder& border) {
  if (grad_y.numel() == 0) return;
  dispatch(grad_y.dtype(), "resize", [&]<typename T>() {
    with_width<T>(packs_fit<T>(grad_y, branches), [&]<int N>() { backward<T, N>(grad_y, branches, reading, border); });
  });
}

}  // namespace eq::cuda
