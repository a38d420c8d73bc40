#pragma once
// Calls into the CUDA libraries, checked: an error names the call, the place and the device's own words.

#include <cuda_runtime.h>

#include <string>

#include "core/errors.h"

namespace eq::cuda {

[[noreturn]] void fail(const std::string& words, const char* call, const char* file, int line);

inline void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status != cudaSuccess) fail(cudaGetErrorString(status), call, file, line);
}

}  // namespace eq::cuda

#define EQ_CUDA_CHECK(call) ::eq::cuda::check((call), #call, __FILE__, __LINE__)
