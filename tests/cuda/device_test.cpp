#include "autograd/functional.h"
#include "core/allocator.h"
#include "cuda/parity.h"
#include "in_child.h"
#ifdef EQ_CUDA_SIMULATED
#include <cublas_v2.h>
#include <cuda_runtime.h>

#include "cuda/launch.h"
#endif

using namespace eq;
using namespace eq::test;
using Catch::Contains;

TEST_CASE("cuda: tensors travel and come back with the same bits", "[cuda][device]") {
  EQ_NEED_CUDA();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    const Tensor x = random_tensor({3, 5, 7}, 1).to(dtype);
    const Tensor there = x.to(Device::cuda());
    CHECK(there.device() == Device::cuda());
    CHECK(bit_equal(there.to(Device::cpu()), x));
    CHECK(bit_equal(there.clone().to(Device::cpu()), x));
    CHECK(there.value_at(11) == x.value_at(11));
  }
  const Tensor large = random_tensor({6, 1 << 20}, 2, DType::kFloat64);  // more than one piece of the staging buffers
  CHECK(bit_equal(large.to(Device::cuda()).to(Device::cpu()), large));
  const Tensor empty = Tensor::empty({0, 3}).to(Device::cuda());
  CHECK(empty.to(Device::cpu()).shape() == Shape{0, 3});
}

TEST_CASE("cuda: a tensor changes in place and converts", "[cuda][device]") {
  EQ_NEED_CUDA();
  Tensor x = Tensor::full({5}, 1.5, DType::kFloat32, Device::cuda());
  x.add_(Tensor::full({5}, 2, DType::kFloat32, Device::cuda()), 0.25).mul_(3);
  CHECK(x.to_vector<float>() == std::vector<float>(5, 6));
  CHECK(x.to(DType::kInt64).to_vector<int64_t>() == std::vector<int64_t>(5, 6));
  CHECK(x.fill_(-1).to(DType::kBFloat16).to(DType::kFloat64).to_vector<double>() == std::vector<double>(5, -1));
  CHECK(Tensor::zeros({2}).copy_(x.alias({2})).to_vector<float>() == std::vector<float>(2, -1));
  CHECK(Tensor::full({}, 3, DType::kFloat64, Device::cuda()).item() == 3);
}

TEST_CASE("cuda: conversion between all types, in packs and out of them", "[cuda][device]") {
  EQ_NEED_CUDA();
  const DType types[] = {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64, DType::kUInt8, DType::kBFloat16, DType::kBool};
  Tensor values = Tensor::empty({1031}, DType::kFloat64);
  for (int64_t i = 0; i < values.numel(); ++i) values.data<double>()[i] = double(i * 7 % 101);  // exact in every type but bool
  for (const DType from : types) {
    const Tensor here = values.to(from), there = here.to(Device::cuda());
    for (const DType to : types) {
      INFO(name_of(from) << " to " << name_of(to));
      CHECK(bit_equal(there.to(to).to(Device::cpu()), here.to(to)));
      CHECK(bit_equal(there.alias({1027}, 3).to(to).to(Device::cpu()), here.alias({1027}, 3).to(to)));
    }
    CHECK(bit_equal(Tensor::full({1031}, 1, from, Device::cuda()).to(Device::cpu()), Tensor::full({1031}, 1, from)));
  }
}

TEST_CASE("cuda: a part of a tensor changes in place and its neighbours do not", "[cuda][device]") {
  EQ_NEED_CUDA();
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16}) {
    for (const int64_t begin : {0, 1, 8}) {
      for (const int64_t count : {1, 16, 1000, 1001}) {
        INFO(name_of(dtype) << ", " << count << " from " << begin);
        const int64_t size = begin + count + 9;
        const Tensor other = Tensor::full({size}, 2, dtype, Device::cuda());
        Tensor x = Tensor::full({size}, 1.5, dtype, Device::cuda()), part = x.alias({count}, begin);
        part.add_(other.alias({count}, 9), 0.25).mul_(3);
        std::vector<double> expected(size_t(size), 1.5);
        std::fill_n(expected.begin() + begin, count, 6.0);
        CHECK(x.to(DType::kFloat64).to_vector<double>() == expected);
        part.fill_(-1);
        std::fill_n(expected.begin() + begin, count, -1.0);
        CHECK(x.to(DType::kFloat64).to_vector<double>() == expected);
      }
    }
  }
}

TEST_CASE("cuda: tensors on two devices in one operator are refused by name", "[cuda][device]") {
  EQ_NEED_CUDA();
  const Tensor here = random_tensor({2, 3}, 1, DType::kFloat32), there = here.to(Device::cuda());
  auto message = [](auto&& fn) -> std::string {
    try {
      fn();
    } catch (const DeviceError& error) {
      return error.what_happened();
    }
    return "nothing was thrown";
  };
  CHECK_THAT(message([&] { add(there, here); }), Contains("b is on cpu") && Contains("a is on cuda:0"));
  CHECK_THAT(message([&] { linear(there, here); }), Contains("weight is on cpu") && Contains("x is on cuda:0"));
  CHECK_THAT(message([&] { there.clone().add_(here); }), Contains("cpu") && Contains("cuda:0"));
  CHECK_THAT(message([&] { there.data<float>(); }), Contains("cuda:0"));
  Tensor leaf = there.clone().set_requires_grad();
  CHECK_THROWS_WITH(leaf.set_grad(here), Contains("cpu") && Contains("cuda:0"));
  CHECK_THROWS_AS(add(leaf, there).backward(here), AutogradError);
}

TEST_CASE("cuda: numbers that a type does not have become the nearest, as on the CPU", "[cuda][device]") {
  EQ_NEED_CUDA();
  const Tensor x = Tensor::from<float>({300, -1, NAN, INFINITY, -INFINITY, 255.9f, 1e10f}, {7});
  for (const DType type : {DType::kUInt8, DType::kInt32, DType::kInt64, DType::kBool}) {
    INFO(name_of(type));
    CHECK(bit_equal(x.to(Device::cuda()).to(type).to(Device::cpu()), x.to(type)));
  }
  CHECK_THROWS_AS(Tensor::full({1}, 300, DType::kUInt8, Device::cuda()), DTypeError);
}

TEST_CASE("cuda: a tensor goes to another device, and operators there give the same bits", "[cuda][device]") {
  EQ_NEED_CUDA();
  int devices = 0;
  if constexpr (kBuiltWithCuda) devices = cuda::device_count();
  if (devices < 2) {
    WARN("SKIPPED: there is only one CUDA device");
    return;
  }
  const Tensor x = random_tensor({2, 9, 7, 16}, 1, DType::kFloat32), weight = random_tensor({8, 3, 3, 16}, 2, DType::kFloat32),
               matrix = random_tensor({5, 16}, 3, DType::kFloat32);
  const Tensor first = x.to(Device::cuda(0)), second = first.to(Device::cuda(1));
  CHECK(second.device() == Device::cuda(1));
  CHECK(bit_equal(second.to(Device::cpu()), x));
  CHECK(bit_equal(second.to(Device::cuda(0)).to(Device::cpu()), x));
  CHECK_THROWS_AS(add(first, second), DeviceError);
  const auto run = [&](const Tensor& there) {  // what keeps something for each device: libraries, tables of taps, workspaces
    Tensor leaf = there.detach().set_requires_grad();
    const Tensor y = resize_bilinear(conv2d(leaf, weight.to(there.device()), {}, {}), 20, 11, false),
                 z = linear(relu(leaf), matrix.to(there.device()));
    add(sum(y), sum(z)).backward();
    return std::vector<Tensor>{y.detach(), z.detach(), leaf.grad()};
  };
  const std::vector<Tensor> expected = run(first), actual = run(second);
  for (size_t i = 0; i < expected.size(); ++i) {
    CHECK(actual[i].device() == Device::cuda(1));
    CHECK(bit_equal(actual[i].to(Device::cpu()), expected[i].to(Device::cpu())));
  }
}

TEST_CASE("cuda: a device that does not exist", "[cuda][device]") {
  EQ_NEED_CUDA();
  CHECK(Device::parse("cuda") == Device::cuda(0));
  CHECK_THROWS_WITH(Device::parse("cuda:77"), Contains("cuda:77"));
  CHECK_THROWS_AS(Tensor::empty({2}, DType::kFloat32, Device::cuda(77)), DeviceError);
}

TEST_CASE("cuda: why there is no device is said in words", "[cuda][device]") {
  CHECK(cuda::trouble_words(0, 13000, "no driver") == "this machine has no CUDA driver");
  CHECK(cuda::trouble_words(12040, 13000, "insufficient") == "the CUDA driver (12.4) is older than the toolkit this was built with (13.0)");
  CHECK(cuda::trouble_words(13000, 13000, "no CUDA-capable device is detected") ==
        "this machine has no CUDA device: no CUDA-capable device is detected");
  CHECK(cuda::trouble_words(13000, 13000, "") == "this machine has no CUDA device");
}

TEST_CASE("cuda: out of memory names device, amounts and operator, and the run can go on", "[cuda][device]") {
  EQ_NEED_CUDA();
  CachingAllocator& memory = allocator(Device::cuda());
  memory.release_cached();
  const Tensor x = Tensor::full({64, 1024}, 1, DType::kFloat32, Device::cuda());
  memory.set_limit(memory.stats().active_bytes + (100 << 10));
  try {
    relu(x);
    FAIL("the limit was not kept");
  } catch (const OutOfMemoryError& error) {
    CHECK_THAT(error.what_happened(), Contains("256.0 KiB") || Contains("0.2 MiB") || Contains("0.3 MiB"));
    CHECK_THAT(error.what_happened(), Contains("cuda:0") && Contains("relu"));
    CHECK_THAT(error.where(), Contains("active") && Contains("limit"));
  }
  CHECK(relu(x.alias({16, 1024})).value_at(5) == 1);  // a smaller one fits
  memory.set_limit(0);
  CHECK(relu(x).value_at(65535) == 1);
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 41}, DType::kUInt8, Device::cuda()), OutOfMemoryError);  // more than any device has
  CHECK(relu(x).value_at(65535) == 1);
}

#ifdef EQ_CUDA_SIMULATED
TEST_CASE("cuda: new memory of a simulated device holds NaNs", "[cuda][device]") {
  allocator(Device::cuda()).release_cached();
  for (const double value : Tensor::empty({100}, DType::kFloat64, Device::cuda()).to_vector<double>()) CHECK(std::isnan(value));
}

// `count` numbers of the block's shared memory.
static void fill_shared(int count) {
  for (int i = 0; i < count; ++i) cuda::shared_memory<float>()[i] = 1;
}

TEST_CASE("cuda: whoever reaches where a simulated device has no memory for it ends the program", "[cuda][device]") {
  const auto end_of_kernel = [](int count) {
    return in_child([=] { cuda::launch(Device::cuda(), "fill", cuda::Grid{1, 32, 20 * sizeof(float)}, fill_shared, count); }).first;
  };
  CHECK(end_of_kernel(20) == 0);
  const int beyond = end_of_kernel(21);
  CHECK((WIFSIGNALED(beyond) && WTERMSIG(beyond) == SIGSEGV));
#ifndef __SANITIZE_ADDRESS__
  const Tensor there = Tensor::full({8}, 1, DType::kFloat32, Device::cuda());
  const int on_host = in_child([&] { *static_cast<volatile float*>(there.raw_data()) = 2; }).first;
  CHECK((WIFSIGNALED(on_host) && WTERMSIG(on_host) == SIGSEGV));
#endif
}

TEST_CASE("cuda: an error of an earlier kernel is not called a lack of memory", "[cuda][device]") {
  CachingAllocator& memory = allocator(Device::cuda());
  memory.release_cached();
  simulated_error = cudaErrorLaunchFailure;
  CHECK_THROWS_AS(Tensor::empty({64}, DType::kFloat32, Device::cuda()), DeviceError);
  CHECK(Tensor::full({64}, 1, DType::kFloat32, Device::cuda()).value_at(5) == 1);  // the block goes to the cache
  simulated_error = cudaErrorLaunchFailure;
  memory.release_cached();
  CHECK(cudaGetLastError() == cudaSuccess);
  CHECK_THROWS_AS(Tensor::empty({int64_t{1} << 41}, DType::kUInt8, Device::cuda()), OutOfMemoryError);
  CHECK(cudaGetLastError() == cudaSuccess);
}

TEST_CASE("cuda: a program without code for the GPU says what to build", "[cuda][device]") {
  const Tensor x = Tensor::full({8}, 1, DType::kFloat32, Device::cuda());
  for (const cudaError_t status :
       {cudaErrorInvalidDeviceFunction, cudaErrorNoKernelImageForDevice, cudaErrorUnsupportedPtxVersion, cudaErrorLaunchFailure}) {
    simulated_error = status;
    try {
      relu(x);
      FAIL("no error");
    } catch (const DeviceError& error) {
      CHECK_THAT(error.try_this(), Contains(status == cudaErrorLaunchFailure ? "compute-sanitizer" : "CMAKE_CUDA_ARCHITECTURES=native"));
    }
  }
  CHECK(relu(x).value_at(5) == 1);
}

TEST_CASE("cuda: memory that a library or a kernel lacks is a lack of memory, and work goes on afterwards", "[cuda][device]") {
  const Tensor x = Tensor::full({32, 32}, 1, DType::kFloat32, Device::cuda());
  const auto lacks_memory = [](const std::function<void()>& fn) {
    allocator(Device::cuda()).release_cached();
    simulated_full = true;
    CHECK_THROWS_AS(fn(), OutOfMemoryError);
    simulated_full = false;
  };
  Tensor y = matmul(x, x);
  lacks_memory([&] { y.mul_(2); });
  lacks_memory([&] { softmax(x); });
  lacks_memory([&] { matmul(x, x); });
  CHECK(y.value_at(5) == 32);
  simulated_error = cudaErrorMemoryAllocation;
  try {
    cuda::stream_of(Device::cuda());
    FAIL("no error");
  } catch (const OutOfMemoryError& error) {
    CHECK_THAT(error.where(), Contains("cudaSetDevice"));
    CHECK_THAT(error.try_this(), Contains("train.batch_size"));
  }
  CHECK(relu(x).value_at(5) == 1);
}

TEST_CASE("cuda: a library or a kernel that lacks memory gets what the allocator only keeps", "[cuda][device]") {
  CachingAllocator& memory = allocator(Device::cuda());
  const Tensor x = Tensor::full({32, 32}, 1, DType::kFloat32, Device::cuda());
  const Tensor bias = Tensor::full({32}, 3, DType::kFloat32, Device::cuda());
  const auto with_cache_only = [&](const std::function<Tensor()>& fn, double expected) {
    fn();  // leaves what it needs in the cache
    Tensor::empty({1 << 20}, DType::kFloat32, Device::cuda());  // something else, too
    simulated_full = true;
    const Tensor result = fn();
    CHECK_FALSE(simulated_full);
    CHECK(memory.stats().cached_bytes < (1 << 20));
    CHECK(result.value_at(5) == expected);
  };
  Tensor y = x.clone();
  with_cache_only([&] { return y.mul_(2); }, 4);  // twice in all: a kernel that lacked memory has done nothing
  with_cache_only([&] { return softmax(x); }, 1. / 32);
  with_cache_only([&] { return matmul(x, x); }, 32);
  with_cache_only([&] { return linear(x, x, bias); }, 35);  // the bias once
}
#endif

TEST_CASE("cuda: bfloat16 rounds to nearest even, on host and device alike", "[cuda][device]") {
  const float values[] = {1.f, 1.00390625f, 1.01171875f, -3.1415926f, 3.3895e38f, 1e-40f, 0.f, -0.f, INFINITY};
  const uint16_t bits[] = {0x3f80, 0x3f80, 0x3f82, 0xc049, 0x7f7f, 0x0001, 0x0000, 0x8000, 0x7f80};
  for (size_t i = 0; i < std::size(values); ++i) CHECK(bfloat16(values[i]).bits == bits[i]);
  CHECK(std::isnan(float(bfloat16(NAN))));
  EQ_NEED_CUDA();
  const Tensor x = random_tensor({1000}, 3, DType::kFloat32);
  CHECK(bit_equal(x.to(Device::cuda()).to(DType::kBFloat16).to(Device::cpu()), x.to(DType::kBFloat16)));
}
