// Convolution by tiles, float64: a file of its own because the device compiler takes long over it.

#include "cuda/conv2d_gemm.h"

namespace eq::cuda {

template void gemm_conv2d_forward<double>(const Tensor&, const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&, Tiles);
template void gemm_conv2d_backward_input<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&, Tiles);
template void gemm_conv2d_backward_weight<double>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&, Tiles);

}  // namespace eq::cuda
