#include "core/kernels/pad2d.h"

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "pad2d_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using cases::Pad2dCase;

namespace {

Tensor pad(const Tensor& x, const Pad2dCase& k) { return pad2d(x, k.top, k.bottom, k.left, k.right, k.value); }

Tensor pad_oracle(const Tensor& x, const Pad2dCase& k) {
  Tensor y = Tensor::empty({k.n, k.h + k.top + k.bottom, k.w + k.left + k.right, k.c}, DType::kFloat64);
  for (int64_t i = 0; i < y.numel(); ++i) {
    const int64_t c = i % k.c, q = i / k.c % y.size(2) - k.left, p = i / k.c / y.size(2) % y.size(1) - k.top;
    const int64_t n = i / (k.c * y.size(1) * y.size(2));
    const bool inside = p >= 0 && p < k.h && q >= 0 && q < k.w;
    y.data<double>()[i] = inside ? x.value_at(((n * k.h + p) * k.w + q) * k.c + c) : k.value;
  }
  return y;
}

}  // namespace

TEST_CASE("pad2d: values and gradients, padding and cropping", "[pad2d]") {
  for (const Pad2dCase& k : cases::kPad2d) {
    CAPTURE(k.h, k.w, k.c, k.top, k.bottom, k.left, k.right);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 1);
    CHECK(bit_equal(pad(x, k), pad_oracle(x, k)));
    CHECK(bit_equal(pad(x.to(DType::kFloat32), k), pad_oracle(x, k).to(DType::kFloat32)));
    check_gradients([&](const TensorList& in) { return pad(in[0], k); }, {random_leaf(x.shape(), 2)});
  }
}

TEST_CASE("pad2d: the same bits for any number of threads", "[pad2d]") {
  const int before = num_threads();
  Tensor x = random_leaf({2, 90, 80, 16}, 3, DType::kFloat32);
  std::vector<Tensor> results[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    const Tensor y = pad2d(x, 3, -2, -5, 7, 0.25);
    y.backward(y.detach());
    results[threads - 1] = {y, x.grad()};
    x.set_grad({});
  }
  set_num_threads(before);
  for (size_t i = 0; i < 2; ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

TEST_CASE("pad2d: bad arguments", "[pad2d]") {
  const Tensor x = Tensor::zeros({1, 4, 4, 3});
  CHECK_THROWS_AS(pad2d(x, -2, -2, 0, 0), ShapeError);
  CHECK_THROWS_AS(pad2d(x, 0, 0, -5, 0), ShapeError);
  CHECK_THROWS_AS(pad2d(x, INT64_MAX, INT64_MAX, 0, 0), ShapeError);
  CHECK_THROWS_AS(pad2d(x, INT64_MIN, 0, 0, 0), ShapeError);
  CHECK_THROWS_AS(pad2d(Tensor::zeros({4, 4, 3}), 1, 1, 1, 1), ShapeError);
  CHECK_THROWS_AS(pad2d(x.to(DType::kInt32), 1, 1, 1, 1), DTypeError);
  CHECK_THROWS_AS(pad2d({}, 1, 1, 1, 1), UsageError);
  CHECK(pad2d(Tensor::zeros({0, 4, 4, 3}), 1, 1, 1, 1).shape() == Shape{0, 6, 6, 3});
}
