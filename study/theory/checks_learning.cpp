// How fast each level's weights are learned: least squares with a known ideal mix of levels.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "autograd/functional.h"
#include "autograd/node.h"
#include "study/theory/lab.h"
#include "study/theory/learning.h"

namespace eq {
namespace {

const std::vector<int64_t> kLevelRatios = {1, 2, 4, 8};
const std::vector<double> kDeviations = {1, std::sqrt(0.5), 0.5, std::sqrt(0.125)};
constexpr double kDone = 0.1;  // nine tenths of the change are learned
constexpr const char* kModes[] = {"off", "explicit", "folded", "folded_lr"};
const OptimizerOptions kSgd{.type = "sgd", .lr = 0.1, .momentum = 0, .weight_decay = 0};
const OptimizerOptions kAdamW{.type = "adamw", .lr = 0.01, .weight_decay = 0};
// A step by nothing but the gradient's sign.
const OptimizerOptions kSign{.type = "adamw", .lr = 0.01, .betas = {0, 0}, .weight_decay = 0};

// What the optimizer meets: the unit of the weight is that of its level, unless the site or the optimizer equalizes it.
double felt_deviation(const std::string& mode, size_t level) {
  return mode == "off" || mode == "folded" ? kDeviations[level] : 1;
}

std::string setting(const std::string& mode, size_t level) { return fmt::format("{}, deviation {:.3f}", mode, kDeviations[level]); }

Course course_of(const Lab& lab, const Levels& levels, const std::string& mode, const OptimizerOptions& optimizer, int64_t steps) {
  return learn({.levels = levels, .mode = mode, .optimizer = optimizer, .steps = steps, .seed = lab.request().seed});
}

// Slope of log(values) over log(deviations), by least squares.
double exponent(const std::vector<double>& values) {
  double x = 0, y = 0, xx = 0, xy = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    const double a = std::log(kDeviations[i]), b = std::log(values[i]);
    x += a, y += b, xx += a * a, xy += a * b;
  }
  const double count = double(values.size());
  return (xy - x * y / count) / (xx - x * x / count);
}

double whole_steps(const std::vector<double>& remaining) { return std::ceil(crossing(remaining, kDone)); }

LearningCurve curve(const std::string& optimizer, const std::string& mode, size_t level, const std::vector<double>& predicted,
                    const std::vector<double>& measured) {
  LearningCurve curve{optimizer, mode, kDeviations[level], whole_steps(predicted), whole_steps(measured), {}, {}, {}};
  constexpr size_t kShown = 120, kEvery = 10;  // steps that a report draws
  for (size_t step = 0; step <= kShown && optimizer == "sgd"; step += kEvery) {
    curve.steps.push_back(int64_t(step));
    curve.predicted.push_back(predicted[step]);
    curve.measured.push_back(measured[step]);
  }
  return curve;
}

using Speeds = std::vector<std::vector<double>>;  // [mode][level]

// The share of the error that a step takes.
Speeds check_descent(Lab& lab, const Levels& levels) {
  constexpr int64_t kSteps = 200, kMeasured = 20;
  Speeds shares;
  for (const std::string mode : kModes) {
    const Course course = course_of(lab, levels, mode, kSgd, kSteps);
    shares.emplace_back();
    for (size_t level = 0; level < kLevelRatios.size(); ++level) {
      const std::vector<double> measured = course.remaining(level);
      const double factor = descent_factor(kSgd.lr, felt_deviation(mode, level));
      std::vector<double> predicted;
      for (int64_t t = 0; t <= kSteps; ++t) predicted.push_back(std::pow(factor, double(t)));
      lab.report.learning.push_back(curve("sgd", mode, level, predicted, measured));
      shares.back().push_back(1 - std::pow(measured[kMeasured], 1.0 / kMeasured));
      lab.exact("learning, SGD: share of its error that a level loses per step", setting(mode, level), 1 - factor, shares.back().back(),
                1e-9);
    }
  }
  return shares;
}

// One over the steps to half of the way.
Speeds check_adam(Lab& lab, const Levels& levels) {
  constexpr int64_t kSteps = 450;
  Speeds speeds;
  for (const std::string mode : kModes) {
    const Course course = course_of(lab, levels, mode, kAdamW, kSteps);
    speeds.emplace_back();
    for (size_t level = 0; level < kLevelRatios.size(); ++level) {
      const std::vector<double> measured = course.remaining(level);
      const std::vector<double> predicted = adam_remaining(kAdamW.lr * felt_deviation(mode, level), kAdamW.betas, kSteps);
      lab.report.learning.push_back(curve("adamw", mode, level, predicted, measured));
      speeds.back().push_back(1 / crossing(measured, 0.5));
      lab.exact("learning, AdamW: steps to nine tenths of the change", setting(mode, level), whole_steps(predicted), whole_steps(measured),
                0);
    }
  }
  return speeds;
}

// 2 with SGD, 1 with steps that go by the sign, 0 where the levels are equalized.
void check_exponents(Lab& lab, const Levels& levels, const Speeds& descent, const Speeds& adam) {
  const auto check = [&](const std::string& name, const std::string& mode, const std::vector<double>& speeds, double predicted,
                         double bound) {
    constexpr const char* kName = "learning: exponent of the deviation in the speed";
    if (felt_deviation(mode, 1) < 1) {
      lab.exact(kName, name, predicted, exponent(speeds), bound);
    } else {
      lab.at_most(kName, name, 1e-9, std::abs(exponent(speeds)));
    }
  };
  for (size_t mode = 0; mode < std::size(kModes); ++mode) check(fmt::format("SGD, {}", kModes[mode]), kModes[mode], descent[mode], 2, 1e-9);
  for (const std::string mode : {"off", "explicit"}) {
    const Course course = course_of(lab, levels, mode, kSign, 300);
    std::vector<double> speeds;
    for (size_t level = 0; level < kLevelRatios.size(); ++level) speeds.push_back(1 / crossing(course.remaining(level), kDone));
    check(fmt::format("steps by the sign alone (betas 0), {}", mode), mode, speeds, 1, 1e-6);
  }
  for (size_t mode = 0; mode < std::size(kModes); ++mode) {
    check(fmt::format("AdamW, {}, first half of the way", kModes[mode]), kModes[mode], adam[mode], 1, 0.1);
  }
}

Tensor without_bias(const Course& course, size_t step) { return slice(course.weights[step], 1, 0, course.first_channels.back()); }

// W / sigma of an explicit student: the weights of the folded one that computes the same.
Tensor folded_weights(const Course& course, size_t step, const Levels& levels) {
  Tensor weights = without_bias(course, step);  // a copy
  const int64_t columns = weights.size(1);
  for (int64_t i = 0; i < weights.numel(); ++i) {
    size_t level = 0;
    while (i % columns >= course.first_channels[level + 1]) ++level;
    weights.data<double>()[i] /= std::sqrt(levels.moments[level].variance);
  }
  return weights;
}

double largest(const Tensor& x) {
  double result = 0;
  for (const double value : x.to_vector<double>()) result = std::max(result, std::abs(value));
  return result;
}

// Explicit equalizers and their folds: the same function at the start; the same training with folded_lr.
void check_folds(Lab& lab, const Levels& whitened, const Levels& rectified) {
  constexpr const char* kName = "learning: largest difference from explicit, relative";
  for (const bool centred : {true, false}) {
    const Levels& levels = centred ? whitened : rectified;
    const Tensor expected = course_of(lab, levels, "explicit", kSgd, 0).first_output,
                 folded = course_of(lab, levels, "folded", kSgd, 0).first_output;
    lab.at_most(kName, fmt::format("folded, outputs before the first step, {} levels", centred ? "centred" : "rectified"), 1e-12,
                largest(folded - expected) / largest(expected));
  }
  for (const OptimizerOptions& optimizer : {OptimizerOptions{.type = "sgd", .lr = 0.05, .momentum = 0.9, .weight_decay = 0.01},
                                            OptimizerOptions{.type = "adamw", .lr = 0.01, .weight_decay = 0.05}}) {
    for (const bool norm_behind : {false, true}) {
      constexpr int64_t kSteps = 200;
      const Levels& levels = norm_behind ? rectified : whitened;
      Lesson lesson{.levels = levels,
                    .mode = "explicit",
                    .optimizer = optimizer,
                    .steps = kSteps,
                    .norm_behind = norm_behind,
                    .seed = lab.request().seed};
      const Course expected = learn(lesson);
      lesson.mode = "folded_lr";
      const Course folded = learn(lesson);
      double difference = 0;
      for (size_t step = 0; step <= size_t(kSteps); ++step) {
        const Tensor weights = folded_weights(expected, step, levels);
        difference = std::max(difference, largest(without_bias(folded, step) - weights) / largest(weights));
      }
      lab.at_most(kName, fmt::format("folded_lr, weights, {} and decay, {}", optimizer.type == "sgd" ? "SGD, momentum" : "AdamW",
                                     norm_behind ? "batch norm behind" : "no norm behind"), 1e-12, difference);
    }
  }
}

// Whatever the levels: error(t) = error(0) (1 - rate G)^t, with G their Gram matrix, the bias's 1 among them, over the batch itself.
void check_gram(Lab& lab, const Levels& levels, const std::string& name) {
  for (const std::string mode : {"off", "explicit"}) {
    constexpr int64_t kSteps = 100;
    const Course course = course_of(lab, levels, mode, kSgd, kSteps);
    const NoGradGuard no_grad;
    const Tensor inputs = inputs_of(levels, mode == "explicit");
    const Tensor gram = matmul(transpose(inputs, 0, 1), inputs) / double(inputs.size(0));
    Tensor error = course.weights[0] - course.ideal;
    const double first = largest(error);
    double difference = 0;
    for (size_t step = 1; step <= size_t(kSteps); ++step) {
      error = error - matmul(error, gram) * kSgd.lr;
      difference = std::max(difference, largest(course.weights[step] - course.ideal - error) / first);
    }
    lab.at_most("learning: largest difference from what the Gram matrix says, relative", fmt::format("{}, {}, 100 steps", name, mode),
                1e-12, difference);
  }
}

// Two levels of correlation rho: what they have in common is learned at 1 + rho, what they differ in at 1 - rho, with equalizers, too.
void check_correlated_levels(Lab& lab) {
  constexpr double kRho = 0.8;
  constexpr int64_t kSteps = 20;
  Levels levels = whitened_levels(lab, {1, 1}, {1, 1});
  levels.features[1] = (levels.features[0] * kRho + levels.features[1] * std::sqrt(1 - kRho * kRho)) * 0.5;
  levels.moments[1].variance = 0.25;
  // Seed 0 whatever the request's: one of nine signs of either level must be the same, and one not.
  const Course course = learn({.levels = levels, .mode = "explicit", .optimizer = kSgd, .steps = kSteps});
  for (const double sign : {1.0, -1.0}) {
    const auto left = [&](size_t step) { return largest(course.error(step, 0) + course.error(step, 1) * sign); };
    lab.exact("learning, SGD: share of its error that a level loses per step",
              fmt::format("explicit, correlation {}, {} of two levels", kRho, sign > 0 ? "sum" : "difference"), kSgd.lr * (1 + sign * kRho),
              1 - std::pow(left(kSteps) / left(0), 1.0 / kSteps), 1e-9);
  }
}

// Levels of white noise, resized: their own deviations, sqrt(f), and only nearly orthogonal.
void check_noise_levels(Lab& lab) {
  constexpr int kDraws = 24;
  constexpr int64_t kSteps = 2;
  OptimizerOptions optimizer = kSgd;
  optimizer.lr = 0.05;  // few small steps: what levels have in common by chance enters with its square and the length of the way
  const int64_t images = std::clamp<int64_t>(lab.request().samples >> 15, 16, 256);
  std::vector<std::vector<BatchSums>> sums(2, std::vector<BatchSums>(kLevelRatios.size()));
  Levels levels;
  for (int draw = 0; draw < kDraws; ++draw) {
    levels = noise_levels(lab, images, kLevelRatios, false);
    for (size_t mode = 0; mode < 2; ++mode) {
      const Course course = course_of(lab, levels, mode == 0 ? "off" : "explicit", optimizer, kSteps);
      for (size_t level = 0; level < kLevelRatios.size(); ++level) {
        const Tensor before = course.error(0, level), after = course.error(kSteps, level);
        const double left = sum(mul(before, after)).item() / sum(square(before)).item();
        sums[mode][level].add((1 - std::pow(left, 1.0 / kSteps)) / optimizer.lr);
      }
    }
  }
  for (size_t mode = 0; mode < 2; ++mode) {
    for (size_t level = 0; level < kLevelRatios.size(); ++level) {
      lab.equal("learning, white noise",
                fmt::format("{}, r={}: share lost per step over the rate", mode == 0 ? "off" : "explicit", kLevelRatios[level]),
                mode == 0 ? levels.moments[level].variance : 1, sums[mode][level].estimate(), 0.05);
    }
  }
}

// Each output's weights over their norm.
Tensor directions(const Course& course, size_t step) {
  const Tensor weights = without_bias(course, step);
  return div(weights, sqrt(sum(square(weights), {1}, true)));
}

double largest_turn(const Course& a, const Course& b) {
  double result = 0;
  for (size_t step = 0; step < a.weights.size(); ++step) result = std::max(result, largest(directions(a, step) - directions(b, step)));
  return result;
}

// Batch norm behind the convolution sees no factor k that all levels have in common. The loss as a function of the weights does not change,
// so neither does a training that starts from the same weights. Folding divides the initial weights by k: the loss depends on their
// direction alone, its gradient grows by k, and the same step turns them k^2 times as far.
void check_common_factor(Lab& lab, const Levels& levels) {
  constexpr double kFactor = 3;
  constexpr int64_t kSteps = 100;
  Levels larger = levels, told = levels;
  for (size_t i = 0; i < levels.features.size(); ++i) {
    larger.features[i] = levels.features[i] * kFactor;
    larger.moments[i] = {levels.moments[i].mean * kFactor, levels.moments[i].variance * kFactor * kFactor};
    told.moments[i].variance = larger.moments[i].variance;
  }
  const OptimizerOptions sgd{.type = "sgd", .lr = 0.05, .momentum = 0.9, .weight_decay = 0};
  const OptimizerOptions adamw{.type = "adamw", .lr = 0.01, .eps = 1e-30, .weight_decay = 0};  // an eps would measure the gradient
  const auto at_rate = [](OptimizerOptions optimizer, double factor) {
    optimizer.lr *= factor;
    return optimizer;
  };
  const auto course = [&](const Levels& of, const std::string& mode, const OptimizerOptions& optimizer, int64_t steps, double change = 1) {
    return learn({.levels = of, .mode = mode, .optimizer = optimizer, .steps = steps, .norm_behind = true, .change = change,
                  .seed = lab.request().seed});
  };
  // Where the weights keep their size, so does what they have to learn, although its unit, 1 / deviation, is a third.
  const auto check = [&](const std::string& name, const Course& a, const Course& b) {
    lab.at_most("learning, batch norm behind: largest difference in direction", name, 1e-10, largest_turn(a, b));
  };
  check("off, SGD, all levels times 3", course(larger, "off", sgd, kSteps, kFactor), course(levels, "off", sgd, kSteps));
  check("explicit, SGD, all deviations told times 3", course(told, "explicit", sgd, kSteps), course(levels, "explicit", sgd, kSteps));
  check("folded_normalised, SGD, all levels times 3", course(larger, "folded_normalised", sgd, kSteps, kFactor),
        course(levels, "folded_normalised", sgd, kSteps));
  check("folded, SGD, all levels times 3, rate over 9", course(larger, "folded", at_rate(sgd, 1 / (kFactor * kFactor)), kSteps),
        course(levels, "folded", sgd, kSteps));
  check("folded, AdamW, all levels times 3, rate over 3", course(larger, "folded", at_rate(adamw, 1 / kFactor), kSteps),
        course(levels, "folded", adamw, kSteps));
  const auto first_step = [&](const Levels& of) {
    const Course one = course(of, "folded", kSgd, 1);
    return largest(div(without_bias(one, 1) - without_bias(one, 0), sqrt(sum(square(without_bias(one, 0)), {1}, true))));
  };
  lab.exact("learning, batch norm behind: first step over the weights' norm", "folded, SGD, all levels times 3 over once",
            kFactor * kFactor, first_step(larger) / first_step(levels), 1e-9);
}

}  // namespace

void check_learning(Lab& lab) {
  const Levels whitened = whitened_levels(lab, kLevelRatios, kDeviations);
  const Speeds descent = check_descent(lab, whitened);
  check_correlated_levels(lab);
  const Speeds adam = check_adam(lab, whitened);
  check_exponents(lab, whitened, descent, adam);
  check_noise_levels(lab);
  const Levels noise = noise_levels(lab, 2, kLevelRatios, false), rectified = noise_levels(lab, 2, kLevelRatios, true);
  check_gram(lab, noise, "white noise");
  check_gram(lab, rectified, "rectified white noise");
  check_folds(lab, whitened, rectified);
  check_common_factor(lab, rectified);
}

}  // namespace eq
