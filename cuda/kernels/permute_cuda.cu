// The result is written in order, 16 bytes a thread where its last axis allows it. Where that axis steps through x, tiles of
// 32 x 32 pass through shared memory, so that both sides are touched in runs; if one side of the tiles is short, the strided
// reads stay in L1 anyway.

#include "core/kernels/permute.h"

#include "core/kernels/elementwise.h"
#include "cuda/bytes.h"
#include "cuda/divide.h"
#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {
namespace {

constexpr int kTile = 32, kTileRows = 8;  // a block of kTile x kTileRows threads moves a tile
constexpr int64_t kShort = 16;            // sides below are gathered

// i counts packs of the result; within one, x is read in a run or, where `repeated`, once.
template <class E, int N>
struct Gather {
  GatherPlan plan;
  const E* x;
  E* y;
  bool repeated;
  EQ_HOST_DEVICE void operator()(int64_t i) const {
    const E* from = x + plan.place(i);
    if constexpr (N == 1) {
      y[i] = *from;
    } else {
      Pack<E, N> values;
      if (repeated) {
        const E value = *from;
        for (int k = 0; k < N; ++k) values[k] = value;
      } else {
        values = load_pack<E, N>(from);
      }
      store_pack(y + i * N, values);
    }
  }
};

// Element by element, or in packs if the last axis is a run of x or repeats one element of it.
template <class E>
void gather(Device device, const char* name, int rank, const int64_t* extent, const int64_t* step, const E* x, E* y,
            int64_t numel) {
  const int last = rank - 1;
  const bool repeated = rank > 0 && step[last] == 0, in_runs = rank == 0 || step[last] <= 1;
  const int64_t run = rank == 0 ? 1 : in_runs ? extent[last] : 1;
  with_pack<E>(
      run,
      [&]<int N>() {
        GatherPlan plan(rank, extent, step);
        if (N > 1) plan.extent[last] = Divider(extent[last] / N), plan.step[last] = step[last] * N;
        for_each(device, name, numel / N, Gather<E, N>{plan, x, y, repeated});
      },
      repeated ? static_cast<const E*>(y) : x, y);
}

// The last axis of the result, "columns", steps through x by column_step; x's last axis, "rows", steps through the result by
// row_step.
struct TransposePlan {
  int64_t rows, columns, row_step, column_step;
  int64_t row_tiles, column_tiles;
  int batch_rank = 0;  // the axes that are neither
  int64_t extent[kMaxRank] = {}, from_step[kMaxRank] = {}, to_step[kMaxRank] = {};
};

template <class E>
__global__ void transpose_kernel(TransposePlan plan, const E* x, E* y) {
  __shared__ E tile[kTile][kTile + 1];
  int64_t rest = blockIdx.x;
  const int64_t first_row = rest % plan.row_tiles * kTile;
  rest /= plan.row_tiles;
  const int64_t first_column = rest % plan.column_tiles * kTile;
  rest /= plan.column_tiles;
  for (int axis = plan.batch_rank - 1; axis >= 0; --axis) {
    const int64_t index = rest % plan.extent[axis];
    rest /= plan.extent[axis];
    x += index * plan.from_step[axis];
    y += index * plan.to_step[axis];
  }
  const int along = int(threadIdx.x);
  for (int k = int(threadIdx.y); k < kTile; k += kTileRows) {
    if (first_row + along < plan.rows && first_column + k < plan.columns) {
      tile[k][along] = x[first_row + along + (first_column + k) * plan.column_step];
    }
  }
  __syncthreads();
  for (int k = int(threadIdx.y); k < kTile; k += kTileRows) {
    if (first_row + k < plan.rows && first_column + along < plan.columns) {
      y[(first_row + k) * plan.row_step + first_column + along] = tile[along][k];
    }
  }
}

TransposePlan plan_transpose(const PermutePlan& p) {
  const int last = p.rank - 1;
  int across = 0;
  while (p.step[across] != 1) ++across;
  TransposePlan plan;
  int64_t size = 1;  // of what lies behind an axis, in the result
  for (int axis = last; axis >= 0; --axis) {
    if (axis == across) {
      plan.row_step = size;
    } else if (axis != last) {
      plan.extent[plan.batch_rank] = p.extent[axis];
      plan.from_step[plan.batch_rank] = p.step[axis];
      plan.to_step[plan.batch_rank++] = size;
    }
    size *= p.extent[axis];
  }
  plan.rows = p.extent[across], plan.columns = p.extent[last], plan.column_step = p.step[last];
  plan.row_tiles = (plan.rows + kTile - 1) / kTile, plan.column_tiles = (plan.columns + kTile - 1) / kTile;
  return plan;
}

}  // namespace

void permute(const Tensor& x, const std::vector<int>& axes, Tensor& y) {
  if (x.numel() == 0) return;
  const PermutePlan plan = plan_permutation(x.shape(), axes);
  with_element_of(x.dtype(), [&]<typename E>() {
    const E* in = static_cast<const E*>(x.raw_data());
    E* out = static_cast<E*>(y.raw_data());
    if (plan.rank > 0 && plan.step[plan.rank - 1] != 1) {
      const TransposePlan tiles = plan_transpose(plan);
      if (std::min(tiles.rows, tiles.columns) >= kShort) {
        const int64_t batch = x.numel() / (tiles.rows * tiles.columns);
        return launch(x.device(), "permute",
                      Grid{blocks_for(batch * tiles.row_tiles * tiles.column_tiles, 1), {kTile, kTileRows}},
                      transpose_kernel<E>, tiles, in, out);
      }
    }
    gather(x.device(), "permute", plan.rank, plan.extent, plan.step, in, out, x.numel());
  });
}

void expand(const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  const BroadcastPlan plan = plan_broadcast(x.shape(), x.shape(), y.shape());
  with_element_of(x.dtype(), [&]<typename E>() {
    gather(x.device(), "expand", plan.rank, plan.extent, plan.stride_a, static_cast<const E*>(x.raw_data()),
           static_cast<E*>(y.raw_data()), y.numel());
  });
}

}  // namespace eq::cuda
