// Adjoint of the bilinear kernels and of nearest, in gather form. A thread has one pack of channels of a column of cells, and
// walks down the rows of outputs that a chunk of its cells is read by: of each row it gathers the outputs that read its column,
// and adds their sum to the two cells that the row reads. Neighbouring chunks share a few rows of outputs.
// Where a cell has many outputs along both axes there are few threads, so columns are gathered first, into [N, out_h, w, C]
// sums in Wide<T>, and rows from there.

#include "cuda/kernels/bilinear_cuda.h"
#include "cuda/strips.h"
#include "cuda/tile.h"

namespace eq::cuda {
namespace {

constexpr int64_t kMostReads = 16;  // of a cell in one step; above, columns first
constexpr int kHeld = 4;            // weights of a column's outputs that a thread keeps

template <class From, class To>
struct GatherBranch {
  const From* from;  // [N, out_h, out_w, channels] inside a larger array
  int64_t image_stride, row_stride, pixel_stride;
  To* to;  // [N, h, w, channels]
  int64_t h, w, out_h, out_w, channels;
  Constant<Wide<To>> scale;
  const AxisTap<Wide<To>>* row_taps;                // [out_h]
  const AxisReach<Wide<To>>*row_reaches, *reaches;  // [h], [w]
  // block = ((image * down + chunk) * across + cells) * tile.columns + channels; a tile is `height` cells wide
  Tile tile;
  unsigned across, down;
  int rows;  // of cells, of a chunk
  unsigned first_block;
};

template <class From, class To>
struct GatherPlan {
  GatherBranch<From, To> branches[kMostBranches];
  int count;
  unsigned blocks;
};

template <class From, class To, int N>
__global__ void __launch_bounds__(kThreads, sizeof(To) == 8 ? 2 : sizeof(From) == 4 ? 4 : 3)
    resize_backward_kernel(const __grid_constant__ GatherPlan<From, To> plan) {
  using W = Wide<To>;
  const GatherBranch<From, To>& branch = branch_of_block(plan.branches, plan.count);
  const int lanes = branch.tile.lanes, height = branch.tile.height;
  const int lane = int(threadIdx.x) % lanes, own = int(threadIdx.x) / lanes;
  unsigned place = blockIdx.x - branch.first_block;
  const int pack = int(place % unsigned(branch.tile.columns)) * lanes + lane, channel = pack * N;
  place /= unsigned(branch.tile.columns);
  const int left = int(place % branch.across) * height, column = left + own;
  place /= branch.across;
  const int top = int(place % branch.down) * branch.rows;
  const int64_t image = place / branch.down, h = branch.h, w = branch.w;
  const int last = int(std::min<int64_t>(top + branch.rows, h)) - 1;

  if (own >= height || column >= w || channel >= branch.channels) return;
  const auto end_of = [](const AxisReach<W>& reach) { return reach.begin + reach.count; };
  const int first_output = branch.row_reaches[top].begin, count = end_of(branch.row_reaches[last]) - first_output;

  const AxisReach<W> reach = branch.reaches[column];
  W weights[kHeld];
  for (int q = 0; q < kHeld; ++q) weights[q] = reach.weight(q);
  const From* from = branch.from + image * branch.image_stride + first_output * branch.row_stride +
                     int64_t(reach.begin) * branch.pixel_stride + channel;

  // Sums of the cells `cell` and `cell` + 1 of the column. The row of cells above the chunk is the neighbour's.
  W lower[N] = {}, upper[N] = {};
  int cell = top - 1;
  To* to = branch.to + ((image * h + top) * w + column) * branch.channels + channel;
  const auto finish_cell = [&] {
    if (cell >= top) {
      W scale[N];
      branch.scale.template load<N>(channel, W(1), scale);
      Pack<To, N> result;
      for (int k = 0; k < N; ++k) result[k] = To(lower[k] * scale[k]);
      store_pack(to, result);
      to += w * branch.channels;
    }
    for (int k = 0; k < N; ++k) lower[k] = upper[k], upper[k] = W(0);
    ++cell;
  };
  for (int row = 0; row < count; ++row, from += branch.row_stride) {
    const AxisTap<W> tap = branch.row_taps[first_output + row];
    Pack<From, N> held[kHeld] = {};
    for (int q = 0; q < kHeld; ++q) {
      if (q < reach.count) held[q] = load_pack<From, N>(from + q * branch.pixel_stride);
    }
    W sum[N] = {};
    for (int q = 0; q < kHeld; ++q) {
      if (q < reach.count) {
        W g[N];
        widen(held[q], g);
        for (int k = 0; k < N; ++k) sum[k] += weights[q] * g[k];
      }
    }
    EQ_UNROLL(4)
    for (int q = kHeld; q < reach.count; ++q) {
      W g[N];
      widen(load_pack<From, N>(from + q * branch.pixel_stride), g);
      const W weight = reach.weight(q);
      for (int k = 0; k < N; ++k) sum[k] += weight * g[k];
    }
    while (cell < tap.cell) finish_cell();
    for (int k = 0; k < N; ++k) lower[k] += tap.lower * sum[k];
    if (tap.upper > W(0)) {
      for (int k = 0; k < N; ++k) upper[k] += tap.upper * sum[k];
    }
  }
  while (cell <= last) finish_cell();
}

// Branches of one launch.
template <class From, class To, int N>
struct Gather {
  Device device;
  GatherPlan<From, To> plan{};
  Reading reading;
  std::vector<Axis<Wide<To>>> axes{};  // their memory lives until the launch

  Gather(Device device, Reading reading) : device(device), reading(reading) {}

  void add(GatherBranch<From, To> branch, int64_t images) {
    const Tile tile = tile_of(branch.channels / N, int(N * sizeof(From)), branch.w);
    const int64_t across = (branch.w + tile.height - 1) / tile.height;
    const int64_t rows = std::clamp<int64_t>(images * branch.h * across * tile.columns / 1024, 1, std::min<int64_t>(16, branch.h));
    branch.tile = tile, branch.across = unsigned(across), branch.rows = int(rows);
    branch.down = unsigned((branch.h + rows - 1) / rows);
    branch.first_block = plan.blocks;
    plan.blocks = blocks_for(plan.blocks + images * branch.down * across * tile.columns, 1);
    axes.push_back(axis_of<Wide<To>>(device, branch.h, branch.out_h, reading));
    axes.push_back(axis_of<Wide<To>>(device, branch.w, branch.out_w, reading));
    branch.row_taps = axes.end()[-2].taps, branch.row_reaches = axes.end()[-2].reaches, branch.reaches = axes.end()[-1].reaches;
    plan.branches[plan.count++] = branch;
  }
  bool full() const { return plan.count == kMostBranches; }
  void run() {
    if (plan.count == 0) return;
    launch(device, "bilinear adjoint", Grid{plan.blocks, kThreads}, resize_backward_kernel<From, To, N>, plan);
    *this = Gather(device, reading);
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
      const GatherBranch<T, T> one{.from = from, .image_stride = image_stride, .row_stride = row_stride, .pixel_stride = channels,
                                   .to = data<T>(branch.x), .h = h, .w = w, .out_h = out_h, .out_w = out_w, .channels = c,
                                   .scale = Constant<W>(branch.scale)};
      if (h == out_h && w == out_w) {
        affine_copy<T, N>(grad_y.device(), branch.x.shape(), c, from, {image_stride, row_stride, channels}, data<T>(branch.x),
                          {h * w * c, w * c, c}, {}, Constant<W>(branch.scale));
      } else if (out_h <= h || out_w <= w || out_h * out_w <= kMostReads * h * w) {
        whole.add(one, images);
      } else {
        between.push_back(Tensor::empty({images, out_h, w, c}, dtype_of<W>::value, grad_y.device()));
        W* sums = data<W>(between.back());
        columns.add({.from = from, .image_stride = image_stride, .row_stride = row_stride, .pixel_stride = channels, .to = sums,
                     .h = out_h, .w = w, .out_h = out_h, .out_w = out_w, .channels = c}, images);
        rows.add({.from = sums, .image_stride = out_h * w * c, .row_stride = w * c, .pixel_stride = c, .to = data<T>(branch.x),
                  .h = h, .w = w, .out_h = out_h, .out_w = w, .channels = c, .scale = one.scale}, images);
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

void resize_backward(const Tensor& grad_y, const std::vector<BilinearBranch>& branches, Reading reading,
                     const BilinearBorder& border) {
  if (grad_y.numel() == 0) return;
  dispatch(grad_y.dtype(), "resize", [&]<typename T>() {
    with_branch_packs<T>(grad_y, branches, [&]<int N>() { backward<T, N>(grad_y, branches, reading, border); });
  });
}

}  // namespace eq::cuda
