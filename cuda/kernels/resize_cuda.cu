// Bilinear and the adjoints: bilinear_cuda.cu. Nearest copies pixels of any element type as words, of up to 16 bytes where
// the channels allow it: a block has a column of words and a strip of one output row, whose source cells it computes once.

#include "core/kernels/resize.h"

#include "cuda/kernels/bilinear_cuda.h"
#include "cuda/tile.h"

namespace eq::cuda {
namespace {

constexpr int kStrip = 256;  // pixels, at most

struct NearestPlan {
  int64_t h, w, out_h, out_w;
  int64_t words;  // in a pixel
  Tile tile;
  int strip;
  unsigned strips;  // in a row
};

template <class Word>
__global__ void __launch_bounds__(kThreads)
    nearest_forward_kernel(NearestPlan plan, const Word* __restrict__ x, Word* __restrict__ y) {
  __shared__ int64_t sources[kStrip];
  const unsigned column = blockIdx.x % unsigned(plan.tile.columns), place = blockIdx.x / unsigned(plan.tile.columns);
  const int64_t row = place / plan.strips, image = row / plan.out_h;  // row: of all images
  const int64_t left = int64_t(place % plan.strips) * plan.strip;
  const int pixels = int(std::min<int64_t>(plan.strip, plan.out_w - left));
  for (int i = int(threadIdx.x); i < pixels; i += kThreads)
    sources[i] = nearest_source(left + i, plan.w, plan.out_w) * plan.words;
  __syncthreads();
  const int lane = int(threadIdx.x) % plan.tile.lanes, first = int(threadIdx.x) / plan.tile.lanes;
  const int64_t word = int64_t(column) * plan.tile.lanes + lane;
  if (word >= plan.words || first >= plan.tile.height) return;
  const Word* from =
      x + (image * plan.h + nearest_source(row - image * plan.out_h, plan.h, plan.out_h)) * plan.w * plan.words + word;
  Word* to = y + (row * plan.out_w + left) * plan.words + word;
  EQ_UNROLL(4)
  for (int i = first; i < pixels; i += plan.tile.height) to[i * plan.words] = from[sources[i]];
}

template <class Word>
bool copy_words(const Tensor& x, Tensor& y) {
  const int64_t bytes = x.size(3) * int64_t(size_of(x.dtype()));
  const auto fits = [](const Tensor& t) { return reinterpret_cast<uintptr_t>(t.raw_data()) % sizeof(Word) == 0; };
  if (bytes % int64_t(sizeof(Word)) != 0 || !fits(x) || !fits(y)) return false;
  NearestPlan plan{x.size(1), x.size(2), y.size(1), y.size(2), bytes / int64_t(sizeof(Word)), {}, 0, 0};
  plan.tile = tile_of(plan.words, int(sizeof(Word)), plan.out_w);
  plan.strip = int(std::min<int64_t>(plan.out_w, std::clamp(4 * plan.tile.height, 64, kStrip)));
  plan.strips = unsigned((plan.out_w + plan.strip - 1) / plan.strip);
  launch(y.device(), "resize_nearest",
         Grid{blocks_for(y.size(0) * plan.out_h * plan.strips * plan.tile.columns, 1), kThreads},
         nearest_forward_kernel<Word>, plan, static_cast<const Word*>(x.raw_data()), static_cast<Word*>(y.raw_data()));
  return true;
}

}  // namespace

void resize_bilinear_forward(const Tensor& x, Tensor& y, bool align_corners) {
  bilinear_forward({{x, x.size(3), {}, {}}}, y, align_corners);
}

void resize_bilinear_backward(const Tensor& grad_y, Tensor& grad_x, bool align_corners) {
  resize_backward(grad_y, {{grad_x, grad_x.size(3), {}, {}}}, align_corners ? Reading::kAlignedCorners : Reading::kBilinear);
}

void resize_nearest_forward(const Tensor& x, Tensor& y) {
  if (y.numel() == 0) return;
  (void)(copy_words<uint4>(x, y) || copy_words<uint64_t>(x, y) || copy_words<uint32_t>(x, y) || copy_words<uint16_t>(x, y) ||
         copy_words<uint8_t>(x, y));
}

void resize_nearest_backward(const Tensor& grad_y, Tensor& grad_x) {
  resize_backward(grad_y, {{grad_x, grad_x.size(3), {}, {}}}, Reading::kNearest);
}

}  // namespace eq::cuda
