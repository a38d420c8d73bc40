// A thread has one pack of channels of one column of an image's row, and walks down a chunk of rows (cuda/strips.h). What
// belongs to the column is read once per thread.
// The thread keeps the two source rows that it is between, interpolated across, in registers: when it passes a source row, one
// new row is read.
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

// A source row, interpolated across.
template <class T, int N>
__device__ void read_across(const T* row, const AxisTap<Wide<T>>& column, int64_t next, Wide<T> (&out)[N]) {
  using W = Wide<T>;
  if (column.upper > W(0)) {
    const Pack<T, N> a = load_pack<T, N>(row), b = load_pack<T, N>(row + next);
    W left[N], right[N];
    widen(a, left);
    widen(b, right);
    for (int i = 0; i < N; ++i) out[i] = column.lower * left[i] + column.upper * right[i];
  } else {
    widen(load_pack<T, N>(row), out);
  }
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads, sizeof(T) == 8 ? 2 : sizeof(T) == 4 ? 4 : 3)
    bilinear_forward_kernel(const __grid_constant__ ForwardPlan<T> plan, T* __restrict__ y) {
  using W = Wide<T>;
  const ForwardBranch<T>& branch = branch_of_block(plan.branches, plan.count);
  const Place place(branch.strips, blockIdx.x - branch.first_block, N);
  const int64_t full_h = plan.out_h + 2 * plan.pad_h, full_w = plan.out_w + 2 * plan.pad_w;
  const int64_t row_length = branch.w * branch.channels;
  const int count = int(std::min<int64_t>(branch.strips.rows, full_h - place.top));
  if (place.column >= full_w) return;
  // Columns and rows outside are the border.
  const int64_t own_column = int64_t(place.column) - plan.pad_w, first_row = place.top - plan.pad_h;
  const bool inside = own_column >= 0 && own_column < plan.out_w;
  const AxisTap<W> column = inside ? branch.columns[own_column] : AxisTap<W>{};
  W shift[N], scale[N], border[N];
  branch.shift.template load<N>(place.channel, W(0), shift);
  branch.scale.template load<N>(place.channel, W(1), scale);
  const T* x = branch.x + place.image * branch.h * row_length + column.cell * branch.channels + place.channel;
  T* to = y + ((place.image * full_h + place.top) * full_w + place.column) * plan.channels + branch.offset + place.channel;
  const int64_t down = full_w * plan.channels;

  W lower[N] = {}, upper[N] = {};  // the rows lower_row and upper_row of the source
  int lower_row = -1, upper_row = -1;
  for (int r = 0; r < count; ++r, to += down) {
    Pack<T, N> result;
    if (!inside || first_row + r < 0 || first_row + r >= plan.out_h) {
      plan.border.template load<N>(branch.offset + place.channel, W(0), border);
      for (int i = 0; i < N; ++i) result[i] = T(border[i]);
      store_pack(to, result);
      continue;
    }
    const AxisTap<W> row = branch.rows[first_row + r];
    if (row.cell != lower_row) {
      if (row.cell == upper_row) {
        for (int i = 0; i < N; ++i) lower[i] = upper[i];
      } else {
        read_across<T, N>(x + row.cell * row_length, column, branch.channels, lower);
      }
      lower_row = row.cell;
    }
    const bool between = row.upper > W(0);
    if (between && upper_row != row.cell + 1) {
      upper_row = row.cell + 1;
      read_across<T, N>(x + upper_row * row_length, column, branch.channels, upper);
    }
    for (int i = 0; i < N; ++i) {
      const W value = between ? row.lower * lower[i] + row.upper * upper[i] : lower[i];
      result[i] = T((value - shift[i]) * scale[i]);
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
