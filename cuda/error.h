#pragma once
// Calls into the CUDA libraries, checked: an error names the call, the place and the device's own words. A lack of memory that is not the
// allocator's, for what a library or a kernel wants for itself (with_room in cuda/device.h), is an OutOfMemoryError as well; any other
// error a DeviceError, with advice of its own where the program has no code for the GPU.

#include <cuda_runtime.h>

#include <string>

#include "core/errors.h"

namespace eq::cuda {

[[noreturn]] void fail(const std::string& words, const char* call, const char* file, int line);
[[noreturn]] void fail_for_memory(const std::string& words, const char* call, const char* file, int line);
[[noreturn]] void fail_for_code(const std::string& words, const char* call, const char* file, int line);

inline void check(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaErrorMemoryAllocation) fail_for_memory(cudaGetErrorString(status), call, file, line);
  if (status == cudaErrorInvalidDeviceFunction || status == cudaErrorNoKernelImageForDevice || status == cudaErrorUnsupportedPtxVersion) {
    fail_for_code(cudaGetErrorString(status), call, file, line);
  }
  if (status != cudaSuccess) fail(cudaGetErrorString(status), call, file, line);
}

}  // namespace eq::cuda

#define EQ_CUDA_CHECK(call) ::eq::cuda::check((call), #call, __FILE__, __LINE__)
