#include "autograd/functional.h"
#include "cuda/parity.h"
#include "ops/batch_norm_cases.h"

using namespace eq;
using namespace eq::test;

namespace {

// A few rows less and more than a block takes, several blocks of rows and of channels, packs and single values.
const cases::BatchNormCase kMoreCases[] = {
    {"several chunks of packs", {3, 23, 37, 8}, true, true}, {"several chunks of single channels", {2, 21, 17, 3}},
    {"a chunk and a row", {1, 513, 2}, true, true},          {"blocks side by side", {67, 272}},
    {"wide and few rows", {2, 1, 1, 520}, true, true},
};

void check(const cases::BatchNormCase& c, bool training) {
  const int64_t channels = c.x.at(-1);
  const Tensor gamma = c.affine ? random_tensor({channels}, 2) : Tensor(),
               beta = c.affine ? random_tensor({channels}, 3) : Tensor();
  BatchNormOptions options;
  options.training = training;
  options.update_running = false;
  options.relu = c.relu;
  options.eps = 1e-3;
  check_parity(std::string(c.name) + (training ? ", training" : ", evaluation"),
               [&](const std::vector<Tensor>& in) {
                 Tensor running_mean = in[3], running_var = in[4];
                 return batch_norm(in[0], in[1], in[2], running_mean, running_var, options);
               },
               {{random_tensor(c.x, 1)},
                parameter(gamma),
                parameter(beta),
                constant(random_tensor({channels}, 4)),
                constant(Tensor::full({channels}, 0.75, DType::kFloat64))});
}

// Mean, inverse deviation, variance.
std::vector<Tensor> statistics(const Tensor& x, Device device) {
  Tensor m = Tensor::empty({x.size(-1)}, parameter_type(x.dtype()), device), inv_std = Tensor::empty_like(m), var = Tensor::empty_like(m);
  const Tensor there = x.to(device);
  EQ_RUN(device, batch_norm_statistics(there, m, inv_std, var, 1e-5));
  return {m.to(Device::cpu()), inv_std.to(Device::cpu()), var.to(Device::cpu())};
}

}  // namespace

TEST_CASE("cuda: batch norm in training and evaluation", "[cuda][batch_norm]") {
  EQ_NEED_CUDA();
  for (bool training : {true, false}) {
    for (const cases::BatchNormCase& c : cases::kBatchNormCases) check(c, training);
    for (const cases::BatchNormCase& c : kMoreCases) check(c, training);
  }
}

TEST_CASE("cuda: batch norm's gradient of x alone, and of the parameters alone", "[cuda][batch_norm]") {
  EQ_NEED_CUDA();
  const Tensor x = random_tensor({4, 5, 8}, 1), gamma = random_tensor({8}, 2), beta = random_tensor({8}, 3);
  const BatchNormOptions options{.update_running = false, .relu = true};
  const auto fn = [&](const std::vector<Tensor>& in) {
    Tensor none;
    return batch_norm(in[0], in[1], in[2], none, none, options);
  };
  check_parity("x", fn, {{x}, constant(gamma), constant(beta)});
  check_parity("gamma and beta", fn, {constant(x), parameter(gamma), parameter(beta)});
}

TEST_CASE("cuda: batch norm updates the running statistics", "[cuda][batch_norm]") {
  EQ_NEED_CUDA();
  for (DType dtype : {DType::kFloat64, DType::kFloat32, DType::kBFloat16}) {
    INFO(name_of(dtype));
    const DType kept = parameter_type(dtype);
    const Tensor x = random_tensor({3, 7, 5, 12}, 1).to(dtype), mean = random_tensor({12}, 2, kept),
                 var = Tensor::full({12}, 0.75, kept);
    const auto run = [&](Device device, DType type) {
      Tensor m = mean.clone().to(device), v = var.clone().to(device);
      const uint32_t version = m.version();
      batch_norm(x.to(type).to(device), {}, {}, m, v, {.momentum = 0.3});
      CHECK(m.version() > version);
      return std::pair(m.to(Device::cpu()), v.to(Device::cpu()));
    };
    const auto [m, v] = run(Device::cuda(), dtype);
    const auto [expected_m, expected_v] = run(Device::cpu(), kept);
    const double tolerance = kept == DType::kFloat64 ? 1e-14 : 3e-7;
    check_close(m, expected_m, tolerance);
    check_close(v, expected_v, tolerance);
  }
}

TEST_CASE("cuda: batch norm's statistics keep their accuracy when means dwarf deviations, and beside an outlier",
          "[cuda][batch_norm]") {
  EQ_NEED_CUDA();
  Tensor far = random_tensor({2, 31, 67, 8}, 5), outlier = random_tensor({1, 100, 100, 4}, 6);
  for (int64_t i = 0; i < far.numel(); ++i) far.data<double>()[i] += 1e4 * double(i % 8 + 1);
  for (int64_t c = 0; c < 4; ++c) outlier.data<double>()[c] = 1000;
  for (const Tensor& values : {far, outlier}) {
    const Tensor x = values.to(DType::kFloat32), exact = x.to(DType::kFloat64);
    const auto actual = statistics(x, Device::cuda()), expected = statistics(exact, Device::cpu()),
               doubled = statistics(exact, Device::cuda());
    for (size_t k = 0; k < 3; ++k) {
      check_close(doubled[k], expected[k], 1e-11);  // around an outlier: 2^-53 times the number of values
      for (int64_t c = 0; c < x.size(-1); ++c) {
        CHECK(actual[k].value_at(c) == Approx(expected[k].value_at(c)).epsilon(k == 0 ? 1e-7 : 2e-6).margin(1e-7));
      }
    }
  }
}

TEST_CASE("cuda: batch norm's variance of bfloat16 values is off by a fraction of what rounding them did", "[cuda][batch_norm]") {
  EQ_NEED_CUDA();
  for (const Shape& shape : {Shape{33000, 8}, Shape{4100, 128}}) {
    for (const double mean : {0, 10, 100}) {
      for (const double outlier : {0.0, 1003.7}) {
        INFO(to_string(shape) << ", mean " << mean << ", first values " << outlier << " away");
        Tensor x = random_tensor(shape, 1, DType::kFloat64);
        for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += mean + (i < shape[1] ? outlier : 0);
        const Tensor rounded = x.to(DType::kBFloat16), unrounded = statistics(x, Device::cpu())[2],
                     exact = statistics(rounded.to(DType::kFloat64), Device::cpu())[2], actual = statistics(rounded, Device::cuda())[2];
        double off = 0, carried = 0;
        for (int64_t c = 0; c < shape[1]; ++c) {
          off = std::max(off, std::abs(actual.value_at(c) / exact.value_at(c) - 1));
          carried = std::max(carried, std::abs(unrounded.value_at(c) / exact.value_at(c) - 1));
        }
        CHECK(off < carried / 5);
      }
    }
  }
}

TEST_CASE("cuda: batch norm lets NaN through its ReLU, and of no value has zero gradients", "[cuda][batch_norm]") {
  EQ_NEED_CUDA();
  Tensor x = random_tensor({2, 3, 8}, 1, DType::kFloat32), mean = Tensor::zeros({8}).to(Device::cuda()),
         var = Tensor::full({8}, 1).to(Device::cuda());
  x.data<float>()[5] = std::nanf("");
  const BatchNormOptions options{.training = false, .relu = true};
  const Tensor y = batch_norm(x.to(Device::cuda()), {}, {}, mean, var, options);
  CHECK(std::isnan(y.value_at(5)));
  CHECK(y.value_at(6) == Approx(std::max(x.value_at(6), 0.0)).epsilon(1e-4));

  Tensor gamma = Tensor::full({8}, 1).to(Device::cuda());
  gamma.set_requires_grad();
  const Tensor none = Tensor::empty({0, 8}).to(Device::cuda());
  batch_norm(none, gamma, {}, mean, var, options).backward(none);
  CHECK(gamma.grad().to_vector<float>() == std::vector<float>(8, 0));
}
