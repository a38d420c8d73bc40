#include "autograd/gradcheck.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "support.h"

using namespace eq;
using namespace eq::test;

namespace {

// y = a * b with chosen mistakes in the gradients.
struct PlantedBackward final : Node {
  PlantedBackward(const Tensor& a, const Tensor& b, double factor_a, double factor_b, double bias_b)
      : Node("planted"), factor_a_(factor_a), factor_b_(factor_b), bias_b_(bias_b), a_(save(a)), b_(save(b)) {}
  TensorList backward(const TensorList& grads) override {
    return {grads[0] * b_.get() * factor_a_, grads[0] * a_.get() * factor_b_ + bias_b_};
  }
  double factor_a_, factor_b_, bias_b_;
  SavedTensor &a_, &b_;
};

std::function<Tensor(const std::vector<Tensor>&)> planted(double factor_a, double factor_b, double bias_b = 0) {
  return [=](const std::vector<Tensor>& in) {
    Tensor y;
    {
      const NoGradGuard plain;
      y = in[0] * in[1];
    }
    record<PlantedBackward>(y, {in[0], in[1]}, in[0], in[1], factor_a, factor_b, bias_b);
    return y;
  };
}

}  // namespace

TEST_CASE("gradcheck passes what is right", "[gradcheck]") {
  const std::vector<Tensor> inputs = {random_leaf({3, 4}, 1), random_leaf({3, 4}, 2)};
  const GradcheckResult result = gradcheck(planted(1, 1), inputs);
  CHECK(result.ok);
  CHECK(result.worst < 1e-8);
  CHECK(result.message.empty());
}

TEST_CASE("gradcheck leaves the inputs as they were, also when the function throws", "[gradcheck]") {
  const Tensor x = random_leaf({2}, 1), before = x.clone();
  int calls = 0;
  const auto fails = [&](const std::vector<Tensor>& in) {
    if (++calls == 2) throw DataError("no more", "", "");
    return in[0] * 2.0;
  };
  CHECK_THROWS_AS(gradcheck(fails, {x}), DataError);
  CHECK(bit_equal(x, before));
}

TEST_CASE("gradcheck finds a planted wrong gradient and says where", "[gradcheck]") {
  const std::vector<Tensor> inputs = {random_leaf({3, 4}, 1), random_leaf({3, 4}, 2)};
  const GradcheckResult first = gradcheck(planted(1.001, 1), inputs);
  CHECK_FALSE(first.ok);
  CHECK(first.worst > 1e-5);
  CHECK_THAT(first.message, Catch::Contains("input 0, element 0: backward gives"));
  const GradcheckResult second = gradcheck(planted(1, -1), inputs);
  CHECK_FALSE(second.ok);
  CHECK_THAT(second.message, Catch::Contains("input 1"));
  CHECK_FALSE(gradcheck(planted(1, 1, 1e-4), inputs).ok);
  CHECK_FALSE(gradcheck(planted(1, 0), inputs).ok);
  const GradcheckResult no_number = gradcheck(planted(1, std::numeric_limits<double>::quiet_NaN()), inputs);
  CHECK_FALSE(no_number.ok);
  CHECK(std::isnan(no_number.worst));
  GradcheckOptions loose;
  loose.tolerance = 0.01;
  CHECK(gradcheck(planted(1.001, 1), inputs, loose).ok);
}

TEST_CASE("gradcheck looks at every element, and of many at any", "[gradcheck]") {
  // Right where `recorded` is 1, and nothing where it is 0.
  const auto partly = [](const Tensor& recorded) {
    return [recorded](const std::vector<Tensor>& in) { return in[0] * recorded + in[0].detach() * (1 - recorded); };
  };
  for (int64_t wrong = 0; wrong < 3; ++wrong) {
    Tensor recorded = Tensor::full({3}, 1, DType::kFloat64);
    recorded.data<double>()[wrong] = 0;
    CHECK_FALSE(gradcheck(partly(recorded), {random_leaf({3}, 10)}).ok);
  }
  Tensor first_ten = Tensor::zeros({1000}, DType::kFloat64);
  std::fill_n(first_ten.data<double>(), 10, 1.0);
  GradcheckOptions few;
  few.max_elements = 10;
  CHECK_FALSE(gradcheck(partly(first_ten), {random_leaf({1000}, 11)}, few).ok);
}

TEST_CASE("gradcheck measures differences by the largest derivative, and by 1 where all are smaller", "[gradcheck]") {
  const auto off_by = [](double slope, double error) {
    return [=](const std::vector<Tensor>& in) { return in[0] * slope + in[0].detach() * error; };
  };
  const std::vector<Tensor> inputs = {random_leaf({3}, 12)};
  CHECK(gradcheck(off_by(1e4, 1e-3), inputs).ok);
  CHECK_FALSE(gradcheck(off_by(1e4, 1), inputs).ok);
  CHECK(gradcheck(off_by(1e-3, 0.7e-6), inputs).ok);
  CHECK_FALSE(gradcheck(off_by(1e-3, 1.5e-6), inputs).ok);
}

TEST_CASE("gradcheck leaves alone what needs no gradient and samples what is large", "[gradcheck]") {
  Tensor a = random_leaf({3}, 3), constant = random_tensor({3}, 4);
  CHECK(gradcheck(planted(1, 5), {a, constant}).ok);
  CHECK(gradcheck([](const auto& in) { return square(in[0]); }, {a, Tensor()}).ok);

  const Tensor before = a.clone();
  gradcheck([](const auto& in) { return exp(in[0]); }, {a});
  CHECK(bit_equal(a.detach(), before));

  int calls = 0;
  GradcheckOptions few;
  few.max_elements = 10;
  Tensor large = random_leaf({1000}, 5);
  CHECK(gradcheck([&](const auto& in) { return ++calls, tanh(in[0]); }, {large}, few).ok);
  CHECK(calls == 1 + 2 * 10);
}

TEST_CASE("gradcheck sees a result that does not depend on an input", "[gradcheck]") {
  Tensor a = random_leaf({3}, 6), b = random_leaf({3}, 7);
  CHECK(gradcheck([](const auto& in) { return in[0] * 2.0; }, {a, b}).ok);
  // A path that is used but not recorded is a wrong gradient.
  CHECK_FALSE(gradcheck([](const auto& in) { return in[0] * in[1].detach(); }, {a, b}).ok);
}

TEST_CASE("gradcheck gives the inputs the gradients of before back", "[gradcheck]") {
  Tensor a = random_leaf({3}, 10), b = random_leaf({3}, 11);
  const Tensor before = random_tensor({3}, 12);
  a.set_grad(before);
  CHECK(gradcheck(planted(1, 1), {a, b}).ok);
  CHECK(a.grad().is_same(before));
  CHECK_FALSE(b.grad().defined());
}

TEST_CASE("gradcheck says what it needs", "[gradcheck]") {
  Tensor single = random_leaf({3}, 8, DType::kFloat32);
  CHECK_THROWS_AS(gradcheck([](const auto& in) { return exp(in[0]); }, {single}), DTypeError);
  Tensor a = random_leaf({3}, 9);
  for (const int64_t none : {0, -1}) {
    CHECK_THROWS_WITH(gradcheck([](const auto& in) { return exp(in[0]); }, {a}, {.max_elements = none}), Catch::Contains("max_elements"));
  }
  CHECK_THROWS_AS(gradcheck([](const auto& in) { return in[0].detach(); }, {a}), AutogradError);
  CHECK_THROWS_AS(gradcheck([](const auto& in) { return exp(in[0]); }, {a * 2.0}), AutogradError);
  CHECK_THROWS_AS(gradcheck([](const auto& in) { return cast(in[0], DType::kFloat32); }, {a}), DTypeError);
  CHECK_THROWS_AS(gradcheck([](const auto&) { return Tensor::zeros({2}, DType::kFloat64); }, {a}), AutogradError);
}
