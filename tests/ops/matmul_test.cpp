#include "matmul_cases.h"

#include "autograd/functional.h"
#include "core/kernels/matmul.h"
#include "core/parallel.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

// Offset of the matrix that `t` contributes to item `index` of the stack `batch`.
int64_t matrix_offset(const Tensor& t, const Shape& batch, int64_t index) {
  int64_t offset = 0, step = t.size(-1) * t.size(-2);
  for (int axis = batch.rank() - 1; axis >= 0; --axis) {
    const int64_t coordinate = index % batch[axis];
    index /= batch[axis];
    const int own = axis - (batch.rank() + 2 - t.rank());
    if (own < 0) continue;
    if (t.shape()[own] != 1) offset += coordinate * step;
    step *= t.shape()[own];
  }
  return offset;
}

Tensor plain_matmul(const Tensor& a, const Tensor& b, const Shape& result) {
  const Tensor a64 = a.to(DType::kFloat64), b64 = b.to(DType::kFloat64);
  Tensor y = Tensor::zeros(result, DType::kFloat64);
  const int64_t rows = a.size(-2), depth = a.size(-1), columns = b.size(-1);
  const Shape batch(std::span(result.begin(), result.end() - 2));
  for (int64_t item = 0; item < batch.numel(); ++item) {
    const double *pa = a64.data<double>() + matrix_offset(a, batch, item),
                 *pb = b64.data<double>() + matrix_offset(b, batch, item);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        double total = 0;
        for (int64_t k = 0; k < depth; ++k) total += pa[i * depth + k] * pb[k * columns + j];
        y.data<double>()[(item * rows + i) * columns + j] = total;
      }
    }
  }
  return y;
}

}  // namespace

TEST_CASE("products of either operand transposed, around the sizes of tiles, vectors and panels", "[matmul]") {
  for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
    for (const bool transpose_a : {false, true}) {
      for (const bool transpose_b : {false, true}) {
        for (const int64_t m : {1, 16, 29}) {
          for (const int64_t n : {1, 8, 9, 17, 33}) {
            for (const int64_t k : {1, 257, 530}) {
              const Tensor a = random_tensor(transpose_a ? Shape{k, m} : Shape{m, k}, 1, dtype),
                           b = random_tensor(transpose_b ? Shape{n, k} : Shape{k, n}, 2, dtype);
              // Filled with what must not show: every element is written, not added to.
              Tensor y = Tensor::full({m, n}, 1e6, dtype), expected = Tensor::empty({m, n}, DType::kFloat64);
              cpu::matmul(a, transpose_a, b, transpose_b, y);
              const std::vector<double> left = a.to(DType::kFloat64).to_vector<double>(), right = b.to(DType::kFloat64).to_vector<double>();
              for (int64_t i = 0; i < m; ++i) {
                for (int64_t j = 0; j < n; ++j) {
                  double total = 0;
                  for (int64_t l = 0; l < k; ++l) {
                    total += left[size_t(transpose_a ? l * m + i : i * k + l)] * right[size_t(transpose_b ? j * k + l : l * n + j)];
                  }
                  expected.data<double>()[i * n + j] = total;
                }
              }
              const double difference = scaled_difference(y, expected);
              if (!(difference <= (dtype == DType::kFloat64 ? 1e-14 : 3e-6))) {
                FAIL_CHECK(m << " " << n << " " << k << transpose_a << transpose_b << ": " << difference);
              }
            }
          }
        }
      }
    }
  }
}

TEST_CASE("matmul against a triple loop, with gradients", "[matmul]") {
  for (const cases::MatmulCase& c : cases::kMatmulCases) {
    DYNAMIC_SECTION(to_string(c.a) << " x " << to_string(c.b)) {
      Tensor a = random_leaf(c.a, 1), b = random_leaf(c.b, 2);
      const Tensor y = matmul(a, b), expected = plain_matmul(a, b, c.result);
      REQUIRE(y.shape() == c.result);
      check_close(y, expected, 1e-14);
      check_close(matmul(a.to(DType::kFloat32), b.to(DType::kFloat32)), expected, 1e-6);
      check_gradients([](const auto& in) { return matmul(in[0], in[1]); }, {a, b});
    }
  }
}

TEST_CASE("matmul by the transpose of b, with gradients", "[matmul]") {
  for (const cases::MatmulCase& c : cases::kMatmulCases) {
    DYNAMIC_SECTION(to_string(c.a) << " x " << to_string(c.b)) {
      Tensor a = random_leaf(c.a, 1), b = transpose(random_tensor(c.b, 2), -1, -2).set_requires_grad();
      check_close(matmul(a, b, true), plain_matmul(a, random_tensor(c.b, 2), c.result), 1e-14);
      check_gradients([](const auto& in) { return matmul(in[0], in[1], true); }, {a, b});
    }
  }
}

TEST_CASE("a stack of no matrices has a product, with gradients", "[matmul]") {
  const Shape shapes[][3] = {{{0, 4, 3}, {0, 3, 5}, {0, 4, 5}}, {{1, 4, 3}, {0, 3, 5}, {0, 4, 5}}, {{2, 0, 4, 3}, {1, 3, 5}, {2, 0, 4, 5}}};
  for (const auto& [left, right, result] : shapes) {
    Tensor a = random_leaf(left, 1), b = random_leaf(right, 2);
    const Tensor y = matmul(a, b);
    CHECK(y.shape() == result);
    sum(y).backward();
    CHECK(bit_equal(a.grad(), Tensor::zeros(left, DType::kFloat64)));
    CHECK(bit_equal(b.grad(), Tensor::zeros(right, DType::kFloat64)));
  }
}

TEST_CASE("large products: tiles, chunks of the sum, threads", "[matmul]") {
  for (const cases::MatmulCase& c : cases::kLargeMatmulCases) {
    DYNAMIC_SECTION(to_string(c.a) << " x " << to_string(c.b)) {
      const Tensor a = random_tensor(c.a, 3, DType::kFloat32), b = random_tensor(c.b, 4, DType::kFloat32);
      std::vector<Tensor> results[2];
      for (const int threads : {1, 2}) {
        set_num_threads(threads);
        Tensor leaf_a = a.clone().set_requires_grad(), leaf_b = b.clone().set_requires_grad();
        const Tensor y = matmul(leaf_a, leaf_b);
        y.backward(random_tensor(y.shape(), 5, DType::kFloat32));
        results[threads - 1] = {y.detach(), leaf_a.grad(), leaf_b.grad()};
      }
      for (size_t i = 0; i < 3; ++i) CHECK(bit_equal(results[0][i], results[1][i]));
      check_close(results[0][0], plain_matmul(a, b, c.result), 1e-6);
      const Tensor a64 = a.to(DType::kFloat64).set_requires_grad(), b64 = b.to(DType::kFloat64).set_requires_grad();
      const Tensor y64 = matmul(a64, b64);
      check_close(y64, plain_matmul(a, b, c.result), 1e-13);
      y64.backward(random_tensor(y64.shape(), 5, DType::kFloat32).to(DType::kFloat64));
      check_close(results[0][1], a64.grad(), 1e-5);
      check_close(results[0][2], b64.grad(), 1e-5);
    }
  }
}

TEST_CASE("the kernel takes transposed operands as they lie", "[matmul]") {
  const Tensor a = random_tensor({2, 37, 21}, 6), b = random_tensor({2, 21, 45}, 7);
  const Tensor expected = matmul(a, b), at = transpose(a, 1, 2), bt = transpose(b, 1, 2);
  for (const bool ta : {false, true}) {
    for (const bool tb : {false, true}) {
      Tensor y = Tensor::empty({2, 37, 45}, DType::kFloat64);
      cpu::matmul(ta ? at : a, ta, tb ? bt : b, tb, y);
      check_close(y, expected, 1e-14);
    }
  }
}

TEST_CASE("linear is x times the transposed weight plus bias", "[linear]") {
  for (const cases::LinearCase& c : cases::kLinearCases) {
    DYNAMIC_SECTION(to_string(c.x) << " to " << c.out << (c.bias ? " with bias" : "")) {
      const int64_t in = c.x.at(-1);
      Tensor x = random_leaf(c.x, 8), weight = random_leaf({c.out, in}, 9), bias;
      if (c.bias) bias = random_leaf({c.out}, 10);
      const Tensor y = linear(x, weight, bias);
      Shape shape = c.x;
      shape.set(c.x.rank() - 1, c.out);
      REQUIRE(y.shape() == shape);
      Tensor expected = Tensor::empty(shape, DType::kFloat64);
      for (int64_t i = 0; i < expected.numel(); ++i) {
        double total = c.bias ? bias.value_at(i % c.out) : 0;
        for (int64_t k = 0; k < in; ++k) total += x.value_at(i / c.out * in + k) * weight.value_at(i % c.out * in + k);
        expected.data<double>()[i] = total;
      }
      check_close(y, expected, 1e-14);
      const Tensor bias32 = c.bias ? bias.to(DType::kFloat32) : Tensor();
      check_close(linear(x.to(DType::kFloat32), weight.to(DType::kFloat32), bias32), expected, 1e-6);
      check_gradients([](const auto& all) { return linear(all[0], all[1], all[2]); }, {x, weight, bias});
    }
  }
}

TEST_CASE("linear gives the same bits on one thread and on two", "[linear]") {
  std::vector<Tensor> results[2];
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    Tensor x = random_leaf({3, 1100, 70}, 11, DType::kFloat32), weight = random_leaf({150, 70}, 12, DType::kFloat32);
    Tensor bias = random_leaf({150}, 13, DType::kFloat32);
    const Tensor y = linear(x, weight, bias);
    y.backward(random_tensor(y.shape(), 14, DType::kFloat32));
    results[threads - 1] = {y.detach(), x.grad(), weight.grad(), bias.grad()};
  }
  for (size_t i = 0; i < 4; ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

TEST_CASE("products name what does not fit", "[matmul]") {
  const Tensor a = Tensor::zeros({2, 3}), b = Tensor::zeros({4, 5});
  CHECK_THROWS_WITH(matmul(a, b), Catch::Contains("matmul") && Catch::Contains("[2, 3]") && Catch::Contains("[4, 5]"));
  CHECK_THROWS_AS(matmul(a, Tensor::zeros({3})), ShapeError);
  CHECK_THROWS_WITH(matmul(Tensor::zeros({2, 2, 3}), Tensor::zeros({3, 3, 4})),
                    Catch::Contains("[2, 2, 3]") && Catch::Contains("[3, 3, 4]"));
  CHECK_THROWS_AS(matmul(a, Tensor::zeros({3, 4}, DType::kFloat64)), DTypeError);
  CHECK_THROWS_AS(matmul(a, Tensor()), UsageError);
  CHECK_THROWS_AS(matmul(a, Tensor::zeros({3, 4}), true), ShapeError);
  CHECK_THROWS_WITH(matmul(a, b, true), Catch::Contains("[2, 3]") && Catch::Contains("[4, 5] transposed"));
  CHECK_THROWS_AS(linear(a, b), ShapeError);
  CHECK_THROWS_WITH(linear(a, Tensor::zeros({4, 3}), Tensor::zeros({3})),
                    Catch::Contains("bias") && Catch::Contains("[4]"));
  CHECK_THROWS_AS(linear(Tensor::scalar(1), b), ShapeError);
  CHECK_THROWS_AS(linear(a, Tensor::zeros({3})), ShapeError);
  CHECK_THROWS_AS(linear(a, Tensor()), UsageError);
}
