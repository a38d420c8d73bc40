#pragma once
// What the threads of a block do together. The trees are fixed by the number of threads, so sums have the same bits in each run.
// Every thread of the block must call these, with blockDim a multiple of 32 in x and 1 in y and z.

#include "cuda/launch.h"

namespace eq::cuda {

struct Add {
  template <class T>
  __device__ T operator()(T a, T b) const { return a + b; }
};

// Combined over the 32 lanes of a warp: the same result in each lane.
template <class T, class Op>
__device__ inline T warp_reduce(T value, Op op) {
  for (int distance = 16; distance > 0; distance /= 2) value = op(value, __shfl_xor_sync(0xffffffffu, value, distance));
  return value;
}

// Combined over the block: the same result in each thread. May be called several times in a row.
template <class T, class Op>
__device__ inline T block_reduce(T value, T identity, Op op) {
  __shared__ T parts[32];
  const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, warps = int(blockDim.x) / 32;
  value = warp_reduce(value, op);
  __syncthreads();  // an earlier call may still be reading `parts`
  if (lane == 0) parts[warp] = value;
  __syncthreads();
  return warp_reduce(lane < warps ? parts[lane] : identity, op);
}

template <class T>
__device__ inline T block_sum(T value) { return block_reduce(value, T(0), Add()); }

}  // namespace eq::cuda
