#include "training/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/errors.h"
#include "training/config.h"

namespace eq {

Schedule::Schedule(const ScheduleOptions& options, double base_lr, int64_t iterations)
    : options_(options), base_lr_(base_lr), iterations_(iterations) {
  check_config(options);
  if (iterations < 1) throw UsageError("a schedule needs at least one iteration", "train.iterations", "give 1 or more");
  if (!(base_lr >= 0) || !std::isfinite(base_lr)) {
    throw UsageError("the learning rate is not a number of 0 or more", "optimizer.lr", "give 0 or more");
  }
  if (options.type != "constant" && options.min_lr > base_lr) {
    throw UsageError(fmt::format("the learning rate would rise: schedule.min_lr {:g} is above optimizer.lr {:g}", options.min_lr, base_lr),
                     "schedule.min_lr", "lower schedule.min_lr (0 is fine)");
  }
}

double Schedule::lr(int64_t iteration) const {
  const int64_t at = std::clamp<int64_t>(iteration, 0, iterations_);
  const double t = double(at) / double(iterations_);
  double lr = base_lr_;
  if (options_.type == "poly") {
    lr = (base_lr_ - options_.min_lr) * std::pow(1 - t, options_.power) + options_.min_lr;
  } else if (options_.type == "cosine") {
    lr = (base_lr_ - options_.min_lr) * (1 + std::cos(std::numbers::pi * t)) / 2 + options_.min_lr;
  }
  if (at < options_.warmup_iterations) {
    lr *= 1 - (1 - double(at) / double(options_.warmup_iterations)) * (1 - options_.warmup_ratio);
  }
  return lr;
}

}  // namespace eq
