#pragma once
// Rows of classes, [..., C], for softmax and cross-entropy. Up to 256 classes a row belongs to 1 to 32 neighbouring threads
// of a warp, which hold it in registers, kHeld values each: it is read once, and the threads of a warp read neighbouring
// memory. Longer rows belong to a block, which reads them again (from a cache) in each pass: kHeld is 0.

#include "cuda/block.h"

namespace eq::cuda {

struct RowGrid {
  int log_lanes = 8;  // 2^log_lanes threads share a row
  int64_t rows_per_block() const { return kThreads >> log_lanes; }
};

// Calls fn.template operator()<kHeld>(grid).
template <class Fn>
void with_rows(int64_t width, Fn&& fn) {
  static_assert(kThreads == 256);
  RowGrid grid;
  if (width > 256) return fn.template operator()<0>(grid);
  grid.log_lanes = 0;
  while (grid.log_lanes < 5 && (int64_t{4} << grid.log_lanes) < width) ++grid.log_lanes;
  if (width <= 128) return fn.template operator()<4>(grid);
  return fn.template operator()<8>(grid);
}

// A thread's part in a row of `width` values: those at lane, lane + lanes, ...
template <int kHeld>
struct RowLane {
  int lane, lanes, width;

  // fn(v, c) for each of its values, v counting them.
  template <class Fn>
  __device__ void each(const Fn& fn) const {
    if constexpr (kHeld > 0) {
#pragma unroll
      for (int v = 0; v < kHeld; ++v) {
        const int c = lane + v * lanes;
        if (c < width) fn(v, c);
      }
    } else {
      for (int c = lane; c < width; c += lanes) fn(0, c);
    }
  }
  // Over all lanes of the row. Every thread of the block takes part, in a row or not.
  template <class W, class Op>
  __device__ W combine(W value, W identity, Op op) const {
    if constexpr (kHeld == 0) {
      return block_reduce(value, identity, op);
    } else {
      for (int distance = lanes / 2; distance > 0; distance /= 2)
        value = op(value, __shfl_xor_sync(0xffffffffu, value, distance));
      return value;
    }
  }
};

// The values of a row, as a thread sees its own.
template <class T, int kHeld>
class RowValues {
 public:
  __device__ RowValues(const RowLane<kHeld>& row, const T* from) : from_(from) {
    if constexpr (kHeld > 0) {
      row.each([&](int v, int c) { held_[v] = Wide<T>(from[c]); });
    }
  }
  __device__ Wide<T> operator()(int v, int c) const {
    if constexpr (kHeld > 0) return held_[v];
    else return Wide<T>(from_[c]);
  }
  // Where values are held, others in their place.
  template <class Fn>
  __device__ void replace(const RowLane<kHeld>& row, const Fn& fn) {
    if constexpr (kHeld > 0) {
      row.each([&](int v, int) { held_[v] = fn(held_[v]); });
    }
  }

 private:
  const T* from_;
  Wide<T> held_[kHeld > 0 ? kHeld : 1];
};

}  // namespace eq::cuda
