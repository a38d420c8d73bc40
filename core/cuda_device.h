#pragma once
// What core needs of a CUDA device. Implemented in cuda/device.cu; a build without CUDA refers to none of it but
// trouble_words, which is in core/device.cpp.
// Work on a device is queued on one stream and runs in the order of the calls; so is memory that is freed and used again.

#include <cstddef>
#include <string>

namespace eq {
struct RawMemory;
}

namespace eq::cuda {

// Why there is no device, in words: `driver` and `runtime` are versions as CUDA gives them (13000 is 13.0), 0 for no driver; `reason` is
// the runtime's own word, empty where it only counted none.
std::string trouble_words(int driver, int runtime, const std::string& reason);

int device_count();          // 0 where there is no GPU or no usable driver
std::string trouble();       // why device_count() is 0, in words: no driver, a driver older than the toolkit, no GPU
std::string describe_device(int index);  // "NVIDIA H200, compute capability 9.0, 140.4 GiB"
RawMemory memory(int index);             // cudaMalloc and cudaFree

// Copies of `bytes` between host and device, in the order of the device's other work. copy_to_device returns as soon as the host memory
// may be changed; copy_to_host when the values have arrived.
void copy_to_device(void* to, const void* from, size_t bytes, int index);
void copy_to_host(void* to, const void* from, size_t bytes, int index);
void copy_on_device(void* to, const void* from, size_t bytes, int index);
void copy_between_devices(void* to, int to_index, const void* from, int from_index, size_t bytes);
void synchronize(int index);  // waits for everything queued; throws DeviceError if a kernel failed

// Matrix products of float32 values, and their convolutions through cuDNN, round the factors to TF32 (10 bits of precision)
// from now on: several times as fast. Process-wide, off at first. Implemented in cuda/gemm.cu.
void set_allow_tf32(bool allow);
bool allow_tf32();

// Who convolves. kAuto: cuBLAS for 1x1 filters, cuDNN for bfloat16 and TF32 where it is built in and has a deterministic
// kernel, the project's own kernels elsewhere; kOwn: never cuDNN; kCudnn: cuDNN for every type and filter where it can.
// Process-wide. Implemented in cuda/conv2d_backend.cu.
enum class ConvolutionBackend { kAuto, kOwn, kCudnn };
void set_convolution_backend(ConvolutionBackend backend);  // throws UsageError: kCudnn in a build without cuDNN
ConvolutionBackend convolution_backend();
bool has_cudnn();                    // this build can call it
std::string describe_convolution();  // "cuDNN 9.19 for bfloat16, cuBLAS for 1x1, own kernels elsewhere"

}  // namespace eq::cuda
