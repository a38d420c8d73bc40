#include "autograd/functional.h"

#include "core/parallel.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

Tensor layer_norm_oracle(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps) {
  const int64_t width = x.size(-1);
  Tensor y = Tensor::empty(x.shape(), DType::kFloat64);
  for (int64_t row = 0; row < x.numel(); row += width) {
    double mean = 0, var = 0;
    for (int64_t c = 0; c < width; ++c) mean += x.value_at(row + c) / double(width);
    for (int64_t c = 0; c < width; ++c) var += std::pow(x.value_at(row + c) - mean, 2) / double(width);
    for (int64_t c = 0; c < width; ++c) {
      double v = (x.value_at(row + c) - mean) / std::sqrt(var + eps);
      if (gamma.defined()) v *= gamma.value_at(c);
      if (beta.defined()) v += beta.value_at(c);
      y.data<double>()[row + c] = v;
    }
  }
  return y;
}

// Shorter than, equal to and longer than a vector of either type.
const Shape kShapes[] = {{5, 1}, {3, 2, 7}, {2, 3, 2, 16}, {4, 33}, {70, 19}, {3, 96}, {2, 1100}};

}  // namespace

TEST_CASE("layer norm equals its definition", "[layer_norm]") {
  for (const Shape& shape : kShapes) {
    for (bool affine : {true, false}) {
      INFO(to_string(shape) << " affine " << affine);
      const Tensor x = random_tensor(shape, 1), gamma = affine ? random_tensor({shape.at(-1)}, 2) : Tensor();
      const Tensor beta = affine ? random_tensor({shape.at(-1)}, 3) : Tensor();
      const Tensor expected = layer_norm_oracle(x, gamma, beta, 1e-5);
      check_close(layer_norm(x, gamma, beta, 1e-5), expected, 1e-12);
      const auto single = [](const Tensor& t) { return t.defined() ? t.to(DType::kFloat32) : t; };
      check_close(layer_norm(single(x), single(gamma), single(beta), 1e-5), expected, 3e-6);
    }
  }
}

TEST_CASE("layer norm's gradients", "[layer_norm]") {
  for (const Shape& shape : kShapes) {
    INFO(to_string(shape));
    const Tensor gamma = random_leaf({shape.at(-1)}, 2), beta = random_leaf({shape.at(-1)}, 3);
    auto fn = [](const std::vector<Tensor>& in) { return layer_norm(in[0], in[1], in[2], 1e-2); };
    check_gradients(fn, {random_leaf(shape, 1), gamma, beta});
    check_gradients(fn, {random_leaf(shape, 1), Tensor(), Tensor()});
    check_gradients(fn, {random_tensor(shape, 1), gamma, Tensor()});
  }
}

TEST_CASE("layer norm over several chunks of rows: what is repeated counts as often", "[layer_norm]") {
  constexpr int64_t kTimes = 150;  // 13,500 rows, in chunks of 6,553
  const auto gradients = [](const Tensor& x, const Tensor& grad_y) {
    const Tensor input = x.clone().set_requires_grad(), gamma = random_leaf({5}, 2), beta = random_leaf({5}, 3);
    layer_norm(input, gamma, beta, 1e-3).backward(grad_y);
    return std::vector<Tensor>{input.grad(), gamma.grad(), beta.grad()};
  };
  const Tensor x = random_tensor({90, 5}, 1), grad_y = random_tensor({90, 5}, 4);
  const auto once = gradients(x, grad_y), often = gradients(repeated_rows(x, kTimes), repeated_rows(grad_y, kTimes));
  check_close(often[0], repeated_rows(once[0], kTimes), 1e-12);
  for (size_t i : {1, 2}) check_close(often[i], once[i] * double(kTimes), 1e-12);
}

TEST_CASE("layer norm keeps its accuracy when the mean dwarfs the deviation", "[layer_norm]") {
  Tensor x = random_tensor({20, 777}, 5);
  for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] += 1e4;
  x = x.to(DType::kFloat32);
  // What is left is the mean's own rounding to float32, up to 5e-4 beside a deviation of 1 and values up to 3.
  check_close(layer_norm(x, {}, {}, 1e-5), layer_norm_oracle(x, {}, {}, 1e-5), 2e-4);
  const Tensor doubled = x.to(DType::kFloat64);
  check_close(layer_norm(doubled, {}, {}, 1e-5), layer_norm_oracle(doubled, {}, {}, 1e-5), 1e-10);
}

TEST_CASE("layer norm gives the same bits on one and two threads, float32 near float64", "[layer_norm]") {
  const Shape shape = {3, 40, 33, 50};
  auto run = [&](int threads, DType dtype) {
    set_num_threads(threads);
    const Tensor x = random_leaf(shape, 1, dtype), gamma = random_leaf({50}, 2, dtype), beta = random_leaf({50}, 3, dtype);
    const Tensor y = layer_norm(x, gamma, beta, 1e-6);
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

TEST_CASE("layer norm writes nothing outside its result", "[layer_norm]") {
  // 37 rows of 5: full vectors reach past each row's end, and must stop at the last one's.
  Tensor x = random_tensor({37, 5}, 1, DType::kFloat32), gamma = random_tensor({5}, 2, DType::kFloat32);
  const Tensor whole = layer_norm(x, gamma, {}, 1e-5);
  for (int64_t rows = 1; rows <= 37; ++rows) {
    const Tensor part = layer_norm(x.alias({rows, 5}), gamma, {}, 1e-5);
    CHECK(bit_equal(part, whole.alias({rows, 5})));
  }
}

TEST_CASE("layer norm checks its arguments", "[layer_norm]") {
  const Tensor x = random_tensor({2, 3, 4}, 1);
  CHECK_THROWS_AS(layer_norm(x, random_tensor({3}, 1), {}, 1e-5), ShapeError);
  CHECK_THROWS_AS(layer_norm(x, {}, random_tensor({4}, 1, DType::kFloat32), 1e-5), DTypeError);
  CHECK_THROWS_AS(layer_norm({}, {}, {}, 1e-5), UsageError);
  CHECK_THROWS_WITH(layer_norm(Tensor::zeros({2, 0}), {}, {}, 1e-5), Catch::Contains("layer_norm") && Catch::Contains("[2, 0]"));
}

TEST_CASE("layer norm of no row has zero gradients", "[layer_norm]") {
  const Tensor gamma = random_leaf({4}, 1), y = layer_norm(Tensor::zeros({0, 4}, DType::kFloat64), gamma, {}, 1e-5);
  CHECK(y.numel() == 0);
  y.backward(Tensor::zeros({0, 4}, DType::kFloat64));
  check_close(gamma.grad(), Tensor::zeros({4}, DType::kFloat64), 0);
}
