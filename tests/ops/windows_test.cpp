#include "core/kernels/windows.h"

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "support.h"
#include "windows_cases.h"

using namespace eq;
using namespace eq::test;
using cases::WindowCase;

namespace {

Tensor split(const Tensor& x, const WindowCase& k) { return split_windows(x, k.size, k.shift); }

// Step by step: padded, rolled, cut.
Tensor split_oracle(const Tensor& x, const WindowCase& k) {
  const int64_t rows = (k.h + k.size - 1) / k.size, columns = (k.w + k.size - 1) / k.size, height = rows * k.size, width = columns * k.size;
  const Tensor padded = pad2d(x, 0, height - k.h, 0, width - k.w);
  Tensor rolled = Tensor::empty(padded.shape(), DType::kFloat64);
  for (int64_t i = 0; i < rolled.numel(); ++i) {
    const int64_t c = i % k.c, q = i / k.c % width, p = i / k.c / width % height, n = i / k.c / width / height;
    rolled.data<double>()[i] = padded.value_at(((n * height + (p + k.shift) % height) * width + (q + k.shift) % width) * k.c + c);
  }
  const Tensor cut = permute(reshape(rolled, {k.n, rows, k.size, columns, k.size, k.c}), {0, 1, 3, 2, 4, 5});
  return reshape(cut, {k.n * rows * columns, k.size * k.size, k.c});
}

}  // namespace

TEST_CASE("windows: values and gradients of splitting and joining", "[windows]") {
  for (const WindowCase& k : cases::kWindows) {
    CAPTURE(k.h, k.w, k.c, k.size, k.shift);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 1), windows = split(x, k);
    CHECK(bit_equal(windows, split_oracle(x, k)));
    CHECK(bit_equal(split(x.to(DType::kFloat32), k), windows.to(DType::kFloat32)));
    CHECK(bit_equal(split((100.0 * x).to(DType::kInt32), k), (100.0 * windows).to(DType::kInt32)));
    CHECK(bit_equal(join_windows(windows, x.shape(), k.size, k.shift), x));
    check_gradients([&](const TensorList& in) { return split(in[0], k); }, {random_leaf(x.shape(), 2)});
    check_gradients([&](const TensorList& in) { return join_windows(in[0], x.shape(), k.size, k.shift); },
                    {random_leaf(windows.shape(), 3)});
  }
}

TEST_CASE("windows: the same bits for any number of threads", "[windows]") {
  const int before = num_threads();
  Tensor x = random_leaf({2, 90, 80, 16}, 3, DType::kFloat32);
  std::vector<Tensor> results[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    const Tensor y = split_windows(x, 7, 3);
    y.backward(y.detach());
    results[threads - 1] = {y, x.grad()};
    x.set_grad({});
  }
  set_num_threads(before);
  for (size_t i = 0; i < 2; ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

TEST_CASE("windows: empty batches, bad arguments", "[windows]") {
  const Tensor x = Tensor::zeros({1, 4, 4, 3});
  CHECK(split_windows(Tensor::zeros({0, 4, 4, 3}), 2, 1).shape() == Shape{0, 4, 3});
  CHECK(join_windows(Tensor::zeros({0, 4, 3}), {0, 4, 4, 3}, 2, 1).shape() == Shape{0, 4, 4, 3});
  CHECK_THROWS_AS(split_windows(x, 0, 0), ShapeError);
  CHECK_THROWS_AS(split_windows(x, 2, 2), ShapeError);
  CHECK_THROWS_AS(split_windows(x, 2, -1), ShapeError);
  CHECK_THROWS_AS(split_windows(x, INT64_MAX, 0), ShapeError);
  CHECK_THROWS_AS(split_windows(Tensor::zeros({1, 0, 4, 3}), 2, 0), ShapeError);
  CHECK_THROWS_AS(split_windows(Tensor::zeros({4, 4, 3}), 2, 0), ShapeError);
  CHECK_THROWS_AS(split_windows({}, 2, 0), UsageError);
  CHECK_THROWS_AS(join_windows({}, {1, 4, 4, 3}, 2, 0), UsageError);
  CHECK_THROWS_WITH(join_windows(Tensor::zeros({3, 4, 3}), {1, 4, 4, 3}, 2, 0),
                    Catch::Contains("[3, 4, 3]") && Catch::Contains("[4, 4, 3]"));
  CHECK_THROWS_WITH(split_windows(x, 3, 5), Catch::Contains("windows of 3 shifted by 5") && Catch::Contains("[1, 4, 4, 3]"));
}
