#include "autograd/functional.h"

#include "autograd/node.h"
#include "core/parallel.h"
#include "ops/cross_entropy_cases.h"
#include "ops/random_labels.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;
using Reduction = CrossEntropyOptions::Reduction;

struct Arguments {
  Tensor logits, labels;
  CrossEntropyOptions options;
  explicit Arguments(const cases::CrossEntropyCase& c, DType dtype = DType::kFloat64) : logits(random_leaf(c.logits, 1, dtype)) {
    const int64_t classes = c.logits.at(-1);
    labels = random_labels(positions_of(c.logits), classes, c.ignored, c.labels);
    options.reduction = c.reduction;
    if (!c.weighted) return;
    options.class_weights = Tensor::empty({classes}, DType::kFloat64);
    for (int64_t k = 0; k < classes; ++k) options.class_weights.data<double>()[k] = 0.2 + double(k % 5);
    options.class_weights = options.class_weights.to(dtype);
  }
  Tensor loss() const { return cross_entropy(logits, labels, options); }
};

double cross_entropy_oracle(const Arguments& a) {
  const int64_t classes = a.logits.size(-1), count = a.labels.numel();
  double total = 0, weights = 0;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t label = int64_t(a.labels.value_at(i));
    if (label == a.options.ignore_index) continue;
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(a.logits.value_at(i * classes + k));
    const double weight = a.options.class_weights.defined() ? a.options.class_weights.value_at(label) : 1;
    total += weight * (std::log(sum) - a.logits.value_at(i * classes + label));
    weights += weight;
  }
  if (a.options.reduction == Reduction::kMeanAll) return total / double(count);
  if (a.options.reduction == Reduction::kMeanValid) return weights == 0 ? 0 : total / weights;
  return total;
}

}  // namespace

TEST_CASE("cross-entropy equals its definition", "[cross_entropy]") {
  for (const auto& c : cases::kCrossEntropyCases) {
    INFO(c.name);
    const Arguments exact(c);
    CHECK(exact.loss().item() == Approx(cross_entropy_oracle(exact)).epsilon(1e-13).margin(1e-15));
    const Arguments single(c, DType::kFloat32);
    CHECK(single.loss().item() == Approx(cross_entropy_oracle(exact)).epsilon(1e-6).margin(1e-7));
    const NoGradGuard no_grad;
    CHECK(single.loss().item() == Approx(cross_entropy_oracle(exact)).epsilon(1e-6).margin(1e-7));
  }
}

TEST_CASE("cross-entropy's gradient", "[cross_entropy]") {
  for (const auto& c : cases::kCrossEntropyCases) {
    INFO(c.name);
    const Arguments a(c);
    check_gradients([&](const std::vector<Tensor>& in) { return cross_entropy(in[0], a.labels, a.options); }, {a.logits});
    const Arguments exact(c), single(c, DType::kFloat32);
    exact.loss().backward();
    single.loss().backward();
    check_close(single.logits.grad(), exact.logits.grad(), 1e-6);
  }
}

TEST_CASE("cross-entropy's gradient is scaled, zero where ignored, and survives a second backward", "[cross_entropy]") {
  const Arguments a(cases::kCrossEntropyCases[0]);
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

TEST_CASE("the ignore index may be a class, or negative", "[cross_entropy]") {
  Arguments a({"plain", {30, 4}, DType::kInt32, Reduction::kMeanValid, false, 0});
  a.options.ignore_index = 2;
  CHECK(a.loss().item() == Approx(cross_entropy_oracle(a)));
  a.labels.data<int32_t>()[3] = -100;
  a.options.ignore_index = -100;
  CHECK(a.loss().item() == Approx(cross_entropy_oracle(a)));
}

TEST_CASE("no class is ignored that nobody named", "[cross_entropy]") {
  const Tensor labels = Tensor::full({3}, 255, DType::kInt64), logits = Tensor::zeros({3, 300});
  CHECK_THROWS_WITH(cross_entropy(logits, labels), Catch::Contains("300 classes") && Catch::Contains("255 would be ignored"));
  CHECK_THROWS_WITH(dice_loss(logits, labels), Catch::Contains("255 would be ignored"));
  CHECK_THROWS_WITH(hard_examples(logits, labels), Catch::Contains("255 would be ignored"));
  CHECK(cross_entropy(logits, labels, {.ignore_index = -1}).item() == Approx(std::log(300.0)));
  // 256 classes fill uint8; of 255 the index is free.
  const Tensor bytes = labels.to(DType::kUInt8);
  CHECK_THROWS_AS(cross_entropy(Tensor::zeros({3, 256}), bytes), UsageError);
  CHECK(cross_entropy(Tensor::zeros({3, 256}), bytes, {.ignore_index = -1}).item() == Approx(std::log(256.0)));
  CHECK(cross_entropy(Tensor::zeros({3, 255}), bytes).item() == 0);
}

TEST_CASE("cross-entropy stands huge logits", "[cross_entropy]") {
  const Tensor logits = Tensor::from<float>({1000, 0, -1000, 0, 0, 1000}, {2, 3}).set_requires_grad();
  const Tensor loss = cross_entropy(logits, Tensor::from<uint8_t>({0, 1}, {2}));
  CHECK(loss.item() == 500);
  loss.backward();
  check_close(logits.grad(), Tensor::from<float>({0, 0, 0, 0, -0.5, 0.5}, {2, 3}), 0);
}

TEST_CASE("cross-entropy shows a NaN", "[cross_entropy]") {
  Arguments a({"plain", {30, 11}, DType::kUInt8, Reduction::kMeanAll, false, 0}, DType::kFloat32);
  a.logits.data<float>()[13 * 11 + 4] = std::nanf("");
  const Tensor loss = a.loss();
  CHECK(std::isnan(loss.item()));
  loss.backward();
  for (int64_t i = 0; i < 330; ++i) CHECK(std::isnan(a.logits.grad().value_at(i)) == (i / 11 == 13));
}

TEST_CASE("a label that is no class is an error with its value and place", "[cross_entropy]") {
  for (DType dtype : {DType::kUInt8, DType::kInt32, DType::kInt64}) {
    Arguments a({"plain", {40, 50, 11}, dtype, Reduction::kMeanAll, false, 0.1});
    Tensor values = a.labels.to(DType::kInt64);
    values.data<int64_t>()[1234] = 200;
    values.data<int64_t>()[1999] = 11;
    a.labels = values.to(dtype);
    try {
      a.loss();
      FAIL("no error");
    } catch (const DataError& error) {
      CHECK_THAT(error.what_happened(), Catch::Contains("label 200 ") && Catch::Contains("0 to 10"));
      CHECK_THAT(error.where(), Catch::Contains("flat position 1234"));
      CHECK(error.exit_code() == 3);
    }
  }
  Arguments negative({"plain", {4, 3}, DType::kInt32, Reduction::kMeanAll, false, 0});
  negative.labels.data<int32_t>()[0] = -1;
  CHECK_THROWS_AS(negative.loss(), DataError);
}

TEST_CASE("cross-entropy gives the same bits on one and two threads", "[cross_entropy]") {
  const int before = num_threads();
  for (int64_t classes : {11, 19, 150}) {
    auto run = [&](int threads) {
      set_num_threads(threads);
      const Arguments a({"large", {2, 71, 67, classes}, DType::kUInt8, Reduction::kMeanValid, true}, DType::kFloat32);
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

TEST_CASE("cross-entropy of no position is 0", "[cross_entropy]") {
  for (Reduction reduction : {Reduction::kMeanAll, Reduction::kMeanValid, Reduction::kSum}) {
    CrossEntropyOptions options;
    options.reduction = reduction;
    CHECK(cross_entropy(Tensor::zeros({0, 3}), Tensor::zeros({0}, DType::kUInt8), options).item() == 0);
  }
}

TEST_CASE("cross-entropy checks its arguments", "[cross_entropy]") {
  const Arguments a(cases::kCrossEntropyCases[0]);
  CHECK_THROWS_AS(cross_entropy(a.logits, {}), UsageError);
  CHECK_THROWS_AS(cross_entropy({}, a.labels), UsageError);
  CHECK_THROWS_AS(cross_entropy(a.logits, a.labels.to(DType::kFloat32)), DTypeError);
  CHECK_THROWS_AS(cross_entropy(a.logits, Tensor::zeros({2, 3, 4}, DType::kUInt8)), ShapeError);
  CHECK_THROWS_AS(cross_entropy(Tensor::zeros({4, 0}), Tensor::zeros({4}, DType::kUInt8)), ShapeError);
  CrossEntropyOptions options;
  options.class_weights = Tensor::zeros({10}, DType::kFloat64);
  CHECK_THROWS_AS(cross_entropy(a.logits, a.labels, options), ShapeError);
  options.class_weights = Tensor::zeros({11}, DType::kFloat32);
  CHECK_THROWS_AS(cross_entropy(a.logits, a.labels, options), DTypeError);
}
