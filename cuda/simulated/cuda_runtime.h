#pragma once
// The part of the CUDA runtime that cuda/ uses, on the host: for EQ_CUDA=SIMULATED, where the kernels' own source is compiled by the
// host compiler and run by cuda/simulated/run.cpp. "Device" memory is host memory that is out of reach but while a kernel or a copy runs:
// host code that touches it ends with a segmentation fault, as it does beside a GPU. Two devices exist, everything queued is done at once.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define __grid_constant__
#define __align__(n) alignas(n)
#define __shared__ static  // blocks run one after another

struct uint3 { unsigned x, y, z; };
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };

// Those of the thread that is running.
inline uint3 threadIdx, blockIdx;
inline dim3 blockDim, gridDim;
constexpr int warpSize = 32;

// --- what threads of a block do together: cuda/simulated/run.cpp ---
void __syncthreads();
void __syncwarp(unsigned mask = 0xffffffffu);
namespace eq::cuda::simulated {
// All lanes of the warp bring `value`; each gets those of all 32 (of lanes that have ended or do not exist: unspecified).
void exchange(const void* value, size_t bytes, void* values_of_all_lanes);
int lane();

// Memory of the device, filled with NaNs; null where there is none.
void* allocate(size_t bytes);
void release(void* block);
// As long as one exists, this memory can be read and written.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
};
}  // namespace eq::cuda::simulated

template <class T>
T __shfl_sync(unsigned, T value, int source, int = 32) {
  T all[32];
  eq::cuda::simulated::exchange(&value, sizeof(T), all);
  return all[source & 31];
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  T all[32];
  eq::cuda::simulated::exchange(&value, sizeof(T), all);
  return all[eq::cuda::simulated::lane() ^ mask];
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned distance, int = 32) {
  T all[32];
  eq::cuda::simulated::exchange(&value, sizeof(T), all);
  const unsigned from = unsigned(eq::cuda::simulated::lane()) + distance;
  return from < 32 ? all[from] : value;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
  int all[32];
  eq::cuda::simulated::exchange(&predicate, sizeof(int), all);
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= unsigned(all[i] != 0) << i;
  return result;
}

// --- arithmetic the device has built in ---
template <class T>
T __ldg(const T* from) { return *from; }
inline float __expf(float x) { return std::exp(x); }
inline float __frcp_rn(float x) { return 1 / x; }
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
inline double rsqrt(double x) { return 1 / std::sqrt(x); }

// --- the runtime ---
enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidDeviceFunction = 98,
  cudaErrorInvalidDevice = 101,
  cudaErrorNoKernelImageForDevice = 209,
  cudaErrorUnsupportedPtxVersion = 222,
  cudaErrorLaunchFailure = 719
};
enum cudaMemcpyKind { cudaMemcpyHostToHost, cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
constexpr unsigned cudaStreamNonBlocking = 1, cudaEventDisableTiming = 2;
using cudaStream_t = struct SimulatedStream*;
using cudaEvent_t = struct SimulatedEvent*;
struct cudaDeviceProp {
  char name[256];
  int major, minor;
  size_t totalGlobalMem;
};

inline constexpr int kSimulatedDevices = 2;
inline int simulated_current_device = 0;
inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaErrorMemoryAllocation ? "out of memory" : "simulated error";
}
// Tests set these. An error of work queued before, which a later call may report; a kernel's fault, which has come to stay: every call
// reports it; no memory but what our allocator keeps, until a block of that is given back.
inline cudaError_t simulated_error = cudaSuccess;
inline bool simulated_fault = false, simulated_full = false;
inline cudaError_t simulated_status() { return simulated_fault ? cudaErrorLaunchFailure : simulated_error; }
inline cudaError_t cudaGetLastError() {
  const cudaError_t status = simulated_status();
  return simulated_error = cudaSuccess, status;
}
inline cudaError_t cudaGetDeviceCount(int* count) { return *count = kSimulatedDevices, cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int* version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaSetDevice(int index) {
  if (simulated_status() != cudaSuccess) return simulated_status();
  if (index < 0 || index >= kSimulatedDevices) return cudaErrorInvalidDevice;
  return simulated_current_device = index, cudaSuccess;
}
inline cudaError_t cudaGetDevice(int* index) { return *index = simulated_current_device, cudaSuccess; }
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  std::strcpy(p->name, "simulated on the host");
  p->major = p->minor = 0;
  p->totalGlobalMem = size_t{4} << 30;
  return cudaSuccess;
}
template <class F>
cudaError_t cudaFuncSetAttribute(F, cudaFuncAttribute, int) { return cudaSuccess; }
inline cudaError_t cudaMalloc(void** block, size_t bytes) {
  if (simulated_status() != cudaSuccess) return simulated_status();
  *block = simulated_full ? nullptr : eq::cuda::simulated::allocate(bytes);
  if (*block == nullptr) return simulated_error = cudaErrorMemoryAllocation;
  return cudaSuccess;
}
inline cudaError_t cudaFree(void* block) {
  simulated_full = false;
  return eq::cuda::simulated::release(block), simulated_status();
}
inline cudaError_t cudaMallocHost(void** block, size_t bytes) {
  if (simulated_status() != cudaSuccess) return simulated_status();
  *block = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  return *block == nullptr ? simulated_error = cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeHost(void* block) { return std::free(block), simulated_status(); }
// What a kernel's launch returns.
inline cudaError_t simulated_launch() { return simulated_full ? simulated_error = cudaErrorMemoryAllocation : simulated_status(); }
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  const eq::cuda::simulated::DeviceAccess access;
  if (simulated_status() == cudaSuccess) std::memmove(to, from, bytes);
  return simulated_status();
}
inline cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream);
}
inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t) {
  const eq::cuda::simulated::DeviceAccess access;
  if (simulated_status() == cudaSuccess) std::memset(to, value, bytes);
  return simulated_status();
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) { return *stream = nullptr, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) { return simulated_status(); }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) { return *event = nullptr, cudaSuccess; }
inline cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return simulated_status(); }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return simulated_status(); }
