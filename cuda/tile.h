#pragma once
// A block of kThreads as a grid over rows of channels: `lanes` neighbouring packs of a row, `height` rows at a time.
// Thread i has lane i % lanes and row i / lanes; a few are left over where lanes does not divide kThreads.

#include <algorithm>

#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {

struct Tile {
  int lanes, height, columns;  // `columns` blocks side by side cover a row
};

// For rows of `packs` packs of `bytes` bytes. 256 bytes side by side are enough for memory, as are 32 packs; where there are
// few rows, wider.
inline Tile tile_of(int64_t packs, int bytes, int64_t rows) {
  const int64_t most = std::clamp<int64_t>(kThreads / std::max<int64_t>(1, rows), std::min(32, 256 / bytes), kThreads);
  const int64_t columns = (packs + most - 1) / most, lanes = (packs + columns - 1) / columns;
  return {int(lanes), int(kThreads / lanes), int(columns)};
}

// Shared memory of sum_columns<N> of numbers of S, for Grid.
template <int N, class S = double>
constexpr size_t kColumnBytes = size_t(2) * N* kThreads * sizeof(S);

// Sums a and b over the rows y < height of the block in a fixed tree, 16 rows at a time; the threads of y = 0 have the sums.
// Thread y * lanes + lane has row y. Every thread of the block calls this, whatever it has where y >= height.
template <int N, class S>
__device__ inline void sum_columns(S (&a)[N], S (&b)[N], int lanes, int height, int y) {
  constexpr int kRadix = 16;
  S* shared = shared_memory<S>();  // [2 N, threads]
  for (int left = height; left > 1;) {
    const int groups = (left + kRadix - 1) / kRadix;
    __syncthreads();  // an earlier round is still being read
    if (y < left) {
      for (int i = 0; i < N; ++i) {
        shared[i * kThreads + threadIdx.x] = a[i];
        shared[(N + i) * kThreads + threadIdx.x] = b[i];
      }
    }
    __syncthreads();
    for (int item = int(threadIdx.x); item < 2 * N * groups * lanes; item += int(blockDim.x)) {
      const int place = item / lanes, group = place % groups, count = left - group * kRadix < kRadix ? left - group * kRadix : kRadix;
      S* column = shared + place / groups * kThreads + group * kRadix * lanes + (item - place * lanes);
      S sum = column[0];
      for (int k = 1; k < count; ++k) sum += column[k * lanes];
      column[0] = sum;
    }
    __syncthreads();
    if (y < groups) {
      const S* sums = shared + threadIdx.x + y * (kRadix - 1) * lanes;
      for (int i = 0; i < N; ++i) {
        a[i] = sums[i * kThreads];
        b[i] = sums[(N + i) * kThreads];
      }
    }
    left = groups;
  }
}

}  // namespace eq::cuda
