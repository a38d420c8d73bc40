#include "shape_cases.h"

#include "autograd/functional.h"
#include "core/parallel.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

Tensor plain_permute(const Tensor& x, const std::vector<int>& axes) {
  const int rank = x.rank();
  std::vector<int64_t> extents(rank), steps(rank);
  for (int k = 0; k < rank; ++k) {
    const int axis = axes[k] < 0 ? axes[k] + rank : axes[k];
    extents[k] = x.shape()[axis];
    steps[k] = x.shape().product(axis + 1, rank);
  }
  Tensor y = Tensor::empty(Shape(extents), DType::kFloat64);
  for (int64_t i = 0; i < y.numel(); ++i) {
    int64_t rest = i, offset = 0;
    for (int k = rank - 1; k >= 0; --k) {
      offset += rest % extents[k] * steps[k];
      rest /= extents[k];
    }
    y.data<double>()[i] = x.value_at(offset);
  }
  return y;
}

}  // namespace

TEST_CASE("permute against plain coordinates, in every element type", "[permute]") {
  for (const cases::PermuteCase& c : cases::kPermuteCases) {
    DYNAMIC_SECTION(to_string(c.shape) << " by " << Catch::Detail::stringify(c.axes)) {
      Tensor x = distinct_tensor(c.shape, 1).set_requires_grad();
      const Tensor y = permute(x, c.axes), expected = plain_permute(x, c.axes);
      CHECK(bit_equal(y.detach(), expected));
      CHECK(bit_equal(permute(x.to(DType::kFloat32), c.axes), expected.to(DType::kFloat32)));
      Tensor bytes = Tensor::empty(c.shape, DType::kUInt8);
      for (int64_t i = 0; i < bytes.numel(); ++i) bytes.data<uint8_t>()[i] = uint8_t(7 * i);
      CHECK(bit_equal(permute(bytes, c.axes), plain_permute(bytes, c.axes).to(DType::kUInt8)));
      check_gradients([&](const auto& in) { return permute(in[0], c.axes); }, {x});
    }
  }
}

TEST_CASE("permute in several chunks that begin anywhere", "[permute]") {
  for (const std::vector<int>& axes : {std::vector<int>{1, 2, 0, 3}, {2, 0, 3, 1}}) {
    const Tensor x = random_tensor({7, 11, 13, 50}, 3);
    CHECK(bit_equal(permute(x, axes), plain_permute(x, axes)));
  }
}

TEST_CASE("permute there and back, on one thread and on two", "[permute]") {
  const Tensor x = random_tensor({3, 70, 90, 21}, 2, DType::kFloat32);
  set_num_threads(1);
  const Tensor one = permute(x, {0, 3, 1, 2});
  set_num_threads(2);
  CHECK(bit_equal(one, permute(x, {0, 3, 1, 2})));
  CHECK(bit_equal(permute(one, {0, 2, 3, 1}), x));
  CHECK(bit_equal(transpose(transpose(x, 1, -1), -1, 1), x));
  CHECK(transpose(x, 0, 2).shape() == Shape{90, 70, 3, 21});
}

TEST_CASE("reshape is a recorded view", "[reshape]") {
  Tensor x = random_leaf({2, 3, 4}, 3);
  const Tensor y = reshape(x, Shape{6, 4});
  CHECK(y.raw_data() == x.raw_data());
  CHECK(y.requires_grad());
  check_gradients([](const auto& in) { return square(reshape(in[0], Shape{4, 6})); }, {x});
  CHECK(reshape(x, std::vector<int64_t>{-1, 6}).shape() == Shape{4, 6});
  CHECK(reshape(x, std::vector<int64_t>{2, -1}).shape() == Shape{2, 12});
  CHECK(reshape(x, std::vector<int64_t>{24}).shape() == Shape{24});
  CHECK(reshape(x, {4, -1}).shape() == Shape{4, 6});
  CHECK(reshape(Tensor::zeros({0, 3}), {-1, 3}).shape() == Shape{0, 3});
  CHECK(reshape(Tensor::scalar(1), {1, 1}).shape() == Shape{1, 1});
  CHECK(reshape(Tensor::zeros({4}, DType::kUInt8), Shape{2, 2}).dtype() == DType::kUInt8);
}

TEST_CASE("a change through a view is found by what was saved", "[reshape]") {
  Tensor x = random_leaf({4}, 4);
  Tensor y = exp(x);
  const Tensor z = square(y);
  y.detach().fill_(0);
  CHECK_THROWS_WITH(sum(z).backward(), Catch::Contains("square") && Catch::Contains("changed in place"));
}

TEST_CASE("expand repeats, its gradient sums", "[expand]") {
  const struct {
    Shape from, to;
  } cases[] = {{{3}, {2, 3}},          {{}, {4}},        {{2, 1, 3}, {2, 4, 3}},
               {{2, 3, 1}, {2, 3, 5}}, {{1, 3}, {1, 3}}, {{1, 3}, {0, 3}}};
  for (const auto& c : cases) {
    DYNAMIC_SECTION(to_string(c.from) << " to " << to_string(c.to)) {
      Tensor x = random_leaf(c.from, 5);
      const Tensor y = expand(x, c.to);
      check_close(y, x + Tensor::zeros(c.to, DType::kFloat64), 0);
      check_gradients([&](const auto& in) { return expand(in[0], c.to); }, {x});
    }
  }
  const Tensor labels = expand(Tensor::from<uint8_t>({1, 2}, {2, 1}), {2, 3});
  CHECK(labels.to_vector<uint8_t>() == std::vector<uint8_t>{1, 1, 1, 2, 2, 2});
}

TEST_CASE("shape errors say what does not fit", "[reshape][permute][expand]") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_WITH(reshape(x, Shape{4, 2}), Catch::Contains("[2, 3]") && Catch::Contains("[4, 2]"));
  CHECK_THROWS_AS(reshape(x, {4, -1}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {-1, -1}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {-1, 0}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {-2, -3}), ShapeError);
  CHECK_THROWS_AS(reshape(x, {int64_t{1} << 40, int64_t{1} << 40, -1}), ShapeError);
  CHECK_THROWS_AS(reshape(Tensor(), Shape{1}), UsageError);
  CHECK_THROWS_AS(permute(x, {0}), ShapeError);
  CHECK_THROWS_AS(permute(x, {}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 0}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 2}), ShapeError);
  CHECK_THROWS_AS(permute(x, {0, 1, 2}), ShapeError);
  CHECK_THROWS_AS(transpose(x, 0, 2), ShapeError);
  CHECK_THROWS_WITH(expand(x, {2, 4}), Catch::Contains("expand"));
  CHECK_THROWS_AS(expand(x, {3}), ShapeError);
  CHECK_THROWS_AS(expand(Tensor(), {3}), UsageError);
}
