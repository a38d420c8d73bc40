#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "ops/dice_loss_cases.h"
#include "ops/random_labels.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

struct DiceArguments {
  Tensor logits, labels;
  DiceLossOptions options;
  explicit DiceArguments(const cases::DiceLossCase& c, DType dtype = DType::kFloat64)
      : logits(random_leaf(c.logits, 1, dtype)),
        labels(random_labels(positions_of(c.logits), c.named > 0 ? c.named : c.logits.at(-1), c.ignored, c.labels)),
        options(c.options) {}
  Tensor loss() const { return dice_loss(logits, labels, options); }
};

double dice_oracle(const DiceArguments& a) {
  const int64_t classes = a.logits.size(-1);
  double total = 0, present = 0;
  for (int64_t c = 0; c < classes; ++c) {
    double overlap = 0, answered = 0, labelled = 0;
    for (int64_t i = 0; i < a.labels.numel(); ++i) {
      const int64_t label = int64_t(a.labels.value_at(i));
      if (label == a.options.ignore_index) continue;
      double sum = 0;
      for (int64_t k = 0; k < classes; ++k) sum += std::exp(a.logits.value_at(i * classes + k));
      const double p = std::exp(a.logits.value_at(i * classes + c)) / sum;
      answered += a.options.squared ? p * p : p;
      if (label == c) overlap += p, labelled += 1;
    }
    if (labelled == 0) continue;
    total += 1 - (2 * overlap + a.options.smooth) / (answered + labelled + a.options.smooth);
    present += 1;
  }
  if (present == 0) return 0;
  return total / (a.options.mean == DiceLossOptions::Mean::kAll ? double(classes) : present);
}

}  // namespace

TEST_CASE("the Dice loss equals its definition", "[dice_loss]") {
  for (const auto& c : cases::kDiceLossCases) {
    INFO(c.name);
    const DiceArguments exact(c), single(c, DType::kFloat32);
    CHECK(exact.loss().item() == Approx(dice_oracle(exact)).epsilon(1e-13).margin(1e-15));
    CHECK(single.loss().item() == Approx(dice_oracle(exact)).epsilon(1e-6).margin(1e-7));
    const NoGradGuard no_grad;
    CHECK(single.loss().item() == Approx(dice_oracle(exact)).epsilon(1e-6).margin(1e-7));
  }
}

TEST_CASE("the Dice loss's gradient", "[dice_loss]") {
  for (const auto& c : cases::kDiceLossCases) {
    INFO(c.name);
    const DiceArguments a(c);
    check_gradients([&](const std::vector<Tensor>& in) { return dice_loss(in[0], a.labels, a.options); }, {a.logits});
    const DiceArguments exact(c), single(c, DType::kFloat32);
    exact.loss().backward();
    single.loss().backward();
    check_close(single.logits.grad(), exact.logits.grad(), 1e-6);
  }
}

TEST_CASE("the Dice loss over many chunks equals its definition", "[dice_loss]") {
  const DiceArguments exact({"chunks", {2, 71, 67, 19}}), single({"chunks", {2, 71, 67, 19}}, DType::kFloat32);
  CHECK(exact.loss().item() == Approx(dice_oracle(exact)).epsilon(1e-13));
  CHECK(single.loss().item() == Approx(dice_oracle(exact)).epsilon(1e-7));
}

TEST_CASE("the Dice loss's gradient is scaled, zero where ignored, and survives a second backward", "[dice_loss]") {
  const DiceArguments a(cases::kDiceLossCases[0]);
  const Tensor loss = a.loss();
  loss.backward({}, true);
  const Tensor once = a.logits.grad().clone();
  loss.backward({}, true);
  check_close(a.logits.grad(), once.clone().mul_(2), 1e-15);
  loss.backward(Tensor::scalar(-3, DType::kFloat64));
  check_close(a.logits.grad(), once.clone().mul_(-1), 1e-15);
  for (int64_t i = 0; i < once.numel(); ++i) {
    if (a.labels.value_at(i / 11) == 255) CHECK(once.value_at(i) == 0);
  }
}

TEST_CASE("a perfect answer has no Dice loss, a wrong one all of it", "[dice_loss]") {
  const Tensor logits = Tensor::from<float>({1000, 0, 0, 0, 1000, 0}, {2, 3});
  CHECK(dice_loss(logits, Tensor::from<uint8_t>({0, 1}, {2})).item() == 0);
  CHECK(dice_loss(logits, Tensor::from<uint8_t>({1, 2}, {2})).item() == 1);
}

TEST_CASE("the Dice loss ignores NaN at ignored positions, and shows others", "[dice_loss]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor labels = Tensor::from<uint8_t>({1, 255, 0}, {3});
  Tensor logits = Tensor::from<float>({1, 2, nan, nan, 3, 4}, {3, 2}).set_requires_grad();
  Tensor loss = dice_loss(logits, labels);
  loss.backward();
  CHECK(std::isfinite(loss.item()));
  for (int64_t i = 0; i < 6; ++i) CHECK((logits.grad().value_at(i) == 0) == (i == 2 || i == 3));
  logits = Tensor::from<float>({1, 2, 0, 0, nan, 4}, {3, 2}).set_requires_grad();
  loss = dice_loss(logits, labels);
  loss.backward();
  CHECK(std::isnan(loss.item()));
  CHECK(std::isnan(logits.grad().value_at(4)));
}

TEST_CASE("the Dice loss refuses a label that is no class, with its value and place", "[dice_loss]") {
  for (DType dtype : {DType::kUInt8, DType::kInt32, DType::kInt64}) {
    DiceArguments a({"plain", {40, 50, 11}, dtype});
    Tensor values = a.labels.to(DType::kInt64);
    values.data<int64_t>()[1234] = 200;
    values.data<int64_t>()[1999] = 11;
    a.labels = values.to(dtype);
    try {
      a.loss();
      FAIL("no error");
    } catch (const DataError& error) {
      CHECK_THAT(error.what_happened(), Catch::Contains("label 200 ") && Catch::Contains("0 to 10"));
      CHECK_THAT(error.where(), Catch::Contains("dice_loss") && Catch::Contains("flat position 1234"));
    }
    values.data<int64_t>()[0] = 12;
    a.labels = values.to(dtype);
    CHECK_THROWS_WITH(a.loss(), Catch::Contains("flat position 0"));
  }
}

TEST_CASE("the Dice loss gives the same bits on one and two threads", "[dice_loss]") {
  const int before = num_threads();
  for (int64_t classes : {11, 19, 150}) {
    auto run = [&](int threads) {
      set_num_threads(threads);
      const DiceArguments a({"large", {2, 71, 67, classes}}, DType::kFloat32);
      const Tensor loss = a.loss();
      loss.backward();
      return std::vector<Tensor>{loss, a.logits.grad()};
    };
    const auto one = run(1), two = run(2);
    CHECK(bit_equal(one[0], two[0]));
    CHECK(bit_equal(one[1], two[1]));
  }
  set_num_threads(before);
}

TEST_CASE("the Dice loss of no position is 0", "[dice_loss]") {
  const Tensor logits = Tensor::zeros({0, 3}).set_requires_grad();
  const Tensor loss = dice_loss(logits, Tensor::zeros({0}, DType::kUInt8), {.smooth = 1});
  CHECK(loss.item() == 0);
  loss.backward();
  CHECK(logits.grad().shape() == Shape{0, 3});
}

TEST_CASE("the Dice loss checks its arguments", "[dice_loss]") {
  const DiceArguments a(cases::kDiceLossCases[0]);
  CHECK_THROWS_AS(dice_loss(a.logits, {}), UsageError);
  CHECK_THROWS_AS(dice_loss({}, a.labels), UsageError);
  CHECK_THROWS_AS(dice_loss(a.logits, a.labels.to(DType::kFloat32)), DTypeError);
  CHECK_THROWS_AS(dice_loss(a.logits, Tensor::zeros({2, 3, 4}, DType::kUInt8)), ShapeError);
  CHECK_THROWS_AS(dice_loss(Tensor::zeros({4, 0}), Tensor::zeros({4}, DType::kUInt8)), ShapeError);
  CHECK_THROWS_AS(dice_loss(a.logits, a.labels, {.smooth = -1}), UsageError);
}
