#include "core/kernels/fuse_levels.h"

#include "core/kernels/bilinear_cpu.h"

namespace eq::cpu {

void fuse_levels_forward(const std::vector<Tensor>& branches, Tensor& y, const FuseLevelsOptions& options) {
  bilinear_forward(branches_of(branches, options), y, options.align_corners, {options.pad_h, options.pad_w, options.border});
}

void fuse_levels_backward(const Tensor& grad_y, const std::vector<int64_t>& channels, std::vector<Tensor>& grad_branches,
                          const FuseLevelsOptions& options) {
  bilinear_backward(grad_y, gradients_of(grad_branches, channels, options), options.align_corners,
                    {options.pad_h, options.pad_w, {}});
}

}  // namespace eq::cpu
