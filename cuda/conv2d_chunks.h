#pragma once
// The second half of a weight gradient: the sums of its chunks of pixels, added in order. 32 values per block, each by 8
// threads that take every eighth chunk: few chunks deep even where a gradient is small.

#include "cuda/conv2d_axis.h"
#include "cuda/launch.h"

namespace eq::cuda {

// sums [chunks, taps, channels] -> out [channels, taps].
template <class T>
__global__ void add_chunks_kernel(const Wide<T>* sums, T* out, int64_t taps, int64_t channels, int chunks) {
  constexpr int kParts = kThreads / 32;
  __shared__ Wide<T> parts[kParts][32];
  const int lane = int(threadIdx.x) % 32, part = int(threadIdx.x) / 32;
  const int64_t i = int64_t(blockIdx.x) * 32 + lane, count = taps * channels;
  Wide<T> sum = 0;
  if (i < count) {
#pragma unroll 4
    for (int chunk = part; chunk < chunks; chunk += kParts) sum += sums[chunk * count + i];
  }
  parts[part][lane] = sum;
  __syncthreads();
  if (part > 0 || i >= count) return;
#pragma unroll
  for (int other = 1; other < kParts; ++other) sum += parts[other][lane];
  out[i % channels * taps + i / channels] = T(sum);
}

template <class T>
void add_chunks(const Tensor& sums, Tensor& out, int64_t taps, int64_t channels) {
  launch(out.device(), "conv2d, sum of chunks", Grid{blocks_for(out.numel(), 32), kThreads}, add_chunks_kernel<T>,
         data<Wide<T>>(sums), data<T>(out), taps, channels, int(sums.size(0)));
}

// Chunks of a weight gradient over `pixels`: enough that they fill a large GPU a few times together with the `tiles`
// other blocks, each of at least `shortest` pixels and, so that float32 sums stay accurate, of 2^14 at most; sums of
// `bytes` each take 128 MiB in all at most (or one chunk's). Fixed by the shapes.
inline int64_t pixels_per_chunk(int64_t pixels, int64_t tiles, int64_t shortest, int64_t bytes) {
  constexpr int64_t kBlocks = 512, kLongest = 1 << 14, kMost = 128, kUnit = 32, kBytes = int64_t{128} << 20;
  const int64_t wanted = std::max(std::min({divide_up(kBlocks, tiles), divide_up(pixels, shortest), kMost}), divide_up(pixels, kLongest));
  const int64_t chunks = std::max<int64_t>(1, std::min(wanted, kBytes / bytes));
  return divide_up(divide_up(pixels, chunks), kUnit) * kUnit;
}

}  // namespace eq::cuda
