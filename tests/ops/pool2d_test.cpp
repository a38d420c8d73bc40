#include "core/kernels/pool2d.h"

#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "pool2d_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using cases::AdaptivePoolCase;
using cases::Pool2dCase;

namespace {

// Visits the cells (h, w), also those in the padding, of the window at (p, q).
template <class Fn>
void visit_window(const Pool2dOptions& o, int64_t p, int64_t q, const Fn& fn) {
  for (int64_t r = 0; r < o.kernel_h; ++r) {
    for (int64_t s = 0; s < o.kernel_w; ++s) fn(p * o.stride_h - o.pad_h + r, q * o.stride_w - o.pad_w + s);
  }
}

Tensor pool_oracle(const Tensor& x, const Pool2dOptions& o, bool maximum) {
  const int64_t h = x.size(1), w = x.size(2), channels = x.size(3);
  Tensor y = Tensor::empty({x.size(0), pool_output_size(h, o.kernel_h, o.stride_h, o.pad_h, o.ceil_mode),
                            pool_output_size(w, o.kernel_w, o.stride_w, o.pad_w, o.ceil_mode), channels}, DType::kFloat64);
  for (int64_t i = 0; i < y.numel(); ++i) {
    const int64_t c = i % channels, q = i / channels % y.size(2), p = i / channels / y.size(2) % y.size(1);
    const int64_t n = i / (channels * y.size(1) * y.size(2));
    double best = -std::numeric_limits<double>::infinity(), sum = 0;
    int64_t inside = 0, with_padding = 0;
    visit_window(o, p, q, [&](int64_t a, int64_t b) {
      if (a < h + o.pad_h && b < w + o.pad_w) ++with_padding;
      if (a < 0 || a >= h || b < 0 || b >= w) return;
      const double value = x.value_at(((n * h + a) * w + b) * channels + c);
      best = std::max(best, value);
      sum += value;
      ++inside;
    });
    y.data<double>()[i] = maximum ? best : sum / double(o.count_include_pad ? with_padding : inside);
  }
  return y;
}

Tensor adaptive_oracle(const Tensor& x, int64_t out_h, int64_t out_w) {
  const int64_t h = x.size(1), w = x.size(2), channels = x.size(3);
  Tensor y = Tensor::empty({x.size(0), out_h, out_w, channels}, DType::kFloat64);
  const auto begin = [](int64_t i, int64_t in, int64_t out) { return int64_t(std::floor(double(i) * double(in) / double(out) + 1e-9)); };
  const auto end = [](int64_t i, int64_t in, int64_t out) { return int64_t(std::ceil(double(i + 1) * double(in) / double(out) - 1e-9)); };
  for (int64_t i = 0; i < y.numel(); ++i) {
    const int64_t c = i % channels, q = i / channels % out_w, p = i / channels / out_w % out_h, n = i / (channels * out_w * out_h);
    double sum = 0;
    int64_t count = 0;
    for (int64_t a = begin(p, h, out_h); a < end(p, h, out_h); ++a) {
      for (int64_t b = begin(q, w, out_w); b < end(q, w, out_w); ++b, ++count) sum += x.value_at(((n * h + a) * w + b) * channels + c);
    }
    y.data<double>()[i] = sum / double(count);
  }
  return y;
}

Tensor input_gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& fn, const Tensor& grad_y) {
  Tensor leaf = x.clone().set_requires_grad();
  fn(leaf).backward(grad_y);
  return leaf.grad();
}

// float32 against float64, and one thread against two, forward and backward.
void check_types_and_threads(const Tensor& x, const std::function<Tensor(const Tensor&)>& fn, double tolerance) {
  const Tensor grad_y = random_tensor(fn(x).shape(), 30);
  const Tensor narrow = x.to(DType::kFloat32), narrow_grad = grad_y.to(DType::kFloat32);
  check_close(fn(narrow), fn(x), tolerance);
  check_close(input_gradient(narrow, fn, narrow_grad), input_gradient(x, fn, grad_y), tolerance);
  const int before = num_threads();
  std::vector<Tensor> results[2];
  for (int threads : {1, 2}) {
    set_num_threads(threads);
    results[threads - 1] = {fn(narrow), input_gradient(narrow, fn, narrow_grad)};
  }
  set_num_threads(before);
  for (size_t i = 0; i < 2; ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

}  // namespace

TEST_CASE("max_pool2d: values and gradients", "[pool2d]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const Pool2dCase& k : cases::kPool2d) {
    CAPTURE(k.n, k.h, k.w, k.c, k.options.kernel_h, k.options.stride_h, k.options.pad_h, k.options.ceil_mode);
    const Tensor x = distinct_tensor({k.n, k.h, k.w, k.c}, 1);
    const auto fn = [&](const Tensor& t) { return max_pool2d(t, k.options); };
    CHECK(bit_equal(fn(x), pool_oracle(x, k.options, true)));
    check_types_and_threads(x, fn, 1e-6);
    check_gradients([&](const TensorList& in) { return fn(in[0]); }, {x.clone().set_requires_grad()});
  }
}

TEST_CASE("max_pool2d: the first of equal maxima gets the gradient, NaN and -infinity are values", "[pool2d]") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  for (int64_t c : {1, 16}) {  // scalar and vector code
    Tensor x = Tensor::empty({1, 2, 4, c}, DType::kFloat64);
    const double cells[] = {5, 5, -inf, -inf, 5, 1, -inf, -inf};
    for (int64_t i = 0; i < x.numel(); ++i) x.data<double>()[i] = cells[i / c];
    x.set_requires_grad();
    const Tensor y = max_pool2d(x, Pool2dOptions::square(2, 2));
    CHECK(y.value_at(0) == 5);
    CHECK(y.value_at(c) == -inf);
    y.backward(Tensor::full(y.shape(), 1, DType::kFloat64));
    for (int64_t i = 0; i < x.numel(); ++i) CHECK(x.grad().value_at(i) == (i / c == 0 || i / c == 2 ? 1 : 0));
    Tensor with_nan = x.detach().clone();
    for (int64_t i = 0; i < c; ++i) with_nan.data<double>()[i] = nan;
    CHECK(std::isnan(max_pool2d(with_nan, Pool2dOptions::square(2, 2)).value_at(0)));
  }
}

TEST_CASE("avg_pool2d: values and gradients", "[pool2d]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const Pool2dCase& k : cases::kPool2d) {
    CAPTURE(k.n, k.h, k.w, k.c, k.options.kernel_h, k.options.stride_h, k.options.pad_h, k.options.ceil_mode);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 2);
    const auto fn = [&](const Tensor& t) { return avg_pool2d(t, k.options); };
    check_close(fn(x), pool_oracle(x, k.options, false), 1e-14);
    check_types_and_threads(x, fn, 1e-6);
    check_gradients([&](const TensorList& in) { return fn(in[0]); }, {x.clone().set_requires_grad()});
  }
}

TEST_CASE("adaptive_avg_pool2d: values and gradients", "[pool2d]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const AdaptivePoolCase& k : cases::kAdaptivePool) {
    CAPTURE(k.n, k.h, k.w, k.c, k.out_h, k.out_w);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 3);
    const auto fn = [&](const Tensor& t) { return adaptive_avg_pool2d(t, k.out_h, k.out_w); };
    check_close(fn(x), adaptive_oracle(x, k.out_h, k.out_w), 1e-14);
    check_types_and_threads(x, fn, 1e-6);
    check_gradients([&](const TensorList& in) { return fn(in[0]); }, {x.clone().set_requires_grad()});
  }
}

TEST_CASE("pooling: gradients that are stored past the caches, image by image the same", "[pool2d]") {
  constexpr int64_t kChannels = 32;  // 16 MiB of float32 together
  const Tensor x = random_tensor({2, 256, 256, kChannels}, 5).to(DType::kFloat32);
  const auto check = [&](const std::function<Tensor(const Tensor&)>& fn) {
    const Tensor grad_y = random_tensor(fn(x).shape(), 6).to(DType::kFloat32);
    const Tensor both = input_gradient(x, fn, grad_y);
    for (int64_t n = 0; n < 2; ++n) {
      CHECK(bit_equal(slice(both, 0, n, n + 1), input_gradient(slice(x, 0, n, n + 1), fn, slice(grad_y, 0, n, n + 1))));
    }
  };
  check([](const Tensor& t) { return max_pool2d(t, Pool2dOptions::square(3, 2, 1)); });
  check([](const Tensor& t) { return adaptive_avg_pool2d(t, 3, 3); });
}

TEST_CASE("adaptive_avg_pool2d: the variance factor of white noise is the mean of 1/bin area", "[pool2d][theory]") {
  // Values of PAPER.md 2.7 for n = 12 and 16.
  const auto factor = [](int64_t n, int64_t s) {
    double axis = 0;
    for (int64_t i = 0; i < s; ++i) axis += 1.0 / double(adaptive_bin_end(i, n, s) - adaptive_bin_begin(i, n, s)) / double(s);
    return axis * axis;
  };
  const int64_t bins[] = {1, 2, 3, 6};
  const double twelve[] = {0.00694, 0.0278, 0.0625, 0.25}, sixteen[] = {0.0039, 0.0156, 0.0278, 0.0934};
  for (int i = 0; i < 4; ++i) {
    CHECK(factor(12, bins[i]) == Approx(twelve[i]).epsilon(2e-3));
    CHECK(factor(16, bins[i]) == Approx(sixteen[i]).epsilon(5e-3));
  }
}

TEST_CASE("pooling: bad arguments", "[pool2d]") {
  const Tensor x = Tensor::zeros({1, 4, 4, 3});
  CHECK_THROWS_AS(max_pool2d(x, Pool2dOptions::square(5, 1)), ShapeError);
  CHECK_THROWS_AS(max_pool2d(x, Pool2dOptions::square(3, 2, 2)), ShapeError);  // padding beyond half the kernel
  CHECK_THROWS_AS(avg_pool2d(x, Pool2dOptions::square(0, 1)), ShapeError);
  CHECK_THROWS_AS(avg_pool2d(x, Pool2dOptions::square(2, 0)), ShapeError);
  CHECK_THROWS_AS(avg_pool2d(x, Pool2dOptions::square(2, 2, -1)), ShapeError);
  CHECK_THROWS_AS(avg_pool2d(x, Pool2dOptions::square(int64_t{1} << 62, int64_t{1} << 62)), ShapeError);
  CHECK_THROWS_AS(max_pool2d(Tensor::zeros({4, 4, 3}), Pool2dOptions::square(2, 2)), ShapeError);
  CHECK_THROWS_AS(max_pool2d(x.to(DType::kInt32), Pool2dOptions::square(2, 2)), DTypeError);
  CHECK_THROWS_WITH(max_pool2d({}, Pool2dOptions::square(2, 2)), Catch::Contains("max_pool2d: x has no value"));
  CHECK_THROWS_WITH(avg_pool2d({}, Pool2dOptions::square(2, 2)), Catch::Contains("avg_pool2d: x has no value"));
  CHECK_THROWS_AS(adaptive_avg_pool2d(x, 0, 1), ShapeError);
  CHECK_THROWS_AS(adaptive_avg_pool2d(Tensor::zeros({1, 0, 4, 3}), 1, 1), ShapeError);
  CHECK_THROWS_AS(adaptive_avg_pool2d({}, 1, 1), UsageError);
  CHECK(max_pool2d(Tensor::zeros({0, 4, 4, 3}), Pool2dOptions::square(2, 2)).shape() == Shape{0, 2, 2, 3});
}
