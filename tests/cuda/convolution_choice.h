#pragma once
// Who convolves, for the length of a scope.

#include <string>

#include "cuda/parity.h"

namespace eq::test {

// The functions exist in a build with CUDA alone. Returns the description.
inline std::string choose(cuda::ConvolutionBackend backend) {
  if constexpr (kBuiltWithCuda) {
    cuda::set_convolution_backend(backend);
    return cuda::describe_convolution();
  }
  return "";
}

class Choice {
 public:
  explicit Choice(cuda::ConvolutionBackend backend) { choose(backend); }
  ~Choice() { choose(cuda::ConvolutionBackend::kAuto); }
  Choice(const Choice&) = delete;
};

inline bool has_cudnn() {
  if constexpr (kBuiltWithCuda) return cuda::has_cudnn();
  return false;
}

}  // namespace eq::test
