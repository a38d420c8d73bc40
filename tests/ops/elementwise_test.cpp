#include "elementwise_cases.h"

#include <bit>
#include <limits>

#include "autograd/node.h"
#include "core/kernels/elementwise.h"
#include "core/parallel.h"
#include "core/random.h"
#include "support.h"

using namespace eq;
using namespace eq::test;
using cases::uniform_tensor;

namespace {

// Element of `t` that a broadcast to `shape` puts at `index` (row-major), found by plain coordinates.
double broadcast_value(const Tensor& t, const Shape& shape, int64_t index) {
  int64_t offset = 0, step = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    const int64_t coordinate = index % shape[axis];
    index /= shape[axis];
    const int own = axis - (shape.rank() - t.rank());
    if (own < 0) continue;
    if (t.shape()[own] != 1) offset += coordinate * step;
    step *= t.shape()[own];
  }
  return t.value_at(offset);
}

// Value and gradient of `fn` with 1 and with 2 threads.
template <class Fn>
void check_thread_independence(Fn&& fn, const std::vector<Tensor>& inputs) {
  std::vector<std::vector<Tensor>> results;
  for (const int threads : {1, 2}) {
    set_num_threads(threads);
    std::vector<Tensor> leaves;
    for (const Tensor& input : inputs) leaves.push_back(input.clone().set_requires_grad());
    const Tensor y = fn(leaves);
    y.backward(random_tensor(y.shape(), 99, y.dtype()));
    results.emplace_back(1, y.detach());
    for (const Tensor& leaf : leaves) results.back().push_back(leaf.grad());
  }
  for (size_t i = 0; i < results[0].size(); ++i) CHECK(bit_equal(results[0][i], results[1][i]));
}

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("unary operators: value, gradient, float32, threads", "[elementwise]") {
  for (const cases::UnaryCase& c : cases::kUnaryCases) {
    DYNAMIC_SECTION(c.name) {
      const Tensor x = uniform_tensor({3, 5, 7}, c.low, c.high, 1);
      Tensor expected = Tensor::empty_like(x);
      for (int64_t i = 0; i < x.numel(); ++i) expected.data<double>()[i] = c.oracle(x.value_at(i));
      check_close(c.op(x), expected, 1e-14);

      Tensor leaf = x.clone().set_requires_grad();
      check_gradients([&](const auto& in) { return c.op(in[0]); }, {leaf});

      Tensor x32 = x.to(DType::kFloat32).set_requires_grad(),
             x64 = x.to(DType::kFloat32).to(DType::kFloat64).set_requires_grad();
      const Tensor y32 = c.op(x32), y64 = c.op(x64);
      check_close(y32, y64, 5e-7);
      y32.backward(Tensor::full(x.shape(), 1));
      y64.backward(Tensor::full(x.shape(), 1, DType::kFloat64));
      check_close(x32.grad(), x64.grad(), 1e-6);

      check_thread_independence([&](const auto& in) { return c.op(in[0]); },
                                {uniform_tensor({50001}, c.low, c.high, 2).to(DType::kFloat32)});
      CHECK(c.op(Tensor::empty({0, 4})).shape() == Shape{0, 4});
      if (std::string(c.name) != "pow 0") CHECK(std::isnan(c.op(Tensor::scalar(kNaN)).item()));
    }
  }
}

TEST_CASE("every row of the unary tables has a test case", "[elementwise]") {
  std::string names;
  for (const cases::UnaryCase& c : cases::kUnaryCases) names += std::string(c.name) + ";";
#define EQ_HAS_CASE(name, ...) CHECK(names.find(#name) != std::string::npos);
  EQ_UNARY_OPERATORS(EQ_HAS_CASE)
  EQ_UNARY_OPERATORS_1(EQ_HAS_CASE)
  EQ_UNARY_OPERATORS_2(EQ_HAS_CASE)
#undef EQ_HAS_CASE
  CHECK(std::size(cases::kBinaryCases) == size_t(BinaryOp::minimum) + 1);
}

TEST_CASE("unary operators keep their accuracy far out", "[elementwise]") {
  const std::vector<float> points = {-200.f, -100.f, -88.5f, -40.f, -20.f, -9.f, -5.5f, -1e-3f, -1e-6f, 0.f,
                                     1e-6f,  1e-3f,  5.5f,   9.f,   20.f,  40.f, 88.5f, 100.f,  200.f};
  for (const cases::UnaryCase& c : cases::kUnaryCases) {
    const std::string name = c.name;
    if (name != "exp" && name != "tanh" && name != "sigmoid" && name != "softplus" && name != "gelu" && name != "silu") {
      continue;
    }
    const Tensor y = c.op(Tensor::from(points, {int64_t(points.size())}));
    const Tensor y64 = c.op(Tensor::from(points, {int64_t(points.size())}).to(DType::kFloat64));
    for (int64_t i = 0; i < y.numel(); ++i) {
      INFO(c.name << "(" << points[i] << ") = " << y.value_at(i) << ", in float64 " << y64.value_at(i));
      const double expected = double(float(y64.value_at(i)));
      if (std::isinf(expected)) CHECK(y.value_at(i) == expected);
      else CHECK(std::abs(y.value_at(i) - expected) <= 1e-5 * std::abs(expected) + 1e-36);
    }
  }
}

TEST_CASE("the logarithm of float32 is accurate from the least to the largest number, and at its ends", "[elementwise]") {
  std::vector<float> arguments{1.f, std::nextafter(1.f, 0.f), std::nextafter(1.f, 2.f), 0x1p-149f, 0x1.8p-130f, 0x1p-126f, 0x1.fffffep127f};
  Random random(4);
  for (int i = 0; i < 20000; ++i) arguments.push_back(std::bit_cast<float>(int32_t(random.uniform_int(1, 0x7f800000))));
  for (int i = 0; i < 5000; ++i) arguments.push_back(float(random.uniform(0.7, 1.42)));
  const Tensor x = Tensor::from<float>(arguments, {int64_t(arguments.size())}), y = log(x);
  double worst = 0;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const double exact = std::log(double(arguments[i]));
    worst = std::max(worst, std::abs(double(y.data<float>()[i]) - exact) / std::max(std::abs(exact), 1e-30));
  }
  CHECK(worst < 1e-7);
  const double infinity = std::numeric_limits<double>::infinity();
  const Tensor ends = log(Tensor::from<double>({0, -0.0, -1, infinity, -infinity, kNaN}, {6}).to(DType::kFloat32));
  CHECK(ends.value_at(0) == -infinity);
  CHECK(ends.value_at(1) == -infinity);
  CHECK(std::isnan(ends.value_at(2)));
  CHECK(ends.value_at(3) == infinity);
  CHECK(std::isnan(ends.value_at(4)));
  CHECK(std::isnan(ends.value_at(5)));
}

TEST_CASE("sine and cosine of float32 are within 2 units in the last place for every size of angle", "[elementwise]") {
  std::vector<float> angles;
  Random random(5);
  for (int i = 0; i < 40000; ++i) angles.push_back(std::bit_cast<float>(int32_t(random.uniform_int(0x00800000, 0x7f800000))));
  for (int i = 0; i < 40000; ++i) angles.push_back(float(random.uniform(-1e5, 1e5)));
  // Nearest to multiples of pi / 2, where almost all digits of the angle cancel; and on both sides of what counts as moderate.
  for (int i = 0; i < 20000; ++i) angles.push_back(float(double(i < 1000 ? i : random.uniform_int(1000, 70000)) * 1.5707963267948966));
  for (const float angle : {16367173.f * 0x1p72f, 1e5f, std::nextafter(1e5f, 2e5f), 0x1.fffffep127f, 0x1p-126f}) {
    angles.insert(angles.end(), {angle, -angle});
  }
  const Tensor x = Tensor::from<float>(angles, {int64_t(angles.size())}), sines = sin(x), cosines = cos(x);
  auto units = [](float value, double exact) {  // of the exact value's last place
    int exponent;
    std::frexp(exact, &exponent);
    return std::abs(double(value) - exact) / std::ldexp(1.0, std::max(exponent, -125) - 24);
  };
  double worst = 0;
  for (size_t i = 0; i < angles.size(); ++i) {
    worst = std::max(
        {worst, units(sines.data<float>()[i], std::sin(double(angles[i]))), units(cosines.data<float>()[i], std::cos(double(angles[i])))});
  }
  CHECK(worst < 2);
}

TEST_CASE("sine and cosine of float32 at zeros, infinities and NaN, alone and among moderate angles", "[elementwise]") {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float other : {1.f, 1e30f}) {
    const Tensor x = Tensor::from<float>({0.f, -0.f, infinity, -infinity, float(kNaN), other}, {6}), s = sin(x), c = cos(x);
    CHECK((s.value_at(0) == 0 && !std::signbit(s.value_at(0))));
    CHECK((s.value_at(1) == 0 && std::signbit(s.value_at(1))));
    CHECK((c.value_at(0) == 1 && c.value_at(1) == 1));
    for (int64_t i : {2, 3, 4}) CHECK((std::isnan(s.value_at(i)) && std::isnan(c.value_at(i))));
    CHECK(s.value_at(5) == Approx(std::sin(double(other))));
    CHECK(c.value_at(5) == Approx(std::cos(double(other))));
  }
}

TEST_CASE("float32 functions that are odd keep the sign of zero", "[elementwise]") {
  for (Tensor (*op)(const Tensor&) : {&eq::sin, &eq::tanh}) CHECK(std::signbit(op(Tensor::from<float>({-0.f}, {1})).item()));
}

TEST_CASE("powers that are products are what std::pow gives, gradients too", "[elementwise]") {
  for (const double p : {-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0}) {
    CAPTURE(p);
    const Tensor many = uniform_tensor({1001}, 0.1, 3, 12).to(DType::kFloat32);
    Tensor exact = Tensor::empty_like(many);
    for (int64_t i = 0; i < many.numel(); ++i) exact.data<float>()[i] = float(std::pow(many.value_at(i), p));
    check_close(pow(many, p), exact, 3e-7);
    for (const double at : {-1.7, -0.0, 0.0, 0.3, 2.5}) {
      CAPTURE(at);
      const Tensor x = Tensor::full({1}, at, DType::kFloat64).set_requires_grad();
      const Tensor y = pow(x, p);
      y.backward();
      const double value = std::pow(at, p), slope = p == 0 ? 0 : p * std::pow(at, p - 1);
      CHECK((std::isnan(value) ? std::isnan(y.item()) : y.item() == Approx(value).epsilon(1e-15)));
      CHECK((std::isnan(slope) ? std::isnan(x.grad().item()) : x.grad().item() == Approx(slope).epsilon(1e-15)));
    }
  }
}

TEST_CASE("any power of float32 is accurate, and what std::pow gives at its ends", "[elementwise]") {
  Random random(7);
  std::vector<float> arguments;
  for (int i = 0; i < 5000; ++i) arguments.push_back(float(std::exp(random.uniform(-40, 40))));
  for (int i = 0; i < 2000; ++i) arguments.push_back(float(random.uniform(0.9, 1.1)));
  for (int i = 0; i < 2000; ++i) arguments.push_back(float(random.uniform(-3, 0)));
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float end : {0.f, 1.f, infinity, 0x1p-126f, 0x1.fffffep127f}) arguments.insert(arguments.end(), {end, -end});
  arguments.push_back(float(kNaN));
  const Tensor x = Tensor::from<float>(arguments, {int64_t(arguments.size())});
  for (const double p : {-7.0, -2.5, -1.5, -1.0 / 3, 0.1, 1.0 / 3, 2.2, 2.5, 5.0, 6.0, 17.25, -30.0, 101.0}) {
    CAPTURE(p);
    const float exponent = float(p);
    Tensor leaf = x.clone().set_requires_grad();
    const Tensor y = pow(leaf, p);
    y.backward(Tensor::full(x.shape(), 1));
    int64_t wrong = 0;
    for (size_t i = 0; i < arguments.size(); ++i) {
      auto agrees = [](double value, double exact) {
        if (std::isnan(exact)) return std::isnan(value);
        if (std::abs(exact) > 3.4e38) return value == std::copysign(double(std::numeric_limits<float>::infinity()), exact);
        if (std::abs(exact) < 1.2e-38) return std::abs(value) < 1.2e-38;
        return std::abs(value - exact) <= 1.3e-7 * std::abs(exact);
      };
      const double slope = double(exponent) * std::pow(double(arguments[i]), double(exponent - 1));
      wrong += !agrees(y.data<float>()[i], std::pow(double(arguments[i]), double(exponent)));
      wrong += std::abs(slope) < 1e38 && std::abs(slope) > 2e-38 * std::abs(p) &&
               !(std::abs(leaf.grad().data<float>()[i] - slope) <= 2e-7 * std::abs(slope));
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("dividing by a number rounds once", "[elementwise]") {
  std::vector<float> numbers;
  for (int i = 0; i < 1000; ++i) numbers.push_back(float(i));
  const Tensor x = Tensor::from(numbers, {1000});
  int64_t wrong = 0;
  for (const double divisor : {3.0, 10.0, 49.0, 1e-3}) {
    const Tensor y = x / divisor;
    for (int64_t i = 0; i < 1000; ++i) wrong += float(y.value_at(i)) != numbers[size_t(i)] / float(divisor);
  }
  CHECK(wrong == 0);
}

TEST_CASE("gradients at kinks are the documented ones", "[elementwise]") {
  auto slope_at = [](Tensor (*op)(const Tensor&), double at) {
    Tensor x = Tensor::scalar(at, DType::kFloat64).set_requires_grad();
    op(x).backward();
    return x.grad().item();
  };
  CHECK(slope_at(eq::abs, 0) == 0);
  CHECK(slope_at(eq::relu, 0) == 0);
  CHECK(slope_at(eq::relu6, 0) == 0);
  CHECK(slope_at(eq::relu6, 6) == 0);
  CHECK(slope_at([](const Tensor& x) { return clamp(x, 0, 1); }, 1) == 1);
  CHECK(slope_at([](const Tensor& x) { return pow(x, 1); }, 0) == 1);
  CHECK(slope_at([](const Tensor& x) { return pow(x, 0); }, 0) == 0);
}

TEST_CASE("binary operators broadcast", "[elementwise]") {
  for (const cases::BinaryCase& c : cases::kBinaryCases) {
    for (const cases::BroadcastCase& shapes : cases::kBroadcastCases) {
      DYNAMIC_SECTION(c.name << " " << to_string(shapes.a) << " " << to_string(shapes.b)) {
        // Away from 0 for div; distinct ranges of fractions keep maximum and minimum off their ties.
        Tensor a = uniform_tensor(shapes.a, 0.5, 2, 3).set_requires_grad(),
               b = uniform_tensor(shapes.b, 0.5, 2, 4).set_requires_grad();
        const Tensor y = c.op(a, b);
        REQUIRE(y.shape() == shapes.result);
        Tensor expected = Tensor::empty(shapes.result, DType::kFloat64);
        for (int64_t i = 0; i < expected.numel(); ++i) {
          expected.data<double>()[i] =
              c.oracle(broadcast_value(a, shapes.result, i), broadcast_value(b, shapes.result, i));
        }
        check_close(y, expected, 1e-15);
        check_close(c.op(a.to(DType::kFloat32), b.to(DType::kFloat32)), expected, 1e-6);
        if (expected.numel() > 0) {
          check_gradients([&](const auto& in) { return c.op(in[0], in[1]); }, {a, b});
        } else {
          y.backward(expected);
          CHECK(a.grad().shape() == a.shape());
          check_close(b.grad(), Tensor::zeros(b.shape(), DType::kFloat64), 0);
        }
      }
    }
  }
}

TEST_CASE("no run covers no element, be an extent 0 or not", "[elementwise]") {
  for (const Shape& shape : {Shape{0}, Shape{3, 0}, Shape{2, 3}}) {
    const Shape other = {shape[shape.rank() - 1]};
    const BroadcastPlan plan = plan_broadcast(shape, other, shape);
    const volatile int64_t nowhere = 0;  // known to the compiler, a remainder of 0 by 0 would be left out
    int runs = 0;
    for_each_run(plan, nowhere, nowhere, [&](int64_t, int64_t, int64_t, int64_t) { ++runs; });
    CHECK(runs == 0);
  }
}

TEST_CASE("binary operators: threads, one argument twice, one without gradient", "[elementwise]") {
  for (const cases::BinaryCase& c : cases::kBinaryCases) {
    auto fn = [&](const auto& in) { return c.op(in[0], in[1]); };
    const Tensor large = uniform_tensor({40, 30, 37}, 0.5, 2, 5).to(DType::kFloat32);
    check_thread_independence(fn, {large, uniform_tensor({40, 30, 37}, 0.5, 2, 6).to(DType::kFloat32)});
    check_thread_independence(fn, {large, uniform_tensor({37}, 0.5, 2, 7).to(DType::kFloat32)});
    check_thread_independence(fn, {uniform_tensor({40, 1, 1}, 0.5, 2, 8).to(DType::kFloat32), large});
  }
  Tensor x = uniform_tensor({4}, 0.5, 2, 9).set_requires_grad();
  check_gradients([](const auto& in) { return in[0] * in[0] / (in[0] + in[0]); }, {x});
  const Tensor constant = uniform_tensor({4}, 0.5, 2, 10);
  x.set_grad({});
  (x / constant).backward(Tensor::full({4}, 1, DType::kFloat64));
  check_close(x.grad(), reciprocal(constant), 1e-15);
  CHECK_FALSE(constant.grad().defined());
}

TEST_CASE("maximum and minimum share ties and pass NaN on", "[elementwise]") {
  Tensor a = Tensor::from<double>({1, 2, 3, kNaN}, {4}).set_requires_grad();
  Tensor b = Tensor::from<double>({1, 3, 2, 1}, {4}).set_requires_grad();
  maximum(a, b).backward(Tensor::full({4}, 2, DType::kFloat64));
  CHECK(a.grad().to_vector<double>() == std::vector<double>{1, 0, 2, 2});
  CHECK(b.grad().to_vector<double>() == std::vector<double>{1, 2, 0, 0});
  CHECK(std::isnan(maximum(a, b).value_at(3)));
  CHECK(std::isnan(minimum(b, a).value_at(3)));
}

TEST_CASE("elementwise backward leaves gradients that others hold alone", "[elementwise]") {
  Tensor x = random_leaf({6}, 11);
  const Tensor y = x * 3.0;
  Tensor seen;
  register_hook(y, [&](const Tensor& grad) { seen = grad; return Tensor(); });
  const Tensor given = Tensor::full({6}, 1, DType::kFloat64);
  neg(y).backward(given);
  CHECK(given.to_vector<double>() == std::vector<double>(6, 1));
  CHECK(seen.to_vector<double>() == std::vector<double>(6, -1));
  CHECK(x.grad().to_vector<double>() == std::vector<double>(6, -3));
}

TEST_CASE("elementwise errors name the operator and both shapes", "[elementwise]") {
  const Tensor a = Tensor::zeros({2, 3}), b = Tensor::zeros({2, 4});
  CHECK_THROWS_AS(a + b, ShapeError);
  CHECK_THROWS_WITH(a * b, Catch::Contains("mul") && Catch::Contains("[2, 3]") && Catch::Contains("[2, 4]"));
  CHECK_THROWS_AS(a + a.to(DType::kFloat64), DTypeError);
  CHECK_THROWS_AS(exp(Tensor::zeros({2}, DType::kInt32)), DTypeError);
  CHECK_THROWS_WITH(exp(Tensor::zeros({2}, DType::kInt32)), Catch::Contains("exp") && Catch::Contains("int32"));
  CHECK_THROWS_AS(exp(Tensor()), UsageError);
  CHECK_THROWS_AS(a + Tensor(), UsageError);
  CHECK_THROWS_WITH(1.0 - Tensor(), Catch::Contains("sub"));
  CHECK_THROWS_WITH(1.0 / Tensor::zeros({2}, DType::kInt64), Catch::Contains("div") && Catch::Contains("int64"));
}
