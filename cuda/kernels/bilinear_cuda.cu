// A thread has one pack of channels of one column of an image's row, and walks down a chunk of rows (cuda/strips.h). What
// belongs to the column is read once per thread.
// The thread keeps the two source rows that it is between, interpolated across and equalized, in registers: when it passes a
// source row, one new row is read.
//
// The adjoint: bilinear_adjoint_cuda.cu.

#include "cuda/kernels/bilinear_cuda.h"
#include "cuda/strips.h"

namespace eq::cuda {
namespace {

template <class T>
struct ForwardBranch {
  const T* x;
  const AxisTap<Wide<T>>*rows, *columns;
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
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : 4)
    bilinear_forward_kernel(const __grid_constant__ ForwardPlan<T> plan, T* __restrict__ y) {
  using W = Wide<T>;
  const ForwardBranch<T>& branch = branch_of_block(plan.branches, plan.count);
  const Place place(branch.strips, blockIdx.x - branch.first_block, N);
  const int full_h = int(plan.out_h + 2 * plan.pad_h), full_w = int(plan.out_w + 2 * plan.pad_w);
  const int count = std::min(branch.strips.rows, full_h - place.top);
  if (int(place.column) >= full_w) return;
  // Columns and rows outside are the border.
  const int own_column = int(place.column) - int(plan.pad_w), first_row = place.top - int(plan.pad_h);
  const bool inside = own_column >= 0 && own_column < plan.out_w;
  AxisTap<W> column = inside ? branch.columns[own_column] : AxisTap<W>{};
  // What no second column is read for has two halves of its only one: exactly that, and infinities stay what they are.
  const int64_t next = column.upper > W(0) ? branch.channels : 0;
  if (next == 0) column.lower = column.upper = W(0.5);
  W shift[N], scale[N];
  branch.shift.template load<N>(place.channel, W(0), shift);
  branch.scale.template load<N>(place.channel, W(1), scale);
  const int64_t row_length = branch.w * branch.channels;
  const T* x = branch.x + place.image * branch.h * row_length + column.cell * branch.channels + place.channel;
  T* to = y + ((place.image * full_h + place.top) * full_w + place.column) * plan.channels + branch.offset + place.channel;
  const int64_t down = full_w * plan.channels;

  // A source row, interpolated across and equalized: there are fewer of them than of results, and weights add up to 1.
  const auto read_across = [&](int row, W (&out)[N]) {
    const T* from = x + row * row_length;
    const Pack<T, N> a = load_pack<T, N>(from), b = load_pack<T, N>(from + next);
    W left[N], right[N];
    widen(a, left);
    widen(b, right);
    for (int i = 0; i < N; ++i) out[i] = (column.lower * left[i] + column.upper * right[i] - shift[i]) * scale[i];
  };
  W lower[N] = {}, upper[N] = {};  // the rows lower_row and upper_row of the source
  int lower_row = -1, upper_row = -1;
  for (int r = 0; r < count; ++r, to += down) {
    Pack<T, N> result;
    const int row = first_row + r;
    if (!inside || row < 0 || row >= plan.out_h) {
      W border[N];
      plan.border.template load<N>(branch.offset + place.channel, W(0), border);
      for (int i = 0; i < N; ++i) result[i] = T(border[i]);
      store_pack(to, result);
      continue;
    }
    const AxisTap<W> tap = branch.rows[row];
    if (tap.cell != lower_row) {
      if (tap.cell == upper_row) {
        for (int i = 0; i < N; ++i) lower[i] = upper[i];
      } else {
        read_across(tap.cell, lower);
      }
      lower_row = tap.cell;
    }
    const bool between = tap.upper > W(0);
    if (between && upper_row != tap.cell + 1) {
      upper_row = tap.cell + 1;
      read_across(upper_row, upper);
    }
    if (between) {
      for (int i = 0; i < N; ++i) result[i] = T(tap.lower * lower[i] + tap.upper * upper[i]);
    } else {
      for (int i = 0; i < N; ++i) result[i] = T(lower[i]);
    }
    store_pack(to, result);
  }
}

template <class T, int N>
void forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners, const BilinearBorder& border) {
  const int64_t images = y.size(0), full_h = y.size(1), full_w = y.size(2), channels = y.size(3);
  ForwardPlan<T> plan{};
  plan.out_h = full_h - 2 * border.rows, plan.out_w = full_w - 2 * border.columns, plan.channels = channels;
  plan.pad_h = border.rows, plan.pad_w = border.columns;
  plan.border = Constant<Wide<T>>(border.values);
  const Reading reading = align_corners ? Reading::kAlignedCorners : Reading::kBilinear;
  std::vector<Axis<Wide<T>>> axes;  // their memory lives until the launches
  unsigned blocks = 0;
  const auto run = [&] {
    if (plan.count == 0) return;
    launch(y.device(), "bilinear", Grid{blocks, kThreads}, bilinear_forward_kernel<T, N>, plan, data<T>(y));
    plan.count = 0, blocks = 0;
  };
  int64_t offset = 0;
  for (const BilinearBranch& branch : branches) {
    if (branch.x.defined() && branch.x.numel() > 0) {
      const int64_t h = branch.x.size(1), w = branch.x.size(2), c = branch.channels;
      const Constant<Wide<T>> shift(branch.shift), scale(branch.scale);
      if (h == full_h && w == full_w && border.rows == 0 && border.columns == 0) {
        affine_copy<T, N>(y.device(), branch.x.shape(), c, data<T>(branch.x), {h * w * c, w * c, c}, data<T>(y) + offset,
                          {h * w * channels, w * channels, channels}, shift, scale);
      } else {
        axes.push_back(axis_of<Wide<T>>(y.device(), h, plan.out_h, reading));
        axes.push_back(axis_of<Wide<T>>(y.device(), w, plan.out_w, reading));
        const Strips strips(images, full_h, full_w, c / N, 2048, 32);
        plan.branches[plan.count++] = {
            data<T>(branch.x), axes.end()[-2].taps, axes.end()[-1].taps, h, w, c, offset, shift, scale, strips, blocks};
        blocks = blocks_for(blocks + strips.blocks(images), 1);
        if (plan.count == kMostBranches) run();
      }
    }
    offset += branch.channels;
  }
  run();
}

}  // namespace

void bilinear_forward(const std::vector<BilinearBranch>& branches, Tensor& y, bool align_corners,
                      const BilinearBorder& border) {
  if (y.numel() == 0) return;
  dispatch(y.dtype(), "resize_bilinear", [&]<typename T>() {
    with_branch_packs<T>(y, branches, [&]<int N>() { forward<T, N>(branches, y, align_corners, border); });
  });
}

}  // namespace eq::cuda
