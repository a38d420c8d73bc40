#include "training/schedule.h"

#include <cmath>

#include "core/errors.h"
#include "support.h"

using namespace eq;

TEST_CASE("poly follows mmsegmentation's formula", "[schedule]") {
  const Schedule schedule({.type = "poly", .power = 0.9, .min_lr = 1e-4}, 0.01, 1000);
  CHECK(schedule.lr(0) == Approx(0.01));
  CHECK(schedule.lr(500) == Approx((0.01 - 1e-4) * std::pow(0.5, 0.9) + 1e-4).epsilon(1e-14));
  CHECK(schedule.lr(999) == Approx((0.01 - 1e-4) * std::pow(0.001, 0.9) + 1e-4).epsilon(1e-12));
  CHECK(schedule.lr(1000) == Approx(1e-4));
  CHECK(schedule.lr(5000) == schedule.lr(1000));
  const Schedule linear({.type = "poly", .power = 1.0, .min_lr = 0}, 6e-5, 160000);
  CHECK(linear.lr(40000) == Approx(4.5e-5));
}

TEST_CASE("cosine and constant", "[schedule]") {
  const Schedule cosine({.type = "cosine", .min_lr = 0.1}, 1.1, 90);
  CHECK(cosine.lr(0) == Approx(1.1));
  CHECK(cosine.lr(30) == Approx(0.1 + (1 + 0.5) / 2));
  CHECK(cosine.lr(45) == Approx(0.6));
  CHECK(cosine.lr(90) == Approx(0.1));
  const Schedule constant({.type = "constant", .min_lr = 5}, 0.3, 10);
  CHECK(constant.lr(0) == 0.3);
  CHECK(constant.lr(10) == 0.3);
}

TEST_CASE("linear warm-up scales the scheduled value", "[schedule]") {
  const ScheduleOptions with{.type = "poly", .power = 1.0, .min_lr = 0, .warmup_iterations = 1500, .warmup_ratio = 1e-6};
  ScheduleOptions without = with;
  without.warmup_iterations = 0;
  const Schedule warm(with, 6e-5, 160000), plain(without, 6e-5, 160000);
  CHECK(warm.lr(0) == Approx(6e-5 * 1e-6).epsilon(1e-9));
  CHECK(warm.lr(750) == Approx(plain.lr(750) * (1 - 0.5 * (1 - 1e-6))).epsilon(1e-12));
  CHECK(warm.lr(1499) < plain.lr(1499));
  CHECK(warm.lr(1500) == plain.lr(1500));
}

TEST_CASE("impossible schedules are refused", "[schedule]") {
  CHECK_THROWS_WITH(Schedule({.type = "step"}, 0.1, 10), Catch::Contains("step"));
  CHECK_THROWS_WITH(Schedule({.min_lr = 1}, 0.1, 10), Catch::Contains("schedule.min_lr"));
  CHECK_THROWS_WITH(Schedule({.min_lr = 3e-7}, 2e-7, 10), Catch::Contains("schedule.min_lr 3e-07 is above optimizer.lr 2e-07"));
  for (const double bad : {-1.0, std::nan(""), double(INFINITY)}) {
    CHECK_THROWS_WITH(Schedule({.type = "constant"}, bad, 10), Catch::Contains("optimizer.lr"));
  }
  CHECK_THROWS_AS(Schedule({}, 0.1, 0), UsageError);
  for (const double bad : {-1.0, std::nan(""), double(INFINITY)}) {
    CHECK_THROWS_WITH(Schedule({.min_lr = bad}, 0.1, 10), Catch::Contains("schedule.min_lr"));
    CHECK_THROWS_WITH(Schedule({.power = bad}, 0.1, 10), Catch::Contains("schedule.power"));
    CHECK_THROWS_WITH(Schedule({.warmup_iterations = 3, .warmup_ratio = bad}, 0.1, 10), Catch::Contains("schedule.warmup_ratio"));
  }
  CHECK_THROWS_WITH(Schedule({.warmup_iterations = -3}, 0.1, 10), Catch::Contains("schedule.warmup_iterations"));
}
