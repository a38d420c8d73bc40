// The convolutions of UPerNet-ResNet-50, all three passes, and two depthwise ones; our kernels beside cuDNN's (whose row is
// ours again where cuDNN has no deterministic kernel). A 1x1 convolution without cuDNN is a product by cuBLAS.

#include <fmt/format.h>

#include "core/cuda_device.h"
#include "core/kernels/conv2d.h"
#include "cuda_rates.h"

namespace eq::bench {
namespace {

struct Convolution {
  const char* what;
  int64_t side, in, out, kernel, stride, groups = 1;
};
constexpr Convolution kConvolutions[] = {
    {"fusion", 128, 2048, 512, 3, 1},
    {"pyramid", 128, 512, 512, 3, 1},
    {"pooled context", 16, 4096, 512, 3, 1},
    {"lateral", 128, 256, 512, 1, 1},
    {"stem 1", 512, 3, 32, 3, 2},
    {"stem 3", 256, 32, 64, 3, 1},
    {"stage 1", 128, 64, 64, 3, 1},
    {"stage 1 wide", 128, 64, 256, 1, 1},
    {"stage 1 narrow", 128, 256, 64, 1, 1},
    {"stage 2 down", 128, 128, 128, 3, 2},
    {"stage 2", 64, 128, 128, 3, 1},
    {"stage 3", 32, 256, 256, 3, 1},
    {"stage 3 narrow", 32, 1024, 256, 1, 1},
    {"stage 4", 16, 512, 512, 3, 1},
    {"classifier", 128, 512, kClasses, 1, 1},
    {"depthwise 3x3", 64, 256, 256, 3, 1, 256},
    {"depthwise 7x7", 128, 96, 96, 7, 1, 96},
};

void measure_convolution(Rates& rates, const Sizes& sizes, const Convolution& c, DType type, const char* by) {
  const bool depthwise = c.groups > 1;
  const Shape x = sizes.features(c.side, c.in);
  const int64_t in = x.at(-1), out = depthwise ? in : sizes.channels(c.out), pad = c.kernel / 2;
  const Conv2dOptions options = Conv2dOptions().stride(c.stride).padding(pad).set_groups(depthwise ? in : 1);
  const Shape weight = {out, c.kernel, c.kernel, depthwise ? 1 : in};
  const int64_t side = conv_output_size(x[1], c.kernel, c.stride, 1, pad, pad);
  const Shape y = {x[0], side, side, out};
  const auto row = [&](const char* pass) {
    return Rate{.family = depthwise ? "depthwise" : "convolution",
                .kernel = fmt::format("{}, {}", c.what, pass),
                .size = fmt::format("{} to {}, {}x{}{}", to_string(x), out, c.kernel, c.kernel,
                                    c.stride > 1 ? fmt::format("/{}", c.stride) : ""),
                .by = by,
                .type = type,
                .bytes = bytes_of(x, type) + bytes_of(weight, type) + bytes_of(y, type),
                .flops = depthwise ? 0 : 2 * double(y.numel()) * double(c.kernel * c.kernel * in)};
  };
  rates.measure(row("forward"), [=] {
    return [=, a = values(x, type), w = values(weight, type), b = like(y, type)]() mutable {
      cuda::conv2d_forward(a, w, {}, b, options);
    };
  });
  rates.measure(row("input gradient"), [=] {
    return [=, g = values(y, type), w = values(weight, type), a = like(x, type)]() mutable {
      cuda::conv2d_backward_input(g, w, a, options);
    };
  });
  rates.measure(row("weight gradient"), [=] {
    return [=, g = values(y, type), a = values(x, type), w = like(weight, type)]() mutable {
      cuda::conv2d_backward_weight(g, a, w, options);
    };
  });
}

}  // namespace

void measure_convolutions(Rates& rates, const Sizes& sizes, DType type) {
  for (const Convolution& c : kConvolutions) {
    cuda::set_convolution_backend(cuda::ConvolutionBackend::kOwn);
    measure_convolution(rates, sizes, c, type, c.kernel == 1 && c.stride == 1 ? "cuBLAS" : "own");
    if (!cuda::has_cudnn()) continue;
    cuda::set_convolution_backend(cuda::ConvolutionBackend::kCudnn);
    measure_convolution(rates, sizes, c, type, "cuDNN");
  }
}

}  // namespace eq::bench
