#pragma once
// Labels of positions (core/kernels/class_labels.h) on a device, and the walk over rows of logits beside them.

#include "cuda/class_rows.h"

namespace eq::cuda {

constexpr int64_t kNoPosition = std::numeric_limits<int64_t>::max();
constexpr int kLastThreads =
    1024;  // of the one block that combines what the blocks have found: its kernels say so, and get at most 64 registers

struct Smaller {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a < b ? a : b;
  }
};

struct ClassLabels {
  static constexpr int kIgnored = -1, kBad = -2;
  const void* values;
  DType dtype;
  int64_t count, classes, ignore;

  ClassLabels(const Tensor& labels, const Tensor& logits, int64_t ignore_index)
      : values(labels.raw_data()), dtype(labels.dtype()), count(labels.numel()), classes(logits.size(-1)), ignore(ignore_index) {}

  __device__ int64_t at(int64_t i) const {
    if (dtype == DType::kUInt8) return static_cast<const uint8_t*>(values)[i];
    if (dtype == DType::kInt32) return static_cast<const int32_t*>(values)[i];
    return static_cast<const int64_t*>(values)[i];
  }
  __device__ bool is_class(int64_t label) const { return uint64_t(label) < uint64_t(classes); }
  // A class, kIgnored or kBad.
  __device__ int class_at(int64_t i) const {
    const int64_t label = at(i);
    return label == ignore ? kIgnored : is_class(label) ? int(label) : kBad;
  }
  // By one block: the position and value of the first bad label among those of the blocks (position -1: none).
  __device__ void report(const int64_t* first_bad, int blocks, int64_t* found) const {
    int64_t bad = kNoPosition;
    for (int i = int(threadIdx.x); i < blocks; i += kLastThreads) bad = Smaller()(bad, first_bad[i]);
    bad = block_reduce(bad, kNoPosition, Smaller());
    if (threadIdx.x != 0) return;
    found[0] = bad == kNoPosition ? -1 : bad;
    found[1] = bad == kNoPosition ? 0 : at(bad);
  }
};

// Tells the host of `found` when it next waits.
inline void report_bad_label(const char* op, Device device, int64_t* found, const ClassLabels& labels, const Shape& shape) {
  report_later(device, found, [op, classes = labels.classes, ignore = labels.ignore, shape](int64_t position, int64_t label) {
    refuse_label(op, label, position, classes, ignore, shape);
  });
}

// How many blocks share the rows' tiles.
inline unsigned blocks_of(const RowTile& tile, int64_t rows, int64_t most) {
  const int64_t height = tile.rows_of_block(), tiles = (rows + height - 1) / height;
  return blocks_for(tiles, (tiles + most - 1) / most);
}

// The block's share of the rows, tile by tile: body(rows, label, in, shared) with the label of the thread's row (kIgnored behind
// the last one), its logits (place 0: the tile's first, of a long row its own) and, of a tile, the same memory to write results over.
// A warp has two tiles: one is computed while the next comes. Neighbours have neighbouring tiles at the same time.
// shared_memory() begins with them.
template <class T, class Kind, class Body>
__device__ void each_labelled_tile(const RowTile& tile, const RowPart<Kind>& part, const T* logits, const ClassLabels& labels,
                                   const Body& body) {
  constexpr bool kLong = Kind::kLong;
  T* buffers = shared_memory<T>() + threadIdx.x / kWarp * 2 * tile.values();
  const unsigned first_tile = kLong ? blockIdx.x : warp_of_grid(), stride = kLong ? gridDim.x : gridDim.x * kTileWarps;
  const auto rows_of = [&](int round) { return TileRows(tile, first_tile + unsigned(round) * stride, labels.count); };
  const auto label_of = [&](const TileRows& rows) {
    return part.row < rows.rows ? labels.class_at(rows.first_row + part.row) : ClassLabels::kIgnored;
  };
  TileRows next = rows_of(0);
  int next_label = label_of(next);
  if constexpr (!kLong) load_tile<Kind>(tile, logits + next.first, next.count, buffers);
  EQ_UNROLL(1)
  for (int round = 0; next.rows > 0; ++round) {
    const TileRows rows = next;
    const int label = next_label;
    T* shared = buffers + round % 2 * tile.values();
    next = rows_of(round + 1);
    if constexpr (!kLong) {
      if (round > 0) __syncwarp();  // the tile before is still being read
      load_tile<Kind>(tile, logits + next.first, next.count, buffers + (round + 1) % 2 * tile.values());
    }
    next_label = label_of(next);
    if constexpr (!kLong) {
      wait_for_copies<1>();
      __syncwarp();
    }
    body(rows, label, kLong ? logits + rows.first : static_cast<const T*>(shared), shared);
  }
}

}  // namespace eq::cuda
