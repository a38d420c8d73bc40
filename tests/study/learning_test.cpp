// How fast levels are learned: the predictions and the task on cases that can be done by hand.
#include "study/theory/learning.h"

#include <cmath>

#include "autograd/functional.h"
#include "core/parallel.h"
#include "support.h"

using namespace eq;

namespace {

Lab learning_lab() {
  TheoryRequest request;
  request.seed = 3;
  return Lab(request);
}

const OptimizerOptions kPlainSgd{.type = "sgd", .lr = 0.1, .momentum = 0, .weight_decay = 0};

Course course_of(const Levels& levels, const std::string& mode, const OptimizerOptions& optimizer, bool norm_behind = false) {
  return learn({.levels = levels, .mode = mode, .optimizer = optimizer, .steps = 30, .norm_behind = norm_behind});
}

double largest_entry(const Tensor& x) {
  double result = 0;
  for (const double value : x.to_vector<double>()) result = std::max(result, std::abs(value));
  return result;
}

}  // namespace

TEST_CASE("what is left of an error, by hand", "[learning]") {
  CHECK(descent_factor(0.1, 0.5) == Approx(0.975).epsilon(1e-15));
  // The sign alone: a straight line, until it crosses zero and swings.
  const auto by_sign = adam_remaining(0.25, {0, 0}, 6);
  for (int t = 0; t <= 4; ++t) CHECK(by_sign[size_t(t)] == Approx(1 - 0.25 * t).margin(1e-15));
  // The first step of Adam is its rate, whatever the betas; the second one by hand.
  const auto usual = adam_remaining(0.1, {0.9, 0.999}, 2);
  CHECK(usual[1] == Approx(0.9).epsilon(1e-15));
  const double mean = (0.09 * 1 + 0.1 * 0.9) / 0.19, square = (0.999e-3 * 1 + 1e-3 * 0.81) / (1 - 0.999 * 0.999);
  CHECK(usual[2] == Approx(0.9 - 0.1 * mean / std::sqrt(square)).epsilon(1e-12));
  CHECK(crossing({2, 1.5, 0.5, 0}, 0.5) == Approx(1.5));
  CHECK(crossing({1, 0.5}, 0.5) == Approx(1));
  CHECK(std::isnan(crossing({1, 0.5}, 0.1)));
}

TEST_CASE("two pixels, one channel: the loss's parabola, step by step", "[learning]") {
  // x = 0.1 and 0.9: the bias takes part, because the mean is not 0. L(w, b) = mean over the pixels of (w x + b - y)^2 / 2.
  const Levels levels{1, {Tensor::from<double>({0.1, 0.9}, {2, 1, 1, 1})}, {{0.5, 0.16}}};
  const Course course = course_of(levels, "off", kPlainSgd);
  CHECK(largest_entry(course.error(0, 0)) == Approx(1 / 0.4));  // a change of 1 in the unit of the equalized level
  double w = course.error(0, 0).value_at(0), b = 0;
  for (size_t step = 1; step < course.weights.size(); ++step) {
    const double first = w * 0.1 + b, second = w * 0.9 + b;
    w -= 0.1 * (first * 0.1 + second * 0.9) / 2;
    b -= 0.1 * (first + second) / 2;
    CHECK(course.error(step, 0).value_at(0) == Approx(w).epsilon(1e-12));
  }
  // With the equalizer the mean is 0 and the variance 1: the bias has nothing to do, and every step leaves nine tenths.
  const Course equalized = course_of(levels, "explicit", kPlainSgd);
  const auto remaining = equalized.remaining(0);
  for (size_t step = 0; step < remaining.size(); ++step) CHECK(remaining[step] == Approx(std::pow(0.9, double(step))).epsilon(1e-12));
}

TEST_CASE("whitened levels are orthogonal where they are fused, with the deviations asked for", "[learning]") {
  Lab lab = learning_lab();
  const std::vector<double> deviations{1, 0.7, 0.3, 0.2};
  const Levels levels = whitened_levels(lab, {1, 2, 4, 8}, deviations);
  CHECK(levels.features[3].size(1) * 8 == levels.side);
  const Tensor inputs = inputs_of(levels, false);
  const Tensor gram = matmul(transpose(inputs, 0, 1), inputs) / double(inputs.size(0));
  const int64_t size = gram.size(0), channels = levels.features[0].size(3);
  REQUIRE(size == 4 * channels + 1);
  for (int64_t i = 0; i < size; ++i) {
    for (int64_t j = 0; j < size; ++j) {
      const double expected = i != j ? 0 : i + 1 == size ? 1 : std::pow(deviations[size_t(i / channels)], 2);
      CHECK(gram.value_at(i * size + j) == Approx(expected).margin(1e-13));
    }
  }
}

TEST_CASE("a wrong exponent, a wrong rate and a plain fold are told apart", "[learning]") {
  Lab lab = learning_lab();
  const Levels levels = whitened_levels(lab, {1, 4}, {1, 0.5});
  const auto share = [&](const Course& course, size_t level) { return 1 - std::pow(course.remaining(level).back(), 1.0 / 30); };
  const Course off = course_of(levels, "off", kPlainSgd);
  for (const int power : {1, 2, 3}) lab.exact("share", "off", 0.1 * std::pow(0.5, power), share(off, 1), 1e-9);
  CHECK_FALSE(lab.report.checks[0].pass);
  CHECK(lab.report.checks[1].pass);
  CHECK_FALSE(lab.report.checks[2].pass);

  const Course plain = course_of(levels, "explicit", kPlainSgd), folded = course_of(levels, "folded", kPlainSgd);
  CHECK(largest_entry(plain.first_output - folded.first_output) < 1e-13);
  CHECK(share(plain, 1) == Approx(0.1).epsilon(1e-10));
  CHECK(share(folded, 1) == Approx(0.025).epsilon(1e-10));
  CHECK(share(course_of(levels, "folded_lr", kPlainSgd), 1) == Approx(0.1).epsilon(1e-10));

  // Batch norm behind: three times the levels, folded, take a ninth of the rate; a third of it is another training.
  Levels larger = levels;
  for (Tensor& level : larger.features) level = level * 3.0;
  for (MeanVariance& m : larger.moments) m.variance *= 9;
  const Tensor expected = course_of(levels, "folded", kPlainSgd, true).weights.back();
  OptimizerOptions slower = kPlainSgd;
  slower.lr = 0.1 / 9;
  CHECK(largest_entry(course_of(larger, "folded", slower, true).weights.back() * 3.0 - expected) < 1e-12);
  slower.lr = 0.1 / 3;
  CHECK(largest_entry(course_of(larger, "folded", slower, true).weights.back() * 3.0 - expected) > 1e-3);
}

TEST_CASE("learning does not depend on the number of threads", "[learning]") {
  const int threads = num_threads();
  std::vector<std::vector<double>> weights;
  for (const int count : {1, 2}) {
    set_num_threads(count);
    Lab lab = learning_lab();
    const Levels levels = noise_levels(lab, 16, {1, 8}, true);
    weights.push_back(course_of(levels, "folded_lr", {.type = "adamw", .lr = 0.01}, true).weights.back().to_vector<double>());
  }
  set_num_threads(threads);
  CHECK(weights[0] == weights[1]);
}
