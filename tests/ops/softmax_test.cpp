#include "autograd/functional.h"

#include <limits>

#include "core/allocator.h"
#include "core/kernels/lanes.h"
#include "core/parallel.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

Tensor softmax_oracle(const Tensor& x, bool logarithm) {
  const int64_t classes = x.size(-1);
  Tensor y = Tensor::empty(x.shape(), DType::kFloat64);
  for (int64_t row = 0; row < x.numel(); row += classes) {
    double top = x.value_at(row), total = 0;
    for (int64_t c = 0; c < classes; ++c) top = std::max(top, x.value_at(row + c));
    for (int64_t c = 0; c < classes; ++c) total += std::exp(x.value_at(row + c) - top);
    for (int64_t c = 0; c < classes; ++c) {
      const double shifted = x.value_at(row + c) - top;
      y.data<double>()[row + c] = logarithm ? shifted - std::log(total) : std::exp(shifted) / total;
    }
  }
  return y;
}

const Shape kShapes[] = {{5, 1}, {4, 2}, {2, 3, 4, 11}, {2, 16}, {3, 5, 19}, {2, 3, 150}, {130, 9}, {1000}};

template <class T>
void check_exp_and_log(double tolerance) {
  const double lowest = sizeof(T) == 4 ? -87.0 : -708.0;
  double worst_exp = 0, worst_log = 0;
  for (int i = 0; i < 20000; ++i) {
    const T x = T(lowest * i / 20000), z = T(std::exp(double(i) / 1000 - 4));
    const double e = double(cpu::exp_nonpositive<T>(cpu::broadcast(x))[0]), l = double(cpu::log_positive<T>(cpu::broadcast(z))[0]);
    worst_exp = std::max(worst_exp, std::abs(e / std::exp(double(x)) - 1));
    worst_log = std::max(worst_log, std::abs(l - std::log(double(z))) / std::max(1.0, std::abs(std::log(double(z)))));
  }
  CHECK(worst_exp < tolerance);
  CHECK(worst_log < tolerance);
  const T infinity = std::numeric_limits<T>::infinity();
  CHECK(cpu::exp_nonpositive<T>(cpu::broadcast(T(0)))[0] == T(1));
  CHECK(cpu::exp_nonpositive<T>(cpu::broadcast(-infinity))[0] == T(0));
  CHECK(std::isnan(cpu::exp_nonpositive<T>(cpu::broadcast(T(std::nan(""))))[0]));
  CHECK(cpu::log_positive<T>(cpu::broadcast(T(1)))[0] == T(0));
  CHECK(std::isnan(cpu::log_positive<T>(cpu::broadcast(T(std::nan(""))))[0]));
}

}  // namespace

TEST_CASE("vector exp and log are accurate to rounding", "[softmax]") {
  check_exp_and_log<float>(2.5e-7);
  check_exp_and_log<double>(5e-16);
}

TEST_CASE("softmax and log_softmax equal their definitions", "[softmax]") {
  for (const Shape& shape : kShapes) {
    INFO(to_string(shape));
    Tensor x = random_tensor(shape, 1);
    x.mul_(5);
    check_close(softmax(x), softmax_oracle(x, false), 1e-14);
    check_close(log_softmax(x), softmax_oracle(x, true), 1e-14);
    const Tensor single = x.to(DType::kFloat32);
    check_close(softmax(single), softmax_oracle(single, false), 5e-7);
    check_close(log_softmax(single), softmax_oracle(single, true), 5e-7);
  }
}

TEST_CASE("the gradients of softmax and log_softmax", "[softmax]") {
  for (const Shape& shape : kShapes) {
    INFO(to_string(shape));
    check_gradients([](const std::vector<Tensor>& in) { return softmax(in[0]); }, {random_leaf(shape, 1)});
    check_gradients([](const std::vector<Tensor>& in) { return log_softmax(in[0]); }, {random_leaf(shape, 1)});
  }
}

TEST_CASE("softmax stands huge, lonely and forbidden logits", "[softmax]") {
  const float infinity = std::numeric_limits<float>::infinity();
  const Tensor x = Tensor::from<float>({1000, 0, -1000, 3, -infinity, 3, -500, -500, -500}, {3, 3});
  check_close(softmax(x), Tensor::from<float>({1, 0, 0, 0.5, 0, 0.5, 1 / 3.f, 1 / 3.f, 1 / 3.f}, {3, 3}), 1e-7);
  CHECK(log_softmax(x).value_at(1) == -1000);
  CHECK(log_softmax(x).value_at(4) == -infinity);
}

TEST_CASE("a NaN spoils its own row and no other", "[softmax]") {
  Tensor x = random_tensor({3, 11}, 1, DType::kFloat32);
  x.data<float>()[15] = std::nanf("");
  const Tensor y = softmax(x), z = log_softmax(x);
  for (int64_t i = 0; i < 33; ++i) {
    CHECK(std::isnan(y.value_at(i)) == (i / 11 == 1));
    CHECK(std::isnan(z.value_at(i)) == (i / 11 == 1));
  }
}

TEST_CASE("softmax gives the same bits for any number of threads and any place of a row", "[softmax]") {
  const int before = num_threads();
  for (int64_t classes : {11, 19, 150}) {
    auto run = [&](int threads, bool logarithm) {
      set_num_threads(threads);
      const Tensor x = random_leaf({5000, classes}, 1, DType::kFloat32);
      const Tensor y = logarithm ? log_softmax(x) : softmax(x);
      y.backward(random_tensor(x.shape(), 2, DType::kFloat32));
      return std::vector<Tensor>{y, x.grad()};
    };
    for (bool logarithm : {false, true}) {
      const auto one = run(1, logarithm), two = run(2, logarithm);
      CHECK(bit_equal(one[0], two[0]));
      CHECK(bit_equal(one[1], two[1]));
    }
    const Tensor x = random_tensor({40, classes}, 1, DType::kFloat32), whole = softmax(x);
    for (int64_t rows = 1; rows < 40; ++rows) {
      CHECK(bit_equal(softmax(x.alias({rows, classes})), whole.alias({rows, classes})));
    }
  }
  set_num_threads(before);
}

TEST_CASE("float32 gradients of softmax agree with float64", "[softmax]") {
  for (bool logarithm : {false, true}) {
    auto gradient = [&](DType dtype) {
      const Tensor x = random_leaf({50, 19}, 1, dtype);
      (logarithm ? log_softmax(x) : softmax(x)).backward(random_tensor(x.shape(), 2, dtype));
      return x.grad();
    };
    check_close(gradient(DType::kFloat32), gradient(DType::kFloat64), 1e-6);
  }
}

TEST_CASE("kernels that walk rows by whole vectors stay inside their memory", "[softmax]") {
  allocator().set_guards(true);  // a byte written behind a block ends the process
  for (int64_t width = 1; width <= 35; ++width) {
    for (int64_t rows : {1, 2, 17}) {
      const Tensor x = random_leaf({rows, width}, 1, DType::kFloat32), labels = Tensor::zeros({rows}, DType::kUInt8);
      for (const Tensor& y : {softmax(x), log_softmax(x), layer_norm(x, {}, {}, 1e-5)}) y.backward(Tensor::zeros_like(y));
      cross_entropy(x, labels).backward();
      CHECK(std::isfinite(x.grad().value_at(rows * width - 1)));
    }
  }
  allocator().set_guards(false);
}

TEST_CASE("softmax checks its argument", "[softmax]") {
  CHECK_THROWS_AS(softmax({}), UsageError);
  CHECK_THROWS_AS(softmax(Tensor::zeros({3}, DType::kInt32)), DTypeError);
  CHECK_THROWS_WITH(log_softmax(Tensor::zeros({3, 0})), Catch::Contains("log_softmax") && Catch::Contains("[3, 0]"));
  CHECK_THROWS_AS(softmax(Tensor::scalar(1)), ShapeError);
  CHECK(softmax(Tensor::zeros({0, 3})).numel() == 0);
}
