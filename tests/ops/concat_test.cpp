#include "core/kernels/concat.h"

#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/allocator.h"
#include "core/parallel.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

std::vector<Tensor> pieces(int axis, DType dtype, bool leaves) {
  std::vector<Tensor> result;
  for (int64_t extent : {2, 1, 0, 4}) {
    Shape shape{2, 3, 4, 5};
    shape.set(axis, extent);
    result.push_back(random_tensor(shape, 50 + uint64_t(extent), dtype));
    if (leaves) result.back().set_requires_grad();
  }
  return result;
}

Tensor concat_oracle(const std::vector<Tensor>& inputs, int axis) {
  Shape shape = inputs[0].shape();
  int64_t total = 0;
  for (const Tensor& t : inputs) total += t.size(axis);
  shape.set(axis, total);
  Tensor y = Tensor::empty(shape, DType::kFloat64);
  const int64_t inner = shape.product(axis + 1, shape.rank());
  for (int64_t at = 0; at < y.numel(); ++at) {
    int64_t cell = at / inner % total;
    size_t which = 0;
    while (cell >= inputs[which].size(axis)) cell -= inputs[which++].size(axis);
    y.data<double>()[at] = inputs[which].value_at((at / inner / total * inputs[which].size(axis) + cell) * inner + at % inner);
  }
  return y;
}

}  // namespace

TEST_CASE("concat: values and gradients along every axis", "[concat]") {
  for (int axis = 0; axis < 4; ++axis) {
    CAPTURE(axis);
    const std::vector<Tensor> inputs = pieces(axis, DType::kFloat64, false);
    const Tensor expected = concat_oracle(inputs, axis);
    CHECK(bit_equal(concat(inputs, axis), expected));
    CHECK(bit_equal(concat(inputs, axis - 4), expected));
    CHECK(bit_equal(concat(pieces(axis, DType::kFloat32, false), axis), expected.to(DType::kFloat32)));
    check_gradients([&](const TensorList& in) { return concat(in, axis); }, pieces(axis, DType::kFloat64, true));
  }
}

TEST_CASE("concat: one input twice, other types, the same bits for any number of threads", "[concat]") {
  Tensor x = random_leaf({2, 3}, 1);
  check_gradients([](const TensorList& in) { return concat({in[0], in[0]}, 1); }, {x});
  CHECK(concat({Tensor::from<uint8_t>({1, 2}, {2}), Tensor::from<uint8_t>({3}, {1})}, 0).to_vector<uint8_t>() ==
        std::vector<uint8_t>{1, 2, 3});
  const int before = num_threads();
  const Tensor a = random_tensor({200, 300}, 2, DType::kFloat32), b = random_tensor({200, 111}, 3, DType::kFloat32);
  Tensor results[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    results[threads - 1] = concat({a, b}, 1);
  }
  set_num_threads(before);
  CHECK(bit_equal(results[0], results[1]));
}

TEST_CASE("concat: blocks longer than one task", "[concat]") {
  const Tensor a = random_tensor({70001}, 4, DType::kFloat64), b = random_tensor({90000}, 5, DType::kFloat64);
  CHECK(bit_equal(concat({a, b}, 0), concat_oracle({a, b}, 0)));
}

TEST_CASE("concat: only wanted gradients", "[concat]") {
  const Tensor a = random_tensor({2, 3}, 6);
  Tensor b = random_leaf({2, 1}, 7);
  const Tensor y = concat({a, b}, 1);
  y.backward(Tensor::from<double>({1, 2, 3, 4, 5, 6, 7, 8}, {2, 4}));
  CHECK(!a.grad().defined());
  CHECK(b.grad().to_vector<double>() == std::vector<double>{4, 8});
}

TEST_CASE("concat: bad arguments", "[concat]") {
  const Tensor a = Tensor::zeros({2, 3});
  CHECK_THROWS_AS(concat({}, 0), UsageError);
  CHECK_THROWS_AS(concat({Tensor(), a}, 0), UsageError);
  CHECK_THROWS_AS(concat({a, Tensor()}, 0), UsageError);
  CHECK_THROWS_WITH(concat({a, a}, 2), Catch::Contains("concat: there is no axis 2") && Catch::Contains("[2, 3]"));
  CHECK_THROWS_AS(concat({Tensor::scalar(1)}, 0), ShapeError);
  CHECK_THROWS_WITH(concat({a, Tensor::zeros({3, 3})}, 1), Catch::Contains("inputs[1]") && Catch::Contains("[3, 3]"));
  CHECK_THROWS_AS(concat({a, Tensor::zeros({2, 3, 1})}, 1), ShapeError);
  CHECK_THROWS_AS(concat({a, a.to(DType::kFloat64)}, 1), DTypeError);
}

TEST_CASE("split: parts, their gradients, and parts that nobody uses", "[split]") {
  const std::vector<int64_t> extents{2, 1, 0, 4};
  for (int axis = 0; axis < 4; ++axis) {
    CAPTURE(axis);
    const Tensor x = concat(pieces(axis, DType::kFloat64, false), axis);
    for (const DType dtype : {DType::kFloat64, DType::kFloat32}) {
      const std::vector<Tensor> parts = split(x.to(dtype), extents, axis - 4), expected = pieces(axis, dtype, false);
      REQUIRE(parts.size() == expected.size());
      for (size_t i = 0; i < parts.size(); ++i) CHECK(bit_equal(parts[i], expected[i]));
    }
    const auto turned = [&](const TensorList& in) {  // each is used differently, and the last one twice
      const std::vector<Tensor> parts = split(in[0], extents, axis);
      return concat({parts[3], square(parts[0]), parts[2], exp(parts[1]), parts[3]}, axis);
    };
    check_gradients(turned, {x.clone().set_requires_grad()});
    check_gradients([&](const TensorList& in) { return square(split(in[0], extents, axis)[0]); }, {x.clone().set_requires_grad()});
    check_gradients([&](const TensorList& in) { return square(split(in[0], extents, axis)[3]); }, {x.clone().set_requires_grad()});
  }
}

TEST_CASE("split: along axis 0 views, guarded like any recorded value", "[split]") {
  Tensor x = random_tensor({4, 3}, 8);
  std::vector<Tensor> parts = split(x, {1, 3}, 0);
  CHECK(parts[1].raw_data() == x.data<double>() + 3);
  CHECK(split(x, {1, 2}, 1)[0].raw_data() != x.raw_data());
  x.set_requires_grad();
  parts = split(x, {1, 3}, 0);
  CHECK_THROWS_AS(parts[1].fill_(0), AutogradError);
}

TEST_CASE("split: one part is the whole; the gradient of all parts is held once", "[split]") {
  Tensor x = random_leaf({64, 64, 64}, 9, DType::kFloat32);
  CHECK(split(x, {64}, 2)[0].is_same(x));
  const Tensor y = relu(x);
  std::vector<Tensor> parts = split(y, {16, 16, 32}, 0);
  Tensor total = sum(parts[0]) + sum(parts[1]) + sum(parts[2]);
  parts.clear();
  const size_t before = allocator().stats().active_bytes;
  allocator().reset_peak();
  total.backward();
  // The gradients of the parts and what they are joined into; as slices it is 2.5 times the whole, not 2.
  CHECK(allocator().stats().peak_bytes - before < 9 * x.bytes() / 4);
}

TEST_CASE("split: other types, the same bits for any number of threads, bad arguments", "[split]") {
  const Tensor x = Tensor::from<int32_t>({1, 2, 3, 4, 5, 6}, {2, 3});
  CHECK(split(x, {1, 2}, 1)[1].to_vector<int32_t>() == std::vector<int32_t>{2, 3, 5, 6});
  const int before = num_threads();
  Tensor grads[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    Tensor leaf = random_leaf({300, 400}, 10, DType::kFloat32);
    const std::vector<Tensor> parts = split(leaf, {150, 50, 200}, 1);
    concat({parts[2], parts[0]}, 1).backward(random_tensor({300, 350}, 11, DType::kFloat32));
    grads[threads - 1] = leaf.grad();
  }
  set_num_threads(before);
  CHECK(bit_equal(grads[0], grads[1]));
  CHECK_THROWS_AS(split({}, {1}, 0), UsageError);
  CHECK_THROWS_AS(split(Tensor::scalar(1), {1}, 0), ShapeError);
  CHECK_THROWS_WITH(split(x, {1, 2}, -3), Catch::Contains("split: there is no axis -3") && Catch::Contains("[2, 3]"));
  CHECK_THROWS_AS(split(x, {}, 1), ShapeError);
  CHECK_THROWS_AS(split(x, {1, 1}, 1), ShapeError);
  CHECK_THROWS_AS(split(x, {-1, 4}, 1), ShapeError);
  CHECK_THROWS_AS(split(x, {4, -1}, 1), ShapeError);
  CHECK_THROWS_AS(split(x, {std::numeric_limits<int64_t>::max(), std::numeric_limits<int64_t>::max(), 5}, 1), ShapeError);
  CHECK_THROWS_WITH(split(x, {1, 3}, 1), Catch::Contains("[1, 3]") && Catch::Contains("axis 1") && Catch::Contains("[2, 3]"));
}
