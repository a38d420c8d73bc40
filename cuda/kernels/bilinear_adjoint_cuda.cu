// Adjoint of the bilinear kernels and of nearest, in gather form. A thread has one pack of channels of a column of cells, and
// walks down the rows of outputs that a chunk of its cells is read by: of each row it gathers the outputs that read its column,
// and adds their sum to the two cells that the row reads. Neighbouring chunks share a few rows of outputs.
// Where more outputs read a column than a thread holds, several threads of a warp share the column, each with every so many-th of
// them, and add up when a cell is finished.
// Where a cell has very many outputs there are few threads, so columns are gathered first, into [N, out_h, w, C] sums in Wide<T>,
// and rows from there.

#include <span>

#include "cuda/kernels/bilinear_cuda.h"
#include "cuda/strips.h"
#include "cuda/tile.h"

namespace eq::cuda {
namespace {

constexpr int64_t kMostReads = 64;  // of a cell in one step; above, columns first
constexpr int kMostRows = 64;       // of cells, of a chunk

// A row's outputs that a thread reads at once.
template <int N>
constexpr int kTaps = N == 1 ? 8 : 4;

// Blocks that a multiprocessor is to hold at once, as many as their registers allow.
template <class From, class To, int N>
constexpr int kResident = sizeof(To) == 8 || N * sizeof(From) > 16 ? 2 : N == 8 ? 3 : 4;

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
  int parts, rounds;  // threads that share a column; times kTaps outputs that each of them reads
  int rows;           // of cells, of a chunk
  unsigned first_block;
};

template <class From, class To>
struct GatherPlan {
  GatherBranch<From, To> branches[kMostBranches];
  int count;
};

template <class From, class To, int N>
__global__ void __launch_bounds__(kThreads, kResident<From, To, N>)
    resize_backward_kernel(const __grid_constant__ GatherPlan<From, To> plan) {
  using W = Wide<To>;
  const GatherBranch<From, To>& branch = branch_of_block(plan.branches, plan.count);
  const int lanes = branch.tile.lanes, height = branch.tile.height, parts = branch.parts;
  const int lane = int(threadIdx.x) % lanes, group = int(threadIdx.x) / lanes, part = group % parts, own = group / parts;
  unsigned place = blockIdx.x - branch.first_block;
  const int channel = (int(place % unsigned(branch.tile.columns)) * lanes + lane) * N;
  place /= unsigned(branch.tile.columns);
  const int column = int(place % branch.across) * height + own;
  place /= branch.across;
  const int top = int(place % branch.down) * branch.rows;
  const int64_t image = place / branch.down;
  const int h = int(branch.h), w = int(branch.w), last = std::min(top + branch.rows, h) - 1;
  const bool active = own < height && column < w && channel < branch.channels;
  if (parts == 1 && !active) return;  // else the threads of the column meet
  const AxisReach<W> first_rows = branch.row_reaches[top], last_rows = branch.row_reaches[last];
  const AxisTap<W>* row = branch.row_taps + first_rows.begin;
  const AxisTap<W>* end = branch.row_taps + last_rows.begin + last_rows.count;

  W weights[kTaps<N>];
  int offsets[kTaps<N>];
  bool has[kTaps<N>];
  const AxisReach<W> reach = branch.reaches[active ? column : 0];
  for (int q = 0; q < kTaps<N>; ++q) {
    const int k = q * parts + part;
    weights[q] = reach.weight(k);
    offsets[q] = q * parts * int(branch.pixel_stride);
    has[q] = active && k < reach.count;
  }
  const From* from = branch.from + image * branch.image_stride + first_rows.begin * branch.row_stride +
                     int64_t(reach.begin + part) * branch.pixel_stride + channel;
  W scale[N];
  branch.scale.template load<N>(active ? channel : 0, W(1), scale);

  // Sums of the cells `cell` and `cell` + 1 of the column. The row of cells above the chunk is the neighbour's.
  W lower[N] = {}, upper[N] = {};
  int cell = top - 1;
  To* to = branch.to + ((image * h + top) * w + column) * branch.channels + channel;
  const auto finish_cell = [&] {
    if (cell >= top) {
      EQ_UNROLL(1)
      for (int distance = lanes; distance < lanes * parts; distance *= 2) {
        for (int k = 0; k < N; ++k) lower[k] += __shfl_xor_sync(0xffffffffu, lower[k], distance);
      }
      if (part == 0 && active) {
        Pack<To, N> result;
        for (int k = 0; k < N; ++k) result[k] = To(lower[k] * scale[k]);
        store_pack(to, result);
      }
      to += w * branch.channels;
    }
    for (int k = 0; k < N; ++k) lower[k] = upper[k], upper[k] = W(0);
    ++cell;
  };
  Held<From, N> held[kTaps<N>] = {};  // what is not read stays 0
  EQ_UNROLL(1)
  for (; row < end; ++row, from += branch.row_stride) {
    const AxisTap<W> tap = *row;
    for (int q = 0; q < kTaps<N>; ++q) {
      if (has[q]) held[q] = load_held<From, N>(from + offsets[q]);
    }
    W sum[N];
    for (int q = 0; q < kTaps<N>; ++q) {
      W g[N];
      widen(held[q], g);
      for (int k = 0; k < N; ++k) sum[k] = q == 0 ? weights[q] * g[k] : sum[k] + weights[q] * g[k];
    }
    EQ_UNROLL(1)
    for (int round = 1; round < branch.rounds; ++round) {
      const AxisReach<W> again = branch.reaches[active ? column : 0];
      for (int q = 0; q < kTaps<N>; ++q) {
        const int begin = (round * kTaps<N> + q) * parts;
        if (!active || begin + part >= again.count) continue;
        W g[N];
        widen(load_pack<From, N>(from + begin * branch.pixel_stride), g);
        const W weight = again.weight(begin + part);
        for (int k = 0; k < N; ++k) sum[k] += weight * g[k];
      }
    }
    EQ_UNROLL(1)
    while (cell < tap.cell) finish_cell();
    for (int k = 0; k < N; ++k) lower[k] += tap.lower * sum[k];
    if (tap.upper > W(0)) {
      for (int k = 0; k < N; ++k) upper[k] += tap.upper * sum[k];
    }
  }
  EQ_UNROLL(1)
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

  void add(GatherBranch<From, To> branch) {
    axes.push_back(axis_of<Wide<To>>(device, branch.h, branch.out_h, reading));
    branch.row_taps = axes.back().taps, branch.row_reaches = axes.back().reaches;
    axes.push_back(axis_of<Wide<To>>(device, branch.w, branch.out_w, reading));
    branch.reaches = axes.back().reaches;
    const int64_t reads = axes.back().most_reads, packs = branch.channels / N;
    branch.tile = tile_of(packs, int(N * sizeof(From)), branch.w);
    branch.parts = 1;
    while (branch.parts < kWarp && branch.parts * kTaps<N> < reads) branch.parts *= 2;
    if (branch.parts > 1) {  // a warp has the parts of as many packs as it can
      const int lanes = kWarp / branch.parts;
      branch.tile = {lanes, kThreads / kWarp, int((packs + lanes - 1) / lanes)};
    }
    branch.rounds = int((reads + kTaps<N> * branch.parts - 1) / (kTaps<N> * branch.parts));
    branch.across = unsigned((branch.w + branch.tile.height - 1) / branch.tile.height);
    plan.branches[plan.count++] = branch;
  }
  bool full() const { return plan.count == kMostBranches; }
  void run(int64_t images) {
    if (plan.count == 0) return;
    // Few long chunks share few rows of outputs: as many as run at once are best (on an H200), of one branch twice that.
    const int64_t wanted = plan.count == 1 ? 768 : 384;
    unsigned blocks = 0;
    for (GatherBranch<From, To>& branch : std::span(plan.branches, size_t(plan.count))) {
      const int64_t side_by_side = images * branch.across * branch.tile.columns;
      const int64_t most = std::min<int64_t>(kMostRows, branch.h);
      const int64_t rows = std::clamp<int64_t>(side_by_side * branch.h * plan.count / wanted, 1, most);
      branch.down = unsigned((branch.h + rows - 1) / rows);
      branch.rows = int((branch.h + branch.down - 1) / branch.down);  // chunks alike
      branch.first_block = blocks;
      blocks = blocks_for(blocks + side_by_side * branch.down, 1);
    }
    launch(device, "bilinear adjoint", Grid{blocks, kThreads}, resize_backward_kernel<From, To, N>, plan);
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
        whole.add(one);
      } else {
        between.push_back(Tensor::empty({images, out_h, w, c}, dtype_of<W>::value, grad_y.device()));
        W* sums = data<W>(between.back());
        columns.add({.from = from, .image_stride = image_stride, .row_stride = row_stride, .pixel_stride = channels, .to = sums,
                     .h = out_h, .w = w, .out_h = out_h, .out_w = out_w, .channels = c});
        rows.add({.from = sums, .image_stride = out_h * w * c, .row_stride = w * c, .pixel_stride = c, .to = data<T>(branch.x),
                  .h = h, .w = w, .out_h = out_h, .out_w = w, .channels = c, .scale = one.scale});
      }
    }
    from += branch.channels;
    if (whole.full()) whole.run(images);
    if (columns.full()) columns.run(images), rows.run(images);
  }
  whole.run(images);
  columns.run(images);
  rows.run(images);
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
