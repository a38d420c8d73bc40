#include "cuda/conv2d_backend.h"

#include <atomic>

#include "core/errors.h"
#include "cuda/cudnn_conv2d.h"

namespace eq::cuda {
namespace {

std::atomic<ConvolutionBackend> chosen{ConvolutionBackend::kAuto};

}  // namespace

void set_convolution_backend(ConvolutionBackend backend) {
  if (backend == ConvolutionBackend::kCudnn && !has_cudnn()) {
    throw UsageError("this build cannot convolve through cuDNN", "the choice of the convolution's backend",
                     "build with -DEQ_CUDNN=ON (CUDNN_ROOT names cuDNN's folder), or choose the project's own kernels");
  }
  chosen = backend;
}

ConvolutionBackend convolution_backend() { return chosen; }

bool has_cudnn() { return cudnn_version() > 0; }

bool is_product(const Tensor& weight, const Conv2dOptions& o) {
  return weight.size(1) == 1 && weight.size(2) == 1 && o.stride_h == 1 && o.stride_w == 1 && o.groups == 1 &&
         o.pad_top + o.pad_bottom + o.pad_left + o.pad_right == 0;
}

bool prefers_cudnn(const Tensor& weight, const Conv2dOptions& options) {
  if (!has_cudnn() || chosen == ConvolutionBackend::kOwn) return false;
  if (chosen == ConvolutionBackend::kCudnn) return true;
  // What was fastest on an H200 (docs/gpu.md): a call of cuDNN costs the host some 100 us, a product of cuBLAS 5; own depthwise
  // kernels take a tenth of the time of cuDNN's; in full float32 own kernels take half to all of it.
  const bool depthwise = options.groups > 1 && weight.size(3) == 1;
  if (depthwise || is_product(weight, options)) return false;
  return weight.dtype() == DType::kBFloat16 || (weight.dtype() == DType::kFloat32 && allow_tf32());
}

std::string describe_convolution() {
  if (!has_cudnn() || chosen == ConvolutionBackend::kOwn) return "own kernels, cuBLAS for 1x1";
  const int64_t version = cudnn_version();
  const std::string cudnn = "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100);
  if (chosen == ConvolutionBackend::kCudnn) return cudnn + " wherever it can, own kernels elsewhere";
  return cudnn + (allow_tf32() ? " for bfloat16 and TF32" : " for bfloat16") + ", cuBLAS for 1x1, own kernels elsewhere";
}

}  // namespace eq::cuda
