// Bounds: float64 and float32 sum in another order than the CPU. bfloat16: one rounding of each result, 2^-9 of the
// largest, is all that differs from float32 arithmetic over the same rounded arguments.

#include <set>
#include <span>
#include <tuple>

#include "autograd/functional.h"
#include "cuda/conv2d_axis.h"
#include "cuda/conv2d_backend.h"
#include "cuda/convolution_choice.h"
#include "cuda/divide.h"
#include "cuda/own_conv2d.h"
#include "cuda/parity.h"
#include "ops/conv2d_cases.h"

using namespace eq;
using namespace eq::cases;
using namespace eq::test;

namespace {

constexpr Accuracy kAccuracy = {.bfloat16 = 4e-3};

void check(const Conv2dCase& c) {
  std::vector<Input> inputs = {{random_tensor(c.x_shape(), 1)}, {random_tensor(c.weight_shape(), 2)}};
  if (c.bias) inputs.push_back(constant(random_tensor({c.out}, 3)));
  const auto fn = [&](const std::vector<Tensor>& in) {
    return conv2d(in[0], in[1], in.size() > 2 ? in[2].to(in[0].dtype()) : Tensor(), c.options);
  };
  const Choice own(cuda::ConvolutionBackend::kOwn);
  check_parity(c.name, fn, inputs, kAccuracy);
}

// cuBLAS computes it, whoever is preferred: tools that cannot see into cuBLAS leave the tests of [matmul] out.
bool is_product(const Conv2dCase& c) { return cuda::is_product(Tensor::empty(c.weight_shape()), c.options); }

// fn.template operator()<T>() with the element type.
template <class Fn>
void with_type(DType dtype, const Fn& fn) {
  if (dtype == DType::kFloat32) return fn.template operator()<float>();
  if (dtype == DType::kFloat64) return fn.template operator()<double>();
  fn.template operator()<bfloat16>();
}

// The three functions without autograd. Results start as NaN: every element must be written and none read.
void check_functions(const Conv2dCase& c, cuda::Tiles tiles, const Accuracy& accuracy = kAccuracy) {
  const Tensor x = random_tensor(c.x_shape(), 1), weight = random_tensor(c.weight_shape(), 2);
  const Tensor grad_y = random_tensor(c.y_shape(), 4);
  const auto result = [](const Shape& shape, const Tensor& like) { return Tensor::full(shape, NAN, like.dtype(), like.device()); };
  const std::string name = c.name;
  const bool own = tiles == cuda::Tiles::kByShape;
  check_parity(name + ", forward", [&](const std::vector<Tensor>& in) {
    Tensor y = result(c.y_shape(), in[0]);
    if (!in[0].device().is_cuda()) {
      cpu::conv2d_forward(in[0], in[1], {}, y, c.options);
    } else if (own) {
      cuda::own_conv2d_forward(in[0], in[1], {}, y, c.options);
    } else {
      with_type(y.dtype(), [&]<class T>() { cuda::gemm_conv2d_forward<T>(in[0], in[1], {}, y, c.options, tiles); });
    }
    return y;
  }, {{x}, {weight}}, accuracy);
  check_parity(name + ", backward input", [&](const std::vector<Tensor>& in) {
    Tensor grad_x = result(c.x_shape(), in[0]);
    if (!in[0].device().is_cuda()) {
      cpu::conv2d_backward_input(in[0], in[1], grad_x, c.options);
    } else if (own) {
      cuda::own_conv2d_backward_input(in[0], in[1], grad_x, c.options);
    } else {
      with_type(grad_x.dtype(), [&]<class T>() { cuda::gemm_conv2d_backward_input<T>(in[0], in[1], grad_x, c.options, tiles); });
    }
    return grad_x;
  }, {{grad_y}, {weight}}, accuracy);
  check_parity(name + ", backward weight", [&](const std::vector<Tensor>& in) {
    Tensor grad_weight = result(c.weight_shape(), in[0]);
    if (!in[0].device().is_cuda()) {
      cpu::conv2d_backward_weight(in[0], in[1], grad_weight, c.options);
    } else if (own) {
      cuda::own_conv2d_backward_weight(in[0], in[1], grad_weight, c.options);
    } else {
      with_type(grad_weight.dtype(), [&]<class T>() {
        cuda::gemm_conv2d_backward_weight<T>(in[0], in[1], grad_weight, c.options, tiles);
      });
    }
    return grad_weight;
  }, {{grad_y}, {x}}, accuracy);
}

// Channels in packs of 16 bytes, several tiles each way, several slices, several chunks of pixels; the tails of all of
// these.
const Conv2dCase kPacked[] = {
    {"3x3 several tiles", 2, 9, 8, 16, 72, 3, 3, conv2d_options(1, 1), true},
    {"3x3 stride 2", 1, 11, 12, 24, 16, 3, 3, conv2d_options(2, 1), true},
    {"3x3 stride 2, dilation 3", 1, 9, 10, 8, 24, 3, 3, conv2d_options(2, 3, 3)},
    {"3 wide groups", 1, 7, 6, 48, 72, 3, 3, uneven_options({1, 2}, {0, 2, 1, 3}, {2, 1}, 3), true},
    {"1x1 several chunks", 3, 17, 13, 8, 24, 1, 1, conv2d_options(1, 0)},
    {"1x1 nineteen classes", 1, 6, 11, 40, 19, 1, 1, conv2d_options(1, 0), true},
};
const Conv2dCase kDepthwise[] = {
    {"depthwise 3x3 several blocks", 2, 19, 14, 72, 72, 3, 3, conv2d_options(1, 1, 1, 72), true},
    {"depthwise 3x3 stride 2", 1, 11, 14, 8, 8, 3, 3, conv2d_options(2, 1, 1, 8), true},
    {"depthwise 3x3 stride 2, 24 packs, phases of unequal runs", 2, 7, 9, 96, 96, 3, 3, conv2d_options(2, 1, 1, 96), true},
    {"depthwise 3x3 dilation 2", 1, 9, 7, 36, 36, 3, 3, conv2d_options(1, 2, 2, 36)},
    {"depthwise 3x3 uneven", 1, 9, 8, 16, 16, 3, 3, uneven_options({2, 1}, {0, 2, 3, 1}, {1, 1}, 16)},
    {"depthwise 5x5", 1, 6, 9, 4, 4, 5, 5, conv2d_options(1, 2, 1, 4)},
    {"depthwise 7x7", 1, 9, 10, 40, 40, 7, 7, conv2d_options(1, 3, 1, 40), true},
    {"depthwise 12x12, by tiles", 1, 13, 12, 4, 4, 12, 12, conv2d_options(1, 5, 1, 4)},
};

}  // namespace

TEST_CASE("cuda: conv2d of small shapes, all options", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  for (const Conv2dCase& c : kConv2dSmall) {
    if (!is_product(c)) check(c);
  }
}

TEST_CASE("cuda: conv2d of packs, tiles and chunks", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  for (const Conv2dCase& c : kPacked) {
    if (!is_product(c)) check(c);
  }
}

TEST_CASE("cuda: conv2d that is a matrix product", "[cuda][conv2d][matmul]") {
  EQ_NEED_CUDA();
  int products = 0;
  for (const auto& cases : {std::span<const Conv2dCase>(kConv2dSmall), std::span<const Conv2dCase>(kPacked)}) {
    for (const Conv2dCase& c : cases) {
      if (is_product(c)) check(c), ++products;
    }
  }
  CHECK(products == 6);
}

TEST_CASE("cuda: conv2d, depthwise", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  for (const Conv2dCase& c : kDepthwise) check(c);
}

TEST_CASE("cuda: our own conv2d writes all of its results, in tiles of both sizes", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  // float64 has small tiles only.
  const Accuracy no_float64 = {.float64 = 0, .bfloat16 = kAccuracy.bfloat16};
  check_functions({"large tiles", 1, 12, 11, 16, 136, 3, 3, conv2d_options(1, 1)}, cuda::Tiles::kLarge, no_float64);
  check_functions({"large tiles, stride 2", 1, 9, 7, 32, 24, 3, 3, conv2d_options(2, 1)}, cuda::Tiles::kLarge, no_float64);
  check_functions({"oblong tiles", 1, 9, 8, 16, 72, 3, 3, conv2d_options(1, 1)}, cuda::Tiles::kOblong,
                  {.float64 = 0, .float32 = 0, .bfloat16 = kAccuracy.bfloat16});
  check_functions({"small tiles", 1, 9, 8, 32, 72, 3, 3, conv2d_options(1, 1)}, cuda::Tiles::kSmall);
  check_functions({"depthwise by tiles", 1, 5, 6, 3, 3, 3, 3, conv2d_options(1, 1, 1, 3)}, cuda::Tiles::kSmall);
  check_functions({"by shape", 1, 7, 6, 8, 16, 3, 3, conv2d_options(2, 1)}, cuda::Tiles::kByShape);
  check_functions({"by shape, depthwise", 1, 7, 6, 16, 16, 3, 3, conv2d_options(2, 1, 1, 16)}, cuda::Tiles::kByShape);
}

TEST_CASE("cuda: conv2d of values that do not begin on 16 bytes", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  for (const int64_t groups : {1, 16}) {
    const Conv2dCase c = {"", 1, 5, 6, 16, 16, 3, 3, conv2d_options(1, 1, 1, groups)};
    check_parity("shifted, groups " + std::to_string(groups), [&](const std::vector<Tensor>& in) {
      const auto shifted = [](const Tensor& tensor) {
        Tensor wide = Tensor::empty({tensor.numel() + 1}, tensor.dtype(), tensor.device());
        return wide.alias(tensor.shape(), 1).copy_(tensor.detach());
      };
      return conv2d(shifted(in[0]), shifted(in[1]), {}, c.options);
    }, {{random_tensor(c.x_shape(), 1)}, {random_tensor(c.weight_shape(), 2)}}, kAccuracy);
  }
}

TEST_CASE("cuda: conv2d of an empty batch is empty and teaches nothing", "[cuda][conv2d]") {
  EQ_NEED_CUDA();
  for (const int64_t groups : {1, 4}) {
    const Conv2dCase c = {"", 0, 5, 5, 4, 4, 3, 3, conv2d_options(1, 1, 1, groups)};
    check(c);
    check_functions(c, cuda::Tiles::kByShape);
  }
}

TEST_CASE("cuda: conv2d's axes of the input gradient hold the same taps as forward", "[cuda][conv2d]") {
  using Term = std::tuple<int, int, int>;  // input, output, filter index
  int mixtures = 0;
  for (int code = 0; code < 9 * 4 * 5 * 4 * 4; ++code) {
    const int in = code % 9 + 1, kernel = code / 9 % 4 + 1, stride = code / 36 % 5 + 1, dilation = code / 180 % 4 + 1;
    const int pad = code / 720;
    const int out = int(conv_output_size(in, kernel, stride, dilation, pad, (code % 7) % 3));
    if (out == 0) continue;
    const cuda::ConvolutionAxis axis = {in, out, kernel, stride, dilation, pad, int(std::gcd(stride, dilation))};
    std::set<Term> forward, backward;
    int places = 0;
    const cuda::CorrelationAxis f = axis.forward();
    for (int i = 0; i < f.out; ++i) {
      for (int t = 0; t < f.taps; ++t) {
        const int from = f.origin + i * f.step + t * f.spread;
        if (from >= 0 && from < f.in) forward.insert({from, f.first + i * f.every, f.tap_first + t * f.tap_every});
      }
    }
    for (int phase = 0; phase < axis.phases(); ++phase) {
      const cuda::CorrelationAxis b = axis.backward(phase);
      for (int i = 0; i < b.out; ++i, ++places) {
        for (int t = 0; t < b.taps; ++t) {
          const int from = b.origin + i * b.step + t * b.spread;
          if (from >= 0 && from < out) backward.insert({b.first + i * b.every, from, b.tap_first + t * b.tap_every});
        }
      }
    }
    ++mixtures;
    CHECK(places == in);
    CHECK(forward == backward);
  }
  CHECK(mixtures > 1000);
}

TEST_CASE("cuda: division by multiplication", "[cuda][conv2d]") {
  for (const int divisor : {1, 2, 3, 5, 7, 9, 49, 64, 127, 1000, 65535, 65536, 65537, (1 << 30) - 1, 1 << 30, 0x7fffffff}) {
    const cuda::Divisor by(divisor);
    const int64_t end = int64_t{1} << 31;
    for (const int64_t around : {int64_t{0}, int64_t{divisor}, int64_t{divisor} * 3, end / 2, end / divisor * divisor}) {
      for (int64_t n = std::max<int64_t>(0, around - 3); n < std::min(around + 4, end); ++n) {
        CHECK(by.quotient(int(n)) == n / divisor);
      }
    }
  }
}
