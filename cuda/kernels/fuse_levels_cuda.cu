#include "core/kernels/fuse_levels.h"

#include "cuda/kernels/bilinear_cuda.h"

namespace eq::cuda {
namespace {

Tensor constant_of(const std::vector<Tensor>& constants, size_t branch) {
  return constants.empty() ? Tensor() : constants[branch];
}

}  // namespace

void fuse_levels_forward(const std::vector<Tensor>& branches, Tensor& y, const FuseLevelsOptions& options) {
  std::vector<BilinearBranch> list;
  for (size_t i = 0; i < branches.size(); ++i) {
    list.push_back({branches[i], branches[i].size(3), constant_of(options.shift, i), constant_of(options.scale, i)});
  }
  bilinear_forward(list, y, options.align_corners, {options.pad_h, options.pad_w, options.border});
}

void fuse_levels_backward(const Tensor& grad_y, const std::vector<int64_t>& channels, std::vector<Tensor>& grad_branches,
                          const FuseLevelsOptions& options) {
  std::vector<BilinearBranch> list;
  for (size_t i = 0; i < grad_branches.size(); ++i) {
    list.push_back({grad_branches[i], channels[i], Tensor(), constant_of(options.scale, i)});
  }
  resize_backward(grad_y, list, options.align_corners ? Reading::kAlignedCorners : Reading::kBilinear,
                  {options.pad_h, options.pad_w, {}});
}

}  // namespace eq::cuda
