#include "core/kernels/slice.h"

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

Tensor slice_oracle(const Tensor& x, int axis, int64_t begin, int64_t end) {
  Shape shape = x.shape();
  shape.set(axis, end - begin);
  Tensor y = Tensor::empty(shape, DType::kFloat64);
  const int64_t inner = shape.product(axis + 1, shape.rank());
  for (int64_t at = 0; at < y.numel(); ++at) {
    const int64_t cell = at / inner % (end - begin) + begin;
    y.data<double>()[at] = x.value_at((at / inner / (end - begin) * x.size(axis) + cell) * inner + at % inner);
  }
  return y;
}

}  // namespace

TEST_CASE("slice: values and gradients along every axis", "[slice]") {
  for (int axis = 0; axis < 4; ++axis) {
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, 5}, {0, 2}, {1, 4}, {4, 5}}) {
      CAPTURE(axis, begin, end);
      Shape shape{2, 3, 4, 3};
      shape.set(axis, 5);
      const Tensor x = random_tensor(shape, 1);
      CHECK(bit_equal(slice(x, axis, begin, end), slice_oracle(x, axis, begin, end)));
      CHECK(bit_equal(slice(x.to(DType::kFloat32), axis - 4, begin, end), slice_oracle(x, axis, begin, end).to(DType::kFloat32)));
      check_gradients([&, b = begin, e = end](const TensorList& in) { return slice(in[0], axis, b, e); }, {random_leaf(shape, 2)});
    }
  }
}

TEST_CASE("slice: along axis 0 it is a view", "[slice]") {
  Tensor x = random_tensor({4, 3}, 3);
  Tensor y = slice(x, 0, 1, 3);
  CHECK(y.raw_data() == x.data<double>() + 3);
  y.fill_(7);
  CHECK(x.value_at(3) == 7);
  CHECK(x.value_at(8) == 7);
  CHECK(x.value_at(2) != 7);
  const Tensor copy = slice(x, 1, 1, 3);
  CHECK(copy.raw_data() != x.raw_data());
}

TEST_CASE("slice: a recorded view is guarded like any recorded value", "[slice]") {
  Tensor x = random_leaf({4, 3}, 4);
  Tensor y = slice(x, 0, 1, 3);
  CHECK(y.requires_grad());
  CHECK_THROWS_AS(y.fill_(0), AutogradError);
  sum(y).backward();
  for (int64_t i = 0; i < x.numel(); ++i) CHECK(x.grad().value_at(i) == (i >= 3 && i < 9 ? 1 : 0));
}

TEST_CASE("slice: two halves and their concatenation are the identity", "[slice]") {
  for (int axis = 0; axis < 3; ++axis) {
    const Tensor x = random_tensor({4, 4, 4}, 5);
    CHECK(bit_equal(concat({slice(x, axis, 0, 1), slice(x, axis, 1, 4)}, axis), x));
    check_gradients([&](const TensorList& in) { return concat({slice(in[0], axis, 0, 1), slice(in[0], axis, 1, 4)}, axis); },
                    {random_leaf({4, 4, 4}, 6)});
  }
}

TEST_CASE("slice: the same bits for any number of threads", "[slice]") {
  const int before = num_threads();
  Tensor x = random_leaf({300, 400}, 7, DType::kFloat32);
  const Tensor grad_y = random_tensor({300, 150}, 8, DType::kFloat32);
  std::vector<Tensor> results[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    const Tensor y = slice(x, 1, 100, 250);
    y.backward(grad_y);
    results[threads - 1] = {y, x.grad()};
    x.set_grad({});
  }
  set_num_threads(before);
  for (size_t i = 0; i < 2; ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

TEST_CASE("slice: empty ranges, other types, bad arguments", "[slice]") {
  const Tensor x = Tensor::from<int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(slice(x, 1, 1, 2).to_vector<int32_t>() == std::vector<int32_t>{2, 5});
  CHECK(slice(x, 1, 3, 3).shape() == Shape{2, 0});
  CHECK(slice(x, 0, 2, 2).shape() == Shape{0, 3});
  CHECK_THROWS_AS(slice(x, 1, -1, 2), ShapeError);
  CHECK_THROWS_AS(slice(x, 1, 2, 1), ShapeError);
  CHECK_THROWS_AS(slice(x, 1, 0, 4), ShapeError);
  CHECK_THROWS_WITH(slice(x, 2, 0, 1), Catch::Contains("slice: there is no axis 2") && Catch::Contains("[2, 3]"));
  CHECK_THROWS_AS(slice(Tensor::scalar(1), 0, 0, 1), ShapeError);
  CHECK_THROWS_AS(slice({}, 0, 0, 1), UsageError);
  CHECK_THROWS_WITH(slice(x, 1, 0, 4), Catch::Contains("[0, 4)") && Catch::Contains("[2, 3]"));
}
