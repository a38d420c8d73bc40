#include "core/kernels/permute.h"

#include "core/kernels/elementwise.h"
#include "core/parallel.h"

namespace eq::cpu {
namespace {

constexpr int64_t kTile = 16;  // elements on a side: the cache lines a tile reads and writes stay in L1

// Runs along the last axis are contiguous in both tensors.
template <class T>
void copy_runs(const PermutePlan& plan, const T* in, T* out, int64_t numel) {
  const int last = plan.rank - 1;
  const int64_t run = plan.rank == 0 ? numel : plan.extent[last];
  parallel_for(numel / run, grain_for(run), [&](int64_t begin, int64_t end) {
    int64_t index[kMaxRank] = {}, from = 0, rest = begin;  // of the run, counted on from one to the next
    for (int axis = last - 1; axis >= 0; --axis) {
      index[axis] = rest % plan.extent[axis];
      from += index[axis] * plan.step[axis];
      rest /= plan.extent[axis];
    }
    for (int64_t row = begin; row < end; ++row) {
      std::memcpy(out + row * run, in + from, size_t(run) * sizeof(T));
      for (int axis = last - 1; axis >= 0; --axis) {
        from += plan.step[axis];
        if (++index[axis] < plan.extent[axis]) break;
        from -= index[axis] * plan.step[axis];
        index[axis] = 0;
      }
    }
  });
}

// target[row * target_step + column] = source[column * source_step + row] for a whole tile, through a block in L1, so
// that both sides are touched in runs.
template <class T>
void transpose_tile(const T* source, int64_t source_step, T* target, int64_t target_step) {
  T block[kTile][kTile];
  for (int64_t column = 0; column < kTile; ++column)
    std::memcpy(block[column], source + column * source_step, sizeof block[column]);
  for (int64_t row = 0; row < kTile; ++row) {
    T line[kTile];
    for (int64_t column = 0; column < kTile; ++column) line[column] = block[column][row];
    std::memcpy(target + row * target_step, line, sizeof line);
  }
}

// The last axis of the result steps through x, and x's own last axis is `across` in the result: transposed in tiles.
template <class T>
void transpose_tiles(const PermutePlan& plan, const T* in, T* out, int64_t numel) {
  const int last = plan.rank - 1;
  int across = 0;
  while (plan.step[across] != 1) ++across;
  int64_t out_step[kMaxRank], size = 1;
  for (int axis = last; axis >= 0; --axis) {
    out_step[axis] = size;
    size *= plan.extent[axis];
  }
  const int64_t rows = plan.extent[across], columns = plan.extent[last];
  const int64_t row_tiles = (rows + kTile - 1) / kTile;
  const int64_t tasks = numel / (rows * columns) * row_tiles;
  parallel_for(tasks, grain_for(kTile * columns), [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      int64_t rest = task / row_tiles, from = 0, to = 0;
      for (int axis = last - 1; axis >= 0; --axis) {
        if (axis == across) continue;
        const int64_t index = rest % plan.extent[axis];
        rest /= plan.extent[axis];
        from += index * plan.step[axis];
        to += index * out_step[axis];
      }
      const int64_t row_begin = task % row_tiles * kTile, row_end = std::min(rows, row_begin + kTile);
      for (int64_t tile = 0; tile < columns; tile += kTile) {
        const int64_t tile_end = std::min(columns, tile + kTile);
        if (row_end - row_begin == kTile && tile_end - tile == kTile) {
          transpose_tile(in + from + row_begin + tile * plan.step[last], plan.step[last],
                         out + to + row_begin * out_step[across] + tile, out_step[across]);
          continue;
        }
        for (int64_t row = row_begin; row < row_end; ++row) {
          T* target = out + to + row * out_step[across];
          const T* source = in + from + row;
          for (int64_t column = tile; column < tile_end; ++column) target[column] = source[column * plan.step[last]];
        }
      }
    }
  });
}

// Moving needs the size of an element only.
template <class Fn>
void with_element_of(DType dtype, Fn&& fn) {
  switch (size_of(dtype)) {
    case 8: return fn.template operator()<uint64_t>();
    case 4: return fn.template operator()<uint32_t>();
    default: return fn.template operator()<uint8_t>();
  }
}

}  // namespace

void permute(const Tensor& x, const std::vector<int>& axes, Tensor& y) {
  if (x.numel() == 0) return;
  const PermutePlan plan = plan_permutation(x.shape(), axes);
  with_element_of(x.dtype(), [&]<typename T>() {
    const T* in = static_cast<const T*>(x.raw_data());
    T* out = static_cast<T*>(y.raw_data());
    if (plan.rank == 0 || plan.step[plan.rank - 1] == 1) copy_runs(plan, in, out, x.numel());
    else transpose_tiles(plan, in, out, x.numel());
  });
}

void expand(const Tensor& x, Tensor& y) {
  const BroadcastPlan plan = plan_broadcast(x.shape(), x.shape(), y.shape());
  const bool repeated = plan.stride_a[plan.rank - 1] == 0;
  with_element_of(x.dtype(), [&]<typename T>() {
    const T* in = static_cast<const T*>(x.raw_data());
    T* out = static_cast<T*>(y.raw_data());
    parallel_for(y.numel(), 1 << 15, [&](int64_t begin, int64_t end) {
      for_each_run(plan, begin, end, [&](int64_t first, int64_t from, int64_t, int64_t count) {
        if (repeated) std::fill(out + first, out + first + count, in[from]);
        else std::copy(in + from, in + from + count, out + first);
      });
    });
  });
}

}  // namespace eq::cpu
