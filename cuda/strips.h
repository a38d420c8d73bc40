#pragma once
// How threads go over [N, H, W, C] where each walks down a chunk of the rows of an image: a block has kThreads neighbouring
// packs of [W, C], which are neighbours in memory whatever the number of channels. Several arrays, branches, in one launch.

#include "cuda/launch.h"
#include "cuda/pack.h"

namespace eq::cuda {

constexpr int kMostBranches = 8;  // per launch

// How blocks cover the rows of images, [columns, packs] each: block = (image * down + chunk) * across + strip.
struct Strips {
  unsigned packs;   // of a pixel
  unsigned across;  // blocks side by side
  unsigned down;    // chunks of rows
  int rows;         // of a chunk

  Strips() = default;
  // About `blocks` blocks, with at most `most` rows.
  Strips(int64_t images, int64_t height, int64_t columns, int64_t packs_of_pixel, int64_t blocks, int64_t most)
      : packs(unsigned(packs_of_pixel)), across(blocks_for(columns * packs_of_pixel, kThreads)) {
    rows = int(std::clamp<int64_t>(images * height * across / blocks, 1, std::min(most, height)));
    down = unsigned((height + rows - 1) / rows);
  }
  int64_t blocks(int64_t images) const { return images * down * across; }
};

// A thread's part of them.
struct Place {
  int64_t image;
  int top;  // the chunk's first row
  unsigned column, channel;

  __device__ Place(const Strips& strips, unsigned block, int width) {
    const unsigned strip = block % strips.across, chunk = block / strips.across;
    image = chunk / strips.down;
    top = int(chunk % strips.down) * strips.rows;
    const unsigned at = strip * kThreads + threadIdx.x;
    column = at / strips.packs;
    channel = (at - column * strips.packs) * unsigned(width);
  }
};

// A constant of [C], [1] or no values.
template <class W>
struct Constant {
  const W* values;
  bool single, whole_packs;

  Constant() = default;
  explicit Constant(const Tensor& tensor)
      : values(data<W>(tensor)),
        single(tensor.defined() && tensor.numel() == 1),
        whole_packs(on_16_bytes(values)) {}

  template <int N>
  __device__ void load(int64_t channel, W missing, W (&out)[N]) const {
    if (values == nullptr || single) {
      const W value = values == nullptr ? missing : values[0];
      for (int i = 0; i < N; ++i) out[i] = value;
    } else {
      load_values<W, N>(values + channel, whole_packs, out);
    }
  }
};

// Distances in elements.
struct Strides {
  int64_t image, row, pixel;
};

// to = (from - shift) * scale, where a branch has the size of what it is fused into: nothing to interpolate.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    affine_copy_kernel(Strips strips, int64_t height, int64_t width, const T* __restrict__ from, Strides from_strides,
                       T* __restrict__ to, Strides to_strides, Constant<Wide<T>> shift, Constant<Wide<T>> scale) {
  using W = Wide<T>;
  const Place place(strips, blockIdx.x, N);
  if (place.column >= width) return;
  const int count = int(std::min<int64_t>(strips.rows, height - place.top));
  W shifts[N], scales[N];
  shift.template load<N>(place.channel, W(0), shifts);
  scale.template load<N>(place.channel, W(1), scales);
  const auto first = [&](const Strides& strides) {
    return place.image * strides.image + place.top * strides.row + place.column * strides.pixel + place.channel;
  };
  from += first(from_strides);
  to += first(to_strides);
  EQ_UNROLL(4)
  for (int r = 0; r < count; ++r) {
    W wide[N];
    widen(load_pack<T, N>(from + r * from_strides.row), wide);
    Pack<T, N> result;
    for (int i = 0; i < N; ++i) result[i] = T((wide[i] - shifts[i]) * scales[i]);
    store_pack(to + r * to_strides.row, result);
  }
}

// Of `channels` channels of each pixel.
template <class T, int N>
void affine_copy(Device device, const Shape& size, int64_t channels, const T* from, const Strides& from_strides, T* to,
                 const Strides& to_strides, const Constant<Wide<T>>& shift, const Constant<Wide<T>>& scale) {
  const Strips strips(size[0], size[1], size[2], channels / N, 2048, 32);
  launch(device, "affine copy", Grid{blocks_for(strips.blocks(size[0]), 1), kThreads}, affine_copy_kernel<T, N>, strips, size[1],
         size[2], from, from_strides, to, to_strides, shift, scale);
}

// Which of a launch's branches has the block.
template <class Branch>
__device__ const Branch& branch_of_block(const Branch (&branches)[kMostBranches], int count) {
  int which = 0;
  while (which + 1 < count && blockIdx.x >= branches[which + 1].first_block) ++which;
  return branches[which];
}

}  // namespace eq::cuda
