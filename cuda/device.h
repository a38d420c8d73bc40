#pragma once
// Devices and their streams. Each device has one stream on which everything runs in the order of the calls: kernels, copies,
// and with them the reuse of memory. The host goes on at once; it waits only where it reads a value.

#include <cuda_runtime.h>

#include <functional>

#include "core/cuda_device.h"
#include "core/tensor.h"
#include "cuda/error.h"

namespace eq::cuda {

// The device's stream; makes the device the current one of this thread.
cudaStream_t stream_of(Device device);

// Gives back what the device's allocator keeps for reuse, and forgets the error that asked for it.
void make_room(Device device);

// Libraries and kernels take memory of their own, when they are first used say, and the allocator may hold all there is. Where
// failed(call()), once more with what it only keeps given back. Both times `call` begins from the same values.
template <class Call, class Failed>
auto with_room(Device device, const Call& call, const Failed& failed) {
  auto status = call();
  if (failed(status)) {
    make_room(device);
    status = call();
  }
  return status;
}

// The memory of a tensor, typed; nullptr when it is undefined. Throws DTypeError for another element type, DeviceError for host memory.
template <class T>
T* data(const Tensor& tensor) {
  if (!tensor.defined()) return nullptr;
  if (tensor.dtype() != dtype_of<T>::value) {
    throw DTypeError(std::string("the tensor holds ") + name_of(tensor.dtype()) + ", not " + name_of(dtype_of<T>::value), "a CUDA kernel",
                     "convert it first: x.to(DType)");
  }
  if (!tensor.device().is_cuda()) {
    throw DeviceError("the values are on the cpu", "a CUDA kernel", "move them first: x.to(Device::cuda())");
  }
  return static_cast<T*>(tensor.raw_data());
}

// An error that a kernel finds (a label out of range) comes up where the host next waits for the device: copy_to_host and synchronize
// call `report` with the cell's two numbers if the first is not negative. The kernel writes both; the cell is in the host's memory.
int64_t* report_cell(Device device);
void report_later(Device device, int64_t* cell, std::function<void(int64_t, int64_t)> report);

// Calls fn.template operator()<T>() with T = float, double or bfloat16: what the kernels of this backend compute on.
template <class Fn>
decltype(auto) dispatch(DType dtype, const char* op, Fn&& fn) {
  if (dtype == DType::kBFloat16) return fn.template operator()<bfloat16>();
  return dispatch_floating(dtype, op, fn);
}

// Sums and intermediate values of T are held in Wide<T>.
template <class T>
struct WideOf { using type = T; };
template <>
struct WideOf<bfloat16> { using type = float; };
template <class T>
using Wide = typename WideOf<T>::type;

}  // namespace eq::cuda
