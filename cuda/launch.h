#pragma once
// Starting kernels on a device's stream. Under EQ_CUDA=SIMULATED the same kernels run on the host (cuda/simulated/).
//
//   for_each(device, "relu", count, Body{...});                        body(i) for each i, in no order: no communication
//   launch(device, "block_sum", {blocks, threads}, kernel<T>, a, b);   a __global__ function; its parameters are converted
//
// Determinism: no atomics; whoever sums across threads does it in a fixed tree (cuda/block.h).

#include "core/host_device.h"
#include "cuda/device.h"

#ifdef EQ_CUDA_SIMULATED
#include "cuda/simulated/run.h"
#endif

namespace eq::cuda {

struct Grid {
  dim3 blocks, threads;
  size_t shared_bytes = 0;  // dynamic shared memory: shared_memory<T>() in the kernel
};

// Blocks of `size` that cover `count` items. Throws UsageError above 2^31 - 1, the limit of a grid.
unsigned blocks_for(int64_t count, int64_t size);

#ifdef EQ_CUDA_SIMULATED
template <class T>
T* shared_memory() { return reinterpret_cast<T*>(simulated::shared_memory()); }
#elif defined(__CUDACC__)
extern __shared__ __align__(16) unsigned char dynamic_shared_memory[];
template <class T>
__device__ T* shared_memory() { return reinterpret_cast<T*>(dynamic_shared_memory); }
#endif

// `call` returns the status of its own launch, not the last error, which may be another call's: what was launched must not run twice.
template <class Call>
void start(Device device, const char* name, const Call& call) {
  const auto lacks_memory = [](cudaError_t status) { return status == cudaErrorMemoryAllocation; };
  check(with_room(device, call, lacks_memory), name, "a kernel's launch", 0);
}

template <class... Parameters, class... Arguments>
void launch(Device device, const char* name, const Grid& grid, void (*kernel)(Parameters...), const Arguments&... arguments) {
  if (grid.blocks.x == 0 || grid.blocks.y == 0 || grid.blocks.z == 0) return;
  [[maybe_unused]] cudaStream_t stream = stream_of(device);
#ifdef EQ_CUDA_SIMULATED
  start(device, name, [&] {
    const cudaError_t status = simulated_launch();
    if (status == cudaSuccess) {
      simulated::run(grid.blocks, grid.threads, grid.shared_bytes, [&] { kernel(Parameters(arguments)...); });
    }
    return status;
  });
#elif defined(__CUDACC__)
  cudaLaunchConfig_t configuration = {};
  configuration.gridDim = grid.blocks, configuration.blockDim = grid.threads;
  configuration.dynamicSmemBytes = grid.shared_bytes, configuration.stream = stream;
  start(device, name, [&] {
    constexpr size_t kUnasked = 40 << 10;  // a block has 48 KiB; more must be asked for, and the kernel's static arrays count, too
    cudaError_t status = cudaSuccess;
    if (grid.shared_bytes > kUnasked) {
      status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(grid.shared_bytes));
    }
    return status != cudaSuccess ? status : cudaLaunchKernelEx(&configuration, kernel, Parameters(arguments)...);
  });
#endif
}

#if defined(__CUDACC__) || defined(EQ_CUDA_SIMULATED)
constexpr int kThreads = 256, kWarp = 32;

template <class Body>
__global__ void for_each_kernel(int64_t count, Body body) {
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < count) body(i);
}

template <class Body>
void for_each(Device device, const char* name, int64_t count, const Body& body) {
  if (count == 0) return;
#ifdef EQ_CUDA_SIMULATED
  stream_of(device);
  start(device, name, [&] {
    const cudaError_t status = simulated_launch();
    if (status == cudaSuccess) simulated::for_each(count, body);  // no fibers: the threads do not meet
    return status;
  });
#else
  launch(device, name, Grid{blocks_for(count, kThreads), kThreads}, for_each_kernel<Body>, count, body);
#endif
}
#endif

}  // namespace eq::cuda
