// The switch between cuDNN and our own convolutions; 1x1 filters as matrix products; the two against each other.
#include "autograd/functional.h"
#include "cuda/convolution_choice.h"
#include "cuda/cudnn_conv2d.h"
#include "cuda/parity.h"
#include "ops/conv2d_cases.h"

using namespace eq;
using namespace eq::test;
using Catch::Contains;

namespace {

std::string why_no_cudnn() {
  if (std::string why = why_no_cuda(); !why.empty()) return why;
  return has_cudnn() ? "" : "this build has no cuDNN";
}

std::vector<Tensor> arguments(const cases::Conv2dCase& c, DType type) {
  std::vector<Tensor> result = {random_tensor(c.x_shape(), 1), random_tensor(c.weight_shape(), 2)};
  if (c.bias) result.push_back(random_tensor({c.out}, 3));
  for (Tensor& value : result) value = value.to(type).to(Device::cuda()).clone().set_requires_grad();
  return result;
}

// The value and the gradients of all arguments, as float64.
std::vector<Tensor> run(const cases::Conv2dCase& c, DType type, cuda::ConvolutionBackend backend) {
  const Choice choice(backend);
  const std::vector<Tensor> in = arguments(c, type);
  const Tensor y = conv2d(in[0], in[1], c.bias ? in[2] : Tensor(), c.options);
  y.backward(random_tensor(y.shape(), 4).to(type).to(Device::cuda()));
  std::vector<Tensor> results = {y.detach()};
  for (const Tensor& argument : in) results.push_back(argument.grad());
  for (Tensor& result : results) result = result.to(Device::cpu()).to(DType::kFloat64);
  return results;
}

}  // namespace

TEST_CASE("cuda: the convolution's backend is chosen and described", "[cuda][conv2d_backend]") {
  EQ_NEED_CUDA();
  if constexpr (kBuiltWithCuda) {
    CHECK(cuda::convolution_backend() == cuda::ConvolutionBackend::kAuto);
    CHECK(choose(cuda::ConvolutionBackend::kOwn) == "own kernels, cuBLAS for 1x1");
    CHECK(cuda::convolution_backend() == cuda::ConvolutionBackend::kOwn);
    if (cuda::has_cudnn()) {
      CHECK_THAT(choose(cuda::ConvolutionBackend::kCudnn), Contains("cuDNN 9.") && Contains("wherever it can"));
      CHECK_THAT(choose(cuda::ConvolutionBackend::kAuto), Contains("for bfloat16, cuBLAS for 1x1, own kernels elsewhere"));
    } else {
      CHECK_THROWS_WITH(cuda::set_convolution_backend(cuda::ConvolutionBackend::kCudnn),
                        Contains("cuDNN") && Contains("EQ_CUDNN"));
      CHECK(choose(cuda::ConvolutionBackend::kAuto) == "own kernels, cuBLAS for 1x1");
    }
  }
}

TEST_CASE("cuda: 1x1 convolutions as matrix products", "[cuda][conv2d_backend]") {
  EQ_NEED_CUDA();
  const Choice own(cuda::ConvolutionBackend::kOwn);
  const cases::Conv2dCase products[] = {
      {"1x1 bias", 2, 5, 4, 3, 5, 1, 1, cases::conv2d_options(1, 0), true},
      {"1x1 one pixel", 1, 1, 1, 2, 3, 1, 1, cases::conv2d_options(1, 0), true},
      {"1x1 wide", 2, 7, 9, 35, 67, 1, 1, cases::conv2d_options(1, 0)},
      {"1x1 whole packs, many pixels", 3, 33, 31, 16, 24, 1, 1, cases::conv2d_options(1, 0), true},
      {"1x1 dilation means nothing", 1, 4, 3, 8, 8, 1, 1, cases::conv2d_options(1, 0, 3)},
      {"1x1 no picture", 0, 4, 3, 8, 4, 1, 1, cases::conv2d_options(1, 0), true},
  };
  for (const cases::Conv2dCase& c : products) {
    check_parity(c.name, [&](const auto& in) { return conv2d(in[0], in[1], in[2], c.options); },
                 {{random_tensor(c.x_shape(), 1)},
                  {random_tensor(c.weight_shape(), 2)},
                  {c.bias ? random_tensor({c.out}, 3) : Tensor()}});
  }
}

TEST_CASE("cuda: convolutions, by whoever is preferred", "[cuda][conv2d_backend]") {
  if (const std::string why = why_no_cudnn(); !why.empty()) {
    WARN("SKIPPED: our own convolutions are preferred, which have tests of their own: " << why);
    return;
  }
  for (const cases::Conv2dCase& c : cases::kConv2dSmall) {
    // Behind cuDNN a bias is added to what is rounded already: two roundings of bfloat16.
    check_parity(c.name, [&](const auto& in) { return conv2d(in[0], in[1], in[2], c.options); },
                 {{random_tensor(c.x_shape(), 1)},
                  {random_tensor(c.weight_shape(), 2)},
                  {c.bias ? random_tensor({c.out}, 3) : Tensor()}},
                 {.bfloat16 = 8e-3});
  }
}

TEST_CASE("cuda: our own convolutions and cuDNN agree", "[cuda][conv2d_backend]") {
  if (const std::string why = why_no_cudnn(); !why.empty()) {
    WARN("SKIPPED: no comparison with cuDNN: " << why);
    return;
  }
  // Each side within its rounding of the truth; bfloat16 with a bias is rounded twice by cuDNN's.
  const std::pair<DType, double> types[] = {{DType::kFloat64, 1e-10}, {DType::kFloat32, 1e-5}, {DType::kBFloat16, 2e-2}};
  for (const cases::Conv2dCase& c : cases::kConv2dSmall) {
    for (const auto& [type, tolerance] : types) {
      INFO(c.name << ", " << name_of(type));
      const std::vector<Tensor> own = run(c, type, cuda::ConvolutionBackend::kOwn);
      const std::vector<Tensor> cudnn = run(c, type, cuda::ConvolutionBackend::kCudnn);
      const std::vector<Tensor> repeated = run(c, type, cuda::ConvolutionBackend::kCudnn);
      for (size_t i = 0; i < own.size(); ++i) {
        INFO("result " << i << ": the value, then the gradients of x, weight and bias");
        check_close(cudnn[i], own[i], tolerance);
        CHECK(bit_equal(cudnn[i], repeated[i]));
      }
    }
  }
}

TEST_CASE("cuda: cuDNN takes what it can and declines the rest", "[cuda][conv2d_backend]") {
  if (const std::string why = why_no_cudnn(); !why.empty()) {
    WARN("SKIPPED: no comparison with cuDNN: " << why);
    return;
  }
  if constexpr (kBuiltWithCuda) {
    int taken[3] = {}, all = 0;
    for (const cases::Conv2dCase& c : cases::kConv2dSmall) {
      const std::vector<Tensor> in = arguments(c, DType::kBFloat16);
      Tensor y = Tensor::empty(c.y_shape(), DType::kBFloat16, Device::cuda()), grad_x = in[0].detach().clone(),
             grad_w = in[1].detach().clone();
      y.fill_(1);
      const bool forward = cuda::cudnn_conv2d_forward(in[0], in[1], y, c.options);
      const bool backward_input = cuda::cudnn_conv2d_backward_input(y, in[1], grad_x, c.options);
      const bool backward_weight = cuda::cudnn_conv2d_backward_weight(y, in[0], grad_w, c.options);
      taken[0] += forward, taken[1] += backward_input, taken[2] += backward_weight, ++all;
      if (std::string(c.name) == "3x3 exact blocks") {
        CHECK((forward && backward_input && backward_weight));
        const Tensor odd = Tensor::zeros({in[0].numel() + 1}, DType::kBFloat16, Device::cuda()).alias(c.x_shape(), 1);
        CHECK_FALSE(cuda::cudnn_conv2d_forward(odd, in[1], y, c.options));
      }
      if (std::string(c.name) == "5x3 uneven") CHECK_FALSE((forward || backward_input || backward_weight));
    }
    WARN("bfloat16, of " << all << " shapes cuDNN took forward " << taken[0] << ", backward input " << taken[1]
                         << ", backward weight " << taken[2]);
  }
}
