#include "training/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/errors.h"

namespace eq {

Schedule::Schedule(const ScheduleOptions& options, double base_lr, int64_t iterations)
    : options_(options), base_lr_(base_lr), iterations_(iterations) {
  if (options.type != "poly" && options.type != "cosine" && options.type != "constant") {
    throw UsageError("there is no schedule \"" + options.type + "\"", "schedule.type", "use poly, cosine or constant");
  }
  if (iterations < 1) throw UsageError("a schedule needs at least one iteration", "train.iterations", "give 1 or more");
  if (!(base_lr >= 0) || !std::isfinite(base_lr)) {
    throw UsageError("the learning rate is not a number of 0 or more", "optimizer.lr", "give 0 or more");
  }
  const auto need = [](bool ok, const char* key, const char* rule) {
    if (!ok) throw UsageError(std::string("the value must be ") + rule, std::string("schedule.") + key, "change it");
  };
  need(options.power >= 0 && std::isfinite(options.power), "power", "a number of 0 or more");
  need(options.min_lr >= 0 && std::isfinite(options.min_lr), "min_lr", "a number of 0 or more");
  need(options.warmup_iterations >= 0, "warmup_iterations", "0 or more");
  need(options.warmup_ratio >= 0 && options.warmup_ratio <= 1, "warmup_ratio", "from 0 to 1");
  if (options.type != "constant" && options.min_lr > base_lr) {
    throw UsageError("the learning rate would rise: schedule.min_lr " + std::to_string(options.min_lr) +
                         " is above optimizer.lr " + std::to_string(base_lr),
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
