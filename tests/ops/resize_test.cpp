#include "core/kernels/resize.h"

#include <cmath>
#include <limits>
#include <numeric>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "resize_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using cases::ResizeCase;

namespace {

int64_t offset_of(const Shape& shape, int64_t n, int64_t h, int64_t w, int64_t c) {
  return ((n * shape[1] + h) * shape[2] + w) * shape[3] + c;
}

// PAPER.md 2.2 in floating point: where a position reads, and the weight of the upper cell.
struct Read {
  int64_t lower, upper;
  double weight;
};

Read read_of(int64_t j, int64_t n, int64_t m, bool align_corners) {
  double s = align_corners ? (m == 1 ? 0 : double(j) * double(n - 1) / double(m - 1)) : (double(j) + 0.5) * double(n) / double(m) - 0.5;
  s = std::max(s, 0.0);
  const int64_t lower = std::min(int64_t(std::floor(s)), n - 1);
  return {lower, std::min(lower + 1, n - 1), s - double(lower)};
}

Tensor bilinear_oracle(const Tensor& x, int64_t out_h, int64_t out_w, bool align_corners) {
  Tensor y = Tensor::empty({x.size(0), out_h, out_w, x.size(3)}, DType::kFloat64);
  for (int64_t n = 0; n < y.size(0); ++n) {
    for (int64_t p = 0; p < out_h; ++p) {
      for (int64_t q = 0; q < out_w; ++q) {
        for (int64_t c = 0; c < y.size(3); ++c) {
          const Read r = read_of(p, x.size(1), out_h, align_corners), s = read_of(q, x.size(2), out_w, align_corners);
          auto at = [&](int64_t i, int64_t k) { return x.value_at(offset_of(x.shape(), n, i, k, c)); };
          y.data<double>()[offset_of(y.shape(), n, p, q, c)] =
              (1 - r.weight) * ((1 - s.weight) * at(r.lower, s.lower) + s.weight * at(r.lower, s.upper)) +
              r.weight * ((1 - s.weight) * at(r.upper, s.lower) + s.weight * at(r.upper, s.upper));
        }
      }
    }
  }
  return y;
}

Tensor nearest_oracle(const Tensor& x, int64_t out_h, int64_t out_w) {
  Tensor y = Tensor::empty({x.size(0), out_h, out_w, x.size(3)}, DType::kFloat64);
  for (int64_t i = 0; i < y.numel(); ++i) {
    const int64_t c = i % x.size(3), q = i / x.size(3) % out_w, p = i / x.size(3) / out_w % out_h, n = i / (x.size(3) * out_w * out_h);
    // p * h / out_h is a whole number or at least 1/out_h away from one: the nudge cannot change a floor that is right.
    const auto cell = [](int64_t j, int64_t in, int64_t out) { return int64_t(std::floor(double(j) * double(in) / double(out) + 1e-9)); };
    y.data<double>()[i] = x.value_at(offset_of(x.shape(), n, cell(p, x.size(1), out_h), cell(q, x.size(2), out_w), c));
  }
  return y;
}

Tensor resize(const Tensor& x, const ResizeCase& k) { return resize_bilinear(x, k.out_h, k.out_w, k.align_corners); }

double dot(const Tensor& a, const Tensor& b) {
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) sum += a.value_at(i) * b.value_at(i);
  return sum;
}

Tensor input_gradient(const Tensor& x, const std::function<Tensor(const Tensor&)>& fn, const Tensor& grad_y) {
  Tensor leaf = x.clone().set_requires_grad();
  fn(leaf).backward(grad_y);
  return leaf.grad();
}

// Mean over the outputs of the sum of squared weights: the 1-D variance factor for uncorrelated cells.
double enumerated_factor(int64_t n, int64_t m, bool align_corners) {
  double sum = 0;
  for (int64_t j = 0; j < m; ++j) {
    const BilinearSource s = bilinear_source(j, n, m, align_corners);
    const double low = 1 - s.upper_weight, high = s.upper_weight;
    sum += s.lower == s.upper ? 1.0 : low * low + high * high;
  }
  return sum / double(m);
}

}  // namespace

TEST_CASE("bilinear: the positions that read a cell, and their weights, are those of the sources", "[resize]") {
  int64_t wrong = 0;
  for (bool align_corners : {false, true}) {
    for (int64_t in = 1; in <= 20; ++in) {
      for (int64_t out = 1; out <= 45; ++out) {
        for (int64_t cell = 0; cell < in; ++cell) {
          const int64_t begin = bilinear_begin(cell, in, out, align_corners), end = bilinear_end(cell, in, out, align_corners);
          wrong += begin > out || end > out;
          for (int64_t j = 0; j < out; ++j) {
            const BilinearSource source = bilinear_source(j, in, out, align_corners);
            const bool reads = source.lower == cell || source.upper == cell;
            wrong += reads != (j >= begin && j < end);
            if (!reads) continue;
            const BilinearCoordinate s = bilinear_coordinate(j, in, out, align_corners);
            double away = double(s.numerator - cell * s.denominator) / double(s.denominator);
            if (cell == 0) away = std::max(away, 0.0);
            if (cell == in - 1) away = std::min(away, 0.0);
            const double weight = source.lower == cell ? 1 - source.upper_weight : source.upper_weight;
            wrong += std::abs(weight - (1 - std::abs(away))) > 1e-15;
          }
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("resize_bilinear: the values known from the paper's notes", "[resize]") {
  const Tensor x = Tensor::from<double>({1, 2, 3, 4}, {1, 2, 2, 1});
  const Tensor plain = Tensor::from<double>({1, 1.25, 1.75, 2, 1.5, 1.75, 2.25, 2.5, 2.5, 2.75, 3.25, 3.5, 3, 3.25, 3.75, 4}, {1, 4, 4, 1});
  check_close(resize_bilinear(x, 4, 4, false), plain, 1e-15);
  std::vector<double> thirds;
  for (int p = 0; p < 4; ++p) {
    for (int q = 0; q < 4; ++q) thirds.push_back(1 + 2 * p / 3.0 + q / 3.0);
  }
  check_close(resize_bilinear(x, 4, 4, true), Tensor::from(thirds, {1, 4, 4, 1}), 1e-15);
}

TEST_CASE("resize_bilinear: against the formula", "[resize]") {
  for (const ResizeCase& k : cases::kResize) {
    CAPTURE(k.n, k.h, k.w, k.c, k.out_h, k.out_w, k.align_corners);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 1);
    const Tensor expected = bilinear_oracle(x, k.out_h, k.out_w, k.align_corners);
    check_close(resize(x, k), expected, 1e-13);
    check_close(resize(x.to(DType::kFloat32), k), expected, 1e-6);
  }
}

TEST_CASE("resize_bilinear: gradients", "[resize]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const ResizeCase& k : cases::kResize) {
    CAPTURE(k.n, k.h, k.w, k.c, k.out_h, k.out_w, k.align_corners);
    check_gradients([&](const TensorList& in) { return resize(in[0], k); }, {random_leaf({k.n, k.h, k.w, k.c}, 2)});
  }
}

TEST_CASE("resize_bilinear: the adjoint identity <Ax, y> = <x, A'y>, in both types", "[resize]") {
  for (const ResizeCase& k : cases::kResize) {
    CAPTURE(k.n, k.h, k.w, k.c, k.out_h, k.out_w, k.align_corners);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 3), y = random_tensor({k.n, k.out_h, k.out_w, k.c}, 4);
    const auto fn = [&](const Tensor& t) { return resize(t, k); };
    const Tensor adjoint = input_gradient(x, fn, y);
    const double size = std::sqrt(dot(x, x) * dot(y, y));
    CHECK(std::abs(dot(fn(x), y) - dot(x, adjoint)) <= 1e-14 * size);
    check_close(input_gradient(x.to(DType::kFloat32), fn, y.to(DType::kFloat32)), adjoint, 1e-6);
  }
}

TEST_CASE("resize: the same bits for any number of threads", "[resize]") {
  const int before = num_threads();
  for (const ResizeCase& k : cases::kResize) {
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 5, DType::kFloat32);
    const Tensor y = random_tensor({k.n, k.out_h, k.out_w, k.c}, 6, DType::kFloat32);
    const auto nearest = [&](const Tensor& t) { return resize_nearest(t, k.out_h, k.out_w); };
    const auto bilinear = [&](const Tensor& t) { return resize(t, k); };
    std::vector<Tensor> results[2];
    for (int threads : {1, 2}) {
      set_num_threads(threads);
      results[threads - 1] = {bilinear(x), nearest(x), input_gradient(x, bilinear, y), input_gradient(x, nearest, y)};
    }
    for (size_t i = 0; i < results[0].size(); ++i) CHECK(bit_equal(results[0][i], results[1][i]));
  }
  set_num_threads(before);
}

TEST_CASE("resize_bilinear: weights sum to one and a constant stays constant", "[resize]") {
  for (int64_t n = 1; n <= 20; ++n) {
    for (int64_t m = 1; m <= 60; ++m) {
      for (bool align : {false, true}) {
        for (int64_t j = 0; j < m; ++j) {
          const BilinearSource s = bilinear_source(j, n, m, align);
          const Read expected = read_of(j, n, m, align);
          REQUIRE((s.lower >= 0 && s.lower <= s.upper && s.upper <= s.lower + 1 && s.upper < n));
          REQUIRE((s.upper_weight >= 0 && s.upper_weight < 1));
          REQUIRE((1 - s.upper_weight) + s.upper_weight == 1);
          // The formula's coordinate is only as exact as its rounding; near a cell both sides describe the same point.
          const double ours = double(s.lower) + s.upper_weight;
          REQUIRE(std::abs(ours - std::min(double(expected.lower) + expected.weight, double(n - 1))) < 1e-13 * double(n));
        }
      }
    }
  }
  const Tensor ones = resize_bilinear(Tensor::full({1, 5, 3, 18}, 3, DType::kFloat64), 17, 10, false);
  check_close(ones, Tensor::full({1, 17, 10, 18}, 3, DType::kFloat64), 1e-15);
}

TEST_CASE("resize_bilinear: to the same size it is an exact copy, infinities and NaN included", "[resize]") {
  for (bool align : {false, true}) {
    Tensor x = random_tensor({2, 5, 6, 19}, 7, DType::kFloat32);
    x.data<float>()[3] = std::numeric_limits<float>::infinity();
    x.data<float>()[500] = std::numeric_limits<float>::quiet_NaN();
    CHECK(bit_equal(resize_bilinear(x, 5, 6, align), x));
    CHECK(bit_equal(resize_nearest(x, 5, 6), x));
  }
}

TEST_CASE("resize_bilinear: a cell read with weight zero does not spread its infinity", "[resize]") {
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor x = Tensor::from<double>({1, inf, 3}, {1, 1, 3, 1});
  const Tensor y = resize_bilinear(x, 1, 5, true);
  CHECK(y.value_at(0) == 1);
  CHECK(y.value_at(1) == inf);
  CHECK(y.value_at(4) == 3);
}

TEST_CASE("resize_bilinear: exact variance factors by enumerating the weights", "[resize][theory]") {
  for (int64_t r : {2, 3, 4, 5, 8, 16}) {
    const double interior = r % 2 == 0 ? 2.0 / 3 - 1.0 / double(6 * r * r) : 2.0 / 3 + 1.0 / double(3 * r * r);
    for (int64_t n : {1, 2, 7, 16, 128}) {
      CAPTURE(r, n);
      const int64_t m = r * n;
      const double plain = (1 + double(n - 1) * interior) / double(n);
      CHECK(std::abs(enumerated_factor(n, m, false) - plain) < 1e-12);
      if (n == 1) continue;
      const int64_t q = (m - 1) / std::gcd(n - 1, m - 1);
      const double aligned = (double(m - 1) * (2.0 / 3 + 1.0 / double(3 * q * q)) + 1) / double(m);
      CHECK(std::abs(enumerated_factor(n, m, true) - aligned) < 1e-12);
    }
  }
  // Broken ratios, align_corners = false.
  for (int64_t n = 1; n <= 24; ++n) {
    for (int64_t m = 1; m <= 60; ++m) {
      const int64_t divisor = std::gcd(n, m), p = n / divisor, q = m / divisor;
      const double period = (p - q) % 2 == 0 ? 2.0 / 3 + 1.0 / double(3 * q * q) : 2.0 / 3 - 1.0 / double(6 * q * q);
      double border = 0;
      for (int64_t j = 0; (2 * j + 1) * n < m; ++j) {
        const double u = (double(j) + 0.5) * double(n) / double(m);
        border += 0.25 - u * u;
      }
      CAPTURE(n, m);
      CHECK(std::abs(enumerated_factor(n, m, false) - (double(m) * period + 4 * border) / double(m)) < 1e-12);
    }
  }
}

TEST_CASE("resize_bilinear: column sums are the ratio when it is whole, so means are kept exactly", "[resize][theory]") {
  for (int64_t r : {2, 3, 4, 8}) {
    const Tensor x = random_tensor({1, 6, 5, 3}, 8);
    const Tensor sums = input_gradient(x, [&](const Tensor& t) { return resize_bilinear(t, 6 * r, 5 * r, false); },
                                       Tensor::full({1, 6 * r, 5 * r, 3}, 1, DType::kFloat64));
    check_close(sums, Tensor::full(x.shape(), double(r * r), DType::kFloat64), 1e-14);
  }
}

TEST_CASE("resize_bilinear: white noise loses the predicted share of its variance", "[resize][theory]") {
  // The paper's experiment with fewer samples: mean 0.3989, variance v. The estimate of a ratio from K = N*C images of n x n
  // cells has a standard error of about sqrt(2/(K n^2)) times a small factor; 5 of them are allowed.
  constexpr int64_t kN = 2, kC = 32, kSide = 64;
  for (double variance : {0.01, 0.3408, 0.99}) {
    Tensor x = random_tensor({kN, kSide, kSide, kC}, 9, DType::kFloat32);
    float* values = x.data<float>();
    for (int64_t i = 0; i < x.numel(); ++i) values[i] = float(0.3989 + std::sqrt(variance) * double(values[i]));
    for (int64_t r : {2, 4}) {
      const Tensor y = resize_bilinear(x, r * kSide, r * kSide, false);
      const float* out = y.data<float>();
      double mean = 0, square = 0;
      for (int64_t i = 0; i < y.numel(); ++i) mean += out[i];
      mean /= double(y.numel());
      for (int64_t i = 0; i < y.numel(); ++i) square += (out[i] - mean) * (out[i] - mean);
      const double factor = square / double(y.numel()) / variance;
      const double interior = 2.0 / 3 - 1.0 / double(6 * r * r), g = (1 + (kSide - 1) * interior) / kSide;
      CAPTURE(variance, r, factor, g * g, mean);
      CHECK(std::abs(factor - g * g) < 5 * std::sqrt(2.0 / double(x.numel())));
      CHECK(std::abs(mean - 0.3989) < 5 * std::sqrt(variance / double(x.numel())));
    }
  }
}

TEST_CASE("resize_bilinear: with align_corners one image can gain variance", "[resize][theory]") {
  Tensor x = Tensor::empty({1, 1, 16, 1}, DType::kFloat64);
  for (int64_t k = 0; k < 16; ++k) x.data<double>()[k] = std::sin(2 * M_PI * double(k) / 15);
  const auto variance = [](const Tensor& t) {
    const double m = dot(t, Tensor::full(t.shape(), 1, DType::kFloat64)) / double(t.numel());
    return dot(t, t) / double(t.numel()) - m * m;
  };
  CHECK(variance(x) == Approx(0.46875).margin(1e-10));
  CHECK(variance(resize_bilinear(x, 1, 64, true)) == Approx(0.47804).margin(5e-6));
  CHECK(variance(resize_bilinear(x, 1, 64, false)) == Approx(0.45482).margin(5e-6));
}

TEST_CASE("resize_nearest: values, gradients, labels", "[resize]") {
  const SerialScope serial;  // thousands of tiny calls
  for (const ResizeCase& k : cases::kResize) {
    CAPTURE(k.n, k.h, k.w, k.c, k.out_h, k.out_w);
    const Tensor x = random_tensor({k.n, k.h, k.w, k.c}, 10);
    const Tensor expected = nearest_oracle(x, k.out_h, k.out_w);
    CHECK(bit_equal(resize_nearest(x, k.out_h, k.out_w), expected));
    CHECK(bit_equal(resize_nearest(x.to(DType::kFloat32), k.out_h, k.out_w), expected.to(DType::kFloat32)));
    check_gradients([&](const TensorList& in) { return resize_nearest(in[0], k.out_h, k.out_w); }, {random_leaf(x.shape(), 11)});
  }
  const Tensor labels = Tensor::from<uint8_t>({1, 2, 255, 4}, {1, 2, 2, 1});
  CHECK(resize_nearest(labels, 3, 3).to_vector<uint8_t>() == std::vector<uint8_t>{1, 1, 2, 1, 1, 2, 255, 255, 4});
}

TEST_CASE("resize_bilinear: a large result, written past the caches, has the bits of small ones", "[resize]") {
  const Tensor x = random_tensor({4, 64, 64, 64}, 12, DType::kFloat32);
  const Tensor all = resize_bilinear(x, 128, 128, false);  // 16 MiB
  for (int64_t n = 0; n < 4; ++n) {
    CHECK(bit_equal(slice(all, 0, n, n + 1), resize_bilinear(slice(x, 0, n, n + 1), 128, 128, false)));
  }
}

TEST_CASE("resize: no images is fine, no pixels or a bad size is not", "[resize]") {
  CHECK(resize_bilinear(Tensor::zeros({0, 2, 2, 3}), 4, 4, false).shape() == Shape{0, 4, 4, 3});
  Tensor none = Tensor::zeros({0, 2, 2, 3}).set_requires_grad();
  resize_bilinear(none, 4, 4, false).backward(Tensor::zeros({0, 4, 4, 3}));
  CHECK(none.grad().shape() == none.shape());
  const Tensor x = Tensor::zeros({1, 2, 2, 3});
  CHECK_THROWS_AS(resize_bilinear(x, 0, 4, false), ShapeError);
  CHECK_THROWS_AS(resize_bilinear(x, 4, -1, true), ShapeError);
  CHECK_THROWS_AS(resize_bilinear(x, kMaxResizeExtent + 1, 1, true), ShapeError);
  CHECK_THROWS_AS(resize_bilinear(Tensor::zeros({1, 0, 2, 3}), 4, 4, false), ShapeError);
  CHECK_THROWS_AS(resize_bilinear(Tensor::zeros({2, 2, 3}), 4, 4, false), ShapeError);
  CHECK_THROWS_AS(resize_bilinear(Tensor::zeros({1, 2, 2, 3}, DType::kInt32), 4, 4, false), DTypeError);
  CHECK_THROWS_AS(resize_bilinear({}, 4, 4, false), UsageError);
  CHECK_THROWS_AS(resize_nearest(x, 4, 0), ShapeError);
  CHECK_THROWS_AS(resize_nearest({}, 4, 4), UsageError);
  CHECK_THROWS_WITH(resize_nearest(x, 4, 0), Catch::Contains("4 x 0") && Catch::Contains("[1, 2, 2, 3]"));
}
