// Rates of the CUDA kernels at the sizes of UPerNet-ResNet-50 on crops of 512 x 512, batch 8, in float32 and bfloat16: GB/s
// beside the device's own copy for kernels bound by memory, TFLOP/s beside cuBLAS for convolutions, ours and cuDNN's.
//   build/cuda_bench [--filter TEXT] [--batch N] [--json FILE] [--smoke]
// The first rows are the device's own; each row is printed as soon as it is measured. Times of kernels under about 10 us are
// those of launching them.

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/cuda_device.h"
#include "core/kernels/assign.h"
#include "core/kernels/concat.h"
#include "core/kernels/dropout.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/group_norm.h"
#include "core/kernels/layer_norm.h"
#include "core/kernels/matmul.h"
#include "core/kernels/optimizer_step.h"
#include "core/kernels/reduce.h"
#include "core/kernels/resize.h"
#include "core/kernels/softmax.h"
#include "core/kernels/windows.h"
#include "cuda_rates.h"

namespace eq::bench {
namespace {

Tensor vector_of(int64_t count) { return values({count}, DType::kFloat32); }

void measure_device(Rates& rates) {
  const bool smoke = rates.settings().smoke;
  const int64_t count = smoke ? 4096 : int64_t{1} << 28;
  rates.measure({.family = "device",
                 .kernel = "copy",
                 .size = fmt::format("{} MiB", count * 4 >> 20),
                 .by = "runtime",
                 .bytes = 8.0 * double(count)},
                [&] {
                  const Tensor from = values({count}, DType::kFloat32), to = Tensor::empty_like(from);
                  return [=] { cuda::copy_on_device(to.raw_data(), from.raw_data(), from.bytes(), 0); };
                });
  const int64_t n = smoke ? 16 : 8192;
  for (const DType type : {DType::kBFloat16, DType::kFloat32}) {
    const double extent = double(n);
    rates.measure({.family = "device",
                   .kernel = "matrix product",
                   .size = fmt::format("{} x {} x {}", n, n, n),
                   .by = "cuBLAS",
                   .type = type,
                   .bytes = 3 * extent * extent * double(size_of(type)),
                   .flops = 2 * extent * extent * extent},
                  [=] {
                    const Tensor a = values({n, n}, type), b = values({n, n}, type);
                    return [=, y = Tensor::empty_like(a)]() mutable { cuda::matmul(a, false, b, false, y); };
                  });
  }
}

void measure_elementwise(Rates& rates, const Sizes& sizes, DType type) {
  const Shape shape = sizes.features(128, 256);
  const double once = bytes_of(shape, type);
  const auto row = [&](const char* kernel, double bytes) {
    return Rate{.family = "elementwise", .kernel = kernel, .size = to_string(shape), .type = type, .bytes = bytes};
  };
  const auto x = [=] { return values(shape, type); };
  rates.measure(row("relu", 2 * once), [=] {
    return [a = x(), y = like(shape, type)]() mutable { cuda::unary_forward(UnaryOp::relu, a, 0, 0, y); };
  });
  rates.measure(row("relu backward", 3 * once), [=] {
    return [g = x(), y = x(), grad = like(shape, type)]() mutable {
      cuda::unary_backward(UnaryOp::relu, g, {}, y, 0, 0, grad);
    };
  });
  rates.measure(row("gelu", 2 * once), [=] {
    return [a = x(), y = like(shape, type)]() mutable { cuda::unary_forward(UnaryOp::gelu, a, 0, 0, y); };
  });
  rates.measure(row("add", 3 * once), [=] {
    return [a = x(), b = x(), y = like(shape, type)]() mutable { cuda::binary_forward(BinaryOp::add, a, b, y); };
  });
  rates.measure(row("add, one value per channel", 2 * once), [=] {
    return [a = x(), b = values({shape.at(-1)}, type), y = like(shape, type)]() mutable {
      cuda::binary_forward(BinaryOp::add, a, b, y);
    };
  });
  rates.measure(row("add in place", 3 * once), [=] { return [a = x(), b = x()]() mutable { cuda::add_scaled(a, b, 1); }; });
  rates.measure(row("dropout", 2 * once),
                [=] { return [a = x(), y = like(shape, type)]() mutable { cuda::dropout(a, 0.1, 1, 2, y); }; });
  const DType other = type == DType::kFloat32 ? DType::kBFloat16 : DType::kFloat32;
  rates.measure({.family = "cast",
                 .kernel = fmt::format("to {}", name_of(other)),
                 .size = to_string(shape),
                 .type = type,
                 .bytes = once + bytes_of(shape, other)},
                [=] { return [a = x(), y = like(shape, other)]() mutable { cuda::convert(a, y); }; });
}

void measure_batch_norm(Rates& rates, const Sizes& sizes, DType type) {
  for (const Shape& shape :
       {sizes.features(256, 64), sizes.features(128, 256), sizes.features(128, 512), sizes.features(16, 2048)}) {
    const int64_t channels = shape.at(-1);
    const double once = bytes_of(shape, type);
    const auto row = [&](std::string kernel, double bytes) {
      return Rate{.family = "batch norm", .kernel = kernel, .size = to_string(shape), .type = type, .bytes = bytes};
    };
    rates.measure(row("statistics", once), [=] {
      return [x = values(shape, type), a = vector_of(channels), b = vector_of(channels), c = vector_of(channels)]() mutable {
        cuda::batch_norm_statistics(x, a, b, c, 1e-5);
      };
    });
    for (const bool relu : {false, true}) {
      const std::string with = relu ? ", relu" : "";
      rates.measure(row("apply" + with, 2 * once), [=] {
        return [=, x = values(shape, type), y = like(shape, type), a = vector_of(channels)]() mutable {
          cuda::batch_norm_forward(x, a, a, a, a, relu, y);
        };
      });
      rates.measure(row("backward" + with, 5 * once), [=] {
        return [=, x = values(shape, type), g = values(shape, type), grad = like(shape, type), a = vector_of(channels),
                grad_gamma = vector_of(channels), grad_beta = vector_of(channels)]() mutable {
          cuda::batch_norm_backward(g, x, a, a, a, a, relu, true, grad, grad_gamma, grad_beta);
        };
      });
    }
  }
}

void measure_other_norms(Rates& rates, const Sizes& sizes, DType type) {
  for (const Shape& shape : {sizes.features(128, 96), sizes.features(16, 768)}) {
    const int64_t channels = shape.at(-1), rows = shape.numel() / channels;
    const double once = bytes_of(shape, type);
    const auto row = [&](const char* family, const char* kernel, double bytes) {
      return Rate{.family = family, .kernel = kernel, .size = to_string(shape), .type = type, .bytes = bytes};
    };
    rates.measure(row("layer norm", "forward", 2 * once), [=] {
      return [x = values(shape, type), y = like(shape, type), a = vector_of(channels), mean = vector_of(rows),
              inv_std = vector_of(rows)]() mutable { cuda::layer_norm_forward(x, a, a, 1e-6, y, mean, inv_std); };
    });
    rates.measure(row("layer norm", "backward", 3 * once), [=] {
      return [x = values(shape, type), g = values(shape, type), grad = like(shape, type), a = vector_of(channels),
              b = vector_of(channels), c = vector_of(channels), mean = vector_of(rows),
              inv_std = vector_of(rows)]() mutable { cuda::layer_norm_backward(g, x, a, mean, inv_std, grad, b, c); };
    });
    const int64_t groups = channels % 32 == 0 ? 32 : 1;
    const Shape statistics = {shape[0], groups};
    rates.measure(row("group norm", "forward", 3 * once), [=] {
      return [=, x = values(shape, type), y = like(shape, type), a = vector_of(channels),
              mean = like(statistics, DType::kFloat32), inv_std = like(statistics, DType::kFloat32)]() mutable {
        cuda::group_norm_forward(x, groups, a, a, 1e-5, y, mean, inv_std);
      };
    });
    rates.measure(row("group norm", "backward", 5 * once), [=] {
      return [=, x = values(shape, type), g = values(shape, type), grad = like(shape, type), a = vector_of(channels),
              b = vector_of(channels), c = vector_of(channels), mean = values(statistics, DType::kFloat32),
              inv_std = values(statistics, DType::kFloat32)]() mutable {
        cuda::group_norm_backward(g, x, groups, a, mean, inv_std, grad, b, c);
      };
    });
  }
}

// Of Swin's first and third stage, shifted by half a window; their extents are no multiples of it.
void measure_windows(Rates& rates, const Sizes& sizes, DType type) {
  for (const Shape& image : {sizes.features(128, 96), sizes.features(32, 384)}) {
    const WindowGrid grid(image, 7, 3);
    const Shape windows = grid.windows(image);
    const auto row = [&](const char* kernel, double bytes) {
      return Rate{.family = "windows", .kernel = kernel, .size = to_string(image), .type = type, .bytes = bytes};
    };
    rates.measure(row("split", bytes_of(image, type) + bytes_of(windows, type)), [=] {
      return [=, x = values(image, type), y = like(windows, type)]() mutable { cuda::split_windows(x, grid, y); };
    });
    rates.measure(row("join", 2 * bytes_of(image, type)), [=] {
      return [=, x = values(windows, type), y = like(image, type)]() mutable { cuda::join_windows(x, grid, y); };
    });
  }
}

void measure_resizing(Rates& rates, const Sizes& sizes, DType type) {
  const std::pair<Shape, Shape> pairs[] = {{sizes.features(64, 512), sizes.features(128, 512)},
                                           {sizes.features(128, kClasses), sizes.features(512, kClasses)}};
  for (const auto& [small, large] : pairs) {
    const Rate row{.family = "bilinear",
                   .size = to_string(small) + " to " + to_string(large),
                   .type = type,
                   .bytes = bytes_of(small, type) + bytes_of(large, type)};
    Rate forward = row, backward = row;
    forward.kernel = "forward", backward.kernel = "backward";
    rates.measure(forward, [=, small = small, large = large] {
      return [x = values(small, type), y = like(large, type)]() mutable { cuda::resize_bilinear_forward(x, y, false); };
    });
    rates.measure(backward, [=, small = small, large = large] {
      return
          [g = values(large, type), grad = like(small, type)]() mutable { cuda::resize_bilinear_backward(g, grad, false); };
    });
  }
}

// The four levels of the pyramid, each with an equalizer, to the size of the finest.
void measure_fusion(Rates& rates, const Sizes& sizes, DType type) {
  std::vector<Shape> shapes;
  for (const int64_t side : {128, 64, 32, 16}) shapes.push_back(sizes.features(side, 512));
  const int64_t channels = shapes[0].at(-1);
  const Shape whole = {shapes[0][0], shapes[0][1], shapes[0][2], 4 * channels};
  Rate row{
      .family = "fuse_levels", .kernel = "forward", .size = to_string(whole), .type = type, .bytes = bytes_of(whole, type)};
  for (const Shape& shape : shapes) row.bytes += bytes_of(shape, type);
  const auto options = [=] {
    FuseLevelsOptions options{.out_h = whole[1], .out_w = whole[2]};
    for (int i = 0; i < 4; ++i) options.shift.push_back(vector_of(channels)), options.scale.push_back(vector_of(channels));
    return options;
  };
  rates.measure(row, [=] {
    std::vector<Tensor> branches;
    for (const Shape& shape : shapes) branches.push_back(values(shape, type));
    return [=, y = like(whole, type), o = options()]() mutable { cuda::fuse_levels_forward(branches, y, o); };
  });
  row.kernel = "backward";
  rates.measure(row, [=] {
    std::vector<Tensor> grads;
    for (const Shape& shape : shapes) grads.push_back(like(shape, type));
    return [=, g = values(whole, type), o = options()]() mutable {
      cuda::fuse_levels_backward(g, {channels, channels, channels, channels}, grads, o);
    };
  });
  Rate concat{
      .family = "concat", .kernel = "forward", .size = to_string(whole), .type = type, .bytes = 2 * bytes_of(whole, type)};
  rates.measure(concat, [=] {
    std::vector<Tensor> inputs;
    for (int i = 0; i < 4; ++i) inputs.push_back(values(shapes[0], type));
    return [=, y = like(whole, type)]() mutable { cuda::concat_forward(inputs, y, 3); };
  });
}

void measure_losses(Rates& rates, const Sizes& sizes, DType type) {
  const Shape shape = sizes.features(512, kClasses);
  const double once = bytes_of(shape, type);
  const int64_t positions = shape.numel() / kClasses;
  Rate row{.family = "softmax", .kernel = "forward", .size = to_string(shape), .type = type, .bytes = 2 * once};
  rates.measure(row, [=] {
    return [x = values(shape, type), y = like(shape, type)]() mutable { cuda::softmax_forward(x, false, y); };
  });
  row.kernel = "cross entropy and gradient";
  row.bytes = 2 * once + double(positions);
  Tensor labels = Tensor::empty({positions}, DType::kUInt8);
  for (int64_t i = 0; i < positions; ++i) labels.data<uint8_t>()[i] = i % 97 == 0 ? 255 : uint8_t(i * 7 % kClasses);
  labels = labels.to(Device::cuda());
  rates.measure(row, [=] {
    return [=, x = values(shape, type), grad = like(shape, type), loss = like({}, type)]() mutable {
      cuda::cross_entropy(x, labels, {}, loss, grad);
    };
  });
  row.kernel = "Dice loss and gradient";
  row.bytes = 3 * once + 2 * double(positions);
  rates.measure(row, [=] {
    return [=, x = values(shape, type), grad = like(shape, type), loss = like({}, type), slopes = like({2, kClasses}, DType::kFloat64),
            one = Tensor::full({}, 1, type, Device::cuda())]() mutable {
      cuda::dice_loss(x, labels, {}, loss, slopes);
      cuda::dice_loss_backward(x, labels, {}, slopes, one, grad);
    };
  });
  row.kernel = "hard examples";
  row.bytes = once + 3 * double(positions);
  rates.measure(row, [=] {
    return [=, x = values(shape, type), hard = Tensor::empty_like(labels)]() mutable { cuda::hard_examples(x, labels, {}, hard); };
  });
}

void measure_pooling_and_sums(Rates& rates, const Sizes& sizes, DType type) {
  const Pool2dOptions options = Pool2dOptions::square(3, 2, 1);
  const Shape in = sizes.features(256, 64);
  const auto pooled = [](int64_t side) { return pool_output_size(side, 3, 2, 1, false); };
  const Shape out = {in[0], pooled(in[1]), pooled(in[2]), in[3]};
  Rate row{.family = "pooling",
           .kernel = "max 3x3/2 forward",
           .size = to_string(in),
           .type = type,
           .bytes = bytes_of(in, type) + bytes_of(out, type) + bytes_of(out, DType::kUInt8)};
  rates.measure(row, [=] {
    return [=, x = values(in, type), y = like(out, type), places = like(out, DType::kUInt8)]() mutable {
      cuda::max_pool2d_forward(x, y, places, options);
    };
  });
  row.kernel = "max 3x3/2 backward";
  rates.measure(row, [=] {
    Tensor x = values(in, type), y = like(out, type), places = like(out, DType::kUInt8);
    cuda::max_pool2d_forward(x, y, places, options);
    return [=, g = values(out, type)]() mutable { cuda::max_pool2d_backward(g, places, x, options); };
  });
  const Shape coarse = sizes.features(16, 2048), bins = {coarse[0], 2, 2, coarse[3]};
  row.kernel = "adaptive average to 2x2", row.size = to_string(coarse),
  row.bytes = bytes_of(coarse, type) + bytes_of(bins, type);
  rates.measure(row, [=] {
    return [x = values(coarse, type), y = like(bins, type)]() mutable { cuda::adaptive_avg_pool2d_forward(x, y); };
  });
  const Shape shape = sizes.features(128, 512);
  row = {.family = "sum", .kernel = "per channel", .size = to_string(shape), .type = type, .bytes = bytes_of(shape, type)};
  rates.measure(row, [=] {
    return [=, x = values(shape, type), y = like({shape.at(-1)}, type)]() mutable { cuda::sum(x, 0b111, 1, y); };
  });
  row.kernel = "of everything";
  rates.measure(row,
                [=] { return [=, x = values(shape, type), y = like({}, type)]() mutable { cuda::sum(x, 0b1111, 1, y); }; });
}

// Of the largest weight, that of the fusion convolution; always in float32.
void measure_optimizer(Rates& rates, const Sizes& sizes) {
  const Shape shape = {sizes.channels(512), 3, 3, sizes.channels(2048)};
  const double once = bytes_of(shape, DType::kFloat32);
  const auto row = [&](const char* kernel, double passes) {
    return Rate{.family = "optimizer", .kernel = kernel, .size = to_string(shape), .bytes = passes * once};
  };
  const auto fresh = [=] { return values(shape, DType::kFloat32); };
  rates.measure(row("SGD with momentum", 5), [=] {
    const SgdUpdate<double> update{.lr = 1e-3, .decay = 1e-4, .scale = 1, .momentum = 0.9, .nesterov = false};
    return [=, parameter = SteppedParameter{.value = fresh(), .grad = fresh(), .state = {fresh()}}] {
      cuda::sgd_step({update}, {parameter});
    };
  });
  rates.measure(row("AdamW", 7), [=] {
    const AdamWUpdate<double> update{
        .keep = 0.9999, .rate = 1e-3, .scale = 1, .root = 1, .eps = 1e-8, .new1 = 0.1, .beta2 = 0.999, .new2 = 0.001};
    return [=, parameter = SteppedParameter{.value = fresh(), .grad = fresh(), .state = {fresh(), fresh()}}] {
      cuda::adamw_step({update}, {parameter});
    };
  });
  rates.measure(row("average", 3), [=] {
    return [parameter = SteppedParameter{.value = fresh(), .grad = fresh()}] { cuda::average_step({0.999, 0.001}, {parameter}); };
  });
  rates.measure(row("sum of squares", 1), [=] {
    return [parameter = SteppedParameter{.grad = fresh()}, sums = like({1}, DType::kFloat64)] {
      cuda::sums_of_squares({parameter}, sums);
    };
  });
}

void measure_all(Rates& rates) {
  const Sizes sizes{rates.settings().smoke, rates.settings().batch};
  measure_device(rates);
  measure_optimizer(rates, sizes);
  for (const DType type : {DType::kBFloat16, DType::kFloat32}) {
    measure_elementwise(rates, sizes, type);
    measure_batch_norm(rates, sizes, type);
    measure_windows(rates, sizes, type);
    measure_resizing(rates, sizes, type);
    measure_fusion(rates, sizes, type);
    measure_losses(rates, sizes, type);
    measure_pooling_and_sums(rates, sizes, type);
    measure_other_norms(rates, sizes, type);
    measure_convolutions(rates, sizes, type);
  }
}

int run(int count, char** arguments) {
  Settings settings;
  for (int i = 1; i < count; ++i) {
    const std::string name = arguments[i];
    const char* value = i + 1 < count ? arguments[i + 1] : nullptr;
    if (name == "--smoke") {
      settings.smoke = true;
    } else if (name == "--filter" && value != nullptr) {
      settings.filter = value, ++i;
    } else if (name == "--json" && value != nullptr) {
      settings.json = value, ++i;
    } else if (name == "--batch" && value != nullptr && std::atoll(value) > 0) {
      settings.batch = std::atoll(value), ++i;
    } else {
      fmt::print(stderr, "usage: cuda_bench [--filter TEXT] [--batch N] [--json FILE] [--smoke]\n");
      return 2;
    }
  }
  if (cuda::device_count() == 0) {
    fmt::print(stderr, "no CUDA device: {}\n", cuda::trouble());
    return 2;
  }
  fmt::print("{}; convolution: {}\n\n", cuda::describe_device(0), cuda::describe_convolution());
  const NoGradGuard no_grad;
  Rates rates(settings);
  measure_all(rates);
  return rates.failures() == 0 ? 0 : 1;
}

}  // namespace
}  // namespace eq::bench

int main(int count, char** arguments) {
  try {
    return eq::bench::run(count, arguments);
  } catch (const eq::Error& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
