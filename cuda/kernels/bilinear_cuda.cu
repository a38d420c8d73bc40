// A block has a rectangle of pixels and a column of channel packs of one branch: a thread keeps its pack and steps through
// the pixels, of which kThreads / lanes are done at a time. Source cells and weights of the rectangle's rows and columns are
// computed once per block, in exact 64-bit integers, into shared memory. Blocks of all branches run in one launch; those of
// one rectangle are neighbours.
//
// Forward: two or four packs are read per pack written; what neighbours share comes from the caches.
// Adjoint: a thread gathers its cell's outputs, which costs about four reads per output through the caches. Where a cell has
// many outputs along both axes, columns are gathered first, into [N, out_h, w, C] sums in Wide<T>, and rows from there.

#include "cuda/kernels/bilinear_cuda.h"

#include "core/kernels/resize.h"
#include "cuda/tile.h"

namespace eq::cuda {
namespace {

constexpr int kMostBranches = 8;  // per launch
constexpr int kMostColumns = 32, kMostRows = 64;
constexpr int64_t kMostReads = 64;  // of a cell in one step; above, columns first

// A rectangle of 2^shift by `height` pixels, and how many of them cover a picture.
struct Rectangle {
  int shift, height;
  unsigned across, down;

  Rectangle() = default;
  Rectangle(int64_t rows, int64_t columns, int64_t pixels) {
    for (shift = 0; (int64_t{1} << shift) < std::min<int64_t>(columns, kMostColumns);) ++shift;
    height = int(std::clamp<int64_t>(pixels >> shift, 1, std::min<int64_t>(rows, kMostRows)));
    across = unsigned((columns + (int64_t{1} << shift) - 1) >> shift);
    down = unsigned((rows + height - 1) / height);
  }
  EQ_HOST_DEVICE int width() const { return 1 << shift; }
  EQ_HOST_DEVICE int pixels() const { return height << shift; }
};

// A constant of [C], [1] or no values.
template <class W>
struct Constant {
  const W* values;
  bool single;

  Constant() = default;
  explicit Constant(const Tensor& tensor) : values(data<W>(tensor)), single(tensor.defined() && tensor.numel() == 1) {}
  __device__ W at(int64_t channel, W missing) const { return values == nullptr ? missing : values[single ? 0 : channel]; }
};

unsigned columns_of(const Tile& tile) { return unsigned(tile.columns); }

template <class T>
bool packs_fit(const Tensor& whole, const std::vector<BilinearBranch>& branches) {
  bool fit = reinterpret_cast<uintptr_t>(whole.raw_data()) % 16 == 0;
  for (const BilinearBranch& branch : branches) {
    fit = fit && branch.channels % kPackWidth<T> == 0;
    if (branch.x.defined()) fit = fit && reinterpret_cast<uintptr_t>(branch.x.raw_data()) % 16 == 0;
  }
  return fit;
}

template <class T, class Fn>
void with_width(bool packs, Fn&& fn) {
  if (packs) return fn.template operator()<kPackWidth<T>>();
  fn.template operator()<1>();
}

// --- forward ---

template <class T>
struct ForwardBranch {
  const T* x;
  int64_t h, w, channels, offset;
  Constant<Wide<T>> shift, scale;
  Tile tile;
  unsigned first_column;  // of its columns of blocks among those of all branches
};

template <class T>
struct ForwardPlan {
  ForwardBranch<T> branches[kMostBranches];
  int count;
  unsigned columns;  // of all branches
  Rectangle rectangle;
  int64_t out_h, out_w, channels;  // inside the border; of y
  int64_t pad_h, pad_w;
  const Wide<T>* border;
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

template <class T, int N>
__global__ void __launch_bounds__(kThreads, 3)
    bilinear_forward_kernel(const __grid_constant__ ForwardPlan<T> plan, T* __restrict__ y) {
  using W = Wide<T>;
  __shared__ Tap<W> taps[kMostColumns + kMostRows];  // columns, then rows
  const Rectangle& rectangle = plan.rectangle;
  const unsigned slot = blockIdx.x % plan.columns;
  int which = 0;
  while (which + 1 < plan.count && slot >= plan.branches[which + 1].first_column) ++which;
  const ForwardBranch<T>& branch = plan.branches[which];
  const unsigned place = blockIdx.x / plan.columns, rows_of_rectangles = place / rectangle.across;
  const int64_t image = rows_of_rectangles / rectangle.down;
  const int64_t left = int64_t(place % rectangle.across) * rectangle.width();
  const int64_t top = int64_t(rows_of_rectangles % rectangle.down) * rectangle.height;

  const int64_t row_length = branch.w * branch.channels;
  const int width = rectangle.width();
  for (int i = int(threadIdx.x); i < width + rectangle.height; i += kThreads) {
    taps[i] = i < width ? tap_of<W>(left + i - plan.pad_w, branch.w, plan.out_w, plan.align_corners, 0, branch.channels)
                        : tap_of<W>(top + (i - width) - plan.pad_h, branch.h, plan.out_h, plan.align_corners,
                                    image * branch.h * row_length, row_length);
  }
  __syncthreads();

  const int lanes = branch.tile.lanes, height = branch.tile.height;
  const int lane = int(threadIdx.x) % lanes, first = int(threadIdx.x) / lanes;
  const int64_t channel = (int64_t(slot - branch.first_column) * lanes + lane) * N;
  if (channel >= branch.channels || first >= height) return;
  W shift[N], scale[N];
  Pack<T, N> border;
  for (int i = 0; i < N; ++i) {
    shift[i] = branch.shift.at(channel + i, W(0));
    scale[i] = branch.scale.at(channel + i, W(1));
    border[i] = T(plan.border == nullptr ? W(0) : plan.border[branch.offset + channel + i]);
  }
  const int64_t full_h = plan.out_h + 2 * plan.pad_h, full_w = plan.out_w + 2 * plan.pad_w;
  const int columns_here = int(std::min<int64_t>(width, full_w - left)),
            rows_here = int(std::min<int64_t>(rectangle.height, full_h - top));
  const T* x = branch.x + channel;
  T* to = y + ((image * full_h + top) * full_w + left) * plan.channels + branch.offset + channel;

  EQ_UNROLL(2)
  for (int pixel = first; pixel < rectangle.pixels(); pixel += height) {
    const int row_of_pixel = pixel >> rectangle.shift, column_of_pixel = pixel & (width - 1);
    if (row_of_pixel >= rows_here || column_of_pixel >= columns_here) continue;
    T* out = to + (row_of_pixel * full_w + column_of_pixel) * plan.channels;
    const Tap<W> row = taps[width + row_of_pixel], column = taps[column_of_pixel];
    if (row.at < 0 || column.at < 0) {
      store_pack(out, border);
      continue;
    }
    const bool two_rows = row.upper > W(0), two_columns = column.upper > W(0);
    const T* from = x + (row.at + column.at);
    Pack<T, N> b{}, c{}, d{};
    const Pack<T, N> a = load_pack<T, N>(from);
    if (two_columns) b = load_pack<T, N>(from + branch.channels);
    if (two_rows) c = load_pack<T, N>(from + row_length);
    if (two_rows && two_columns) d = load_pack<T, N>(from + row_length + branch.channels);
    Pack<T, N> result;
    for (int i = 0; i < N; ++i) {
      W value = W(a[i]), next = W(b[i]);
      if (two_rows) {
        value = row.lower * value + row.upper * W(c[i]);
        next = row.lower * next + row.upper * W(d[i]);
      }
      if (two_columns) value = column.lower * value + column.upper * next;
      result[i] = T((value - shift[i]) * scale[i]);
    }
    store_pack(out, result);
  }
}

template <class T, int N>
void forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border) {
  const int64_t images = y.size(0), full_h = y.size(1), full_w = y.size(2), channels = y.size(3);
  ForwardPlan<T> plan{};
  plan.out_h = full_h - 2 * border.rows, plan.out_w = full_w - 2 * border.columns, plan.channels = channels;
  plan.pad_h = border.rows, plan.pad_w = border.columns;
  plan.border = data<Wide<T>>(border.values);
  plan.align_corners = align_corners;
  int tallest = 1;
  const auto run = [&] {
    if (plan.count == 0) return;
    // Four pixels per thread, and enough of them for their rows and columns to be worth computing.
    plan.rectangle = Rectangle(full_h, full_w, std::max(128, 4 * tallest));
    launch(y.device(), "bilinear",
           Grid{blocks_for(images * plan.rectangle.across * plan.rectangle.down * plan.columns, 1), kThreads},
           bilinear_forward_kernel<T, N>, plan, data<T>(y));
    plan.count = 0, plan.columns = 0, tallest = 1;
  };
  int64_t offset = 0;
  for (const BilinearBranch& branch : branches) {
    if (branch.x.defined() && branch.x.numel() > 0) {
      const Tile tile = tile_of(branch.channels / N, N, full_h * full_w);
      plan.branches[plan.count++] = {data<T>(branch.x),
                                     branch.x.size(1),
                                     branch.x.size(2),
                                     branch.channels,
                                     offset,
                                     Constant<Wide<T>>(branch.shift),
                                     Constant<Wide<T>>(branch.scale),
                                     tile,
                                     plan.columns};
      plan.columns += columns_of(tile);
      tallest = std::max(tallest, tile.height);
      if (plan.count == kMostBranches) run();
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
  Tile tile;
  Rectangle rectangle;
  unsigned first_block;
};

template <class From, class To>
struct GatherPlan {
  GatherBranch<From, To> branches[kMostBranches];
  int count;
  unsigned blocks;
  Reading reading;
};

// What a row or column of cells gathers: `count` outputs from `at` on (in elements), the k-th with the weight
// 1 - |t| where t = start + k step, cut off at the borders to [low, high].
template <class W>
struct Reach {
  int64_t at;
  int count;
  W start, low, high;

  __device__ W weight(int k, W step) const {
    const W t = start + W(k) * step;
    return W(1) - std::abs(std::max(low, std::min(high, t)));
  }
};

// The steps of a cell's weights: of the source coordinate from one output to the next.
template <class W>
__device__ W step_of(int64_t in, int64_t out, Reading reading) {
  if (reading == Reading::kNearest || (reading == Reading::kAlignedCorners && out == 1)) return W(0);
  return reading == Reading::kAlignedCorners ? W(double(in - 1) / double(out - 1)) : W(double(in) / double(out));
}

template <class W>
__device__ Reach<W> reach_of(int64_t cell, int64_t in, int64_t out, Reading reading, int64_t stride) {
  if (cell >= in) return {0, 0, W(0), W(0), W(0)};
  if (reading == Reading::kNearest) {
    const int64_t begin = nearest_begin(cell, in, out);
    return {begin * stride, int(nearest_begin(cell + 1, in, out) - begin), W(0), W(0), W(0)};
  }
  const bool align_corners = reading == Reading::kAlignedCorners;
  const int64_t begin = bilinear_begin(cell, in, out, align_corners), end = bilinear_end(cell, in, out, align_corners);
  const BilinearCoordinate s = bilinear_coordinate(begin, in, out, align_corners);
  return {begin * stride, int(end - begin), W(double(s.numerator - cell * s.denominator) / double(s.denominator)),
          W(cell == 0 ? 0 : -1), W(cell == in - 1 ? 0 : 1)};
}

template <class From, class To, int N>
__global__ void __launch_bounds__(kThreads, 3) resize_backward_kernel(const __grid_constant__ GatherPlan<From, To> plan) {
  using W = Wide<To>;
  __shared__ Reach<W> reaches[kMostColumns + kMostRows];  // columns, then rows
  int which = 0;
  while (which + 1 < plan.count && blockIdx.x >= plan.branches[which + 1].first_block) ++which;
  const GatherBranch<From, To>& branch = plan.branches[which];
  const Rectangle& rectangle = branch.rectangle;
  const unsigned block = blockIdx.x - branch.first_block, columns = unsigned(branch.tile.columns);
  const unsigned place = block / columns, rows_of_rectangles = place / rectangle.across;
  const int64_t image = rows_of_rectangles / rectangle.down;
  const int64_t left = int64_t(place % rectangle.across) * rectangle.width();
  const int64_t top = int64_t(rows_of_rectangles % rectangle.down) * rectangle.height;
  const int width = rectangle.width();
  for (int i = int(threadIdx.x); i < width + rectangle.height; i += kThreads) {
    reaches[i] = i < width ? reach_of<W>(left + i, branch.w, branch.out_w, plan.reading, branch.pixel_stride)
                           : reach_of<W>(top + (i - width), branch.h, branch.out_h, plan.reading, branch.row_stride);
  }
  __syncthreads();

  const int lanes = branch.tile.lanes, height = branch.tile.height;
  const int lane = int(threadIdx.x) % lanes, first = int(threadIdx.x) / lanes;
  const int64_t channel = (int64_t(block % columns) * lanes + lane) * N;
  if (channel >= branch.channels || first >= height) return;
  const From* images = branch.from + image * branch.image_stride + channel;
  const W row_step = step_of<W>(branch.h, branch.out_h, plan.reading),
          column_step = step_of<W>(branch.w, branch.out_w, plan.reading);
  for (int cell = first; cell < rectangle.pixels(); cell += height) {
    const int64_t i = top + (cell >> rectangle.shift), j = left + (cell & (width - 1));
    if (i >= branch.h || j >= branch.w) continue;
    const Reach<W> row = reaches[width + (cell >> rectangle.shift)], column = reaches[cell & (width - 1)];
    const From* from = images + (row.at + column.at);
    W sum[N] = {};
    for (int p = 0; p < row.count; ++p, from += branch.row_stride) {
      const W row_weight = row.weight(p, row_step);
      EQ_UNROLL(4)
      for (int q = 0; q < column.count; ++q) {
        const Pack<From, N> g = load_pack<From, N>(from + q * branch.pixel_stride);
        const W weight = row_weight * column.weight(q, column_step);
        for (int k = 0; k < N; ++k) sum[k] += weight * W(g[k]);
      }
    }
    Pack<To, N> result;
    for (int k = 0; k < N; ++k) result[k] = To(sum[k] * branch.scale.at(channel + k, W(1)));
    store_pack(branch.to + ((image * branch.h + i) * branch.w + j) * branch.channels + channel, result);
  }
}

template <class From, class To, int N>
struct Gather {
  Device device;
  GatherPlan<From, To> plan{};

  Gather(Device device, Reading reading) : device(device) { plan.reading = reading; }

  void add(GatherBranch<From, To> branch, int64_t images) {
    branch.tile = tile_of(branch.channels / N, N, branch.h * branch.w);
    branch.rectangle = Rectangle(branch.h, branch.w, branch.tile.height);
    branch.first_block = plan.blocks;
    plan.blocks =
        blocks_for(plan.blocks + images * branch.rectangle.across * branch.rectangle.down * columns_of(branch.tile), 1);
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
      if (out_h <= h || out_w <= w || out_h * out_w <= kMostReads / 4 * h * w) {
        whole.add({from, image_stride, row_stride, channels, data<T>(branch.x), h, w, out_h, out_w, c, scale, {}, {}, 0},
                  images);
      } else {
        between.push_back(Tensor::empty({images, out_h, w, c}, dtype_of<W>::value, grad_y.device()));
        W* sums = data<W>(between.back());
        columns.add({from, image_stride, row_stride, channels, sums, out_h, w, out_h, out_w, c, {}, {}, {}, 0}, images);
        rows.add({sums, out_h * w * c, w * c, c, data<T>(branch.x), h, w, out_h, w, c, scale, {}, {}, 0}, images);
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
