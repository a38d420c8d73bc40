#include "autograd/functional.h"

#include <cmath>

#include "core/parallel.h"
#include "core/random.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

}  // namespace

TEST_CASE("dropout's mask is uniform_at of the element", "[dropout]") {
  // Large seeds and streams reach the upper halves of key and counter.
  const uint64_t seed = 0x123456789ABCDEF0, stream = 0xFEDCBA9876543210;
  for (DType dtype : {DType::kFloat32, DType::kFloat64}) {
    for (int64_t count : {1, 63, 64, 1003, 40000}) {
      const Tensor x = random_tensor({count}, 1, dtype), y = dropout(x, 0.3, seed, stream);
      int64_t wrong = 0;
      for (int64_t i = 0; i < count; ++i) {
        const bool kept = double(uniform_at(seed, stream, uint64_t(i))) >= 0.3;
        const double expected = kept ? x.value_at(i) / 0.7 : 0;
        wrong += !(std::abs(y.value_at(i) - expected) <= 1e-6 * std::abs(expected));
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("channel dropout's mask is uniform_at of image and channel", "[dropout]") {
  for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
    Tensor x = random_tensor({3, 4, 5, 21}, 1), expected = Tensor::empty_like(x);
    for (int64_t i = 0; i < x.numel(); ++i) {
      const int64_t image = i / (4 * 5 * 21), channel = i % 21;
      const bool kept = uniform_at(9, 4, uint64_t(image * 21 + channel)) >= 0.5f;
      x.data<double>()[i] = kept || channel % 2 == 0 ? x.value_at(i) : std::nan("");  // a zeroed NaN is 0
      expected.data<double>()[i] = kept ? 2 * x.value_at(i) : 0;
    }
    const Tensor y = channel_dropout(x.to(dtype), 0.5, 9, 4), rounded = expected.to(dtype);
    int64_t wrong = 0;
    for (int64_t i = 0; i < y.numel(); ++i) wrong += y.value_at(i) != rounded.value_at(i);
    CHECK(wrong == 0);
  }
}

TEST_CASE("dropout keeps the expectation", "[dropout]") {
  const Tensor y = dropout(Tensor::full({200000}, 1), 0.1, 3, 0);
  double mean = 0;
  int64_t zeros = 0;
  for (int64_t i = 0; i < y.numel(); ++i) {
    mean += y.value_at(i) / double(y.numel());
    zeros += y.value_at(i) == 0;
  }
  CHECK(mean == Approx(1).margin(0.004));
  CHECK(double(zeros) / double(y.numel()) == Approx(0.1).margin(0.004));
}

TEST_CASE("dropout differs between streams and seeds and repeats itself", "[dropout]") {
  const Tensor x = Tensor::full({1000}, 1);
  CHECK(bit_equal(dropout(x, 0.5, 1, 2), dropout(x, 0.5, 1, 2)));
  CHECK_FALSE(bit_equal(dropout(x, 0.5, 1, 2), dropout(x, 0.5, 1, 3)));
  CHECK_FALSE(bit_equal(dropout(x, 0.5, 1, 2), dropout(x, 0.5, 2, 2)));
}

TEST_CASE("the gradients of dropout and channel dropout", "[dropout]") {
  check_gradients([](const std::vector<Tensor>& in) { return dropout(in[0], 0.4, 5, 6); }, {random_leaf({3, 70}, 1)});
  check_gradients([](const std::vector<Tensor>& in) { return channel_dropout(in[0], 0.4, 5, 6); },
                  {random_leaf({2, 3, 3, 9}, 1)});
}

TEST_CASE("dropout gives the same bits on one and two threads", "[dropout]") {
  const Tensor x = random_tensor({4, 50, 51, 17}, 1, DType::kFloat32);
  const int before = num_threads();
  set_num_threads(1);
  const Tensor one = dropout(x, 0.2, 1, 2), channels_one = channel_dropout(x, 0.2, 1, 2);
  set_num_threads(2);
  CHECK(bit_equal(dropout(x, 0.2, 1, 2), one));
  CHECK(bit_equal(channel_dropout(x, 0.2, 1, 2), channels_one));
  set_num_threads(before);
}

TEST_CASE("dropout with probability 0 is the identity; others are checked", "[dropout]") {
  const Tensor x = random_tensor({2, 3}, 1);
  CHECK(bit_equal(dropout(x, 0, 1, 2), x));
  CHECK(bit_equal(channel_dropout(x, 0, 1, 2), x));
  for (double p : {1.0, -0.1, 1.5, std::nan("")}) {
    CHECK_THROWS_AS(dropout(x, p, 1, 2), UsageError);
    CHECK_THROWS_AS(channel_dropout(x, p, 1, 2), UsageError);
  }
  CHECK_THROWS_AS(dropout({}, 0.5, 1, 2), UsageError);
  CHECK_THROWS_AS(dropout(Tensor::zeros({3}, DType::kInt32), 0.5, 1, 2), DTypeError);
  CHECK_THROWS_AS(channel_dropout(random_tensor({4}, 1), 0.5, 1, 2), ShapeError);
  CHECK(channel_dropout(Tensor::zeros({0, 4}), 0.5, 1, 2).numel() == 0);
}
