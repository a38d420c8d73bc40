#include "core/kernels/fuse_levels.h"

#include "cuda/kernels/bilinear_cuda.h"

namespace eq::cuda {

void fuse_levels_forward(const std::vector<Tensor>& branches, Tensor& y, const FuseLevelsOptions& options) {
  bilinear_forward(branches_of(branches, options), y, options.align_corners, {options.pad_h, options.pad_w, options.border});
}

void fuse_levels_backward(const Tensor& grad_y, const std::vector<int64_t>& channels, std::vector<Tensor>& grad_branches,
                          const FuseLevelsOptions& options) {
  resize_backward(grad_y, gradients_of(grad_branches, channels, options),
                  options.align_corners ? Reading::kAlignedCorners : Reading::kBilinear, {options.pad_h, options.pad_w, {}});
}

}  // namespace eq::cuda
