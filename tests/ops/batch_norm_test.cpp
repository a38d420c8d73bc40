#include "autograd/functional.h"

#include "autograd/node.h"
#include "core/parallel.h"
#include "ops/batch_norm_cases.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

struct Reference {
  Tensor y, mean, var;  // float64; var biased
};

// Channel by channel, two passes, in double.
Reference batch_norm_oracle(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps, bool relu) {
  const int64_t channels = x.size(-1), count = x.numel() / channels;
  Reference r{Tensor::empty(x.shape(), DType::kFloat64), Tensor::zeros({channels}, DType::kFloat64),
              Tensor::zeros({channels}, DType::kFloat64)};
  for (int64_t c = 0; c < channels; ++c) {
    double &mean = r.mean.data<double>()[c], &var = r.var.data<double>()[c];
    for (int64_t i = 0; i < count; ++i) mean += x.value_at(i * channels + c) / double(count);
    for (int64_t i = 0; i < count; ++i) var += std::pow(x.value_at(i * channels + c) - mean, 2) / double(count);
    for (int64_t i = 0; i < count; ++i) {
      double v = (x.value_at(i * channels + c) - mean) / std::sqrt(var + eps);
      if (gamma.defined()) v *= gamma.value_at(c);
      if (beta.defined()) v += beta.value_at(c);
      r.y.data<double>()[i * channels + c] = relu ? std::max(v, 0.0) : v;
    }
  }
  return r;
}

struct Arguments {
  Tensor x, gamma, beta, running_mean, running_var;
  explicit Arguments(const cases::BatchNormCase& c, DType dtype = DType::kFloat64)
      : x(random_leaf(c.x, 1, dtype)), running_mean(random_tensor({c.x.at(-1)}, 4, dtype)),
        running_var(Tensor::full({c.x.at(-1)}, 0.75, dtype)) {
    if (!c.affine) return;
    gamma = random_leaf({c.x.at(-1)}, 2, dtype);
    beta = random_leaf({c.x.at(-1)}, 3, dtype);
  }
  Tensor operator()(const BatchNormOptions& options) { return batch_norm(x, gamma, beta, running_mean, running_var, options); }
};

BatchNormOptions options_of(const cases::BatchNormCase& c, bool training = true) {
  BatchNormOptions options;
  options.relu = c.relu;
  options.training = training;
  options.eps = 1e-3;
  options.momentum = 0.3;
  options.layer = "stem.1";
  return options;
}

}  // namespace

TEST_CASE("batch norm in training equals its definition and updates the running statistics", "[batch_norm]") {
  for (const auto& c : cases::kBatchNormCases) {
    INFO(c.name);
    for (DType dtype : {DType::kFloat64, DType::kFloat32}) {
      Arguments a(c, dtype);
      const Tensor before = a.running_mean.clone();
      const uint32_t versions[] = {a.running_mean.version(), a.running_var.version()};
      const Reference expected = batch_norm_oracle(a.x, a.gamma, a.beta, 1e-3, c.relu);
      const double tolerance = dtype == DType::kFloat64 ? 1e-12 : 2e-6;
      check_close(a(options_of(c)), expected.y, tolerance);
      CHECK(a.running_mean.version() != versions[0]);
      CHECK(a.running_var.version() != versions[1]);
      const double count = double(a.x.numel() / c.x.at(-1));
      for (int64_t i = 0; i < c.x.at(-1); ++i) {
        CHECK(a.running_mean.value_at(i) ==
              Approx(0.7 * before.value_at(i) + 0.3 * expected.mean.value_at(i)).margin(tolerance));
        CHECK(a.running_var.value_at(i) ==
              Approx(0.7 * 0.75 + 0.3 * expected.var.value_at(i) * count / (count - 1)).margin(tolerance));
      }
    }
  }
}

TEST_CASE("batch norm's gradients in training and evaluation", "[batch_norm]") {
  for (const auto& c : cases::kBatchNormCases) {
    for (bool training : {true, false}) {
      INFO(c.name << (training ? ", training" : ", evaluation"));
      Arguments a(c);
      BatchNormOptions options = options_of(c, training);
      options.update_running = false;
      check_gradients(
          [&](const std::vector<Tensor>& in) {
            return batch_norm(in[0], in[1], in[2], a.running_mean, a.running_var, options);
          },
          {a.x, a.gamma, a.beta});
    }
  }
}

TEST_CASE("batch norm in evaluation uses the running statistics and leaves them alone", "[batch_norm]") {
  Arguments a(cases::kBatchNormCases[0]);
  const Tensor mean = a.running_mean.clone(), var = a.running_var.clone();
  const uint32_t version = a.running_mean.version();
  const Tensor y = a(options_of(cases::kBatchNormCases[0], false));
  CHECK(bit_equal(a.running_mean, mean));
  CHECK(bit_equal(a.running_var, var));
  CHECK(a.running_mean.version() == version);
  Tensor expected = Tensor::empty_like(a.x);
  for (int64_t i = 0; i < a.x.numel(); ++i) {
    const int64_t c = i % 7;
    expected.data<double>()[i] =
        (a.x.value_at(i) - mean.value_at(c)) / std::sqrt(0.75 + 1e-3) * a.gamma.value_at(c) + a.beta.value_at(c);
  }
  check_close(y, expected, 1e-13);
}

TEST_CASE("a training step between an evaluation pass and its backward does no harm", "[batch_norm]") {
  Arguments a(cases::kBatchNormCases[0]);
  const Tensor y = a(options_of(cases::kBatchNormCases[0], false));
  const double scale = a.gamma.value_at(3) / std::sqrt(0.75 + 1e-3);
  a(options_of(cases::kBatchNormCases[0], true));
  y.backward(Tensor::full(y.shape(), 1, DType::kFloat64));
  CHECK(a.x.grad().value_at(3) == Approx(scale));
}

TEST_CASE("batch norm leaves the running statistics alone while calibrating", "[batch_norm]") {
  Arguments a(cases::kBatchNormCases[0]);
  const Tensor mean = a.running_mean.clone();
  BatchNormOptions options = options_of(cases::kBatchNormCases[0]);
  options.update_running = false;
  a(options);
  CHECK(bit_equal(a.running_mean, mean));
  Tensor none;
  CHECK_NOTHROW(batch_norm(a.x, a.gamma, a.beta, none, none, options));
}

TEST_CASE("batch norm's parameters have their gradients where x needs none", "[batch_norm]") {
  for (bool training : {true, false}) {
    const cases::BatchNormCase& c = cases::kBatchNormCases[0];
    Arguments both(c), alone(c);
    alone.x = alone.x.detach();
    for (Arguments* a : {&both, &alone}) sum(square((*a)(options_of(c, training)))).backward();
    CHECK(bit_equal(both.gamma.grad(), alone.gamma.grad()));
    CHECK(bit_equal(both.beta.grad(), alone.beta.grad()));
  }
}

TEST_CASE("batch norm over several chunks of rows: what is repeated counts as often", "[batch_norm]") {
  struct Size {
    int64_t rows, channels, times;
  };
  // 22,500 rows in chunks of 8,192, and 90 in chunks of 64, of quite different means.
  const auto [rows, channels, times] = GENERATE(Size{90, 4, 250}, Size{3, 1100, 30});
  const BatchNormOptions options = options_of({"", {}, true, true});
  const auto run = [&, width = channels](const Tensor& x, const Tensor& grad_y) {
    Arguments a({"", {1, width}, true, true});
    a.x = x.clone().set_requires_grad();
    const Tensor y = a(options);
    y.backward(grad_y);
    return std::vector<Tensor>{y, a.x.grad(), a.gamma.grad(), a.beta.grad(), a.running_mean};
  };
  const Tensor x = random_tensor({rows, channels}, 1), grad_y = random_tensor({rows, channels}, 4);
  const auto once = run(x, grad_y), often = run(repeated_rows(x, times), repeated_rows(grad_y, times));
  for (size_t i : {0, 1}) check_close(often[i], repeated_rows(once[i], times), 1e-11);
  for (size_t i : {2, 3}) check_close(often[i], once[i] * double(times), 1e-11);
  check_close(often[4], once[4], 1e-12);
}

TEST_CASE("batch norm keeps its accuracy when means dwarf deviations", "[batch_norm]") {
  for (double mean : {1e3, 1e4}) {
    Tensor x = random_tensor({2, 61, 67, 8}, 5);
    for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += mean * double(i % 8 + 1);
    x = x.to(DType::kFloat32);
    const Reference expected = batch_norm_oracle(x, {}, {}, 1e-5, false);
    Tensor m = Tensor::empty({8}), inv_std = Tensor::empty({8}), var = Tensor::empty({8});
    cpu::batch_norm_statistics(x, m, inv_std, var, 1e-5);
    for (int64_t c = 0; c < 8; ++c) {
      CHECK(m.value_at(c) == Approx(expected.mean.value_at(c)).epsilon(1e-7));
      CHECK(var.value_at(c) == Approx(expected.var.value_at(c)).epsilon(2e-6));
      CHECK(inv_std.value_at(c) == Approx(1 / std::sqrt(expected.var.value_at(c) + 1e-5)).epsilon(1e-6));
    }
  }
}

TEST_CASE("an outlier in the first row does not spoil the statistics", "[batch_norm]") {
  Tensor x = random_tensor({1, 100, 100, 4}, 6);
  for (int64_t c = 0; c < 4; ++c) x.data<double>()[c] = 1000;
  x = x.to(DType::kFloat32);
  const Reference expected = batch_norm_oracle(x, {}, {}, 1e-5, false);
  Tensor m = Tensor::empty({4}), inv_std = Tensor::empty({4}), var = Tensor::empty({4});
  cpu::batch_norm_statistics(x, m, inv_std, var, 1e-5);
  check_close(var, expected.var, 1e-6);
  check_close(m, expected.mean, 1e-6);
}

TEST_CASE("float32 gradients of batch norm agree with float64", "[batch_norm]") {
  const cases::BatchNormCase c{"large", {2, 40, 41, 24}, true, true};
  auto gradients = [&](DType dtype) {
    Arguments a(c, dtype);
    a(options_of(c)).backward(random_tensor(c.x, 9, dtype));
    return std::vector<Tensor>{a.x.grad(), a.gamma.grad(), a.beta.grad()};
  };
  const auto single = gradients(DType::kFloat32), twice = gradients(DType::kFloat64);
  for (size_t i = 0; i < 3; ++i) check_close(single[i], twice[i], 3e-6);
}

TEST_CASE("batch norm gives the same bits on one and two threads", "[batch_norm]") {
  const cases::BatchNormCase c{"large", {3, 67, 61, 48}, true, true};
  auto run = [&](int threads, bool training) {
    set_num_threads(threads);
    Arguments a(c, DType::kFloat32);
    const Tensor y = a(options_of(c, training));
    y.backward(random_tensor(c.x, 9, DType::kFloat32));
    return std::vector<Tensor>{y, a.x.grad(), a.gamma.grad(), a.beta.grad(), a.running_mean, a.running_var};
  };
  const int before = num_threads();
  for (bool training : {true, false}) {
    const auto one = run(1, training), two = run(2, training);
    for (size_t i = 0; i < one.size(); ++i) CHECK(bit_equal(one[i], two[i]));
  }
  set_num_threads(before);
}

TEST_CASE("batch norm in training refuses a single value per channel, by the layer's name", "[batch_norm]") {
  Arguments a({"pooled", {1, 1, 1, 6}});
  try {
    BatchNormOptions options;
    options.layer = "decode_head.image_pool.1.bn";
    a(options);
    FAIL("no error");
  } catch (const ShapeError& error) {
    CHECK_THAT(error.where(), Catch::Contains("decode_head.image_pool.1.bn"));
    CHECK_THAT(error.where(), Catch::Contains("[1, 1, 1, 6]"));
    CHECK_THAT(error.what_happened(), Catch::Contains("one value per channel"));
    CHECK_THAT(error.try_this(), Catch::Contains("larger batch"));
  }
  CHECK_NOTHROW(a(options_of({"pooled", {1, 1, 1, 6}}, false)));
  BatchNormOptions nameless;
  nameless.layer = nullptr;
  CHECK_THROWS_WITH(a(nameless), Catch::Contains("batch_norm, where x is"));
}

TEST_CASE("batch norm lets NaN through its ReLU", "[batch_norm]") {
  Arguments a(cases::kBatchNormCases[4]);
  a.x.data<double>()[5] = std::nan("");
  const Tensor y = a(options_of(cases::kBatchNormCases[4], false));
  CHECK(std::isnan(y.value_at(5)));
  CHECK_FALSE(std::isnan(y.value_at(6)));
}

TEST_CASE("batch norm's ReLU has no gradient at 0", "[batch_norm]") {
  for (bool training : {true, false}) {
    Arguments a({"constant", {4, 2}, true, true});
    a.x = Tensor::full({4, 2}, 3, DType::kFloat64).set_requires_grad();
    a.beta = Tensor::zeros({2}, DType::kFloat64).set_requires_grad();
    a.running_mean.fill_(3);
    sum(a(options_of({"", {}, true, true}, training))).backward();
    for (const Tensor& grad : {a.x.grad(), a.beta.grad()}) CHECK(grad.to_vector<double>() == std::vector<double>(size_t(grad.numel()), 0));
  }
}

TEST_CASE("batch norm checks its arguments", "[batch_norm]") {
  Arguments a(cases::kBatchNormCases[0]);
  const BatchNormOptions options = options_of(cases::kBatchNormCases[0]);
  Tensor none;
  CHECK_THROWS_AS(batch_norm({}, a.gamma, a.beta, a.running_mean, a.running_var, options), UsageError);
  CHECK_THROWS_AS(batch_norm(a.x, random_tensor({6}, 1), a.beta, a.running_mean, a.running_var, options), ShapeError);
  CHECK_THROWS_AS(batch_norm(a.x, a.gamma, a.beta.to(DType::kFloat32), a.running_mean, a.running_var, options), DTypeError);
  CHECK_THROWS_AS(batch_norm(a.x, a.gamma, a.beta, none, a.running_var, options), UsageError);
  CHECK_THROWS_AS(batch_norm(a.x, a.gamma, a.beta, none, none, options_of(cases::kBatchNormCases[0], false)), UsageError);
  CHECK_THROWS_WITH(batch_norm(Tensor::zeros({3, 0}), none, none, none, none, options), Catch::Contains("batch_norm: x [3, 0]"));
  CHECK_THROWS_AS(batch_norm(Tensor::zeros({}), none, none, none, none, options), ShapeError);
}
