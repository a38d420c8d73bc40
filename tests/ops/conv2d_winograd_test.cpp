// Winograd's algorithm beside the direct one, whatever choose_algorithm would take.

#include "core/kernels/conv2d_winograd.h"

#include <cmath>

#include "core/parallel.h"
#include "ops/conv2d_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::cases;
using namespace eq::test;
using namespace eq::cpu::conv;

namespace {

// Beside those of conv2d_cases.h: what the cut into tiles, chunks, blocks and shares makes different.
const Conv2dCase kMore[] = {
    {"whole tiles", 2, 8, 12, 16, 32, 3, 3, conv2d_options(1, 1), true},
    {"few tiles, many filters", 2, 7, 6, 75, 100, 3, 3, conv2d_options(1, 1), true},
    {"many tiles", 2, 41, 37, 24, 40, 3, 3, conv2d_options(1, 1), true},
    {"many tiles, several chunks of input channels", 1, 30, 45, 330, 83, 3, 3, conv2d_options(1, 1)},
    {"many tiles, dilation 3", 2, 29, 26, 20, 33, 3, 3, conv2d_options(1, 3, 3), true},
    {"padding wider than the filter reaches back", 2, 9, 8, 17, 16, 3, 3, uneven_options({1, 1}, {4, 0, 3, 5}, {1, 1}, 1)},
    {"uneven dilation", 1, 12, 9, 16, 5, 3, 3, uneven_options({1, 1}, {1, 2, 0, 1}, {2, 1}, 1), true},
    {"one output", 1, 3, 3, 5, 6, 3, 3, conv2d_options(1, 0), true},
    {"no image", 0, 6, 6, 4, 4, 3, 3, conv2d_options(1, 1), true},
};

template <class Fn>
void for_all_cases(const Fn& fn) {
  for (const Conv2dCase& c : kConv2dSmall) {
    if (c.kh == 3 && c.kw == 3 && c.options.stride_h == 1 && c.options.stride_w == 1 && c.options.groups == 1) fn(c);
  }
  for (const Conv2dCase& c : kMore) fn(c);
}

struct Arguments {
  Tensor x, weight, bias, grad_y;
  Arguments(const Conv2dCase& c, DType dtype)
      : x(random_tensor(c.x_shape(), 1, dtype)), weight(random_tensor(c.weight_shape(), 2, dtype)),
        bias(c.bias ? random_tensor({c.out}, 3, dtype) : Tensor()), grad_y(random_tensor(c.y_shape(), 4, dtype)) {}
};

// Results start as NaN: a kernel must write every element and read none.
struct Results {
  Tensor y, grad_x, grad_weight;
  Results(const Conv2dCase& c, DType dtype)
      : y(Tensor::full(c.y_shape(), NAN, dtype)), grad_x(Tensor::full(c.x_shape(), NAN, dtype)),
        grad_weight(Tensor::full(c.weight_shape(), NAN, dtype)) {}
};

template <class T>
Results direct(const Conv2dCase& c, const Arguments& a) {
  Results r(c, a.x.dtype());
  direct_forward<T>(a.x, a.weight, a.bias, {}, nullptr, r.y, c.options);
  direct_backward_input<T>(a.grad_y, a.weight, r.grad_x, c.options);
  direct_backward_weight<T>(a.grad_y, a.x, r.grad_weight, c.options);
  return r;
}

template <class T, int kM>
Results winograd(const Conv2dCase& c, const Arguments& a) {
  Results r(c, a.x.dtype());
  winograd_forward<T, kM>(a.x, a.weight, a.bias, {}, nullptr, r.y, c.options);
  winograd_backward_input<T, kM>(a.grad_y, a.weight, r.grad_x, c.options);
  winograd_backward_weight<T, kM>(a.grad_y, a.x, r.grad_weight, c.options);
  return r;
}

void check_results(const Results& actual, const Results& expected, double tolerance) {
  check_close(actual.y, expected.y, tolerance);
  check_close(actual.grad_x, expected.grad_x, tolerance);
  check_close(actual.grad_weight, expected.grad_weight, tolerance);
}

// Root mean square of the error over that of the values.
double relative_error(const Tensor& actual, const Tensor& exact) {
  double error = 0, size = 0;
  for (int64_t i = 0; i < exact.numel(); ++i) {
    const double value = exact.data<double>()[i], off = double(actual.data<float>()[i]) - value;
    error += off * off;
    size += value * value;
  }
  return std::sqrt(error / size);
}

}  // namespace

TEST_CASE("Winograd's convolutions agree with the direct one in all three directions", "[conv2d][winograd]") {
  for_all_cases([](const Conv2dCase& c) {
    INFO(c.name);
    const Arguments exact(c, DType::kFloat64), narrow(c, DType::kFloat32);
    const Results expected = direct<double>(c, exact);
    check_results(winograd<double, 2>(c, exact), expected, 1e-11);
    check_results(winograd<double, 4>(c, exact), expected, 1e-11);
    check_results(winograd<float, 2>(c, narrow), expected, 2e-5);
    check_results(winograd<float, 4>(c, narrow), expected, 8e-5);
  });
}

TEST_CASE("Winograd's convolutions give the same bits on one thread and on two", "[conv2d][winograd]") {
  const int before = num_threads();
  for_all_cases([](const Conv2dCase& c) {
    INFO(c.name);
    const Arguments a(c, DType::kFloat32);
    auto both = [&](auto run) {
      set_num_threads(1);
      const Results one = run();
      set_num_threads(2);
      const Results two = run();
      CHECK(bit_equal(one.y, two.y));
      CHECK(bit_equal(one.grad_x, two.grad_x));
      CHECK(bit_equal(one.grad_weight, two.grad_weight));
    };
    both([&] { return winograd<float, 2>(c, a); });
    both([&] { return winograd<float, 4>(c, a); });
  });
  set_num_threads(before);
}

// With the points +-1, +-2 F(4x4) would be five times less accurate than the direct sum.
TEST_CASE("F(2x2) is as accurate as the direct convolution, F(4x4) at most three times less", "[conv2d][winograd]") {
  const Conv2dCase c = {"", 2, 16, 16, 128, 64, 3, 3, conv2d_options(1, 1)};
  const Arguments a(c, DType::kFloat32);
  Arguments exact = a;
  for (Tensor* t : {&exact.x, &exact.weight, &exact.grad_y}) *t = t->to(DType::kFloat64);
  const Results expected = direct<double>(c, exact), plain = direct<float>(c, a), two = winograd<float, 2>(c, a),
                four = winograd<float, 4>(c, a);
  for (auto member : {&Results::y, &Results::grad_x, &Results::grad_weight}) {
    const double base = relative_error(plain.*member, expected.*member);
    CHECK(relative_error(two.*member, expected.*member) < 1.1 * base);
    CHECK(relative_error(four.*member, expected.*member) < 3 * base);
  }
}

TEST_CASE("Winograd is taken for wide 3x3 filters in float32, unless it is forbidden", "[conv2d][winograd]") {
  const Conv2dCase c = {"", 1, 16, 16, 64, 64, 3, 3, conv2d_options(1, 1)};
  auto forward = [&](const Arguments& a) {
    Results r(c, a.x.dtype());
    cpu::conv2d_forward(a.x, a.weight, a.bias, r.y, c.options);
    return r.y;
  };
  const Arguments a(c, DType::kFloat32), exact(c, DType::kFloat64);
  CHECK(bit_equal(forward(a), winograd<float, 4>(c, a).y));
  CHECK(bit_equal(forward(exact), direct<double>(c, exact).y));
  cpu::allow_winograd(false);
  CHECK(bit_equal(forward(a), direct<float>(c, a).y));
  cpu::allow_winograd(true);
}
