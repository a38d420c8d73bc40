// Convolution by tiles, bfloat16: a file of its own because the device compiler takes long over it.

#include "cuda/conv2d_gemm.h"

namespace eq::cuda {

template void gemm_conv2d_forward<bfloat16>(const Tensor&, const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&, Tiles);
template void gemm_conv2d_backward_input<bfloat16>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&, Tiles);
template void gemm_conv2d_backward_weight<bfloat16>(const Tensor&, const Tensor&, Tensor&, const Conv2dOptions&, Tiles);

}  // namespace eq::cuda
