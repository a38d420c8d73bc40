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

// Which of a launch's branches has the block.
template <class Branch>
__device__ const Branch& branch_of_block(const Branch (&branches)[kMostBranches], int count) {
  int which = 0;
  while (which + 1 < count && blockIdx.x >= branches[which + 1].first_block) ++which;
  return branches[which];
}

}  // namespace eq::cuda
