#include "reduce_cases.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "core/parallel.h"
#include "core/random.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

// The groups of values that each output of a reduction sees, gathered one element at a time.
std::vector<std::vector<double>> groups_of(const Tensor& x, const std::vector<int>& axes) {
  std::vector<bool> reduced(x.rank(), axes.empty());
  for (const int axis : axes) reduced[axis < 0 ? axis + x.rank() : axis] = true;
  int64_t outputs = 1;
  for (int axis = 0; axis < x.rank(); ++axis) outputs *= reduced[axis] ? 1 : x.shape()[axis];
  std::vector<std::vector<double>> groups(outputs);
  const std::vector<double> values = x.to(DType::kFloat64).to_vector<double>();
  for (int64_t i = 0; i < x.numel(); ++i) {
    int64_t rest = i, output = 0, step = 1;
    for (int axis = x.rank() - 1; axis >= 0; --axis) {
      const int64_t coordinate = rest % x.shape()[axis];
      rest /= x.shape()[axis];
      if (reduced[axis]) continue;
      output += coordinate * step;
      step *= x.shape()[axis];
    }
    groups[output].push_back(values[i]);
  }
  return groups;
}

double plain_sum(const std::vector<double>& values) {
  long double total = 0;
  for (const double v : values) total += v;
  return double(total);
}
double plain_mean(const std::vector<double>& values) { return plain_sum(values) / double(values.size()); }
double plain_var(const std::vector<double>& values, bool unbiased) {
  const double centre = plain_mean(values);
  long double total = 0;
  for (const double v : values) total += (v - centre) * (v - centre);
  return double(total) / double(values.size() - (unbiased ? 1 : 0));
}

template <class Fn>
Tensor per_group(const Tensor& x, const std::vector<int>& axes, const Shape& shape, Fn&& fn) {
  std::vector<double> values;
  for (const auto& group : groups_of(x, axes)) values.push_back(fn(group));
  return Tensor::from(values, shape);
}

struct Reduction {
  const char* name;
  Tensor (*op)(const Tensor&, const std::vector<int>&, bool keepdim);
  double (*oracle)(const std::vector<double>&);
  size_t least;  // elements needed
};

const Reduction kReductions[] = {
    {"sum", [](const Tensor& x, const std::vector<int>& axes, bool keep) { return sum(x, axes, keep); }, plain_sum, 1},
    {"mean", [](const Tensor& x, const std::vector<int>& axes, bool keep) { return mean(x, axes, keep); }, plain_mean,
     1},
    {"var", [](const Tensor& x, const std::vector<int>& axes, bool keep) { return var(x, axes, true, keep); },
     [](const std::vector<double>& v) { return plain_var(v, true); }, 2},
    {"biased var", [](const Tensor& x, const std::vector<int>& axes, bool keep) { return var(x, axes, false, keep); },
     [](const std::vector<double>& v) { return plain_var(v, false); }, 1},
};

}  // namespace

TEST_CASE("sum, mean and var against plain loops, with gradients", "[reduce]") {
  for (const Reduction& r : kReductions) {
    for (const cases::ReduceCase& c : cases::kReduceCases) {
      DYNAMIC_SECTION(r.name << " of " << to_string(c.shape) << " over " << Catch::Detail::stringify(c.axes)) {
        Tensor x = random_leaf(c.shape, 1);
        if (groups_of(x, c.axes)[0].size() < r.least) {
          CHECK_THROWS_AS(r.op(x, c.axes, false), ShapeError);
          continue;
        }
        for (const bool keepdim : {false, true}) {
          const Tensor y = r.op(x, c.axes, keepdim);
          CHECK(y.rank() == (keepdim ? x.rank() : c.axes.empty() ? 0 : x.rank() - int(c.axes.size())));
          check_close(y, per_group(x, c.axes, y.shape(), r.oracle), 1e-13);
        }
        check_close(r.op(x.to(DType::kFloat32), c.axes, false),
                    r.op(x.to(DType::kFloat32).to(DType::kFloat64), c.axes, false), 1e-6);
        check_gradients([&](const auto& in) { return r.op(in[0], c.axes, false); }, {x});
      }
    }
  }
}

TEST_CASE("large reductions: accuracy and threads", "[reduce]") {
  for (const Reduction& r : kReductions) {
    for (const cases::ReduceCase& c : cases::kLargeReduceCases) {
      DYNAMIC_SECTION(r.name << " of " << to_string(c.shape) << " over " << Catch::Detail::stringify(c.axes)) {
        const Tensor x = add(random_tensor(c.shape, 2, DType::kFloat32), 100);
        Tensor grads[2], values[2];
        for (const int threads : {1, 2}) {
          set_num_threads(threads);
          Tensor leaf = x.clone().set_requires_grad();
          const Tensor y = r.op(leaf, c.axes, false);
          y.backward(random_tensor(y.shape(), 3, DType::kFloat32));
          values[threads - 1] = y.detach();
          grads[threads - 1] = leaf.grad();
        }
        CHECK(bit_equal(values[0], values[1]));
        CHECK(bit_equal(grads[0], grads[1]));
        const Tensor expected = per_group(x, c.axes, values[0].shape(), r.oracle);
        // Summed in double: nothing but the last rounding to float32 differs, in spite of the mean of 100.
        for (int64_t i = 0; i < expected.numel(); ++i) {
          const double error = std::abs(values[0].value_at(i) - expected.value_at(i));
          if (error > 1.2e-7 * std::abs(expected.value_at(i))) FAIL_CHECK("element " << i << " is off by " << error);
        }
      }
    }
  }
}

TEST_CASE("sums lose no digits, whatever the values do", "[reduce]") {
  // Of every layout: one row, many rows longer and shorter than vectors, wide and narrow columns, runs of axes apart.
  struct Layout {
    Shape shape;
    std::vector<int> axes;
  };
  const Layout layouts[] = {{{3000000}, {}},         {{500, 2003}, {1}}, {{20000, 21}, {1}},      {{20000, 5}, {1}},
                            {{700, 1100}, {0}},      {{9000, 40}, {0}},  {{30000, 7}, {0}},       {{90, 3, 50, 11}, {0, 2}}};
  for (const Layout& layout : layouts) {
    for (const char* data : {"alternating", "one huge", "huge and back", "all alike"}) {
      DYNAMIC_SECTION(to_string(layout.shape) << " " << data) {
        const std::string kind = data;
        Tensor x = add(random_tensor(layout.shape, 6, DType::kFloat32), 2);
        const int64_t last = x.numel() - 1;
        for (int64_t i = 0; i <= last; ++i) {
          float& value = x.data<float>()[i];
          if (kind == "alternating" && i % 2 == 1) value = -value;
          if (kind == "all alike") value = 0.1f;
        }
        if (kind != "alternating" && kind != "all alike") x.data<float>()[0] = 1e9f;
        if (kind == "huge and back") x.data<float>()[last] = -1e9f;
        const Tensor y = sum(x, layout.axes), expected = per_group(x, layout.axes, y.shape(), plain_sum);
        std::vector<double> sizes;  // of each output's terms together
        for (const auto& group : groups_of(x, layout.axes)) {
          double size = 0;
          for (const double value : group) size += std::abs(value);
          sizes.push_back(size);
        }
        int64_t wrong = 0;
        for (int64_t i = 0; i < y.numel(); ++i) {
          // Rounded once to float32, after additions in double.
          const double bound = 0x1p-24 * std::abs(expected.value_at(i)) + 1e-12 * sizes[size_t(i)];
          wrong += !(std::abs(y.value_at(i) - expected.value_at(i)) <= bound);
        }
        CHECK(wrong == 0);
      }
    }
  }
}

TEST_CASE("max and argmax", "[reduce]") {
  for (const int axis : {0, 1, 2, -1}) {
    Tensor x = distinct_tensor({3, 5, 300}, 4).set_requires_grad();
    const Tensor y = max(x, axis), index = argmax(x, axis);
    const auto groups = groups_of(x, {axis});
    REQUIRE(y.numel() == int64_t(groups.size()));
    REQUIRE(index.dtype() == DType::kInt64);
    CHECK(max(x, axis, true).size(axis) == 1);
    for (size_t i = 0; i < groups.size(); ++i) {
      const auto largest = std::max_element(groups[i].begin(), groups[i].end());
      if (y.value_at(int64_t(i)) != *largest) FAIL_CHECK("max of group " << i);
      if (index.value_at(int64_t(i)) != double(largest - groups[i].begin())) FAIL_CHECK("argmax of group " << i);
    }
    check_gradients([axis](const auto& in) { return max(in[0], axis); },
                    {distinct_tensor({3, 5, 7}, 5).set_requires_grad()});
    set_num_threads(1);
    const Tensor one = max(x.to(DType::kFloat32), axis);
    set_num_threads(2);
    CHECK(bit_equal(one, max(x.to(DType::kFloat32), axis)));
  }
}

TEST_CASE("the place of a row's maximum, with equals, infinities and NaN anywhere in rows of every length", "[reduce]") {
  const double inf = std::numeric_limits<double>::infinity(), nan = std::numeric_limits<double>::quiet_NaN();
  const double values[] = {0, 1, 2, inf, -inf, nan};
  Random random(8);
  int64_t wrong = 0;
  for (int64_t width = 1; width <= 40; ++width) {
    for (int64_t kinds = 1; kinds <= 6; ++kinds) {
      const int64_t rows = 20;
      std::vector<double> x;
      for (int64_t i = 0; i < rows * width; ++i) {
        x.push_back(kinds == 6 && random.uniform() < 0.9 ? 2 : values[random.uniform_int(kinds == 5 ? 4 : 0, kinds == 5 ? 5 : kinds)]);
      }
      for (const DType dtype : {DType::kFloat32, DType::kFloat64}) {
        const Tensor index = argmax(Tensor::from<double>(x, {rows, width}).to(dtype), 1);
        for (int64_t r = 0; r < rows; ++r) {
          const auto row = x.begin() + r * width;
          auto place = std::find_if(row, row + width, [](double v) { return std::isnan(v); });
          if (place == row + width) place = std::max_element(row, row + width);
          wrong += int64_t(index.value_at(r)) != place - row;
        }
      }
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("max takes the first of equals, and NaN over everything", "[reduce]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  Tensor x = Tensor::from<float>({1, 3, 3, 2, nan, inf, nan, 0, -inf, -inf, -inf, -inf}, {3, 4}).set_requires_grad();
  const Tensor y = max(x, 1);
  for (const Tensor& place : {argmax(x, 1), argmax(transpose(x, 0, 1), 0)}) CHECK(place.to_vector<int64_t>() == std::vector<int64_t>{1, 0, 0});
  CHECK(y.value_at(0) == 3);
  CHECK(std::isnan(y.value_at(1)));
  CHECK(y.value_at(2) == -inf);
  y.backward(Tensor::from<float>({1, 2, 3}, {3}));
  CHECK(x.grad().to_vector<float>() == std::vector<float>{0, 1, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0});
}

TEST_CASE("reductions of nothing", "[reduce]") {
  const Tensor none = Tensor::zeros({0, 3});
  CHECK(sum(none).item() == 0);
  CHECK(sum(none, {0}).to_vector<float>() == std::vector<float>(3, 0));
  CHECK(sum(none, {1}).shape() == Shape{0});
  CHECK(mean(none, {1}).shape() == Shape{0});
  CHECK_THROWS_AS(mean(none), ShapeError);
  CHECK_THROWS_AS(var(none, {0}), ShapeError);
  CHECK_THROWS_AS(max(none, 0), ShapeError);
  CHECK(max(none, 1).shape() == Shape{0});
}

TEST_CASE("reduction errors name the axis", "[reduce]") {
  const Tensor x = Tensor::zeros({2, 3});
  CHECK_THROWS_AS(sum(x, {2}), ShapeError);
  CHECK_THROWS_WITH(mean(x, {-3}), Catch::Contains("mean") && Catch::Contains("-3") && Catch::Contains("[2, 3]"));
  CHECK_THROWS_WITH(sum(x, {1, -1}), Catch::Contains("twice"));
  CHECK_THROWS_AS(max(x, 5), ShapeError);
  CHECK_THROWS_AS(max(Tensor::scalar(1), 0), ShapeError);
  CHECK_THROWS_AS(sum(Tensor::zeros({2}, DType::kInt32)), DTypeError);
  CHECK_THROWS_AS(argmax(Tensor(), 0), UsageError);
}
