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

bool prefers_cudnn(DType dtype) {
  const ConvolutionBackend backend = chosen;
  if (backend == ConvolutionBackend::kOwn || !has_cudnn()) return false;
  // Nobody tunes float64 NHWC convolutions; it is here for exact comparisons.
  return backend == ConvolutionBackend::kCudnn || dtype != DType::kFloat64;
}

std::string describe_convolution() {
  if (convolution_backend() == ConvolutionBackend::kOwn || !has_cudnn()) return "own kernels";
  const int64_t version = cudnn_version();
  const std::string types = prefers_cudnn(DType::kFloat64) ? "bfloat16, float32 and float64" : "bfloat16 and float32";
  return "cuDNN " + std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + " for " + types +
         ", own kernels elsewhere";
}

}  // namespace eq::cuda
