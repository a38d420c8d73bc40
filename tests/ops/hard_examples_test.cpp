#include <algorithm>
#include <limits>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "core/parallel.h"
#include "ops/hard_examples_cases.h"
#include "ops/random_labels.h"
#include "support.h"

namespace {

using namespace eq;
using namespace eq::test;

struct HardArguments {
  Tensor logits, labels;
  HardExamplesOptions options;
  explicit HardArguments(const cases::HardExamplesCase& c, DType dtype = DType::kFloat64)
      : logits(random_tensor(c.logits, 1, dtype).mul_(2)),
        labels(random_labels(positions_of(c.logits), c.logits.at(-1), c.ignored, c.labels)),
        options(c.options) {}
  Tensor hard() const { return hard_examples(logits, labels, options); }
};

// As mmsegmentation's sampler does it: sort, look one up, compare.
Tensor hard_oracle(const HardArguments& a) {
  const int64_t classes = a.logits.size(-1), ignore = a.options.ignore_index;
  std::vector<double> probabilities(size_t(a.labels.numel())), sorted;
  for (int64_t i = 0; i < a.labels.numel(); ++i) {
    const int64_t label = int64_t(a.labels.value_at(i));
    if (label == ignore) continue;
    double sum = 0;
    for (int64_t k = 0; k < classes; ++k) sum += std::exp(a.logits.value_at(i * classes + k));
    probabilities[size_t(i)] = float(std::exp(a.logits.value_at(i * classes + label)) / sum);
    sorted.push_back(probabilities[size_t(i)]);
  }
  std::sort(sorted.begin(), sorted.end());
  double limit = float(a.options.threshold);
  if (!sorted.empty()) limit = std::max(limit, sorted[size_t(std::min<int64_t>(a.options.min_kept, int64_t(sorted.size()) - 1))]);
  Tensor hard = a.labels.to(DType::kInt64).clone();
  for (int64_t i = 0; i < a.labels.numel(); ++i) {
    if (!(probabilities[size_t(i)] < limit)) hard.data<int64_t>()[i] = ignore;
  }
  return hard.to(a.labels.dtype());
}

int64_t kept_of(const Tensor& labels) {
  int64_t kept = 0;
  for (int64_t i = 0; i < labels.numel(); ++i) kept += labels.value_at(i) != 255;
  return kept;
}

}  // namespace

TEST_CASE("hard examples are those of the definition", "[hard_examples]") {
  for (const auto& c : cases::kHardExamplesCases) {
    INFO(c.name);
    const HardArguments exact(c), single(c, DType::kFloat32);
    CHECK(exact.hard().dtype() == c.labels);
    CHECK(bit_equal(exact.hard(), hard_oracle(exact)));
    CHECK(bit_equal(single.hard(), hard_oracle(exact)));
  }
}

TEST_CASE("hard examples: the number that is kept", "[hard_examples]") {
  const auto kept = [](double threshold, int64_t min_kept) {
    return kept_of(HardArguments({"", {50, 40, 7}, DType::kUInt8, {.threshold = threshold, .min_kept = min_kept}, 0}).hard());
  };
  CHECK(kept(1e-9, 321) == 321);  // no two are equal
  CHECK(kept(1e-9, 1 << 20) == 1999);  // all but the easiest
  CHECK(kept(1, 0) == 2000);
  CHECK(kept(0.1, 0) < kept(0.2, 0));
}

TEST_CASE("hard examples: with equal probabilities the limit keeps none of them", "[hard_examples]") {
  const Tensor labels = Tensor::from<int32_t>({0, 1, 2, 1}, {4}), logits = Tensor::zeros({4, 3});
  CHECK(bit_equal(hard_examples(logits, labels, {.threshold = 0.5, .min_kept = 0}), labels));
  CHECK(kept_of(hard_examples(logits, labels, {.threshold = 0.2, .min_kept = 2})) == 0);
}

TEST_CASE("hard examples keep what is no number, so that a loss shows it", "[hard_examples]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor logits = Tensor::from<float>({9, 0, nan, nan, 9, 0, nan, 1}, {4, 2});
  const Tensor hard = hard_examples(logits, Tensor::from<uint8_t>({0, 0, 0, 255}, {4}), {.threshold = 0.5, .min_kept = 0});
  CHECK(hard.to_vector<uint8_t>() == std::vector<uint8_t>{255, 0, 255, 255});
  CHECK(std::isnan(cross_entropy(logits, hard).item()));
}

TEST_CASE("hard examples with another ignore index", "[hard_examples]") {
  HardArguments a({"", {60, 5}, DType::kInt32, {.threshold = 0.2, .min_kept = 9, .ignore_index = -100}, 0});
  a.labels.data<int32_t>()[3] = -100;
  CHECK(bit_equal(a.hard(), hard_oracle(a)));
  a.options.ignore_index = 2;
  a.labels.data<int32_t>()[3] = 2;
  CHECK(bit_equal(a.hard(), hard_oracle(a)));
}

TEST_CASE("hard examples refuse a label that is no class, with its value and place", "[hard_examples]") {
  for (DType dtype : {DType::kUInt8, DType::kInt32, DType::kInt64}) {
    HardArguments a({"", {40, 50, 11}, dtype});
    Tensor values = a.labels.to(DType::kInt64);
    values.data<int64_t>()[1234] = 200;
    values.data<int64_t>()[1999] = 11;
    a.labels = values.to(dtype);
    try {
      a.hard();
      FAIL("no error");
    } catch (const DataError& error) {
      CHECK_THAT(error.what_happened(), Catch::Contains("label 200 ") && Catch::Contains("0 to 10"));
      CHECK_THAT(error.where(), Catch::Contains("hard_examples") && Catch::Contains("flat position 1234"));
    }
    values.data<int64_t>()[0] = 12;
    a.labels = values.to(dtype);
    CHECK_THROWS_WITH(a.hard(), Catch::Contains("flat position 0"));
  }
}

TEST_CASE("hard examples are the same on one and two threads, and have no gradient", "[hard_examples]") {
  const int before = num_threads();
  for (int64_t classes : {11, 150}) {
    auto run = [&](int threads) {
      set_num_threads(threads);
      HardArguments a({"", {2, 171, 167, classes}, DType::kUInt8, {.threshold = 1e-4, .min_kept = 20000}}, DType::kFloat32);
      a.logits.set_requires_grad();
      const Tensor hard = a.hard();
      CHECK_FALSE(hard.requires_grad());
      CHECK(kept_of(hard) > 19900);  // float32 has ties
      return hard;
    };
    CHECK(bit_equal(run(1), run(2)));
  }
  set_num_threads(before);
}

TEST_CASE("hard examples check their arguments", "[hard_examples]") {
  const HardArguments a(cases::kHardExamplesCases[0]);
  CHECK(hard_examples(Tensor::zeros({0, 3}), Tensor::zeros({0}, DType::kUInt8)).numel() == 0);
  CHECK_THROWS_AS(hard_examples(a.logits, {}), UsageError);
  CHECK_THROWS_AS(hard_examples({}, a.labels), UsageError);
  CHECK_THROWS_AS(hard_examples(a.logits, a.labels.to(DType::kFloat32)), DTypeError);
  CHECK_THROWS_AS(hard_examples(a.logits, Tensor::zeros({2, 3, 4}, DType::kUInt8)), ShapeError);
  CHECK_THROWS_AS(hard_examples(a.logits, a.labels, {.threshold = 0}), UsageError);
  CHECK_THROWS_WITH(hard_examples(a.logits, a.labels, {.threshold = 1.5}), Catch::Contains("the threshold is 1.5") && !Catch::Contains("1.50"));
  CHECK_THROWS_AS(hard_examples(a.logits, a.labels, {.threshold = 1.1}), UsageError);
  CHECK_THROWS_AS(hard_examples(a.logits, a.labels, {.min_kept = -1}), UsageError);
  CHECK_THROWS_WITH(hard_examples(a.logits, a.labels, {.ignore_index = -100}), Catch::Contains("ignore index -100"));
}
