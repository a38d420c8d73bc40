// Resizing, level fusion, pooling and concatenation. GB/s counts each element of inputs and outputs once, as an ideal
// single pass would move them.

#include <benchmark/benchmark.h>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/kernels/resize.h"

namespace {

using namespace eq;

Tensor filled(const Shape& shape) {
  Tensor x = Tensor::empty(shape);
  float* values = x.data<float>();
  for (int64_t i = 0; i < x.numel(); ++i) values[i] = float(i % 17) - 8;
  return x;
}

void report(benchmark::State& state, size_t bytes) { state.SetBytesProcessed(int64_t(state.iterations()) * int64_t(bytes)); }

// The fusion site of UPerNet-ResNet-18 at 256 x 256: 128 channels at 64, 32, 16 and 8, to 64, batch 8.
struct Site {
  explicit Site(bool equalized) {
    options.out_h = options.out_w = 64;
    for (int64_t side : {64, 32, 16, 8}) {
      branches.push_back(filled({8, side, side, 128}));
      bytes += branches.back().bytes();
      if (!equalized) continue;
      options.shift.push_back(Tensor::full({128}, 0.25));
      options.scale.push_back(Tensor::full({128}, 1.5));
    }
    bytes += 4 * size_t{8} * 64 * 64 * 512;
  }
  std::vector<Tensor> branches;
  FuseLevelsOptions options;
  size_t bytes = 0;
};

void fuse_levels_forward(benchmark::State& state) {
  const Site site(state.range(0) != 0);
  for (auto _ : state) benchmark::DoNotOptimize(fuse_levels(site.branches, site.options).raw_data());
  report(state, site.bytes);
}

void fuse_levels_backward(benchmark::State& state) {
  const Site site(state.range(0) != 0);
  const Tensor grad_y = filled({8, 64, 64, 512});
  std::vector<int64_t> channels(4, 128);
  for (auto _ : state) {
    std::vector<Tensor> grads;
    for (const Tensor& branch : site.branches) grads.push_back(Tensor::empty_like(branch));
    cpu::fuse_levels_backward(grad_y, channels, grads, site.options);
  }
  report(state, site.bytes);
}

// What fuse_levels replaces: resize each branch, subtract, multiply, concatenate.
void fuse_levels_in_steps(benchmark::State& state) {
  const Site site(true);
  for (auto _ : state) {
    std::vector<Tensor> parts;
    for (size_t i = 0; i < site.branches.size(); ++i) {
      const Tensor resized = resize_bilinear(site.branches[i], 64, 64, false);
      parts.push_back(mul(sub(resized, site.options.shift[i]), site.options.scale[i]));
    }
    benchmark::DoNotOptimize(concat(parts, 3).raw_data());
  }
  report(state, site.bytes);
}

void bilinear_forward(benchmark::State& state) {
  const int64_t side = state.range(0), out = state.range(1), channels = state.range(2);
  const Tensor x = filled({8, side, side, channels});
  for (auto _ : state) benchmark::DoNotOptimize(resize_bilinear(x, out, out, false).raw_data());
  report(state, x.bytes() + size_t(8 * out * out * channels) * 4);
}

void bilinear_backward(benchmark::State& state) {
  const int64_t side = state.range(0), out = state.range(1), channels = state.range(2);
  const Tensor grad_y = filled({8, out, out, channels});
  const Shape shape{8, side, side, channels};
  for (auto _ : state) {
    Tensor grad_x = Tensor::empty(shape);
    cpu::resize_bilinear_backward(grad_y, grad_x, false);
  }
  report(state, grad_y.bytes() + size_t(shape.numel()) * 4);
}

// The stem's pooling: 3 x 3, stride 2, padding 1.
void max_pool_forward(benchmark::State& state) {
  const Tensor x = filled({8, 128, 128, 64});
  for (auto _ : state) benchmark::DoNotOptimize(max_pool2d(x, Pool2dOptions::square(3, 2, 1)).raw_data());
  report(state, x.bytes() + x.bytes() / 4);
}

void max_pool_forward_backward(benchmark::State& state) {
  Tensor x = filled({8, 128, 128, 64}).set_requires_grad();
  const Tensor grad_y = filled({8, 64, 64, 64});
  for (auto _ : state) {
    max_pool2d(x, Pool2dOptions::square(3, 2, 1)).backward(grad_y);
    x.set_grad({});
  }
  report(state, 2 * x.bytes() + 2 * grad_y.bytes() + grad_y.bytes() / 2);  // x, y, bytes of places twice, grad_y, grad_x
}

// Pyramid pooling on a stride-8 feature map.
void adaptive_pool_forward(benchmark::State& state) {
  const Tensor x = filled({8, 32, 32, 512});
  for (auto _ : state) benchmark::DoNotOptimize(adaptive_avg_pool2d(x, state.range(0), state.range(0)).raw_data());
  report(state, x.bytes());
}

void adaptive_pool_backward(benchmark::State& state) {
  const Tensor grad_y = filled({8, state.range(0), state.range(0), 512});
  for (auto _ : state) {
    Tensor grad_x = Tensor::empty({8, 32, 32, 512});
    cpu::adaptive_avg_pool2d_backward(grad_y, grad_x);
  }
  report(state, size_t{8} * 32 * 32 * 512 * 4);
}

// The bound for everything here: read and write once.
void concat_channels(benchmark::State& state) {
  const std::vector<Tensor> parts(4, filled({8, 64, 64, 128}));
  for (auto _ : state) benchmark::DoNotOptimize(concat(parts, 3).raw_data());
  report(state, 8 * parts[0].bytes());
}

BENCHMARK(fuse_levels_forward)->ArgName("equalized")->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(fuse_levels_backward)->ArgName("equalized")->Arg(0)->Arg(1)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(fuse_levels_in_steps)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(bilinear_forward)->Args({64, 256, 11})->Args({32, 64, 128})->Args({32, 128, 150})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(bilinear_backward)->Args({64, 256, 11})->Args({32, 64, 128})->Args({32, 128, 150})->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(max_pool_forward)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(max_pool_forward_backward)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(adaptive_pool_forward)->Arg(1)->Arg(2)->Arg(3)->Arg(6)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(adaptive_pool_backward)->Arg(1)->Arg(2)->Arg(3)->Arg(6)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(concat_channels)->UseRealTime()->Unit(benchmark::kMillisecond);

}  // namespace
