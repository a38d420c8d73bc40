#include "autograd/functional.h"

#include "core/parallel.h"
#include "ops/group_norm_cases.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

Tensor group_norm_oracle(const Tensor& x, int64_t groups, const Tensor& gamma, const Tensor& beta, double eps) {
  const int64_t images = x.size(0), channels = x.size(-1), rows = x.numel() / (images * channels), width = channels / groups;
  Tensor y = Tensor::empty(x.shape(), DType::kFloat64);
  for (int64_t n = 0; n < images; ++n) {
    for (int64_t g = 0; g < groups; ++g) {
      const double count = double(rows * width);
      double mean = 0, var = 0;
      auto each = [&](auto visit) {
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t c = g * width; c < (g + 1) * width; ++c) visit((n * rows + r) * channels + c, c);
        }
      };
      each([&](int64_t i, int64_t) { mean += x.value_at(i) / count; });
      each([&](int64_t i, int64_t) { var += std::pow(x.value_at(i) - mean, 2) / count; });
      each([&](int64_t i, int64_t c) {
        const double scale = gamma.defined() ? gamma.value_at(c) : 1, shift = beta.defined() ? beta.value_at(c) : 0;
        y.data<double>()[i] = (x.value_at(i) - mean) / std::sqrt(var + eps) * scale + shift;
      });
    }
  }
  return y;
}

}  // namespace

TEST_CASE("group norm equals its definition, and its gradients", "[group_norm]") {
  for (const auto& c : cases::kGroupNormCases) {
    INFO(c.name);
    const Tensor x = random_leaf(c.x, 1), gamma = c.affine ? random_leaf({c.x.at(-1)}, 2) : Tensor();
    const Tensor beta = c.affine ? random_leaf({c.x.at(-1)}, 3) : Tensor();
    const Tensor expected = group_norm_oracle(x, c.groups, gamma, beta, 1e-3);
    check_close(group_norm(x, c.groups, gamma, beta, 1e-3), expected, 1e-12);
    const auto single = [](const Tensor& t) { return t.defined() ? t.to(DType::kFloat32) : t; };
    check_close(group_norm(single(x), c.groups, single(gamma), single(beta), 1e-3), expected, 3e-6);
    check_gradients([&](const std::vector<Tensor>& in) { return group_norm(in[0], c.groups, in[1], in[2], 1e-3); },
                    {x, gamma, beta});
  }
}

TEST_CASE("group norm has gradients of no picture, and refuses pictures without pixels", "[group_norm]") {
  Tensor gamma = random_leaf({4}, 2), beta = random_leaf({4}, 3);
  sum(group_norm(Tensor::zeros({0, 3, 2, 4}, DType::kFloat64), 2, gamma, beta, 1e-5)).backward();
  CHECK(gamma.grad().to_vector<double>() == std::vector<double>(4, 0));
  CHECK_THROWS_AS(group_norm(Tensor::zeros({2, 0, 2, 4}, DType::kFloat64), 2, gamma, beta, 1e-5), ShapeError);
}

TEST_CASE("group norm with one group over vectors is layer norm", "[group_norm]") {
  const Tensor x = random_tensor({9, 21}, 1), gamma = random_tensor({21}, 2), beta = random_tensor({21}, 3);
  check_close(group_norm(x, 1, gamma, beta, 1e-5), layer_norm(x, gamma, beta, 1e-5), 1e-13);
}

TEST_CASE("group norm over several chunks of rows: what is repeated counts as often", "[group_norm]") {
  constexpr int64_t kTimes = 250;  // 11,250 rows a picture, in chunks of 8,192
  const auto run = [](const Tensor& x, const Tensor& grad_y) {
    const Tensor input = x.clone().set_requires_grad(), gamma = random_leaf({4}, 2), beta = random_leaf({4}, 3);
    const Tensor y = group_norm(input, 2, gamma, beta, 1e-3);
    y.backward(grad_y);
    return std::vector<Tensor>{y, input.grad(), gamma.grad(), beta.grad()};
  };
  const Tensor x = random_tensor({2, 45, 4}, 1), grad_y = random_tensor({2, 45, 4}, 4);
  const auto once = run(x, grad_y), often = run(repeated_rows(x, kTimes), repeated_rows(grad_y, kTimes));
  for (size_t i : {0, 1}) check_close(often[i], repeated_rows(once[i], kTimes), 1e-12);
  for (size_t i : {2, 3}) check_close(often[i], once[i] * double(kTimes), 1e-12);
}

TEST_CASE("group norm keeps its accuracy when means dwarf deviations", "[group_norm]") {
  Tensor x = random_tensor({2, 50, 51, 8}, 5);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += 1000;
  x = x.to(DType::kFloat32);
  check_close(group_norm(x, 2, {}, {}, 1e-5), group_norm_oracle(x, 2, {}, {}, 1e-5), 2e-5);  // the mean's rounding
}

TEST_CASE("group norm gives the same bits on one and two threads, float32 near float64", "[group_norm]") {
  const Shape shape = {3, 41, 40, 24};
  auto run = [&](int threads, DType dtype) {
    set_num_threads(threads);
    const Tensor x = random_leaf(shape, 1, dtype), gamma = random_leaf({24}, 2, dtype), beta = random_leaf({24}, 3, dtype);
    const Tensor y = group_norm(x, 4, gamma, beta, 1e-5);
    y.backward(random_tensor(shape, 4, dtype));
    return std::vector<Tensor>{y, x.grad(), gamma.grad(), beta.grad()};
  };
  const int before = num_threads();
  const auto one = run(1, DType::kFloat32), two = run(2, DType::kFloat32), exact = run(2, DType::kFloat64);
  set_num_threads(before);
  for (size_t i = 0; i < one.size(); ++i) {
    CHECK(bit_equal(one[i], two[i]));
    check_close(one[i], exact[i], 3e-6);
  }
}

TEST_CASE("group norm checks its arguments", "[group_norm]") {
  const Tensor x = random_tensor({2, 3, 4, 6}, 1);
  CHECK_THROWS_AS(group_norm(x, 4, {}, {}, 1e-5), ShapeError);
  CHECK_THROWS_AS(group_norm(x, 0, {}, {}, 1e-5), ShapeError);
  CHECK_THROWS_AS(group_norm(x, 2, random_tensor({2}, 1), {}, 1e-5), ShapeError);
  CHECK_THROWS_AS(group_norm(x, 2, {}, random_tensor({6}, 1, DType::kFloat32), 1e-5), DTypeError);
  CHECK_THROWS_AS(group_norm(random_tensor({6}, 1), 2, {}, {}, 1e-5), ShapeError);
  CHECK(group_norm(Tensor::zeros({0, 3, 3, 4}), 2, {}, {}, 1e-5).numel() == 0);
}
