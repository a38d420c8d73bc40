#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "ops/conv2d_cases.h"
#include "support.h"

using namespace eq;
using namespace eq::cases;
using namespace eq::test;

namespace {

struct Arguments {
  Tensor x, weight, bias, grad_y;
};

Arguments make_arguments(const Conv2dCase& c, DType dtype = DType::kFloat64) {
  return {random_tensor(c.x_shape(), 1, dtype), random_tensor(c.weight_shape(), 2, dtype),
          c.bias ? random_tensor({c.out}, 3, dtype) : Tensor(), random_tensor(c.y_shape(), 4, dtype)};
}

struct Results {
  Tensor y, grad_x, grad_weight, grad_bias;
};

// The card's formula, term by term; the gradients scatter each term of the sum.
Results oracle(const Conv2dCase& c, const Arguments& a) {
  const Conv2dOptions& o = c.options;
  Results result = {Tensor::zeros(c.y_shape(), DType::kFloat64), Tensor::zeros(c.x_shape(), DType::kFloat64),
                    Tensor::zeros(c.weight_shape(), DType::kFloat64), Tensor::zeros({c.out}, DType::kFloat64)};
  const double *x = a.x.data<double>(), *weight = a.weight.data<double>(), *grad_y = a.grad_y.data<double>();
  double *y = result.y.data<double>(), *grad_x = result.grad_x.data<double>(),
         *grad_w = result.grad_weight.data<double>();
  const int64_t P = c.y_shape()[1], Q = c.y_shape()[2], C = c.in / o.groups;
  for (int64_t n = 0; n < c.n; ++n)
    for (int64_t p = 0; p < P; ++p)
      for (int64_t q = 0; q < Q; ++q)
        for (int64_t k = 0; k < c.out; ++k) {
          const int64_t at = ((n * P + p) * Q + q) * c.out + k;
          if (c.bias) y[at] += a.bias.data<double>()[k];
          result.grad_bias.data<double>()[k] += grad_y[at];
          for (int64_t r = 0; r < c.kh; ++r)
            for (int64_t s = 0; s < c.kw; ++s)
              for (int64_t i = 0; i < C; ++i) {
                const int64_t h = p * o.stride_h + r * o.dilation_h - o.pad_top;
                const int64_t w = q * o.stride_w + s * o.dilation_w - o.pad_left;
                if (h < 0 || h >= c.h || w < 0 || w >= c.w) continue;
                const int64_t from = ((n * c.h + h) * c.w + w) * c.in + k / (c.out / o.groups) * C + i;
                const int64_t tap = ((k * c.kh + r) * c.kw + s) * C + i;
                y[at] += x[from] * weight[tap];
                grad_x[from] += grad_y[at] * weight[tap];
                grad_w[tap] += grad_y[at] * x[from];
              }
        }
  return result;
}

// Results start as NaN: a kernel must write every element and read none.
Results run(const Conv2dCase& c, const Arguments& a) {
  const DType dtype = a.x.dtype();
  Results result = {Tensor::full(c.y_shape(), NAN, dtype), Tensor::full(c.x_shape(), NAN, dtype),
                    Tensor::full(c.weight_shape(), NAN, dtype), Tensor::full({c.out}, NAN, dtype)};
  cpu::conv2d_forward(a.x, a.weight, a.bias, result.y, c.options);
  cpu::conv2d_backward_input(a.grad_y, a.weight, result.grad_x, c.options);
  cpu::conv2d_backward_weight(a.grad_y, a.x, result.grad_weight, c.options);
  cpu::conv2d_backward_bias(a.grad_y, result.grad_bias);
  return result;
}

void check_results(const Results& actual, const Results& expected, double tolerance) {
  check_close(actual.y, expected.y, tolerance);
  check_close(actual.grad_x, expected.grad_x, tolerance);
  check_close(actual.grad_weight, expected.grad_weight, tolerance);
  check_close(actual.grad_bias, expected.grad_bias, tolerance);
}

Tensor apply(const Conv2dCase& c, const std::vector<Tensor>& in) {
  return conv2d(in[0], in[1], in.size() > 2 ? in[2] : Tensor(), c.options);
}

// Larger shapes, where work is cut into several strips, channel blocks and partial sums; checked in a few milliseconds
// each.
const Conv2dCase kMedium[] = {
    {"several strips", 2, 40, 37, 24, 40, 3, 3, conv2d_options(1, 1), true},
    {"several input blocks", 1, 9, 8, 300, 40, 3, 3, conv2d_options(1, 1), true},
    {"several input blocks, 1x1", 3, 9, 8, 600, 45, 1, 1, conv2d_options(1, 0), true},
    {"several output blocks of 2 groups", 1, 4, 5, 8, 600, 3, 3, conv2d_options(1, 1, 1, 2)},
    {"deep", 3, 4, 4, 130, 140, 3, 3, conv2d_options(1, 1)},
    {"deep stride 2", 2, 8, 8, 96, 200, 3, 3, conv2d_options(2, 1)},
    {"wide rows", 1, 3, 530, 5, 6, 3, 3, conv2d_options(1, 1), true},
    {"wide rows, stride 2", 1, 3, 531, 3, 16, 7, 7, conv2d_options(2, 3)},
    {"7x7 stem to whole blocks", 2, 15, 14, 3, 32, 7, 7, conv2d_options(2, 3)},
    {"strips that few taps of a large dilation read", 1, 32, 30, 160, 12, 3, 3, conv2d_options(1, 13, 13), true},
    {"long 1x1", 5, 31, 33, 18, 11, 1, 1, conv2d_options(1, 0), true},
    {"1x1 stride 2 to many blocks, copied", 3, 9, 12, 20, 400, 1, 1, conv2d_options(2, 0), true},
    {"patches to many blocks, copied", 2, 8, 10, 6, 400, 2, 2, conv2d_options(2, 0), true},
    {"1x1 40 to 60, packed for weight gradients", 2, 9, 17, 40, 60, 1, 1, conv2d_options(1, 0)},
    {"1x1 32 to 31, read in place for weight gradients", 2, 9, 17, 32, 31, 1, 1, conv2d_options(1, 0)},
    {"depthwise strips", 2, 40, 70, 20, 20, 3, 3, conv2d_options(1, 1, 1, 20), true},
};

}  // namespace

TEST_CASE("conv2d agrees with the formula, in both types", "[conv2d]") {
  auto check = [](const Conv2dCase& c) {
    INFO(c.name);
    const Arguments a = make_arguments(c);
    const Results expected = oracle(c, a);
    check_results(run(c, a), expected, 1e-12);
    const Arguments narrow = {a.x.to(DType::kFloat32), a.weight.to(DType::kFloat32),
                              c.bias ? a.bias.to(DType::kFloat32) : Tensor(), a.grad_y.to(DType::kFloat32)};
    check_results(run(c, narrow), expected, 2e-5);
  };
  for (const Conv2dCase& c : kConv2dSmall) check(c);
  for (const Conv2dCase& c : kMedium) check(c);
}

TEST_CASE("conv2d's recorded gradients are those of its value", "[conv2d]") {
  for (const Conv2dCase& c : kConv2dSmall) {
    if (c.flops() > 6e4) continue;  // hundreds of evaluations each: the small half has all options too
    INFO(c.name);
    std::vector<Tensor> inputs = {random_leaf(c.x_shape(), 5), random_leaf(c.weight_shape(), 6)};
    if (c.bias) inputs.push_back(random_leaf({c.out}, 7));
    check_gradients([&](const std::vector<Tensor>& in) { return apply(c, in); }, inputs);
  }
}

TEST_CASE("conv2d gives the same bits on one thread and on two", "[conv2d]") {
  const int before = num_threads();
  auto check = [](const Conv2dCase& c) {
    INFO(c.name);
    const Arguments a = make_arguments(c, DType::kFloat32);
    set_num_threads(1);
    const Results one = run(c, a);
    set_num_threads(2);
    const Results two = run(c, a);
    CHECK(bit_equal(one.y, two.y));
    CHECK(bit_equal(one.grad_x, two.grad_x));
    CHECK(bit_equal(one.grad_weight, two.grad_weight));
    CHECK(bit_equal(one.grad_bias, two.grad_bias));
  };
  for (const Conv2dCase& c : kConv2dSmall) check(c);
  for (const Conv2dCase& c : kMedium) check(c);
  set_num_threads(before);
}

TEST_CASE("conv2d computes only the gradients that are asked for", "[conv2d]") {
  const Conv2dCase c = {"", 1, 4, 4, 2, 3, 3, 3, conv2d_options(1, 1), true};
  for (int wanted = 1; wanted < 8; ++wanted) {
    Tensor x = random_tensor(c.x_shape(), 1), weight = random_tensor(c.weight_shape(), 2),
           bias = random_tensor({c.out}, 3);
    if (wanted & 1) x.set_requires_grad();
    if (wanted & 2) weight.set_requires_grad();
    if (wanted & 4) bias.set_requires_grad();
    conv2d(x, weight, bias, c.options).backward(Tensor::full(c.y_shape(), 1, DType::kFloat64));
    CHECK(x.grad().defined() == bool(wanted & 1));
    CHECK(weight.grad().defined() == bool(wanted & 2));
    CHECK(bias.grad().defined() == bool(wanted & 4));
  }
  Tensor x = random_tensor(c.x_shape(), 1), weight = random_leaf(c.weight_shape(), 2);
  NoGradGuard off;
  CHECK_FALSE(conv2d(x, weight, {}, c.options).requires_grad());
}

TEST_CASE("conv2d of an empty batch is empty and teaches nothing", "[conv2d]") {
  for (int64_t groups : {1, 4}) {
    const Conv2dCase c = {"", 0, 5, 5, 4, 4, 3, 3, conv2d_options(1, 1, 1, groups), true};
    Arguments a = make_arguments(c);
    const Results result = run(c, a);
    CHECK(result.y.numel() == 0);
    check_close(result.grad_weight, Tensor::zeros(c.weight_shape(), DType::kFloat64), 0);
    check_close(result.grad_bias, Tensor::zeros({c.out}, DType::kFloat64), 0);
  }
}

TEST_CASE("conv2d names what is wrong with its arguments", "[conv2d]") {
  const Tensor x = random_tensor({1, 5, 5, 4}, 1), weight = random_tensor({6, 3, 3, 4}, 2),
               bias = random_tensor({6}, 3);
  const Conv2dOptions same = conv2d_options(1, 1);
  using Catch::Contains;
  CHECK_THROWS_AS(conv2d(x.alias({5, 5, 4}), weight, {}, same), ShapeError);
  CHECK_THROWS_AS(conv2d(x, weight.alias({6, 9, 4}), {}, same), ShapeError);
  CHECK_THROWS_AS(conv2d(x, Tensor::zeros({6, 0, 3, 4}, DType::kFloat64), {}, same), ShapeError);
  CHECK_THROWS_AS(conv2d(x, weight.to(DType::kFloat32), {}, same), DTypeError);
  CHECK_THROWS_AS(conv2d(Tensor::zeros({1, 5, 5, 4}, DType::kInt32), weight, {}, same), DTypeError);
  CHECK_THROWS_WITH(conv2d({}, weight, {}, same), Contains("conv2d: x has no value"));
  CHECK_THROWS_WITH(conv2d(x, {}, {}, same), Contains("conv2d: weight has no value"));
  CHECK_THROWS_WITH(conv2d(x, random_tensor({6, 3, 3, 5}, 2), {}, same),
                    Contains("[6, 3, 3, 5]") && Contains("[1, 5, 5, 4]"));
  CHECK_THROWS_WITH(conv2d(x, weight, bias.alias({5}), same), Contains("bias") && Contains("[6]"));
  CHECK_THROWS_WITH(conv2d(x, weight, {}, conv2d_options(1, 1, 1, 3)), Contains("groups"));
  CHECK_THROWS_WITH(conv2d(x, weight, {}, conv2d_options(1, 0, 3)), Contains("does not fit"));
  CHECK_THROWS_AS(conv2d(x, weight, {}, conv2d_options(0, 1)), UsageError);
  CHECK_THROWS_WITH(conv2d(x, weight, {}, conv2d_options(-2, 1)), Contains("conv2d: stride") && Contains("[-2, -2]"));
  CHECK_THROWS_WITH(conv2d(x, weight, {}, conv2d_options(1, 1, -3)), Contains("conv2d: stride") && Contains("[-3, -3]"));
  CHECK_THROWS_AS(conv2d(x, weight, {}, conv2d_options(1, -1)), UsageError);
  CHECK_THROWS_AS(conv2d(x, weight, {}, conv2d_options(1, int64_t{1} << 62)), UsageError);
  CHECK_THROWS_AS(conv2d(x, weight, {}, conv2d_options(1, 1, int64_t{1} << 62)), UsageError);
}
